package tracer

import (
	"fmt"

	"fgtrace/btfx"
	"fgtrace/internal/kallsyms"
	"fgtrace/tracer/stack"
)

// Names names kernel addresses. It knows what /proc/kallsyms had at the start,
// and reads the part of it that is generated code again whenever an address is
// in none of what it knows: BPF programs and trampolines come and go, and every
// attach gives a trampoline a new place.
type Names struct {
	start      *kallsyms.Text // nil: hidden
	known      map[uint64]name
	generated  *kallsyms.Table
	generation uint64
	err        error
}

type name struct {
	symbol stack.Symbol
	ok     bool
}

// NewNames returns names of the running kernel.
func NewNames(s *Symbols) *Names { return &Names{start: s.text, known: make(map[uint64]name)} }

// Err returns the first error in reading symbols. Addresses then have no names.
func (n *Names) Err() error { return n.err }

// Generation implements flow.Symbols.
func (n *Names) Generation() uint64 { return n.generation }

// Symbol implements stack.Symbols.
func (n *Names) Symbol(addr uint64) (stack.Symbol, bool) {
	if known, ok := n.known[addr]; ok {
		return known.symbol, known.ok
	}
	if n.start == nil {
		return stack.Symbol{}, false
	}
	symbol, ok := lookup(n.start, addr)
	if !ok || isGenerated(symbol) {
		symbol, ok = n.generatedSymbol(addr)
	}
	n.known[addr] = name{symbol, ok}
	return symbol, ok
}

func (n *Names) generatedSymbol(addr uint64) (stack.Symbol, bool) {
	if n.generated != nil {
		if symbol, ok := lookup(n.generated, addr); ok {
			return symbol, true
		}
	}
	table, err := readGenerated()
	if err != nil {
		if n.err == nil {
			n.err = err
		}
		return stack.Symbol{}, false
	}
	n.generated = table
	n.generation++
	// What was unknown may be known now, and addresses may have been reused.
	for addr, known := range n.known {
		if !known.ok || isGenerated(known.symbol) {
			delete(n.known, addr)
		}
	}
	return lookup(table, addr)
}

func lookup(list interface {
	Symbol(addr uint64) (kallsyms.Sym, bool)
}, addr uint64) (stack.Symbol, bool) {
	sym, ok := list.Symbol(addr)
	if !ok {
		return stack.Symbol{}, false
	}
	return stack.Symbol{Func: sym.Name, Module: sym.Module, Offset: sym.Offset}, true
}

func isGenerated(s stack.Symbol) bool {
	switch s.Module {
	case kallsyms.ModuleBPF, kallsyms.ModuleFtrace, kallsyms.ModuleKprobes:
		return true
	}
	return false
}

func readGenerated() (*kallsyms.Table, error) {
	f, err := kallsyms.Open()
	if err != nil {
		return nil, fmt.Errorf("read symbols: %w", err)
	}
	defer f.Close()
	table, err := kallsyms.LoadBPF(f)
	if err != nil {
		return nil, fmt.Errorf("read symbols: %w", err)
	}
	return table, nil
}

// Values returns the names in the form in which values are printed.
func (n *Names) Values() btfx.Symbols { return valueNames{n} }

type valueNames struct{ names *Names }

func (v valueNames) Symbol(addr uint64) (name string, offset uint64, ok bool) {
	s, ok := v.names.Symbol(addr)
	return s.Func, s.Offset, ok
}
