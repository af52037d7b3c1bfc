package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What is asked of graphs.
const (
	askedNode   = 2000 // instructions a node, at most
	askedFtrace = 1.5  // times the cost of ftrace's function_graph, at most
)

// The node is a function that calls nothing, and that one call of the root calls
// so many times.
const (
	graphRoot     = "__x64_sys_ppoll"
	graphNode     = "pipe_poll"
	nodesPerRoot  = 100
	neverCalled   = "__x64_sys_reboot" // a root that no task has open
	notCalledHere = "pipe_release"     // in place of graphNode: the root alone
)

const (
	fewRoots  = 200
	manyRoots = 3200
)

// graphs prints what a node of a graph costs, and a call of a function of a graph
// that is none.
func graphs(w io.Writer) error {
	time.Sleep(3 * time.Second) // the kernel's own work after boot
	if err := rejected(w); err != nil {
		return err
	}
	fmt.Fprintf(w, "instructions a node of a graph (%s, %d in each %s):\n", graphNode, nodesPerRoot, graphRoot)
	costs := map[string]int64{}
	for _, way := range graphWays() {
		cost, err := way.perNode()
		if err != nil {
			return fmt.Errorf("measure %s: %w", way.name, err)
		}
		costs[way.name] = cost.instructions
		note := ""
		if way.asked > 0 {
			note = fmt.Sprintf("  asked: at most %d", way.asked)
		}
		if cost.missing != "" {
			note += "  " + cost.missing
		}
		fmt.Fprintf(w, "  %-44s %7d%s\n", way.name, cost.instructions, note)
	}
	fmt.Fprintf(w, "  %-44s %7.2f  asked: at most %.1f\n", "trace -g in terms of function_graph",
		float64(costs[graphText])/float64(costs[graphFtrace]), askedFtrace)
	return nil
}

// rejected prints what a call costs that is in no graph, beside what an empty
// program does. That runs at returns, too, which a kprobe's session leaves out
// where its entry was turned away.
func rejected(w io.Writer) error {
	alone, err := perCall(manyCalls, callFunction)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "instructions a call of %s in no graph, above %d without tracing:\n", function, alone)
	for _, e := range emptySessions() {
		empty, err := e.measure()
		if err != nil {
			fmt.Fprintf(w, "  %-44s       -  %v\n", "empty "+e.name, err)
			continue
		}
		fmt.Fprintf(w, "  %-44s %7d\n", "empty "+e.name, empty-alone)
		args := append(graphOf(neverCalled, function), "--backend", e.name)
		cost, err := perCall(manyCalls, func(n int) error {
			_, err := runTrace(args, guestLoad, strconv.Itoa(n))
			return err
		})
		if err != nil {
			return fmt.Errorf("measure rejected calls: %w", err)
		}
		fmt.Fprintf(w, "  %-44s %7d  %+d to the empty program\n", "trace -g --backend "+e.name, cost-alone, cost-empty)
	}
	return nil
}

// graphOf are the arguments for a graph of a root and one other function.
func graphOf(root, node string) []string {
	return []string{"-k", root, "-g", "--fgraph-include", node, "--fgraph-extra", node, "--no-learn"}
}

const (
	graphText    = "trace -g"
	graphJSON    = "trace -g --json"
	graphSummary = "trace -g --fgraph-summary"
	graphFtrace  = "ftrace: function_graph of the same, read"
)

// graphWay traces a root and the functions below it, during so many calls.
type graphWay struct {
	name  string
	asked int64
	run   func(node string, roots int) (missing string, err error)
}

func graphWays() []graphWay {
	trace := func(more ...string) func(node string, roots int) (string, error) {
		return func(node string, roots int) (string, error) {
			return runTrace(slices.Concat(graphOf(graphRoot, node), more), guestPolls, strconv.Itoa(roots))
		}
	}
	return []graphWay{
		{graphText, askedNode, trace()},
		{graphJSON, askedNode, trace("--json")},
		{graphSummary, 0, trace("--fgraph-summary")}, // what is left without text
		{graphFtrace, 0, func(node string, roots int) (string, error) {
			return "", withNestedGraph(graphRoot, node, roots)
		}},
	}
}

type nodeCost struct {
	instructions int64
	missing      string
}

// perNode compares the root with nodes to the root alone.
func (g graphWay) perNode() (nodeCost, error) {
	var c nodeCost
	perRoot := func(node string) (int64, error) {
		return perCallFrom(fewRoots, manyRoots, func(n int) error {
			missing, err := g.run(node, n)
			if missing != "" {
				c.missing = missing
			}
			return err
		})
	}
	with, err := perRoot(graphNode)
	if err != nil {
		return c, err
	}
	without, err := perRoot(notCalledHere)
	c.instructions = (with - without) / nodesPerRoot
	return c, err
}

// withNestedGraph has ftrace show the root, and the node in it.
func withNestedGraph(root, node string, roots int) error {
	lines := roots
	seen := root
	if node == graphNode {
		lines, seen = roots*nodesPerRoot, node
	}
	return underFtrace(ftraceRun{
		begin: []setting{
			{"buffer_size_kb", "131072"},
			{"set_ftrace_filter", root + "\n" + node},
			{"set_graph_function", root},
			{"current_tracer", "function_graph"},
		},
		end: []setting{
			{"current_tracer", "nop"},
			{"set_graph_function", ""},
			{"set_ftrace_filter", ""},
		},
		load:  func() error { return poll(roots) },
		lines: lines, seen: seen,
	})
}

// What is asked of a trace that goes on for long: so many nodes in a minute, none
// of them lost, through a pipe to a file.
const (
	askedRate = 2_000_000
	rateNow   = 2_400_000 // what the load makes, as long as the guest can
	rateTime  = 15 * time.Second
)

// rate prints how many nodes trace writes to a pipe, and the memory it takes.
func rate(w io.Writer) error {
	args := append(graphOf(graphRoot, graphNode), "--", "bench", guestPace, rateTime.String())
	cmd := exec.Command("trace", args...)
	var stderr strings.Builder
	file, err := os.Create(outputFile)
	if err != nil {
		return err
	}
	defer os.Remove(outputFile)
	defer file.Close()
	cmd.Stdout, cmd.Stderr = struct{ io.Writer }{file}, &stderr // a pipe
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var first, last int
	for over := false; !over; {
		select {
		case err = <-ended:
			over = true
		case <-time.After(200 * time.Millisecond):
			now := residentSet(cmd.Process.Pid)
			// From when the file grows: trace is ready then.
			if info, err := file.Stat(); err != nil || info.Size() == 0 || now == 0 {
				continue
			}
			if first == 0 {
				first = now
			}
			last = now
		}
	}
	if err != nil {
		return fmt.Errorf("run trace: %w\n%s", err, &stderr)
	}
	nodes, summary := 0, ""
	for line := range strings.Lines(stderr.String()) {
		if strings.HasPrefix(line, "trace: ") && strings.Contains(line, " events, ") {
			summary = strings.TrimSpace(line)
			fmt.Sscanf(line, "trace: %d events", &nodes)
		}
	}
	// Events are the nodes and their roots.
	fmt.Fprintf(w, "%d events a minute through a pipe to a file, of %d nodes made  asked: %d, 0 lost; in %v: %s\n",
		int64(nodes)*int64(time.Minute)/int64(rateTime), rateNow, askedRate, rateTime, strings.TrimPrefix(summary, "trace: "))
	fmt.Fprintf(w, "memory of trace: %.1f MiB when it began, %.1f MiB when it ended\n", float64(first)/1024, float64(last)/1024)
	return nil
}

// residentSet returns what a process has in memory, in KiB.
func residentSet(pid int) int {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(raw), "\nVmRSS:")
	n := 0
	_, _ = fmt.Sscan(rest, &n) // 0: it has ended
	return n
}
