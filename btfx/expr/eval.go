package expr

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// World is what an expression is evaluated over.
type World struct {
	Args   []uint64 // the argument words
	Retval uint64
	// PerCPU is added to the addresses of per-CPU variables.
	PerCPU uint64
	// Read fills a buffer with the memory at an address, or fails.
	Read func(addr uint64, buf []byte) error
}

// Eval returns the value of a tree. Memory that can't be read is an error.
func Eval(t *Tree, w *World) (uint64, error) {
	switch t.Op {
	case Const:
		return t.Value, nil
	case Arg:
		if t.Word >= len(w.Args) {
			return 0, fmt.Errorf("evaluate argument: there is no word %d", t.Word)
		}
		return read(w.Args[t.Word], t.Type), nil
	case Retval:
		return read(w.Retval, t.Type), nil
	}
	x, err := Eval(t.X, w)
	if err != nil {
		return 0, err
	}
	switch t.Op {
	case CPU:
		return x + w.PerCPU, nil
	case Load:
		return w.load(t, x)
	case Same:
		return w.same(t, x+uint64(t.Disp))
	case Told:
		return x, nil
	case Match:
		matches, err := t.Matcher.Match(x, w.Read)
		return uint64(bit(matches)), err
	case Convert:
		return wrap(x, t.Type), nil
	case Negate:
		return wrap(-x, t.Type), nil
	case Invert:
		return wrap(^x, t.Type), nil
	case Swap:
		return bits.ReverseBytes64(x) >> (64 - 8*t.Type.Size), nil
	case Both, Either:
		if (x != 0) == (t.Op == Either) {
			return wrap(x, Type{Kind: Bool}), nil
		}
		y, err := Eval(t.Y, w)
		return wrap(y, Type{Kind: Bool}), err
	case Choose:
		if x != 0 {
			return Eval(t.Y, w)
		}
		return Eval(t.Z, w)
	}
	y, err := Eval(t.Y, w)
	if err != nil {
		return 0, err
	}
	return wrap(calculate(t.Op, t.X.Type, x, y), t.Type), nil
}

func (w *World) load(t *Tree, x uint64) (uint64, error) {
	var buf [8]byte
	if err := w.Read(x+uint64(t.Disp), buf[:t.Type.Size]); err != nil {
		return 0, err
	}
	return read(binary.LittleEndian.Uint64(buf[:])>>t.Shift, t.Type), nil
}

// read returns the value of a type that is in the low bits of a word.
func read(word uint64, t Type) uint64 { return wrap(wrap(word, t.Narrow()), t) }

// same compares a string with the literal's bytes and, unless they fill an array, a
// zero behind them.
func (w *World) same(t *Tree, addr uint64) (uint64, error) {
	text := []byte(t.Text)
	if !t.Exact {
		text = append(text, 0)
	}
	for i, c := range text {
		var have [1]byte
		if err := w.Read(addr+uint64(i), have[:]); err != nil {
			return 0, err
		}
		if have[0] != c {
			return 0, nil
		}
	}
	return 1, nil
}
