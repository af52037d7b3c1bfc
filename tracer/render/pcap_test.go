package render

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fgtrace/internal/pcapng"
	"fgtrace/tracer/calls"
	"fgtrace/tracer/packet"
	"fgtrace/tracer/plan"
)

// capture is what is in a file.
type capture struct {
	section    map[uint16]string // options by their code
	interfaces []captured
	packets    []capturedPacket
	statistics []capturedStatistics
}

type captured struct {
	name, description string
	link, snaplen     uint32
}

type capturedPacket struct {
	Interface string
	Time      uint64
	Data      string
	Length    uint32
	Comments  []string
}

type capturedStatistics struct {
	Interface                    string
	Time, Start, End             uint64
	Received, Dropped, Delivered uint64
}

// readCapture reads blocks as the draft of pcapng has them; what a renderer has no
// reason to write is an error.
func readCapture(tb testing.TB, b []byte) *capture {
	tb.Helper()
	c := &capture{}
	for n := 0; len(b) > 0; n++ {
		if len(b) < 12 {
			tb.Fatalf("block %d: %d bytes are left", n, len(b))
		}
		kind, length := u32(b), u32(b[4:])
		if length < 12 || length%4 != 0 || length > uint32(len(b)) || u32(b[length-4:]) != length || (n == 0) != (kind == 0x0a0d0d0a) {
			tb.Fatalf("block %d: type %#x, length %d of %d", n, kind, length, len(b))
		}
		if err := c.block(kind, b[8:length-4]); err != nil {
			tb.Fatalf("block %d of type %d: %v", n, kind, err)
		}
		b = b[length:]
	}
	return c
}

func (c *capture) block(kind uint32, b []byte) error {
	fixed, ok := map[uint32]int{0x0a0d0d0a: 16, 1: 8, 5: 12, 6: 20}[kind]
	if !ok || len(b) < fixed {
		return fmt.Errorf("%d bytes", len(b))
	}
	head, rest, data := b[:fixed], b[fixed:], ""
	if kind == 6 {
		n := u32(head[12:])
		padded := (n + 3) &^ 3
		if uint32(len(rest)) < padded || u32(head[16:]) < n {
			return fmt.Errorf("%d bytes of %d are there, of a packet of %d", len(rest), n, u32(head[16:]))
		}
		data, rest = string(rest[:n]), rest[padded:]
	}
	options, err := readOptions(rest)
	if err != nil {
		return err
	}
	name := ""
	if kind > 1 && kind != 0x0a0d0d0a {
		if u32(head) >= uint32(len(c.interfaces)) {
			return fmt.Errorf("there is no interface %d yet", u32(head))
		}
		name = c.interfaces[u32(head)].name
	}
	one := func(code uint16) string { return strings.Join(options[code], "|") }
	count := func(code uint16) uint64 {
		if len(options[code]) != 1 || len(one(code)) != 8 {
			return pcapng.Unknown
		}
		return binary.LittleEndian.Uint64([]byte(one(code)))
	}
	at := func(b []byte) uint64 { return uint64(u32(b))<<32 | uint64(u32(b[4:])) }
	switch kind {
	case 1:
		if one(9) != "\x09" {
			return errors.New("times are not in nanoseconds")
		}
		c.interfaces = append(c.interfaces, captured{one(2), one(3), u32(head), u32(head[4:])})
	case 5:
		for code := range options {
			if !slices.Contains([]uint16{2, 3, 4, 5, 8}, code) {
				return fmt.Errorf("option %d", code)
			}
		}
		s := capturedStatistics{Interface: name, Time: at(head[4:]), Received: count(4), Dropped: count(5), Delivered: count(8)}
		if len(one(2)) == 8 && len(one(3)) == 8 {
			s.Start, s.End = at([]byte(one(2))), at([]byte(one(3)))
		}
		c.statistics = append(c.statistics, s)
	case 6:
		c.packets = append(c.packets, capturedPacket{name, at(head[4:]), data, u32(head[16:]), options[1]})
	default:
		c.section = map[uint16]string{}
		for code := range options {
			c.section[code] = one(code)
		}
	}
	return nil
}

// readOptions reads options, each of which may be there several times.
func readOptions(b []byte) (map[uint16][]string, error) {
	options := map[uint16][]string{}
	for len(b) > 0 {
		if len(b) < 4 {
			return nil, errors.New("an option is cut")
		}
		code, n := binary.LittleEndian.Uint16(b), int(binary.LittleEndian.Uint16(b[2:]))
		if code == 0 {
			if n != 0 || len(b) != 4 {
				return nil, errors.New("the end of the options is not at the end")
			}
			return options, nil
		}
		padded := (n + 3) &^ 3
		if len(b) < 4+padded {
			return nil, fmt.Errorf("option %d is cut", code)
		}
		options[code] = append(options[code], string(b[4:4+n]))
		b = b[4+padded:]
	}
	if len(options) > 0 {
		return nil, errors.New("options have no end")
	}
	return options, nil
}

func u32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }

// pcapStart is when tracing starts: an hour after 1970.
var pcapStart = &Start{Kernel: "6.12.0", Arch: "amd64", Version: "0.1.0", Argv: []string{"trace", "-k", "a b"}, RealtimeOffset: 3600e9}

// hour is the time in it of a time of the kernel's clock.
func hour(ns uint64) uint64 { return ns + 3600e9 }

// newPcap returns a renderer that has started, what it wrote, and an event of a target.
func newPcap(targets []*plan.Target, snaplen int) (*Pcap, []byte) {
	p := NewPcap(targets, names{}, PcapOptions{Snaplen: snaplen})
	return p, p.AppendStart(nil, pcapStart)
}

func pcapEvent(kind Kind, all []*plan.Target, target int, p *calls.Packet) *Event {
	c := received(slices.Concat(eight(5), str("eth0", 128))[:all[target].OutputSize()])
	c.Target, c.Packet = target, p
	return &Event{Kind: kind, Call: c, Target: all[target]}
}

const etherIPv4, etherIPv6 = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x08\x00", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x86\xdd"

// TestPcapStart: the section tells where the file comes from; each function that has a
// packet has an interface at once.
func TestPcapStart(t *testing.T) {
	all := both(t)
	_, out := newPcap(all, 1000)
	got := readCapture(t, out)
	if diff := cmp.Diff(map[uint16]string{1: "trace -k a b", 2: "amd64", 3: "Linux 6.12.0", 4: "trace 0.1.0"}, got.section); diff != "" {
		t.Errorf("section (-want +got)\n%s", diff)
	}
	const prototype = "int receive(struct thing *p, const char *name, int n, unsigned long big)"
	want := []captured{{"values_packet@entry", prototype, 1, 1014}, {"packet@entry", prototype, 1, 1014}}
	if diff := cmp.Diff(want, got.interfaces, cmp.AllowUnexported(captured{})); diff != "" {
		t.Errorf("interfaces (-want +got)\n%s", diff)
	}
	if len(got.packets)+len(got.statistics) > 0 {
		t.Errorf("%d packets, %d statistics", len(got.packets), len(got.statistics))
	}
	for snaplen, want := range map[int]uint32{1: 15, 65536: 65550, MaxSnaplen: pcapng.MaxSnapLen, MaxSnaplen + 1: pcapng.MaxSnapLen, 1 << 30: pcapng.MaxSnapLen} {
		_, out := newPcap(all, snaplen)
		if got := readCapture(t, out).interfaces[0].snaplen; got != want {
			t.Errorf("snapshot length %d: %d, want %d", snaplen, got, want)
		}
	}
}

// TestPcapEvents: what a packet comes with, by the event that has it.
func TestPcapEvents(t *testing.T) {
	const args = "(struct thing *p=NULL, const char *name=\"lo\", int n=0, unsigned long big=0)"
	const values = `n=5, name="eth0"`
	all := both(t)
	running := func(c *calls.Call) { c.Node.End = calls.Running }
	for name, test := range map[string]struct {
		kind   Kind
		target int
		change func(*calls.Call)
		want   []capturedPacket
	}{
		"call": {Call, 0, nil, []capturedPacket{{
			Interface: "values_packet@entry", Time: hour(1000000000), Comments: []string{"[3] ping/4242 values_packet" + args + " = 0 100ns", values},
		}}},
		"entry": {Entry, 0, nil, []capturedPacket{{
			Interface: "values_packet@entry", Time: hour(1000000000), Comments: []string{"[3] ping/4242 → values_packet" + args, values},
		}}},
		"exit": {Exit, 0, nil, []capturedPacket{{
			Interface: "values_packet@exit", Time: hour(1000000100), Comments: []string{"[3] ping/4242 ← values_packet" + args + " = 0 100ns", values},
		}}},
		"leaf": {Leaf, 0, nil, []capturedPacket{{
			Interface: "values_packet@entry", Time: hour(1000000000), Comments: []string{"[3] ping/4242 values_packet" + args + " = 0 100ns", values},
		}}},
		"close": {Close, 0, func(c *calls.Call) { c.Node.Depth = 3 }, []capturedPacket{{
			Interface: "values_packet@entry", Time: hour(1000000000), Comments: []string{"[3] ping/4242 values_packet" + args + " = 0 100ns", values},
		}}},
		"running": {Close, 0, running, []capturedPacket{{
			Interface: "values_packet@entry", Time: hour(1000000000), Comments: []string{"[3] ping/4242 values_packet" + args, values},
		}}},
		"open": {Open, 0, nil, nil}, // it comes with its end
		"no values": {Call, 2, nil, []capturedPacket{{
			Interface: "packet@entry", Time: hour(1000000000), Comments: []string{"[3] ping/4242 packet" + args + " = 0 100ns"},
		}}},
		"values lost": {Leaf, 0, func(c *calls.Call) { c.Outputs = nil }, []capturedPacket{{
			Interface: "values_packet@entry", Time: hour(1000000000),
			Comments: []string{"[3] ping/4242 values_packet" + args + " = 0 100ns", "n=<lost>, name=<lost>"},
		}}},
		"arguments unknown": {Leaf, 0, func(c *calls.Call) { c.Entered = false }, []capturedPacket{{
			Interface: "values_packet@entry", Time: hour(1000000000), Comments: []string{"[3] ping/4242 values_packet(?) = 0"},
		}}},
		"a task's name": {Call, 2, func(c *calls.Call) { copy(c.Comm[:], "a\nb\xff\x00") }, []capturedPacket{{
			Interface: "packet@entry", Time: hour(1000000000), Comments: []string{"[3] a?b?/4242 packet" + args + " = 0 100ns"},
		}}},
		"a string's newline": {Call, 0, func(c *calls.Call) { c.Outputs = slices.Concat(eight(6), str("a\nb", 128)) }, []capturedPacket{{
			Interface: "values_packet@entry", Time: hour(1000000000),
			Comments: []string{"[3] ping/4242 values_packet" + args + " = 0 100ns", `n=6, name="a\nb"`},
		}}},
		"an error": {Call, 2, func(c *calls.Call) { binary.LittleEndian.PutUint64(c.Retval[:], errnoNoEnt) }, []capturedPacket{{
			Interface: "packet@entry", Time: hour(1000000000), Comments: []string{"[3] ping/4242 packet" + args + " = -2 (-ENOENT) 100ns"},
		}}},
		"no packet":             {Call, 0, func(c *calls.Call) { c.Packet = nil }, nil},
		"exit without an entry": {Exit, 0, func(c *calls.Call) { *c = calls.Call{Exit: 5} }, nil},
		"one that has none":     {Call, 1, func(c *calls.Call) { c.Packet = nil }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p, out := newPcap(all, 1000)
			e := pcapEvent(test.kind, all, test.target, rawPacket)
			if test.change != nil {
				test.change(e.Call)
			}
			before := bytes.Clone(out)
			out = p.AppendEvent(out, e)
			if !bytes.HasPrefix(out, before) {
				t.Fatal("what was there is not any more")
			}
			got := readCapture(t, out).packets
			for i := range got {
				for j, c := range got[i].Comments {
					got[i].Comments[j] = strings.TrimSpace(c)
				}
			}
			for i := range test.want {
				test.want[i].Data, test.want[i].Length = etherIPv4+echo, 42
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// rawTagged is the link of packets that begin with a network header, with a tag beside them.
const rawTagged packet.Link = -1

// TestPcapData: packets begin with an Ethernet header, and are as long as they are told.
func TestPcapData(t *testing.T) {
	ethernet := "\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02\x08\x00" + echo
	six := "\x60\x00\x00\x00\x00\x00\x3b\x40" + addresses6
	tagged := etherIPv4[:packet.EthernetAddresses] + "\x81\x00\xe0\x05\x08\x00" + echo
	all := both(t)
	for name, test := range map[string]struct {
		link    packet.Link
		data    string
		length  int
		snaplen int
		want    string
		wantLen uint32
	}{
		"tag":                         {rawTagged, echo, 28, 100, tagged, 46},
		"tag, as long as asked":       {rawTagged, echo, 28, 28, tagged[:42], 46},
		"tag, longer than asked":      {rawTagged, echo, 28, 10, tagged[:24], 46},
		"Ethernet":                    {packet.Ethernet, ethernet, 42, 100, ethernet, 42},
		"Ethernet, cut":               {packet.Ethernet, ethernet[:20], 1514, 100, ethernet[:20], 1514},
		"Ethernet, longer than asked": {packet.Ethernet, ethernet, 1514, 20, ethernet[:20], 1514},
		"Ethernet, empty":             {packet.Ethernet, "", 60, 100, "", 60},
		"IPv4":                        {packet.Raw, echo, 28, 100, etherIPv4 + echo, 42},
		"IPv4, cut":                   {packet.Raw, echo[:10], 1500, 100, etherIPv4 + echo[:10], 1514},
		"IPv4, longer than asked":     {packet.Raw, echo, 1500, 20, etherIPv4 + echo[:20], 1514},
		"IPv4, as long as asked":      {packet.Raw, echo, 28, 28, etherIPv4 + echo, 42},
		"IPv6":                        {packet.Raw, six, 40, 100, etherIPv6 + six, 54},
		"IPv6, a byte":                {packet.Raw, six, 40, 1, etherIPv6 + six[:1], 54},
		"raw, empty":                  {packet.Raw, "", 28, 100, etherIPv4, 42},
	} {
		t.Run(name, func(t *testing.T) {
			p, out := newPcap(all, test.snaplen)
			data := []byte(test.data)
			sent := &calls.Packet{Link: test.link, Length: test.length, Data: data}
			if test.link == rawTagged {
				sent.Link, sent.Tag = packet.Raw, packet.Tag{Proto: packet.EtherVLAN, TCI: 0xe005}
			}
			out = p.AppendEvent(out, pcapEvent(Call, all, 2, sent))
			got := readCapture(t, out)
			if diff := cmp.Diff(hex.Dump([]byte(test.want)), hex.Dump([]byte(got.packets[0].Data))); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if got.packets[0].Length != test.wantLen {
				t.Errorf("length %d, want %d", got.packets[0].Length, test.wantLen)
			}
			if string(data) != test.data {
				t.Errorf("the call's own data are now %x", data)
			}
			for _, i := range got.interfaces { // libpcap stops at another one
				if i.link != pcapng.LinkEthernet || i.snaplen != got.interfaces[0].snaplen || uint32(len(got.packets[0].Data)) > i.snaplen {
					t.Errorf("interface %+v, and %d bytes", i, len(got.packets[0].Data))
				}
			}
		})
	}
}

// TestPcapSides: an interface is told of once, before its first packet.
func TestPcapSides(t *testing.T) {
	all := both(t)
	p, out := newPcap(all, 100)
	for _, target := range []int{2, 0} {
		for range 2 {
			for _, kind := range []Kind{Entry, Exit} {
				out = p.AppendEvent(out, pcapEvent(kind, all, target, rawPacket))
			}
		}
	}
	got := readCapture(t, out)
	var interfaces, packets []string
	for _, i := range got.interfaces {
		interfaces = append(interfaces, i.name)
	}
	for _, p := range got.packets {
		packets = append(packets, p.Interface)
	}
	if diff := cmp.Diff([]string{"values_packet@entry", "packet@entry", "packet@exit", "values_packet@exit"}, interfaces); diff != "" {
		t.Errorf("interfaces (-want +got)\n%s", diff)
	}
	want := []string{
		"packet@entry", "packet@exit", "packet@entry", "packet@exit",
		"values_packet@entry", "values_packet@exit", "values_packet@entry", "values_packet@exit",
	}
	if diff := cmp.Diff(want, packets); diff != "" {
		t.Errorf("packets (-want +got)\n%s", diff)
	}
}

// TestPcapGrow adds functions while packets come, two of one name among them.
func TestPcapGrow(t *testing.T) {
	all := both(t)
	more := both(t)
	all = append(all, more...)
	p, out := newPcap(all[:1], 100)
	out = p.AppendEvent(out, pcapEvent(Leaf, all, 0, rawPacket))
	p.Grow(all[1:3])
	p.Grow(all[3:])
	for _, target := range []int{6, 0, 4, 6} {
		out = p.AppendEvent(out, pcapEvent(Leaf, all, target, rawPacket))
	}
	out = p.AppendEnd(out, &End{PerTarget: []Loss{{Target: all[4], LostPackets: 3}}})
	got := readCapture(t, out)
	var interfaces, packets []string
	for _, i := range got.interfaces {
		interfaces = append(interfaces, i.name)
	}
	for _, p := range got.packets {
		packets = append(packets, p.Interface)
	}
	if diff := cmp.Diff([]string{"values_packet@entry", "packet@entry", "values_packet@entry"}, interfaces); diff != "" {
		t.Errorf("interfaces (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]string{"values_packet@entry", "packet@entry", "values_packet@entry", "values_packet@entry", "packet@entry"}, packets); diff != "" {
		t.Errorf("packets (-want +got)\n%s", diff)
	}
	var counts []string
	for _, s := range got.statistics {
		counts = append(counts, fmt.Sprint(s.Interface, " ", s.Delivered, " ", s.Dropped))
	}
	if diff := cmp.Diff([]string{"values_packet@entry 2 0", "packet@entry 2 0", "values_packet@entry 1 3"}, counts); diff != "" {
		t.Errorf("statistics (-want +got)\n%s", diff)
	}
}

// TestPcapEnd: each interface has what was written, and what was lost of its function.
func TestPcapEnd(t *testing.T) {
	all := both(t)
	p, out := newPcap(all, 100)
	at := func(kind Kind, target int, entry, exit uint64) {
		e := pcapEvent(kind, all, target, rawPacket)
		e.Call.Entry, e.Call.Exit = entry, exit
		out = p.AppendEvent(out, e)
	}
	at(Entry, 0, 5000, 0)
	at(Entry, 0, 3000, 0) // of another CPU
	at(Exit, 0, 5000, 9000)
	at(Entry, 0, 7000, 0)
	out = p.AppendEnd(out, &End{
		Lost: 100, LostPackets: 100,
		PerTarget: []Loss{{Target: all[0], LostEntries: 1, LostPackets: 4, RecursionMisses: 50, Undecoded: 60}, {Target: all[1], LostEntries: 70}},
	})
	want := []capturedStatistics{
		{Interface: "values_packet@entry", Received: 8, Dropped: 5, Delivered: 3},
		{Interface: "packet@entry", Received: 0, Dropped: 0, Delivered: 0},
		{Interface: "values_packet@exit", Received: 6, Dropped: 5, Delivered: 1},
	}
	for i := range want {
		want[i].Time, want[i].Start, want[i].End = hour(9000), hour(3000), hour(9000)
	}
	if diff := cmp.Diff(want, readCapture(t, out).statistics); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestPcapTimes: the kernel's clock may be ahead of that of the day.
func TestPcapTimes(t *testing.T) {
	all := both(t)
	for offset, want := range map[int64]uint64{
		0: 1000000001, 1: 1000000002, 1700000000123456789: 1700000001123456790, -1000000000: 1,
	} {
		p := NewPcap(all, nil, PcapOptions{Snaplen: 100})
		out := p.AppendStart(nil, &Start{RealtimeOffset: offset})
		e := pcapEvent(Call, all, 2, rawPacket)
		e.Call.Entry = 1000000001
		if got := readCapture(t, p.AppendEvent(out, e)).packets[0].Time; got != want {
			t.Errorf("offset %d: %d, want %d", offset, got, want)
		}
	}
}
