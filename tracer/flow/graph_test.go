package flow

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fgtrace/internal/wiretest"
	"fgtrace/tracer/calls"
	"fgtrace/tracer/event"
	"fgtrace/tracer/plan"
	"fgtrace/tracer/render"
	"fgtrace/tracer/spec"
)

// briefNodes renders an event as "leaf f0#1", and what it is asked to grow by.
type briefNodes struct{ brief }

func (briefNodes) AppendEvent(dst []byte, e *render.Event) []byte {
	kind := map[render.Kind]string{render.Open: "open", render.Leaf: "leaf", render.Close: "close"}[e.Kind]
	dst = fmt.Appendf(dst, "%s %s#%d", kind, e.Target.Func, e.Call.ID)
	switch {
	case !e.Call.Entered:
		dst = append(dst, " ?"...)
	case e.Target.Strings() > 0:
		s, _, errno := event.String(e.Call.Strings, 0)
		dst = fmt.Appendf(dst, " %q %d", s, errno)
	}
	switch e.Call.Node.End {
	case calls.ExitLost:
		dst = append(dst, " lost"...)
	case calls.Running:
		dst = fmt.Appendf(dst, " running %d", e.Call.Duration())
	}
	return append(dst, '\n')
}

func (briefNodes) AppendEnd(dst []byte, e *render.End) []byte {
	return fmt.Appendf(dst, "end events=%d running=%d roots=%d lost=%d\n", e.Events, e.Running, e.Roots, e.ExitLost)
}

func graphOptions(tb testing.TB) Options {
	o := options(tb, spec.Call)
	o.Graph, o.Renderer = true, briefNodes{}
	return o
}

// node makes one of "open 0 7/1", "strings 1 8/2", "node 0 7/1", "lost 0 7/1" and
// "seen 3 2": kind, target, ID and depth, and an optional "opened"; or the number
// of a function and how many nodes were under way.
func node(tb testing.TB, text string) []byte {
	tb.Helper()
	var kind, opened string
	p := wiretest.Place{Entry: 10}
	if strings.HasPrefix(text, "seen ") {
		var s wiretest.Seen
		if _, err := fmt.Sscanf(text, "seen %d %d", &s.Number, &s.Depth); err != nil {
			tb.Fatalf("%q: %v", text, err)
		}
		return s.Bytes()
	}
	if _, err := fmt.Sscanf(text+" .", "%s %d %d/%d %s", &kind, &p.Target, &p.ID, &p.Depth, &opened); err != nil {
		tb.Fatalf("%q: %v", text, err)
	}
	p.Opened = opened == "opened"
	switch kind {
	case "open":
		return wiretest.Open{Place: p, Words: []uint64{1}}.Bytes()
	case "strings":
		return wiretest.Strings{Place: p, Strings: []wiretest.String{wiretest.Text("lo")}}.Bytes()
	case "lost":
		p.ExitLost = true
	case "node":
	default:
		tb.Fatalf("what is %q?", text)
	}
	return wiretest.Node{Place: p, Exit: 20, Words: []uint64{1}}.Bytes()
}

func runGraph(tb testing.TB, f *Flow, records string) string {
	tb.Helper()
	for text := range strings.SplitSeq(records, "; ") {
		if more := f.Record(node(tb, text)); more == f.Full() {
			tb.Errorf("%s: more is %v at %d events", text, more, f.Events())
		}
	}
	f.Finish(&render.End{})
	return string(f.Take())
}

func TestGraph(t *testing.T) {
	for name, test := range map[string]struct{ records, want string }{
		"a root": {"node 0 1/0", `
leaf f0#1
end events=1 running=0 roots=1 lost=0
`},
		"nested": {"strings 1 1/0; open 1 1/0; node 0 2/1; open 0 3/1; node 0 4/2; node 0 3/1 opened; node 1 1/0 opened", `
open f1#1 "lo" 0
leaf f0#2
open f0#3
leaf f0#4
close f0#3
close f1#1 "lo" 0
end events=4 running=0 roots=1 lost=0
`},
		"not told of early": {"node 0 2/1; node 0 1/0", `
leaf f0#2
leaf f0#1
end events=2 running=0 roots=1 lost=0
`},
		"exits and strings lost": {"lost 1 2/1; lost 0 1/0 opened", `
leaf f1#2 "" 14 lost
close f0#1 lost
end events=2 running=0 roots=1 lost=2
`},
		"seen": {"seen 3 2; node 0 1/0; seen 65535 1", `
leaf f0#1
end events=1 running=0 roots=1 lost=0
`},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, "\n"+runGraph(t, New(graphOptions(t)), test.records)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestGraphLimit counts nodes that have ended, and nothing else.
func TestGraphLimit(t *testing.T) {
	const records = "open 0 1/0; seen 1 1; strings 1 2/1; open 1 2/1; node 1 2/1 opened; node 0 3/1; node 0 1/0 opened; open 0 4/0; node 0 4/0"
	const all = `
open f0#1
open f1#2 "lo" 0
close f1#2 "lo" 0
leaf f0#3
close f0#1
open f0#4
leaf f0#4
`
	for limit, lines := range map[uint64]int{0: 7, 1: 3, 2: 4, 3: 5, 4: 7} {
		o := graphOptions(t)
		o.Limit = limit
		f := New(o)
		got := runGraph(t, f, records)
		want := strings.Join(strings.SplitAfter(all[1:], "\n")[:lines], "")
		if got, _, _ := strings.Cut(got, "end"); got != want {
			t.Errorf("limit %d (-want +got)\n%s", limit, cmp.Diff(want, got))
		}
		if limit > 0 && f.Events() != limit {
			t.Errorf("limit %d: %d events", limit, f.Events())
		}
	}
}

func TestGraphCallbacks(t *testing.T) {
	var got []string
	o := graphOptions(t)
	o.Root = func(c *calls.Call) { got = append(got, fmt.Sprintf("root %d %d..%d", c.ID, c.Entry, c.Exit)) }
	o.Seen = func(number uint64, depth int) { got = append(got, fmt.Sprintf("seen %d %d", number, depth)) }
	f := New(o)
	runGraph(t, f, "open 0 1/0; seen 3 1; node 0 2/1; node 0 1/0 opened; lost 0 4/0; seen 9 63")
	f.Running(node(t, "node 0 5/0"), 50)
	want := []string{"seen 3 1", "root 1 10..20", "root 4 10..20", "seen 9 63"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestGrow adds targets while records flow.
func TestGrow(t *testing.T) {
	o := graphOptions(t)
	all, shapes := o.Targets, o.Shapes
	o.Targets, o.Shapes = all[:1:1], shapes[:1:1]
	f := New(o)
	f.Record(node(t, "node 0 2/1"))
	f.Record(node(t, "node 1 3/1")) // nobody knows it yet
	f.Record(nil)
	f.Grow(all[1:], shapes[1:])
	f.Record(node(t, "strings 1 4/1"))
	f.Record(node(t, "node 1 4/1"))
	f.Record(node(t, "node 2 5/1"))
	f.Record(node(t, "node 3 6/1"))
	f.Grow(nil, nil)
	f.Finish(&render.End{})
	const want = `
leaf f0#2
leaf f1#4 "lo" 0
leaf icmp_rcv#5
end events=3 running=0 roots=0 lost=0
`
	if diff := cmp.Diff(want, "\n"+string(f.Take())); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]uint64{0, 0, 0, 3}, f.Undecoded()); diff != "" {
		t.Errorf("undecoded (-want +got)\n%s", diff)
	}
	if len(o.Targets) != 1 {
		t.Errorf("the options have %d targets", len(o.Targets))
	}
}

// TestGrowRenderers adds targets to each output.
func TestGrowRenderers(t *testing.T) {
	all := targets(t)
	for name, r := range map[string]render.Renderer{
		"text": render.NewText(all[:1], nil, render.TextOptions{Location: time.UTC}), "json": render.NewJSON(all[:1], nil),
		"perfetto": render.NewPerfetto(all[:1], nil), "folded": render.NewFolded(all[:1]), "summary": render.NewSummary(all[:1]),
	} {
		t.Run(name, func(t *testing.T) {
			o := graphOptions(t)
			shapes := o.Shapes
			o.Targets, o.Shapes, o.Renderer = all[:1], shapes[:1:1], r
			f := New(o)
			f.Start(&render.Start{})
			f.Grow(all[1:], shapes[1:])
			f.Record(node(t, "node 2 1/0"))
			f.Finish(&render.End{})
			if out := string(f.Take()); !strings.Contains(out, "icmp_rcv") {
				t.Errorf("%s", out)
			}
		})
	}
}

func TestRunning(t *testing.T) {
	f := New(graphOptions(t))
	f.Record(node(t, "strings 1 1/0"))
	f.Record(node(t, "open 1 1/0"))
	f.Record(node(t, "node 0 2/1"))
	f.Running(node(t, "node 0 3/1"), 110)
	f.Running(node(t, "node 1 1/0 opened"), 110)
	for _, raw := range [][]byte{nil, node(t, "open 0 4/0"), node(t, "node 9 4/0"), node(t, "seen 1 1")} {
		f.Running(raw, 110)
	}
	f.Finish(&render.End{Running: 10})
	const want = `
open f1#1 "lo" 0
leaf f0#2
leaf f0#3 running 100
close f1#1 "lo" 0 running 100
end events=3 running=12 roots=0 lost=0
`
	if diff := cmp.Diff(want, "\n"+string(f.Take())); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got := f.Undecoded()[3]; got != 4 {
		t.Errorf("%d undecoded", got)
	}
}

// renderers are all outputs that a graph has.
func renderers(all []*plan.Target) []render.Renderer {
	return []render.Renderer{
		render.NewText(all, nil, render.TextOptions{Location: time.UTC}), render.NewJSON(all, nil), render.NewPerfetto(all, nil),
		render.NewFolded(all), render.NewSummary(all),
	}
}

func FuzzGraph(f *testing.F) {
	for _, text := range []string{"open 0 1/0", "strings 1 1/0", "node 1 1/0", "node 0 2/1 opened", "seen 1 2", "lost 0 1/0"} {
		f.Add(node(f, text), node(f, "node 0 1/0"), node(f, "node 1 2/63"))
	}
	deep := wiretest.Node{Place: wiretest.Place{ID: 1, Depth: 255, Context: 255, Outer: 7}, Exit: 1<<64 - 1, Words: []uint64{1}}.Bytes()
	f.Add(deep, deep, deep)
	all := targets(f)
	f.Fuzz(func(t *testing.T, first, second, third []byte) {
		for _, r := range renderers(all[:2]) {
			o := Options{Mode: spec.Call, Targets: all[:2], Renderer: r, Graph: true}
			for _, target := range all {
				o.Shapes = append(o.Shapes, target.Shape(false))
			}
			shapes := o.Shapes
			o.Shapes = shapes[:2:2]
			fl := New(o)
			fl.Start(&render.Start{})
			for _, raw := range [][]byte{first, second, third} {
				if !fl.Record(raw) {
					t.Fatal("no limit, but reached")
				}
			}
			fl.Grow(all[2:], shapes[2:])
			for _, raw := range [][]byte{third, second, first} {
				fl.Record(raw)
				fl.Running(raw, 100)
			}
			undecoded := uint64(0)
			for _, n := range fl.Undecoded() {
				undecoded += n
			}
			if fl.Events()+undecoded > 9 {
				t.Fatalf("%d events and %d undecoded of 9 records", fl.Events(), undecoded)
			}
			fl.Finish(&render.End{})
			fl.Take()
		}
	})
}

// graphOutput is a flow of a graph, and the records of a call of icmp_rcv in one of
// f1, which has a string.
func graphOutput(tb testing.TB, format string) (f *Flow, records [][]byte) {
	tb.Helper()
	o := options(tb, spec.Call)
	o.Graph = true
	if format == "json" {
		o.Renderer = render.NewJSON(o.Targets, nil)
	} else {
		o.Renderer = render.NewText(o.Targets, nil, render.TextOptions{Location: time.UTC})
	}
	outer := wiretest.Place{Entry: 1e9, ID: 1<<40 | 1, Pid: 492, Tid: 492, Target: 1, Comm: "ping", Opened: true}
	inner := wiretest.Place{
		Entry: 1e9 + 100, ID: 1<<40 | 2, Parent: outer.ID, Pid: 492, Tid: 492, Target: 2, Comm: "ping", Depth: 1, Context: 1,
	}
	words := []uint64{0xffff888003a1b700, 0, 0, 0, 0, 0}
	return New(o), [][]byte{
		wiretest.Strings{Place: outer, Strings: []wiretest.String{wiretest.Text("lo")}}.Bytes(),
		wiretest.Open{Place: outer, Words: words}.Bytes(),
		wiretest.Node{Place: inner, Exit: 1e9 + 2174, Words: words}.Bytes(),
		wiretest.Node{Place: outer, Exit: 1e9 + 3000, Words: words}.Bytes(),
	}
}

func TestGraphNoAllocation(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			f, records := graphOutput(t, format)
			tree := func() {
				for _, r := range records {
					f.Record(r)
				}
				if len(f.Take()) == 0 {
					t.Fatal("nothing shown")
				}
			}
			tree()
			if n := testing.AllocsPerRun(1000, tree); n != 0 {
				t.Errorf("%v allocations a tree", n)
			}
		})
	}
}

// BenchmarkNode takes a node that no others are made in.
func BenchmarkNode(b *testing.B) {
	for _, format := range []string{"text", "json"} {
		b.Run(format, func(b *testing.B) {
			f, records := graphOutput(b, format)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				f.Record(records[2])
				if i%1000 == 0 {
					f.Take()
				}
			}
		})
	}
}
