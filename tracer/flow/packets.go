package flow

import (
	"fgtrace/bpf/wire"
	"fgtrace/tracer/calls"
	"fgtrace/tracer/event"
	"fgtrace/tracer/packet"
)

// packets keeps the packets of calls: they come as records of their own, before that of
// the call's entry. In a graph they come when the node begins.
type packets struct {
	pending map[uint64]*calls.Packet // of calls, by frame
	nodes   map[uint64][]nodePacket  // of a graph's nodes, by tree: of those that go on, the innermost last
	free    []*calls.Packet
	bytes   int    // of both
	dropped uint64 // that were given up
}

// nodePacket is the packet of a node that has not ended.
type nodePacket struct {
	id     uint64
	depth  int
	packet *calls.Packet
}

// maxPending is how many bytes of packets wait for their calls. Those of calls that go on
// are few; more are of calls whose records were lost, and are given up.
const maxPending = 64 << 20

// note keeps the packet of a call, or more of one.
func (p *packets) note(r *event.Packet) {
	kept := p.pending[r.Frame]
	switch {
	case r.More && kept == nil:
		return // its beginning was lost
	case r.More:
		p.bytes += len(r.Data)
		kept.Data = append(kept.Data, r.Data...)
		return
	case p.pending == nil || kept == nil && p.bytes > maxPending:
		p.reset()
	case kept != nil:
		p.bytes -= len(kept.Data)
	}
	if kept == nil {
		kept = p.get()
		p.pending[r.Frame] = kept
	}
	fill(kept, r)
	p.bytes += len(kept.Data)
}

// noteNode keeps the packet of a node, or more of one.
func (p *packets) noteNode(r *event.Packet) {
	if p.nodes == nil {
		p.nodes = make(map[uint64][]nodePacket)
	}
	tree := r.Frame >> wire.NodeTreeShift
	open := p.nodes[tree]
	if r.More {
		if n := len(open); n > 0 && open[n-1].id == r.Frame && p.bytes <= maxPending {
			open[n-1].packet.Data = append(open[n-1].packet.Data, r.Data...)
			p.bytes += len(r.Data)
		}
		return
	}
	// Nodes as deep have ended when one begins, whether they were told of or not.
	for len(open) > 0 && open[len(open)-1].depth >= r.Depth {
		open = p.pop(open)
	}
	if p.bytes > maxPending {
		p.dropped++
		p.nodes[tree] = open
		return
	}
	kept := p.get()
	fill(kept, r)
	p.bytes += len(kept.Data)
	p.nodes[tree] = append(open, nodePacket{r.Frame, r.Depth, kept})
}

// reset gives up what waits.
func (p *packets) reset() {
	for _, kept := range p.pending {
		p.bytes -= len(kept.Data)
	}
	p.dropped += uint64(len(p.pending))
	p.pending = make(map[uint64]*calls.Packet)
}

// fill copies a record's packet. A tag that was beside it is put where it belongs.
func fill(to *calls.Packet, r *event.Packet) {
	*to = calls.Packet{Link: packet.Ethernet, Length: r.Length, Data: to.Data[:0]}
	tag, data := packet.Tag{Proto: r.TagProto, TCI: r.TagTCI}, r.Data
	switch {
	case r.Raw:
		to.Link, to.Tag = packet.Raw, tag
	case tag.Proto != 0:
		to.Length += packet.TagSize
		if len(data) >= packet.EthernetAddresses {
			to.Data = tag.AppendTo(append(to.Data, data[:packet.EthernetAddresses]...))
			data = data[packet.EthernetAddresses:]
		}
	}
	to.Data = append(to.Data, data...)
}

// take returns the packet of a call, which is to be given back by release.
func (p *packets) take(frame uint64) *calls.Packet {
	found := p.pending[frame]
	if found != nil {
		p.bytes -= len(found.Data)
		delete(p.pending, frame)
	}
	return found
}

// ofNode returns the packet of a node, and keeps it.
func (p *packets) ofNode(id uint64) *calls.Packet {
	open := p.nodes[id>>wire.NodeTreeShift]
	for i := len(open) - 1; i >= 0; i-- {
		if open[i].id == id {
			return open[i].packet
		}
	}
	return nil
}

// ended takes back the packet of a node that has ended, and those of the nodes that were
// made in it: these have ended, too, whether they were told of or not.
func (p *packets) ended(id uint64) {
	tree := id >> wire.NodeTreeShift
	open := p.nodes[tree]
	for len(open) > 0 && open[len(open)-1].id >= id {
		open = p.pop(open)
	}
	if p.nodes != nil {
		p.nodes[tree] = open
	}
}

// pop takes back the last of the packets of a tree.
func (p *packets) pop(open []nodePacket) []nodePacket {
	last := len(open) - 1
	p.bytes -= len(open[last].packet.Data)
	p.free = append(p.free, open[last].packet)
	return open[:last]
}

func (p *packets) get() *calls.Packet {
	n := len(p.free)
	if n == 0 {
		return new(calls.Packet)
	}
	kept := p.free[n-1]
	p.free = p.free[:n-1]
	return kept
}

// release takes back the packet of a call.
func (p *packets) release(c *calls.Call) {
	if c.Packet != nil {
		p.free = append(p.free, c.Packet)
		c.Packet = nil
	}
}
