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

	// Slots are addresses of memory that the code reads or writes right there.
	Slots []uint64

	// Indirect is the number of calls and jumps through a register or memory.
	// One of a retpoline is a direct call of its thunk instead.
	Indirect int

	// Cut says that an instruction could not be decoded, as it is none that is
	// known, a breakpoint hides it, or the code ends in it. What is behind it may
	// not have been read.
	Cut bool
}

// Scan reads the code of a function at addr. lowest is the kernel's lowest
// address, which Names and Slots begin at.
//
// Only what can be reached from the entry counts. So code that static keys have
// switched off is left out, as there is a nop where the jump to it would be; so
// is the code behind an indirect jump of a table, which is counted only, and
// behind the trap of a warning. What ftrace puts at the entry is left out as
// well: its call can't be told from the function's own.
func Scan(arch string, code []byte, addr, lowest uint64) (Refs, error) {
	return scan(arch, walk{code: code, addr: addr, lowest: lowest})
}

// ScanPart reads the code of a part that the compiler has moved away from its
// function, which is entered at any of some addresses. ftrace patches none.
func ScanPart(arch string, code []byte, addr, lowest uint64, entries []uint64) (Refs, error) {
	w := walk{code: code, addr: addr, lowest: lowest, isPart: true}
	for _, entry := range entries {
		if off, ok := w.inside(entry); ok {
			w.entries = append(w.entries, off)
		}
	}
	return scan(arch, w)
}

func scan(arch string, w walk) (Refs, error) {
	w.found = make([]ref, 0, 4+len(w.code)/32)
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
	isPart       bool
	entries      []int // of a part: offsets

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
	slot
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

// address adds an address, a name or a slot, that is one of the kernel's. Its last
// page has none, but negative errno values.
func (w *walk) address(k kind, at int, target uint64) {
	const lastPage = ^uint64(0) - 4095
	if target >= w.lowest && target < lastPage {
		w.add(k, at, target)
	}
}

// refs puts what was found in order.
func (w *walk) refs() Refs {
	slices.SortFunc(w.found, func(a, b ref) int { return cmp.Compare(a.place(), b.place()) })

	targets := make([]uint64, 0, len(w.found))
	var parts [slot + 1][]uint64
	for rest := w.found; len(rest) > 0; {
		n, k := 0, rest[0].kind
		for n < len(rest) && rest[n].kind == k {
			n++
		}
		begin := len(targets)
		targets = appendOnce(targets, rest[:n])
		parts[k] = targets[begin:len(targets):len(targets)]
		rest = rest[n:]
	}
	return Refs{
		Calls:    parts[call],
		Jumps:    parts[jump],
		Names:    parts[name],
		Slots:    parts[slot],
		Indirect: w.indirect,
		Cut:      w.cut,
	}
}

// place orders by kind, then by offset.
func (r ref) place() uint64 { return uint64(r.kind)<<62 | uint64(r.at) }

// appendOnce appends the targets of refs, each once. Few are searched for faster
// than hashed.
func appendOnce(targets []uint64, refs []ref) []uint64 {
	const few = 64
	var seen map[uint64]bool
	if len(refs) > few {
		seen = make(map[uint64]bool, len(refs))
	}
	begin := len(targets)
	for _, r := range refs {
		if seen == nil && slices.Contains(targets[begin:], r.target) || seen[r.target] {
			continue
		}
		if seen != nil {
			seen[r.target] = true
		}
		targets = append(targets, r.target)
	}
	return targets
}
