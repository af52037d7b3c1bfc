package matrix

import (
	"slices"
	"testing"
)

// overlay lays one tree over another: of all ways in which calls of the same
// name correspond, each under corresponding parents and in the same order, the
// one with the most calls.
type overlay struct {
	weights map[[2]*node]int
}

func newOverlay() overlay { return overlay{weights: map[[2]*node]int{}} }

// weight is the number of calls that correspond in two calls of one name.
func (o overlay) weight(a, b *node) int {
	key := [2]*node{a, b}
	if w, ok := o.weights[key]; ok {
		return w
	}
	w := 1 + o.table(a, b)[0][0]
	o.weights[key] = w
	return w
}

// table has at i, j the number of calls that correspond in the children from i
// on of one and from j on of the other.
func (o overlay) table(a, b *node) [][]int {
	best := make([][]int, len(a.Children)+1)
	best[len(a.Children)] = make([]int, len(b.Children)+1)
	for i := len(a.Children) - 1; i >= 0; i-- {
		best[i] = make([]int, len(b.Children)+1)
		for j := len(b.Children) - 1; j >= 0; j-- {
			best[i][j] = max(best[i+1][j], best[i][j+1])
			if x, y := a.Children[i], b.Children[j]; x.Func == y.Func {
				best[i][j] = max(best[i][j], o.weight(x, y)+best[i+1][j+1])
			}
		}
	}
	return best
}

// pair is two children that correspond; one is nil where none does.
type pair struct{ a, b *node }

// pairs aligns the children of two calls.
func (o overlay) pairs(a, b *node) []pair {
	best := o.table(a, b)
	var all []pair
	i, j := 0, 0
	for i < len(a.Children) && j < len(b.Children) {
		x, y := a.Children[i], b.Children[j]
		switch {
		case x.Func == y.Func && best[i][j] == o.weight(x, y)+best[i+1][j+1]:
			all = append(all, pair{x, y})
			i, j = i+1, j+1
		case best[i][j] == best[i+1][j]:
			all = append(all, pair{x, nil})
			i++
		default:
			all = append(all, pair{nil, y})
			j++
		}
	}
	for ; i < len(a.Children); i++ {
		all = append(all, pair{a.Children[i], nil})
	}
	for ; j < len(b.Children); j++ {
		all = append(all, pair{nil, b.Children[j]})
	}
	return all
}

// common is what trees have in common; they are calls of one function.
func common(trees ...*node) *node { return fold(trees, false) }

// united is what is in any of the trees.
func united(trees ...*node) *node { return fold(trees, true) }

func fold(trees []*node, all bool) *node {
	result := trees[0]
	for _, n := range trees[1:] {
		result = newOverlay().combine(result, n, all)
	}
	return result
}

func (o overlay) combine(a, b *node, all bool) *node {
	n := &node{Func: a.Func, depth: a.depth, cut: a.cut || b.cut}
	for _, p := range o.pairs(a, b) {
		switch {
		case p.a != nil && p.b != nil:
			n.Children = append(n.Children, o.combine(p.a, p.b, all))
		case all && p.a != nil:
			n.Children = append(n.Children, p.a)
		case all:
			n.Children = append(n.Children, p.b)
		}
	}
	return n
}

// without takes functions out of a tree: what they call becomes their caller's.
// Calls at the depth of the deepest are marked as cut, and so is who calls one
// that is taken out.
func (n *node) without(skip map[string]bool, deepest int) *node {
	kept := &node{Func: n.Func, depth: n.depth, cut: n.depth >= deepest}
	for _, c := range n.Children {
		c = c.without(skip, deepest)
		if !skip[c.Func] {
			kept.Children = append(kept.Children, c)
			continue
		}
		kept.Children = append(kept.Children, c.Children...)
		kept.cut = kept.cut || c.cut
	}
	return kept
}

// names adds the functions of a tree to a set.
func (n *node) names(set map[string]bool) {
	set[n.Func] = true
	for _, c := range n.Children {
		c.names(set)
	}
}

// tree builds a tree of its spelling, "a(b c(d))", one rune a name.
func tree(text string) *node {
	var open []*node
	last := &node{}
	top := last
	for _, r := range text {
		switch r {
		case '(':
			open = append(open, last)
		case ')':
			open = open[:len(open)-1]
		case ' ':
		default:
			last = &node{Func: string(r), depth: len(open)}
			parent := top
			if len(open) > 0 {
				parent = open[len(open)-1]
			}
			parent.Children = append(parent.Children, last)
		}
	}
	return top.Children[0]
}

func TestTrees(t *testing.T) {
	for _, test := range []struct{ name, a, b, common, united string }{
		{"same", "a(b c(d))", "a(b c(d))", "a(b c(d))", "a(b c(d))"},
		{"more", "a(b i(j) c)", "a(b c k)", "a(b c)", "a(b i(j) c k)"},
		{"order", "a(b c)", "a(c b)", "a(c)", "a(b c b)"},
		{"place", "a(b(c) d)", "a(b d(c))", "a(b d)", "a(b(c) d(c))"},
		// Names alone would have the first b correspond to the only one.
		{"weight", "a(b b(c d))", "a(b(c d))", "a(b(c d))", "a(b b(c d))"},
	} {
		a, b := tree(test.a), tree(test.b)
		if got := spell(common(a, b)); got != test.common {
			t.Errorf("%s: common %s, want %s", test.name, got, test.common)
		}
		if got := newOverlay().weight(a, b); got != tree(test.common).size() {
			t.Errorf("%s: weight %d of %s", test.name, got, test.common)
		}
		if got := united(a, b).size(); got != tree(test.united).size() {
			t.Errorf("%s: united %s, want %s", test.name, spell(united(a, b)), test.united)
		}
	}
	got := tree("a(x(b x(c)) d(x))").without(map[string]bool{"x": true}, 2)
	if want := "a(b c d)"; spell(got) != want {
		t.Errorf("without: %s, want %s", spell(got), want)
	}
	if cut := []bool{got.cut, got.Children[0].cut, got.Children[2].cut}; !slices.Equal(cut, []bool{true, true, true}) {
		t.Errorf("without: cut %v", cut)
	}
}
