package render

import (
	"encoding/json"
	"strconv"

	"fgtrace/btfx"
	"fgtrace/internal/digits"
	"fgtrace/internal/kallsyms"
	"fgtrace/tracer/calls"
	"fgtrace/tracer/event"
	"fgtrace/tracer/packet/dissect"
	"fgtrace/tracer/plan"
)

// JSON writes one object a line; docs/json.md describes them.
type JSON struct {
	targets []jsonTarget // by index in the plan
	plan    []*plan.Target
	entries bool // there were some
	syms    btfx.Symbols
	tasks   tasks
	line    line
	high    uint64   // ns/1e8, of the last time
	clock   fragment // `,"time_ns":`, and that
}

// jsonTarget holds the parts of a target's objects that are always the same.
type jsonTarget struct {
	unknown fragment // `,"func":...,"module":...`, of a call whose entry is not known
	open    fragment // the same, and `,"args":[`, and the first parameter up to its value
	params  []jsonParam
	close   fragment // what ends the arguments
	retval  fragment // `,"retval":{"type":...,"value":`
	result  result
	counted []*counted
	outputs []output // their names are `{"expr":"skb->len","type":"unsigned int","value":`
}

type jsonParam struct {
	param
	decl fragment // `},{"name":...,"type":...,"value":`; none of the first parameter
}

// NewJSON returns a renderer for the targets of a plan.
func NewJSON(targets []*plan.Target, syms btfx.Symbols) *JSON {
	j := &JSON{syms: syms, tasks: tasks{append: appendJSONTask}}
	j.Grow(targets)
	return j
}

// Grow implements Renderer.
func (j *JSON) Grow(targets []*plan.Target) {
	j.plan = append(j.plan, targets...)
	for _, t := range targets {
		j.targets = append(j.targets, newJSONTarget(t))
	}
}

func newJSONTarget(t *plan.Target) jsonTarget {
	j := jsonTarget{result: newResult(t.Ret)}
	open := appendFunc([]byte{','}, t.Func)
	open = append(open, `,"module":`...)
	open = btfx.AppendJSONString(open, moduleName(t.Module))
	j.unknown = newFragment(open)

	open = append(open, `,"args":[`...)
	end := `]`
	for i, p := range t.Params {
		jp := jsonParam{param: newParam(p)}
		if i == 0 {
			open = appendJSONDecl(open, p)
			end = `}]`
		} else {
			jp.decl = newFragment(appendJSONDecl([]byte(`},`), p))
		}
		j.params = append(j.params, jp)
	}
	j.open = newFragment(open)
	j.close = newFragment([]byte(end))

	retval := []byte(`,"retval":{"type":`)
	if t.Ret == nil {
		retval = append(retval, `"void"`...)
	} else {
		retval = btfx.AppendJSONString(retval, t.Ret.Type)
	}
	j.retval = newFragment(append(retval, `,"value":`...))
	for _, o := range t.Outputs {
		name := btfx.AppendJSONString([]byte(`{"expr":`), o.Text)
		if o.Type != "" {
			name = btfx.AppendJSONString(append(name, `,"type":`...), o.Type)
		}
		j.outputs = append(j.outputs, output{o, append(name, `,"value":`...)})
	}
	j.counted = countedOf(j.outputs)
	return j
}

func appendJSONDecl(dst []byte, p plan.Param) []byte {
	dst = append(dst, `{"name":`...)
	dst = btfx.AppendJSONString(dst, p.Name)
	dst = append(dst, `,"type":`...)
	dst = btfx.AppendJSONString(dst, p.Layout.Type)
	return append(dst, `,"value":`...)
}

func appendFunc(dst []byte, name string) []byte {
	dst = append(dst, `"func":`...)
	dst = btfx.AppendJSONString(dst, name)
	if demangled, ok := kallsyms.Demangle(name); ok {
		dst = append(dst, `,"demangled":`...)
		dst = btfx.AppendJSONString(dst, demangled)
	}
	return dst
}

// AppendStart implements Renderer.
func (j *JSON) AppendStart(dst []byte, s *Start) []byte {
	return appendObject(dst, struct {
		Event          string   `json:"event"`
		Kernel         string   `json:"kernel"`
		Arch           string   `json:"arch"`
		Version        string   `json:"version"`
		Argv           []string `json:"argv"`
		Targets        int      `json:"targets"`
		RealtimeOffset int64    `json:"realtime_offset_ns"`
	}{"start", s.Kernel, s.Arch, s.Version, s.Argv, s.Targets, s.RealtimeOffset})
}

// AppendEnd implements Renderer.
func (j *JSON) AppendEnd(dst []byte, e *End) []byte {
	for i := range j.targets {
		for _, c := range j.targets[i].counted {
			dst = c.appendJSON(dst, j.plan[i])
		}
	}
	type skip struct {
		Func   string `json:"func"`
		Module string `json:"module"`
		Reason string `json:"reason"`
	}
	type loss struct {
		Func            string `json:"func"`
		Module          string `json:"module"`
		LostEntries     uint64 `json:"lost_entries"`
		LostExits       uint64 `json:"lost_exits"`
		LostPackets     uint64 `json:"lost_packets,omitempty"`
		RecursionMisses uint64 `json:"recursion_misses"`
		Undecoded       uint64 `json:"undecoded"`
	}
	skipped, losses := []skip{}, []loss{}
	for _, s := range e.Skipped {
		skipped = append(skipped, skip{s.Func, moduleName(s.Module), s.Reason})
	}
	for _, l := range e.PerTarget {
		losses = append(losses, loss{l.Target.Func, moduleName(l.Target.Module), l.LostEntries, l.LostExits, l.LostPackets,
			l.RecursionMisses, l.Undecoded})
	}
	return appendObject(dst, struct {
		Event string `json:"event"`
		counts
		Targets []loss `json:"targets"`
		Skipped []skip `json:"skipped"`
	}{"end", countsOf(e), losses, skipped})
}

// counts are the numbers of an End; those that only a graph has are left out if 0.
type counts struct {
	Events          uint64 `json:"events"`
	Lost            uint64 `json:"lost"`
	RecursionMisses uint64 `json:"recursion_misses"`
	Self            uint64 `json:"self"`
	NoEntry         uint64 `json:"no_entry"`
	NoExit          uint64 `json:"no_exit"`
	Running         uint64 `json:"running"`
	ExitLost        uint64 `json:"exit_lost,omitempty"`
	NoTree          uint64 `json:"roots_left_out,omitempty"`
	TooDeep         uint64 `json:"too_deep,omitempty"`
	Unread          uint64 `json:"packets_unread,omitempty"`
	LostPackets     uint64 `json:"packets_lost,omitempty"`
	NoPacket        uint64 `json:"packets_unknown,omitempty"`
	LostOpens       uint64 `json:"late,omitempty"`
	Followed        uint64 `json:"packets_followed,omitempty"`
	NotFreed        uint64 `json:"packets_not_freed,omitempty"`
	NotFollowed     uint64 `json:"packets_not_followed,omitempty"`
}

func countsOf(e *End) counts {
	return counts{e.Events, e.Lost, e.RecursionMisses, e.Self, e.NoEntry, e.NoExit, e.Running,
		e.ExitLost, e.NoTree, e.TooDeep, e.Unread, e.LostPackets, e.NoPacket, e.LostOpens, e.Followed, e.NotFreed, e.NotFollowed}
}

// appendObject appends a line by reflection: for what comes once.
func appendObject(dst []byte, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain structs of strings and numbers
	}
	return append(append(dst, b...), '\n')
}

// AppendEvent implements Renderer.
func (j *JSON) AppendEvent(dst []byte, e *Event) []byte {
	if e.Kind == Open {
		return dst
	}
	c := e.Call
	t := &j.targets[c.Target]
	if len(t.counted) > 0 {
		j.entries = j.entries || e.Kind == Entry
		addAll(t.counted, e, j.entries)
	}
	l := &j.line
	l.begin(dst)
	l.fragment(&jsonEvents[e.Kind])
	l.uint(c.ID)
	if c.Entered {
		j.args(t, c)
	} else {
		l.fragment(&t.unknown)
	}
	if e.Kind != Entry && c.Node.End == calls.Returned {
		l.fragment(&t.retval)
		j.result(&t.result, c)
		if c.Entered || e.Kind > Call {
			l.short(`,"duration_ns":`)
			l.uint(c.Duration())
		}
	}
	if e.Kind == Exit {
		j.time(c.Exit)
	} else {
		j.time(c.Entry)
	}
	l.fragment(j.tasks.spell(e))
	if e.Kind > Call {
		j.nodeOf(c)
	}
	dst = l.end()
	if c.Packet != nil {
		dst = append(dst, `,"packet":`...)
		dst = dissect.AppendJSON(dst, c.Packet.Link, c.Packet.Data, c.Packet.Length)
	}
	if len(t.outputs) > 0 && c.Entered {
		dst = append(dst, `,"values":`...)
		dst = appendJSONOutputs(dst, t.outputs, c, j.syms)
	}
	if e.Chain != nil {
		dst = append(dst, e.Chain.spell(appendJSONChain)...)
	}
	return append(dst, "}\n"...)
}

// time adds a time in nanoseconds. All but the last eight digits stay the same
// for a tenth of a second.
func (j *JSON) time(ns uint64) {
	l := &j.line
	high, low := ns/1e8, ns%1e8
	if high == 0 {
		l.short(`,"time_ns":`)
		l.uint(low)
		return
	}
	if high != j.high || j.clock.n == 0 {
		j.high = high
		j.clock.set(digits.AppendUint([]byte(`,"time_ns":`), high))
	}
	l.fragment(&j.clock)
	l.word(digits.Decimal8(low), 8)
}

// jsonEvents are the beginnings of the objects, by kind.
var jsonEvents = [...]fragment{
	Entry: newFragment([]byte(`{"event":"entry","id":`)),
	Exit:  newFragment([]byte(`{"event":"exit","id":`)),
	Call:  newFragment([]byte(`{"event":"call","id":`)),
	Leaf:  newFragment([]byte(`{"event":"call","id":`)),
	Close: newFragment([]byte(`{"event":"call","id":`)),
}

func appendJSONTask(dst []byte, t *task) []byte {
	dst = append(dst, `,"cpu":`...)
	dst = digits.AppendUint(dst, uint64(t.cpu))
	dst = append(dst, `,"pid":`...)
	dst = digits.AppendUint(dst, uint64(t.pid))
	dst = append(dst, `,"tid":`...)
	dst = digits.AppendUint(dst, uint64(t.tid))
	if t.named {
		dst = append(dst, `,"comm":`...)
		dst = btfx.AppendJSONString(dst, untilNUL(t.comm[:]))
	}
	return dst
}

// args adds the function and its arguments.
func (j *JSON) args(t *jsonTarget, c *calls.Call) {
	l := &j.line
	l.fragment(&t.open)
	for i := range t.params {
		p := &t.params[i]
		if i > 0 {
			l.fragment(&p.decl)
		}
		if p.form == asLong {
			j.longArg(&p.param, c)
		} else {
			j.word(p.form, p.layout, p.word(c))
		}
	}
	l.fragment(&t.close)
}

// word adds a value of one word.
func (j *JSON) word(f form, layout *btfx.Layout, word uint64) {
	l := &j.line
	l.room()
	switch f {
	case asAddress:
		l.byte('"')
		l.hex(word)
		l.byte('"')
	case asSigned:
		l.int(int64(layout.FromWord(word)))
	case asDecimal:
		l.uint(layout.FromWord(word))
	default:
		l.begin(layout.AppendJSONWord(l.end(), word))
	}
}

// longArg adds a value of more than a word, or a string: the text, or null, and
// always the pointer.
func (j *JSON) longArg(p *param, c *calls.Call) {
	l := &j.line
	if p.str < 0 {
		l.begin(p.layout.AppendJSON(l.end(), p.bytes(c), j.syms))
		return
	}
	s, cut, errno := event.String(c.Strings, p.str)
	if errno != 0 {
		l.begin(append(l.end(), `null`...))
	} else {
		l.begin(btfx.AppendJSONString(l.end(), s))
	}
	l.begin(append(l.end(), `,"addr":`...))
	l.begin(p.layout.AppendJSON(l.end(), p.bytes(c), nil))
	if cut {
		l.begin(append(l.end(), `,"cut":true`...))
	}
}

func (j *JSON) result(r *result, c *calls.Call) {
	l := &j.line
	switch {
	case r.layout == nil:
		l.short(`null`)
	case r.form == asLong:
		l.begin(r.layout.AppendJSON(l.end(), c.Retval[:], j.syms))
	default:
		word := r.word(c)
		j.word(r.form, r.layout, word)
		if r.isError(word) {
			j.error(r, word)
		}
	}
	l.byte('}')
}

// error adds the name of the error that a result stands for.
func (j *JSON) error(r *result, word uint64) {
	if name := r.errorName(word); name != "" {
		l := &j.line
		l.short(`,"error":"-`)
		l.string(name)
		l.byte('"')
	}
}

// spell returns the chain's spelling, made once.
func (c *Chain) spell(format func(*Chain) []byte) []byte {
	if c.rendered == nil {
		c.rendered = format(c)
	}
	return c.rendered
}

func appendJSONChain(c *Chain) []byte {
	dst := append([]byte(nil), `,"stack":`...)
	dst = appendJSONFrames(dst, c)
	if c.Errno != 0 {
		dst = append(dst, `,"stack_error":`...)
		dst = btfx.AppendJSONString(dst, stackError(c.Errno))
	}
	dst = append(dst, `,"truncated":`...)
	return strconv.AppendBool(dst, c.Truncated)
}

func appendJSONFrames(dst []byte, c *Chain) []byte {
	dst = append(dst, '[')
	for i, f := range c.Frames {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '{')
		dst = appendFunc(dst, f.Func)
		dst = append(dst, `,"offset":`...)
		dst = digits.AppendUint(dst, f.Offset)
		dst = append(dst, `,"addr":"0x`...)
		dst = digits.AppendHex(dst, f.Addr)
		dst = append(dst, `","module":`...)
		module := ""
		if f.Func != "" { // else it is unknown, too
			module = moduleName(f.Module)
		}
		dst = btfx.AppendJSONString(dst, module)
		dst = append(dst, '}')
	}
	return append(dst, ']')
}
