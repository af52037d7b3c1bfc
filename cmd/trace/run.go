package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"fgtrace/tracer"
	"fgtrace/tracer/flow"
	"fgtrace/tracer/plan"
	"fgtrace/tracer/render"
	"fgtrace/tracer/spec"
)

// run is a trace from its command line to its exit status.
func run(ctx context.Context, o *options, stdout, stderr io.Writer) (err error) {
	// A reader that has gone is an error of a write, not a death: links are
	// to be closed, and the command to be looked after. The command itself gets
	// the signal as ever, which it would not if it was ignored here.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()

	progress := newProgress(stderr)
	packets := o.compilePackets(ctx) // beside what follows
	kernel, err := tracer.Inspect()
	if err != nil {
		return err
	}
	progress.phase("types")
	p, symbols, err := resolve(o, kernel)
	if err != nil {
		return err
	}
	progress.phase("plan")
	filters := plan.Filters{
		Args: o.filterArgs, Results: o.filterRets, Outputs: o.outputs, Depth: o.depth, Packet: o.packetLen() > 0, Nodes: o.filterNodes, Follow: o.follow,
		Targets: o.targets, Variable: tracer.NewVariables(kernel).Find,
	}
	if filters.Packets, err = packets(); err != nil {
		return usageError{err}
	}
	if f := filters.Packets.Filter; f != nil && f.NoRaw != "" {
		where := "no packet that has no Ethernet header yet"
		if f.Tunnel != nil {
			where = "nothing in tunnels that have no Ethernet header inside"
		}
		fmt.Fprintf(stderr, "trace: --filter-pkt matches %s: %s\n", where, f.NoRaw)
	}
	if err := p.Filter(filters); err != nil {
		return usageError{err}
	}
	progress.phase("filters")
	if n := len(p.Targets); n > maxTargets && !o.yes && !o.dryRun && !o.graphProto {
		return usageError{fmt.Errorf("plan: %q names %d functions; --yes traces more than %d", o.targetText(), n, maxTargets)}
	}
	if o.dryRun && !o.graph {
		return dryRun(kernel, p, symbols, stdout, stderr)
	}

	if len(p.Targets) == 0 {
		return nothing(o, p, symbols, stderr)
	}

	if o.graph {
		for _, t := range p.Targets {
			t.Root = o.isRoot(t.Func)
		}
		if o.dryRun || o.graphProto {
			return planGraph(o, kernel, p, filters, symbols, stdout, stderr)
		}
	}
	names, unwatched := tracer.NewNames(o.stack)
	if unwatched != nil {
		fmt.Fprintf(stderr, "trace: BPF code that comes and goes within a moment may stay without a name in stacks: %v\n", unwatched)
	}
	defer names.Close()
	session, err := tracer.Load(kernel, p, tracer.Options{
		Exits:      o.parsedMode != spec.Entry,
		Calls:      o.parsedMode == spec.Call,
		Stack:      o.stack,
		RawStacks:  o.verbose,
		Self:       o.self,
		Pids:       o.pids,
		Command:    o.filterCmd,
		Comm:       o.comm,
		Cgroup:     o.cgroup,
		Backend:    o.backend,
		LeastTime:  o.least,
		Snaplen:    o.packetLen(),
		Fragments:  o.pcap != "",
		Follow:     o.follow,
		Packets:    o.filterPkt != "",
		BufferSize: o.bufferLen,
		Graph:      o.graphOptions(filters),
		Progress:   progress.step,
	})
	if err != nil {
		return err
	}
	closed := false
	closeSession := func() error {
		if closed {
			return nil
		}
		closed = true
		return session.Close()
	}
	defer func() { err = errors.Join(err, closeSession()); progress.done() }()

	progress.phase("load")
	syms, err := symbols()
	if err != nil {
		return err
	}
	progress.phase("symbols")
	if err := syms.Check(p); err != nil {
		return err
	}
	if syms.Hidden() && o.stack {
		return errors.New("name stacks: /proc/kallsyms hides its addresses: CAP_SYSLOG is needed, or kernel.kptr_restrict=0")
	}
	out, err := openOutput(o, stdout)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	capture, err := openCapture(o, stdout)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, capture.Close()) }()
	if err := session.Attach(p); err != nil {
		return err
	}
	var g *graph
	if o.graph {
		if g, err = newGraph(o, session, syms, stderr); err != nil {
			return err
		}
	}
	p.Skip(session.Refused())
	reportSkipped(stderr, p.Skipped)
	if g != nil {
		g.reportSkipped(p)
	}
	for _, text := range session.Notes() {
		fmt.Fprintf(stderr, "trace: %s\n", text)
	}
	attached := session.Attached()
	if len(attached) == 0 {
		return nothingError(o)
	}

	names.Use(syms)
	f, err := newFlow(o, kernel, session, names, out, g)
	if err != nil {
		return err
	}
	t := &tracing{
		options: o, session: session, flow: f, graph: g, out: out, capture: capture, stderr: stderr,
		mixedStdout: o.format != "text" && out.file == nil || o.pcap == "-",
	}
	offset, err := tracer.RealtimeOffset()
	if err != nil {
		return err
	}
	f.Start(&render.Start{
		Kernel: kernel.Release, Arch: kernel.Arch.Name, Version: version, Argv: o.argv(),
		Targets: len(attached), RealtimeOffset: offset,
	})
	if err := session.Start(syms); err != nil {
		return err
	}
	refused, absent := session.UnwatchedSKBs()
	if len(refused) > 0 {
		fmt.Fprintf(stderr, "trace: packets are not followed through functions that the kernel refuses: %s\n", strings.Join(refused, ", "))
	}
	if len(absent) > 0 && o.verbose {
		fmt.Fprintf(stderr, "trace: packets are not followed through functions that this kernel does not have: %s\n", strings.Join(absent, ", "))
	}
	if err := session.Unfragmented(); err != nil {
		fmt.Fprintf(stderr, "trace: what packets have in fragments is not read: %v\n", err)
	}
	progress.phase("attach")
	progress.done()
	if g != nil {
		g.start()
	}
	if o.verbose {
		fmt.Fprintf(stderr, "trace: %s\n", progress.ready())
		reportAttached(stderr, attached, kernel)
	}
	runErr := t.run(ctx)
	endErr := t.finish(p)
	reportLacking(stderr, session.Targets())
	if names.Err() != nil {
		endErr = errors.Join(endErr, names.Err())
	}
	if err := errors.Join(endErr, closeSession()); err != nil {
		// What trace itself has to report goes before the command's status.
		if runErr != nil {
			err = fmt.Errorf("%w (the command: %v)", err, runErr)
		}
		return err
	}
	return runErr
}

// nothing tells why there is nothing to trace: a name that no function has, or
// only functions that can't be traced.
func nothing(o *options, p *plan.Plan, symbols func() (*tracer.Symbols, error), stderr io.Writer) error {
	syms, err := symbols()
	if err != nil {
		return err
	}
	if err := syms.Check(p); err != nil {
		return err
	}
	reportSkipped(stderr, p.Skipped)
	return nothingError(o)
}

func nothingError(o *options) error {
	return fmt.Errorf("plan: none of the functions that %q names can be traced", o.targetText())
}

// resolve makes the plan, and starts reading the symbols that complete it.
func resolve(o *options, kernel *plan.Kernel) (*plan.Plan, func() (*tracer.Symbols, error), error) {
	p, err := plan.Resolve(o.asked(), kernel)
	if err != nil {
		return nil, nil, err
	}
	type result struct {
		symbols *tracer.Symbols
		err     error
	}
	done := make(chan result, 1)
	collector := tracer.NewSymbols(o.asked(), p)
	if o.graph {
		collector.ForGraph()
	}
	go func() {
		err := collector.Read()
		done <- result{collector, err}
	}()
	return p, func() (*tracer.Symbols, error) { r := <-done; return r.symbols, r.err }, nil
}

func newFlow(o *options, kernel *plan.Kernel, session *tracer.Session, names *tracer.Names, out *output, g *graph) (*flow.Flow, error) {
	options := flow.Options{
		Mode:    o.parsedMode,
		Least:   uint64(o.least),
		Limit:   o.limit,
		Targets: session.Targets(),
		Shapes:  session.Shapes(),
		Missed:  session.Missed,
		Graph:   o.graph,
	}
	if o.stack {
		limit, err := session.StackLimit()
		if err != nil {
			return nil, err
		}
		options.Stacks = &flow.Stacks{Symbols: names, Limit: limit, PatchSpan: kernel.Arch.PatchSpan, Raw: o.verbose}
	}
	if o.pcap != "" {
		options.Capture = render.NewPcap(session.Targets(), names.Values(), render.PcapOptions{Snaplen: o.snaplen, Exits: o.parsedMode == spec.Exit})
	}
	if g != nil {
		options.Shapes = shapes(session.Targets()) // a program may end what another has begun
		options.Root, options.Seen = g.root, g.learning.Seen
	}
	switch {
	case o.graphSummary:
		options.Renderer = render.NewSummary(session.Targets())
	case o.format == "json":
		options.Renderer = render.NewJSON(session.Targets(), names.Values())
	case o.format == "perfetto":
		options.Renderer = render.NewPerfetto(session.Targets(), names.Values())
	case o.format == "folded":
		options.Renderer = render.NewFolded(session.Targets())
	default:
		options.Renderer = render.NewText(session.Targets(), names.Values(), render.TextOptions{Color: o.colored(out.w)})
	}
	return flow.New(options), nil
}

// tracing is a trace that is under way.
type tracing struct {
	options     *options
	session     *tracer.Session
	flow        *flow.Flow
	graph       *graph // nil without -g
	out         *output
	capture     *output
	stderr      io.Writer
	mixedStdout bool // stdout is ours: the command's goes to stderr
	full        bool // the limit of events is reached
}

// run reads until the command ends, the limit or the time is reached, or the
// user stops it. It returns the command's status as an error.
func (t *tracing) run(ctx context.Context) error {
	cmd, err := t.startCommand()
	if err != nil {
		return err
	}
	var timeout <-chan time.Time
	if t.options.duration > 0 {
		timer := time.NewTimer(t.options.duration)
		defer timer.Stop()
		timeout = timer.C
	}
	tick := time.NewTicker(tracer.PollInterval)
	defer tick.Stop()
	var writeErr error
	for {
		if writeErr = t.drain(); writeErr != nil || t.full {
			break
		}
		select {
		case <-cmd.ended():
			return cmd.status()
		case <-ctx.Done():
			cmd.stop(ctx)
			return cmd.status()
		case <-timeout:
			cmd.terminate()
			return nil
		case <-tick.C:
			continue
		}
	}
	cmd.terminate()
	if errors.Is(writeErr, unix.EPIPE) {
		return nil // the reader has what it wants
	}
	return writeErr
}

// drain shows what is there.
func (t *tracing) drain() error {
	t.session.Drain(t.flow.Record)
	t.full = t.flow.Full()
	if t.graph != nil {
		if err := t.graph.poll(t.flow); err != nil {
			return err
		}
	}
	return t.write()
}

// write hands over what was rendered.
func (t *tracing) write() error {
	return errors.Join(t.out.write(t.flow.Take()), t.capture.write(t.flow.TakeCapture()))
}

// finish shows what is left, and what is missing.
func (t *tracing) finish(p *plan.Plan) error {
	if err := t.session.Stop(); err != nil {
		return err
	}
	var errs []error
	if t.graph != nil {
		errs = append(errs, t.graph.close())
	}
	// A program that passed the gate may still be writing.
	time.Sleep(tracer.PollInterval)
	losses, sharedMisses, uncounted := t.session.Losses()
	if !t.full {
		errs = append(errs, t.drain())
	}
	if uncounted != nil {
		return errors.Join(append(errs, uncounted)...)
	}
	if t.graph != nil && !t.full {
		errs = append(errs, t.graph.running(t.flow))
	}
	end := t.end(losses, sharedMisses)
	end.Skipped = p.Skipped
	if t.graph != nil {
		lost, err := t.session.LostOpens()
		errs = append(errs, err)
		end.LostOpens = lost
		end.Skipped = append(end.Skipped, t.graph.skipped(p)...)
	}
	followed, err := t.session.Followed()
	errs = append(errs, err)
	end.Followed, end.NotFreed, end.NotFollowed = followed.Packets, followed.Left, followed.Lost
	t.flow.Finish(end)
	errs = append(errs, t.write())
	reportEnd(t.stderr, end, t.graph != nil)
	n, err := t.session.LostProcesses()
	errs = append(errs, err)
	if n > 0 {
		fmt.Fprintf(t.stderr, "trace: %d processes of the command could not be followed: the set is full\n", n)
	}
	if err = errors.Join(errs...); errors.Is(err, unix.EPIPE) {
		return nil
	}
	return err
}

// end adds up what is missing.
func (t *tracing) end(losses []tracer.Loss, sharedMisses uint64) *render.End {
	end := &render.End{RecursionMisses: sharedMisses}
	undecoded := t.flow.Undecoded()
	for i, l := range losses {
		end.Lost += l.LostEntries + l.LostExits + undecoded[i]
		end.RecursionMisses += l.RecursionMisses
		end.Self += l.Self
		end.NoExit += l.NoExit
		end.Running += l.Running
		end.NoTree += l.NoTree
		end.TooDeep += l.TooDeep
		end.Unread += l.Unread
		end.LostPackets += l.LostPackets
		end.NoPacket += l.NoPacket
		loss := render.Loss{
			Target: t.session.Targets()[i], LostEntries: l.LostEntries, LostExits: l.LostExits,
			LostPackets: l.LostPackets, RecursionMisses: l.RecursionMisses, Undecoded: undecoded[i],
		}
		if l.LostEntries+l.LostExits+l.LostPackets+l.RecursionMisses+undecoded[i] > 0 {
			end.PerTarget = append(end.PerTarget, loss)
		}
	}
	end.Lost += undecoded[len(losses)]
	return end
}
