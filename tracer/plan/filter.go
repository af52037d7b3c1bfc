package plan

import (
	"errors"
	"fmt"
	"slices"

	"fgtrace/btfx/expr"
	"fgtrace/tracer/spec"
)

// FilterError tells that an expression does not apply to a function.
type FilterError struct {
	Func string
	Err  error // *expr.Error where the expression is at fault
}

func (e *FilterError) Error() string { return fmt.Sprintf("filter calls of %s: %v", e.Func, e.Err) }

func (e *FilterError) Unwrap() error { return e.Err }

// Filters are expressions that must all hold of a call.
type Filters struct {
	Args    []string // over the parameters, at the entry
	Results []string // over retval, at the return
	Packets Packets  // at the entry, too
	// Variable finds a global variable; nil: there are none.
	Variable func(name string) (expr.Variable, bool, error)
	// Targets name functions, and may each have an expression over the parameters. Of
	// several that name a function, one must hold.
	Targets []spec.Target
}

// Filter gives the plan's targets the filters of the names that they were asked for
// by. Functions that were asked for by a glob, and to which an expression does not
// apply, are skipped; of those asked for by name, that is a *FilterError. A call is
// never shown without having been asked. What no target names is left as it is.
func (p *Plan) Filter(f Filters) error {
	refused := make(map[*Target]string)
	for _, t := range p.Targets {
		var named []spec.Target
		for _, n := range f.Targets {
			if n.Match(t.Func) {
				named = append(named, n)
			}
		}
		if len(named) == 0 {
			continue
		}
		err := t.filter(f, named)
		switch {
		case err == nil:
		case slices.ContainsFunc(named, func(n spec.Target) bool { return !n.Glob }):
			return &FilterError{t.Func, err}
		default:
			refused[t] = "the filter does not apply: " + shortReason(err)
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
	if len(f.Args)+len(f.Results) == 0 && f.Packets.isEmpty() && !slices.ContainsFunc(named, func(n spec.Target) bool { return n.Filter != "" }) {
		return nil
	}
	if t.Raw {
		return errors.New(ReasonNoPrototype)
	}
	entry := expr.Scope{Types: t.Types, Variable: f.Variable}
	for _, p := range t.Params {
		entry.Params = append(entry.Params, expr.Param{Name: p.Name, Type: p.Type, Word: p.Word})
	}
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
