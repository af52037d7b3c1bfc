package render

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"fgtrace/internal/golden"
	"fgtrace/tracer/calls"
	"fgtrace/tracer/plan"
)

func TestFolded(t *testing.T) {
	for _, graph := range graphs(t) {
		t.Run(graph.name, func(t *testing.T) {
			got := graph.render(NewFolded(values(graph.all)))
			golden.Check(t, "folded/"+graph.name+".golden", got)
			checkFolded(t, got, graph.events)
		})
	}
}

func checkFolded(t *testing.T, out string, events []*Event) {
	t.Helper()
	var want, sum uint64
	for _, e := range events {
		if e.Kind != Open && e.Call.Node.End == calls.Returned {
			want += e.Call.Own()
		}
	}
	last := ""
	for line := range strings.Lines(out) {
		i := strings.LastIndexByte(line, ' ')
		own, err := strconv.ParseUint(strings.TrimSuffix(line[i+1:], "\n"), 10, 64)
		if err != nil || own == 0 {
			t.Errorf("%q: %v", line, err)
		}
		if line[:i] <= last {
			t.Errorf("%q after %q", line[:i], last)
		}
		last = line[:i]
		sum += own
	}
	if sum != want {
		t.Errorf("own times are %d, not %d", sum, want)
	}
}

// keepers are the renderers that keep what comes until the end.
func keepers(targets []*plan.Target) []Renderer {
	return []Renderer{NewFolded(targets), NewSummary(targets)}
}

// TestFlat gives a million nodes to what keeps them until the end, with parents
// that never come.
func TestFlat(t *testing.T) {
	all := targets(t)
	lists := [][]*Event{}
	g := &graph{all: all}
	for tid := range uint32(4) {
		o := owner{"ping", 100, 100 + tid, uint16(tid)}
		lists = append(lists, g.events(o, call("icmp_rcv", 0, 9000,
			call("lookup", 1000, 5000, call("lookup", 1100, 2000, call("schedule", 1200, 1300)), call("is_set", 3000, 4000)),
			call("lookup", 5100, 5200, call("schedule", 5110, 5120)).lost(),
			call("size_of", 6000, 8000, call("is_set", 6100, 6200).in(calls.Softirq)))),
			g.events(o, call("icmp_rcv", 0, 9000, call("lookup", 10, 20, call("is_set", 15, 16)).lost()).lost()))
	}
	batch := merge(lists...)
	for _, r := range keepers(values(all)) {
		nodes := 0
		feed := func(n int) {
			for nodes = 0; nodes < n; {
				for _, e := range batch {
					if e.Kind == Open {
						continue
					}
					nodes++
					c := e.Call
					c.ID += g.id
					if c.Node.Parent != 0 {
						c.Node.Parent += g.id
					}
					if out := r.AppendEvent(nil, e); len(out) > 0 {
						t.Fatalf("%T: %s", r, out)
					}
				}
			}
		}
		feed(10_000)
		before := heap()
		var m0, m1 runtime.MemStats
		runtime.ReadMemStats(&m0)
		feed(1_000_000)
		runtime.ReadMemStats(&m1)
		if grown := heap() - before; grown > 100_000 {
			t.Errorf("%T: %d bytes more after %d nodes", r, grown, nodes)
		}
		if n := m1.Mallocs - m0.Mallocs; n > 1000 {
			t.Errorf("%T: %d allocations for %d nodes", r, n, nodes)
		}
		runtime.KeepAlive(r)
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestManyTasks starts more tasks than can be open at once.
func TestManyTasks(t *testing.T) {
	all := targets(t)
	f := NewFolded(values(all))
	g := &graph{all: all}
	var out []byte
	for tid := range uint32(maxOpenTasks + 10) {
		for _, e := range g.events(owner{"ping", 1, 1 + tid, 0}, call("icmp_rcv", 0, 100, call("schedule", 10, 20)).lost()) {
			out = f.AppendEvent(out, e)
		}
	}
	if n := len(f.trees.tasks); n != maxOpenTasks {
		t.Errorf("%d open tasks", n)
	}
	want := fmt.Sprintf("ping;[unknown];schedule %d\n", 10*(maxOpenTasks+10))
	if got := string(f.AppendEnd(out, &End{})); got != want {
		t.Errorf("got %s", got)
	}
}
