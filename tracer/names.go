package tracer

import (
	"fmt"

	"fgtrace/btfx"
	"fgtrace/internal/kallsyms"
	"fgtrace/tracer/stack"
)

// Names names kernel addresses: vmlinux, modules and programs by what
// /proc/kallsyms had at the start, and what has been generated since by what
// the kernel tells of it.
type Names struct {
	start     *kallsyms.Text // nil: hidden
	generated generated      // nil: nothing is known of what came later
	known     map[uint64]name
}

// generated names code that is generated at run time: BPF programs, trampolines
// and other images.
type generated interface {
	// symbol names an address, or finds nothing.
	symbol(addr uint64) (stack.Symbol, bool)
	// generation changes when names may have changed.
	generation() uint64
	// cut tells that the kernel could not tell of all code.
	cut() bool
	close()
}

type name struct {
	symbol  stack.Symbol
	changes uint64 // of the generated code, when this was found out
}

// NewNames returns names of the running kernel. Watch says whether the names of
// what is generated from now on matter: begin before the programs are loaded.
//
// Where the kernel does not let it be watched (kernel.perf_event_paranoid of 3,
// for whoever lacks CAP_SYS_ADMIN), /proc/kallsyms is read again when a name is
// missing, and unwatched says why: code that is gone by then stays without one.
func NewNames(watch bool) (n *Names, unwatched error) {
	n = &Names{known: make(map[uint64]name)}
	if !watch {
		return n, nil
	}
	w, err := watchGenerated()
	if err != nil {
		n.generated = &listed{}
		return n, err
	}
	n.generated = w
	return n, nil
}

// Use gives the symbols that there were at the start.
func (n *Names) Use(s *Symbols) { n.start = s.text }

// Close ends watching.
func (n *Names) Close() {
	if n.generated != nil {
		n.generated.close()
	}
}

// Err tells of names that the kernel could not give.
func (n *Names) Err() error {
	if n.generated != nil && n.generated.cut() {
		return fmt.Errorf("name generated code: the kernel's list of it was cut; frames without a name may be its")
	}
	return nil
}

// Generation implements flow.Symbols.
func (n *Names) Generation() uint64 {
	if n.generated == nil {
		return 0
	}
	return n.generated.generation()
}

// Symbol implements stack.Symbols.
func (n *Names) Symbol(addr uint64) (stack.Symbol, bool) {
	changes := n.Generation()
	if known, ok := n.known[addr]; ok && known.changes == changes {
		return known.symbol, true
	}
	symbol, ok := n.find(addr)
	if ok { // what has no name now may have one a moment later
		n.known[addr] = name{symbol, n.Generation()}
	}
	return symbol, ok
}

// find asks the kernel's text first, then what came since the start, which may
// have taken the place of what was there then.
func (n *Names) find(addr uint64) (stack.Symbol, bool) {
	var old stack.Symbol
	found := false
	if n.start != nil {
		if sym, ok := n.start.Symbol(addr); ok {
			old = stack.Symbol{Func: sym.Name, Module: sym.Module, Offset: sym.Offset}
			found = true
			if old.Module != kallsyms.ModuleBPF {
				return old, true
			}
		}
	}
	if n.generated != nil {
		if sym, ok := n.generated.symbol(addr); ok {
			return sym, true
		}
	}
	return old, found
}

// Values returns the names in the form in which values are printed.
func (n *Names) Values() btfx.Symbols { return valueNames{n} }

type valueNames struct{ names *Names }

func (v valueNames) Symbol(addr uint64) (name string, offset uint64, ok bool) {
	s, ok := v.names.Symbol(addr)
	return s.Func, s.Offset, ok
}
