package render

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"

	"fgtrace/internal/golden"
	"fgtrace/tracer/calls"
)

func TestPerfetto(t *testing.T) {
	for _, graph := range graphs(t) {
		t.Run(graph.name, func(t *testing.T) {
			got := graph.render(NewPerfetto(values(graph.all), names{}))
			golden.Check(t, "perfetto/"+graph.name+".golden", got)
			checkPerfetto(t, []byte(got), graph.events)
		})
	}
}

// traceEvent is an event as a reader of the format sees it.
type traceEvent struct {
	Name, Cat, Ph string
	Ts, Dur       json.Number
	Pid, Tid      uint32
	Args          map[string]any
}

// ns returns a time in ns, if it is a whole number of them.
func ns(t *testing.T, us json.Number) uint64 {
	t.Helper()
	r, ok := new(big.Rat).SetString(us.String())
	if !ok || !r.Mul(r, big.NewRat(1000, 1)).IsInt() {
		t.Fatalf("time %q", us)
	}
	return r.Num().Uint64()
}

func checkPerfetto(t *testing.T, out []byte, events []*Event) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(out))
	d.UseNumber()
	var all []traceEvent
	if err := d.Decode(&all); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	type span struct{ from, to uint64 }
	tracks, named := map[track][]span{}, map[track]bool{}
	byID := map[string]traceEvent{}
	for _, e := range all {
		at := track{e.Pid, e.Tid}
		if e.Ph == "M" {
			named[at] = named[at] || e.Name == "thread_name"
		}
		if e.Ph != "X" {
			continue
		}
		byID[fmt.Sprint(e.Args["id"])] = e
		from := ns(t, e.Ts)
		tracks[at] = append(tracks[at], span{from, from + ns(t, e.Dur)})
	}
	for at, spans := range tracks {
		if !named[at] {
			t.Errorf("track %v has no name", at)
		}
		slices.SortFunc(spans, func(a, b span) int {
			if a.from != b.from {
				return int(int64(a.from) - int64(b.from))
			}
			return int(int64(b.to) - int64(a.to))
		})
		var open []span
		for _, s := range spans {
			for len(open) > 0 && open[len(open)-1].to <= s.from {
				open = open[:len(open)-1]
			}
			if len(open) > 0 && open[len(open)-1].to < s.to {
				t.Errorf("track %v: %v overlaps %v", at, s, open[len(open)-1])
			}
			open = append(open, s)
		}
	}
	for _, e := range events {
		if e.Kind == Open {
			continue
		}
		c := e.Call
		got, ok := byID[strconv.FormatUint(c.ID, 10)]
		delete(byID, strconv.FormatUint(c.ID, 10))
		if !ok {
			t.Errorf("no event for call %d", c.ID)
			continue
		}
		if got.Name != displayName(e.Target.Func) || got.Cat != c.Node.Context.String() || ns(t, got.Ts) != c.Entry {
			t.Errorf("call %d: %+v", c.ID, got)
		}
		if c.Node.End == calls.Returned && ns(t, got.Dur) != c.Duration() {
			t.Errorf("call %d of %dns: %sus", c.ID, c.Duration(), got.Dur)
		}
		if at := trackOf(c); at != (track{got.Pid, got.Tid}) {
			t.Errorf("call %d is not on %v: %+v", c.ID, at, got)
		}
		args := got.Args["args"].(map[string]any)
		if len(args) != len(e.Target.Params) {
			t.Errorf("call %d has arguments %v", c.ID, args)
		}
		for _, p := range e.Target.Params {
			if _, ok := args[p.Name].(string); !ok {
				t.Errorf("call %d: %s is %v", c.ID, p.Name, args[p.Name])
			}
		}
		want := "context cpu module id parent args end"
		if c.Node.End == calls.Returned {
			want = "context cpu module id parent args retval own_ns"
			if fmt.Sprint(got.Args["own_ns"]) != strconv.FormatUint(c.Own(), 10) {
				t.Errorf("call %d: own time %v, not %d", c.ID, got.Args["own_ns"], c.Own())
			}
		}
		for _, name := range strings.Fields(want) {
			if got.Args[name] == nil {
				t.Errorf("call %d has no %s", c.ID, name)
			}
		}
		if len(got.Args) != len(strings.Fields(want)) {
			t.Errorf("call %d: %v", c.ID, got.Args)
		}
	}
	if len(byID) > 0 {
		t.Errorf("calls that were not: %v", byID)
	}
}

// TestPerfettoCut reads what a tracer wrote that was killed, as Perfetto does: an
// array of events that may end after any of them.
func TestPerfettoCut(t *testing.T) {
	all := targets(t)
	r := NewPerfetto(values(all), names{})
	out := r.AppendStart(nil, start)
	for _, e := range interleaved(&graph{all: all}) {
		out = r.AppendEvent(out, e)
		if !json.Valid(append(slices.Clone(out), ']')) {
			t.Fatalf("not an array without its end: %s", out)
		}
	}
}

// TestPerfettoRounded reads times as Perfetto does, which multiplies and cuts.
func TestPerfettoRounded(t *testing.T) {
	all := targets(t)
	r := NewPerfetto(values(all), names{})
	cut := func(us json.Number) int64 {
		f, err := us.Float64()
		if err != nil {
			t.Fatal(err)
		}
		return int64(f * 1000)
	}
	g := &graph{all: all}
	for i := uint64(0); i < 2000; i++ {
		to := 7_213_463_424_000 + i
		root := call("icmp_rcv", to-1_024_001-3*i, to, call("schedule", to-1_000_000-2*i, to, call("lookup", to-900_007-i, to).ends(calls.Running)).ends(calls.Running)).ends(calls.Running)
		var parent int64
		for _, e := range slices.Backward(g.events(owner{"cat", 1, 1, 0}, root)) {
			if e.Kind == Open {
				continue
			}
			out := r.AppendEvent(nil, e)
			var got traceEvent
			if err := json.Unmarshal(out[bytes.LastIndexByte(out, '\n')+1:], &got); err != nil {
				t.Fatal(err)
			}
			end := cut(got.Ts) + cut(got.Dur)
			if e.Call.Node.Depth > 0 && end > parent {
				t.Fatalf("ends %d ns after its parent: %s", end-parent, out)
			}
			parent = end
		}
	}
}

func TestPerfettoNoAllocation(t *testing.T) {
	all := targets(t)
	r := NewPerfetto(values(all), names{})
	var out []byte
	for _, e := range torn(&graph{all: all}) {
		out = r.AppendEvent(out[:0], e)
		if n := testing.AllocsPerRun(100, func() { out = r.AppendEvent(out[:0], e) }); n != 0 {
			t.Errorf("%s: %v allocations", e.Target.Func, n)
		}
	}
}

// FuzzFormats gives nodes in any order, which no flow does.
func FuzzFormats(f *testing.F) {
	f.Add([]byte("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09"))
	all := targets(f)
	list := values(all)
	f.Fuzz(func(t *testing.T, data []byte) {
		perfetto, folded, summary := NewPerfetto(list, nil), NewFolded(list), NewSummary(list)
		out := perfetto.AppendStart(nil, start)
		var events []*Event
		for i := 0; i+8 <= len(data); i += 8 {
			d := data[i:]
			target := index(all, "schedule")
			c := &calls.Call{
				ID: uint64(i/8 + 1), Target: target, Tid: uint32(d[0] % 4), CPU: uint16(d[1] % 2), Entered: true,
				Entry: uint64(d[2]), Exit: uint64(d[2]) + uint64(d[3]),
				Node: calls.Node{Parent: uint64(d[4]), Depth: int(d[5] % 8), Context: calls.Context(d[6] % 4), End: calls.End(d[7] % 3), Below: uint64(d[6])},
			}
			binary.LittleEndian.PutUint64(c.Comm[:], uint64(d[0]))
			e := &Event{Kind: Leaf, Call: c, Target: list[target]}
			events = append(events, e)
			out = perfetto.AppendEvent(out, e)
			folded.AppendEvent(nil, e)
			summary.AppendEvent(nil, e)
		}
		if !json.Valid(perfetto.AppendEnd(out, &End{})) {
			t.Errorf("%s", out)
		}
		checkFolded(t, string(folded.AppendEnd(nil, &End{})), events)
		summary.AppendEnd(nil, &End{})
	})
}
