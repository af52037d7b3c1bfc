package flow

import (
	"fgtrace/tracer/event"
	"fgtrace/tracer/plan"
	"fgtrace/tracer/render"
)

// node takes a record of a function graph.
func (f *Flow) node(raw []byte) bool {
	if event.KindOf(raw) == event.Seen {
		if number, depth, err := event.SeenCall(raw); err == nil && f.seen != nil {
			f.seen(number, depth)
		}
		return true
	}
	p := &f.place
	if p.View(raw, len(f.targets)) != nil {
		f.undecoded[len(f.targets)]++
		return true
	}
	if p.Kind() == event.Strings {
		f.nodes.Note(p)
		return true
	}
	f.show(p)
	return !f.Full()
}

// show renders a node. What is counted and limited are nodes that have ended.
func (f *Flow) show(p *event.Place) {
	e := &f.event
	e.Call = f.nodes.Call(p)
	e.Target = f.targets[e.Call.Target]
	e.Call.Packet = f.packets.ofNode(p.ID())
	switch {
	case p.Kind() == event.Open:
		e.Kind = render.Open
	case p.Opened():
		e.Kind = render.Close
	default:
		e.Kind = render.Leaf
	}
	f.render(e)
	if e.Kind != render.Open {
		f.packets.ended(p.ID())
		f.events++
		if f.root != nil && e.Call.Node.Depth == 0 {
			f.root(e.Call)
		}
	}
}

// Running takes a record of a node that had not returned at a time (ns,
// CLOCK_MONOTONIC), when tracing ended: those of a tree from the innermost on.
func (f *Flow) Running(raw []byte, now uint64) {
	p := &f.place
	if p.View(raw, len(f.targets)) != nil || p.Kind() != event.Node {
		f.undecoded[len(f.targets)]++
		return
	}
	f.running++
	if f.Full() {
		return
	}
	e := &f.event
	e.Call = f.nodes.Running(p, now)
	e.Target, e.Kind = f.targets[e.Call.Target], render.Leaf
	if p.Opened() {
		e.Kind = render.Close
	}
	e.Call.Packet = f.packets.ofNode(p.ID())
	f.render(e)
	f.events++
}

// Grow takes further targets of a function graph, whose indices come behind
// those that there are.
func (f *Flow) Grow(targets []*plan.Target, shapes []event.Shape) {
	f.targets = append(f.targets, targets...)
	last := len(f.undecoded) - 1
	noTarget := f.undecoded[last]
	f.undecoded = append(append(f.undecoded[:last], make([]uint64, len(targets))...), noTarget)
	f.nodes.Grow(shapes)
	f.renderer.Grow(targets)
	if f.capture != nil {
		f.capture.Grow(targets)
	}
}
