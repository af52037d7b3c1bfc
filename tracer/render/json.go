package render

import (
	"encoding/json"
	"strconv"

	"fgtrace/btfx"
	"fgtrace/internal/digits"
	"fgtrace/internal/kallsyms"
	"fgtrace/tracer/calls"
	"fgtrace/tracer/plan"
)

// JSON writes one object a line; docs/json.md describes them.
type JSON struct {
	targets []jsonTarget // by index in the plan
	syms    btfx.Symbols
}

// jsonTarget holds the parts of a target's objects that are always the same.
type jsonTarget struct {
	head   []byte   // `,"func":...,"module":...`
	params [][]byte // `{"name":...,"type":...,"value":`
	retval []byte   // `,"retval":{"type":...,"value":`
}

// NewJSON returns a renderer for the targets of a plan.
func NewJSON(targets []*plan.Target, syms btfx.Symbols) *JSON {
	j := &JSON{syms: syms}
	for _, t := range targets {
		j.targets = append(j.targets, newJSONTarget(t))
	}
	return j
}

func newJSONTarget(t *plan.Target) jsonTarget {
	var j jsonTarget
	j.head = appendFunc(j.head, t.Func)
	j.head = append(j.head, `,"module":`...)
	j.head = btfx.AppendJSONString(j.head, moduleName(t.Module))
	for _, p := range t.Params {
		b := append([]byte(nil), `{"name":`...)
		b = btfx.AppendJSONString(b, p.Name)
		b = append(b, `,"type":`...)
		b = btfx.AppendJSONString(b, p.Layout.Type)
		j.params = append(j.params, append(b, `,"value":`...))
	}
	j.retval = append(j.retval, `,"retval":{"type":`...)
	if t.Ret == nil {
		j.retval = append(j.retval, `"void"`...)
	} else {
		j.retval = btfx.AppendJSONString(j.retval, t.Ret.Type)
	}
	j.retval = append(j.retval, `,"value":`...)
	return j
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
	dst = append(dst, `{"event":"`...)
	dst = append(dst, e.Kind.String()...)
	dst = append(dst, `","id":`...)
	dst = digits.AppendUint(dst, c.ID)
	dst = append(dst, ',')
	dst = append(dst, t.head...)
	if c.Entered {
		dst = j.appendArgs(dst, t, c, e.Target)
	}
	time := c.Entry
	if e.Kind == Exit {
		time = c.Exit
	}
	if e.Kind != Entry {
		dst = j.appendRetval(dst, t, c, e.Target)
		if c.Entered {
			dst = append(dst, `,"duration_ns":`...)
			dst = digits.AppendUint(dst, c.Duration())
		}
	}
	dst = append(dst, `,"time_ns":`...)
	dst = digits.AppendUint(dst, time)
	dst = append(dst, `,"cpu":`...)
	dst = digits.AppendUint(dst, uint64(c.CPU))
	dst = append(dst, `,"pid":`...)
	dst = digits.AppendUint(dst, uint64(c.Pid))
	dst = append(dst, `,"tid":`...)
	dst = digits.AppendUint(dst, uint64(c.Tid))
	if c.Entered {
		dst = append(dst, `,"comm":`...)
		dst = btfx.AppendJSONString(dst, untilNUL(c.Comm[:]))
	}
	if e.Chain != nil {
		dst = append(dst, e.Chain.spell(appendJSONChain)...)
	}
	return append(dst, '}', '\n')
}

func (j *JSON) appendArgs(dst []byte, t *jsonTarget, c *calls.Call, target *plan.Target) []byte {
	dst = append(dst, `,"args":[`...)
	for i := range target.Params {
		p := &target.Params[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, t.params[i]...)
		if p.String >= 0 {
			dst = appendJSONStringArg(dst, c, p)
		} else {
			dst = p.Layout.AppendJSON(dst, arg(c, p), j.syms)
		}
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

// appendJSONStringArg appends the text, or null, and always the pointer.
func appendJSONStringArg(dst []byte, c *calls.Call, p *plan.Param) []byte {
	s, cut, errno := stringArg(c, p)
	if errno != 0 {
		dst = append(dst, `null`...)
	} else {
		dst = btfx.AppendJSONString(dst, s)
	}
	dst = append(dst, `,"addr":`...)
	dst = p.Layout.AppendJSON(dst, arg(c, p), nil)
	if cut {
		dst = append(dst, `,"cut":true`...)
	}
	return dst
}

func (j *JSON) appendRetval(dst []byte, t *jsonTarget, c *calls.Call, target *plan.Target) []byte {
	dst = append(dst, t.retval...)
	if target.Ret == nil {
		return append(dst, `null}`...)
	}
	dst = target.Ret.AppendJSON(dst, c.Retval[:], j.syms)
	if name := errorName(target.Ret, c.Retval[:]); name != "" {
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
