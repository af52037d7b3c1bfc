package tracer

import (
	"fmt"
	"time"

	"fgtrace/internal/kallsyms"
	"fgtrace/tracer/stack"
)

// listed names generated code by what /proc/kallsyms has of it, which it reads
// again when a name is missing. The zero value is ready.
type listed struct {
	table *kallsyms.Table
	reads uint64
	last  time.Time
	err   error
}

// listInterval is how often the list is read at most: it takes the kernel a
// tenth of that, and longer when it is emulated.
const listInterval = 200 * time.Millisecond

func (l *listed) symbol(addr uint64) (stack.Symbol, bool) {
	if s, ok := l.find(addr); ok {
		return s, true
	}
	if time.Since(l.last) < listInterval {
		return stack.Symbol{}, false
	}
	table, err := readGenerated()
	l.last = time.Now()
	if err != nil {
		l.err = err
		return stack.Symbol{}, false
	}
	l.table = table
	l.reads++
	return l.find(addr)
}

func (l *listed) find(addr uint64) (stack.Symbol, bool) {
	if l.table == nil {
		return stack.Symbol{}, false
	}
	sym, ok := l.table.Symbol(addr)
	return stack.Symbol{Func: sym.Name, Module: sym.Module, Offset: sym.Offset}, ok
}

func (l *listed) generation() uint64 { return l.reads }

func (l *listed) cut() bool { return l.err != nil }

func (l *listed) close() {}

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
