package plan

import (
	"fmt"

	"fgtrace/btfx"
	"fgtrace/tracer/spec"
)

// Callee is a function that may be called in one that is traced.
type Callee struct {
	Func, Module string
	Addr         uint64
}

// Selection says which of the functions that may be called are wanted.
type Selection struct {
	Include []spec.Target // none: all
	Exclude []spec.Target
}

// Wants tells whether a function is to be traced when it is called.
func (s Selection) Wants(name string) bool {
	return (len(s.Include) == 0 || matchesAny(s.Include, name)) && !matchesAny(s.Exclude, name)
}

func matchesAny(targets []spec.Target, name string) bool {
	for _, t := range targets {
		if t.Match(name) {
			return true
		}
	}
	return false
}

// Callees returns targets for functions, and those that can't be traced with the
// reasons. A function whose prototype BTF doesn't have, or not for sure, is traced
// with the registers that arguments are passed in; so is one with structs by value,
// which no program for many functions can read.
func (k *Kernel) Callees(callees []Callee) (targets []*Target, skipped []Skip, err error) {
	ids := make(map[string][]btfx.ID, len(callees))
	for _, c := range callees {
		if c.Module == "" {
			ids[c.Func] = nil
		}
	}
	k.Types.Funcs(func(id btfx.ID, name string) bool {
		if have, ok := ids[name]; ok {
			ids[name] = append(have, id)
		}
		return true
	})
	modules := make(map[string]*btfx.Types)
	denied := DenyList()
	raw, err := k.registers()
	if err != nil {
		return nil, nil, err
	}
	for _, c := range callees {
		if reason := denied[c.Func]; reason != "" {
			skipped = append(skipped, Skip{Func: c.Func, Module: c.Module, Reason: "on the deny list: " + reason})
			continue
		}
		types, found := k.Types, ids[c.Func]
		if c.Module != "" {
			if types, err = k.moduleTypes(modules, c.Module); err != nil {
				return nil, nil, err
			}
			found = nil
			if types != nil {
				found = types.FindFuncs(c.Func)
			}
		}
		var t *Target
		if len(found) == 1 {
			if t, err = NewTarget(c.Module, types, c.Func, found[0]); err != nil || t.hasStruct() {
				t = nil
			}
		}
		if t == nil {
			t = &Target{Func: c.Func, Module: c.Module, Types: k.Types, Params: raw, Ret: raw[0].Layout, Words: len(raw), Raw: true}
		}
		t.Addr = c.Addr
		targets = append(targets, t)
	}
	return targets, skipped, nil
}

// hasStruct tells whether structs or unions are passed by value.
func (t *Target) hasStruct() bool {
	for _, p := range t.Params {
		if p.Layout.Kind == btfx.Struct || p.Layout.Kind == btfx.Union {
			return true
		}
	}
	return false
}

// moduleTypes returns a module's types, or nil.
func (k *Kernel) moduleTypes(known map[string]*btfx.Types, module string) (*btfx.Types, error) {
	if len(known) == 0 {
		modules, err := k.Modules()
		if err != nil {
			return nil, err
		}
		known[""] = k.Types
		for _, m := range modules {
			known[m.Name] = m.Types
		}
	}
	return known[module], nil
}

// registers returns the parameters of a function that has no prototype.
func (k *Kernel) registers() ([]Param, error) {
	id, ok := k.Types.FindType(btfx.KindInt, "long unsigned int")
	if !ok {
		if id, ok = k.Types.FindType(btfx.KindInt, "unsigned long"); !ok {
			return nil, fmt.Errorf("find unsigned long: it is not in BTF")
		}
	}
	word := &btfx.Layout{Type: "unsigned long", Kind: btfx.Register, Size: 8}
	params := make([]Param, len(k.Arch.Regs.Names))
	for i, name := range k.Arch.Regs.Names {
		params[i] = Param{Name: name, Type: id, Layout: word, Word: i, Words: 1, String: -1}
	}
	return params, nil
}
