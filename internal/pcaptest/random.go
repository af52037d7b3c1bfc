package pcaptest

import (
	"fmt"

	"golang.org/x/net/bpf"
)

// writer writes random filters.
type writer struct {
	maker
	known []string // expressions
}

// expression returns one, with so many levels of and, or and not at most. libpcap may
// refuse it.
func (w writer) expression(depth int) string {
	if depth == 0 || w.one(5) {
		return w.term()
	}
	switch w.IntN(5) {
	case 0:
		return fmt.Sprintf("not (%s)", w.expression(depth-1))
	case 1, 2:
		return fmt.Sprintf("(%s) and (%s)", w.expression(depth-1), w.expression(depth-1))
	}
	return fmt.Sprintf("(%s) or (%s)", w.expression(depth-1), w.expression(depth-1))
}

func (w writer) term() string {
	if w.one(2) {
		return pick(w.maker, w.known...)
	}
	return fmt.Sprintf("%s %s %s", w.number(2), pick(w.maker, "=", "!=", "<", "<=", ">", ">="), w.number(2))
}

// number returns an arithmetic expression.
func (w writer) number(depth int) string {
	if depth > 0 && w.one(2) {
		op := pick(w.maker, "+", "-", "*", "/", "%", "&", "|", "^")
		if w.one(4) {
			return fmt.Sprintf("(%s %s %d)", w.number(depth-1), pick(w.maker, "<<", ">>"), w.IntN(32))
		}
		return fmt.Sprintf("(%s %s %s)", w.number(depth-1), op, w.number(depth-1))
	}
	switch w.IntN(4) {
	case 0:
		return fmt.Sprint(w.constant())
	case 1:
		return "len"
	}
	offset := fmt.Sprint(w.IntN(60))
	if depth > 0 && w.one(4) {
		offset = w.number(depth-1) + " & 31"
	}
	return fmt.Sprintf("%s[%s:%d]", pick(w.maker, "ether", "ip", "ip", "ip6", "tcp", "udp", "icmp"), offset, pick(w.maker, 1, 2, 4))
}

func (w writer) constant() uint32 {
	return pick(w.maker, uint32(w.IntN(256)), uint32(w.IntN(65536)), w.Uint32(), 0, 1, 1<<31-1, 1<<31, 1<<32-1, 0x0800, 80)
}

// Parts of classic BPF's codes (linux/bpf_common.h).
const (
	opLd, opLdx, opSt, opStx, opAlu, opJmp, opRet, opMisc = 0, 1, 2, 3, 4, 5, 6, 7

	modeImm, modeAbs, modeInd, modeMem, modeLen, modeMsh = 0x00, 0x20, 0x40, 0x60, 0x80, 0xa0

	byX, retA, txa     = 0x08, 0x10, 0x80
	aluDiv, aluMod     = 0x30, 0x90
	aluLsh, aluRsh     = 0x60, 0x70
	aluNeg             = 0x80
	sizeWord, sizeByte = 0x00, 0x10
	words              = 16 // of memory
)

// program returns code that libpcap's compiler would not make: any instruction after any
// other, all words of the memory written before.
func (w writer) program() []bpf.RawInstruction {
	var code []bpf.RawInstruction
	add := func(op int, k uint32) { code = append(code, bpf.RawInstruction{Op: uint16(op), K: k}) }
	add(opLd|modeImm, w.Uint32())
	for i := range words {
		add(opSt, uint32(i))
	}
	count := 4 + w.IntN(60)
	for i := range count {
		switch w.IntN(3) {
		case 0:
			w.load(add)
		case 1:
			w.calculate(add)
		case 2:
			left := count - i // and the two returns
			code = append(code, bpf.RawInstruction{
				Op: uint16(opJmp | pick(w.maker, 0x10, 0x20, 0x30, 0x40) | pick(w.maker, 0, byX)),
				Jt: uint8(w.IntN(min(left, 6))), Jf: uint8(w.IntN(min(left, 6))), K: w.constant(),
			})
		}
	}
	add(opRet|pick(w.maker, 0, retA), uint32(w.IntN(2)))
	add(opRet, 1)
	return code
}

func (w writer) load(add func(op int, k uint32)) {
	size := pick(w.maker, sizeWord, 0x08, sizeByte)
	near := uint32(w.IntN(120))
	switch w.IntN(10) {
	case 0, 1, 2:
		add(opLd|modeAbs|size, near)
	case 3:
		add(opLd|modeInd|size, near)
	case 4:
		add(opLd|modeInd|size, w.constant())
	case 5:
		add(opLdx|modeMsh|sizeByte, near)
	case 6:
		add(opLd|modeLen, 0)
	case 7:
		add(pick(w.maker, opLd, opLdx)|modeMem, uint32(w.IntN(words)))
	case 8:
		add(pick(w.maker, opLd, opLdx)|modeImm, w.constant())
	case 9:
		add(pick(w.maker, opSt, opStx), uint32(w.IntN(words)))
	}
}

func (w writer) calculate(add func(op int, k uint32)) {
	if w.one(5) {
		add(opMisc|pick(w.maker, 0, txa), 0)
		return
	}
	op := pick(w.maker, 0x00, 0x10, 0x20, aluDiv, 0x40, 0x50, aluLsh, aluRsh, aluNeg, aluMod, 0xa0)
	if op != aluNeg && w.one(2) {
		add(opAlu|op|byX, 0)
		return
	}
	k := w.constant()
	switch op { // others mean nothing
	case aluDiv, aluMod:
		k = max(k, 1)
	case aluLsh, aluRsh:
		k %= 32
	}
	add(opAlu|op, k)
}
