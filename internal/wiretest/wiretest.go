// Package wiretest makes records as the BPF programs do, for tests. It is
// written from the text of bpf/src/wire.h, and uses nothing of what decodes.
package wiretest

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// Limits and names of wire.h.
const (
	kindEntry     = 1
	kindExit      = 2
	kindCall      = 3
	kindOpen      = 4
	kindStrings   = 5
	kindNode      = 6
	kindSeen      = 7
	kindPacket    = 8
	flagEntryLost = 1
	flagUnwanted  = 4
	flagExitLost  = 2
	flagPacket    = 8
	commSize      = 16
	stringData    = 124
	maxFrames     = 127
)

// Entry is an entry record. Stack says whether stacks are asked for; then there
// are Frames, or the error that Frames could not be had for.
type Entry struct {
	Time, Frame uint64
	Pid, Tid    uint32
	Target      uint32
	CPU         uint16
	HasPacket   bool // it went before
	Comm        string
	Words       []uint64
	Outputs     []byte // see Output
	Strings     []String
	Stack       bool
	Frames      []uint64
	StackErr    int64 // positive
}

// Call is a record of a whole call: its entry, and what an exit adds.
type Call struct {
	Entry
	ExitTime uint64
	Retval   uint64
}

// String is a string as the program copied it: Len counts the NUL.
type String struct {
	Len  int32
	Data string
}

// Text returns a string as bpf_probe_read_kernel_str leaves it.
func Text(s string) String {
	if len(s) >= stringData {
		return String{Len: stringData, Data: s[:stringData-1]}
	}
	return String{Len: int32(len(s) + 1), Data: s}
}

// Output returns a value that was asked for, as the program wrote it: status tells how
// many bytes of data it has, or why it has none. Data is as long as the value can be.
func Output(status int64, data []byte) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(status))
	b = append(b, data...)
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	return b
}

// Exit is an exit record.
type Exit struct {
	Time, Frame uint64
	Pid, Tid    uint32
	Target      uint32
	CPU         uint16
	EntryLost   bool
	Unwanted    bool
	Retval      uint64
}

// Bytes returns the record.
func (e Entry) Bytes() []byte { return e.appendBody(e.head(kindEntry)) }

// Bytes returns the record.
func (c Call) Bytes() []byte {
	return c.appendBody(appendResult(c.head(kindCall), c.Retval, c.ExitTime))
}

// Place is what the records of a node in a function graph have in common.
type Place struct {
	Entry                 uint64 // time
	ID, Parent            uint64
	Pid, Tid              uint32
	Target                uint32
	CPU                   uint16
	Comm                  string
	Below                 uint64
	Depth, Context, Outer byte
	Opened, ExitLost      bool
}

// Open is the record of a node that has begun.
type Open struct {
	Place
	Words []uint64
}

// Strings is the record of a node's outputs and strings.
type Strings struct {
	Place
	Outputs []byte // see Output
	Strings []String
}

// Node is the record of a node that has returned.
type Node struct {
	Place
	Exit   uint64 // time
	Retval uint64
	Words  []uint64
}

// Seen is the record of a watched function that was called with so many nodes
// under way.
type Seen struct {
	Number uint64
	Depth  uint32
}

// Packet is the record of a call's packet, whose size is that of Data.
type Packet struct {
	Frame  uint64 // of the call; of a node the ID
	Target uint32
	Start  uint64
	Linear int64
	Length int64
	Raw    bool
	More   bool   // Data are bytes of the packet that come next
	Proto  uint16 // of a VLAN's tag
	TCI    uint16
	Depth  int64
	Data   []byte
}

// Bytes returns the record. What the program leaves as it was is not zero.
func (p Packet) Bytes() []byte {
	old := uint64(0xeeeeeeeeeeeeeeee)
	b := appendRecord(nil, old, p.Frame, uint32(old), uint32(old), p.Target, uint16(old), kindPacket, byte(old), p.Depth, strings.Repeat("\xee", commSize))
	b = binary.LittleEndian.AppendUint64(b, p.Start)
	b = binary.LittleEndian.AppendUint64(b, uint64(p.Linear))
	b = binary.LittleEndian.AppendUint64(b, uint64(p.Length))
	b = binary.LittleEndian.AppendUint64(b, old)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(p.Data)))
	raw, more := byte(0), byte(0)
	if p.Raw {
		raw = 1
	}
	if p.More {
		more = 1
	}
	b = append(b, raw, more)
	b = binary.LittleEndian.AppendUint16(b, p.Proto)
	b = binary.LittleEndian.AppendUint16(b, p.TCI)
	b = append(append(b, make([]byte, 6)...), p.Data...)
	for _, room := range []int{128, 512, 2048, 16384, 65536} {
		if len(p.Data) <= room {
			return append(b, bytes.Repeat([]byte{byte(old)}, room-len(p.Data))...)
		}
	}
	panic("a record has room for 65536 bytes of a packet")
}

// Bytes returns the record.
func (o Open) Bytes() []byte { return appendWords(o.head(kindOpen), o.Words) }

// Bytes returns the record.
func (s Strings) Bytes() []byte {
	return appendStrings(append(s.head(kindStrings), s.Outputs...), s.Strings)
}

// Bytes returns the record.
func (n Node) Bytes() []byte {
	return appendWords(appendResult(n.head(kindNode), n.Retval, n.Exit), n.Words)
}

// Bytes returns the record.
func (s Seen) Bytes() []byte {
	return appendRecord(nil, 0, s.Number, 0, 0, s.Depth, 0, kindSeen, 0, 0, "")
}

// head returns struct record, and struct place behind it.
func (p Place) head(kind byte) []byte {
	flags, opened := byte(0), byte(0)
	if p.ExitLost {
		flags = flagExitLost
	}
	if p.Opened {
		opened = 1
	}
	b := appendRecord(nil, p.Entry, p.ID, p.Pid, p.Tid, p.Target, p.CPU, kind, flags, 0, p.Comm)
	b = binary.LittleEndian.AppendUint64(b, p.Parent)
	b = binary.LittleEndian.AppendUint64(b, p.Below)
	return append(b, p.Depth, p.Context, p.Outer, opened, 0, 0, 0, 0)
}

func (e Entry) head(kind byte) []byte {
	frames := int64(len(e.Frames))
	if e.StackErr != 0 {
		frames = -e.StackErr
	}
	flags := byte(0)
	if e.HasPacket {
		flags = flagPacket
	}
	return appendRecord(nil, e.Time, e.Frame, e.Pid, e.Tid, e.Target, e.CPU, kind, flags, frames, e.Comm)
}

func (e Entry) appendBody(b []byte) []byte {
	b = append(appendWords(b, e.Words), e.Outputs...)
	b = appendStrings(b, e.Strings)
	if e.Stack {
		for i := range maxFrames {
			var frame uint64
			if i < len(e.Frames) {
				frame = e.Frames[i]
			}
			b = binary.LittleEndian.AppendUint64(b, frame)
		}
	}
	return b
}

// Bytes returns the record.
func (e Exit) Bytes() []byte {
	flags := byte(0)
	if e.EntryLost {
		flags = flagEntryLost
	}
	if e.Unwanted {
		flags |= flagUnwanted
	}
	b := appendRecord(nil, e.Time, e.Frame, e.Pid, e.Tid, e.Target, e.CPU, kindExit, flags, 0, "")
	return appendResult(b, e.Retval, e.Time)
}

func appendWords(b []byte, words []uint64) []byte {
	for _, w := range words {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

// appendStrings appends a struct string for each.
func appendStrings(b []byte, strings []String) []byte {
	for _, s := range strings {
		b = binary.LittleEndian.AppendUint32(b, uint32(s.Len))
		b = appendPadded(b, s.Data, stringData)
	}
	return b
}

// appendResult appends struct result.
func appendResult(b []byte, retval, time uint64) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b, retval), time)
}

// appendRecord appends struct record, member by member.
func appendRecord(b []byte, time, frame uint64, pid, tid, target uint32, cpu uint16, kind, flags byte, frames int64, comm string) []byte {
	b = binary.LittleEndian.AppendUint64(b, time)
	b = binary.LittleEndian.AppendUint64(b, frame)
	b = binary.LittleEndian.AppendUint64(b, uint64(pid)<<32|uint64(tid))
	b = binary.LittleEndian.AppendUint32(b, target)
	b = binary.LittleEndian.AppendUint16(b, cpu)
	b = append(b, kind, flags)
	b = binary.LittleEndian.AppendUint64(b, uint64(frames))
	return appendPadded(b, comm, commSize)
}

func appendPadded(b []byte, s string, size int) []byte {
	b = append(b, s...)
	return append(b, make([]byte, size-len(s))...)
}
