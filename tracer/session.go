package tracer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"fgtrace/bpf"
	"fgtrace/bpf/wire"
	"fgtrace/btfx"
	"fgtrace/internal/bpfsys"
	"fgtrace/tracer/build"
	"fgtrace/tracer/event"
	"fgtrace/tracer/packet"
	"fgtrace/tracer/packet/codegen"
	"fgtrace/tracer/plan"
)

// Options say what is traced of each call.
type Options struct {
	Exits      bool // attach to the return too; without it there are entries only
	Calls      bool // entries are not wanted before their exits: send them together where possible
	Stack      bool
	RawStacks  bool  // stacks are wanted with all of the tracer's own frames
	Self       bool  // show the tracer's own calls
	Pids       []int // show only calls of these processes; none: all
	Command    bool  // show only calls of what Follow starts; adds to Pids
	Comm       string
	Cgroup     string        // only calls of tasks in the cgroup (v2) of this path, or below it; "": all
	Backend    string        // one of Backends; "": the best that the kernel has
	LeastTime  time.Duration // of a call that is shown
	Snaplen    int           // bytes of a packet that are shown, at most
	Fragments  bool          // those that a packet has in fragments, too
	Packets    bool          // filters look into packets
	BufferSize int           // of the ring buffer, in bytes: a power of two of pages
	Follow     bool          // packets of calls that are shown, to whatever other calls they have
	Graph      *GraphOptions // calls are nodes of a function graph; nil: they are on their own

	// Progress, if not nil, is called as a phase goes on: "loading", 37, 120.
	Progress func(phase string, done, total int)
}

// Session is a trace that is under way. Its phases are Load, Attach, Start,
// Drain as often as there may be records, Stop, Close.
type Session struct {
	kernel  *plan.Kernel
	opts    Options
	targets []*plan.Target // a record's target is an index
	shapes  []event.Shape
	refused map[*plan.Target]string // the reasons

	cast     codegen.Cast
	programs collection
	maps     map[string]*ebpf.Map
	control  *ebpf.Memory
	bases    bases
	ring     *ring
	build    build.Options
	backends []backend
	peeker   int // descriptor of the program that reads kernel memory; -1: not loaded
	modules  moduleBTF
	others   []int // descriptors
	progress func(phase string, done, total int)

	notes        []string // see Notes
	fragments    packet.Fragments
	unfragmented error // why fragments of packets can't be read
	packetBytes  packetBytes

	skbHooks      []hookedSKB
	unwatchedSKBs []string
	absentSKBs    []string

	// probesRefused tells that the kernel took no probe in place of a link.
	probesRefused bool

	missed       missWatch
	missedBefore *tally // the gate was opened

	// Of a graph.
	roots     int
	massProgs map[massKey]*ebpf.Program
	foreign   []ebpf.ProgramID // BPF programs that were there before ours,
	// if the kernel tells.
	programsHidden bool
	traced         map[*plan.Target]*ebpf.Program
}

// bases are where variables are in the memory that the session shares with its
// programs, in bytes.
type bases struct{ control, slots, peeked, tasks, preemptCounts int64 }

// collection holds the programs as the object has them.
type collection struct {
	spec *ebpf.CollectionSpec
	maps map[string]*ebpf.Map
}

// Load creates the maps and loads a plan's programs. Targets whose programs the
// kernel refuses are left out: see Refused. Close the session in any case.
func Load(k *plan.Kernel, p *plan.Plan, opts Options) (*Session, error) {
	// The plan may still lose targets; the numbers of those here stay.
	s := &Session{kernel: k, opts: opts, targets: slices.Clone(p.Targets), progress: opts.Progress, peeker: -1}
	if s.progress == nil {
		s.progress = func(string, int, int) {}
	}
	s.shapes = make([]event.Shape, len(s.targets))
	if err := s.load(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Session) load() error {
	// Before 5.11 maps count against RLIMIT_MEMLOCK. Whether that can be
	// raised shows when a map can't be made.
	limit := rlimit.RemoveMemlock()

	spec, err := bpf.Spec()
	if err != nil {
		return err
	}
	o := build.Options{
		Stack:      s.opts.Stack,
		Pids:       s.filtersPids(),
		Comm:       s.opts.Comm,
		Cgroup:     s.opts.Cgroup != "",
		Exits:      s.opts.Exits,
		BufferSize: s.opts.BufferSize,
		LeastTime:  s.opts.LeastTime,
		Snaplen:    s.opts.Snaplen,
		Filter:     s.opts.Follow || slices.ContainsFunc(s.targets, func(t *plan.Target) bool { return t.Condition != nil }),
		Follow:     s.opts.Follow,
	}
	if o.Task, err = taskOffsets(s.kernel.Types); err != nil {
		return err
	}
	if s.opts.Fragments || s.opts.Packets {
		s.fragments, s.unfragmented = fragments(s.kernel)
	}
	if s.opts.Fragments {
		o.Fragments = s.fragments
	}
	o.Kfuncs.IRQSave, _ = s.kernel.Types.FindFunc("bpf_local_irq_save")
	o.Kfuncs.IRQRestore, _ = s.kernel.Types.FindFunc("bpf_local_irq_restore")
	o.Kfuncs.IsReturn, _ = s.kernel.Types.FindFunc("bpf_session_is_return")
	o.Kfuncs.Cookie, _ = s.kernel.Types.FindFunc("bpf_session_cookie")
	s.cast = codegen.CastOf(s.kernel.Types)
	room := len(s.targets)
	if s.opts.Graph != nil {
		o.Graph = s.graphOptions()
		room += maxExtra
		s.traced = make(map[*plan.Target]*ebpf.Program)
		s.foreign, err = loadedPrograms()
		if s.programsHidden = errors.Is(err, unix.EPERM); err != nil && !s.programsHidden {
			return err
		}
	}
	mapSpecs, err := o.Maps(spec, room)
	if err != nil {
		return err
	}
	s.maps = make(map[string]*ebpf.Map)
	for name, ms := range mapSpecs {
		m, err := ebpf.NewMap(ms)
		if err != nil {
			return explain(fmt.Errorf("create map %s: %w", name, errors.Join(err, limit)))
		}
		s.maps[name] = m
	}
	for name, base := range map[string]*int64{
		"control": &s.bases.control, "slots": &s.bases.slots, "peeked": &s.bases.peeked,
		"tasks": &s.bases.tasks, "preempt_counts": &s.bases.preemptCounts,
	} {
		variable, ok := spec.Variables[name]
		if !ok {
			return fmt.Errorf("map %s: the object has none", name)
		}
		*base = int64(variable.Offset)
	}
	if s.control, err = s.maps[bpf.MapControl].Memory(); err != nil {
		return fmt.Errorf("map control word: %w", err)
	}
	if s.ring, err = newRing(s.maps[bpf.MapEvents].FD(), s.opts.BufferSize); err != nil {
		return err
	}
	s.programs = collection{spec, s.maps}
	if s.opts.Packets && s.unfragmented == nil {
		s.packetBytes, s.unfragmented = newPacketBytes(s.programs, s.fragments)
	}

	if err := s.identify(&o); err != nil {
		return err
	}
	if s.opts.Command {
		if err := s.follow(o); err != nil {
			return err
		}
	}
	if s.opts.Follow {
		if err := s.followPackets(); err != nil {
			return err
		}
	}
	if s.opts.Graph != nil {
		// The calls of tasks that are gone end with them.
		if err := s.onTracepoint(bpf.ProgFree, "sched_process_free", o.FreeConstants()); err != nil {
			return err
		}
	}
	s.build = o
	all := make([]int, len(s.targets))
	for i := range all {
		all[i] = i
	}
	return s.assign(all, s.ways(), s.assignEach)
}

// assign finds backends for targets, and has them load their programs: one
// program for many functions where there are many and the kernel has such
// programs, else what each does.
func (s *Session) assign(indices []int, ways []way, each func(indices []int) error) error {
	rest := slices.Clone(indices)
	for i, w := range ways {
		forced := s.opts.Backend == w.name
		if s.opts.Backend != "" && !forced {
			continue
		}
		if s.opts.Stack && !w.stacks(s.kernel.Arch) {
			if forced {
				return fmt.Errorf("attach by %s: on %s its stacks lack the traced function's caller", w.name, s.kernel.Arch.Name)
			}
			continue
		}
		// Exact stacks are worth a slow start: see probesForStack.
		if !forced && s.opts.Stack && (s.opts.RawStacks || w.cheapStacks && len(s.targets) > 1) {
			continue
		}
		many := slices.DeleteFunc(slices.Clone(rest), func(i int) bool {
			t := s.targets[i]
			return !takesMany(t) || !w.takes(t) || s.keptFromMass(t)
		})
		forStack := s.probesForStack() && w.cheapStacks && s.kernel.FprobeOnGraph() && len(many) == 1
		if len(many) < massFrom && !forced && !forStack && (s.opts.Graph == nil || len(many) == 0) {
			continue
		}
		m := newMass(s, w, many, ways[i+1:])
		switch err := m.load(s.build); {
		case err == nil:
			s.backends = append(s.backends, m)
			rest = slices.DeleteFunc(rest, func(i int) bool { return slices.Contains(many, i) })
		case forced || !isUnsupported(err):
			m.close()
			return explain(err)
		default:
			m.close()
			s.noteUnused(w, err)
		}
	}
	if s.opts.Backend != "" && s.opts.Backend != BackendLinks {
		for _, i := range rest {
			s.refuse(s.targets[i], "not by "+s.opts.Backend+": the kernel refuses it, or it has structs by value")
		}
		return nil
	}
	return each(rest)
}

// assignEach gives each target programs of its own.
func (s *Session) assignEach(rest []int) error {
	var raw []int
	rest = slices.DeleteFunc(rest, func(i int) bool {
		if s.targets[i].Raw {
			raw = append(raw, i)
		}
		return s.targets[i].Raw
	})
	if len(raw) > 0 {
		k := newKprobes(s, raw)
		s.backends = append(s.backends, k)
		if err := k.load(s.build); err != nil {
			return err
		}
	}
	if len(rest) == 0 {
		return nil
	}
	l := newLinks(s, rest)
	l.probes = s.opts.Backend == "" && s.kernel.FprobeAlone() && s.probesForStack() && takesMany(s.targets[0])
	s.backends = append(s.backends, l)
	return l.load(s.build)
}

// ways returns the ways of attaching to many functions, the best first. In a graph
// probes are: they run without being preempted. A program that a trampoline calls
// may be, and until its task goes on, the kernel leaves out all runs of it on that
// CPU. It serves all functions of the graph.
func (s *Session) ways() []way {
	all := ways()
	if s.opts.Graph != nil {
		slices.Reverse(all)
	}
	return all
}

// keptFromMass tells whether a target of a graph has links in any case: on kernels
// whose sessions miss calls, a missed root is a missed tree.
func (s *Session) keptFromMass(t *plan.Target) bool {
	return s.opts.Graph != nil && t.Root && s.roots < massFrom && s.opts.Backend == "" && !s.kernel.FprobeOnGraph()
}

// probesForStack tells whether a probe is to be had for the sake of its stacks,
// which cost less than half of what they cost in a program that a trampoline
// calls: that one's own frames are dear to unwind. With more targets, stacks would
// go through frames whose returns are hooked by us; where a kretprobe hooks the
// same ones the kernel can't follow.
func (s *Session) probesForStack() bool {
	return s.opts.Stack && !s.opts.RawStacks && s.kernel.Arch.ProbeStacks && len(s.targets) == 1 && !s.probesRefused
}

// BackendLinks is the name of the backend that every kernel has.
const BackendLinks = "links"

// Backends returns the names that Options.Backend may have.
func Backends() []string {
	names := []string{BackendLinks}
	for _, w := range ways() {
		names = append(names, w.name)
	}
	return names
}

// taskOffsets finds what programs read of the current task.
func taskOffsets(types *btfx.Types) (build.Task, error) {
	var t build.Task
	id, ok := types.FindType(btfx.KindStruct, "task_struct")
	if !ok {
		return t, fmt.Errorf("find task_struct: it is not in BTF")
	}
	for name, offset := range map[string]*int{"pid": &t.Pid, "tgid": &t.Tgid, "comm": &t.Comm} {
		member, err := types.Member(id, name)
		if err != nil {
			return t, fmt.Errorf("find task_struct: %w", err)
		}
		*offset = int(member.Offset / 8)
	}
	return t, nil
}

func (s *Session) filtersPids() bool { return s.opts.Command || len(s.opts.Pids) > 0 }

// instructions returns a program with its constants and maps.
func (c collection) instructions(name string, constants build.Constants, expressions build.Expressions) (asm.Instructions, error) {
	ps, ok := c.spec.Programs[name]
	if !ok {
		return nil, fmt.Errorf("load program %s: it is not in the object", name)
	}
	insns, err := build.Program(ps.Instructions, constants, expressions)
	if err != nil {
		return nil, err
	}
	for name, m := range c.maps {
		if err := insns.AssociateMap(name, m); err != nil && !errors.Is(err, asm.ErrUnreferencedSymbol) {
			return nil, fmt.Errorf("load program %s: %w", name, err)
		}
	}
	return insns, nil
}

// identify finds out what the programs see of this process and this kernel.
func (s *Session) identify(o *build.Options) error {
	fd, err := s.loadFD(bpfsys.Program{Name: bpf.ProgWhoami, Type: ebpf.RawTracepoint}, nil, build.Expressions{})
	if err != nil {
		return explain(fmt.Errorf("load program %s: %w", bpf.ProgWhoami, err))
	}
	defer unix.Close(fd)
	// In a PID namespace os.Getpid() is another number.
	tgid, err := bpfsys.RunRawTracepoint(fd)
	if err != nil {
		return fmt.Errorf("run program %s: %w", bpf.ProgWhoami, err)
	}
	if int(tgid) != os.Getpid() && len(s.opts.Pids) > 0 {
		return fmt.Errorf("filter by PID: this is a PID namespace, and the kernel's PIDs are other ones; run in the initial one")
	}
	if !s.opts.Self {
		o.Self = tgid
	}
	guarded, err := bpfsys.CountsRecursion(fd)
	if err != nil {
		return fmt.Errorf("probe recursion guard: %w", err)
	}
	o.Guard = !guarded
	modern, err := isModern(o.Task)
	if err != nil {
		return err
	}
	o.Slots, o.ReadTask = modern && s.opts.Calls, modern
	for _, pid := range s.opts.Pids {
		if err := s.maps[bpf.MapPids].Put(uint32(pid), uint8(1)); err != nil {
			return fmt.Errorf("set PID filter: %w", err)
		}
	}
	if s.opts.Cgroup != "" {
		return s.filterCgroup(s.opts.Cgroup)
	}
	return nil
}

// filterCgroup puts a cgroup where programs look for it.
func (s *Session) filterCgroup(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("find cgroup: %w", err)
	}
	defer dir.Close()
	if err := s.maps[bpf.MapCgroups].Put(uint32(0), uint32(dir.Fd())); err != nil {
		// cgroup_get_from_fd takes cgroups of the one hierarchy that version 2 has.
		return fmt.Errorf("set cgroup filter: %s is no cgroup of version 2: %w", path, err)
	}
	return nil
}

// follow attaches the program that keeps the set of processes.
func (s *Session) follow(o build.Options) error {
	var self uint64 = uint64(os.Getpid())
	if o.Self != 0 {
		self = uint64(o.Self)
	}
	return s.onTracepoint(bpf.ProgFork, "sched_process_fork", build.Constants{
		wire.ConfigSelf:     self,
		wire.ConfigForkTgid: uint64(o.Task.Tgid),
	})
}

// Attach attaches the targets that are still in the plan. Those that the kernel
// refuses are left out: see Refused.
func (s *Session) Attach(p *plan.Plan) error {
	keep := make(map[*plan.Target]bool, len(p.Targets))
	for _, t := range p.Targets {
		keep[t] = true
	}
	if err := s.attachFrom(0, keep, s.assignEach); err != nil {
		return err
	}
	return s.probeUnlinked(0, keep)
}

// attachFrom attaches the backends from one on, and those that they leave targets
// to.
func (s *Session) attachFrom(first int, keep map[*plan.Target]bool, each func(indices []int) error) error {
	for i := first; i < len(s.backends); i++ {
		leftOver, next, err := s.backends[i].attach(keep)
		if err != nil {
			return err
		}
		if len(leftOver) > 0 {
			if err := s.assign(leftOver, next, each); err != nil {
				return err
			}
		}
	}
	return nil
}

// Targets returns the plan's targets at the time of Load: what records refer to.
func (s *Session) Targets() []*plan.Target { return s.targets }

// Shapes returns the layouts of the targets' records, once they are attached.
func (s *Session) Shapes() []event.Shape { return s.shapes }

// Attachment is a target that is traced, and the name of its backend.
type Attachment struct {
	Target  *plan.Target
	Backend string
}

// Attached returns the targets that are traced, in the plan's order.
func (s *Session) Attached() []Attachment {
	byIndex := make([]string, len(s.targets))
	for _, b := range s.backends {
		for _, i := range b.attached() {
			byIndex[i] = b.name()
		}
	}
	var attached []Attachment
	for i, name := range byIndex {
		if name != "" {
			attached = append(attached, Attachment{s.targets[i], name})
		}
	}
	return attached
}

// Notes returns what is done in another way than it could be: ways of attaching to many
// functions that the kernel seems to have, and whose programs its verifier refuses, with
// what it says; filters that it takes only without a look into fragments.
func (s *Session) Notes() []string { return s.notes }

func (s *Session) noteUnused(w way, err error) {
	var verifier *bpfsys.VerifierError
	if !errors.As(err, &verifier) || strings.Contains(verifier.Log, "must provide btf_id") {
		return // the kernel does not know it: before its own look at the attach type, or after
	}
	s.note(fmt.Sprintf("%s is not used: the verifier refuses its program: %v", w.name, verifier))
}

func (s *Session) note(text string) {
	if !slices.Contains(s.notes, text) {
		s.notes = append(s.notes, text)
	}
}

// Refused returns the reasons of the targets that the kernel refused.
func (s *Session) Refused() map[*plan.Target]string { return s.refused }

func (s *Session) refuse(t *plan.Target, reason string) {
	if s.refused == nil {
		s.refused = make(map[*plan.Target]string)
	}
	s.refused[t] = reason
}

// StackLimit returns the number of frames of the longest stack that the kernel
// records.
func (s *Session) StackLimit() (int, error) {
	n, err := maxStack()
	if err != nil {
		return 0, err
	}
	return min(n, wire.MaxFrames), nil
}

// Start opens the gate: from here on calls are recorded, of all targets at once.
func (s *Session) Start(symbols *Symbols) (err error) {
	c := preemptControl(s.kernel, symbols)
	if s.opts.Graph != nil && c.PercpuBase != 0 {
		if err := s.setPreemptCounts(c); err != nil {
			return err
		}
	}
	if (s.opts.Fragments || s.opts.Packets) && s.unfragmented == nil {
		s.unfragmented = s.findPages(symbols)
	}
	if s.missedBefore, err = s.misses(); err != nil {
		return err
	}
	for _, word := range []struct {
		offset uintptr
		value  uint64
	}{
		{controlPercpuBase, c.PercpuBase},
		{controlPreemptCount, c.PreemptCount},
		{controlInterruptMask, c.InterruptMask},
		{controlSoftirqMask, c.SoftirqMask},
		{controlHardirqMask, c.HardirqMask},
		{controlNMIMask, c.NmiMask},
		{controlGate, 1},
	} {
		if err := s.setControl(word.offset, word.value); err != nil {
			return err
		}
	}
	return nil
}

// Unfragmented says why what packets have in fragments is neither sent nor seen by filters;
// nil: it is.
func (s *Session) Unfragmented() error { return s.unfragmented }

// Stop closes the gate. What is in the ring buffer stays.
func (s *Session) Stop() error { return s.setControl(controlGate, 0) }

// Follow runs start, whose next child process and all that descends from it are
// then what Options.Command shows.
func (s *Session) Follow(start func() error) error {
	if err := s.setControl(controlArmFork, 1); err != nil {
		return err
	}
	return errors.Join(start(), s.setControl(controlArmFork, 0))
}

// Drain calls fn for each record that is complete, in the order in which the
// programs began them, until there is none or fn returns false.
func (s *Session) Drain(fn func(raw []byte) bool) (records int) {
	s.missed.drains++
	return s.ring.drain(fn)
}

// Missed tells whether the kernel may have left out both an entry and an exit of
// a target since a time (ns, CLOCK_MONOTONIC), as of the records drained so far.
func (s *Session) Missed(target int, since uint64) bool {
	return s.missed.both(s.missedRuns, target, since)
}

// missedRuns returns how many runs of a target's programs the kernel left out.
func (s *Session) missedRuns(target int) (entries, exits uint64, err error) {
	for _, b := range s.backends {
		if slices.Contains(b.attached(), target) {
			return b.missed(target)
		}
	}
	return 0, 0, nil
}

// PollInterval is how long a reader waits when there are no records: programs
// never wake it up, since that costs more than all else that they do.
const PollInterval = 20 * time.Millisecond

// Loss is what the programs left out of one target's calls.
type Loss struct {
	LostEntries, LostExits uint64 // no room in the ring buffer
	Self                   uint64 // calls of the tracer itself
	RecursionMisses        uint64 // the program was running on that CPU already
	NoExit                 uint64 // calls whose exit was not seen, as far as the programs know
	Running                uint64 // calls that have not returned, as far as the programs know
	NoTree                 uint64 // roots of a graph, as too many tasks had one
	TooDeep                uint64 // nodes of a graph, as too many were under way in their tree
	LostPackets            uint64 // no room in the ring buffer, for all of one or for a fragment
	NoPacket               uint64 // calls of which it could not be told where their packets are
	Unread                 uint64 // calls of which it could not be read whether their packets match
}

// Losses returns what was left out so far, by target, and the recursion misses
// of programs that serve several.
func (s *Session) Losses() (losses []Loss, sharedMisses uint64, err error) {
	// Before anything else: while a map is looked at by a system call, the kernel lets
	// no probe's program run on that CPU, and counts all calls as missed
	// (bpf_disable_instrumentation of include/linux/bpf.h).
	missed, err := s.misses()
	if err != nil {
		return nil, 0, err
	}
	losses = make([]Loss, len(s.targets))
	var perCPU []wire.Counters
	for i := range min(len(losses), int(s.maps[bpf.MapCounts].MaxEntries())) {
		if err := s.maps[bpf.MapCounts].Lookup(uint32(i), &perCPU); err != nil {
			return nil, 0, fmt.Errorf("read counters: %w", err)
		}
		for _, c := range perCPU {
			losses[i].LostEntries += c.LostEntries
			losses[i].LostExits += c.LostExits
			losses[i].Self += c.Self
			losses[i].RecursionMisses += c.Recursion
			losses[i].NoExit += c.NoExit
			losses[i].NoTree += c.NoTree
			losses[i].TooDeep += c.TooDeep
			losses[i].Unread += c.Unread
			losses[i].LostPackets += c.LostPackets
			losses[i].NoPacket += c.NoPacket
		}
	}
	if err := s.countRunning(losses); err != nil {
		return nil, 0, err
	}
	for i := range losses {
		losses[i].RecursionMisses += missed.since(s.missedBefore, i)
	}
	return losses, missed.sharedSince(s.missedBefore), nil
}

// tally is what the kernel left out up to a time, by target, and of programs that
// serve several.
type tally struct {
	targets []uint64
	shared  uint64
}

func (s *Session) misses() (*tally, error) {
	t := &tally{targets: make([]uint64, len(s.targets))}
	for _, b := range s.backends {
		shared, err := b.misses(t.targets)
		if err != nil {
			return nil, err
		}
		t.shared += shared
	}
	return t, nil
}

// since returns what was left out of a target since an earlier tally, or nil for
// the beginning.
func (t *tally) since(before *tally, target int) uint64 {
	if target >= len(t.targets) {
		return 0
	}
	n := t.targets[target]
	if before != nil && target < len(before.targets) {
		n -= min(n, before.targets[target])
	}
	return n
}

func (t *tally) sharedSince(before *tally) uint64 {
	if before == nil {
		return t.shared
	}
	return t.shared - min(t.shared, before.shared)
}

// countRunning counts the calls that are kept until their exits.
func (s *Session) countRunning(losses []Loss) error {
	var slot [wire.SlotSize]byte
	for i := range int64(1) << wire.SlotBits {
		if _, err := s.control.ReadAt(slot[:], s.bases.slots+i*wire.SlotSize); err != nil {
			return fmt.Errorf("read calls under way: %w", err)
		}
		frame := binary.LittleEndian.Uint64(slot[unsafe.Offsetof(wire.Slot{}.Frame):])
		target := binary.LittleEndian.Uint32(slot[unsafe.Offsetof(wire.Slot{}.Target):])
		if frame != 0 && int(target) < len(losses) {
			losses[target].Running++
		}
	}
	return nil
}

// LostProcesses returns how many processes could not be followed, for want of
// room in the set.
func (s *Session) LostProcesses() (uint64, error) { return s.getControl(controlLostPids) }

// Close detaches and frees everything. Detaching takes 0.2 s a function on some
// kernels; progress is called.
func (s *Session) Close() error {
	for _, b := range s.backends {
		b.close()
	}
	s.backends = nil
	if s.peeker >= 0 {
		unix.Close(s.peeker)
	}
	for _, fd := range s.others {
		unix.Close(fd)
	}
	for _, prog := range s.traced {
		prog.Close()
	}
	for _, h := range s.skbHooks {
		h.prog.Close()
	}
	if s.ring != nil {
		s.ring.close()
	}
	for _, m := range s.maps {
		m.Close()
	}
	s.packetBytes.close()
	s.modules.close()
	return nil
}
