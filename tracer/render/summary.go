package render

import (
	"cmp"
	"slices"
	"strings"

	"fgtrace/internal/digits"
	"fgtrace/tracer/calls"
	"fgtrace/tracer/plan"
)

// Summary writes, at the end, where the time went: a line for each function,
// and below a tree for each root, with calls that have the same callers added
// up. docs/formats.md describes it.
type Summary struct {
	names     []string     // by index in the plan
	durations []*histogram // by index in the plan; nil: none
	trees     *trees
	nodes     uint64
	roots     uint64
	lost      uint64 // nodes whose exit was lost
	running   uint64
	line      line
}

// NewSummary returns a renderer for the targets of a plan.
func NewSummary(targets []*plan.Target) *Summary {
	s := &Summary{trees: newTrees(false)}
	s.Grow(targets)
	return s
}

// Grow implements Renderer.
func (s *Summary) Grow(targets []*plan.Target) {
	s.durations = append(s.durations, make([]*histogram, len(targets))...)
	for _, t := range targets {
		name := displayName(t.Func)
		if t.Module != "" {
			name += " [" + t.Module + "]"
		}
		s.names = append(s.names, name)
	}
}

// AppendStart implements Renderer.
func (s *Summary) AppendStart(dst []byte, _ *Start) []byte { return dst }

// AppendEvent implements Renderer.
func (s *Summary) AppendEvent(dst []byte, e *Event) []byte {
	if !e.isNode() {
		return dst
	}
	c := e.Call
	s.nodes++
	if c.Node.Parent == 0 {
		s.roots++
	}
	switch c.Node.End {
	case calls.Returned:
		if s.durations[c.Target] == nil {
			s.durations[c.Target] = new(histogram)
		}
		s.durations[c.Target].add(c.Duration())
	case calls.ExitLost:
		s.lost++
	case calls.Running:
		s.running++
	}
	s.trees.add(c)
	return dst
}

// AppendEnd implements Renderer.
func (s *Summary) AppendEnd(dst []byte, _ *End) []byte {
	root := s.trees.end()[[16]byte{}]
	if root != nil {
		dst = s.appendFunctions(dst, root)
		dst = append(dst, '\n')
		dst = s.appendTree(dst, root)
		dst = append(dst, '\n')
	}
	dst = appendCount(dst, s.nodes, "node")
	dst = appendCount(append(dst, ", "...), s.roots, "root")
	if s.lost > 0 {
		dst = append(digits.AppendUint(append(dst, ", "...), s.lost), " without an exit"...)
	}
	if s.running > 0 {
		dst = append(digits.AppendUint(append(dst, ", "...), s.running), " still running"...)
	}
	if s.lost+s.running > 0 {
		dst = append(dst, " (no times of these)"...)
	}
	return append(dst, '\n')
}

// function is a line of the table.
type function struct {
	branch   // added up; total is that of the outermost calls
	target   int
	under    int // calls of it around what is being looked at
	p50, p99 uint64
}

func (s *Summary) appendFunctions(dst []byte, root *branch) []byte {
	functions := make([]function, len(s.names))
	addUp(functions, root.children)
	for i := range functions {
		f := &functions[i]
		f.target = i
		if h := s.durations[i]; h != nil {
			f.p50, f.p99 = h.percentile(50), h.percentile(99)
		}
	}
	functions = slices.DeleteFunc(functions, func(f function) bool { return f.calls == 0 })
	slices.SortFunc(functions, func(a, b function) int {
		return cmp.Or(cmp.Compare(b.own, a.own), cmp.Compare(b.total, a.total), strings.Compare(s.names[a.target], s.names[b.target]))
	})
	t := table{columns: 5, left: []string{"calls", "total", "own", "p50", "p99"}, right: []string{"function"}}
	for _, f := range functions {
		t.left = append(t.left, count(f.calls), s.duration(&f.branch, f.total), s.duration(&f.branch, f.own),
			s.duration(&f.branch, f.p50), s.duration(&f.branch, f.p99))
		t.right = append(t.right, s.names[f.target])
	}
	return t.append(dst)
}

// addUp adds branches to their functions. The time of a call that is made in
// another of the same function is a part of that one's.
func addUp(functions []function, branches []*branch) {
	for _, b := range branches {
		if b.step == unknown {
			addUp(functions, b.children)
			continue
		}
		f := &functions[b.step.target()]
		f.calls += b.calls
		f.returned += b.returned
		f.own += b.own
		if f.under == 0 {
			f.total += b.total
		}
		f.under++
		addUp(functions, b.children)
		f.under--
	}
}

func (s *Summary) appendTree(dst []byte, root *branch) []byte {
	t := table{columns: 3, left: []string{"calls", "total", "own"}, right: []string{"tree"}}
	s.addTree(&t, root.children, "")
	return t.append(dst)
}

func (s *Summary) addTree(t *table, branches []*branch, indent string) {
	sorted := slices.SortedFunc(slices.Values(branches), func(a, b *branch) int {
		return cmp.Or(cmp.Compare(b.total, a.total), cmp.Compare(b.calls, a.calls), strings.Compare(s.spell(a), s.spell(b)))
	})
	for _, b := range sorted {
		calls := count(b.calls)
		if b.step == unknown {
			calls = "-"
		}
		t.left = append(t.left, calls, s.duration(b, b.total), s.duration(b, b.own))
		t.right = append(t.right, indent+s.spell(b))
		s.addTree(t, b.children, indent+"  ")
	}
}

func (s *Summary) spell(b *branch) string {
	if b.step == unknown {
		return "[unknown]"
	}
	name := s.names[b.step.target()]
	if in := b.step.entered(); in != calls.Task {
		name = "[" + in.String() + "] " + name
	}
	return name
}

// duration spells a time of a branch, if it has any.
func (s *Summary) duration(b *branch, ns uint64) string {
	if b.returned == 0 {
		return "-"
	}
	s.line.begin(nil)
	s.line.duration(ns)
	return string(s.line.end())
}

func count(n uint64) string { return string(digits.AppendUint(nil, n)) }

func appendCount(dst []byte, n uint64, what string) []byte {
	dst = append(append(digits.AppendUint(dst, n), ' '), what...)
	if n != 1 {
		dst = append(dst, 's')
	}
	return dst
}

// table is aligned text: columns to the right, and one to the left at the end.
type table struct {
	columns int
	left    []string // row by row
	right   []string // a row each
}

func (t *table) append(dst []byte) []byte {
	widths := make([]int, t.columns)
	for i, cell := range t.left {
		widths[i%t.columns] = max(widths[i%t.columns], len(cell))
	}
	for row, last := range t.right {
		for i, cell := range t.left[row*t.columns:][:t.columns] {
			dst = append(dst, strings.Repeat(" ", widths[i]-len(cell))...)
			dst = append(append(dst, cell...), "  "...)
		}
		dst = append(append(dst, last...), '\n')
	}
	return dst
}
