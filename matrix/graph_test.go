package matrix

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// learning is the longest time in which a graph becomes whole. Functions that are
// reached by pointers are found as they are called, and on kernels that attach to them
// one by one all others are: both take an emulated guest long.
const learning = 4 * time.Minute

// TestGuestGraph judges the graphs of functions by those of the kernel's own
// function_graph tracer. What is on the deny list need not be there.
func TestGuestGraph(t *testing.T) {
	inGuest(t)
	skip := deniedFunctions(t)
	g := startGrapher(t)
	judges := map[string]*judge{}
	works := slices.DeleteFunc(slices.Clone(graphWorks), func(w graphWork) bool {
		i := slices.IndexFunc(graphWorks, func(other graphWork) bool { return other.root == w.root })
		return i > 0 && !inShare(t, i)
	})
	for _, w := range works {
		judges[w.root] = g.judgeOf(w, skip)
		for _, k := range judges[w.root].kinds {
			t.Logf("the kernel's own graphs share %d calls: %s", k.shared.size(), spell(k.shared))
		}
	}
	g.stop()
	for _, w := range works {
		t.Run(w.root, func(t *testing.T) { compareGraph(t, w, judges[w.root]) })
	}
}

// deniedFunctions are those of the deny list, and what function_graph itself has
// called: it is there whenever a task is switched to.
func deniedFunctions(t *testing.T) map[string]bool {
	t.Helper()
	res := run(t, "list", "--denied", "--json")
	if res.Status != 0 {
		t.Fatalf("trace list --denied: status %d: %s", res.Status, res.Stderr)
	}
	denied := map[string]bool{"__traceiter_sched_switch": true}
	for line := range strings.Lines(res.Stdout) {
		var f struct{ Func, Reason string }
		if err := json.Unmarshal([]byte(line), &f); err != nil || f.Func == "" || f.Reason == "" {
			t.Fatalf("%v: %s", err, line)
		}
		denied[f.Func] = true
	}
	return denied
}

// compareGraph traces a work until its last rounds are as they should be, or the
// time of learning is over, and then judges those.
func compareGraph(t *testing.T, w graphWork, j *judge) {
	args := []string{"-k", w.root, "-g", "--fgraph-max-depth", strconv.Itoa(graphDepth)}
	if !w.any {
		args = append(args, "--filter-comm", workerName)
	}
	trace := startTrace(t, args...)
	r := startRounds(t, w)
	began := time.Now()
	shown := graphReader{keep: judgedRounds * w.kinds}
	if !w.any {
		shown.tid = r.tid
	}
	var v verdict
	for over := false; !over; {
		r.more(t, judgedRounds)
		over = time.Since(began) > learning
		if err := shown.more(trace.stdout.take()); err != nil {
			t.Fatal(err)
		}
		if shown.count%w.kinds != 0 || len(shown.roots) < shown.keep {
			continue // the last round is not all there yet
		}
		v = j.of(nodesOf(shown.roots))
		over = over || v.perfect()
	}
	took := time.Since(began)
	made := int(r.made)
	r.end()
	if err := trace.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	res := trace.wait()
	if err := shown.more(trace.stdout.take()); err != nil {
		t.Fatal(err)
	}
	if res.Status != 0 || shown.end == nil {
		t.Fatalf("status %d, its end is %+v\n%s", res.Status, shown.end, tail(res.Stderr))
	}
	if err := v.err(); err != nil {
		t.Errorf("%s, after %d rounds in %v: %v; %+v", w.root, made, took, err, *shown.end)
	}
	if len(shown.faults) > 0 {
		t.Errorf("calls that can't be where they are shown:%s", list(shown.faults))
	}
	if shown.all < made*w.kinds {
		t.Errorf("%d calls of %s, want %d; %+v", shown.all, w.root, made*w.kinds, *shown.end)
	}
	if shown.events != shown.end.Events {
		t.Errorf("end counts %d events of %d", shown.end.Events, shown.events)
	}
	t.Logf("%s: %d of %d calls after %d rounds in %v", w.root, v.found, v.want, made, took.Round(time.Millisecond))
}

// shownCall is a root of the graph that a trace shows.
type shownCall struct {
	*node
	tid int
}

func nodesOf(calls []shownCall) []*node {
	var nodes []*node
	for _, c := range calls {
		nodes = append(nodes, c.node)
	}
	return nodes
}

// graphReader reads graphs as they are printed: children before their parents.
type graphReader struct {
	tid      int                   // of the roots that are wanted; 0: all
	keep     int                   // how many of them, the last ones
	children map[uint64][]graphRow // by parent, that is not there yet
	roots    []shownCall
	faults   map[string]int // calls that can't be where they are shown, with an example

	count, all int    // roots so far: those that were wanted, and all
	events     uint64 // nodes
	end        *end
}

// strictly is how many nodes are held to the contract in all that JSON has: it takes
// an emulated guest a millisecond each.
const strictly = 1000

// graphRow is a node of the JSON output.
type graphRow struct {
	Event    string `json:"event"`
	ID       uint64 `json:"id"`
	Parent   uint64 `json:"parent"`
	Depth    int    `json:"depth"`
	Func     string `json:"func"`
	Context  string `json:"context"`
	TID      int    `json:"tid"`
	Time     uint64 `json:"time_ns"`
	Duration uint64 `json:"duration_ns"`
	Own      uint64 `json:"own_ns"`
	End      string `json:"end"`

	node *node
}

// more reads further lines.
func (g *graphReader) more(text string) error {
	for line := range strings.Lines(text) {
		if err := g.line(line); err != nil {
			return fmt.Errorf("read graph: %w: %s", err, line)
		}
	}
	return nil
}

func (g *graphReader) line(line string) error {
	var r graphRow
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		return err
	}
	switch r.Event {
	case "start":
		return nil
	case "end":
		g.end = &end{}
		return parseLine(line, g.end, nil, "end", endKeys)
	}
	g.events++
	if g.events <= strictly {
		e := event{}
		if err := parseLine(line, &e, &e.keys, "call", eventKeys); err != nil {
			return err
		}
		if err := e.check(""); err != nil {
			return err
		}
	}
	return g.add(r)
}

func (g *graphReader) add(r graphRow) error {
	if g.children == nil {
		g.children, g.faults = map[uint64][]graphRow{}, map[string]int{}
	}
	r.node = &node{Func: r.Func, depth: r.Depth}
	below := g.children[r.ID]
	delete(g.children, r.ID)
	slices.SortStableFunc(below, func(a, b graphRow) int { return int(int64(a.Time - b.Time)) })
	for _, c := range below {
		if why := r.refuses(c); why != "" {
			g.faults[fmt.Sprintf("%s > %s %s", r.Func, c.Func, why)]++
		}
		if c.Context == "hardirq" || c.Context == "nmi" {
			r.node.interrupted = true // the kernel's graph leaves it out
			continue
		}
		r.node.interrupted = r.node.interrupted || c.Context != r.Context
		r.node.Children = append(r.node.Children, c.node)
	}
	if r.Parent != 0 {
		g.children[r.Parent] = append(g.children[r.Parent], r)
		return nil
	}
	if r.Depth != 0 {
		return fmt.Errorf("a root has the depth %d", r.Depth)
	}
	g.all++
	if g.tid != 0 && g.tid != r.TID {
		return nil
	}
	g.count++
	g.roots = append(g.roots, shownCall{r.node, r.TID})
	if g.keep > 0 && len(g.roots) > g.keep {
		g.roots = slices.Delete(g.roots, 0, 1)
	}
	return nil
}

// refuses says why a call can't be in another.
func (r graphRow) refuses(c graphRow) string {
	ended := r.End == "" && c.End == ""
	switch {
	case c.Depth != r.Depth+1 || c.Depth > graphDepth:
		return fmt.Sprintf("at depth %d", c.Depth)
	case c.TID != r.TID:
		return "in another thread"
	case c.Time < r.Time:
		return "begins before it"
	case ended && c.Time > r.Time+r.Duration:
		return "begins after its end"
	case ended && c.Time+c.Duration > r.Time+r.Duration:
		return "ends after its end"
	}
	return ""
}

func TestGraphReader(t *testing.T) {
	node := func(text string) string {
		return `{"event":"call","module":"vmlinux","args":[],"retval":{"type":"int","value":0},"cpu":0,"pid":7,"tid":7,"comm":"c","own_ns":0,` + text + "}\n"
	}
	rows := `{"event":"start"}` + "\n" +
		node(`"id":3,"parent":2,"depth":2,"func":"c","context":"softirq","time_ns":14,"duration_ns":1`) +
		node(`"id":5,"parent":4,"depth":2,"func":"tick","context":"hardirq","time_ns":25,"duration_ns":1`) +
		node(`"id":2,"parent":1,"depth":1,"func":"b","context":"softirq","time_ns":12,"duration_ns":5`) +
		node(`"id":4,"parent":1,"depth":1,"func":"d","context":"softirq","time_ns":20,"duration_ns":9`) +
		node(`"id":1,"parent":0,"depth":0,"func":"a","context":"softirq","time_ns":10,"duration_ns":20`)
	var g graphReader
	half := strings.Index(rows, `"id":2`)
	half = strings.LastIndex(rows[:half], "\n") + 1
	if err := g.more(rows[:half]); err != nil || len(g.roots) != 0 {
		t.Fatalf("%v, %v", g.roots, err)
	}
	err := g.more(rows[half:])
	if err != nil || len(g.faults) != 0 || len(g.roots) != 1 || g.roots[0].tid != 7 || spell(g.roots[0].node) != "a(b(c) d)" {
		t.Fatalf("%v, %v", g.roots, err)
	}
	if a := g.roots[0].node; a.interrupted || !a.Children[1].interrupted {
		t.Error("what was interrupted is not marked")
	}
	if err := g.more(goodEnd); err != nil || g.end == nil || g.events != 5 || g.count != 1 {
		t.Errorf("%v: end %v, %d events, %d roots", err, g.end, g.events, g.count)
	}
	few := graphReader{keep: 2, tid: 7}
	for range 3 {
		if err := few.more(rows); err != nil {
			t.Fatal(err)
		}
	}
	if err := few.more(strings.ReplaceAll(rows, `"tid":7`, `"tid":8`)); err != nil || len(few.roots) != 2 || few.count != 3 || few.all != 4 {
		t.Errorf("%v: %d roots kept, %d wanted, %d in all", err, len(few.roots), few.count, few.all)
	}
	for name, bad := range map[string][2]string{
		"late":     {`"time_ns":14`, `"time_ns":17`},
		"after":    {`"time_ns":14`, `"time_ns":18`},
		"early":    {`"time_ns":14`, `"time_ns":11`},
		"depth":    {`"depth":2`, `"depth":3`},
		"thread":   {`"tid":7`, `"tid":8`},
		"root":     {`"depth":0`, `"depth":1`},
		"text":     {`"id":3`, `"id":"3"`},
		"contract": {`"cpu":0`, `"cpus":0`},
	} {
		var g graphReader
		if err := g.more(strings.Replace(rows, bad[0], bad[1], 1)); err == nil && len(g.faults) == 0 {
			t.Errorf("%s: no error", name)
		}
	}
}
