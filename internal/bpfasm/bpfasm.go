// Package bpfasm puts BPF instructions together, with jumps to labels.
package bpfasm

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/cilium/ebpf/asm"
)

// Code is instructions that run from the first to behind the last. Its zero value has
// none.
type Code struct {
	insns  asm.Instructions
	fixes  []fix
	labels []int // indices of instructions; -1: not placed
}

// fix is a jump to a label.
type fix struct {
	insn  int
	label Label
}

// Label is a place to jump to.
type Label int

// Add appends instructions.
func (c *Code) Add(insns ...asm.Instruction) { c.insns = append(c.insns, insns...) }

// Label returns a label that is to be placed.
func (c *Code) Label() Label {
	c.labels = append(c.labels, -1)
	return Label(len(c.labels) - 1)
}

// Place puts a label before the next instruction.
func (c *Code) Place(l Label) { c.labels[l] = len(c.insns) }

// Used tells whether anything jumps to a label.
func (c *Code) Used(l Label) bool {
	return slices.ContainsFunc(c.fixes, func(f fix) bool { return f.label == l })
}

// JumpIf jumps if a register compares so with a number.
func (c *Code) JumpIf(op asm.JumpOp, r asm.Register, imm int32, to Label) {
	c.fixes = append(c.fixes, fix{len(c.insns), to})
	c.Add(op.Imm(r, imm, ""))
}

// JumpIfReg jumps if two registers compare so.
func (c *Code) JumpIfReg(op asm.JumpOp, a, b asm.Register, to Label) {
	c.fixes = append(c.fixes, fix{len(c.insns), to})
	c.Add(op.Reg(a, b, ""))
}

// Jump jumps.
func (c *Code) Jump(to Label) {
	c.fixes = append(c.fixes, fix{len(c.insns), to})
	c.Add(asm.Ja.Label(""))
}

// Set loads a number.
func (c *Code) Set(r asm.Register, v uint64) {
	if int64(v) == int64(int32(v)) {
		c.Add(asm.Mov.Imm(r, int32(v)))
		return
	}
	c.Add(asm.LoadImm(r, int64(v), asm.DWord))
}

// SizeOf returns the size of a load or store of 1, 2, 4 or 8 bytes.
func SizeOf(bytes int) asm.Size {
	switch bytes {
	case 1:
		return asm.Byte
	case 2:
		return asm.Half
	case 4:
		return asm.Word
	}
	return asm.DWord
}

// ErrTooLarge tells that code has jumps over more instructions than an offset can say.
var ErrTooLarge = errors.New("the code is too large")

// Instructions resolves the jumps. All labels that are jumped to have been placed.
func (c *Code) Instructions() (asm.Instructions, error) {
	offsets := make([]int, len(c.insns)+1) // in what the kernel counts
	for i := range c.insns {
		offsets[i+1] = offsets[i] + 1
		if c.insns[i].OpCode.IsDWordLoad() {
			offsets[i+1]++
		}
	}
	for _, f := range c.fixes {
		off := offsets[c.labels[f.label]] - offsets[f.insn] - 1
		if off > math.MaxInt16 || off < math.MinInt16 {
			return nil, fmt.Errorf("assemble: a jump over %d instructions: %w", off, ErrTooLarge)
		}
		c.insns[f.insn].Offset = int16(off)
	}
	return c.insns, nil
}
