package plan

import (
	"fmt"
	"strings"

	"fgtrace/bpf/wire"
	"fgtrace/internal/kallsyms"
	"fgtrace/tracer/spec"
)

const maxWords = wire.MaxWords

// Symbols collects, in one pass over /proc/kallsyms, what a plan needs of it.
// Offer it each symbol, then give it to Check.
type Symbols struct {
	targets []spec.Target
	addrs   map[string][]symbol // of the names in question
	filter  kallsyms.NameFilter // lets those names pass
	search  bool                // other names matter too
	unknown []Skip              // matched a glob, and BTF has no such function
	nearest []*spec.Nearest     // per target; nil where the name is known
	seen    map[string]bool
	data    bool // the list has come to what is no code
}

type symbol struct {
	addr   uint64
	module string
}

// NewSymbols returns a collector for a plan and the targets that it came from.
func NewSymbols(targets []spec.Target, p *Plan) *Symbols {
	s := &Symbols{
		targets: targets,
		addrs:   make(map[string][]symbol, len(p.Targets)),
		nearest: make([]*spec.Nearest, len(targets)),
		seen:    make(map[string]bool),
	}
	for _, t := range p.Targets {
		s.addrs[t.Func] = nil
		s.filter.Add(t.Func)
	}
	for _, k := range p.Skipped {
		s.seen[k.Func] = true
	}
	for i, t := range targets {
		if !p.has(t) {
			s.nearest[i] = spec.NewNearest(t.Text, 3)
		}
		s.search = s.search || t.Glob || s.nearest[i] != nil
	}
	return s
}

// has tells whether anything in the plan came of a target.
func (p *Plan) has(t spec.Target) bool {
	for _, have := range p.Targets {
		if t.Match(have.Func) {
			return true
		}
	}
	for _, have := range p.Skipped {
		if t.Match(have.Func) {
			return true
		}
	}
	return false
}

// Offer takes one symbol. Only text symbols (t, T, w, W) count.
func (s *Symbols) Offer(addr uint64, typ byte, name, module []byte) {
	if len(module) == 0 {
		s.mark(name) // of whatever type: arm64's _etext is data
	}
	switch typ {
	case 't', 'T', 'w', 'W':
	default:
		return
	}
	if s.filter.Has(name) {
		if have, ok := s.addrs[string(name)]; ok {
			s.addrs[string(name)] = append(have, symbol{addr, string(module)})
			s.suggest(name)
			return
		}
	}
	if !s.search {
		return
	}
	switch string(module) {
	case kallsyms.ModuleBPF, kallsyms.ModuleFtrace, kallsyms.ModuleKprobes:
		return // generated code is no kernel function
	case "":
		if s.data {
			return
		}
	}
	for i, t := range s.targets {
		n := s.nearest[i]
		switch {
		case n == nil && !t.Glob:
		case t.Match(string(name)):
			if t.Glob && kallsyms.IsPart(name) {
				continue
			}
			s.unprototyped(string(name), string(module))
			return
		case n != nil && !kallsyms.IsPart(name):
			n.Offer(string(name))
		}
	}
}

// mark looks for where code ends, and where that of the start is: from 6.19 on,
// read-only data has the type of code. The list is in order of addresses, and the
// linker script has symbols there.
func (s *Symbols) mark(name []byte) {
	if len(name) < len("_etext") || name[0] != '_' {
		return
	}
	switch string(name) {
	case "_etext", "_einittext":
		s.data = true
	case "_sinittext":
		s.data = false
	}
}

// suggest offers the name of a target for those that nothing has the name of.
func (s *Symbols) suggest(name []byte) {
	for _, n := range s.nearest {
		if n != nil {
			n.Offer(string(name))
		}
	}
}

func (s *Symbols) unprototyped(name, module string) {
	if s.seen[name] {
		return
	}
	s.seen[name] = true
	s.unknown = append(s.unknown, Skip{Func: name, Module: module, Reason: ReasonNoPrototype})
}

// Check completes a plan with what the symbols tell: the functions' addresses,
// functions without a prototype, names that several functions share. It returns
// a *NotFoundError for a target that nothing has the name of.
func (s *Symbols) Check(p *Plan) error {
	p.Skipped = append(p.Skipped, s.unknown...)
	for i, t := range s.targets {
		if n := s.nearest[i]; n != nil && !p.has(t) {
			return &NotFoundError{Target: t, Nearest: n.Names()}
		}
	}
	kept := p.Targets[:0]
	for _, t := range p.Targets {
		addr, reason := s.locate(t)
		if reason != "" {
			p.Skipped = append(p.Skipped, t.skip(reason))
			continue
		}
		t.Addr = addr
		kept = append(kept, t)
	}
	p.Targets = kept
	p.sort()
	return nil
}

// locate finds the one address of a target. The kernel attaches by name
// (bpf_check_attach_target in kernel/bpf/verifier.c), to the first that it
// finds, so a name that several functions share can't be trusted.
func (s *Symbols) locate(t *Target) (addr uint64, reason string) {
	var found []uint64
	for _, sym := range s.addrs[t.Func] {
		if sym.module == t.Module {
			found = append(found, sym.addr)
		}
	}
	switch len(found) {
	case 0:
		return 0, ReasonNoSymbol
	case 1:
		return found[0], ""
	}
	return 0, fmt.Sprintf("a duplicate symbol: %d functions have this name", len(found))
}

// KeepPatchable skips the targets that are not in a list of the functions that
// ftrace can patch: a name a line, those of modules followed by " [module]".
func (p *Plan) KeepPatchable(list string) {
	patchable := make(map[key]bool)
	for line := range strings.Lines(list) {
		name, module, _ := strings.Cut(strings.TrimSpace(line), " ")
		patchable[key{strings.Trim(module, "[]"), name}] = true
	}
	kept := p.Targets[:0]
	for _, t := range p.Targets {
		if !patchable[key{t.Module, t.Func}] {
			p.Skipped = append(p.Skipped, t.skip(ReasonNotPatchable))
			continue
		}
		kept = append(kept, t)
	}
	p.Targets = kept
	p.sort()
}

func (t *Target) skip(reason string) Skip {
	return Skip{Func: t.Func, Module: t.Module, Prototype: t.Prototype(), Reason: reason}
}
