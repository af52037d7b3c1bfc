package event

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"fgtrace/bpf/wire"
)

// Kinds of a function graph's records.
const (
	Open    Kind = wire.KindOpen
	Strings Kind = wire.KindStrings
	Node    Kind = wire.KindNode
	Seen    Kind = wire.KindSeen
)

// SeenCall reads a record of kind Seen: the number of a watched function, and how
// many nodes of a tree were under way when it was called.
func SeenCall(raw []byte) (number uint64, depth int, err error) {
	if len(raw) < wire.RecordSize {
		return 0, 0, fmt.Errorf("decode call that was seen: %d bytes of %d", len(raw), wire.RecordSize)
	}
	h := (*header)(raw)
	return h.frame(), int(h.target()), nil
}

// NodeShape is the layout of the records that a program of a function graph
// writes. All of them have room for as many words as any function has, since a
// program also sends the nodes of others, whose exits were not seen.
type NodeShape struct {
	Words   int
	Outputs int // bytes
	Strings int
}

const placeEnd = wire.RecordSize + wire.PlaceSize

// OpenSize returns the size of the record of an open node in bytes.
func (s NodeShape) OpenSize() int { return placeEnd + s.Words*wordSize }

// StringsSize returns the size of the record of a node's outputs and strings in bytes.
func (s NodeShape) StringsSize() int { return placeEnd + s.Outputs + s.Strings*wire.StringSize }

// NodeSize returns the size of the record of a node that has returned in bytes.
func (s NodeShape) NodeSize() int { return placeEnd + wire.ResultSize + s.Words*wordSize }

// Place is the record of a node in a function graph, which its methods read.
// View sets it.
type Place struct {
	head *placeHeader
	kind Kind
	body []byte // behind the place
}

// placeHeader is what all records of a function graph begin with.
type placeHeader [placeEnd]byte

func (h *placeHeader) record() *header { return (*header)(h[:]) }

// View makes p the view of a record of a function graph of so many targets. An
// error says that the record is not what a program of ours writes.
func (p *Place) View(raw []byte, targets int) error {
	if len(raw) < placeEnd {
		return fmt.Errorf("decode node: %d bytes, less than any", len(raw))
	}
	head := (*placeHeader)(raw)
	if target := head.record().target(); uint64(target) >= uint64(targets) {
		return fmt.Errorf("decode node: target %d of %d", target, targets)
	}
	kind := head.record().kind()
	switch kind {
	case Node:
		if len(raw) < placeEnd+wire.ResultSize {
			return fmt.Errorf("decode node: %d bytes, less than a result", len(raw))
		}
	case Open, Strings:
	default:
		return fmt.Errorf("decode node: kind %d", kind)
	}
	p.head, p.kind, p.body = head, kind, raw[placeEnd:]
	return nil
}

// Kind returns Open, Strings or Node.
func (p *Place) Kind() Kind { return p.kind }

// Target returns the index in the plan.
func (p *Place) Target() int { return int(p.head.record().target()) }

// ID returns the node's, Parent that of the node it was called in, or 0.
func (p *Place) ID() uint64 { return p.head.record().frame() }
func (p *Place) Parent() uint64 {
	return binary.LittleEndian.Uint64(p.head[wire.RecordSize+unsafe.Offsetof(placeAt.Parent):])
}

// Below returns the ns that the calls took which were made in the node.
func (p *Place) Below() uint64 {
	return binary.LittleEndian.Uint64(p.head[wire.RecordSize+unsafe.Offsetof(placeAt.Below):])
}

// Depth returns the levels below the root.
func (p *Place) Depth() int { return int(p.head[wire.RecordSize+unsafe.Offsetof(placeAt.Depth)]) }

// Context returns what the CPU was doing at the entry, a wire.Context*, and Outer
// that of the parent.
func (p *Place) Context() uint8 { return p.head[wire.RecordSize+unsafe.Offsetof(placeAt.Context)] }
func (p *Place) Outer() uint8   { return p.head[wire.RecordSize+unsafe.Offsetof(placeAt.Outer)] }

// Opened tells whether a record of kind Open went before that of the node.
func (p *Place) Opened() bool { return p.head[wire.RecordSize+unsafe.Offsetof(placeAt.Opened)] != 0 }

// ExitLost tells that the node has returned without an exit of its own.
func (p *Place) ExitLost() bool {
	return p.head[unsafe.Offsetof(at.Flags)]&wire.FlagExitLost != 0
}

// Entry returns the time of the entry in ns, CLOCK_MONOTONIC.
func (p *Place) Entry() uint64 { return p.head.record().time() }

// PidTgid returns the thread in the lower and the process in the upper half.
func (p *Place) PidTgid() uint64 { return p.head.record().pidTgid() }

// CPU returns that of the entry.
func (p *Place) CPU() uint16 { return p.head.record().cpu() }

// Comm returns the task's name at the root's entry, up to a NUL.
func (p *Place) Comm() *[wire.CommSize]byte {
	return (*[wire.CommSize]byte)(p.head[unsafe.Offsetof(at.Comm):])
}

// Exit returns the time of the exit in ns, and the word that holds the return
// value, of a Node.
func (p *Place) Exit() (ns uint64, retval *[wordSize]byte) {
	r := (*result)(p.body)
	return r.time(), r.retval()
}

// Words returns the argument words, of which there are as many as any function
// has, of a Node or an Open.
func (p *Place) Words() []byte {
	if p.kind == Node {
		return p.body[wire.ResultSize:]
	}
	return p.body
}

// Strings returns the outputs of a target, and behind them what String reads, of Strings.
func (p *Place) Strings() []byte { return p.body }

// placeAt has the offsets of a place's parts.
var placeAt *wire.Place
