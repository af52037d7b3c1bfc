package tracer

import (
	"fmt"

	"github.com/cilium/ebpf"

	"fgtrace/bpf"
	"fgtrace/bpf/wire"
	"fgtrace/internal/bpfsys"
	"fgtrace/tracer/plan"
)

// peek reads kernel memory. What is behind the last byte that can be read is an
// error, as of bpf_probe_read_kernel.
func (s *Session) peek(addr uint64, p []byte) error {
	if s.peeker < 0 {
		var err error
		if s.peeker, err = s.loadFD(bpfsys.Program{Name: bpf.ProgPeek, Type: ebpf.RawTracepoint}, nil); err != nil {
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
func (s *Session) patchable(t *plan.Target) bool {
	code := make([]byte, s.kernel.Arch.PatchSpan+instructionBytes)
	return s.peek(t.Addr, code) == nil && s.kernel.Arch.Patchable(code)
}

// instructionBytes is the size of the largest instruction of arch.PatchSites.
const instructionBytes = 5
