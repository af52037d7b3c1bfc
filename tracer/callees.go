package tracer

import (
	"strings"

	"fgtrace/internal/kallsyms"
	"fgtrace/tracer/learn"
	"fgtrace/tracer/plan"
	"fgtrace/tracer/reach"
)

// Callees finds the functions that may be called below the roots of a graph.
type Callees struct {
	session   *Session
	symbols   *Symbols
	calls     *reach.Calls
	selection plan.Selection
	roots     []uint64
	depth     int
	known     map[uint64]bool // targets, and what can't be one
	skipped   []plan.Skip
	denied    map[string]string // reasons
	code      bool              // what code tells counts, not only what was seen
	seen      []learn.Pair      // not in calls yet
	have      map[learn.Pair]bool
	pointed   []uint64    // functions that are watched
	unwatched int         // for which there was no room
	below     map[int]int // those that were called, at which depth: not in calls yet
}

// NewCallees begins with the code of a graph's roots, to so many levels below
// them.
func NewCallees(s *Session, symbols *Symbols, selection plan.Selection) *Callees {
	c := &Callees{session: s, symbols: symbols, selection: selection, depth: s.opts.Graph.Depth, known: make(map[uint64]bool), code: true, denied: plan.DenyList()}
	if c.depth == 0 {
		c.depth = MaxDepth
	}
	for _, t := range s.targets {
		if t.Root {
			c.roots = append(c.roots, t.Addr)
		}
	}
	c.forget()
	s.build.Graph.Kretprobes = symbols.kretprobeCode(s.kernel)
	c.calls = reach.New(reach.Kernel{
		Arch: s.kernel.Arch.Name, Symbols: symbols.places, Read: s.peek,
		Part:      func(addr uint64) bool { return kallsyms.IsPart([]byte(c.name(addr))) },
		Leaf:      func(addr uint64) bool { return isEnd(c.name(addr)) },
		Traceable: c.traceable,
	})
	return c
}

func (c *Callees) name(addr uint64) string {
	sym, _ := c.symbols.text.Symbol(addr)
	return sym.Name
}

// isEnd tells functions below which nothing is looked for: they end in printing
// and dying, which is never what a graph is about, and reach half of the kernel.
func isEnd(name string) bool {
	switch name {
	case "_printk", "printk", "vprintk", "panic", "__warn_printk", "dump_stack", "__stack_chk_fail", "die", "oops_end", "do_exit",
		"make_task_dead", "bust_spinlocks", "show_regs", "rust_begin_unwind", "print_hex_dump":
		return true
	}
	for _, prefix := range []string{"__ubsan_handle_", "__fortify_", "fortify_panic", "refcount_warn_", "__dynamic_pr_", "__dynamic_dev_", "__dynamic_netdev_", "__dynamic_emit_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return isThunk(name)
}

// isThunk tells the code that stands for an indirect jump or a return.
func isThunk(name string) bool {
	return strings.Contains(name, "__x86_indirect_thunk") || strings.Contains(name, "__x86_return_thunk") || strings.Contains(name, "srso_")
}

// isStaticCall tells the jumps to where a static call leads (ARCH_STATIC_CALL_TRAMP):
// they look like what ftrace has patched, and are no functions.
func isStaticCall(name string) bool { return strings.HasPrefix(name, "__SCT__") }

// OnlySeen makes Next begin anew, with calls that were seen in place of those that
// the code has.
func (c *Callees) OnlySeen() {
	c.code = false
	for _, name := range learnNoise {
		c.denied[name] = "runs at each call while calls are learned"
	}
	c.forget()
}

// forget leaves nothing known but what the session has.
func (c *Callees) forget() {
	clear(c.known)
	for _, t := range c.session.targets {
		c.known[t.Addr] = true
	}
	c.skipped = nil
}

// saw takes a call that was seen. True: that is new. It may run beside Next.
func (c *Callees) saw(call learn.Pair) bool {
	if c.have[call] {
		return false
	}
	if c.have == nil {
		c.have = make(map[learn.Pair]bool)
	}
	c.have[call] = true
	c.seen = append(c.seen, call)
	return true
}

// settle makes Next know what was seen. It must not run beside it.
func (c *Callees) settle() {
	for _, call := range c.seen {
		c.calls.Saw(call.Parent, call.IP)
	}
	c.seen = c.seen[:0]
	for number, depth := range c.below {
		c.calls.SawBelow(c.pointed[number], depth)
	}
	clear(c.below)
}

// pointedFunctions returns the functions that are called through pointers and are
// not known to be called, and that ftrace lists: those to be watched. On a kernel that does not check how
// functions are called, these are all.
func (c *Callees) pointedFunctions(listed func(addr uint64) bool) []uint64 {
	pointed := c.calls.Pointed(c.session.kernel.Arch.LandingPad)
	if len(pointed) == 0 {
		pointed = c.calls.Pointed(func([]byte) bool { return true })
	}
	c.pointed, c.unwatched = c.pointed[:0], 0
	for _, addr := range pointed {
		if c.known[addr] || !listed(addr) || !c.patchable(addr) {
			continue
		}
		if name := c.name(addr); c.denied[name] != "" || isEnd(name) || isStaticCall(name) || !c.selection.Wants(name) {
			continue
		}
		if len(c.pointed) == maxPointed {
			c.unwatched++
			continue
		}
		c.pointed = append(c.pointed, addr)
	}
	return c.pointed
}

// Unwatched returns how many functions that are called through pointers are not
// watched, as there was no room for more.
func (c *Callees) Unwatched() int { return c.unwatched }

// sawPointed takes the number of a watched function that was called with so many
// nodes under way. True: that is new. It may run beside Next.
func (c *Callees) sawPointed(number uint64, depth int) bool {
	if number >= uint64(len(c.pointed)) {
		return false
	}
	if have, ok := c.below[int(number)]; ok && have <= depth {
		return false
	}
	if c.below == nil {
		c.below = make(map[int]int)
	}
	c.below[int(number)] = depth
	return true
}

// Next returns targets for what has become known to be called since the last time.
func (c *Callees) Next() ([]*plan.Target, error) {
	var found []plan.Callee
	for _, r := range c.calls.Within(c.roots, c.depth, c.code) {
		if c.known[r.Addr] {
			continue
		}
		c.known[r.Addr] = true
		sym, ok := c.symbols.text.Symbol(r.Addr)
		if !ok || isThunk(sym.Name) || isStaticCall(sym.Name) || !c.selection.Wants(sym.Name) {
			continue
		}
		if r.Through {
			c.skip(sym.Name, sym.Module)
			continue
		}
		found = append(found, plan.Callee{Func: sym.Name, Module: sym.Module, Addr: r.Addr})
	}
	targets, skipped, err := c.session.kernel.Callees(found)
	if err != nil {
		return nil, err
	}
	c.skipped = append(c.skipped, skipped...)
	for _, t := range targets {
		t.Patchable = true
	}
	if below := c.session.opts.Graph.Below; below != nil {
		targets, skipped = below(targets)
		c.skipped = append(c.skipped, skipped...)
	}
	return targets, nil
}

// skip notes a function that can't be traced.
func (c *Callees) skip(name, module string) {
	reason := plan.ReasonNotPatchable
	if denied := c.denied[name]; denied != "" {
		reason = "on the deny list: " + denied
	}
	c.skipped = append(c.skipped, plan.Skip{Func: name, Module: module, Reason: reason})
}

// traceable tells whether a function can be a node.
func (c *Callees) traceable(addr uint64) bool {
	name := c.name(addr)
	return c.denied[name] == "" && !isStaticCall(name) && c.patchable(addr)
}

// patchable tells whether ftrace can patch a function.
func (c *Callees) patchable(addr uint64) bool {
	a := c.session.kernel.Arch
	code, ok := c.calls.Code(addr, int(a.PatchSpan)+instructionBytes)
	if !ok || !c.session.patchableCode(code) {
		return false
	}
	target, ok := a.BranchTarget(code, addr)
	if !ok {
		return true
	}
	sym, ok := c.symbols.text.Symbol(target)
	return !ok || sym.Module != "" || strings.HasPrefix(sym.Name, "ftrace_")
}

// Walk calls fn for each root and each function that its code calls directly,
// nested to the graph's depth, in the order of the code. What a function calls comes
// once: again tells that it came before.
func (c *Callees) Walk(fn func(depth int, name, module string, again bool)) {
	walked := make(map[uint64]bool)
	var walk func(addr uint64, depth int)
	walk = func(addr uint64, depth int) {
		sym, ok := c.symbols.text.Symbol(addr)
		if !ok || isThunk(sym.Name) || depth > 0 && !c.selection.Wants(sym.Name) {
			return
		}
		callees := c.calls.Callees(addr)
		fn(depth, sym.Name, sym.Module, walked[addr] && len(callees) > 0)
		if walked[addr] || depth == c.depth || isEnd(sym.Name) {
			return
		}
		walked[addr] = true
		for _, to := range callees {
			walk(to, depth+1)
		}
	}
	for _, root := range c.roots {
		walk(root, 0)
	}
}

// Skipped returns what may be called and can't be traced.
func (c *Callees) Skipped() []plan.Skip { return c.skipped }
