package tracer

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"fgtrace/btfx"
	"fgtrace/internal/bpfsys"
	"fgtrace/tracer/build"
	"fgtrace/tracer/plan"
)

// Probe finds out what this kernel's trampolines take of a plan's targets, and
// moves the others to the skipped ones. What differs between kernels depends on
// the kind of a function's arguments, so one function of each kind is attached
// to, for a moment, and stands for the others. An error says that the kernel let
// nothing be tried.
func Probe(k *plan.Kernel, p *plan.Plan) error {
	kinds := make(map[string][]*plan.Target)
	for _, t := range p.Targets {
		for _, kind := range argumentKinds(t, k.Arch.ArgRegisters) {
			kinds[kind] = append(kinds[kind], t)
		}
	}
	refused := make(map[*plan.Target]string)
	for kind, targets := range kinds {
		reason, err := probe(k, targets[0])
		if err != nil {
			return fmt.Errorf("probe %s by %s: %w", kind, targets[0].Func, err)
		}
		if reason == "" {
			continue
		}
		for _, t := range targets {
			refused[t] = fmt.Sprintf("%s: this kernel's trampolines refuse them", kind)
		}
	}
	p.Skip(refused)
	return nil
}

// argumentKinds returns what about a function's arguments a kernel may refuse.
func argumentKinds(t *plan.Target, registers int) []string {
	var kinds []string
	if t.Words > registers {
		kinds = append(kinds, fmt.Sprintf("more than %d argument words", registers))
	}
	for _, p := range t.Params {
		switch p.Layout.Kind {
		case btfx.Struct:
			return append(kinds, "structs by value")
		case btfx.Union:
			return append(kinds, "unions by value")
		}
	}
	return kinds
}

// probe tells whether the kernel lets a function be traced, and why not.
func probe(k *plan.Kernel, t *plan.Target) (reason string, err error) {
	one := &plan.Plan{Targets: []*plan.Target{t}}
	s, err := Load(k, one, Options{Exits: true, BufferSize: probeBuffer})
	if err != nil {
		return "", err
	}
	defer s.Close()
	if err := s.Attach(one); err != nil {
		return "", err
	}
	return s.Refused()[t], nil
}

// probeBuffer is the size of a ring buffer that stays empty, in bytes. Pages
// have 4 KiB or, on arm64, up to 64 KiB.
const probeBuffer = 64 << 10

// isModern tells whether programs have atomic operations other than addition
// (Linux 5.12, 5ffa25502b5a) and may read the current task_struct like their own
// memory (5.11, 3ca1032ab7ab).
func isModern(task build.Task) (bool, error) {
	swap := asm.CmpXchg.Mem(asm.RFP, asm.R1, asm.DWord, -8)
	// The library leaves out the operation: BPF_CMPXCHG of include/uapi/linux/bpf.h.
	swap.Constant = 0xf0 | 0x01
	fd, err := bpfsys.Load(bpfsys.Program{Name: "probe", Type: ebpf.RawTracepoint, Insns: asm.Instructions{
		asm.FnGetCurrentTaskBtf.Call(),
		asm.LoadMem(asm.R1, asm.R0, int16(task.Comm), asm.DWord),
		asm.LoadMem(asm.R2, asm.R0, int16(task.Pid), asm.Word),
		asm.Mov.Imm(asm.R0, 0),
		asm.StoreMem(asm.RFP, -8, asm.R1, asm.DWord),
		swap,
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	}})
	if isRefusal(err) {
		return false, nil
	}
	if err != nil {
		return false, explain(fmt.Errorf("probe programs: %w", err))
	}
	return true, unix.Close(fd)
}
