package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"

	"fgtrace/arch"
	"fgtrace/internal/btftest"
	"fgtrace/internal/golden"
	"fgtrace/internal/wiretest"
	"fgtrace/tracer/calls"
	"fgtrace/tracer/plan"
)

// withRaw adds functions that have no prototype to targets: their parameters are
// registers.
func withRaw(t *testing.T, all map[string]*plan.Target) map[string]*plan.Target {
	t.Helper()
	u64 := btftest.Func("f", nil, "a", &btf.Int{Name: "long unsigned int", Size: 8})
	k := &plan.Kernel{
		Arch: arch.AMD64(), Types: btftest.Types(t, u64), Modules: func() ([]plan.Module, error) { return nil, nil },
	}
	raw, _, err := k.Callees([]plan.Callee{{Func: "static_fn"}, {Func: "tcf_act", Module: "act_api"}})
	if err != nil || len(raw) != 2 {
		t.Fatalf("%d targets, %v", len(raw), err)
	}
	for _, target := range raw {
		all[target.Func] = target
	}
	return all
}

// shows is a node of a function with what it was given.
func shows(s shown, from, to uint64, below ...node) node {
	return node{shown: s, from: from, to: to, below: below}
}

// unknown is a node whose arguments are not known.
func (n node) unknown() node { n.noEntry = true; return n }

// nested are graphs of all kinds, by name.
func nested(g *graph) []struct {
	name   string
	events []*Event
} {
	o := owner{"ping", 492, 492, 3}
	long := strings.Repeat("a long name ", 10)
	deep := call("schedule", 1_000_000_000+63, 1_000_002_000-63)
	for i := range 63 {
		at := uint64(62 - i)
		deep = shows(shown{fn: "open_file", words: words(pointer, at), strings: texts(wiretest.Text(long))}, 1_000_000_000+at, 1_000_002_000-at, deep)
	}
	many := slices.Repeat([]uint64{pointer + 1}, 6)
	return []struct {
		name   string
		events []*Event
	}{
		{"a leaf", g.events(o, call("icmp_rcv", 1_000_000_000, 1_000_000_812))},
		{"nested", g.events(o, call("icmp_rcv", 1_000_000_000, 1_000_009_000,
			call("schedule", 1_000_000_100, 1_000_000_200),
			call("lookup", 1_000_001_000, 1_000_008_000, call("is_set", 1_000_002_000, 1_000_003_000).returns(1)).returns(pointer)))},
		{"contexts", g.events(o, call("icmp_rcv", 1_000_000_000, 1_000_009_000,
			call("schedule", 1_000_000_100, 1_000_008_000,
				call("schedule", 1_000_000_200, 1_000_000_300).in(calls.Softirq),
				call("schedule", 1_000_000_400, 1_000_007_000,
					call("schedule", 1_000_000_500, 1_000_000_600).in(calls.Hardirq),
					call("schedule", 1_000_000_700, 1_000_000_800, call("schedule", 1_000_000_710, 1_000_000_720).in(calls.NMI)).in(calls.NMI),
				).in(calls.Hardirq))))},
		{"a root of a softirq", g.events(o, call("icmp_rcv", 1_000_000_000, 1_000_000_812, call("schedule", 1_000_000_100, 1_000_000_200).in(calls.Softirq)).in(calls.Softirq))},
		{"exits lost", g.events(o, call("icmp_rcv", 1_000_000_000, 1_000_009_000,
			call("lookup", 1_000_000_100, 1_000_000_200).ends(calls.ExitLost),
			call("lookup", 1_000_000_300, 1_000_000_900, call("schedule", 1_000_000_400, 1_000_000_500)).ends(calls.ExitLost)))},
		{"running", g.events(o, call("schedule", 1_000_000_000, 3_500_000_000,
			call("lookup", 1_000_000_100, 3_500_000_000, call("is_set", 1_000_000_200, 3_500_000_000).ends(calls.Running)).ends(calls.Running)).ends(calls.Running))},
		{"errors", g.events(o, call("icmp_rcv", 1_000_000_000, 1_000_009_000, call("lookup", 1_000_000_100, 1_000_000_200).returns(errnoNoEnt)).returns(errnoNoEnt))},
		{"registers", g.events(o, shows(shown{fn: "static_fn", words: words(1, 0, pointer, 1<<64-1, 5, 6), ret: pointer}, 1_000_000_000, 1_000_000_900,
			shows(shown{fn: "tcf_act", words: many, ret: 0}, 1_000_000_100, 1_000_000_200),
			shows(shown{fn: "tcf_act", words: many, ret: errnoNoEnt}, 1_000_000_300, 1_000_000_400),
			shows(shown{fn: "tcf_act", words: many, ret: 0xfffffffe}, 1_000_000_500, 1_000_000_600)))},
		{"unknown arguments", g.events(o, call("icmp_rcv", 1_000_000_000, 1_000_000_900,
			call("open_file", 1_000_000_100, 1_000_000_200).unknown(),
			call("open_file", 1_000_000_300, 1_000_000_800, call("static_fn", 1_000_000_400, 1_000_000_500).unknown()).unknown()))},
		{"strings", g.events(o, call("open_file", 1_000_000_000, 1_000_000_900,
			shows(shown{fn: "open_file", words: words(pointer, 0), strings: texts(wiretest.String{Len: -14})}, 1_000_000_100, 1_000_000_200)))},
		{"own time less than nothing", g.events(o, call("schedule", 1_000_000_000, 1_000_000_100, call("schedule", 1_000_000_000, 1_000_000_200)))},
		{"63 levels", g.events(o, deep)},
	}
}

func TestTextGraph(t *testing.T) {
	for name, opts := range map[string]TextOptions{
		"graph_text.golden":  {Location: time.UTC},
		"graph_color.golden": {Location: time.UTC, Color: true},
	} {
		t.Run(name, func(t *testing.T) {
			all := withRaw(t, targets(t))
			r := NewText(values(all), names{}, opts)
			var out []byte
			for _, graph := range nested(&graph{all: all}) {
				out = append(out, "# "+graph.name+"\n"...)
				for _, e := range graph.events {
					out = r.AppendEvent(out, e)
				}
			}
			golden.Check(t, name, string(out))
		})
	}
}

func TestJSONGraph(t *testing.T) {
	all := withRaw(t, targets(t))
	r := NewJSON(values(all), names{})
	var out []byte
	for _, graph := range nested(&graph{all: all}) {
		for _, e := range graph.events {
			out = r.AppendEvent(out, e)
		}
	}
	for line := range bytes.Lines(out) {
		decode(t, line)
	}
	golden.Check(t, "graph_json.golden", string(out))
}

// TestGraphLongLines has nodes whose lines are longer than the buffer that lines
// are made in, at all depths.
func TestGraphLongLines(t *testing.T) {
	var params []any
	for i := range 12 {
		params = append(params, fmt.Sprintf("%s%d", strings.Repeat("n", 170), i), btftest.U64)
	}
	name := strings.Repeat("f", 400)
	types := btftest.Types(t, btftest.Func(name, btftest.U64, params...), &btf.Int{Name: "long unsigned int", Size: 8})
	k := &plan.Kernel{
		Arch: arch.AMD64(), Types: types, Modules: func() ([]plan.Module, error) { return nil, nil },
	}
	id, _ := types.FindFunc(name)
	all, _, err := k.Callees([]plan.Callee{{Func: name}})
	if err != nil || all[0].ID != id {
		t.Fatalf("target %+v, %v", all[0], err)
	}
	text, asJSON := NewText(all, nil, TextOptions{Location: time.UTC}), NewJSON(all, nil)
	raw := wiretest.Entry{Words: slices.Repeat([]uint64{1<<64 - 1}, 12)}.Bytes()[56:]
	args := ""
	for i := range params[:12] {
		args += fmt.Sprintf(", unsigned long %s%d=18446744073709551615", strings.Repeat("n", 170), i)
	}
	args = args[len(", "):]
	for _, depth := range []int{0, 1, 31, 63, 255} {
		c := &calls.Call{Pid: 1, Tid: 1, Words: raw, Entered: true, Exit: 7, Node: calls.Node{Depth: depth, Outer: calls.Softirq}}
		indent := "00:00:00.000000000 [0] /1 " + strings.Repeat("  ", depth)
		closes := "00:00:00.000000007 [0] /1 " + strings.Repeat("  ", depth)
		for kind, want := range map[Kind]string{
			Open:  indent + "<task> " + name + "(" + args + ") {\n",
			Leaf:  indent + "<task> " + name + "(" + args + ") = 0 7ns\n",
			Close: closes + "} " + name + " = 0 7ns, own 7ns\n",
		} {
			if got := string(text.AppendEvent([]byte("before "), &Event{Kind: kind, Call: c, Target: all[0]})); got != "before "+want {
				t.Errorf("depth %d, kind %d:\n%s\nwant\n%s", depth, kind, got, want)
			}
			if kind == Open {
				continue
			}
			var object struct {
				Depth int
				Args  []struct{ Value uint64 }
			}
			if err := json.Unmarshal(asJSON.AppendEvent(nil, &Event{Kind: kind, Call: c, Target: all[0]}), &object); err != nil {
				t.Fatal(err)
			}
			if object.Depth != depth || len(object.Args) != 12 || object.Args[11].Value != 1<<64-1 {
				t.Errorf("depth %d: %+v", depth, object)
			}
		}
	}
}

// TestJSONOpen: an object is a whole node.
func TestJSONOpen(t *testing.T) {
	all := targets(t)
	e := call("schedule", 1, 2).event(all)
	e.Kind = Open
	if out := NewJSON(values(all), nil).AppendEvent([]byte("before"), e); string(out) != "before" {
		t.Errorf("%s", out)
	}
}

// TestUnknownArguments: a node has a place and a time whether its arguments are
// known or not, in all formats.
func TestUnknownArguments(t *testing.T) {
	all := targets(t)
	o := owner{"ping", 492, 492, 3}
	events := (&graph{all: all}).events(o, call("icmp_rcv", 1000, 9000, call("open_file", 2000, 5000).unknown()))
	for name, test := range map[string]struct {
		r    Renderer
		want string
	}{
		"folded":   {NewFolded(values(all)), "icmp_rcv;open_file 3000"},
		"perfetto": {NewPerfetto(values(all), nil), `{"name":"open_file","cat":"task","ph":"X","ts":2.000,"dur":3.000,"pid":492,"tid":492,"args":{"args":{},"retval":"0"`},
		"summary":  {NewSummary(values(all)), "open_file"},
	} {
		t.Run(name, func(t *testing.T) {
			if out := (made{name, all, events}).render(test.r); !strings.Contains(out, test.want) {
				t.Errorf("no %s in\n%s", test.want, out)
			}
		})
	}
}
