// Package flow turns raw records into output: it decodes them, joins them to
// calls, builds their chains and renders them.
package flow

import (
	"math"
	"slices"

	"fgtrace/tracer/calls"
	"fgtrace/tracer/event"
	"fgtrace/tracer/plan"
	"fgtrace/tracer/render"
	"fgtrace/tracer/spec"
)

// Flow is one output. Give it records, take bytes from it.
type Flow struct {
	mode     spec.Mode
	limit    uint64
	least    uint64 // ns
	targets  []*plan.Target
	shapes   []event.Shape
	layouts  []event.Layout // of the shapes
	chains   *chains
	packets  packets
	renderer render.Renderer
	capture  render.Renderer // nil: there is none

	record    event.Record
	view      event.Whole
	event     render.Event
	assembler calls.Assembler
	place     event.Place
	nodes     *calls.Nodes // of a function graph; nil: calls are on their own
	out       []byte
	captured  []byte
	events    uint64
	running   uint64
	root      func(*calls.Call)
	seen      func(number uint64, depth int)
	undecoded []uint64 // by target; the last is for records that name none
}

// Options configure a flow.
type Options struct {
	Mode     spec.Mode
	Limit    uint64 // of events; 0: none
	Least    uint64 // ns that a call must have taken to be shown at its exit
	Targets  []*plan.Target
	Shapes   []event.Shape
	Stacks   *Stacks                             // nil: no stacks
	Missed   func(target int, since uint64) bool // see calls.Assembler; may be nil
	Renderer render.Renderer
	Capture  render.Renderer   // is given the same, see TakeCapture; may be nil
	Graph    bool              // calls are nodes of a function graph
	Root     func(*calls.Call) // is given the roots of a graph that have ended; may be nil
	// Seen is given the numbers of watched functions that were called in a tree,
	// and how many nodes were under way then; may be nil.
	Seen func(number uint64, depth int)
}

// New returns a flow.
func New(o Options) *Flow {
	if o.Limit == 0 {
		o.Limit = math.MaxUint64
	}
	f := &Flow{
		mode: o.Mode, limit: o.Limit, least: o.Least, targets: slices.Clone(o.Targets), shapes: o.Shapes, renderer: o.Renderer, capture: o.Capture,
		layouts: event.Layouts(o.Shapes), undecoded: make([]uint64, len(o.Targets)+1),
	}
	f.assembler.Missed = o.Missed
	if o.Graph {
		f.nodes = &calls.Nodes{}
		f.nodes.Grow(o.Shapes)
		f.root, f.seen = o.Root, o.Seen
	}
	if o.Stacks != nil {
		f.chains = newChains(o.Stacks)
	}
	return f
}

// Record takes one record. It returns false once the limit of events is
// reached; what comes after is not wanted.
func (f *Flow) Record(raw []byte) bool {
	if f.Full() {
		return false
	}
	switch kind := event.KindOf(raw); {
	case kind == event.KindPacket:
		f.packet(raw)
		return true
	case f.nodes != nil:
		return f.node(raw)
	case kind == event.Call:
		return f.whole(raw)
	}
	r := &f.record
	r.Target = len(f.targets)
	if event.Decode(raw, f.shapes, r) != nil {
		f.undecoded[r.Target]++
		return true
	}
	if r.Kind == event.Entry {
		f.entry(r)
	} else {
		f.exit(r)
	}
	return !f.Full()
}

// Full tells whether the limit of events is reached.
func (f *Flow) Full() bool { return f.events >= f.limit }

// packet takes the record of a packet.
func (f *Flow) packet(raw []byte) {
	p, err := event.DecodePacket(raw, len(f.targets))
	if err != nil {
		f.undecoded[len(f.targets)]++
		return
	}
	if f.nodes != nil {
		f.packets.noteNode(&p)
		return
	}
	f.packets.note(&p)
}

func (f *Flow) entry(r *event.Record) {
	if f.mode == spec.Entry {
		c := f.assembler.Note(r)
		f.findMore(c, r)
		f.emit(render.Entry, c)
		f.release(c)
		return
	}
	c := f.assembler.Enter(r)
	f.findMore(c, r)
	if f.mode&spec.Entry != 0 {
		f.emit(render.Entry, c)
	}
}

// release takes back a call that is not used any more.
func (f *Flow) release(c *calls.Call) {
	f.packets.release(c)
	f.assembler.Release(c)
}

// findMore keeps a call's packet and its chain with it: the record won't be there at the
// exit.
func (f *Flow) findMore(c *calls.Call, r *event.Record) {
	if r.HasPacket {
		c.Packet = f.packets.take(r.Frame)
	}
	if f.chains != nil {
		c.Stack = f.chains.of(r.Frames, r.StackErr, r.Target, f.targets[r.Target])
	}
}

func (f *Flow) exit(r *event.Record) {
	c := f.assembler.Leave(r)
	switch {
	case r.Unwanted:
	case f.least > 0 && (!c.Entered || c.Exit-c.Entry < f.least): // or nobody knows
	case f.mode&spec.Exit != 0:
		f.emit(render.Exit, c)
	case c.Entered:
		f.emit(render.Call, c)
	}
	f.release(c)
}

// whole takes the record of a whole call.
func (f *Flow) whole(raw []byte) bool {
	w := &f.view
	if w.View(raw, f.layouts) != nil {
		f.undecoded[len(f.targets)]++
		return true
	}
	c := f.assembler.Whole(w)
	if !c.Entered {
		return true
	}
	e := &f.event
	e.Kind, e.Call, e.Target = render.Call, c, f.targets[c.Target]
	if f.chains != nil {
		frames, errno := w.Stack()
		e.Chain = f.chains.of(frames, errno, c.Target, e.Target)
	}
	f.render(e)
	f.events++
	return !f.Full()
}

func (f *Flow) emit(kind render.Kind, c *calls.Call) {
	// An event of its own would be an allocation a call.
	e := &f.event
	e.Kind, e.Call, e.Target = kind, c, f.targets[c.Target]
	e.Chain, _ = c.Stack.(*render.Chain)
	f.render(e)
	f.events++
}

func (f *Flow) render(e *render.Event) {
	f.out = f.renderer.AppendEvent(f.out, e)
	if f.capture != nil {
		f.captured = f.capture.AppendEvent(f.captured, e)
	}
}

// Start appends the output's beginning.
func (f *Flow) Start(s *render.Start) {
	f.out = f.renderer.AppendStart(f.out, s)
	if f.capture != nil {
		f.captured = f.capture.AppendStart(f.captured, s)
	}
}

// Finish adds the counts that the flow knows, and appends the output's end.
func (f *Flow) Finish(e *render.End) {
	counts := f.assembler.Counts()
	e.Events = f.events
	e.NoEntry += counts.NoEntry
	e.NoExit += counts.NoExit
	e.Running += uint64(f.assembler.Open()) + f.running
	e.LostPackets += f.packets.dropped
	if f.nodes != nil {
		nodes := f.nodes.Counts()
		e.Roots, e.ExitLost = nodes.Roots, nodes.ExitLost
	}
	f.out = f.renderer.AppendEnd(f.out, e)
	if f.capture != nil {
		f.captured = f.capture.AppendEnd(f.captured, e)
	}
}

// Undecoded returns the records that could not be decoded, by target; the last
// element counts those that name no target.
func (f *Flow) Undecoded() []uint64 { return f.undecoded }

// Events returns the number of events so far.
func (f *Flow) Events() uint64 { return f.events }

// Take returns what has been rendered since the last Take. The bytes are valid
// until the next record.
func (f *Flow) Take() []byte {
	out := f.out
	f.out = f.out[:0]
	return out
}

// TakeCapture is Take of what Options.Capture has rendered.
func (f *Flow) TakeCapture() []byte {
	out := f.captured
	f.captured = f.captured[:0]
	return out
}
