package plan

import (
	"errors"
	"fmt"

	"fgtrace/btfx/expr"
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
}

// Filter gives the targets that selected names their filters. Functions to which one
// does not apply are skipped, or where isExact tells that they were asked for by name,
// a *FilterError: a call is never shown without having been asked.
func (p *Plan) Filter(f Filters, selected, isExact func(*Target) bool) error {
	refused := make(map[*Target]string)
	for _, t := range p.Targets {
		if !selected(t) {
			continue
		}
		err := t.filter(f)
		switch {
		case err == nil:
		case isExact(t):
			return &FilterError{t.Func, err}
		default:
			refused[t] = fmt.Sprintf("the filter does not apply: %v", err)
		}
	}
	p.Skip(refused)
	return nil
}

func (t *Target) filter(f Filters) (err error) {
	if t.Raw {
		return errors.New(ReasonNoPrototype)
	}
	entry := expr.Scope{Types: t.Types}
	for _, p := range t.Params {
		entry.Params = append(entry.Params, expr.Param{Name: p.Name, Type: p.Type, Word: p.Word})
	}
	if t.Condition, err = allOf(f.Args, entry); err != nil {
		return err
	}
	// What parameters point to may have gone by then.
	exit := expr.Scope{Types: t.Types}
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
