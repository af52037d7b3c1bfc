package flow

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fgtrace/bpf/wire"
	"fgtrace/internal/wiretest"
	"fgtrace/tracer/calls"
	"fgtrace/tracer/event"
	"fgtrace/tracer/packet"
	"fgtrace/tracer/plan"
	"fgtrace/tracer/render"
	"fgtrace/tracer/spec"
)

// briefPackets renders an event as "call f0#1 ethernet abc/100": its packet, and how long
// that is, or "none".
type briefPackets struct{ brief }

func (briefPackets) AppendEvent(dst []byte, e *render.Event) []byte {
	kind := e.Kind.String()
	switch e.Kind {
	case render.Leaf:
		kind = "leaf"
	case render.Close:
		kind = "close"
	}
	dst = fmt.Appendf(dst, "%s %s#%d ", kind, e.Target.Func, e.Call.ID)
	p := e.Call.Packet
	if p == nil {
		return append(dst, "none\n"...)
	}
	link := map[packet.Link]string{packet.Ethernet: "ethernet", packet.Raw: "raw"}[p.Link]
	return fmt.Appendf(dst, "%s %s/%d\n", link, p.Data, p.Length)
}

func (briefPackets) AppendEnd(dst []byte, e *render.End) []byte {
	return fmt.Appendf(dst, "end events=%d running=%d\n", e.Events, e.Running)
}

// feed gives records to a flow, each of which is overwritten then, as the ring buffer's
// are. Those of a graph have IDs.
func feed(tb testing.TB, f *Flow, records string) {
	tb.Helper()
	for text := range strings.SplitSeq(records, "; ") {
		spell := record
		kind, _, _ := strings.Cut(text, " ")
		if f.nodes != nil && kind != "packet" && kind != "raw" && kind != "more" {
			spell = node
		}
		raw := spell(tb, text)
		if !f.Record(raw) {
			tb.Errorf("%s: no limit, but reached", text)
		}
		for i := range raw {
			raw[i] = 'x'
		}
	}
}

// TestPackets: a packet is that of the entry behind it which says that it has one.
func TestPackets(t *testing.T) {
	both := spec.Entry | spec.Exit
	for records, wants := range map[string]map[spec.Mode]string{
		"packet 0 f1 abc; entry 0 f1 packet; exit 0 f1": {
			spec.Call: "call f0#1 ethernet abc/100", spec.Exit: "exit f0#1 ethernet abc/100", spec.Entry: "entry f0#1 ethernet abc/100",
			both: "entry f0#1 ethernet abc/100; exit f0#1 ethernet abc/100",
		},
		"raw 1 f1 abc; entry 1 f1 packet; exit 1 f1": {
			spec.Call: "call f1#1 raw abc/100", spec.Exit: "exit f1#1 raw abc/100", spec.Entry: "entry f1#1 raw abc/100",
			both: "entry f1#1 raw abc/100; exit f1#1 raw abc/100",
		},

		// The link is that of each.
		"raw 0 f1 a; entry 0 f1 packet; exit 0 f1; packet 0 f1 b; entry 0 f1 packet; exit 0 f1": {
			spec.Call: "call f0#1 raw a/100; call f0#2 ethernet b/100", spec.Entry: "entry f0#1 raw a/100; entry f0#2 ethernet b/100",
		},

		// None went before: it could not be told where it is, or it found no room.
		"entry 0 f1; exit 0 f1": {
			spec.Call: "call f0#1 none", spec.Exit: "exit f0#1 none", spec.Entry: "entry f0#1 none", both: "entry f0#1 none; exit f0#1 none",
		},
		"entry 0 f1 packet; exit 0 f1": {spec.Call: "call f0#1 none", spec.Entry: "entry f0#1 none"},

		// One waits whose entry was lost: it is not that of a later call.
		"packet 0 f1 old; entry 0 f1; exit 0 f1": {
			spec.Call: "call f0#1 none", spec.Exit: "exit f0#1 none", spec.Entry: "entry f0#1 none", both: "entry f0#1 none; exit f0#1 none",
		},
		"packet 0 f1 older; packet 0 f1 new; entry 0 f1 packet; exit 0 f1": {
			spec.Call: "call f0#1 ethernet new/100", spec.Entry: "entry f0#1 ethernet new/100",
		},
		"packet 0 f1 old; entry 0 f1; exit 0 f1; packet 0 f1 new; entry 0 f1 packet; exit 0 f1": {
			spec.Call: "call f0#1 none; call f0#2 ethernet new/100", both: "entry f0#1 none; exit f0#1 none; entry f0#2 ethernet new/100; exit f0#2 ethernet new/100",
		},
		"packet 0 f1 old; exit 0 f1 lost": {spec.Exit: "exit f0#1 none", both: "exit f0#1 none"},

		// A call's packet is not that of the next one, whether its exit came or not.
		"packet 0 f1 abc; entry 0 f1 packet; exit 0 f1; entry 0 f1 packet; exit 0 f1": {
			spec.Call: "call f0#1 ethernet abc/100; call f0#2 none", spec.Entry: "entry f0#1 ethernet abc/100; entry f0#2 none",
			both: "entry f0#1 ethernet abc/100; exit f0#1 ethernet abc/100; entry f0#2 none; exit f0#2 none",
		},
		"packet 0 f1 abc; entry 0 f1 packet; entry 0 f1; exit 0 f1": {
			spec.Call: "call f0#2 none", both: "entry f0#1 ethernet abc/100; entry f0#2 none; exit f0#2 none",
		},
		"packet 0 f1 abc; entry 0 f1 packet; exit 0 f1 lost; exit 0 f2": {spec.Exit: "exit f0#2 none; exit f0#3 none"},
		"packet 0 f1 a; entry 0 f1 packet; exit 0 f1 unwanted; packet 0 f1 b; entry 0 f1 packet; exit 0 f1": {
			spec.Call: "call f0#2 ethernet b/100", spec.Exit: "exit f0#2 ethernet b/100",
		},

		// Calls within one another, and on two CPUs, whose records come by turns.
		"packet 0 f1 outer; entry 0 f1 packet; raw 1 f2 inner; entry 1 f2 packet; exit 1 f2; exit 0 f1": {
			spec.Call: "call f1#2 raw inner/100; call f0#1 ethernet outer/100",
		},
		"packet 0 f1 one; packet 0 f2 two; entry 0 f1 packet; entry 0 f2 packet; exit 0 f1; exit 0 f2": {
			spec.Call:  "call f0#1 ethernet one/100; call f0#2 ethernet two/100",
			spec.Entry: "entry f0#1 ethernet one/100; entry f0#2 ethernet two/100",
		},
		"packet 0 f1 one; packet 0 f2 two; entry 0 f2 packet; entry 0 f1 packet; exit 0 f2; exit 0 f1": {
			spec.Call:  "call f0#1 ethernet two/100; call f0#2 ethernet one/100",
			spec.Entry: "entry f0#1 ethernet two/100; entry f0#2 ethernet one/100",
		},
		"packet 0 f1 one; entry 0 f3; packet 0 f2 two; entry 0 f2 packet; exit 0 f3; packet 0 f3 three; entry 0 f1 packet; exit 0 f2; entry 0 f3 packet; exit 0 f1; exit 0 f3": {
			spec.Call: "call f0#1 none; call f0#2 ethernet two/100; call f0#3 ethernet one/100; call f0#4 ethernet three/100",
		},

		// What calls leave is used again, by one at a time.
		"packet 0 f1 a; packet 0 f2 b; entry 0 f1 packet; entry 0 f2 packet; exit 0 f1; exit 0 f2; packet 0 f1 c; packet 0 f2 d; entry 0 f1 packet; entry 0 f2 packet; exit 0 f1; exit 0 f2": {
			spec.Call:  "call f0#1 ethernet a/100; call f0#2 ethernet b/100; call f0#3 ethernet c/100; call f0#4 ethernet d/100",
			spec.Entry: "entry f0#1 ethernet a/100; entry f0#2 ethernet b/100; entry f0#3 ethernet c/100; entry f0#4 ethernet d/100",
		},

		// Bytes of it come behind.
		"raw 0 f1 abc; more 0 f1 def; more 0 f1 ghi; entry 0 f1 packet; exit 0 f1": {
			spec.Call: "call f0#1 raw abcdefghi/100", spec.Exit: "exit f0#1 raw abcdefghi/100", spec.Entry: "entry f0#1 raw abcdefghi/100",
			both: "entry f0#1 raw abcdefghi/100; exit f0#1 raw abcdefghi/100",
		},
		"packet 0 f1 a; packet 1 f2 x; more 0 f1 b; more 1 f2 y; entry 1 f2 packet; more 0 f1 c; entry 0 f1 packet; exit 0 f1; exit 1 f2": {
			spec.Call: "call f0#2 ethernet abc/100; call f1#1 ethernet xy/100", spec.Entry: "entry f1#1 ethernet xy/100; entry f0#2 ethernet abc/100",
		},
		"packet 0 f1 old; more 0 f1 er; packet 0 f1 new; entry 0 f1 packet; exit 0 f1": {spec.Call: "call f0#1 ethernet new/100"},
		"packet 0 f1 a; more 0 f1 b; entry 0 f1 packet; exit 0 f1; packet 0 f1 c; entry 0 f1 packet; exit 0 f1": {
			spec.Call: "call f0#1 ethernet ab/100; call f0#2 ethernet c/100", spec.Entry: "entry f0#1 ethernet ab/100; entry f0#2 ethernet c/100",
		},

		// The first of them was lost: what is behind is none.
		"more 0 f1 def; entry 0 f1 packet; exit 0 f1":                  {spec.Call: "call f0#1 none"},
		"packet 0 f1 abc; entry 0 f1 packet; more 0 f1 def; exit 0 f1": {spec.Call: "call f0#1 ethernet abc/100"},

		// One of a whole call has none.
		"packet 0 f1 old; call 0 f1": {spec.Call: "call f0#1 none"},
	} {
		for mode, want := range wants {
			t.Run(records+": "+mode.String(), func(t *testing.T) {
				o := options(t, mode)
				o.Renderer = briefPackets{}
				f := New(o)
				given := records
				if mode == spec.Entry { // there are no exits then
					given = withoutExits(records)
				}
				feed(t, f, given)
				got := strings.ReplaceAll(strings.TrimSuffix(string(f.Take()), "\n"), "\n", "; ")
				if diff := cmp.Diff(strings.Split(want, "; "), strings.Split(got, "; ")); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
			})
		}
	}
}

func withoutExits(records string) string {
	var kept []string
	for text := range strings.SplitSeq(records, "; ") {
		if !strings.HasPrefix(text, "exit") {
			kept = append(kept, text)
		}
	}
	return strings.Join(kept, "; ")
}

// TestGraphPackets: a packet comes behind the entry of its node, and stays until that
// has ended.
func TestGraphPackets(t *testing.T) {
	for records, want := range map[string]string{
		"packet 0 f1 abc; node 0 1/0": `
leaf f0#1 ethernet abc/100
end events=1 running=0
`,
		"strings 1 1/0; raw 1 f1 abc; open 1 1/0; packet 0 f2/1 def; node 0 2/1; node 0 3/1; node 1 1/0 opened": `
open f1#1 raw abc/100
leaf f0#2 ethernet def/100
leaf f0#3 none
close f1#1 raw abc/100
end events=3 running=0
`,
		"open 0 1/0; packet 0 f2/1 abc; node 0 2/1; node 0 1/0 opened": `
open f0#1 none
leaf f0#2 ethernet abc/100
close f0#1 none
end events=2 running=0
`,
		"packet 0 f1 abc; lost 0 1/0": `
leaf f0#1 ethernet abc/100
end events=1 running=0
`,

		// Bytes of a packet come behind it.
		"packet 0 f1 abc; more 0 f1 def; open 0 1/0; raw 0 f2/1 x; more 0 f2/1 y; node 0 2/1; node 0 1/0 opened": `
open f0#1 ethernet abcdef/100
leaf f0#2 raw xy/100
close f0#1 ethernet abcdef/100
end events=2 running=0
`,

		// Trees of two CPUs.
		"packet 0 f1 one; packet 1 f1099511627777 two; strings 1 1099511627777/0; open 1 1099511627777/0; open 0 1/0; packet 0 f1099511627778/1 three; packet 0 f2/1 four; node 0 2/1; node 0 1099511627778/1; node 1 1099511627777/0 opened; node 0 1/0 opened": `
open f1#1099511627777 ethernet two/100
open f0#1 ethernet one/100
leaf f0#2 ethernet four/100
leaf f0#1099511627778 ethernet three/100
close f1#1099511627777 ethernet two/100
close f0#1 ethernet one/100
end events=4 running=0
`,

		// What has ended leaves nothing behind.
		"packet 0 f1 abc; node 0 1/0; open 0 1/0; node 0 1/0 opened": `
leaf f0#1 ethernet abc/100
open f0#1 none
close f0#1 none
end events=2 running=0
`,
	} {
		t.Run(records, func(t *testing.T) {
			o := graphOptions(t)
			o.Renderer = briefPackets{}
			f := New(o)
			feed(t, f, records)
			f.Finish(&render.End{})
			if diff := cmp.Diff(want, "\n"+string(f.Take())); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestRunningPacket shows the packets of nodes that had not returned.
func TestRunningPacket(t *testing.T) {
	o := graphOptions(t)
	o.Renderer = briefPackets{}
	f := New(o)
	feed(t, f, "packet 0 f1 abc; open 0 1/0; raw 0 f2/1 def")
	f.Running(node(t, "node 0 2/1"), 110)
	f.Running(node(t, "node 0 1/0 opened"), 110)
	f.Running(node(t, "node 0 3/0"), 110)
	const want = `
open f0#1 ethernet abc/100
leaf f0#2 raw def/100
close f0#1 ethernet abc/100
leaf f0#3 none
`
	if diff := cmp.Diff(want, "\n"+string(f.Take())); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// named is a renderer whose lines tell which it is.
type named struct {
	name string
	all  *[]string
}

func (n named) Grow(targets []*plan.Target) {
	for _, t := range targets {
		*n.all = append(*n.all, n.name+" "+t.Func)
	}
}

func (n named) AppendStart(dst []byte, s *render.Start) []byte {
	return fmt.Appendf(dst, "%s start %s\n", n.name, s.Kernel)
}

func (n named) AppendEvent(dst []byte, e *render.Event) []byte {
	return briefPackets{}.AppendEvent(append(dst, n.name+" "...), e)
}

func (n named) AppendEnd(dst []byte, e *render.End) []byte {
	return briefPackets{}.AppendEnd(append(dst, n.name+" "...), e)
}

// TestCapture: both outputs are given the same.
func TestCapture(t *testing.T) {
	for name, test := range map[string]struct {
		mode    spec.Mode
		records string
		want    string
	}{
		"calls": {spec.Call, "packet 0 f1 abc; entry 0 f1 packet; entry 0 f2; exit 0 f1; exit 0 f2", `
- start 6.12
- call f0#1 ethernet abc/100
- call f0#2 none
- end events=2 running=0
`},
		"entries": {spec.Entry, "packet 0 f1 abc; entry 0 f1 packet", `
- start 6.12
- entry f0#1 ethernet abc/100
- end events=1 running=0
`},
		"entries and exits": {spec.Entry | spec.Exit, "packet 0 f1 abc; entry 0 f1 packet; exit 0 f1; exit 0 f2", `
- start 6.12
- entry f0#1 ethernet abc/100
- exit f0#1 ethernet abc/100
- exit f0#2 none
- end events=3 running=0
`},
		"whole calls": {spec.Call, "call 0 f1", `
- start 6.12
- call f0#1 none
- end events=1 running=0
`},
		"graph": {0, "packet 0 f1 abc; open 0 1/0; node 0 2/1; node 0 1/0 opened", `
- start 6.12
- open f0#1 ethernet abc/100
- leaf f0#2 none
- close f0#1 ethernet abc/100
- leaf f0#3 none
- end events=3 running=1
`},
	} {
		t.Run(name, func(t *testing.T) {
			var grown []string
			o := options(t, test.mode)
			if o.Graph = test.mode == 0; o.Graph {
				o.Mode = spec.Call
			}
			o.Renderer, o.Capture = named{"shown", &grown}, named{"captured", &grown}
			f := New(o)
			var shown, captured strings.Builder
			take := func() {
				shown.Write(f.Take())
				captured.Write(f.TakeCapture())
			}
			f.Start(&render.Start{Kernel: "6.12"})
			take()
			for text := range strings.SplitSeq(test.records, "; ") {
				feed(t, f, text)
				take()
			}
			if o.Graph {
				f.Running(node(t, "node 0 3/0"), 110)
				f.Grow(o.Targets[:1], o.Shapes[:1])
				if diff := cmp.Diff([]string{"shown f0", "captured f0"}, grown); diff != "" {
					t.Errorf("grown (-want +got)\n%s", diff)
				}
			}
			f.Finish(&render.End{})
			take()
			take() // what was taken is gone
			for what, got := range map[string]string{"shown": shown.String(), "captured": captured.String()} {
				if diff := cmp.Diff(test.want, "\n"+strings.ReplaceAll(got, what+" ", "- ")); diff != "" {
					t.Errorf("%s (-want +got)\n%s", what, diff)
				}
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		f := New(options(t, spec.Call))
		f.Start(&render.Start{})
		feed(t, f, "entry 0 f1; exit 0 f1")
		f.Finish(&render.End{})
		if out := f.TakeCapture(); len(out) > 0 {
			t.Errorf("%s", out)
		}
	})
}

// TestPacketLimit: packets are no events.
func TestPacketLimit(t *testing.T) {
	for _, graph := range []bool{false, true} {
		o := options(t, spec.Entry)
		o.Graph, o.Limit, o.Renderer = graph, 1, briefPackets{}
		f := New(o)
		feed(t, f, "packet 0 f1 abc; packet 0 f2/1 def")
		entry := record(t, "entry 0 f1 packet")
		if graph {
			entry = node(t, "node 0 1/0")
		}
		if f.Record(entry) || f.Events() != 1 || !strings.HasSuffix(string(f.Take()), " ethernet abc/100\n") {
			t.Errorf("graph %v: %d events", graph, f.Events())
		}
		if f.Record(record(t, "packet 0 f3 ghi")) {
			t.Errorf("graph %v: a packet is wanted behind the limit", graph)
		}
	}
}

// TestPacketTag: a tag beside a packet is put behind the Ethernet addresses, if these are
// there, and kept where there are none.
func TestPacketTag(t *testing.T) {
	tag := packet.Tag{Proto: packet.EtherQinQ, TCI: 0xe005}
	const addresses = "destin" + "source"
	for name, test := range map[string]struct {
		record wiretest.Packet
		more   string
		want   calls.Packet
	}{
		"Ethernet":           {wiretest.Packet{Data: []byte(addresses + "\x08\x00E")}, "", calls.Packet{Length: 104, Data: []byte(addresses + "\x88\xa8\xe0\x05\x08\x00E")}},
		"in fragments":       {wiretest.Packet{Data: []byte(addresses)}, "\x08\x00E", calls.Packet{Length: 104, Data: []byte(addresses + "\x88\xa8\xe0\x05\x08\x00E")}},
		"less than its room": {wiretest.Packet{Data: []byte(addresses[:11])}, "", calls.Packet{Length: 104, Data: []byte(addresses[:11])}},
		"raw":                {wiretest.Packet{Raw: true, Data: []byte("E from addresses")}, "", calls.Packet{Link: packet.Raw, Tag: tag, Length: 100, Data: []byte("E from addresses")}},
	} {
		t.Run(name, func(t *testing.T) {
			p := packets{}
			// What an older packet has left must not show.
			p.free = append(p.free, &calls.Packet{Link: packet.Raw, Tag: packet.Tag{Proto: 1, TCI: 2}, Length: 3, Data: []byte("older")})
			for i, data := range []string{string(test.record.Data), test.more} {
				raw := test.record
				raw.Frame, raw.Length, raw.Proto, raw.TCI, raw.Data, raw.More = 1, 100, tag.Proto, tag.TCI, []byte(data), i > 0
				r, err := event.DecodePacket(raw.Bytes(), 1)
				if err != nil {
					t.Fatal(err)
				}
				p.note(&r)
			}
			if p.bytes != len(test.want.Data) {
				t.Errorf("%d bytes are counted", p.bytes)
			}
			if diff := cmp.Diff(test.want, *p.take(1)); diff != "" || p.bytes != 0 {
				t.Errorf("%d bytes are left, (-want +got)\n%s", p.bytes, diff)
			}
		})
	}
}

func TestPacketUndecoded(t *testing.T) {
	for _, graph := range []bool{false, true} {
		o := options(t, spec.Entry)
		o.Graph, o.Renderer = graph, briefPackets{}
		f := New(o)
		large := record(t, "packet 0 f1 abc")
		binary.LittleEndian.PutUint32(large[sizeAt:], 129)
		for i, raw := range [][]byte{
			record(t, "packet 3 f1 abc"), // there are three targets
			record(t, "packet 0 f1 abc")[:90],
			record(t, "packet 0 f1 abc")[:wire.RecordSize+wire.PacketSize-1],
			record(t, "packet 0 f1 abc")[:wire.RecordSize],
			large,
		} {
			if !f.Record(raw) {
				t.Fatal("no limit, but reached")
			}
			if diff := cmp.Diff([]uint64{0, 0, 0, uint64(i + 1)}, f.Undecoded()); diff != "" {
				t.Errorf("graph %v, record %d (-want +got)\n%s", graph, i, diff)
			}
		}
		f.Record(record(t, "packet 2 f2 abc"))
		if graph {
			feed(t, f, "node 0 1/0")
		} else {
			feed(t, f, "entry 0 f1 packet")
		}
		if out := string(f.Take()); !strings.HasSuffix(out, "#1 none\n") || f.Undecoded()[3] != 5 {
			t.Errorf("graph %v: %d undecoded, %s", graph, f.Undecoded()[3], out)
		}
	}
}

// TestPacketsForgotten: packets of calls that never come are not kept for ever.
func TestPacketsForgotten(t *testing.T) {
	o := options(t, spec.Entry)
	o.Renderer = briefPackets{}
	f := New(o)
	raw := wiretest.Packet{Data: make([]byte, wire.MaxPacket)}.Bytes()
	for i := range uint64(3 * maxPending / wire.MaxPacket) {
		binary.LittleEndian.PutUint64(raw[frameAt:], 1000+i)
		f.Record(raw)
		if n := len(f.packets.pending); n*wire.MaxPacket > maxPending+2*wire.MaxPacket {
			t.Fatalf("%d packets wait", n)
		}
	}
	feed(t, f, "packet 0 f1 def; entry 0 f1 packet")
	if out := string(f.Take()); out != "entry f0#1 ethernet def/100\n" {
		t.Error(out)
	}
}

// TestNodePacketsForgotten: nodes whose end is not sent, as they were short, leave no
// packets behind, and take none away from others.
func TestNodePacketsForgotten(t *testing.T) {
	o := options(t, spec.Call)
	o.Renderer, o.Graph = briefPackets{}, true
	f := New(o)
	feed(t, f, "packet 0 f1 abc")
	raw := record(t, "packet 0 f2/1 def")
	for i := range uint64(1 << 17) {
		binary.LittleEndian.PutUint64(raw[frameAt:], 2+i)
		f.Record(raw)
	}
	feed(t, f, "node 0 1/0")
	if out := string(f.Take()); out != "leaf f0#1 ethernet abc/100\n" {
		t.Error(out)
	}
	for tree, open := range f.packets.nodes {
		if len(open) > 0 {
			t.Errorf("%d packets are left of tree %d", len(open), tree)
		}
	}
}

// Offsets in records: of the frame, or a node's ID, and of a packet's size.
const (
	frameAt = 8
	sizeAt  = wire.RecordSize + 32
)

// TestPacketNoAllocation: each call has a frame, or an ID, that is new.
func TestPacketNoAllocation(t *testing.T) {
	data := append([]byte{0x45, 0, 0, 84, 0, 1, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 8, 0, 0, 0, 0, 7, 0, 1}, make([]byte, 200)...)
	for _, format := range []string{"text", "json", "pcap"} {
		for name, graph := range map[string]bool{format: false, format + "_graph": true} {
			t.Run(name, func(t *testing.T) {
				o := options(t, spec.Entry|spec.Exit)
				for _, target := range o.Targets {
					target.Packet = &plan.PacketParam{}
				}
				o.Graph = graph
				switch format {
				case "json":
					o.Renderer = render.NewJSON(o.Targets, nil)
				case "text":
					o.Renderer = render.NewText(o.Targets, nil, render.TextOptions{Location: time.UTC})
				default:
					o.Renderer, o.Capture = briefNothing{}, render.NewPcap(o.Targets, nil, render.PcapOptions{Snaplen: 256})
				}
				f := New(o)
				f.Start(&render.Start{})
				entry := wiretest.Entry{Time: 1e9, Target: 2, Comm: "ping", Words: []uint64{1}, HasPacket: true}.Bytes()
				packets := [][]byte{
					wiretest.Packet{Target: 2, Raw: true, Length: 84, Data: data[:84]}.Bytes(),
					wiretest.Packet{Target: 2, Raw: true, Length: 228, Data: data}.Bytes(), // another room
				}
				more := wiretest.Packet{Target: 2, More: true, Data: data}.Bytes()
				behind := [][]byte{more, entry, wiretest.Exit{Time: 1e9 + 100, Target: 2}.Bytes()}
				if graph {
					place := wiretest.Place{Entry: 1e9, ID: 1, Target: 2}
					opened := place
					opened.Opened = true
					words := []uint64{1}
					behind = [][]byte{more, wiretest.Open{Place: place, Words: words}.Bytes(), wiretest.Node{Place: opened, Words: words}.Bytes()}
				}
				records := [][][]byte{append(packets[:1:1], behind...), append(packets[1:2:2], behind...)}
				n := uint64(0)
				call := func() {
					n++
					for _, r := range records[n%2] {
						binary.LittleEndian.PutUint64(r[frameAt:], 0xffffc90000123e48+16*n)
						f.Record(r)
					}
					if len(f.Take())+len(f.TakeCapture()) == 0 {
						t.Fatal("nothing shown")
					}
				}
				call()
				call()
				if n := testing.AllocsPerRun(1000, call); n != 0 {
					t.Errorf("%v allocations a call", n)
				}
			})
		}
	}
}

// briefNothing renders nothing.
type briefNothing struct{ brief }

func (briefNothing) AppendEvent(dst []byte, e *render.Event) []byte { return dst }
