// Package build makes the programs and maps of a trace: data that the kernel
// has not seen yet.
package build

import (
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"fgtrace/bpf"
	"fgtrace/bpf/wire"
	"fgtrace/tracer/plan"
)

// Options are what all programs of a trace have in common.
type Options struct {
	Stack    bool
	Self     uint32 // the tracer's tgid, whose calls are left out; 0: none are
	Pids     bool   // only processes in the set
	Comm     string // only tasks of this name; "": all
	Guard    bool   // the kernel doesn't guard programs against recursion
	TaskTgid int    // offset of tgid in task_struct, in bytes

	Exits      bool // an exit program is attached too
	Slots      bool // entries are kept until their exits, and sent together
	BufferSize int  // of the ring buffer, in bytes: a power of two of pages
}

// Constants are the values that a program is loaded with, by wire.Config*.
type Constants map[uint32]uint64

// MaxComm is the number of bytes that a task's name can have.
const MaxComm = wire.CommSize - 1

// Constants returns the constants of one target's programs.
func (o Options) Constants(index int, t *plan.Target) (entry, exit Constants) {
	shape := t.Shape(o.Stack)
	common := Constants{
		wire.ConfigTarget:   uint64(index),
		wire.ConfigWords:    uint64(t.Words),
		wire.ConfigStrings:  stringBits(t),
		wire.ConfigCopyCtx:  0,
		wire.ConfigRetval:   flag(t.Ret != nil),
		wire.ConfigSlots:    flag(o.Slots && shape.Strings == 0),
		wire.ConfigSelf:     uint64(o.Self),
		wire.ConfigPids:     flag(o.Pids),
		wire.ConfigComm:     flag(o.Comm != ""),
		wire.ConfigGuard:    flag(o.Guard),
		wire.ConfigTaskTgid: uint64(o.TaskTgid),
	}
	common[wire.ConfigCommLo], common[wire.ConfigCommHi] = commWords(o.Comm)
	entry, exit = maps.Clone(common), common
	entry[wire.ConfigRecordSize], entry[wire.ConfigStackAt] = uint64(shape.EntrySize()), uint64(shape.EntryStackAt())
	exit[wire.ConfigRecordSize], exit[wire.ConfigStackAt] = uint64(shape.CallSize()), uint64(shape.CallStackAt())
	return entry, exit
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

// retvalOffset marks the load of the return value, which follows the arguments.
const retvalOffset = wordSize * wire.ConfigRetvalWord

// Program returns a copy of a program with its constants written in, and without
// what they rule out. A constant that has no value is an error.
func Program(template asm.Instructions, constants Constants) (asm.Instructions, error) {
	insns, err := fill(template, constants)
	if err != nil {
		return nil, err
	}
	return prune(insns)
}

func fill(template asm.Instructions, constants Constants) (asm.Instructions, error) {
	insns := slices.Clone(template)
	for i := range insns {
		ins := &insns[i]
		if ins.OpCode.Class() == asm.LdXClass && ins.Offset == retvalOffset {
			// The verifier wants this offset in the instruction.
			ins.Offset = int16(wordSize * constants[wire.ConfigWords])
			continue
		}
		if !ins.OpCode.IsDWordLoad() || ins.IsLoadFromMap() || uint64(ins.Constant)>>32 != wire.ConfigMark>>32 {
			continue
		}
		id := uint32(ins.Constant)
		value, ok := constants[id]
		if !ok {
			return nil, fmt.Errorf("build program: instruction %d: constant %d has no value", i, id)
		}
		ins.Constant = int64(value)
	}
	return insns, nil
}

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
	for _, name := range []string{bpf.MapEvents, bpf.MapCounts, bpf.MapPids, bpf.MapLost, bpf.MapControl} {
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
	if !o.Pids {
		specs[bpf.MapPids].MaxEntries = 1
	}
	if !o.Exits {
		specs[bpf.MapLost].MaxEntries = 1
	}
	return specs, nil
}
