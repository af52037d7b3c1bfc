// Package code reads the live machine code of a kernel function and says what it
// refers to. It decodes no more of an instruction than that takes: how long it
// is, where it goes on, and the addresses in it.
package code

import (
	"cmp"
	"fmt"
	"slices"
)

// Refs is what a function's code refers to. Addresses are in the order of the
// instructions that have them first, each once.
type Refs struct {
	// Calls are the targets of direct calls.
	Calls []uint64

	// Jumps are the targets of jumps out of the code, conditional ones too: tail
	// calls, and what the compiler put elsewhere, such as .cold parts.
	Jumps []uint64

	// Names are other addresses that the code computes or holds. An offset from
	// a register can look like one.
	Names []uint64

	// Indirect is the number of calls and jumps through a register or memory.
	// One of a retpoline is a direct call of its thunk instead.
	Indirect int

	// Cut says that an instruction could not be decoded, as it is none that is
	// known, a breakpoint hides it, or the code ends in it. What is behind it may
	// not have been read.
	Cut bool
}

// Scan reads the code of a function at addr. lowest is the kernel's lowest
// address, which Names begin at.
//
// Only what can be reached from the entry counts. So code that static keys have
// switched off is left out, as there is a nop where the jump to it would be; so
// is the code behind an indirect jump of a table, which is counted only, and
// behind the trap of a warning. What ftrace puts at the entry is left out as
// well: its call can't be told from the function's own.
func Scan(arch string, code []byte, addr, lowest uint64) (Refs, error) {
	w := walk{code: code, addr: addr, lowest: lowest}
	switch arch {
	case "amd64":
		w.amd64()
	case "arm64":
		w.arm64()
	default:
		return Refs{}, fmt.Errorf("scan code for %q: only amd64 and arm64 are supported", arch)
	}
	return w.refs(), nil
}

// walk is one Scan.
type walk struct {
	code         []byte
	addr, lowest uint64

	seen     []uint64 // a bit for each place where an instruction can begin
	found    []ref
	indirect int
	cut      bool
}

// ref is an address that the instruction at an offset refers to.
type ref struct {
	kind   kind
	at     int
	target uint64
}

type kind uint8

const (
	call kind = iota
	jump
	name
)

// visit tells whether place n is new, and marks it.
func (w *walk) visit(n int) bool {
	word, bit := &w.seen[n/64], uint64(1)<<(n%64)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}

// inside returns the offset of an address in the code.
func (w *walk) inside(target uint64) (int, bool) {
	off := target - w.addr
	return int(off), off < uint64(len(w.code))
}

func (w *walk) add(k kind, at int, target uint64) {
	w.found = append(w.found, ref{k, at, target})
}

// name adds an address that is one of the kernel's. Its last page has none, but
// negative errno values.
func (w *walk) name(at int, target uint64) {
	const lastPage = ^uint64(0) - 4095
	if target >= w.lowest && target < lastPage {
		w.add(name, at, target)
	}
}

// refs sorts what was found.
func (w *walk) refs() Refs {
	found := w.found
	slices.SortFunc(found, func(a, b ref) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.target, b.target), cmp.Compare(a.at, b.at))
	})
	found = slices.CompactFunc(found, func(a, b ref) bool { return a.kind == b.kind && a.target == b.target })
	slices.SortFunc(found, func(a, b ref) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.at, b.at), cmp.Compare(a.target, b.target))
	})

	targets := make([]uint64, len(found))
	var ends [name + 1]int // of each kind, in targets
	for i, r := range found {
		targets[i] = r.target
		ends[r.kind] = i + 1
	}
	part := func(k kind) []uint64 {
		end := ends[k]
		if end == 0 {
			return nil
		}
		begin := 0
		for _, e := range ends[:k] {
			begin = max(begin, e)
		}
		return targets[begin:end:end]
	}
	return Refs{
		Calls:    part(call),
		Jumps:    part(jump),
		Names:    part(name),
		Indirect: w.indirect,
		Cut:      w.cut,
	}
}
