package render

import (
	"encoding/binary"

	"fgtrace/btfx"
	"fgtrace/tracer/calls"
	"fgtrace/tracer/plan"
)

// param says where an argument's value is, and how it is printed.
type param struct {
	layout   *btfx.Layout
	isWord   bool // as most are: the value is one word, and no string
	from, to int  // the value's bytes in Call.Words
	str      int  // index among the strings of a call, -1 if it is none
}

func newParam(p plan.Param) param {
	return param{
		layout: p.Layout,
		isWord: p.Layout.IsWord() && p.Words == 1 && p.String < 0,
		from:   8 * p.Word,
		to:     8 * (p.Word + p.Words),
		str:    p.String,
	}
}

func (p *param) load(c *calls.Call) uint64   { return binary.LittleEndian.Uint64(c.Words[p.from:]) }
func (p *param) bytes(c *calls.Call) []byte { return c.Words[p.from:p.to] }

// result says how the results of a function are printed.
type result struct {
	layout *btfx.Layout // nil for void
	isWord bool
	fails  bool // errors are returned as small negative numbers
}

func newResult(l *btfx.Layout) result {
	if l == nil {
		return result{}
	}
	r := result{layout: l, isWord: l.IsWord()}
	switch l.Kind {
	case btfx.Int:
		r.fails = l.Signed
	case btfx.Pointer, btfx.String, btfx.FuncPointer:
		r.fails = true
	}
	return r
}

func (r *result) load(c *calls.Call) uint64 { return binary.LittleEndian.Uint64(c.Retval[:]) }

// maxErrno is the kernel's MAX_ERRNO (include/linux/err.h).
const maxErrno = 4095

// errorName returns the name of the error that a result which isWord stands
// for, or "".
func (r *result) errorName(word uint64) string {
	if !r.fails {
		return ""
	}
	errno := -r.layout.FromWord(word)
	if errno-1 >= maxErrno { // 0 wraps around
		return ""
	}
	return btfx.ErrnoName(int(errno))
}
