package render

import (
	"slices"
	"testing"

	"fgtrace/internal/wiretest"
	"fgtrace/tracer/calls"
	"fgtrace/tracer/plan"
)

// node is a node of a graph that a test makes, and what is below it.
type node struct {
	shown
	from, to uint64
	context  calls.Context
	end      calls.End
	missing  bool // its children come, it doesn't
	below    []node
}

// owner is a task that has nodes.
type owner struct {
	comm     string
	pid, tid uint32
	cpu      uint16
}

// graph makes the events of graphs.
type graph struct {
	all map[string]*plan.Target
	id  uint64
}

// events returns the events of a root, as a flow has them.
func (g *graph) events(o owner, root node) []*Event { return g.below(o, root, &calls.Call{}, 0) }

func (g *graph) below(o owner, n node, parent *calls.Call, depth int) []*Event {
	n.comm = o.comm
	e := n.event(g.all)
	c := e.Call
	g.id++
	c.ID, c.Pid, c.Tid, c.CPU, c.ExitCPU = g.id, o.pid, o.tid, o.cpu, o.cpu
	c.Entry, c.Exit = n.from, n.to
	copy(c.Comm[:], o.comm)
	c.Node = calls.Node{Parent: parent.ID, Depth: depth, Context: n.context, Outer: parent.Node.Context, End: n.end}
	var events []*Event
	e.Kind = Leaf
	if len(n.below) > 0 {
		e.Kind = Close
		events = append(events, &Event{Kind: Open, Call: c, Target: e.Target})
	}
	for _, child := range n.below {
		c.Node.Below += child.to - child.from
		events = append(events, g.below(o, child, c, depth+1)...)
	}
	if !n.missing {
		events = append(events, e)
	}
	return events
}

func call(fn string, from, to uint64, below ...node) node {
	n := node{shown: shown{fn: fn}, from: from, to: to, below: below}
	switch fn {
	case "icmp_rcv", "lookup", "is_set", "size_of", rust:
		n.words = words(pointer)
	case "open_file":
		n.words, n.strings = words(pointer, 0o644), texts(wiretest.Text("/etc/passwd"))
	}
	return n
}

func (n node) in(c calls.Context) node { n.context = c; return n }
func (n node) ends(e calls.End) node   { n.end = e; return n }
func (n node) lost() node              { n.missing = true; return n }
func (n node) returns(v uint64) node   { n.ret = v; return n }

// merge has the events of tasks come by turns.
func merge(lists ...[]*Event) []*Event {
	var merged []*Event
	for i := 0; len(merged) < len(slices.Concat(lists...)); i++ {
		for _, list := range lists {
			if i < len(list) {
				merged = append(merged, list[i])
			}
		}
	}
	return merged
}

// interleaved are graphs of several tasks on two CPUs.
func interleaved(g *graph) []*Event {
	ping := owner{"ping", 492, 492, 0}
	thread := owner{"ping", 492, 495, 1}
	odd := owner{"a b;c\xff", 7, 7, 1}
	idle0, idle1 := owner{"swapper/0", 0, 0, 0}, owner{"swapper/1", 0, 0, 1}
	return merge(
		slices.Concat(g.events(ping, call("icmp_rcv", 1_000_000_100, 1_000_009_100,
			call("schedule", 1_000_001_000, 1_000_002_000),
			call("lookup", 1_000_003_000, 1_000_008_000,
				call("schedule", 1_000_003_500, 1_000_004_500).in(calls.Hardirq)).returns(errnoNoEnt),
			call("schedule", 1_000_008_500, 1_000_009_000),
		)), g.events(ping, call("icmp_rcv", 1_000_020_000, 1_000_020_812))),
		g.events(thread, call("open_file", 1_000_000_000, 1_500_000_000,
			call("icmp_rcv", 1_000_100_000, 1_013_142_000,
				call("schedule", 1_000_200_000, 1_000_300_000),
				call("lookup", 1_000_400_000, 1_000_500_000,
					call("lookup", 1_000_420_000, 1_000_480_000),
				).in(calls.NMI),
			).in(calls.Softirq))),
		g.events(odd, call(rust, 999_999_999, 1_100_000_000, call("schedule", 1_000_000_999, 1_000_001_000))),
		g.events(idle0, call("schedule", 1_000_000_000, 2_000_000_000)),
		g.events(idle1, call("schedule", 1_000_000_500, 2_000_000_500, call("icmp_rcv", 1_000_001_500, 1_000_002_500).in(calls.Hardirq))),
	)
}

// torn are graphs with nodes that did not return, and parents that never come.
func torn(g *graph) []*Event {
	cat := owner{"cat", 11, 11, 0}
	dd := owner{"dd", 12, 12, 1}
	return slices.Concat(
		g.events(cat, call("open_file", 1000, 9000,
			call("lookup", 2000, 9000,
				call("schedule", 3000, 4000),
				call("is_set", 5000, 9000).ends(calls.ExitLost),
			).ends(calls.ExitLost))),
		// Two parents are missing, of one depth; then one in the middle.
		g.events(cat, call("open_file", 10000, 19000,
			call("lookup", 11000, 12000, call("schedule", 11100, 11200)).lost(),
			call("lookup", 13000, 14000, call("schedule", 13100, 13300)).lost(),
			call("icmp_rcv", 15000, 16000,
				call("lookup", 15100, 15900, call("schedule", 15200, 15600, call("is_set", 15300, 15400))).lost()))),
		// The root is missing, and another follows; one at the end of all.
		g.events(cat, call("open_file", 20000, 29000, call("icmp_rcv", 21000, 22000)).lost()),
		g.events(cat, call("size_of", 30000, 31000)),
		g.events(dd, call("open_file", 40000, 90000, call("icmp_rcv", 41000, 90000, call("schedule", 42000, 43000)).ends(calls.Running)).ends(calls.Running)),
		g.events(dd, call("open_file", 91000, 99000, call("icmp_rcv", 92000, 93000)).lost()),
	)
}

// recursive are graphs of functions that call themselves, at once or by others.
func recursive(g *graph) []*Event {
	o := owner{"find", 20, 20, 0}
	return slices.Concat(
		g.events(o, call("lookup", 0, 1000, call("lookup", 100, 900, call("lookup", 200, 800)))),
		g.events(o, call("icmp_rcv", 2000, 3000, call("lookup", 2100, 2900, call("icmp_rcv", 2200, 2800, call("lookup", 2300, 2400), call("lookup", 2500, 2600))))),
		g.events(o, call("schedule", 4000, 5000, call("icmp_rcv", 4100, 4200), call("icmp_rcv", 4300, 4500))),
	)
}

// made is the events of a case.
type made struct {
	name   string
	all    map[string]*plan.Target
	events []*Event
}

// graphs returns the cases, in which calls are numbered from 1.
func graphs(tb testing.TB) []made {
	all := targets(tb)
	return []made{
		{"empty", all, nil},
		{"interleaved", all, interleaved(&graph{all: all})},
		{"torn", all, torn(&graph{all: all})},
		{"recursive", all, recursive(&graph{all: all})},
	}
}

func (m made) render(r Renderer) string {
	out := r.AppendStart(nil, start)
	for _, e := range m.events {
		out = r.AppendEvent(out, e)
	}
	return string(r.AppendEnd(out, end(m.all)))
}
