package matrix

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// judge knows the kernel's own graphs of one function. A work makes calls of it
// in rounds, each a call of each kind.
//
// What all runs have in common must be there: under the same parents and in the
// same order. What the runs show in common at one place of the graph and not at
// another must not be there. Interrupts, and a switch of tasks at their end, make
// runs differ from each other; where they came between, more may be there.
type judge struct {
	kinds    []truthKind
	known    *place          // of all kinds and runs, without interrupts
	expected map[string]bool // functions that all runs have in common, of some kind
	between  map[string]bool // functions that come between: with interrupts and the like
}

type truthKind struct {
	shared *node // common to all runs
	calm   *node // in any of them, where nothing came between
}

// place is a path of functions from the root.
type place struct {
	cut   bool
	below map[string]*place
}

func newPlace() *place { return &place{below: map[string]*place{}} }

func (p *place) add(n *node) {
	p.cut = p.cut || n.cut
	for _, c := range n.Children {
		if p.below[c.Func] == nil {
			p.below[c.Func] = newPlace()
		}
		p.below[c.Func].add(c)
	}
}

// interruptions are functions that only an interrupt's way in and out calls, and
// that the scheduler calls first of all.
var interruptions = []string{
	"irq_enter", "irq_enter_rcu", "irq_exit", "irq_exit_rcu", "idle_cpu", "rcu_irq_enter", "rcu_irq_exit",
	"raw_irqentry_exit_cond_resched", "irqentry_exit_cond_resched", "preempt_schedule_irq", "rcu_note_context_switch",
}

// newJudge takes runs' calls in order. What is in the first round of a run may be
// there, and need not; the others count. The trees are those of without.
func newJudge(runs [][]*node, kinds int) (*judge, error) {
	j := &judge{known: newPlace(), expected: map[string]bool{}, between: map[string]bool{}}
	samples, err := samplesOf(runs, kinds)
	if err != nil {
		return nil, err
	}
	for kind, calls := range samples {
		k := truthKind{shared: common(calls...)}
		least := slices.MinFunc(calls, func(a, b *node) int { return a.size() - b.size() })
		if shared := k.shared.size(); shared < 5 || shared*2 < least.size() {
			return nil, fmt.Errorf("kind %d: the runs have only %d calls in common: %s", kind, shared, spell(calls...))
		}
		k.shared.names(j.expected)
		j.kinds = append(j.kinds, k)
	}
	j.learn(runs, samples)
	return j, nil
}

// samplesOf returns the calls that count, by kind.
func samplesOf(runs [][]*node, kinds int) ([][]*node, error) {
	samples := make([][]*node, kinds)
	for _, run := range runs {
		if len(run) < 2*kinds || len(run)%kinds != 0 || len(run) != len(runs[0]) {
			return nil, fmt.Errorf("a run has %d calls, the first %d, of %d kinds", len(run), len(runs[0]), kinds)
		}
		for i, n := range run[kinds:] {
			samples[i%kinds] = append(samples[i%kinds], n)
		}
	}
	return samples, nil
}

// learn learns what may be there, too. Of the places, only what an interrupt
// leaves behind for sure is left out: a call may take one of several ways.
func (j *judge) learn(runs, samples [][]*node) {
	all := map[string]bool{}
	for _, name := range interruptions {
		j.between[name] = true
	}
	for _, run := range runs {
		for i, n := range run {
			n.names(all)
			j.known.add(j.calm(newOverlay(), j.kinds[i%len(j.kinds)].shared, n))
		}
	}
	for name := range all {
		j.between[name] = j.between[name] || !j.expected[name]
	}
	for kind, calls := range samples {
		var calm []*node
		for _, n := range calls {
			calm = append(calm, j.calm(newOverlay(), j.kinds[kind].shared, n))
		}
		j.kinds[kind].calm = united(calm...)
	}
}

// calm is a call without what came between, nor what is beyond the depth that
// the kernel shows.
func (j *judge) calm(o overlay, shared, n *node) *node {
	kept := &node{Func: n.Func, depth: n.depth, cut: n.cut}
	pairs := o.pairs(shared, n)
	between := n.interrupted || shared.cut || slices.ContainsFunc(pairs, func(p pair) bool { return p.a == nil && j.between[p.b.Func] })
	for _, p := range pairs {
		switch {
		case p.a != nil && p.b != nil:
			kept.Children = append(kept.Children, j.calm(o, p.a, p.b))
		case p.a == nil && !between:
			kept.Children = append(kept.Children, p.b)
		}
	}
	return kept
}

// verdict is what is to be said of graphs.
type verdict struct {
	want, found  int
	missing      map[string]int // by path
	wrong        map[string]int
	shown, limit int // calls where nothing came between, and the most that there may be
}

// of judges calls in order, as newJudge takes them.
func (j *judge) of(calls []*node) verdict {
	v := verdict{missing: map[string]int{}, wrong: map[string]int{}}
	for i, n := range calls {
		kind := j.kinds[i%len(j.kinds)]
		v.want += kind.shared.size()
		v.limit += kind.calm.size()
		v.find(newOverlay(), kind.shared, n, n.Func)
		v.shown += j.calm(newOverlay(), kind.shared, n).size()
		j.place(&v, n, j.known, n.Func)
	}
	v.limit += v.limit / 5
	return v
}

// find counts what of a call of the truth is there.
func (v *verdict) find(o overlay, truth, n *node, path string) {
	v.found++
	for _, p := range o.pairs(truth, n) {
		switch {
		case p.a == nil:
		case p.b == nil:
			v.miss(p.a, path)
		default:
			v.find(o, p.a, p.b, path+" > "+p.a.Func)
		}
	}
}

func (v *verdict) miss(n *node, path string) {
	path += " > " + n.Func
	v.missing[path]++
	for _, c := range n.Children {
		v.miss(c, path)
	}
}

// place finds calls that are under a wrong parent. Below what the kernel never
// showed, and beyond the depth that it shows, nothing is known.
func (j *judge) place(v *verdict, n *node, at *place, path string) {
	interrupted := n.interrupted
	for _, c := range n.Children {
		interrupted = interrupted || at.below[c.Func] == nil && j.between[c.Func]
	}
	for _, c := range n.Children {
		next := at.below[c.Func]
		switch {
		case next != nil:
			j.place(v, c, next, path+" > "+c.Func)
		case !at.cut && !interrupted && j.expected[c.Func]:
			v.wrong[path+" > "+c.Func]++
		}
	}
}

// perfect tells whether more calls can't make it better.
func (v verdict) perfect() bool { return v.found == v.want && v.err() == nil }

// err says what is wrong: at least 99 % must be there.
func (v verdict) err() error {
	var errs []error
	if v.want == 0 || v.found*100 < v.want*99 {
		errs = append(errs, fmt.Errorf("%d calls of %d are there; missing:%s", v.found, v.want, list(v.missing)))
	}
	if len(v.wrong) > 0 {
		errs = append(errs, fmt.Errorf("under a wrong parent:%s", list(v.wrong)))
	}
	if v.shown > v.limit {
		errs = append(errs, fmt.Errorf("%d calls are shown, the kernel's own graphs make %d at most", v.shown, v.limit))
	}
	return errors.Join(errs...)
}

// list lists paths with their counts.
func list(paths map[string]int) string {
	const most = 40
	var b strings.Builder
	for i, path := range slices.Sorted(maps.Keys(paths)) {
		if i == most {
			fmt.Fprintf(&b, "\n  and %d more", len(paths)-most)
			break
		}
		fmt.Fprintf(&b, "\n%4dx %s", paths[path], path)
	}
	return b.String()
}

// TestJudge judges graphs of one kind. x is on the deny list; i comes with
// interrupts; the kernel's graph ends at depth 3.
func TestJudge(t *testing.T) {
	skip := map[string]bool{"x": true}
	prepare := func(text string) *node { return tree(text).without(skip, 3) }
	first := prepare("a(b(f))")
	runs := [][]*node{
		{first, prepare("a(b(c(d e)) f(x(g)) h(b) k(x(c(m))))")},
		{first, prepare("a(b(c(d e)) i(b) f(x(g)) h(b) k(x(c)))")},
		{first, prepare("a(b(c(d e) i) f(x(g)) h(b l) k(x(c)))")},
	}
	j, err := newJudge(runs, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := spell(j.kinds[0].shared), "a(b(c(d e)) f(g) h(b) k(c))"; got != want {
		t.Fatalf("the runs share %s, want %s", got, want)
	}
	for _, test := range []struct {
		name, calls             string
		missing, wrong, tooMany int
	}{
		{"same", "a(b(c(d e)) f(g) h(b) k(c))", 0, 0, 0},
		{"missing", "a(b(c(d)) f(g) h(b) k(c))", 1, 0, 0},
		{"missing with what is below", "a(b f(g) h(b) k(c))", 3, 0, 0},
		{"other order", "a(b(c(e d)) f(g) h(b) k(c))", 1, 0, 0},
		{"other parent", "a(b(c(d e)) f h(b g) k(c))", 1, 1, 0},
		{"parent left out", "a(b(d e) f(g) h(b) k(c))", 3, 2, 0},
		{"interrupted", "a(b(c(d e)) f(i g b) h(b) k(c))", 0, 0, 0},
		{"as in one run", "a(b(c(d e)) f(g) h(b l) k(c))", 0, 0, 0},
		{"as in a first round", "a(b(c(d e) f) f(g) h(b) k(c))", 0, 0, 0},
		{"deeper", "a(b(c(d(g) e)) f(g) h(b) k(c(m)))", 0, 0, 0},
		{"strangers", "a(b(c(d e)) f(g) h(b) k(c) 1(2 3 4))", 0, 0, 1},
	} {
		n := tree(test.calls)
		v := j.of([]*node{n})
		if len(v.missing) != test.missing || v.want-v.found != test.missing || len(v.wrong) != test.wrong || (v.shown > v.limit) != (test.tooMany > 0) {
			t.Errorf("%s: %+v", test.name, v)
		}
		if bad := test.missing+test.wrong+test.tooMany > 0; (v.err() != nil) != bad || v.perfect() == bad {
			t.Errorf("%s: %v", test.name, v.err())
		}
	}
	if v := j.of(nil); v.err() == nil {
		t.Error("nothing is enough")
	}
	some := tree("a(b c d e)")
	for name, bad := range map[string][][]*node{
		"no call":           {{}, {}, {}},
		"first rounds":      {{some}, {some}},
		"not a round":       {{some, some}, {some, some, some}},
		"little in common":  {{some, tree("a(b c d e 1 2 3 4 5 6)")}, {some, tree("a(b c d e 7 8 9 0 x y)")}},
		"hardly any at all": {{some, tree("a(b)")}, {some, tree("a(b)")}},
	} {
		if _, err := newJudge(bad, 1); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
