package render

import (
	"time"

	"fgtrace/btfx"
	"fgtrace/internal/digits"
	"fgtrace/internal/kallsyms"
	"fgtrace/tracer/calls"
	"fgtrace/tracer/event"
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

	second int64   // ns, that clock spells
	clock  [9]byte // "15:04:05."
	tasks  tasks
}

// textTarget holds the parts of a target's lines that are always the same.
type textTarget struct {
	name   []byte
	open   []byte // "name(", and the declaration of the first parameter
	params []textParam
	result result
}

type textParam struct {
	param
	decl []byte // ", struct sk_buff *skb="; nil for the first parameter
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
	t := &Text{syms: syms, loc: opts.Location, tasks: tasks{append: appendTextTask}}
	if t.loc == nil {
		t.loc = time.Local
	}
	if opts.Color {
		t.paint = paint{bold: "\x1b[1m", dim: "\x1b[2m", red: "\x1b[31m", cyan: "\x1b[36m", off: "\x1b[0m"}
	}
	for _, target := range targets {
		t.targets = append(t.targets, t.newTarget(target))
	}
	t.setClock(0)
	return t
}

func (t *Text) newTarget(target *plan.Target) textTarget {
	name := t.paint.bold + displayName(target.Func) + t.paint.off
	tt := textTarget{name: []byte(name), open: []byte(name + "("), result: newResult(target.Ret)}
	for i, p := range target.Params {
		decl := t.paint.dim + target.Types.DeclName(p.Type, p.Name) + "=" + t.paint.off
		tp := textParam{param: newParam(p)}
		if i == 0 {
			tt.open = append(tt.open, decl...)
		} else {
			tp.decl = []byte(", " + decl)
		}
		tt.params = append(tt.params, tp)
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
	dst = append(dst, t.tasks.spell(c)...)
	switch e.Kind {
	case Entry:
		dst = append(dst, "→ "...)
	case Exit:
		dst = append(dst, "← "...)
	}
	dst = t.appendArgs(dst, target, c)
	if e.Kind != Entry {
		dst = append(dst, " = "...)
		dst = t.appendResult(dst, &target.result, c)
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

// appendTextTask appends " [0] ping/492 ", or " [0] ping/492/495 " of another
// thread than the first.
func appendTextTask(dst []byte, t *task) []byte {
	dst = append(dst, " ["...)
	dst = digits.AppendUint(dst, uint64(t.cpu))
	dst = append(dst, "] "...)
	if t.named {
		// What a task calls itself must not reach the terminal as it is.
		dst = appendPrintable(dst, untilNUL(t.comm[:]))
	}
	dst = append(dst, '/')
	dst = digits.AppendUint(dst, uint64(t.pid))
	if t.tid != t.pid {
		dst = append(dst, '/')
		dst = digits.AppendUint(dst, uint64(t.tid))
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

func (t *Text) appendArgs(dst []byte, target *textTarget, c *calls.Call) []byte {
	if !c.Entered {
		dst = append(dst, target.name...)
		return append(dst, "(?)"...)
	}
	dst = append(dst, target.open...)
	for i := range target.params {
		p := &target.params[i]
		if i > 0 {
			dst = append(dst, p.decl...)
		}
		if p.isWord {
			dst = p.layout.AppendTextWord(dst, p.load(c), t.syms)
		} else {
			dst = t.appendLongArg(dst, &p.param, c)
		}
	}
	return append(dst, ')')
}

// appendLongArg appends a string, or a value of more than a word.
func (t *Text) appendLongArg(dst []byte, p *param, c *calls.Call) []byte {
	if p.str < 0 {
		return p.layout.AppendText(dst, p.bytes(c), t.syms)
	}
	s, cut, errno := event.String(c.Strings, p.str)
	if errno != 0 { // NULL, or unreadable: the pointer is all there is
		return p.layout.AppendText(dst, p.bytes(c), t.syms)
	}
	dst = btfx.AppendQuoted(dst, s)
	if cut {
		dst = append(dst, "..."...)
	}
	return dst
}

func (t *Text) appendResult(dst []byte, r *result, c *calls.Call) []byte {
	if r.layout == nil {
		return append(dst, "void"...)
	}
	if !r.isWord {
		return r.layout.AppendText(dst, c.Retval[:], t.syms)
	}
	word := r.load(c)
	name := r.errorName(word)
	if name == "" {
		return r.layout.AppendTextWord(dst, word, t.syms)
	}
	dst = append(dst, t.paint.red...)
	dst = r.layout.AppendTextWord(dst, word, t.syms)
	dst = append(append(append(dst, " (-"...), name...), ')')
	return append(dst, t.paint.off...)
}

// appendTime appends the time of day with nanoseconds. Only the first event of
// a second pays for the calendar.
func (t *Text) appendTime(dst []byte, ns uint64) []byte {
	at := int64(ns) + t.offset
	rest := uint64(at - t.second)
	if rest >= 1e9 {
		t.setClock(at)
		rest = uint64(at - t.second)
	}
	dst = append(dst, t.clock[:]...)
	return digits.AppendNanos(dst, rest)
}

// setClock spells the second that a time lies in.
func (t *Text) setClock(at int64) {
	t.second = at - at%1e9
	time.Unix(0, t.second).In(t.loc).AppendFormat(t.clock[:0], "15:04:05.")
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
