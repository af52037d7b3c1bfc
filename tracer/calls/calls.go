// Package calls joins entries and exits to calls.
package calls

import (
	"fgtrace/tracer/event"
	"fgtrace/tracer/packet"
)

// Call is one call of a traced function. What was read at entry is a copy.
type Call struct {
	ID       uint64 // from 1, in the order in which calls became known
	Target   int
	Pid, Tid uint32
	CPU      uint16 // of the entry; of the exit if there was none
	ExitCPU  uint16
	Comm     [16]byte
	Entry    uint64 // ns, kernel's monotonic clock
	Exit     uint64
	Entered  bool // false: the entry is not known
	Words    []byte
	Outputs  []byte // see event.Output; nil: there are none, or they were lost
	Strings  []byte
	Retval   [8]byte
	Packet   *Packet // at the entry; nil: there is none, or it is not known

	Node Node // of a call in a function graph

	// Stack is whatever was made of the stack at the entry, for who has entries
	// and exits joined; nil at first.
	Stack any

	data []byte // Words, Outputs and Strings
}

// Packet is the packet of a call at its entry.
type Packet struct {
	Link   packet.Link
	Tag    packet.Tag // of one without an Ethernet header: others have it in Data
	Length int        // in bytes
	Data   []byte     // the first ones of them
}

// Duration returns the time between entry and exit in nanoseconds.
func (c *Call) Duration() uint64 { return c.Exit - c.Entry }

// Counts are the calls that did not come out whole.
type Counts struct {
	// NoEntry are exits without an entry: calls that had begun before tracing
	// did, or whose entry was lost.
	NoEntry uint64
	// NoExit are entries whose exit did not come: calls that never returned,
	// or whose exit was lost.
	NoExit uint64
}

// Assembler joins the records of calls. The zero value is ready.
//
// An entry and its exit have the same frame, the address of the arguments that
// the trampoline saved on the stack: no two calls that are under way share it,
// on whatever stacks and CPUs they are. Records must come in the order in which
// room was reserved for them in the one ring buffer, which puts an entry before
// its exit even if the task changed CPUs between them.
type Assembler struct {
	// Missed, if not nil, tells whether the kernel may have left out both an
	// exit and an entry of a target since a time, in ns. It does that to the
	// calls of a task while another one is preempted in the same program.
	Missed func(target int, since uint64) bool

	open   table
	free   []*Call
	whole  Call // the last that came whole
	nextID uint64
	counts Counts
}

// Enter takes an entry and returns its call, which stays open until Leave.
func (a *Assembler) Enter(r *event.Record) *Call {
	c := a.fill(r)
	if old := a.open.put(r.Frame, c); old != nil {
		a.counts.NoExit++
		a.Release(old)
	}
	return c
}

// Note takes an entry whose exit nobody waits for.
func (a *Assembler) Note(r *event.Record) *Call { return a.fill(r) }

// Leave takes an exit and returns its call, which is to be given back by
// Release. A call whose entry is not known has no Entered.
func (a *Assembler) Leave(r *event.Record) *Call {
	c := a.open.take(r.Frame)
	if c != nil && !a.same(c, r) {
		a.counts.NoExit++
		a.Release(c)
		c = nil
	}
	if c == nil {
		a.counts.NoEntry++
		c = a.get()
		*c = Call{ID: c.ID, Target: r.Target, Pid: r.Pid, Tid: r.Tid, data: c.data}
	}
	c.ExitCPU = r.CPU
	c.Exit = r.Time
	if len(r.Retval) >= len(c.Retval) {
		c.Retval = [8]byte(r.Retval)
	}
	return c
}

// missable is how long a call takes at least, in ns, that can be two: between
// the exit and the entry that were left out, its task was switched away from.
const missable = 10_000

// same tells whether an exit is that of a call with its frame. The frame of a
// call whose exit did not come can be used by another, whose entry did not.
func (a *Assembler) same(c *Call, r *event.Record) bool {
	if c.Target != r.Target || c.Tid != r.Tid || c.Entry > r.Time || r.EntryLost || c.Entry <= r.Unsure {
		return false
	}
	return a.Missed == nil || r.Time-c.Entry < missable || !a.Missed(c.Target, c.Entry)
}

// Whole takes a call that came as one record, and returns it with words that are
// valid as long as the record is, and at most until the next call of Whole. A call
// whose entry may be another's has no Entered.
func (a *Assembler) Whole(w *event.Whole) *Call {
	if a.open.used > 0 {
		if old := a.open.take(w.Frame()); old != nil {
			a.counts.NoExit++
			a.Release(old)
		}
	}
	a.nextID++
	c := &a.whole
	c.ID, c.Target, c.CPU, c.Comm = a.nextID, w.Target(), w.CPU(), *w.Comm()
	pidTgid := w.PidTgid()
	c.Pid, c.Tid = uint32(pidTgid>>32), uint32(pidTgid)
	c.Entry, c.Exit, c.Entered = w.Entry(), w.Exit(), true
	c.Words, c.Retval = w.Words(), *w.Retval()
	if c.Exit-c.Entry >= missable && a.Missed != nil && a.Missed(c.Target, c.Entry) {
		c.Entered = false
		a.counts.NoEntry++
		a.counts.NoExit++
	}
	return c
}

// Open returns the number of calls that have not returned.
func (a *Assembler) Open() int { return a.open.used }

// Counts returns the calls so far that did not come out whole.
func (a *Assembler) Counts() Counts { return a.counts }

// Release takes back a call that is not used any more.
func (a *Assembler) Release(c *Call) { a.free = append(a.free, c) }

// get returns a call that has an ID, and otherwise what it was left with.
func (a *Assembler) get() *Call {
	a.nextID++
	var c *Call
	if n := len(a.free); n > 0 {
		c = a.free[n-1]
		a.free = a.free[:n-1]
	} else {
		c = new(Call)
	}
	c.ID = a.nextID
	return c
}

func (a *Assembler) fill(r *event.Record) *Call {
	c := a.get()
	c.Target, c.Pid, c.Tid, c.CPU, c.Comm = r.Target, r.Pid, r.Tid, r.CPU, r.Comm
	c.Entry, c.Exit, c.Entered = r.Time, 0, true
	c.Retval, c.Stack, c.Packet = [8]byte{}, nil, nil
	c.data = append(c.data[:0], r.Words...)
	if len(r.Outputs)+len(r.Strings) > 0 {
		c.data = append(append(c.data, r.Outputs...), r.Strings...)
	}
	outputs, strings := len(r.Words), len(r.Words)+len(r.Outputs)
	c.Words, c.Outputs, c.Strings = c.data[:outputs:outputs], c.data[outputs:strings:strings], c.data[strings:]
	return c
}
