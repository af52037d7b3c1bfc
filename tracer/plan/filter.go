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

// Filter gives targets the expressions that must all hold at their entries: those
// that selected names. Functions to which one does not apply are skipped, or where
// isExact tells that they were asked for by name, a *FilterError: a call is never
// shown without having been asked.
func (p *Plan) Filter(expressions []string, selected, isExact func(*Target) bool) error {
	refused := make(map[*Target]string)
	for _, t := range p.Targets {
		if !selected(t) {
			continue
		}
		condition, err := t.condition(expressions)
		switch {
		case err == nil:
			t.Condition = condition
		case isExact(t):
			return &FilterError{t.Func, err}
		default:
			refused[t] = fmt.Sprintf("the filter does not apply: %v", err)
		}
	}
	p.Skip(refused)
	return nil
}

func (t *Target) condition(expressions []string) (*expr.Tree, error) {
	if t.Raw {
		return nil, errors.New(ReasonNoPrototype)
	}
	scope := expr.Scope{Types: t.Types}
	for _, p := range t.Params {
		scope.Params = append(scope.Params, expr.Param{Name: p.Name, Type: p.Type, Word: p.Word})
	}
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
