package matrix

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// graphDepth is how many levels below a function are judged. The function itself
// is one more for the kernel.
const graphDepth = 5

// graphOptions have function_graph print what parseGraph reads. What a kernel
// doesn't have, it doesn't print.
var graphOptions = map[string]string{
	"funcgraph-irqs": "0", // hardware interrupts are left out
	"funcgraph-proc": "1",
	"funcgraph-tail": "1",

	"funcgraph-abstime": "0", "funcgraph-args": "0", "funcgraph-cpu": "0", "funcgraph-duration": "0",
	"funcgraph-overhead": "0", "funcgraph-overrun": "0", "funcgraph-retval": "0", "funcgraph-retaddr": "0",

	"record-cmd":    "0", // or else it is at each switch of tasks, and shown there
	"function-fork": "0",
	"sleep-time":    "1",
}

// grapher is the kernel's function_graph tracer.
type grapher struct{ t *testing.T }

// startGrapher starts it, for nothing yet. It takes 4 s, emulated: all functions
// are patched.
func startGrapher(t *testing.T) *grapher {
	t.Helper()
	g := &grapher{t: t}
	g.set("tracing_on", "0")
	g.set("buffer_size_kb", "16384")
	g.set("max_graph_depth", strconv.Itoa(graphDepth+1))
	g.set("current_tracer", "function_graph")
	t.Cleanup(g.stop)
	for option, value := range graphOptions {
		g.option(option, value)
	}
	return g
}

// option sets an option, if the kernel has it, until the test ends.
func (g *grapher) option(name, value string) {
	g.t.Helper()
	file := filepath.Join("options", name)
	before, err := os.ReadFile(filepath.Join(tracefs, file))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		g.t.Fatal(err)
	}
	g.set(file, value)
	g.t.Cleanup(func() { g.set(file, strings.TrimSpace(string(before))) })
}

// stop stops the tracer; more than once does no harm.
func (g *grapher) stop() {
	g.set("current_tracer", "nop")
	g.set("set_graph_function", "")
	g.set("max_graph_depth", "0")
	g.set("buffer_size_kb", "1408") // the kernel's default
	g.set("tracing_on", "1")
}

func (g *grapher) set(file, value string) {
	g.t.Helper()
	if err := os.WriteFile(filepath.Join(tracefs, file), []byte(value+"\n"), 0); err != nil {
		g.t.Fatal(err)
	}
}

// during returns what the tracer prints of a function during a work.
func (g *grapher) during(function string, work func()) []byte {
	g.t.Helper()
	g.set("set_graph_function", function)
	g.set("trace", "")
	g.set("tracing_on", "1")
	work()
	g.set("tracing_on", "0")
	if err := checkOverrun(tracefs); err != nil {
		g.t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(tracefs, "trace"))
	if err != nil {
		g.t.Fatal(err)
	}
	return raw
}

var overrunPattern = regexp.MustCompile(`(?m)^(overrun|dropped events): ([1-9]\d*)$`)

// checkOverrun finds what the kernel's buffers lost, those of tracefs or of an
// instance in it.
func checkOverrun(dir string) error {
	stats, err := filepath.Glob(filepath.Join(dir, "per_cpu/cpu*/stats"))
	if err != nil || len(stats) == 0 {
		return fmt.Errorf("find statistics of buffers: %v, %v", stats, err)
	}
	for _, file := range stats {
		raw, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if lost := overrunPattern.Find(raw); lost != nil {
			return fmt.Errorf("the kernel lost events: %s has %s", file, lost)
		}
	}
	return nil
}

const (
	graphRuns       = 3 // of function_graph, at least
	graphRunsAtMost = 12
	roundsPerRun    = 3
	judgedRounds    = 3
)

// judgeOf has the kernel itself show a work, without the functions of a set. It
// takes more runs as long as the judge finds fault with one more of the kernel's.
func (g *grapher) judgeOf(w graphWork, skip map[string]bool) *judge {
	g.t.Helper()
	r := startRounds(g.t, w)
	defer r.end()
	var runs [][]*node
	var fault error
	for i := range graphRunsAtMost {
		run := g.run(w, r, skip, i)
		if len(runs) >= graphRuns {
			j, err := newJudge(runs, w.kinds)
			if err == nil {
				err = j.of(run).err()
			}
			if err == nil {
				return j
			}
			fault = err
		}
		runs = append(runs, run)
	}
	g.t.Fatalf("after %d runs, the kernel's own graphs of %s still differ: %v", len(runs), w.root, fault)
	return nil
}

// company are programs beside a run: the CPU is idle otherwise, or wanted now and
// then, or always. What the scheduler does in a call that waits is then not the
// same in all runs.
var company = [graphRuns]string{"", "while :; do usleep 3000; done", "while :; do :; done"}

// keepCompany has one run until leave is called.
func keepCompany(t *testing.T, i int) (leave func()) {
	t.Helper()
	script := company[i%graphRuns]
	if script == "" {
		return func() {}
	}
	r := startCommand(t, guestCommand("sh", "-c", script))
	return func() {
		_ = r.cmd.Process.Kill() // or it has ended, and wait says how
		r.wait()
	}
}

// run returns the calls that the kernel shows of a few rounds, the run's i-th.
func (g *grapher) run(w graphWork, r *rounds, skip map[string]bool, i int) []*node {
	g.t.Helper()
	leave := keepCompany(g.t, i)
	defer leave()
	raw := g.during(w.root, func() { r.more(g.t, roundsPerRun) })
	all, byThread, err := parseGraph(raw)
	if err != nil {
		g.t.Fatal(err)
	}
	if !w.any {
		all = byThread[r.tid]
	}
	var calls []*node
	for _, n := range all {
		if n.Func == w.root {
			calls = append(calls, n.without(skip, graphDepth))
		}
	}
	if want := roundsPerRun * w.kinds; len(calls) != want {
		g.t.Fatalf("function_graph shows %d calls of %s, want %d:\n%s", len(calls), w.root, want, tail(string(raw)))
	}
	return calls
}
