package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"fgtrace/bpf/wire"
	"fgtrace/btfx/expr"
	"fgtrace/tracer"
	"fgtrace/tracer/build"
	"fgtrace/tracer/spec"
)

// options is the command line of a trace, as it was typed and as it was parsed.
type options struct {
	kfuncs     []string
	mode       string
	bufferSize string
	color      string
	format     string
	json       bool
	backend    string

	graph           bool
	graphDepth      int
	graphDepthGiven bool
	graphInclude    []string
	graphExclude    []string
	graphExtra      []string
	graphProto      bool
	graphSummary    bool
	noIRQs          bool
	noLearn         bool
	noPrograms      bool

	graphIncludes, graphExcludes, graphExtras []spec.Target

	stack       bool
	output      string
	limit       uint64
	pids        []int
	comm        string
	cgroup      string
	filterCmd   bool
	filterArgs  []string
	filterRets  []string
	filterNodes []string
	outputs     []string
	depth       int
	outputPkt   bool
	pcap        string
	snaplen     int

	snaplenGiven, depthGiven bool

	filterPkt   string
	tunnel      bool
	tunnelPorts []string
	filterDev   string
	filterMark  string
	follow      bool // packets of calls that are shown
	filterNetNS string
	empty       []string // of the filters for packets, those given with nothing in them
	least       time.Duration
	duration    time.Duration
	self        bool
	dryRun      bool
	yes         bool
	verbose     bool
	command     []string
	commandPath string

	targets    []spec.Target
	parsedMode spec.Mode
	bufferLen  int
}

const (
	defaultBuffer = "16M"
	defaultDepth  = 5
	defaultLevels = 2
)

func newTraceCommand(stdout, stderr io.Writer) *cobra.Command {
	o := &options{}
	cmd := &cobra.Command{
		Use:   "trace -k FUNCTION [flags] [-- COMMAND [ARGS]]",
		Short: "Show calls of kernel functions: arguments, results, durations, call chains",
		Example: `  trace -k icmp_rcv --output-stack -- ping -c 1 127.0.0.1
  trace -k 'tcp_*' --filter-comm curl --json -o calls.json
  trace list 'nft_*'`,
		Version: version,
		// What is no subcommand is for RunE to refuse: cobra's own error is not
		// told from one of a run.
		Args:          cobra.ArbitraryArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if dash := cmd.ArgsLenAtDash(); dash == 0 {
				o.command = args
			} else if len(args) > 0 {
				return usageError{fmt.Errorf("parse arguments: unexpected %q; a command to run goes behind --", args[0])}
			}
			o.graphDepthGiven = cmd.Flags().Changed("fgraph-max-depth")
			o.snaplenGiven, o.depthGiven = cmd.Flags().Changed("snaplen"), cmd.Flags().Changed("depth")
			for _, name := range []string{"filter-cgroup", "filter-pkt", "filter-ifname", "filter-mark", "filter-netns"} {
				if f := cmd.Flags().Lookup(name); f.Changed && f.Value.String() == "" {
					o.empty = append(o.empty, name)
				}
			}
			if err := o.parse(); err != nil {
				return err
			}
			return run(cmd.Context(), o, stdout, stderr)
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.kfuncs, "kfunc", "k", nil, "kernel functions: names and globs, separated by commas; repeatable. NAME{EXPRESSION}: as by --filter-arg, of these alone")
	f.StringVarP(&o.mode, "mode", "m", "", "what to print: entry, exit, or entry,exit (default: one line a call, at its exit)")
	f.BoolVar(&o.stack, "output-stack", false, "print the call chain")
	f.StringArrayVar(&o.outputs, "output-arg", nil, "print the value of this C `EXPRESSION` over the parameters at the entry; repeatable")
	f.BoolVar(&o.outputPkt, "output-pkt", false, "print the packet at the entry, as tcpdump does")
	f.StringVar(&o.pcap, "output-pcap", "", "write packets at the entry to `FILE` as pcapng, an interface for each function; - is stdout")
	f.IntVar(&o.snaplen, "snaplen", wire.MaxPacket, "with --output-pcap: bytes of a packet that are written, at most")
	f.IntVar(&o.depth, "depth", defaultLevels, "with --output-arg: levels of structs in one another that are printed; 0: all")
	f.BoolVarP(&o.graph, "output-fgraph", "g", false, "print what the functions call, nested")
	f.IntVar(&o.graphDepth, "fgraph-max-depth", defaultDepth, fmt.Sprintf("with -g: levels below the function; 0: no limit but %d", tracer.MaxDepth))
	f.StringArrayVar(&o.graphInclude, "fgraph-include", nil, "with -g: of the functions that are called, only these (as for -k)")
	f.StringArrayVar(&o.graphExclude, "fgraph-exclude", nil, "with -g: not these")
	f.StringArrayVar(&o.graphExtra, "fgraph-extra", nil, "with -g: these too, whether anything seems to call them or not")
	f.BoolVar(&o.graphProto, "fgraph-proto", false, "with -g: print what the code of the functions calls, and stop")
	f.BoolVar(&o.graphSummary, "fgraph-summary", false, "with -g: print a summary in place of the calls")
	f.BoolVar(&o.noIRQs, "no-irqs", false, "with -g: leave out what hardware interrupts call")
	f.BoolVar(&o.noLearn, "no-learn", false, "with -g: don't watch the kernel for a moment for what is called through pointers")
	f.BoolVar(&o.noPrograms, "no-programs", false, "with -g: don't show the BPF programs that run inside")
	f.StringVarP(&o.output, "output", "o", "", "write the events to `FILE`")
	f.StringVar(&o.format, "format", "text", "output format: text or json; with -g also perfetto or folded")
	f.BoolVar(&o.json, "json", false, "short for --format json")
	f.StringVar(&o.color, "color", "auto", "colours: auto, always or never")
	f.Uint64VarP(&o.limit, "limit-events", "E", 0, "stop after `N` events")
	f.DurationVar(&o.duration, "duration", 0, "stop after this time, such as 10s")
	f.IntSliceVar(&o.pids, "filter-pid", nil, "only calls of these processes")
	f.StringVar(&o.comm, "filter-comm", "", "only calls of tasks of this `NAME`")
	f.StringVar(&o.cgroup, "filter-cgroup", "", "only calls of tasks in the cgroup of this `PATH`, or below it, such as a container's; a relative one is below /sys/fs/cgroup")
	f.StringArrayVar(&o.filterArgs, "filter-arg", nil, "only calls for which this C `EXPRESSION` over the parameters holds at the entry; repeatable: all must; with -g of the roots")
	f.StringArrayVar(&o.filterRets, "filter-ret", nil, "only calls for which this C `EXPRESSION` over retval holds; repeatable: all must")
	f.StringArrayVar(&o.filterNodes, "filter-node", nil, "with -g: below the roots only calls for which this C `EXPRESSION` over the parameters holds; repeatable: all must")
	f.StringVar(&o.filterPkt, "filter-pkt", "", "only calls whose packet matches this pcap `FILTER` at the entry; with -g of the roots")
	f.BoolVar(&o.tunnel, "filter-tunnel", false, "--filter-pkt is for what is inside of VXLAN, Geneve, GRE and IP in IP")
	f.StringSliceVar(&o.tunnelPorts, "tunnel-port", nil, "with --filter-tunnel: a further UDP `PORT`: vxlan:PORT or geneve:PORT; repeatable")
	f.StringVar(&o.filterDev, "filter-ifname", "", "only calls whose packet is on the network device of this `NAME`")
	f.StringVar(&o.filterMark, "filter-mark", "", "only calls whose packet has this mark: `VALUE[/MASK]`")
	f.StringVar(&o.filterNetNS, "filter-netns", "", "only calls whose packet is in this network namespace: a `NAME` of ip-netns(8), a path such as /proc/PID/ns/net, or an inode")
	f.BoolVar(&o.follow, "track-skb", false, "once a call of a packet is shown, show all that the packet and its copies have until they are freed")
	f.DurationVar(&o.least, "duration-threshold", 0, "only calls that took so long, such as 100us; with -g nodes")
	f.BoolVar(&o.filterCmd, "filter-cmd", false, "only calls of COMMAND and of all that it starts")
	f.BoolVar(&o.self, "self", false, "show calls of trace itself, too")
	f.StringVar(&o.bufferSize, "buffer-size", defaultBuffer, "size of the ring buffer, such as 64M")
	f.StringVar(&o.backend, "backend", "", "way of attaching: "+strings.Join(tracer.Backends(), ", ")+" (default: chosen)")
	f.BoolVar(&o.dryRun, "dry-run", false, "print what would be traced, and stop")
	f.BoolVar(&o.yes, "yes", false, fmt.Sprintf("trace more than %d functions", maxTargets))
	f.BoolVarP(&o.verbose, "verbose", "v", false, "print more: raw stacks, how functions are attached")
	f.SortFlags = false
	registerCompletions(cmd)
	return cmd
}

// maxTargets is how many functions are traced without --yes: a glob is easily
// larger than it was meant.
const maxTargets = 1000

// parse turns what was typed into what is meant. All that can be found wrong
// without looking at the kernel is found here.
func (o *options) parse() error {
	var err error
	if len(o.kfuncs) == 0 {
		return usageError{errors.New("parse arguments: no function to trace; give one with -k, or see `trace --help`")}
	}
	if o.targets, err = spec.ParseFiltered(o.kfuncs); err != nil {
		return err
	}
	if o.parsedMode, err = spec.ParseMode(o.mode); err != nil {
		return err
	}
	size, err := spec.ParseSize(o.bufferSize)
	if err != nil {
		return usageError{err}
	}
	o.bufferLen = spec.RoundRing(size, os.Getpagesize())
	if o.json {
		o.format = "json"
	}
	if err := o.parseGraph(); err != nil {
		return err
	}
	switch {
	case !slices.Contains(o.formats(), o.format):
		return usageError{fmt.Errorf("parse --format: no format %q: there are %s", o.format, strings.Join(o.formats(), ", "))}
	case o.backend != "" && !slices.Contains(tracer.Backends(), o.backend):
		return usageError{fmt.Errorf("parse --backend: no backend %q: there are %s", o.backend, strings.Join(tracer.Backends(), ", "))}
	case o.color != "auto" && o.color != "always" && o.color != "never":
		return usageError{fmt.Errorf("parse --color: %q is none of auto, always, never", o.color)}
	case len(o.comm) > build.MaxComm:
		return usageError{fmt.Errorf("parse --filter-comm: %q is longer than the %d bytes of a task's name", o.comm, build.MaxComm)}
	case o.filterCmd && len(o.command) == 0:
		return usageError{errors.New("parse --filter-cmd: there is no command; give one behind --")}
	case o.follow && !o.selects():
		return usageError{errors.New("parse --track-skb: no filter says which packets are followed")}
	case o.snaplen < 1 || o.snaplen > wire.MaxPacket:
		return usageError{fmt.Errorf("parse --snaplen: %d is not within 1 and %d", o.snaplen, wire.MaxPacket)}
	case o.pcap == "-" && o.output == "" && (o.format != "text" || o.graphSummary || slices.ContainsFunc(o.outputs, expr.Counts)):
		return usageError{errors.New("parse --output-pcap: stdout has the packets; give the rest a file by -o")}
	case o.pcap != "" && o.pcap == o.output:
		return usageError{fmt.Errorf("parse --output-pcap: %s can't have both the packets and the events", o.pcap)}
	case o.pcap == "" && o.snaplenGiven:
		return usageError{errors.New("parse --snaplen: it belongs to --output-pcap")}
	case len(o.outputs) == 0 && o.depthGiven:
		return usageError{errors.New("parse --depth: it belongs to --output-arg")}
	case o.depth < 0:
		return usageError{fmt.Errorf("parse --depth: %d is negative", o.depth)}
	case o.least < 0:
		return usageError{fmt.Errorf("parse --duration-threshold: %v is negative", o.least)}
	case o.parsedMode == spec.Entry && o.asksExits() != "":
		return usageError{fmt.Errorf("parse --%s: entries alone have no exits; it doesn't go with -m entry", o.asksExits())}
	case o.duration < 0:
		return usageError{fmt.Errorf("parse --duration: %v is negative", o.duration)}
	}
	if o.cgroup != "" && !filepath.IsAbs(o.cgroup) {
		o.cgroup = filepath.Join("/sys/fs/cgroup", o.cgroup)
	}
	if len(o.command) > 0 {
		if o.commandPath, err = exec.LookPath(o.command[0]); err != nil {
			return fmt.Errorf("find command: %w", err)
		}
	}
	return nil
}

// formats returns the output formats that there are.
func (o *options) formats() []string {
	if o.graph {
		return []string{"text", "json", "perfetto", "folded"}
	}
	return []string{"text", "json"}
}

// parseGraph parses what belongs to -g.
func (o *options) parseGraph() error {
	if !o.graph {
		if name := o.graphOnly(); name != "" {
			return usageError{fmt.Errorf("parse --%s: it belongs to -g", name)}
		}
		return nil
	}
	switch {
	case len(o.filterRets) > 0:
		return usageError{errors.New("parse --filter-ret: a graph is shown as it grows, before its root returns; it doesn't go with -g")}
	case o.mode != "":
		return usageError{errors.New("parse --mode: a graph has both entries and exits; -m and -g don't go together")}
	case o.stack:
		return usageError{errors.New("parse --output-stack: a graph shows no stacks; --output-stack and -g don't go together")}
	case o.graphDepth < 0 || o.graphDepth > tracer.MaxDepth:
		return usageError{fmt.Errorf("parse --fgraph-max-depth: %d is not within 0 and %d", o.graphDepth, tracer.MaxDepth)}
	case o.graphSummary && o.format != "text":
		return usageError{fmt.Errorf("parse --fgraph-summary: it is text, not %s", o.format)}
	}
	for _, list := range []struct {
		text    []string
		targets *[]spec.Target
	}{{o.graphInclude, &o.graphIncludes}, {o.graphExclude, &o.graphExcludes}, {o.graphExtra, &o.graphExtras}} {
		if len(list.text) == 0 {
			continue
		}
		var err error
		if *list.targets, err = spec.ParseTargets(list.text); err != nil {
			return err
		}
	}
	return nil
}

// graphOnly names an option that was given and has a meaning with -g only, or "".
func (o *options) graphOnly() string {
	for _, option := range []struct {
		name  string
		given bool
	}{
		{"filter-node", len(o.filterNodes) > 0}, {"fgraph-max-depth", o.graphDepthGiven}, {"fgraph-include", len(o.graphInclude) > 0},
		{"fgraph-exclude", len(o.graphExclude) > 0}, {"fgraph-extra", len(o.graphExtra) > 0},
		{"fgraph-proto", o.graphProto}, {"fgraph-summary", o.graphSummary}, {"no-irqs", o.noIRQs}, {"no-learn", o.noLearn},
		{"no-programs", o.noPrograms},
	} {
		if option.given {
			return option.name
		}
	}
	return ""
}

// selects tells whether an option says which calls are shown, as of their entries.
func (o *options) selects() bool {
	return len(o.filterArgs)+len(o.pids)+len(o.comm)+len(o.cgroup)+len(o.filterPkt)+len(o.filterDev)+len(o.filterMark)+len(o.filterNetNS) > 0 ||
		o.filterCmd || slices.ContainsFunc(o.targets, func(t spec.Target) bool { return t.Filter != "" })
}

// asksExits names an option that was given and is about exits, or "".
func (o *options) asksExits() string {
	switch {
	case len(o.filterRets) > 0:
		return "filter-ret"
	case o.least > 0:
		return "duration-threshold"
	}
	return ""
}

// lineSnaplen is how many bytes of a packet a line is made of: headers, with those of
// tunnels.
const lineSnaplen = 256

// packetLen returns how many bytes of packets are to be had; 0: none.
func (o *options) packetLen() int {
	switch {
	case o.pcap != "" && o.outputPkt:
		return max(o.snaplen, lineSnaplen)
	case o.pcap != "":
		return o.snaplen
	case o.outputPkt:
		return lineSnaplen
	}
	return 0
}

// asked returns all the targets that were named.
func (o *options) asked() []spec.Target { return slices.Concat(o.targets, o.graphExtras) }

// isRoot tells whether a function was named as one that begins a graph.
func (o *options) isRoot(name string) bool {
	return slices.ContainsFunc(o.targets, func(t spec.Target) bool { return t.Match(name) })
}

// colored tells whether text to w is to have colours.
func (o *options) colored(w io.Writer) bool {
	switch o.color {
	case "always":
		return true
	case "never":
		return false
	}
	f, ok := w.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && term.IsTerminal(int(f.Fd()))
}

// argv is the command line, for the record.
func (o *options) argv() []string { return os.Args }

// targetText spells the targets as they were typed.
func (o *options) targetText() string { return strings.Join(o.kfuncs, ",") }
