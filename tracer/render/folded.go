package render

import (
	"cmp"
	"slices"
	"strings"

	"fgtrace/internal/digits"
	"fgtrace/tracer/calls"
	"fgtrace/tracer/plan"
)

// Folded writes folded stacks, as flame graphs are made of: a line for each
// chain of calls, with the ns that its last function took itself. All of it
// comes at the end. docs/formats.md describes it.
//
//	ping;icmp_rcv;[hardirq];handle_irq_event 2174
type Folded struct {
	names []string // by index in the plan
	trees *trees
}

// NewFolded returns a renderer for the targets of a plan.
func NewFolded(targets []*plan.Target) *Folded {
	f := &Folded{trees: newTrees(true)}
	f.Grow(targets)
	return f
}

// Grow implements Renderer.
func (f *Folded) Grow(targets []*plan.Target) {
	for _, t := range targets {
		f.names = append(f.names, strings.ReplaceAll(displayName(t.Func), ";", "_"))
	}
}

// AppendStart implements Renderer.
func (f *Folded) AppendStart(dst []byte, _ *Start) []byte { return dst }

// AppendEvent implements Renderer.
func (f *Folded) AppendEvent(dst []byte, e *Event) []byte {
	if e.isNode() {
		f.trees.add(e.Call)
	}
	return dst
}

type foldedLine struct {
	chain string
	own   uint64
}

// AppendEnd implements Renderer.
func (f *Folded) AppendEnd(dst []byte, _ *End) []byte {
	var lines []foldedLine
	for comm, root := range f.trees.end() {
		chain := appendFoldedComm(nil, untilNUL(comm[:]))
		for _, b := range root.children {
			lines = f.fold(lines, chain, b)
		}
	}
	slices.SortFunc(lines, func(a, b foldedLine) int { return cmp.Compare(a.chain, b.chain) })
	for i, line := range lines {
		// Functions of several modules can share a name.
		if i+1 < len(lines) && lines[i+1].chain == line.chain {
			lines[i+1].own += line.own
			continue
		}
		dst = append(append(dst, line.chain...), ' ')
		dst = append(digits.AppendUint(dst, line.own), '\n')
	}
	return dst
}

// fold adds the lines of a branch and all below it.
func (f *Folded) fold(lines []foldedLine, chain []byte, b *branch) []foldedLine {
	chain = append(chain, ';')
	if b.step == unknown {
		chain = append(chain, "[unknown]"...)
	} else {
		if in := b.step.entered(); in != calls.Task {
			chain = append(append(append(chain, '['), in.String()...), "];"...)
		}
		chain = append(chain, f.names[b.step.target()]...)
	}
	if b.own > 0 {
		lines = append(lines, foldedLine{string(chain), b.own})
	}
	for _, child := range b.children {
		lines = f.fold(lines, chain, child)
	}
	return lines
}

// appendFoldedComm appends a task's name without what separates frames.
func appendFoldedComm(dst, comm []byte) []byte {
	start := len(dst)
	dst = appendPrintable(dst, comm)
	for i := start; i < len(dst); i++ {
		if dst[i] == ';' || dst[i] == ' ' {
			dst[i] = '_'
		}
	}
	return dst
}
