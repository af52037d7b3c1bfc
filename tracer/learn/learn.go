// Package learn keeps which functions call which, as seen while they do: what a
// disassembly can't tell are the calls through pointers.
package learn

import (
	"encoding/binary"
	"math/bits"
)

// Call is one call of a function that was seen.
type Call struct {
	IP     uint64 // where the function is patched: at its symbol, or some bytes behind
	Parent uint64 // the address that it returns to, in its caller unless that jumped
	Time   uint64 // ns of CLOCK_MONOTONIC
	Tid    uint32 // in the initial PID namespace; 0: idle
	CPU    int
}

// Pair is an edge of the graph: a function, and the place that it returns to.
type Pair struct{ Parent, IP uint64 }

// Offsets in a PERF_RECORD_SAMPLE of PERF_SAMPLE_TID|TIME|RAW, behind its header:
// u32 pid, u32 tid, u64 time, u32 size, and of that size struct ftrace_entry
// (kernel/trace/trace_entries.h): the 8 bytes of struct trace_entry, unsigned
// long ip, unsigned long parent_ip. Since 6.15 it ends in an array, which is empty here.
const (
	tidAt    = 4
	timeAt   = 8
	sizeAt   = 16
	entryAt  = 20
	ipAt     = entryAt + 8
	parentAt = ipAt + 8
	callEnd  = parentAt + 8
)

// ParseSample reads the body of a sample of the event ftrace:function. It returns
// false for what is no such sample. CPU is left to the caller.
func ParseSample(body []byte) (c Call, ok bool) {
	if len(body) < callEnd || binary.LittleEndian.Uint32(body[sizeAt:]) < callEnd-entryAt {
		return Call{}, false
	}
	return Call{
		IP:     binary.LittleEndian.Uint64(body[ipAt:]),
		Parent: binary.LittleEndian.Uint64(body[parentAt:]),
		Time:   binary.LittleEndian.Uint64(body[timeAt:]),
		Tid:    binary.LittleEndian.Uint32(body[tidAt:]),
	}, true
}

// Edges is a set of pairs of bounded size: open addressing, linear probing. The
// zero value has room for nothing.
type Edges struct {
	slots   []Pair // a power of two; zero: free
	count   int
	max     int
	dropped uint64
}

// leastSlots is what a set begins with: 16 KB.
const leastSlots = 1 << 10

// NewEdges returns an empty set that takes max pairs, and uses up to 64 bytes for
// each.
func NewEdges(max int) *Edges {
	return &Edges{slots: make([]Pair, leastSlots), max: max}
}

// Add tells whether a pair is new, and was taken. One with nothing but zeros is
// no call and never new. No pair is when the set is full: see Dropped.
func (e *Edges) Add(parent, ip uint64) bool {
	p := Pair{parent, ip}
	if p == (Pair{}) || len(e.slots) == 0 {
		return false
	}
	at := e.find(p)
	switch {
	case e.slots[at] == p:
		return false
	case e.count >= e.max:
		e.dropped++
		return false
	}
	e.slots[at] = p
	e.count++
	// At most half is used, so that a look-up ends soon.
	if 2*e.count > len(e.slots) {
		e.grow()
	}
	return true
}

// find returns the slot of a pair, or the free one that it goes into.
func (e *Edges) find(p Pair) uint64 {
	mask := uint64(len(e.slots) - 1)
	at := hash(p) & mask
	for e.slots[at] != p && e.slots[at] != (Pair{}) {
		at = (at + 1) & mask
	}
	return at
}

// hash mixes both addresses, of which only low bits differ much: the halves of a
// product depend on all bits.
func hash(p Pair) uint64 {
	hi, lo := bits.Mul64(p.Parent^0x9e3779b97f4a7c15, p.IP^0xbf58476d1ce4e5b9)
	return hi ^ lo
}

func (e *Edges) grow() {
	old := e.slots
	e.slots = make([]Pair, 2*len(old))
	for _, p := range old {
		if p != (Pair{}) {
			e.slots[e.find(p)] = p
		}
	}
}

// Has tells whether a pair is in the set.
func (e *Edges) Has(parent, ip uint64) bool {
	p := Pair{parent, ip}
	return p != (Pair{}) && len(e.slots) > 0 && e.slots[e.find(p)] == p
}

// Len returns the number of pairs.
func (e *Edges) Len() int { return e.count }

// Dropped returns how often a pair was not taken for want of room.
func (e *Edges) Dropped() uint64 { return e.dropped }

// Append appends all pairs, in no order.
func (e *Edges) Append(to []Pair) []Pair {
	for _, p := range e.slots {
		if p != (Pair{}) {
			to = append(to, p)
		}
	}
	return to
}

// Reset takes all pairs out and keeps the memory.
func (e *Edges) Reset() {
	clear(e.slots)
	e.count, e.dropped = 0, 0
}
