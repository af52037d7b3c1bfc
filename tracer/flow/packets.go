package flow

import (
	"fgtrace/tracer/calls"
	"fgtrace/tracer/event"
	"fgtrace/tracer/packet"
)

// packets keeps the packets of calls: they come as records of their own, before that of
// the call's entry.
type packets struct {
	pending map[uint64]*calls.Packet // by the call's frame, or a node's ID
	free    []*calls.Packet
}

// maxPending is how many packets wait for their calls. More are of calls whose records
// were lost.
const maxPending = 1 << 16

// note keeps a packet, or more of one.
func (p *packets) note(r *event.Packet) {
	if p.pending == nil || len(p.pending) >= maxPending {
		p.pending = make(map[uint64]*calls.Packet)
	}
	kept := p.pending[r.Frame]
	if r.More {
		if kept != nil {
			kept.Data = append(kept.Data, r.Data...)
		}
		return
	}
	if n := len(p.free); kept == nil && n > 0 {
		kept, p.free = p.free[n-1], p.free[:n-1]
	} else if kept == nil {
		kept = new(calls.Packet)
	}
	kept.Link = packet.Ethernet
	if r.Raw {
		kept.Link = packet.Raw
	}
	kept.Length, kept.Data = r.Length, append(kept.Data[:0], r.Data...)
	p.pending[r.Frame] = kept
}

// of returns the packet of a call, and keeps it.
func (p *packets) of(frame uint64) *calls.Packet { return p.pending[frame] }

// take returns the packet of a call, which is to be given back by release.
func (p *packets) take(frame uint64) *calls.Packet {
	found := p.pending[frame]
	if found != nil {
		delete(p.pending, frame)
	}
	return found
}

// release takes back the packet of a call.
func (p *packets) release(c *calls.Call) {
	if c.Packet != nil {
		p.free = append(p.free, c.Packet)
		c.Packet = nil
	}
}
