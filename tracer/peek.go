package tracer

import (
	"fmt"
	"strings"

	"github.com/cilium/ebpf"

	"fgtrace/bpf"
	"fgtrace/bpf/wire"
	"fgtrace/internal/bpfsys"
	"fgtrace/tracer/build"
	"fgtrace/tracer/plan"
)

// peek reads kernel memory. What is behind the last byte that can be read is an
// error, as of bpf_probe_read_kernel.
func (s *Session) peek(addr uint64, p []byte) error {
	if s.peeker < 0 {
		var err error
		if s.peeker, err = s.loadFD(bpfsys.Program{Name: bpf.ProgPeek, Type: ebpf.RawTracepoint}, nil, build.Expressions{}); err != nil {
			return explain(fmt.Errorf("load program %s: %w", bpf.ProgPeek, err))
		}
	}
	for len(p) > 0 {
		n := min(len(p), wire.PeekSize)
		errno, err := bpfsys.RunRawTracepoint(s.peeker, addr, uint64(n))
		if err != nil {
			return fmt.Errorf("run program %s: %w", bpf.ProgPeek, err)
		}
		if errno != 0 {
			return fmt.Errorf("read kernel memory at %#x: error %d", addr, int32(errno))
		}
		if _, err := s.control.ReadAt(p[:n], s.bases.peeked); err != nil {
			return fmt.Errorf("read kernel memory: %w", err)
		}
		addr, p = addr+uint64(n), p[n:]
	}
	return nil
}

// patchable tells whether a target looks like a function that ftrace can patch.
func (s *Session) patchable(t *plan.Target) bool { return s.patchableAt(t.Addr) }

func (s *Session) patchableAt(addr uint64) bool {
	code := make([]byte, s.kernel.Arch.PatchSpan+instructionBytes)
	return s.peek(addr, code) == nil && s.patchableCode(code)
}

// jumpsAt tells whether a function begins with a jump that is none of ftrace's.
func (s *Session) jumpsAt(addr uint64) bool {
	code := make([]byte, s.kernel.Arch.PatchSpan+instructionBytes)
	return s.peek(addr, code) == nil && s.kernel.Arch.Jumps(code) && !s.kernel.JmpMode()
}

// patchableCode tells the same by a function's first bytes. On kernels whose
// trampolines are called, a jump there is none of ftrace's: see isDispatcher.
func (s *Session) patchableCode(code []byte) bool {
	a := s.kernel.Arch
	return a.Patchable(code) && (!a.Jumps(code) || s.kernel.JmpMode()) // which takes a look at all of BTF
}

// isDispatcher tells the functions through which the kernel calls BPF programs. Up to
// 6.0 (ceea991a019c) it puts a jump where ftrace has its nop, as soon as there is an XDP
// program. If ftrace then is to patch it, it finds neither of what it expects, and gives
// up for good: no function can be traced any more, and what it leaves behind crashes the
// kernel.
func isDispatcher(name string) bool {
	return strings.HasPrefix(name, "bpf_dispatcher_") && strings.HasSuffix(name, "_func")
}

// instructionBytes is the size of the largest instruction of arch.PatchSites.
const instructionBytes = 5
