// Package plan resolves what the user asked for against a snapshot of a kernel.
// A plan says which functions are traced, and names each that isn't with the
// reason. Nothing here touches a kernel.
package plan

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"fgtrace/arch"
	"fgtrace/btfx"
	"fgtrace/btfx/expr"
	"fgtrace/tracer/event"
	"fgtrace/tracer/packet"
	"fgtrace/tracer/spec"
)

// Kernel is the snapshot that targets are resolved against.
type Kernel struct {
	Release string
	Arch    arch.Arch
	Types   *btfx.Types

	// Modules returns the types of the loaded modules. It is called when a
	// target may be in one, as reading them takes time.
	Modules func() ([]Module, error)
}

// FprobeOnGraph tells whether the kernel remembers the returns that fprobes, and
// so kprobe.session, wait for on each task's shadow stack. Before 6.14
// (4346ba160409) it had two for each function and CPU, and missed calls when all
// were in use.
func (k *Kernel) FprobeOnGraph() bool { return k.hasFprobe() && k.fprobeMember("hlist_array") }

// FprobeAlone tells whether the kernel has fprobes of that older kind.
func (k *Kernel) FprobeAlone() bool { return k.hasFprobe() && k.fprobeMember("rethook") }

func (k *Kernel) hasFprobe() bool {
	_, ok := k.Types.FindFunc("register_fprobe_ips")
	return ok
}

func (k *Kernel) fprobeMember(name string) bool {
	id, ok := k.Types.FindType(btfx.KindStruct, "fprobe")
	if !ok {
		return false
	}
	_, err := k.Types.Member(id, name)
	return err == nil
}

// JmpMode tells whether functions with a program at their return jump to their
// trampoline in place of calling it: Linux 6.19 on x86, with which BPF_MOD_NOP has
// come.
func (k *Kernel) JmpMode() bool {
	id, ok := k.Types.FindType(btfx.KindEnum, "bpf_text_poke_type")
	if !ok || !k.Arch.PerCPUPreemptCount {
		return false
	}
	layout, err := k.Types.Layout(id)
	return err == nil && slices.ContainsFunc(layout.Values, func(v btfx.EnumValue) bool { return v.Name == "BPF_MOD_NOP" })
}

// Module is a loaded kernel module that has BTF.
type Module struct {
	Name  string
	Types *btfx.Types
}

// Target is a function that is to be traced.
type Target struct {
	Func   string // the kernel's symbol
	Module string // "" for vmlinux
	Types  *btfx.Types
	ID     btfx.ID // of the function, in Types
	Params []Param
	Ret    *btfx.Layout // nil for void
	Words  int          // argument words, over all parameters
	Addr   uint64       // of the function; 0 until Check, or where symbols are hidden
	Root   bool         // begins a tree of a function graph
	Raw    bool         // has no prototype: ID is 0, and parameters are registers

	Expressions
	Lacks int // values and packets that are shown of others, and that it does not have

	// Patchable tells that the function's code was looked at, and is such as
	// ftrace patches.
	Patchable bool
}

// Expressions are what is asked about a target's calls.
type Expressions struct {
	// Condition is what holds at the entries of the calls that are shown; nil: all are.
	Condition *expr.Tree
	// ResultCondition holds of the results of those calls; nil: of all.
	ResultCondition *expr.Tree
	// NodeCondition holds at the entries of nodes of a graph that are shown, but for those
	// that begin a tree; nil: of all.
	NodeCondition *expr.Tree
	// Outputs are values at the entry that are shown.
	Outputs []Output
	// Packet is the parameter whose packet at the entry is shown; nil: none.
	Packet *PacketParam
	// Follow is the parameter whose packet is followed: once a call of one is shown, all
	// are that the packet has, until it is freed; nil: none.
	Follow *PacketParam
}

// PacketParam is a parameter that has a packet.
type PacketParam struct {
	Form *packet.Form
	Word int // the argument word
}

// Output is a value at the entry that is shown.
type Output struct {
	*expr.Output
	// Offset is where it is in the part of a record that outputs have, in bytes: 8 that
	// say what there is, as of struct output in wire.h, and then that.
	Offset int
}

// AnyAtEntry tells whether programs evaluate something at the entry, for which they may
// load members of structs.
func (e Expressions) AnyAtEntry() bool {
	return e.Condition != nil || e.NodeCondition != nil || len(e.Outputs) > 0 || e.Packet != nil
}

// OutputSize returns how many bytes of a record outputs have.
func (e Expressions) OutputSize() int {
	if len(e.Outputs) == 0 {
		return 0
	}
	last := e.Outputs[len(e.Outputs)-1]
	return last.Offset + event.OutputSize(last.Size)
}

// String spells expressions in full: those that are spelled alike do the same.
func (e Expressions) String() string {
	var b strings.Builder
	for _, t := range []*expr.Tree{e.Condition, e.ResultCondition, e.NodeCondition} {
		if t != nil {
			b.WriteString(t.String())
		}
		b.WriteByte(';')
	}
	if e.Packet != nil {
		fmt.Fprintf(&b, "%v %d;", *e.Packet.Form, e.Packet.Word)
	}
	if e.Follow != nil {
		fmt.Fprintf(&b, "follow %d;", e.Follow.Word)
	}
	for _, o := range e.Outputs {
		fmt.Fprintf(&b, "%d %s%+d %d;", o.Take, o.Tree, o.Disp, o.Size)
	}
	return b.String()
}

// Param is a parameter of a target.
type Param struct {
	Name   string
	Type   btfx.ID
	Layout *btfx.Layout
	Word   int // its first argument word
	Words  int
	String int // index among the strings of a record, -1 if it is no string
}

// Strings returns the number of parameters that are read as strings.
func (t *Target) Strings() int {
	n := 0
	for _, p := range t.Params {
		if p.String >= 0 {
			n++
		}
	}
	return n
}

// Shape returns the layout of the target's records.
func (t *Target) Shape(stack bool) event.Shape {
	return event.Shape{Words: t.Words, Outputs: t.OutputSize(), Strings: t.Strings(), Stack: stack}
}

// Prototype spells the function as C declares it.
func (t *Target) Prototype() string {
	if t.Raw {
		return ""
	}
	return t.Types.Prototype(t.ID)
}

// Skip is a function that was asked for and isn't traced.
type Skip struct {
	Func      string
	Module    string
	Prototype string // "" where BTF has none
	Reason    string
}

// Plan is what comes of a resolution, each list sorted by name.
type Plan struct {
	Targets []*Target
	Skipped []Skip
}

// Reasons why a function can't be traced. Reasons that depend on the function
// are spelled where they are found.
const (
	ReasonNoPrototype  = "no BTF prototype"
	ReasonVariadic     = "variadic: a trampoline can't pass on its arguments"
	ReasonNoSymbol     = "no symbol in /proc/kallsyms"
	ReasonNotPatchable = "not in the patchable set (notrace, or no ftrace call site)"
	ReasonAmbiguous    = "ambiguous in BTF: several functions have this name"
)

// NotFoundError tells that no function has a name that was asked for.
type NotFoundError struct {
	Target  spec.Target
	Nearest []string
}

func (e *NotFoundError) Error() string {
	what := "no kernel function is called"
	if e.Target.Glob {
		what = "no kernel function matches"
	}
	msg := fmt.Sprintf("find function: %s %q", what, e.Target.Text)
	if len(e.Nearest) > 0 {
		msg += "; the nearest are " + strings.Join(e.Nearest, ", ")
	}
	return msg
}

// Resolve finds the functions that the targets name in the kernel's BTF. What
// only symbols can tell is left to Check.
func Resolve(targets []spec.Target, k *Kernel) (*Plan, error) {
	r := resolver{kernel: k, plan: &Plan{}, seen: map[key]bool{}, denied: DenyList()}
	for _, t := range targets {
		if err := r.resolve(t); err != nil {
			return nil, err
		}
	}
	r.plan.sort()
	return r.plan, nil
}

// Skip moves targets that a kernel refused to the skipped ones. A target that
// is not in the plan any more has its reason already.
func (p *Plan) Skip(refused map[*Target]string) {
	kept := p.Targets[:0]
	for _, t := range p.Targets {
		if reason, ok := refused[t]; ok {
			p.Skipped = append(p.Skipped, t.skip(reason))
			continue
		}
		kept = append(kept, t)
	}
	p.Targets = kept
	p.sort()
}

func (p *Plan) sort() {
	slices.SortFunc(p.Targets, func(a, b *Target) int {
		return compareNames(a.Func, a.Module, b.Func, b.Module)
	})
	slices.SortFunc(p.Skipped, func(a, b Skip) int {
		return compareNames(a.Func, a.Module, b.Func, b.Module)
	})
}

func compareNames(func1, module1, func2, module2 string) int {
	if c := strings.Compare(func1, func2); c != 0 {
		return c
	}
	return strings.Compare(module1, module2)
}

type key struct{ module, name string }

type resolver struct {
	kernel *Kernel
	plan   *Plan
	seen   map[key]bool
	denied map[string]string
}

// resolve adds the functions of one target. A name that BTF doesn't have is no
// error yet: a symbol may have it.
func (r *resolver) resolve(t spec.Target) error {
	if !t.Glob {
		if ids := r.kernel.Types.FindFuncs(t.Text); len(ids) > 0 {
			r.add("", r.kernel.Types, t.Text, ids)
			return nil
		}
	} else {
		r.match(t, "", r.kernel.Types)
	}
	modules, err := r.kernel.Modules()
	if err != nil {
		return err
	}
	for _, m := range modules {
		if t.Glob {
			r.match(t, m.Name, m.Types)
		} else if ids := m.Types.FindFuncs(t.Text); len(ids) > 0 {
			r.add(m.Name, m.Types, t.Text, ids)
		}
	}
	return nil
}

func (r *resolver) match(t spec.Target, module string, types *btfx.Types) {
	found := make(map[string][]btfx.ID)
	types.Funcs(func(id btfx.ID, name string) bool {
		if t.Match(name) {
			found[name] = append(found[name], id)
		}
		return true
	})
	for name, ids := range found {
		r.add(module, types, name, ids)
	}
}

func (r *resolver) add(module string, types *btfx.Types, name string, ids []btfx.ID) {
	if r.seen[key{module, name}] {
		return
	}
	r.seen[key{module, name}] = true
	if reason := r.denied[name]; reason != "" {
		r.skip(name, module, types.Prototype(ids[0]), "on the deny list: "+reason)
		return
	}
	if len(ids) > 1 {
		r.skip(name, module, "", ReasonAmbiguous)
		return
	}
	t, err := NewTarget(module, types, name, ids[0])
	if err != nil {
		r.skip(name, module, types.Prototype(ids[0]), err.Error())
		return
	}
	r.plan.Targets = append(r.plan.Targets, t)
}

func (r *resolver) skip(name, module, prototype, reason string) {
	r.plan.Skipped = append(r.plan.Skipped, Skip{Func: name, Module: module, Prototype: prototype, Reason: reason})
}

// NewTarget reads the prototype of a function, by its ID in types. An error is a
// reason not to trace it.
func NewTarget(module string, types *btfx.Types, name string, id btfx.ID) (*Target, error) {
	proto, err := types.Proto(id)
	if err != nil {
		return nil, err
	}
	if proto.Variadic {
		return nil, errors.New(ReasonVariadic)
	}
	t := &Target{Func: name, Module: module, Types: types, ID: id}
	strings := 0
	for i, p := range proto.Params {
		words, err := types.ArgWords(p.Type)
		if err != nil {
			return nil, err
		}
		layout, err := types.Layout(p.Type)
		if err != nil {
			return nil, err
		}
		param := Param{Name: p.Name, Type: p.Type, Layout: layout, Word: t.Words, Words: words, String: -1}
		if param.Name == "" {
			param.Name = fmt.Sprintf("arg%d", i)
		}
		if layout.Kind == btfx.String {
			param.String = strings
			strings++
		}
		t.Words += words
		t.Params = append(t.Params, param)
	}
	if t.Words > maxWords {
		return nil, fmt.Errorf("%d argument words, more than the %d that any trampoline saves", t.Words, maxWords)
	}
	if proto.Ret != 0 {
		if t.Ret, err = types.Layout(proto.Ret); err != nil {
			return nil, err
		}
		switch t.Ret.Kind {
		case btfx.Void:
			t.Ret = nil
		case btfx.Struct, btfx.Union:
			// btf_distill_func_proto in kernel/bpf/btf.c refuses these.
			return nil, fmt.Errorf("returns %s, a %s: no trampoline passes that on", t.Ret.Type, t.Ret.Kind)
		}
	}
	return t, nil
}
