package tracer

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"fgtrace/btfx"
	"fgtrace/internal/bpfsys"
	"fgtrace/internal/kallsyms"
	"fgtrace/tracer/plan"
)

// maxBPFPrograms is how many BPF programs become nodes of a graph: each has
// programs and links of its own.
const maxBPFPrograms = 64

// loadedPrograms returns the IDs of the BPF programs that the kernel has, or unix.EPERM
// where it tells only CAP_SYS_ADMIN.
func loadedPrograms() ([]ebpf.ProgramID, error) {
	var ids []ebpf.ProgramID
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return ids, nil
		}
		if err != nil {
			return nil, fmt.Errorf("list BPF programs: %w", err)
		}
		ids, id = append(ids, next), next
	}
}

// ExtendPrograms adds the BPF programs to a graph that were there before the
// session's: one that runs in a tree is a node of it, by its name. Those that can't be
// traced are returned, with the reasons.
func (s *Session) ExtendPrograms(selection plan.Selection) (skipped []plan.Skip, err error) {
	var targets []*plan.Target
	skip := func(name, reason string) {
		skipped = append(skipped, plan.Skip{Func: name, Module: kallsyms.ModuleBPF, Reason: reason})
	}
	if s.programsHidden {
		skip("*", "the kernel tells only CAP_SYS_ADMIN which BPF programs there are")
	}
	for _, id := range s.foreign {
		prog, err := ebpf.NewProgramFromID(id)
		if errors.Is(err, os.ErrNotExist) {
			continue // it has gone
		}
		if err != nil {
			skip(fmt.Sprintf("id %d", id), err.Error())
			continue
		}
		t, name, err := programTarget(prog)
		switch {
		case !selection.Wants(name):
		case err != nil:
			skip(name, err.Error())
		case s.opts.Backend != "" && s.opts.Backend != BackendLinks:
			skip(name, "a BPF program is not traced by "+s.opts.Backend)
		case len(targets) == maxBPFPrograms:
			skip(name, fmt.Sprintf("there are more than %d BPF programs", maxBPFPrograms))
		default:
			targets = append(targets, t)
			s.traced[t] = prog
			continue
		}
		prog.Close()
	}
	kept := targets
	if below := s.opts.Graph.Below; below != nil {
		var filtered []plan.Skip
		kept, filtered = below(targets)
		skipped = append(skipped, filtered...)
	}
	for _, t := range targets {
		if !slices.Contains(kept, t) {
			s.traced[t].Close()
			delete(s.traced, t)
		}
	}
	return skipped, s.extend(kept, nil, s.assignEach)
}

// programTarget makes a target of a BPF program. It returns its name in any case.
func programTarget(prog *ebpf.Program) (t *plan.Target, name string, err error) {
	info, err := prog.Info()
	if err != nil {
		return nil, "", fmt.Errorf("read its description: %w", err)
	}
	name = info.Name // cut off
	funcs, noFuncs := info.FuncInfos()
	if noFuncs == nil && len(funcs) > 0 {
		name = funcs[0].Func.Name
	}
	switch info.Type {
	case ebpf.Tracing, ebpf.Extension:
		return nil, name, errors.New("the kernel attaches no tracing program to one")
	}
	uses, err := usesTailCalls(info)
	switch {
	case err != nil:
		return nil, name, err
	case uses:
		// On some kernels a trampoline on one loses count of its tail calls.
		return nil, name, errors.New("has a prog array: tail calls and trampolines don't mix on all kernels")
	case len(funcs) == 0 && (noFuncs == nil || errors.Is(noFuncs, ebpf.ErrNotSupported)):
		return nil, name, errors.New("has no BTF")
	case noFuncs != nil:
		return nil, name, fmt.Errorf("read its functions: %w", noFuncs)
	}
	types, err := typesOf(info)
	if err != nil {
		return nil, name, err
	}
	ids := types.FindFuncs(name)
	if len(ids) != 1 {
		return nil, name, fmt.Errorf("has %d functions of its name in BTF", len(ids))
	}
	if t, err = plan.NewTarget(kallsyms.ModuleBPF, types, name, ids[0]); err != nil {
		return nil, name, err
	}
	if addrs, ok := info.JitedKsymAddrs(); ok && len(addrs) > 0 {
		t.Addr = uint64(addrs[0])
	}
	return t, name, nil
}

func usesTailCalls(info *ebpf.ProgramInfo) (bool, error) {
	ids, _ := info.MapIDs()
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			return false, fmt.Errorf("open map %d of it: %w", id, err)
		}
		isArray := m.Type() == ebpf.ProgramArray
		m.Close()
		if isArray {
			return true, nil
		}
	}
	return false, nil
}

// typesOf returns the types that a program came with.
func typesOf(info *ebpf.ProgramInfo) (*btfx.Types, error) {
	id, ok := info.BTFID()
	if !ok {
		return nil, errors.New("has no BTF")
	}
	handle, err := btf.NewHandleFromID(id)
	if err != nil {
		return nil, fmt.Errorf("open its BTF: %w", err)
	}
	defer handle.Close()
	raw, err := bpfsys.BTF(handle.FD())
	if err != nil {
		return nil, fmt.Errorf("read its BTF: %w", err)
	}
	return btfx.Parse(slices.Clip(raw), nil)
}
