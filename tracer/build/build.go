// Package build makes the programs and maps of a trace: data that the kernel
// has not seen yet.
package build

import (
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"fgtrace/arch"
	"fgtrace/bpf"
	"fgtrace/bpf/wire"
	"fgtrace/btfx"
	"fgtrace/tracer/event"
	"fgtrace/tracer/packet"
	"fgtrace/tracer/plan"
)

// Options are what all programs of a trace have in common.
type Options struct {
	Stack  bool
	Self   uint32 // the tracer's tgid, whose calls are left out; 0: none are
	Pids   bool   // only processes in the set
	Cgroup bool   // only tasks in a cgroup
	Comm   string // only tasks of this name; "": all
	Filter bool   // targets have conditions of their entries
	Follow bool   // packets of calls that are shown are followed

	Snaplen   int              // bytes of packets that are sent, at most
	Fragments packet.Fragments // that are sent, too; the zero value: none are

	LeastTime time.Duration // of a call that is shown; with slots, else user space looks
	Guard     bool          // the kernel doesn't guard programs against recursion
	Task      Task
	ReadTask  bool // programs may read the current task_struct like their own memory
	Kfuncs    Kfuncs

	Graph *Graph // nil: calls are on their own

	Exits      bool // an exit program is attached too
	Slots      bool // entries are kept until their exits, and sent together
	BufferSize int  // of the ring buffer, in bytes: a power of two of pages
}

// Graph says how calls become nodes of a function graph.
type Graph struct {
	Nodes    int  // levels that are recorded, the root's included; at most wire.MaxNodes
	Early    bool // a node is told of when the first call is made in it
	NoIRQs   bool // what hardware interrupts call is left out
	MaxWords int  // argument words of the function that has the most
	// KeyAt is where the return address into the caller is, in bytes behind the last
	// of the argument words that a trampoline saves.
	KeyAt int
	// Kretprobes is code in which the kernel takes locks at the returns of functions
	// that have a kretprobe: those are no calls of what is traced.
	Kretprobes Range
}

// Range is a part of the kernel's code.
type Range struct{ Addr, Size uint64 }

// isLock tells the functions that take and give back the locks of kretprobes.
func isLock(name string) bool { return name == "_raw_spin_lock" || name == "_raw_spin_unlock" }

// Task holds offsets in struct task_struct, in bytes.
type Task struct{ Pid, Tgid, Comm int }

// Kfuncs are the BTF type IDs, in vmlinux, of kfuncs that programs may call; 0
// where the kernel has no such function.
type Kfuncs struct {
	IsReturn btfx.ID // bpf_session_is_return
	Cookie   btfx.ID // bpf_session_cookie

	IRQSave    btfx.ID // bpf_local_irq_save
	IRQRestore btfx.ID // bpf_local_irq_restore
}

// Constants are the values that a program is loaded with, by wire.Config*.
type Constants map[uint32]uint64

// MaxComm is the number of bytes that a task's name can have.
const MaxComm = wire.CommSize - 1

// Constants returns the constants of one target's programs.
func (o Options) Constants(index int, t *plan.Target) (entry, exit Constants) {
	shape := t.Shape(o.Stack)
	common := o.constants(shape, stringBits(t))
	common[wire.ConfigTarget] = uint64(index)
	o.filterConstants(common, t.Expressions)
	common[wire.ConfigRetval] = flag(t.Ret != nil)
	o.packetConstants(common, t.Expressions)
	common[wire.ConfigFrameAt] = 0
	if o.Graph != nil {
		o.graphConstants(common, t.Root, t.Strings(), t.Expressions)
		if isLock(t.Func) {
			common[wire.ConfigNotFrom], common[wire.ConfigNotFromSize] = o.Graph.Kretprobes.Addr, o.Graph.Kretprobes.Size
		}
	}
	return common, maps.Clone(common)
}

// packetConstants adds what programs have that send packets.
func (o Options) packetConstants(c Constants, e plan.Expressions) {
	if e.Packet != nil {
		c[wire.ConfigSnaplen] = uint64(o.Snaplen)
		maps.Copy(c, fragmentConstants(o.Fragments))
		c[wire.ConfigSlots] = 0
	}
}

// fragmentConstants returns what code has that reads fragments.
func fragmentConstants(f packet.Fragments) Constants {
	return Constants{
		wire.ConfigPageSize: f.PageSize, wire.ConfigPageShift: f.PageShift,
		wire.ConfigNrFrags: f.Count, wire.ConfigFrags: f.First, wire.ConfigMostFrags: f.Most,
	}
}

// graphConstants adds what programs of a function graph have.
func (o Options) graphConstants(c Constants, isRoot bool, strings int, e plan.Expressions) {
	o.nodeConstants(c, strings, e.OutputSize())
	c[wire.ConfigGraph] = 1
	c[wire.ConfigRoot] = flag(isRoot)
	c[wire.ConfigEarly] = flag(o.Graph.Early)
	c[wire.ConfigNoIrqs] = flag(o.Graph.NoIRQs)
	c[wire.ConfigKeyAt] = uint64(o.Graph.KeyAt)
	c[wire.ConfigNoInterrupt] = flag(o.Kfuncs.IRQSave != 0 && o.Kfuncs.IRQRestore != 0)
	c[wire.ConfigFilterNode] = flag(e.NodeCondition != nil)
	c[wire.ConfigIrqSave], c[wire.ConfigIrqRestore] = uint64(o.Kfuncs.IRQSave), uint64(o.Kfuncs.IRQRestore)
}

// nodeConstants adds what programs have that send nodes, each with at most so many
// strings, and so many bytes of outputs.
func (o Options) nodeConstants(c Constants, strings, outputs int) {
	shape := event.NodeShape{Words: o.Graph.MaxWords, Strings: strings, Outputs: outputs}
	c[wire.ConfigNodes] = uint64(o.Graph.Nodes)
	c[wire.ConfigMaxWords] = uint64(o.Graph.MaxWords)
	c[wire.ConfigStringsRoom] = uint64(strings)
	c[wire.ConfigOpenSize] = uint64(shape.OpenSize())
	c[wire.ConfigStringsSize] = uint64(shape.StringsSize())
	c[wire.ConfigNodeSize] = uint64(shape.NodeSize())
}

// ProbeConstants returns the constants of a program that probes the entry of a
// target, and those of an fexit program that goes with it. The stack is taken at
// the entry, so that nothing is kept for the exit.
func (o Options) ProbeConstants(index int, t *plan.Target, regs arch.Regs) (entry, exit Constants) {
	o.Slots = false
	group := o.Groups([]*plan.Target{t}, []int{0})[0]
	_, exit = o.Constants(index, t)
	filter := exit[wire.ConfigFilter]
	o.Exits = false
	// The trampoline was called from the function, so between its argument array
	// and the caller's return address, where the stack pointer was, there are
	// the result, the frame pointer and the return address into the function.
	exit[wire.ConfigFrameAt] = uint64(wordSize * (t.Words + 3))
	entry = o.GroupConstants(group, regs)
	entry[wire.ConfigFilter] = filter
	return entry, exit
}

// filterConstants adds what programs are told of conditions.
func (o Options) filterConstants(c Constants, e plan.Expressions) {
	c[wire.ConfigFollow] = flag(e.Follow != nil)
	c[wire.ConfigFilterResult] = flag(e.ResultCondition != nil)
	switch {
	case e.Condition == nil && e.Follow == nil:
		c[wire.ConfigFilter] = 0
	case o.Exits:
		c[wire.ConfigFilter] = 2
	default:
		c[wire.ConfigFilter] = 1
	}
}

// Group is a set of targets that have one program in common.
type Group struct {
	Targets []int       // indices
	Shape   event.Shape // of all their records
	Strings uint64      // bit i: word i is read as a string; in graphs cookies tell
	Room    int         // strings that a node's record has room for

	Root bool // they begin trees of a function graph

	plan.Expressions // of all of them
}

// Groups sorts targets into groups: those whose records have room for the same.
func (o Options) Groups(targets []*plan.Target, indices []int) []Group {
	var groups []Group
	type kind struct {
		strings     uint64
		room        int
		root        bool
		expressions string
	}
	byKind := make(map[kind]int)
	for _, i := range indices {
		k := kind{strings: stringBits(targets[i]), root: targets[i].Root, expressions: targets[i].Expressions.String()}
		if o.Graph != nil {
			k.room, k.strings = roomFor(bits.OnesCount64(k.strings)), 0
		}
		at, ok := byKind[k]
		if !ok {
			at = len(groups)
			byKind[k] = at
			groups = append(groups, Group{Strings: k.strings, Room: k.room, Root: k.root, Expressions: targets[i].Expressions})
		}
		g, shape := &groups[at], targets[i].Shape(o.Stack)
		shape.Words = max(shape.Words, g.Shape.Words)
		g.Targets, g.Shape = append(g.Targets, i), shape
	}
	return groups
}

// roomFor returns the room of a program that serves functions with so many strings.
// Each program takes time to load and to attach, so that there are few of them.
func roomFor(strings int) int {
	const few = 2
	switch {
	case strings == 0:
		return 0
	case strings <= few:
		return few
	}
	return wire.MaxWords
}

// GroupConstants returns the constants of a group's program.
func (o Options) GroupConstants(g Group, regs arch.Regs) Constants {
	c := o.constants(g.Shape, g.Strings)
	o.filterConstants(c, g.Expressions)
	o.packetConstants(c, g.Expressions)
	c[wire.ConfigSession] = flag(o.Exits)
	c[wire.ConfigIsReturn], c[wire.ConfigCookie] = uint64(o.Kfuncs.IsReturn), uint64(o.Kfuncs.Cookie)
	c[wire.ConfigRegs], c[wire.ConfigStackArgs] = uint64(len(regs.Args)), uint64(regs.StackArgs)
	c[wire.ConfigRegsSp], c[wire.ConfigRegsRetval] = uint64(regs.SP), uint64(regs.Retval)
	for i, offset := range regs.Args {
		c[wire.ConfigRegsArg+uint32(i)] = uint64(offset)
	}
	if o.Graph != nil {
		o.graphConstants(c, g.Root, g.Room, g.Expressions)
	}
	return c
}

// KprobeConstants returns the constants of the programs that probe the entry and
// the return of one target of a graph.
func (o Options) KprobeConstants(index int, t *plan.Target, regs arch.Regs) Constants {
	c := o.GroupConstants(o.Groups([]*plan.Target{t}, []int{0})[0], regs)
	c[wire.ConfigTarget], c[wire.ConfigStrings] = uint64(index), stringBits(t)
	c[wire.ConfigByTarget] = 1
	c[wire.ConfigSession] = 0
	return c
}

// SeenConstants returns the constants of the program that watches functions which
// are not traced.
func (o Options) SeenConstants() Constants {
	return Constants{wire.ConfigNodes: uint64(o.Graph.Nodes)}
}

// FreeConstants returns the constants of the program that ends the calls of tasks
// that are gone.
func (o Options) FreeConstants() Constants {
	all := *o.Graph
	all.MaxWords = wire.MaxWords // whatever functions are found later
	o.Graph = &all
	c := Constants{
		wire.ConfigTask: flag(o.ReadTask), wire.ConfigLeastTime: uint64(o.LeastTime), wire.ConfigEarly: flag(o.Graph.Early),
	}
	o.nodeConstants(c, 0, 0)
	return c
}

// FreedSKBConstants returns the constants of a program that sees the struct sk_buff which a
// function frees; ifStolen: only if its second argument holds.
func FreedSKBConstants(ifStolen bool) Constants {
	return Constants{wire.ConfigIfStolen: flag(ifStolen)}
}

// NewSKBConstants returns the constants of a program that sees the new struct sk_buff
// which a function returns: a copy of that in an argument word, or of none if copyOf is
// negative. There may be several, each behind the next member of the one before.
func NewSKBConstants(words, copyOf, next int) Constants {
	return Constants{
		wire.ConfigWords: uint64(words), wire.ConfigCopyOf: uint64(copyOf + 1),
		wire.ConfigSegments: flag(next >= 0), wire.ConfigSkbNext: uint64(max(next, 0)),
	}
}

// Cookie returns what a group's program is told of the target that it runs for.
func Cookie(index int, t *plan.Target) uint64 {
	return uint64(index) | uint64(t.Words)<<wire.CookieWordsShift | stringBits(t)<<wire.CookieStringsShift
}

func (o Options) constants(shape event.Shape, strings uint64) Constants {
	c := Constants{
		wire.ConfigRecordSize:  uint64(shape.EntrySize()),
		wire.ConfigCallSize:    uint64(shape.CallSize()),
		wire.ConfigWords:       uint64(shape.Words),
		wire.ConfigStrings:     strings,
		wire.ConfigOutputs:     uint64(shape.Outputs),
		wire.ConfigStackAt:     uint64(shape.EntryStackAt()),
		wire.ConfigCallStackAt: uint64(shape.CallStackAt()),
		wire.ConfigCopyCtx:     0,
		wire.ConfigSlots:       flag(o.Slots && shape.Strings == 0 && shape.Outputs == 0),
		wire.ConfigSelf:        uint64(o.Self),
		wire.ConfigPids:        flag(o.Pids),
		wire.ConfigCgroup:      flag(o.Cgroup),
		wire.ConfigComm:        flag(o.Comm != ""),
		wire.ConfigGuard:       flag(o.Guard),
		wire.ConfigForkTgid:    uint64(o.Task.Tgid),
		wire.ConfigSession:     0,
		wire.ConfigLeastTime:   uint64(o.LeastTime),

		wire.ConfigFilter: 0, wire.ConfigFilterResult: 0, wire.ConfigFollow: 0, // see filterConstants
	}
	for id := uint32(wire.ConfigPageSize); id <= wire.ConfigSnaplen; id++ {
		c[id] = 0 // see packetConstants
	}
	for id := uint32(wire.ConfigGraph); id <= wire.ConfigFilterNode; id++ {
		c[id] = 0 // see graphConstants
	}
	c[wire.ConfigCommLo], c[wire.ConfigCommHi] = commWords(o.Comm)
	c[wire.ConfigTask] = flag(o.ReadTask)
	c[wire.ConfigTaskPid], c[wire.ConfigTaskTgid] = uint64(o.Task.Pid), uint64(o.Task.Tgid)
	c[wire.ConfigTaskComm], c[wire.ConfigTaskCommHi] = uint64(o.Task.Comm), uint64(o.Task.Comm+wordSize)
	return c
}

func stringBits(t *plan.Target) uint64 {
	var bits uint64
	for _, p := range t.Params {
		if p.String >= 0 {
			bits |= 1 << p.Word
		}
	}
	return bits
}

// commWords returns a name as the two words that the program compares.
func commWords(comm string) (lo, hi uint64) {
	var padded [wire.CommSize]byte
	copy(padded[:MaxComm], comm)
	for i := range 8 {
		lo |= uint64(padded[i]) << (8 * i)
		hi |= uint64(padded[8+i]) << (8 * i)
	}
	return lo, hi
}

func flag(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

const wordSize = 8

// Program returns a copy of a program with its constants and expressions written in,
// and without what they rule out. A constant that has no value is an error.
func Program(template asm.Instructions, constants Constants, expressions Expressions) (asm.Instructions, error) {
	insns, err := fill(template, constants)
	if err != nil {
		return nil, err
	}
	if insns, err = splice(insns, expressions); err != nil {
		return nil, err
	}
	if insns, err = prune(insns); err != nil {
		return nil, err
	}
	if err := complete(insns, constants); err != nil {
		return nil, err
	}
	return link(insns, expressions.PacketBytes), nil
}

// PacketBytes returns the function that programs call for what filters look for in
// fragments, for a kernel that has them there.
func PacketBytes(template asm.Instructions, f packet.Fragments) (asm.Instructions, error) {
	return Program(template, fragmentConstants(f), Expressions{})
}

// link puts a function behind a program that calls it.
func link(insns, function asm.Instructions) asm.Instructions {
	calls := false
	for i := range insns {
		if ins := &insns[i]; ins.IsBuiltinCall() && ins.Constant == wire.ConfigPacketBytes {
			*ins = asm.Call.Label(function.Name())
			calls = true
		}
	}
	if !calls {
		return insns
	}
	return slices.Concat(insns, function)
}

// fill writes constants into the instructions that load their marks.
func fill(template asm.Instructions, constants Constants) (asm.Instructions, error) {
	insns := slices.Clone(template)
	for i := range insns {
		ins := &insns[i]
		if !isMark(ins) {
			continue
		}
		id := uint32(ins.Constant)
		if id >= wire.ConfigCondition && id <= wire.ConfigSkb {
			continue // see splice
		}
		value, ok := constants[id]
		if !ok {
			return nil, fmt.Errorf("build program: instruction %d: constant %d has no value", i, id)
		}
		ins.Constant = int64(value)
	}
	return insns, nil
}

// complete writes the constants that are parts of instructions: the offsets of
// loads from ctx and the task, which the verifier wants there, and the numbers of
// kfuncs.
func complete(insns asm.Instructions, constants Constants) error {
	for i := range insns {
		ins := &insns[i]
		switch {
		case ins.OpCode.Class() == asm.LdXClass && ins.Offset == wordSize*wire.ConfigRetvalWord:
			ins.Offset = int16(wordSize * constants[wire.ConfigWords]) // behind the arguments
		case ins.OpCode.Class() == asm.LdXClass && ins.Offset >= wordSize*wire.ConfigRegsArg:
			offset, ok := constants[uint32(ins.Offset)/wordSize]
			if !ok {
				return fmt.Errorf("build program: instruction %d: no offset for %#x", i, ins.Offset/wordSize)
			}
			ins.Offset = int16(offset)
		case ins.IsBuiltinCall() && isKfunc(ins.Constant):
			id := constants[uint32(ins.Constant)]
			if id == 0 {
				return ErrNoSessions
			}
			ins.Src, ins.Constant = asm.PseudoKfuncCall, int64(id)
		}
	}
	return nil
}

// isKfunc tells the numbers that stand for kfuncs from those of helpers.
func isKfunc(number int64) bool {
	return number >= wire.ConfigIsReturn && number <= wire.ConfigIrqRestore
}

// ErrNoSessions tells that the kernel has no programs that run at entries and
// returns.
var ErrNoSessions = errors.New("this kernel has no bpf_session_is_return or bpf_session_cookie")

// CopyCtx makes constants for a kernel that refused a program its loads from
// ctx: up to 5.10 only integers and pointers to structs may be loaded
// (btf_ctx_access in kernel/bpf/btf.c), but all of it may be copied.
func (c Constants) CopyCtx() Constants {
	copied := maps.Clone(c)
	copied[wire.ConfigCopyCtx] = 1
	return copied
}

// mmapable is BPF_F_MMAPABLE (include/uapi/linux/bpf.h): user space writes the
// control word without a system call a word.
const mmapable = 1 << 10

// Maps returns the maps of a trace of so many targets, by name.
func (o Options) Maps(spec *ebpf.CollectionSpec, targets int) (map[string]*ebpf.MapSpec, error) {
	specs := make(map[string]*ebpf.MapSpec)
	names := []string{bpf.MapEvents, bpf.MapCounts, bpf.MapPids, bpf.MapCgroups, bpf.MapLost, bpf.MapAlone, bpf.MapControl}
	if o.Follow {
		names = append(names, bpf.MapFollowed)
	}
	if o.Graph != nil {
		names = append(names, bpf.MapTrees)
	}
	for _, name := range names {
		m, ok := spec.Maps[name]
		if !ok {
			return nil, fmt.Errorf("build maps: the object has no map %s", name)
		}
		m = m.Copy()
		// Types would be loaded into the kernel for bpftool to print. Nobody
		// looks at these maps.
		m.Key, m.Value = nil, nil
		specs[name] = m
	}
	specs[bpf.MapControl].Contents = nil // zero
	specs[bpf.MapControl].Flags |= mmapable
	specs[bpf.MapEvents].MaxEntries = uint32(o.BufferSize)
	specs[bpf.MapCounts].MaxEntries = uint32(max(targets, 1))
	if o.Graph != nil {
		specs[bpf.MapTrees].ValueSize = uint32(unsafe.Offsetof(wire.Tree{}.Nodes)) + uint32(o.Graph.Nodes*wire.NodeSize)
		specs[bpf.MapTrees].MaxEntries = wire.TreeBuckets * wire.TreeWays
	}
	if !o.Pids {
		specs[bpf.MapPids].MaxEntries = 1
	}
	if !o.Exits {
		specs[bpf.MapLost].MaxEntries = 1
	}
	if !o.Exits || !o.Filter {
		specs[bpf.MapAlone].MaxEntries = 1
	}
	return specs, nil
}
