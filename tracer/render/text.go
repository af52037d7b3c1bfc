package render

import (
	"time"

	"fgtrace/btfx"
	"fgtrace/internal/digits"
	"fgtrace/internal/kallsyms"
	"fgtrace/tracer/calls"
	"fgtrace/tracer/plan"
	"fgtrace/tracer/stack"
)

// Text writes a line an event, for people, and the stack below it.
//
//	15:04:05.710082515 [0] ping/492 icmp_rcv(struct sk_buff *skb=0xffff8880035b4700) = 0 2.174us
type Text struct {
	targets []textTarget // by index in the plan
	syms    btfx.Symbols
	paint   paint
	loc     *time.Location
	offset  int64 // ns from the kernel's clock to the time of day

	second int64  // that clock spells
	clock  []byte // "15:04:05."
}

type textTarget struct {
	name   []byte
	params [][]byte // "struct sk_buff *skb="
}

// paint are the terminal's colours, empty without.
type paint struct{ bold, dim, red, cyan, off string }

// TextOptions are how text looks.
type TextOptions struct {
	Color    bool
	Location *time.Location // of the times shown; nil: local
}

// NewText returns a renderer for the targets of a plan.
func NewText(targets []*plan.Target, syms btfx.Symbols, opts TextOptions) *Text {
	t := &Text{syms: syms, loc: opts.Location, second: -1}
	if t.loc == nil {
		t.loc = time.Local
	}
	if opts.Color {
		t.paint = paint{bold: "\x1b[1m", dim: "\x1b[2m", red: "\x1b[31m", cyan: "\x1b[36m", off: "\x1b[0m"}
	}
	for _, target := range targets {
		t.targets = append(t.targets, t.newTarget(target))
	}
	return t
}

func (t *Text) newTarget(target *plan.Target) textTarget {
	tt := textTarget{name: []byte(t.paint.bold + displayName(target.Func) + t.paint.off)}
	for _, p := range target.Params {
		decl := target.Types.DeclName(p.Type, p.Name)
		tt.params = append(tt.params, []byte(t.paint.dim+decl+"="+t.paint.off))
	}
	return tt
}

// displayName is the demangled name of a function, or its symbol.
func displayName(name string) string {
	if demangled, ok := kallsyms.Demangle(name); ok {
		return demangled
	}
	return name
}

// AppendStart implements Renderer. Text has no first line.
func (t *Text) AppendStart(dst []byte, s *Start) []byte {
	t.offset = s.RealtimeOffset
	return dst
}

// AppendEnd implements Renderer. What text has to say at the end goes elsewhere.
func (t *Text) AppendEnd(dst []byte, _ *End) []byte { return dst }

// AppendEvent implements Renderer.
func (t *Text) AppendEvent(dst []byte, e *Event) []byte {
	c := e.Call
	target := &t.targets[c.Target]
	if e.Kind == Exit {
		dst = t.appendTime(dst, c.Exit)
	} else {
		dst = t.appendTime(dst, c.Entry)
	}
	dst = append(dst, " ["...)
	dst = digits.AppendUint(dst, uint64(c.CPU))
	dst = append(dst, "] "...)
	dst = t.appendTask(dst, c)
	switch e.Kind {
	case Entry:
		dst = append(dst, "→ "...)
	case Exit:
		dst = append(dst, "← "...)
	}
	dst = append(dst, target.name...)
	dst = t.appendArgs(dst, target, c, e.Target)
	if e.Kind != Entry {
		dst = append(dst, " = "...)
		dst = t.appendRetval(dst, c, e.Target)
		if c.Entered {
			dst = append(dst, ' ')
			dst = append(dst, t.paint.cyan...)
			dst = appendDuration(dst, c.Duration())
			dst = append(dst, t.paint.off...)
		}
	}
	dst = append(dst, '\n')
	if e.Chain != nil {
		dst = append(dst, e.Chain.spell(t.chain)...)
	}
	return dst
}

func (t *Text) appendTask(dst []byte, c *calls.Call) []byte {
	if c.Entered {
		// What a task calls itself must not reach the terminal as it is.
		dst = appendPrintable(dst, untilNUL(c.Comm[:]))
	}
	dst = append(dst, '/')
	dst = digits.AppendUint(dst, uint64(c.Pid))
	if c.Tid != c.Pid {
		dst = append(dst, '/')
		dst = digits.AppendUint(dst, uint64(c.Tid))
	}
	return append(dst, ' ')
}

func appendPrintable(dst, s []byte) []byte {
	for _, b := range s {
		if b < ' ' || b > '~' {
			b = '?'
		}
		dst = append(dst, b)
	}
	return dst
}

func (t *Text) appendArgs(dst []byte, target *textTarget, c *calls.Call, p *plan.Target) []byte {
	if !c.Entered {
		return append(dst, "(?)"...)
	}
	dst = append(dst, '(')
	for i := range p.Params {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = append(dst, target.params[i]...)
		dst = t.appendArg(dst, c, &p.Params[i])
	}
	return append(dst, ')')
}

func (t *Text) appendArg(dst []byte, c *calls.Call, p *plan.Param) []byte {
	if p.String < 0 {
		return p.Layout.AppendText(dst, arg(c, p), t.syms)
	}
	s, cut, errno := stringArg(c, p)
	if errno != 0 { // NULL, or unreadable: the pointer is all there is
		return p.Layout.AppendText(dst, arg(c, p), t.syms)
	}
	dst = btfx.AppendQuoted(dst, s)
	if cut {
		dst = append(dst, "..."...)
	}
	return dst
}

func (t *Text) appendRetval(dst []byte, c *calls.Call, target *plan.Target) []byte {
	if target.Ret == nil {
		return append(dst, "void"...)
	}
	name := errorName(target.Ret, c.Retval[:])
	if name == "" {
		return target.Ret.AppendText(dst, c.Retval[:], t.syms)
	}
	dst = append(dst, t.paint.red...)
	dst = target.Ret.AppendText(dst, c.Retval[:], t.syms)
	dst = append(append(append(dst, " (-"...), name...), ')')
	return append(dst, t.paint.off...)
}

// appendTime appends the time of day with nanoseconds. Only the first event of
// a second pays for the calendar.
func (t *Text) appendTime(dst []byte, ns uint64) []byte {
	at := int64(ns) + t.offset
	second, rest := at/1e9, at%1e9
	if second != t.second || t.clock == nil {
		t.second = second
		t.clock = time.Unix(second, 0).In(t.loc).AppendFormat(t.clock[:0], "15:04:05.")
	}
	dst = append(dst, t.clock...)
	return digits.AppendNanos(dst, uint64(rest))
}

// appendDuration appends nanoseconds in a unit that people read, to three
// places: 812ns, 2.174us, 13.042ms, 1.500s.
func appendDuration(dst []byte, ns uint64) []byte {
	switch {
	case ns < 1e3:
		return append(digits.AppendUint(dst, ns), "ns"...)
	case ns < 1e6:
		return append(digits.AppendMillis(append(digits.AppendUint(dst, ns/1e3), '.'), ns%1e3), "us"...)
	case ns < 1e9:
		return append(digits.AppendMillis(append(digits.AppendUint(dst, ns/1e6), '.'), ns/1e3%1e3), "ms"...)
	}
	return append(digits.AppendMillis(append(digits.AppendUint(dst, ns/1e9), '.'), ns/1e6%1e3), "s"...)
}

func (t *Text) chain(c *Chain) []byte {
	var dst []byte
	if c.Errno != 0 {
		dst = append(dst, "    [no stack: "...)
		dst = append(dst, stackError(c.Errno)...)
		dst = append(dst, "]\n"...)
	}
	for _, f := range c.Frames {
		dst = append(dst, "    "...)
		dst = appendFrame(dst, f)
		dst = append(dst, '\n')
	}
	if c.Truncated {
		dst = append(dst, "    [truncated]\n"...)
	}
	if c.Raw.Frames != nil {
		dst = append(dst, t.paint.dim...)
		dst = append(dst, "    raw:\n"...)
		for _, f := range c.Raw.Frames {
			dst = append(dst, "      0x"...)
			dst = digits.AppendHex(dst, f.Addr)
			dst = append(dst, ' ')
			dst = appendFrame(dst, f)
			dst = append(dst, '\n')
		}
		dst = append(dst, t.paint.off...)
	}
	return dst
}

// appendFrame appends func+offset [module].
func appendFrame(dst []byte, f stack.Frame) []byte {
	if f.Func == "" {
		dst = append(dst, "0x"...)
		return digits.AppendHex(dst, f.Addr)
	}
	dst = append(dst, displayName(f.Func)...)
	if f.Offset != 0 {
		dst = append(dst, "+0x"...)
		dst = digits.AppendHex(dst, f.Offset)
	}
	if f.Module != "" {
		dst = append(append(append(dst, " ["...), f.Module...), ']')
	}
	return dst
}
