package reach

import (
	"encoding/binary"
	"slices"

	"fgtrace/arch/code"
)

// Kernel is what is looked at.
type Kernel struct {
	Arch    string
	Symbols *Symbols
	// Read reads kernel memory.
	Read func(addr uint64, p []byte) error
	// Part tells whether what begins at an address is a part of another function,
	// moved away by the compiler.
	Part func(addr uint64) bool
	// Leaf tells whether what a function calls doesn't matter.
	Leaf func(addr uint64) bool
	// Traceable tells whether a function can be traced. One that can't is no level.
	// nil: all can.
	Traceable func(addr uint64) bool
}

// Calls is what is known of who calls whom.
type Calls struct {
	kernel Kernel
	lowest uint64
	funcs  map[uint64]*function
	pages  map[uint64][]byte
	tables map[uint64][]uint64
	below  map[uint64]int // functions that were seen so many levels below a root
}

// function is one function and what it may call.
type function struct {
	scanned bool
	direct  []uint64 // called or jumped to by address
	named   []uint64 // whose addresses its code has, a variable whose address it has, or a pointer that it reads
	seen    []uint64 // called, as was seen
}

// New returns what is known of a kernel before anything was looked at.
func New(k Kernel) *Calls {
	if k.Traceable == nil {
		k.Traceable = func(uint64) bool { return true }
	}
	return &Calls{
		kernel: k, lowest: k.Symbols.lowest(), funcs: make(map[uint64]*function),
		pages: make(map[uint64][]byte), tables: make(map[uint64][]uint64), below: make(map[uint64]int),
	}
}

// Saw notes that code at an address called a function, by an address near its
// beginning. True: that is new.
func (c *Calls) Saw(caller, callee uint64) bool {
	start, _, isCode := c.kernel.Symbols.at(caller)
	callee, _, known := c.kernel.Symbols.at(callee)
	if !isCode || !known || c.kernel.Part(callee) {
		return false
	}
	f := c.function(start)
	if slices.Contains(f.seen, callee) {
		return false
	}
	f.seen = append(f.seen, callee)
	return true
}

// SawBelow notes that a function was called so many levels below a root, or more.
func (c *Calls) SawBelow(addr uint64, depth int) {
	if have, ok := c.below[addr]; !ok || depth < have {
		c.below[addr] = depth
	}
}

func (c *Calls) function(addr uint64) *function {
	f := c.funcs[addr]
	if f == nil {
		f = &function{}
		c.funcs[addr] = f
	}
	return f
}

// Callees returns the functions that the one at an address calls directly, in the
// order of its code.
func (c *Calls) Callees(addr uint64) []uint64 { return c.scan(addr).direct }

// Reached is a function that may be called within some levels.
type Reached struct {
	Addr  uint64
	Depth int // the least number of levels
	// Through: it can't be traced, and what it calls is at its level.
	Through bool
}

// Within returns the functions that may be called from roots within so many
// levels, the nearest first, without the roots that nothing calls. Each is there
// once. Without code, only calls that were seen count.
func (c *Calls) Within(roots []uint64, depth int, code bool) []Reached {
	var reached []Reached
	known := make(map[uint64]bool)
	level := roots
	for d := 1; d <= depth; d++ {
		var next []uint64
		add := func(addr uint64) {
			if known[addr] {
				return
			}
			known[addr] = true
			if c.kernel.Traceable(addr) {
				reached = append(reached, Reached{Addr: addr, Depth: d})
				next = append(next, addr)
			} else {
				reached = append(reached, Reached{Addr: addr, Depth: d, Through: true})
				level = append(level, addr)
			}
		}
		level = slices.Clone(level)
		for _, addr := range c.sawAt(d) {
			add(addr)
		}
		for i := 0; i < len(level); i++ { // it grows
			if from := level[i]; d == 1 && i < len(roots) || !c.kernel.Leaf(from) {
				for _, list := range c.lists(from, code) {
					for _, to := range list {
						add(to)
					}
				}
			}
		}
		level = next
	}
	return reached
}

// sawAt returns the functions that were seen so many levels below a root at least,
// sorted.
func (c *Calls) sawAt(depth int) []uint64 {
	var addrs []uint64
	for addr, at := range c.below {
		if at == depth {
			addrs = append(addrs, addr)
		}
	}
	slices.Sort(addrs)
	return addrs
}

// lists returns what a function may call.
func (c *Calls) lists(addr uint64, code bool) [][]uint64 {
	f := c.scan(addr)
	if !code {
		// What can't be traced is not seen, but what it calls is.
		unseen := slices.DeleteFunc(slices.Clone(f.direct), c.kernel.Traceable)
		return [][]uint64{f.seen, unseen}
	}
	return [][]uint64{f.direct, f.named, f.seen}
}

// scan reads a function's code, once.
func (c *Calls) scan(addr uint64) *function {
	f := c.function(addr)
	if f.scanned {
		return f
	}
	f.scanned = true
	p := parts{todo: []part{{start: addr}}}
	for i := 0; i < len(p.todo) && i < maxParts; i++ {
		p.at = i
		c.scanPart(f, &p)
	}
	return f
}

// maxParts is how many parts of one function are read.
const maxParts = 16

// parts are a function and what the compiler moved away from it. They jump into
// the middle of each other.
type parts struct {
	todo    []part
	at      int      // in todo
	entries []uint64 // that are in todo
}

type part struct {
	start   uint64
	entries []uint64 // none: the function, at its beginning
}

// enter notes that a part is jumped to.
func (p *parts) enter(start, to uint64) {
	if slices.Contains(p.entries, to) {
		return
	}
	p.entries = append(p.entries, to)
	for i := p.at + 1; i < len(p.todo); i++ {
		if p.todo[i].start == start {
			p.todo[i].entries = append(p.todo[i].entries, to)
			return
		}
	}
	p.todo = append(p.todo, part{start, []uint64{to}})
}

func (c *Calls) scanPart(f *function, p *parts) {
	at := p.todo[p.at]
	start, end, isCode := c.kernel.Symbols.at(at.start)
	if !isCode || end-start > maxFunction {
		return
	}
	text, ok := c.read(start, end)
	if !ok {
		return
	}
	var refs code.Refs
	if len(at.entries) == 0 {
		refs, _ = code.Scan(c.kernel.Arch, text, start, c.lowest)
	} else {
		refs, _ = code.ScanPart(c.kernel.Arch, text, start, c.lowest, at.entries)
	}
	for _, to := range refs.Calls {
		f.direct = c.add(f.direct, to)
	}
	for _, to := range refs.Jumps {
		part, _, isCode := c.kernel.Symbols.at(to)
		if isCode && (c.kernel.Part(part) || part == p.todo[0].start && to != part) {
			p.enter(part, to)
			continue
		}
		f.direct = c.add(f.direct, to)
	}
	for _, to := range refs.Names {
		start, end, isCode := c.kernel.Symbols.at(to)
		switch {
		case isCode && start == to:
			f.named = c.add(f.named, to)
		case !isCode && start != 0:
			for _, fn := range c.table(start, end) {
				f.named = c.add(f.named, fn)
			}
		}
	}
	for _, at := range refs.Slots {
		if _, _, isCode := c.kernel.Symbols.at(at); isCode {
			continue
		}
		if word, ok := c.read(at, at+8); ok {
			f.named = c.add(f.named, binary.LittleEndian.Uint64(word))
		}
	}
}

// add adds the address of a function, if it is one.
func (c *Calls) add(list []uint64, to uint64) []uint64 {
	start, _, isCode := c.kernel.Symbols.at(to)
	if !isCode || start != to || c.kernel.Part(to) || slices.Contains(list, to) {
		return list
	}
	return append(list, to)
}

const (
	maxFunction = 64 << 10 // bytes of code
	maxTable    = 4 << 10  // bytes of a variable
)

// table returns the functions whose addresses a variable holds.
func (c *Calls) table(start, end uint64) []uint64 {
	if fns, ok := c.tables[start]; ok {
		return fns
	}
	var fns []uint64
	if end-start <= maxTable && start%8 == 0 {
		if data, ok := c.read(start, end); ok {
			for ; len(data) >= 8; data = data[8:] {
				word := binary.LittleEndian.Uint64(data)
				if word > c.lowest {
					fns = c.add(fns, word)
				}
			}
		}
	}
	c.tables[start] = fns
	return fns
}

// Code returns the first bytes of a function.
func (c *Calls) Code(addr uint64, n int) ([]byte, bool) { return c.read(addr, addr+uint64(n)) }

const pageSize = 16 << 10

// read returns the bytes from start to end.
func (c *Calls) read(start, end uint64) ([]byte, bool) {
	out := make([]byte, 0, end-start)
	for at := start; at < end; {
		page := at &^ (pageSize - 1)
		text, ok := c.pages[page]
		if !ok {
			text = make([]byte, pageSize)
			if c.kernel.Read(page, text) != nil {
				text = nil
			}
			c.pages[page] = text
		}
		if text == nil {
			// Not all of the page can be read.
			rest := make([]byte, end-at)
			if c.kernel.Read(at, rest) != nil {
				return nil, false
			}
			return append(out, rest...), true
		}
		n := min(end, page+pageSize) - at
		out = append(out, text[at-page:][:n]...)
		at += n
	}
	return out, true
}

// Pointed returns the functions whose first bytes tell that they are called through
// pointers: they begin with an instruction that such calls land on.
func (c *Calls) Pointed(landsOn func(code []byte) bool) []uint64 {
	var found []uint64
	for i, s := range c.kernel.Symbols.symbols {
		if !s.code || i+1 >= len(c.kernel.Symbols.symbols) || c.kernel.Symbols.symbols[i+1].addr-s.addr < leastFunction {
			continue
		}
		if code, ok := c.read(s.addr, s.addr+leastFunction); ok && landsOn(code) {
			found = append(found, s.addr)
		}
	}
	return found
}

const leastFunction = 16 // bytes that are looked at
