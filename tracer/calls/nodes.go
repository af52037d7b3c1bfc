package calls

import (
	"encoding/binary"

	"fgtrace/bpf/wire"
	"fgtrace/tracer/event"
)

// Nodes makes calls of the records of a function graph. The programs know the
// place of each call, so nothing is joined here but strings, which are sent when
// they are read.
type Nodes struct {
	shapes  []event.Shape
	call    Call
	strings map[uint64][]nodeStrings // by tree
	unread  []byte
	counts  NodeCounts
}

// NodeCounts are the nodes that have ended.
type NodeCounts struct {
	Roots    uint64
	ExitLost uint64
}

// nodeStrings are the outputs and strings of a node that has not ended.
type nodeStrings struct {
	id    uint64
	depth int
	raw   []byte
}

// Grow says what the arguments of further targets are.
func (n *Nodes) Grow(shapes []event.Shape) {
	n.shapes = append(n.shapes, shapes...)
	most := 0
	for _, s := range n.shapes {
		most = max(most, s.Strings)
	}
	const fault = -14
	for len(n.unread) < most*wire.StringSize {
		var s [wire.StringSize]byte
		code := int32(fault)
		binary.LittleEndian.PutUint32(s[:], uint32(code))
		n.unread = append(n.unread, s[:]...)
	}
}

// Note keeps strings until their node has ended.
func (n *Nodes) Note(p *event.Place) {
	if n.strings == nil {
		n.strings = make(map[uint64][]nodeStrings)
	}
	tree := p.ID() >> wire.NodeTreeShift
	pending := n.without(tree, p.Depth())
	at := len(pending)
	if at < cap(pending) {
		pending = pending[:at+1] // what was there has room for strings
	} else {
		pending = append(pending, nodeStrings{})
	}
	s := &pending[at]
	s.id, s.depth, s.raw = p.ID(), p.Depth(), append(s.raw[:0], p.Strings()...)
	n.strings[tree] = pending
}

// without returns the strings of a tree without those of nodes that have ended
// when one of this depth begins or ends, whether they were told of or not: those
// that are as deep.
func (n *Nodes) without(tree uint64, depth int) []nodeStrings {
	pending := n.strings[tree]
	for len(pending) > 0 && pending[len(pending)-1].depth >= depth {
		pending = pending[:len(pending)-1]
	}
	return pending
}

// of returns the outputs and strings of a node.
func (n *Nodes) of(p *event.Place, shape *event.Shape) (outputs, strings []byte) {
	tree := p.ID() >> wire.NodeTreeShift
	pending := n.strings[tree]
	strings = n.unread[:shape.Strings*wire.StringSize]
	for i := range pending {
		if s := &pending[i]; s.id == p.ID() && len(s.raw) >= shape.Outputs+len(strings) {
			outputs, strings = s.raw[:shape.Outputs], s.raw[shape.Outputs:]
		}
	}
	if p.Kind() == event.Node && len(pending) > 0 {
		n.strings[tree] = n.without(tree, p.Depth())
	}
	return outputs, strings
}

// Call returns the call of a record of kind Open or Node. It is valid as long as
// the record is, and at most until the next one. A call whose arguments are not
// known has no Entered.
func (n *Nodes) Call(p *event.Place) *Call {
	c := &n.call
	target := p.Target()
	shape := &n.shapes[target]
	pidTgid := p.PidTgid()
	c.ID, c.Target, c.CPU, c.ExitCPU, c.Comm = p.ID(), target, p.CPU(), p.CPU(), *p.Comm()
	c.Pid, c.Tid = uint32(pidTgid>>32), uint32(pidTgid)
	c.Entry, c.Exit = p.Entry(), p.Entry()
	c.Words = p.Words()
	c.Entered = len(c.Words) >= shape.Words*8
	c.Outputs, c.Strings, c.Packet = nil, nil, nil
	if shape.Strings > 0 || shape.Outputs > 0 {
		c.Outputs, c.Strings = n.of(p, shape)
	}
	c.Node = Node{
		Parent: p.Parent(), Depth: p.Depth(), Context: Context(p.Context() & 3), Outer: Context(p.Outer() & 3), Below: p.Below(),
	}
	if p.Kind() != event.Node {
		return c
	}
	exit, retval := p.Exit()
	c.Exit, c.Retval = exit, *retval
	if p.ExitLost() {
		c.Node.End = ExitLost
		n.counts.ExitLost++
	}
	if c.Node.Depth == 0 {
		n.counts.Roots++
	}
	return c
}

// Running returns the call of a record of kind Node whose node has not returned at
// a time: it has not ended, so it doesn't count.
func (n *Nodes) Running(p *event.Place, now uint64) *Call {
	counts := n.counts
	c := n.Call(p)
	n.counts = counts
	c.Exit, c.Node.End = now, Running
	return c
}

// Counts returns what has ended so far.
func (n *Nodes) Counts() NodeCounts { return n.counts }
