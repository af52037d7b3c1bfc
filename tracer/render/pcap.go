package render

import (
	"bytes"
	"encoding/binary"
	"strings"

	"fgtrace/btfx"
	"fgtrace/internal/pcapng"
	"fgtrace/tracer/packet"
	"fgtrace/tracer/plan"
)

// Pcap writes the packets of calls as pcapng: an interface for each function and side,
// such as "icmp_rcv@entry", the call itself as a packet's comment. Packets are as they
// were at the entry; of an exit, the time is its own.
//
// All interfaces are Ethernet, since libpcap reads files of several link types up to
// the first change only. A packet that has no such header yet gets one, whose addresses
// are 0.
type Pcap struct {
	targets []*plan.Target
	snaplen int
	first   string           // side of the interfaces that are told of first
	sides   []map[string]int // by target: interfaces by their side
	next    int              // interface
	counts  []uint64         // packets, by interface
	of      []interfaceOf    // by interface

	text         *Text
	offset       int64  // ns from the kernel's clock to 1970
	since, until uint64 // times of packets, in ns of the kernel's clock; 0: there are none
	entries      bool   // there were events of entries, that are not of calls
	nodes        bool   // or of nodes of a graph
	comment      []byte
	data         []byte
}

// interfaceOf is what an interface shows.
type interfaceOf struct {
	target int
	side   string
}

// Sides of a function's interfaces.
const (
	sideEntry = "entry"
	sideExit  = "exit"
)

// Snapshot lengths: of what is written, and of a packet, which may get a header.
const (
	pcapHeader = packet.EthernetHeader
	// MaxSnaplen is how many bytes of a packet can be written.
	MaxSnaplen = pcapng.MaxSnapLen - pcapHeader
)

// PcapOptions say what of packets is written.
type PcapOptions struct {
	Snaplen int  // bytes of a packet, at most
	Exits   bool // events are those of exits alone
}

// NewPcap returns a renderer for the targets of a plan.
func NewPcap(targets []*plan.Target, syms btfx.Symbols, o PcapOptions) *Pcap {
	p := &Pcap{text: NewText(nil, syms, TextOptions{}), snaplen: min(o.Snaplen, MaxSnaplen), first: sideEntry}
	if o.Exits {
		p.first = sideExit
	}
	p.Grow(targets)
	return p
}

// Grow implements Renderer.
func (p *Pcap) Grow(targets []*plan.Target) {
	p.targets = append(p.targets, targets...)
	p.sides = append(p.sides, make([]map[string]int, len(targets))...)
	p.text.Grow(targets)
}

// AppendStart implements Renderer. A reader waits for an interface, so that those of
// all functions are told of at once.
func (p *Pcap) AppendStart(dst []byte, s *Start) []byte {
	p.offset = s.RealtimeOffset
	p.text.AppendStart(nil, s)
	dst = pcapng.AppendSection(dst, pcapng.Section{
		Hardware: s.Arch, OS: "Linux " + s.Kernel, Application: "trace " + s.Version, Comment: strings.Join(s.Argv, " "),
	})
	for i, t := range p.targets {
		if t.Packet != nil {
			dst, _ = p.appendInterface(dst, i, p.first)
		}
	}
	return dst
}

// appendInterface returns the number of a target's interface, and tells of it first if
// it is new.
func (p *Pcap) appendInterface(dst []byte, target int, side string) ([]byte, int) {
	if n, ok := p.sides[target][side]; ok {
		return dst, n
	}
	if p.sides[target] == nil {
		p.sides[target] = make(map[string]int)
	}
	t := p.targets[target]
	n := p.next
	p.next++
	p.sides[target][side] = n
	p.counts, p.of = append(p.counts, 0), append(p.of, interfaceOf{target, side})
	return pcapng.AppendInterface(dst, pcapng.Interface{
		Name: t.Func + "@" + side, Description: t.Prototype(), LinkType: pcapng.LinkEthernet, SnapLen: uint32(p.snaplen + pcapHeader),
	}), n
}

// AppendEvent implements Renderer.
func (p *Pcap) AppendEvent(dst []byte, e *Event) []byte {
	c := e.Call
	p.entries, p.nodes = p.entries || e.Kind == Entry, p.nodes || e.Kind >= Open
	if c.Packet == nil || e.Kind == Open {
		return dst
	}
	side, at := sideEntry, c.Entry
	if e.Kind == Exit {
		side, at = sideExit, c.Exit
	}
	dst, n := p.appendInterface(dst, c.Target, side)
	data := c.Packet.Data[:min(len(c.Packet.Data), p.snaplen)]
	length := c.Packet.Length
	if c.Packet.Link == packet.Raw {
		data, length = p.framed(c.Packet.Tag, data, length)
	}
	p.comment = p.text.comment(p.comment[:0], e)
	p.counts[n]++
	if p.since == 0 {
		p.since = at
	}
	p.since, p.until = min(p.since, at), max(p.until, at)
	return pcapng.AppendPacket(dst, pcapng.Packet{
		Interface: n, Time: p.since1970(at), Data: data, Length: length, Comment: p.comment,
	})
}

// framed puts an Ethernet header in front of a packet that has none, with the tag that was
// beside it.
func (p *Pcap) framed(tag packet.Tag, data []byte, length int) (frame []byte, frameLength int) {
	ethertype := uint16(packet.EtherIPv4)
	if len(data) > 0 && data[0]>>4 == 6 {
		ethertype = packet.EtherIPv6
	}
	var addresses [packet.EthernetAddresses]byte
	p.data = append(p.data[:0], addresses[:]...)
	if tag.Proto != 0 {
		p.data = tag.AppendTo(p.data)
	}
	p.data = binary.BigEndian.AppendUint16(p.data, ethertype)
	frameLength = len(p.data) + length
	p.data = append(p.data, data...)
	return p.data[:min(len(p.data), p.snaplen+pcapHeader)], frameLength
}

// AppendEnd implements Renderer.
func (p *Pcap) AppendEnd(dst []byte, e *End) []byte {
	losses := make(map[*plan.Target]*Loss)
	for i := range e.PerTarget {
		losses[e.PerTarget[i].Target] = &e.PerTarget[i]
	}
	var start, end uint64
	if p.until > 0 {
		start, end = p.since1970(p.since), p.since1970(p.until)
	}
	for n, of := range p.of {
		lost := p.lost(losses[p.targets[of.target]], of.side)
		dst = pcapng.AppendStatistics(dst, pcapng.Statistics{
			Interface: n, Time: p.since1970(p.until), Start: start, End: end,
			Received: p.counts[n] + lost, Dropped: lost, Accepted: pcapng.Unknown, OSDropped: pcapng.Unknown, Delivered: p.counts[n],
		})
	}
	return dst
}

// lost returns how many packets are missing of an interface: those that found no room
// themselves, and those whose call did not.
func (p *Pcap) lost(l *Loss, side string) uint64 {
	switch {
	case l == nil:
		return 0
	case p.nodes: // lost entries are those of strings
		return l.LostPackets + l.LostExits
	case p.entries && side == sideEntry:
		return l.LostPackets + l.LostEntries
	}
	return l.LostPackets + l.LostEntries + l.LostExits
}

// since1970 turns a time of the kernel's clock into one of the day, in ns.
func (p *Pcap) since1970(ns uint64) uint64 { return uint64(int64(ns) + p.offset) }

// comment appends a line about a call: task, arguments, result; and one with its values.
func (t *Text) comment(dst []byte, e *Event) []byte {
	target := &t.targets[e.Call.Target]
	t.line.begin(dst)
	t.call(target, e)
	line := t.line.end()
	dst = append(line[:len(dst)], bytes.TrimSpace(line[len(dst):])...)
	if len(target.outputs) > 0 && e.Call.Entered {
		dst = appendOutputs(append(dst, '\n'), target.outputs, e.Call, t.syms)
	}
	return dst
}
