package render

import (
	"encoding/json"
	"strconv"

	"fgtrace/btfx"
	"fgtrace/internal/digits"
	"fgtrace/internal/kallsyms"
	"fgtrace/tracer/calls"
	"fgtrace/tracer/event"
	"fgtrace/tracer/plan"
)

// JSON writes one object a line; docs/json.md describes them.
type JSON struct {
	targets []jsonTarget // by index in the plan
	syms    btfx.Symbols
	tasks   tasks
}

// jsonTarget holds the parts of a target's objects that are always the same.
type jsonTarget struct {
	head   []byte // `,"func":...,"module":...`
	open   []byte // head, and the arguments up to the value of the first
	params []jsonParam
	close  []byte // what ends the arguments
	ret    []byte // `,"retval":{"type":...,"value":`
	result result
}

type jsonParam struct {
	param
	decl []byte // `},{"name":...,"type":...,"value":`; nil for the first parameter
}

// NewJSON returns a renderer for the targets of a plan.
func NewJSON(targets []*plan.Target, syms btfx.Symbols) *JSON {
	j := &JSON{syms: syms, tasks: tasks{append: appendJSONTask}}
	for _, t := range targets {
		j.targets = append(j.targets, newJSONTarget(t))
	}
	return j
}

func newJSONTarget(t *plan.Target) jsonTarget {
	j := jsonTarget{result: newResult(t.Ret)}
	j.head = appendFunc([]byte{','}, t.Func)
	j.head = append(j.head, `,"module":`...)
	j.head = btfx.AppendJSONString(j.head, moduleName(t.Module))

	j.open = append(append(j.open, j.head...), `,"args":[`...)
	j.close = []byte(`]`)
	for i, p := range t.Params {
		jp := jsonParam{param: newParam(p)}
		if i == 0 {
			j.open = appendJSONDecl(j.open, p)
			j.close = []byte(`}]`)
		} else {
			jp.decl = appendJSONDecl([]byte(`},`), p)
		}
		j.params = append(j.params, jp)
	}

	j.ret = append(j.ret, `,"retval":{"type":`...)
	if t.Ret == nil {
		j.ret = append(j.ret, `"void"`...)
	} else {
		j.ret = btfx.AppendJSONString(j.ret, t.Ret.Type)
	}
	j.ret = append(j.ret, `,"value":`...)
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
		RecursionMisses uint64 `json:"recursion_misses"`
		Undecoded       uint64 `json:"undecoded"`
	}
	skipped, losses := []skip{}, []loss{}
	for _, s := range e.Skipped {
		skipped = append(skipped, skip{s.Func, moduleName(s.Module), s.Reason})
	}
	for _, l := range e.PerTarget {
		losses = append(losses, loss{l.Target.Func, moduleName(l.Target.Module), l.LostEntries, l.LostExits,
			l.RecursionMisses, l.Undecoded})
	}
	return appendObject(dst, struct {
		Event           string `json:"event"`
		Events          uint64 `json:"events"`
		Lost            uint64 `json:"lost"`
		RecursionMisses uint64 `json:"recursion_misses"`
		Self            uint64 `json:"self"`
		NoEntry         uint64 `json:"no_entry"`
		NoExit          uint64 `json:"no_exit"`
		Running         uint64 `json:"running"`
		Targets         []loss `json:"targets"`
		Skipped         []skip `json:"skipped"`
	}{"end", e.Events, e.Lost, e.RecursionMisses, e.Self, e.NoEntry, e.NoExit, e.Running, losses, skipped})
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
	c := e.Call
	t := &j.targets[c.Target]
	dst = append(dst, jsonEvents[e.Kind]...)
	dst = digits.AppendUint(dst, c.ID)
	dst = j.appendArgs(dst, t, c)
	time := c.Entry
	if e.Kind == Exit {
		time = c.Exit
	}
	if e.Kind != Entry {
		dst = append(dst, t.ret...)
		dst = j.appendResult(dst, &t.result, c)
		if c.Entered {
			dst = append(dst, `,"duration_ns":`...)
			dst = digits.AppendUint(dst, c.Duration())
		}
	}
	dst = append(dst, `,"time_ns":`...)
	dst = digits.AppendUint(dst, time)
	dst = append(dst, j.tasks.spell(c)...)
	if e.Chain != nil {
		dst = append(dst, e.Chain.spell(appendJSONChain)...)
	}
	return append(dst, '}', '\n')
}

// jsonEvents are the beginnings of the objects, by kind.
var jsonEvents = [...]string{
	Entry: `{"event":"entry","id":`,
	Exit:  `{"event":"exit","id":`,
	Call:  `{"event":"call","id":`,
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

// appendArgs appends the function and its arguments.
func (j *JSON) appendArgs(dst []byte, t *jsonTarget, c *calls.Call) []byte {
	if !c.Entered {
		return append(dst, t.head...)
	}
	dst = append(dst, t.open...)
	for i := range t.params {
		p := &t.params[i]
		if i > 0 {
			dst = append(dst, p.decl...)
		}
		switch {
		case p.isWord:
			dst = p.layout.AppendJSONWord(dst, p.load(c))
		case p.str >= 0:
			dst = appendJSONStringArg(dst, &p.param, c)
		default:
			dst = p.layout.AppendJSON(dst, p.bytes(c), j.syms)
		}
	}
	return append(dst, t.close...)
}

// appendJSONStringArg appends the text, or null, and always the pointer.
func appendJSONStringArg(dst []byte, p *param, c *calls.Call) []byte {
	s, cut, errno := event.String(c.Strings, p.str)
	if errno != 0 {
		dst = append(dst, `null`...)
	} else {
		dst = btfx.AppendJSONString(dst, s)
	}
	dst = append(dst, `,"addr":`...)
	dst = p.layout.AppendJSON(dst, p.bytes(c), nil)
	if cut {
		dst = append(dst, `,"cut":true`...)
	}
	return dst
}

func (j *JSON) appendResult(dst []byte, r *result, c *calls.Call) []byte {
	if r.layout == nil {
		return append(dst, `null}`...)
	}
	if !r.isWord {
		return append(r.layout.AppendJSON(dst, c.Retval[:], j.syms), '}')
	}
	word := r.load(c)
	dst = r.layout.AppendJSONWord(dst, word)
	if name := r.errorName(word); name != "" {
		dst = append(append(append(dst, `,"error":"-`...), name...), '"')
	}
	return append(dst, '}')
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
