package render

import (
	"encoding/binary"
	"strings"
	"time"

	"fgtrace/btfx"
	"fgtrace/internal/digits"
	"fgtrace/internal/kallsyms"
	"fgtrace/tracer/calls"
	"fgtrace/tracer/event"
	"fgtrace/tracer/packet/dissect"
	"fgtrace/tracer/plan"
	"fgtrace/tracer/stack"
)

// Text writes a line an event, for people, and the stack below it.
//
//	15:04:05.710082515 [0] ping/492 icmp_rcv(struct sk_buff *skb=0xffff8880035b4700) = 0 2.174us
type Text struct {
	targets []textTarget // by index in the plan
	plan    []*plan.Target
	entries bool // there were some
	syms    btfx.Symbols
	paint   paint
	loc     *time.Location
	offset  int64 // ns from the kernel's clock to the time of day

	line   line
	second int64  // ns, that clock spells
	clock  uint64 // "15:04:05", as a word
	tasks  tasks
}

// textTarget holds the parts of a target's lines that are always the same.
type textTarget struct {
	name    fragment
	unknown fragment // "name(?)", of a call whose entry is not known
	open    fragment // "name(", and the declaration of the first parameter
	params  []textParam
	result  result
	outputs []output // their names are "skb->len="
	packet  bool     // that of each call is shown
	counted []*counted
	quiet   bool // calls are not shown, as all that was asked for is counted
}

type textParam struct {
	param
	decl fragment // ", struct sk_buff *skb="; none of the first parameter
	last address
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
	t.Grow(targets)
	t.setClock(0)
	return t
}

// Grow implements Renderer.
func (t *Text) Grow(targets []*plan.Target) {
	t.plan = append(t.plan, targets...)
	for _, target := range targets {
		t.targets = append(t.targets, t.newTarget(target))
	}
}

func (t *Text) newTarget(target *plan.Target) textTarget {
	name := t.paint.bold + displayName(target.Func) + t.paint.off
	tt := textTarget{name: newFragment([]byte(name)), unknown: newFragment([]byte(name + "(?)")), result: newResult(target.Ret)}
	open := name + "("
	for i, p := range target.Params {
		decl := t.paint.dim + target.Types.DeclName(p.Type, p.Name) + "=" + t.paint.off
		tp := textParam{param: newParam(p)}
		if i == 0 {
			open += decl
		} else {
			tp.decl = newFragment([]byte(", " + decl))
		}
		tt.params = append(tt.params, tp)
	}
	tt.open = newFragment([]byte(open))
	tt.packet = target.Packet != nil
	for _, o := range target.Outputs {
		name := t.paint.dim + oneLine(o.Text) + "=" + t.paint.off
		tt.outputs = append(tt.outputs, output{o, []byte(name)})
	}
	tt.counted = countedOf(tt.outputs)
	tt.quiet = len(tt.counted) > 0 && len(tt.counted) == len(tt.outputs) && !tt.packet
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

// AppendEnd implements Renderer: what was counted. What else text has to say at the end
// goes elsewhere.
func (t *Text) AppendEnd(dst []byte, _ *End) []byte {
	for i := range t.targets {
		for _, c := range t.targets[i].counted {
			dst = c.appendText(dst, t.plan[i])
		}
	}
	return dst
}

// AppendEvent implements Renderer.
func (t *Text) AppendEvent(dst []byte, e *Event) []byte {
	c := e.Call
	target := &t.targets[c.Target]
	if len(target.counted) > 0 {
		t.entries = t.entries || e.Kind == Entry
		addAll(target.counted, e, t.entries)
		if target.quiet && e.Kind < Open && e.Chain == nil {
			return dst
		}
	}
	if e.Kind >= Open {
		return t.node(dst, e)
	}
	l := &t.line
	l.begin(dst)
	if e.Kind == Exit {
		t.time(c.Exit)
	} else {
		t.time(c.Entry)
	}
	t.call(target, e)
	l.byte('\n')
	dst = t.details(l.end(), target, e)
	if e.Chain != nil {
		dst = append(dst, e.Chain.spell(t.chain)...)
	}
	return dst
}

// call adds a call outside of graphs, behind its time, or a node that has ended.
func (t *Text) call(target *textTarget, e *Event) {
	l, c := &t.line, e.Call
	l.fragment(t.tasks.spell(e))
	switch e.Kind {
	case Entry:
		l.short("→ ")
	case Exit:
		l.short("← ")
	}
	if c.Entered {
		t.args(target, c)
	} else {
		l.fragment(&target.unknown)
	}
	if e.Kind != Entry && c.Node.End == calls.Returned {
		l.short(" = ")
		t.result(&target.result, c)
		if c.Entered {
			t.duration(c.Duration())
		}
	}
}

// details appends what is below a call's line.
func (t *Text) details(dst []byte, target *textTarget, e *Event) []byte {
	c := e.Call
	if !c.Entered {
		return dst
	}
	indent := func() {
		dst = append(dst, "    "...)
		for range c.Node.Depth {
			dst = append(dst, "  "...)
		}
	}
	switch {
	case !target.packet:
	case c.Packet == nil:
		indent()
		dst = append(dst, "[no packet]\n"...)
	default:
		indent()
		dst = append(dissect.AppendText(dst, c.Packet.Link, c.Packet.Data, c.Packet.Length), '\n')
	}
	if len(target.outputs) > 0 {
		indent()
		dst = append(appendOutputs(dst, target.outputs, c, t.syms), '\n')
	}
	return dst
}

// oneLine spells an expression in one line.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

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

// args adds the function and its arguments.
func (t *Text) args(target *textTarget, c *calls.Call) {
	l := &t.line
	l.fragment(&target.open)
	for i := range target.params {
		p := &target.params[i]
		if i > 0 {
			l.fragment(&p.decl)
		}
		switch {
		case p.form == asLong:
			t.longArg(&p.param, c)
		case p.form == asAddress && p.word(c) != 0:
			l.room()
			l.address(p.word(c), &p.last)
		default:
			t.word(p.form, p.layout, p.word(c))
		}
	}
	l.byte(')')
}

// word adds a value of one word.
func (t *Text) word(f form, layout *btfx.Layout, word uint64) {
	l := &t.line
	l.room()
	switch {
	case f == asAddress && word != 0:
		l.hex(word)
	case f == asSigned:
		l.int(int64(layout.FromWord(word)))
	case f == asDecimal:
		l.uint(layout.FromWord(word))
	default:
		l.begin(layout.AppendTextWord(l.end(), word, t.syms))
	}
}

// longArg adds a string, or a value of more than a word.
func (t *Text) longArg(p *param, c *calls.Call) {
	l := &t.line
	if p.str < 0 {
		l.begin(p.layout.AppendText(l.end(), p.bytes(c), t.syms))
		return
	}
	s, cut, errno := event.String(c.Strings, p.str)
	if errno != 0 { // NULL, or unreadable: the pointer is all there is
		l.begin(p.layout.AppendText(l.end(), p.bytes(c), t.syms))
		return
	}
	l.begin(btfx.AppendQuoted(l.end(), s))
	if cut {
		l.short("...")
	}
}

func (t *Text) result(r *result, c *calls.Call) {
	l := &t.line
	switch {
	case r.layout == nil:
		l.short("void")
	case r.form == asLong:
		l.begin(r.layout.AppendText(l.end(), c.Retval[:], t.syms))
	default:
		word := r.word(c)
		if r.isError(word) {
			t.error(r, word)
		} else {
			t.word(r.form, r.layout, word)
		}
	}
}

// error adds a result that stands for an error: -2 (-ENOENT).
func (t *Text) error(r *result, word uint64) {
	l := &t.line
	name := r.errorName(word)
	if name == "" {
		t.word(r.form, r.layout, word)
		return
	}
	l.string(t.paint.red)
	t.word(r.form, r.layout, word)
	l.string(" (-")
	l.string(name)
	l.string(")")
	l.string(t.paint.off)
}

// time adds the time of day with nanoseconds. Only the first event of a second
// pays for the calendar.
func (t *Text) time(ns uint64) {
	at := int64(ns) + t.offset
	rest := uint64(at - t.second)
	if rest >= 1e9 {
		t.setClock(at)
		rest = uint64(at - t.second)
	}
	l := &t.line
	l.word(t.clock, 8)
	l.word('.'|('0'+rest/1e8)<<8, 2)
	l.word(digits.Decimal8(rest%1e8), 8)
}

// setClock spells the second that a time lies in.
func (t *Text) setClock(at int64) {
	t.second = at - at%1e9
	var buf [8]byte
	t.clock = binary.LittleEndian.Uint64(time.Unix(0, t.second).In(t.loc).AppendFormat(buf[:0], "15:04:05"))
}

func (t *Text) duration(ns uint64) {
	l := &t.line
	l.byte(' ')
	l.string(t.paint.cyan)
	l.duration(ns)
	l.string(t.paint.off)
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
