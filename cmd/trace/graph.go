package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"fgtrace/internal/kallsyms"
	"fgtrace/tracer"
	"fgtrace/tracer/calls"
	"fgtrace/tracer/event"
	"fgtrace/tracer/flow"
	"fgtrace/tracer/plan"
)

// graph is what -g adds to a trace: the functions below the roots.
type graph struct {
	options    *options
	session    *tracer.Session
	callees    *tracer.Callees
	learning   *tracer.Learning
	isMass     bool        // the kernel attaches to many functions at once
	programs   []plan.Skip // BPF programs that can't be traced
	candidates int         // functions to be learned, as far as code tells
	started    time.Time
	stderr     io.Writer
	told       int // functions that were spoken of
}

// graphOptions returns what -g asks for; nil without.
func (o *options) graphOptions(filters plan.Filters) *tracer.GraphOptions {
	if !o.graph {
		return nil
	}
	return &tracer.GraphOptions{Depth: o.graphDepth, Early: o.format == "text" && !o.graphSummary, NoIRQs: o.noIRQs, Below: filters.Below}
}

// reportLacking tells of how many functions of a graph not all is shown.
func reportLacking(w io.Writer, targets []*plan.Target) {
	n := 0
	for _, t := range targets {
		if t.Lacks > 0 {
			n++
		}
	}
	if n > 0 {
		fmt.Fprintf(w, "trace: %d of %d functions do not have all the values and packets that are shown\n", n, len(targets))
	}
}

func (o *options) newCallees(session *tracer.Session, symbols *tracer.Symbols) (*tracer.Callees, error) {
	if symbols.Hidden() {
		return nil, errors.New("find what is called: /proc/kallsyms hides its addresses: CAP_SYSLOG is needed, or kernel.kptr_restrict=0")
	}
	return tracer.NewCallees(session, symbols, o.selection()), nil
}

// selection says which functions below the roots are wanted.
func (o *options) selection() plan.Selection {
	return plan.Selection{Include: o.graphIncludes, Exclude: o.graphExcludes}
}

// newGraph attaches to what the roots may call as far as code tells, if the kernel
// can attach to that many functions at once.
func newGraph(o *options, session *tracer.Session, symbols *tracer.Symbols, stderr io.Writer) (*graph, error) {
	callees, err := o.newCallees(session, symbols)
	if err != nil {
		return nil, err
	}
	targets, err := callees.Next()
	if err != nil {
		return nil, err
	}
	if o.verbose {
		fmt.Fprintf(stderr, "trace: %d functions may be called and can be traced\n", len(targets))
	}
	g := &graph{options: o, session: session, callees: callees, stderr: stderr}
	if o.backend != tracer.BackendLinks {
		if g.isMass, err = session.ExtendMass(targets); err != nil {
			return nil, err
		}
	}
	g.learning = tracer.NewLearning(session, callees, g.isMass)
	switch {
	case g.isMass:
	case o.noLearn:
		if err := session.Extend(targets); err != nil {
			return nil, err
		}
	default:
		if g.candidates = len(targets); g.candidates > 0 {
			fmt.Fprintf(stderr, "trace: functions are attached to one by one here: of %d that may be called, those that are called are added while it runs; --no-learn attaches to all first\n", g.candidates)
		}
		callees.OnlySeen()
	}
	if !o.noPrograms {
		g.programs, err = session.ExtendPrograms(o.selection())
	}
	return g, err
}

// learnAfter is how long a trace lasts before calls through pointers are looked
// for where all others are traced already: it slows all of the kernel for seconds.
const learnAfter = time.Second

// start begins what goes on beside the trace.
func (g *graph) start() {
	g.started = time.Now()
	if !g.isMass && !g.options.noLearn {
		g.learning.Begin()
	}
}

// root takes a call of a root that has returned.
func (g *graph) root(c *calls.Call) {
	if c.Node.End == calls.Returned {
		g.learning.Root(c.Tid, int(c.CPU), c.Entry, c.Exit)
	}
}

// poll adds what has been learned.
func (g *graph) poll(f *flow.Flow) error {
	if g.learning.Waits() && !g.options.noLearn && time.Since(g.started) > learnAfter {
		g.learning.Begin()
	}
	targets, err := g.learning.Poll()
	if err != nil {
		return err
	}
	if len(targets) > 0 {
		f.Grow(targets, shapes(targets))
		g.learning.Go()
	}
	if calls, functions := g.learning.Count(); functions > g.told {
		fmt.Fprintf(g.stderr, "trace: learning: %d calls, %d functions\n", calls, functions)
		g.told = functions
	}
	return nil
}

// close ends what goes on beside.
func (g *graph) close() error {
	err := g.learning.Close()
	learnErr := g.learning.Err()
	_, functions := g.learning.Count()
	switch {
	case learnErr != nil && g.isMass:
		fmt.Fprintf(g.stderr, "trace: what is called through pointers is missing, but for tables of them: %v\n", learnErr)
	case learnErr != nil:
		fmt.Fprintf(g.stderr, "trace: what the roots call is missing; --no-learn traces what their code tells: %v\n", learnErr)
	case g.candidates > 0 && functions == 0:
		fmt.Fprintln(g.stderr, "trace: what the roots call was not learned in this time; --no-learn traces what their code tells")
	}
	if n := g.callees.Unwatched(); n > 0 {
		fmt.Fprintf(g.stderr, "trace: %d functions that may be called through pointers could not be watched\n", n)
	}
	return err
}

// shapes returns the layouts of targets' arguments.
func shapes(targets []*plan.Target) []event.Shape {
	all := make([]event.Shape, len(targets))
	for i, t := range targets {
		all[i] = t.Shape(false)
	}
	return all
}

// reportSkipped says what may be called and can't be traced.
func (g *graph) reportSkipped(p *plan.Plan) {
	skipped := g.skipped(p)
	if g.options.verbose {
		reportSkipped(g.stderr, skipped)
		return
	}
	programs := 0
	for _, s := range skipped {
		if s.Module == kallsyms.ModuleBPF {
			programs++
		}
	}
	if n := len(skipped) - programs; n > 0 {
		fmt.Fprintf(g.stderr, "trace: %d functions that may be called are not traced; -v names them and why, and what they call is shown\n", n)
	}
	if programs > 0 {
		fmt.Fprintf(g.stderr, "trace: %d BPF programs are not shown if they run; -v names them\n", programs)
	}
}

// running shows the nodes that have not returned.
func (g *graph) running(f *flow.Flow) error {
	now, err := tracer.Now()
	if err != nil {
		return err
	}
	return g.session.Running(func(raw []byte) { f.Running(raw, now) })
}

// skipped returns what may be called and can't be traced, but for what the plan
// has already.
func (g *graph) skipped(p *plan.Plan) []plan.Skip {
	have := make(map[string]bool, len(p.Skipped))
	for _, s := range p.Skipped {
		have[s.Func] = true
	}
	var more []plan.Skip
	for _, s := range slices.Concat(g.callees.Skipped(), g.programs) {
		if !have[s.Func] {
			have[s.Func] = true
			more = append(more, s)
		}
	}
	refused := g.session.Refused()
	for t, reason := range refused {
		if !have[t.Func] && !t.Root {
			have[t.Func] = true
			more = append(more, plan.Skip{Func: t.Func, Module: t.Module, Prototype: t.Prototype(), Reason: reason})
		}
	}
	return more
}

// planGraph prints what the code of the roots calls, or what would be traced, and
// attaches nothing.
func planGraph(o *options, kernel *plan.Kernel, p *plan.Plan, filters plan.Filters, symbols func() (*tracer.Symbols, error), stdout, stderr io.Writer) (err error) {
	syms, err := symbols()
	if err != nil {
		return err
	}
	if err := syms.Check(p); err != nil {
		return err
	}
	// The kernel's code is read by a program.
	session, err := tracer.Load(kernel, p, tracer.Options{Exits: true, Calls: true, BufferSize: o.bufferLen, Graph: o.graphOptions(filters)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, session.Close()) }()
	p.Skip(session.Refused())
	callees, err := o.newCallees(session, syms)
	if err != nil {
		return err
	}
	if o.graphProto {
		return printProto(callees, stdout)
	}
	targets, err := callees.Next()
	if err != nil {
		return err
	}
	roots := 0
	for _, t := range p.Targets {
		if t.Root {
			roots++
		}
	}
	for _, t := range slices.Concat(p.Targets, targets) {
		indent := "  "
		if t.Root {
			indent = ""
		}
		text := t.Prototype()
		if t.Raw {
			text = "no BTF prototype: shown with registers"
		}
		if _, err := fmt.Fprintf(stdout, "%s%s: %s\n", indent, qualified(t.Func, t.Module), text); err != nil {
			return fmt.Errorf("write plan: %w", err)
		}
	}
	skipped := append(p.Skipped, callees.Skipped()...)
	reportSkipped(stderr, skipped)
	fmt.Fprintf(stderr, "trace: would trace %d roots and %d functions below them, %d not; what else is called through pointers is found when it is called\n",
		roots, len(p.Targets)-roots+len(targets), len(skipped))
	return nil
}

// printProto prints the call tree that the code has.
func printProto(callees *tracer.Callees, w io.Writer) error {
	var failed error
	callees.Walk(func(depth int, name, module string, again bool) {
		more := ""
		if again {
			more = " ..."
		}
		if _, err := fmt.Fprintf(w, "%*s%s%s\n", 2*depth, "", qualified(name, module), more); err != nil && failed == nil {
			failed = fmt.Errorf("write call tree: %w", err)
		}
	})
	return failed
}
