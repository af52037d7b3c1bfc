package plan

import (
	"errors"
	"fmt"
	"slices"

	"fgtrace/btfx"
	"fgtrace/btfx/expr"
	"fgtrace/tracer/event"
	"fgtrace/tracer/spec"
)

// FilterError tells that an expression does not apply to a function.
type FilterError struct {
	Func   string
	Err    error // *expr.Error where the expression is at fault
	Output bool  // it is one of a value that is shown
}

func (e *FilterError) Error() string {
	if e.Output {
		return fmt.Sprintf("show values of %s: %v", e.Func, e.Err)
	}
	return fmt.Sprintf("filter calls of %s: %v", e.Func, e.Err)
}

func (e *FilterError) Unwrap() error { return e.Err }

// Filters are expressions that must all hold of a call, and those that are shown of it.
type Filters struct {
	Args    []string // over the parameters, at the entry
	Results []string // over retval, at the return
	Outputs []string // over the parameters, at the entry: values that are shown
	Depth   int      // structs within one another that outputs show
	Packet  bool     // the packet at the entry is shown
	Nodes   []string // over the parameters, at the entry: of a graph's nodes that are no roots
	Packets Packets  // at the entry, too
	Follow  bool     // once a call of a packet is shown, all are that it has
	// Variable finds a global variable; nil: there are none.
	Variable func(name string) (expr.Variable, bool, error)
	// Targets name functions, and may each have an expression over the parameters. Of
	// several that name a function, one must hold.
	Targets []spec.Target
}

// Filter gives the plan's targets the filters of the names that they were asked for
// by. Functions that were asked for by a glob, and to which an expression does not
// apply, are skipped; of those asked for by name, that is a *FilterError. A call is
// never shown without having been asked. What no target names is no root of a graph: see
// Below.
func (p *Plan) Filter(f Filters) error {
	refused := make(map[*Target]string)
	for _, t := range p.Targets {
		if err := f.checkNodes(t.Types); err != nil {
			return err
		}
		var named []spec.Target
		for _, n := range f.Targets {
			if n.Match(t.Func) {
				named = append(named, n)
			}
		}
		if len(named) == 0 { // what -g has besides
			if _, skipped := f.Below([]*Target{t}); len(skipped) > 0 {
				refused[t] = skipped[0].Reason
			}
			continue
		}
		what, err := "filter", t.filter(f, named)
		if err == nil {
			what, err = "output", t.output(f, false)
			// Where it is called in another root's tree it is a node of that.
			_ = t.filterNode(f)
		}
		switch {
		case err == nil:
		case slices.ContainsFunc(named, func(n spec.Target) bool { return !n.Glob }):
			return &FilterError{t.Func, err, what == "output"}
		default:
			refused[t] = notApplied(what, err)
		}
	}
	p.Skip(refused)
	return nil
}

// shortReason leaves out what differs between functions with the same fault, so that
// they can be listed together.
func shortReason(err error) string {
	if e := (*expr.Error)(nil); errors.As(err, &e) {
		return e.Msg
	}
	return err.Error()
}

func (t *Target) filter(f Filters, named []spec.Target) (err error) {
	if len(f.Args)+len(f.Results) == 0 && f.Packets.isEmpty() && !f.Follow && !slices.ContainsFunc(named, func(n spec.Target) bool { return n.Filter != "" }) {
		return nil
	}
	if t.Raw {
		return errors.New(ReasonNoPrototype)
	}
	if f.Follow {
		if t.Follow, err = t.skb(); err != nil {
			return err
		}
	}
	entry := t.scope(f)
	if t.Condition, err = allOf(f.Args, entry); err != nil {
		return err
	}
	own, err := anyOf(named, entry)
	if err != nil {
		return err
	}
	t.Condition = expr.And(t.Condition, own)
	if !f.Packets.isEmpty() {
		matches, err := f.Packets.condition(t, entry)
		if err != nil {
			return err
		}
		t.Condition = expr.And(t.Condition, matches)
	}

	// What parameters point to may have gone by then.
	exit := expr.Scope{Types: t.Types, Variable: f.Variable}
	if t.Ret != nil {
		proto, err := t.Types.Proto(t.ID)
		if err != nil {
			return err
		}
		exit.Retval = &proto.Ret
	}
	t.ResultCondition, err = allOf(f.Results, exit)
	return err
}

// scope is what names mean at the target's entry.
func (t *Target) scope(f Filters) expr.Scope {
	scope := expr.Scope{Types: t.Types, Variable: f.Variable}
	for _, p := range t.Params {
		scope.Params = append(scope.Params, expr.Param{Name: p.Name, Type: p.Type, Word: p.Word})
	}
	return scope
}

// output gives a target the packet and the values that are shown. One that it does not
// have is an error; with lenient it is counted, and the others are shown.
func (t *Target) output(f Filters, lenient bool) error {
	t.Lacks = 0
	lacks := func(err error) error {
		if err != nil && lenient {
			t.Lacks++
			return nil
		}
		return err
	}
	if t.Raw && (f.Packet || len(f.Outputs) > 0) {
		return lacks(errors.New(ReasonNoPrototype))
	}
	var found *PacketParam
	if f.Packet {
		var err error
		if found, err = t.packet(); lacks(err) != nil {
			return err
		}
	}
	var outputs []Output
	offset := 0
	for _, text := range f.Outputs {
		o, err := expr.NewOutput(text, t.scope(f))
		if err == nil && offset+event.OutputSize(o.Size) > expr.MaxOutput {
			err = fmt.Errorf("the values have more than the %d bytes that are shown together", expr.MaxOutput)
		}
		if err != nil {
			if lacks(err) != nil {
				return err
			}
			continue
		}
		if o.Layout != nil {
			o.Layout = o.Layout.Limited(f.Depth)
		}
		outputs = append(outputs, Output{o, offset})
		offset += event.OutputSize(o.Size)
	}
	t.Packet, t.Outputs = found, outputs
	return nil
}

// Below gives targets that were found below the roots of a graph what nodes have: a
// filter, which leaves out those to which it does not apply, and those of the values that
// are shown which they have: see Target.Lacks. It returns what is left, and what was left
// out.
func (f Filters) Below(targets []*Target) (kept []*Target, skipped []Skip) {
	for _, t := range targets {
		if err := t.filterNode(f); err != nil {
			skipped = append(skipped, Skip{Func: t.Func, Module: t.Module, Prototype: t.Prototype(), Reason: notApplied("filter", err)})
			continue
		}
		_ = t.output(f, true) // which has no error then
		kept = append(kept, t)
	}
	return kept, skipped
}

func notApplied(what string, err error) string {
	return "the " + what + " does not apply: " + shortReason(err)
}

// checkNodes finds what is wrong with the filter of nodes whatever their functions are.
func (f Filters) checkNodes(types *btfx.Types) error {
	for _, text := range f.Nodes {
		isType := func(name string) bool { return name == "bool" || len(types.FindTypes(btfx.KindTypedef, name)) > 0 }
		if _, err := expr.Parse(text, isType); err != nil {
			return fmt.Errorf("filter nodes: %w", err)
		}
	}
	return nil
}

// filterNode gives a target the filter of nodes.
func (t *Target) filterNode(f Filters) (err error) {
	if len(f.Nodes) == 0 {
		return nil
	}
	if t.Raw {
		return errors.New(ReasonNoPrototype)
	}
	t.NodeCondition, err = allOf(f.Nodes, t.scope(f))
	return err
}

// allOf returns whether all of some expressions hold; nil: there are none.
func allOf(expressions []string, scope expr.Scope) (*expr.Tree, error) {
	var all *expr.Tree
	for _, text := range expressions {
		one, err := expr.Condition(text, scope)
		if err != nil {
			return nil, err
		}
		all = expr.And(all, one)
	}
	return all, nil
}

// anyOf returns whether the expression of one of the names holds that a function was
// asked for by; nil: one has none. What does not apply is an error, but of a glob
// where another one does.
func anyOf(named []spec.Target, scope expr.Scope) (*expr.Tree, error) {
	var found *expr.Tree
	var failed error
	all := false
	for _, n := range named {
		if n.Filter == "" {
			all = true
			continue
		}
		one, err := expr.Condition(n.Filter, scope)
		switch {
		case err == nil:
			found = expr.Or(found, one)
		case !n.Glob:
			return nil, err
		default:
			failed = err
		}
	}
	switch {
	case all:
		return nil, nil
	case found == nil:
		return nil, failed
	}
	return found, nil
}
