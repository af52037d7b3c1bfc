package plan

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"fgtrace/btfx/expr"
	"fgtrace/internal/btftest"
	"fgtrace/tracer/spec"
)

// TestFilter: what each function is asked, and what is left out.
func TestFilter(t *testing.T) {
	types := btftest.Types(t,
		btftest.Func("read", btftest.Int, "n", btftest.Long, "name", btftest.CharP),
		btftest.Func("ready", btftest.Long, "m", btftest.Long, "n", btftest.Int),
		btftest.Func("reap", nil, "m", btftest.Long),
		btftest.Func("other", btftest.Int, "x", btftest.Long),
	)
	k := &Kernel{Types: types, Modules: func() ([]Module, error) { return nil, nil }}
	for _, test := range []struct {
		name     string
		targets  string
		args     []string
		rets     []string
		want     string // targets with their conditions, and what was skipped
		err      string
		position int
	}{
		{name: "none", targets: "read,reap", want: "read; reap"},
		{name: "all must hold", targets: "read", args: []string{"n > 1", `name == "x"`},
			want: `read (both s32 (lt s32 (const 0x1 s64) (arg 0 s64)) (same +0 "x" false s32 (arg 1 p64)))`},
		{name: "where the argument is", targets: "re*", args: []string{"n"},
			want: "read (arg 0 s64); ready (arg 1 s32); -reap: the filter does not apply: there is no n here"},
		{name: "by name", targets: "reap", args: []string{"n"}, err: "filter calls of reap: at offset 0: there is no n here; parameters are m"},
		{name: "by name and glob", targets: "re*,reap", args: []string{"m + n"}, err: "filter calls of read: at offset 0: there is no m", position: -1},
		{name: "of one alone", targets: "read{n > 1},other", want: "other; read (lt s32 (const 0x1 s64) (arg 0 s64))"},
		{name: "of a glob", targets: "re*{m}", want: "ready (arg 0 s64); reap (arg 0 s64); -read: the filter does not apply: there is no m here"},
		{name: "one of two", targets: "re*{m},ready{n},read{n}", want: "read (arg 0 s64); ready (either s32 (arg 0 s64) (arg 1 s32)); reap (arg 0 s64)"},
		{name: "or none", targets: "re*{m},ready", want: "ready; reap (arg 0 s64); -read: the filter does not apply: there is no m here"},
		{name: "own and common", targets: "read{n}", args: []string{"name"}, want: "read (both s32 (arg 1 p64) (arg 0 s64))"},
		{name: "own by name", targets: "re*,reap{n}", err: "filter calls of reap: at offset 0: there is no n"},
		{name: "results", targets: "re*", rets: []string{"retval < 0"},
			want: "read => (lt s32 (retval s32) (const 0x0 s32)); ready => (lt s32 (retval s64) (const 0x0 s64)); " +
				"-reap: the filter does not apply: there is no result: before a function returns, or of one that returns void"},
		{name: "results alone", targets: "read", rets: []string{"n < 0"}, err: "filter calls of read: at offset 0: there is no n here, only retval"},
		{name: "no C", targets: "read", args: []string{"n <"}, err: "filter calls of read: at offset 3: the end where a value is expected"},
	} {
		t.Run(test.name, func(t *testing.T) {
			named, err := spec.ParseFiltered([]string{test.targets})
			if err != nil {
				t.Fatal(err)
			}
			p, err := Resolve(named, k)
			if err != nil {
				t.Fatal(err)
			}
			err = p.Filter(Filters{Args: test.args, Results: test.rets, Targets: named})
			var filter *FilterError
			var expression *expr.Error
			switch {
			case err == nil:
			case test.position < 0 && errors.As(err, &filter): // which of them is met first does not matter
				return
			case !errors.As(err, &filter) || !errors.As(err, &expression) || test.err == "" || !strings.HasPrefix(err.Error(), test.err):
				t.Errorf("%v, want %q", err, test.err)
				return
			default:
				return
			}
			if test.err != "" {
				t.Errorf("no error, want %s", test.err)
			}
			var got []string
			for _, target := range p.Targets {
				text := target.Func
				if target.Condition != nil {
					text += " " + target.Condition.String()
				}
				if target.ResultCondition != nil {
					text += " => " + target.ResultCondition.String()
				}
				got = append(got, text)
			}
			for _, s := range p.Skipped {
				got = append(got, fmt.Sprintf("-%s: %s", s.Func, s.Reason))
			}
			if got := strings.Join(got, "; "); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// TestNodes: what filters and values do with functions that are no roots, and with a root
// that is called in another one.
func TestNodes(t *testing.T) {
	types := btftest.Types(t,
		btftest.Func("root", btftest.Int, "n", btftest.Long, "m", btftest.Long),
		btftest.Func("extra", btftest.Int, "n", btftest.Long),
		btftest.Func("other", btftest.Int, "x", btftest.Long),
		btftest.Func("below", btftest.Int, "m", btftest.Long),
	)
	k := &Kernel{Types: types, Modules: func() ([]Module, error) { return nil, nil }}
	all, err := spec.ParseFiltered([]string{"root,extra,other"})
	if err != nil {
		t.Fatal(err)
	}
	p, err := Resolve(all, k)
	if err != nil {
		t.Fatal(err)
	}
	f := Filters{Nodes: []string{"n == 1"}, Outputs: []string{"n", "m"}, Targets: all[:1]}
	if err := p.Filter(f); err != nil {
		t.Fatal(err)
	}
	spell := func(targets []*Target) (names []string) {
		for _, t := range targets {
			names = append(names, fmt.Sprintf("%s asks %v shows %d lacks %d", t.Func, t.NodeCondition != nil, len(t.Outputs), t.Lacks))
		}
		return names
	}
	if got, want := fmt.Sprint(spell(p.Targets)), "[extra asks true shows 1 lacks 1 root asks true shows 2 lacks 0]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if len(p.Skipped) != 1 || p.Skipped[0].Func != "other" || p.Skipped[0].Reason != "the filter does not apply: there is no n here" {
		t.Errorf("skipped %+v", p.Skipped)
	}
	found, err := spec.ParseFiltered([]string{"below"})
	if err != nil {
		t.Fatal(err)
	}
	q, err := Resolve(found, k)
	if err != nil {
		t.Fatal(err)
	}
	f.Nodes, f.Packet = nil, true
	kept, skipped := f.Below(q.Targets)
	if got, want := fmt.Sprint(spell(kept)), "[below asks false shows 1 lacks 2]"; got != want || len(skipped) > 0 || kept[0].Packet != nil {
		t.Errorf("%s, want %s; %+v", got, want, skipped)
	}
	f.Nodes = []string{"n >"}
	if err := p.Filter(f); err == nil || !strings.Contains(err.Error(), "filter nodes: at offset 3: the end where a value is expected") {
		t.Errorf("no C: %v", err)
	}
}
