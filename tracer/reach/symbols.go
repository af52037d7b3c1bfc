// Package reach finds out which functions a function may call, from the kernel's
// code as it is in memory, and from calls that were seen.
package reach

import (
	"cmp"
	"slices"

	"fgtrace/internal/kallsyms"
)

// Symbols knows where functions and variables begin. They end where the next one
// begins. Add all, then Sort.
type Symbols struct {
	symbols []symbol
	data    bool // vmlinux's list has come to what is no code
}

type symbol struct {
	addr uint64
	code bool
}

// Add takes a symbol of /proc/kallsyms. vmlinux comes in order of addresses.
func (s *Symbols) Add(addr uint64, typ byte, name, module []byte) {
	if len(module) == 0 {
		s.mark(name)
	}
	if addr == 0 {
		return
	}
	code := false
	switch typ {
	case 't', 'T', 'w', 'W':
		code = len(module) > 0 && !isGenerated(module) || len(module) == 0 && !s.data
	case 'a', 'A':
		return // a number
	}
	s.symbols = append(s.symbols, symbol{addr, code})
}

// isGenerated tells the modules that stand for code which the kernel has made: BPF
// programs begin as functions do that ftrace patches and that are called through
// pointers, and are none.
func isGenerated(module []byte) bool {
	switch string(module) {
	case kallsyms.ModuleBPF, kallsyms.ModuleFtrace, kallsyms.ModuleKprobes:
		return true
	}
	return false
}

// mark looks for where code ends: from 6.19 on, read-only data has the type of
// code. That of the start, behind it, is gone.
func (s *Symbols) mark(name []byte) {
	if len(name) < len("_etext") || name[0] != '_' {
		return
	}
	switch string(name) {
	case "_etext":
		s.data = true
	case "_stext":
		s.data = false
	}
}

// Sort makes the symbols ready.
func (s *Symbols) Sort() {
	slices.SortFunc(s.symbols, func(a, b symbol) int {
		if c := cmp.Compare(a.addr, b.addr); c != 0 {
			return c
		}
		switch { // of several at an address, code goes first
		case a.code && !b.code:
			return -1
		case b.code && !a.code:
			return 1
		}
		return 0
	})
	s.symbols = slices.CompactFunc(s.symbols, func(a, b symbol) bool { return a.addr == b.addr })
}

// at returns the symbol that an address lies in.
func (s *Symbols) at(addr uint64) (start, end uint64, code bool) {
	i, exact := slices.BinarySearchFunc(s.symbols, addr, func(sym symbol, addr uint64) int { return cmp.Compare(sym.addr, addr) })
	if !exact {
		i--
	}
	if i < 0 || i+1 >= len(s.symbols) {
		return 0, 0, false
	}
	return s.symbols[i].addr, s.symbols[i+1].addr, s.symbols[i].code
}

// lowest returns the lowest address, above which the kernel is.
func (s *Symbols) lowest() uint64 {
	// Per-CPU variables are offsets, up to 6.14.
	for _, sym := range s.symbols {
		if int64(sym.addr) < 0 {
			return sym.addr
		}
	}
	return 0
}
