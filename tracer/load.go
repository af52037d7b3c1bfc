package tracer

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"fgtrace/bpf/wire"
	"fgtrace/internal/bpfasm"
	"fgtrace/internal/bpfsys"
	"fgtrace/tracer/build"
	"fgtrace/tracer/plan"
)

// loadFD loads the program of p's name with its constants and expressions, and returns
// its descriptor. A program that is too large has no look into fragments.
func (s *Session) loadFD(p bpfsys.Program, constants build.Constants, expressions build.Expressions) (fd int, err error) {
	fd, err = s.loadWith(p, constants, expressions)
	if expressions.PacketBytes == nil || !isTooLarge(err) {
		return fd, err
	}
	expressions.PacketBytes = nil
	without, again := s.loadWith(p, constants, expressions)
	if again == nil {
		s.note(fmt.Sprintf("filters of packets do not look into fragments: %v", err))
	}
	return without, again
}

func (s *Session) loadWith(p bpfsys.Program, constants build.Constants, expressions build.Expressions) (fd int, err error) {
	if p.Insns, err = s.programs.instructions(p.Name, constants, expressions); err != nil {
		return -1, err
	}
	s.packetBytes.describe(&p)
	fd, err = bpfsys.Load(p)
	if err != nil && len(p.Functions) > 0 && constants[wire.ConfigNoInterrupt] != 0 && !isTooLarge(err) {
		// Linux 6.14 has no calls of global functions where interrupts are kept away.
		p.Functions = nil
		return bpfsys.Load(p)
	}
	return fd, err
}

// isTooLarge tells that the verifier gave up on a program, which may be EFAULT before 6.18,
// that what it and its functions have on the stack is too much, or that it can't be made.
func isTooLarge(err error) bool {
	return errors.Is(err, unix.E2BIG) || errors.Is(err, bpfasm.ErrTooLarge) ||
		err != nil && (strings.Contains(err.Error(), "combined stack size") || strings.Contains(err.Error(), "is too complex"))
}

func (s *Session) loadProgram(p bpfsys.Program, constants build.Constants, expressions build.Expressions) (*ebpf.Program, error) {
	fd, err := s.loadFD(p, constants, expressions)
	if err != nil {
		return nil, err
	}
	return ebpf.NewProgramFromFD(fd)
}

// onTracepoint attaches a program to a tracepoint, until the session is closed.
func (s *Session) onTracepoint(name, tracepoint string, constants build.Constants) error {
	prog, err := s.loadFD(bpfsys.Program{Name: name, Type: ebpf.RawTracepoint}, constants, build.Expressions{})
	if err != nil {
		return explain(fmt.Errorf("load program %s: %w", name, err))
	}
	s.others = append(s.others, prog)
	link, err := bpfsys.AttachRawTracepoint(prog, tracepoint)
	if err != nil {
		return fmt.Errorf("attach program %s to %s: %w", name, tracepoint, err)
	}
	s.others = append(s.others, link)
	return nil
}

// halving attaches many functions at once, which the kernel does for all of them
// or for none: where it refuses some, to their halves, and so on.
type halving struct {
	attach func(from, to int) error // to those of these numbers
	refuse func(from, to int)       // takes those that are not attached
	left   int                      // refusals of a single function, before all others are given up
}

func (h *halving) run(from, to int) error {
	if from == to {
		return nil
	}
	if h.left <= 0 {
		h.refuse(from, to)
		return nil
	}
	err := h.attach(from, to)
	switch {
	case err == nil:
		return nil
	case !isRefusal(err):
		return err
	case errors.Is(err, unix.EOPNOTSUPP): // the kernel was built without it
		h.left = 0
		h.refuse(from, to)
		return nil
	case to-from == 1:
		h.left--
		h.refuse(from, to)
		return nil
	}
	half := from + (to-from)/2
	if err := h.run(from, half); err != nil {
		return err
	}
	return h.run(half, to)
}

// reading is how programs find arguments.
type reading int

const (
	loading reading = iota // in a trampoline's context, and load what pointers point to
	reads                  // the same, and read that
	copying                // they copy the context
	probing                // in registers
)

// expressions makes those of programs which find arguments so.
func (s *Session) expressions(of plan.Expressions, by reading) build.Expressions {
	e := build.Expressions{Expressions: of, Copy: by == copying, Direct: by == loading, PacketBytes: s.packetBytes.insns}
	if by != reads {
		e.Cast = s.cast
	}
	if by == probing {
		e.Regs = &s.kernel.Arch.Regs
	}
	return e
}
