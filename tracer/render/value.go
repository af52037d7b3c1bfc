package render

import (
	"encoding/binary"

	"fgtrace/btfx"
	"fgtrace/tracer/calls"
	"fgtrace/tracer/plan"
)

// form is how a value is printed. The most frequent ones are done here; all
// others are the layout's.
type form uint8

const (
	asLong    form = iota // more than a word, or a string
	asOther               // a word in a form of its layout's
	asSigned              // a word that is a number in decimal
	asDecimal             // one without a sign
	asAddress             // a word that is an address
)

// formOf returns the form that both text and JSON have for a layout.
func formOf(l *btfx.Layout) form {
	switch {
	case !l.IsWord():
		return asLong
	case l.Kind == btfx.Int && l.Signed:
		return asSigned
	case l.Kind == btfx.Int:
		return asDecimal
	case (l.Kind == btfx.Pointer || l.Kind == btfx.String) && l.Size == 8:
		return asAddress
	}
	return asOther
}

// param says where an argument's value is, and how it is printed.
type param struct {
	layout   *btfx.Layout
	form     form
	from, to int // the value's bytes in Call.Words
	str      int // index among the strings of a call, -1 if it is none
}

func newParam(p plan.Param) param {
	f := formOf(p.Layout)
	if p.Words != 1 || p.String >= 0 {
		f = asLong
	}
	return param{layout: p.Layout, form: f, from: 8 * p.Word, to: 8 * (p.Word + p.Words), str: p.String}
}

func (p *param) word(c *calls.Call) uint64  { return binary.LittleEndian.Uint64(c.Words[p.from:]) }
func (p *param) bytes(c *calls.Call) []byte { return c.Words[p.from:p.to] }

// result says how the results of a function are printed.
type result struct {
	layout *btfx.Layout // nil for void
	form   form
	fails  bool // errors are returned as small negative numbers
}

func newResult(l *btfx.Layout) result {
	if l == nil {
		return result{}
	}
	r := result{layout: l, form: formOf(l)}
	switch l.Kind {
	case btfx.Int:
		r.fails = l.Signed
	case btfx.Pointer, btfx.String, btfx.FuncPointer, btfx.Register:
		r.fails = true
	}
	return r
}

func (r *result) word(c *calls.Call) uint64 { return binary.LittleEndian.Uint64(c.Retval[:]) }

// maxErrno is the kernel's MAX_ERRNO (include/linux/err.h).
const maxErrno = 4095

// isError reports whether a result, which is a word, stands for an error.
func (r *result) isError(word uint64) bool {
	return r.fails && -r.layout.FromWord(word)-1 < maxErrno // 0 wraps around
}

// errorName returns the name of the error, or "".
func (r *result) errorName(word uint64) string {
	return btfx.ErrnoName(int(-r.layout.FromWord(word)))
}
