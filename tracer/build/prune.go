package build

import (
	"fmt"

	"github.com/cilium/ebpf/asm"
)

// prune removes what can't run: branches that a program's constants rule out,
// and what only they lead to. The verifier would do so too, but from 7.2 on it
// first analyses all of the program (bpf_compute_live_registers), which took it
// three quarters of the time of a load.
//
// Jumps are those of compiled code, by offset, and within one function.
func prune(insns asm.Instructions) (asm.Instructions, error) {
	g, err := newGraph(insns)
	if err != nil {
		return nil, err
	}
	if err := g.walk(); err != nil {
		return nil, err
	}
	return g.rebuild()
}

// graph is a program as its instructions and where they jump to.
type graph struct {
	insns  asm.Instructions
	target []int       // index that a jump leads to; -1: no jump
	states []registers // what is known before an instruction; nil: it never runs
	taken  []bool      // the jump is taken at some time
	passed []bool      // the jump is not taken at some time
}

// registers holds the constants that registers have for sure.
type registers map[asm.Register]uint64

func newGraph(insns asm.Instructions) (*graph, error) {
	n := len(insns)
	g := &graph{insns: insns, target: make([]int, n), states: make([]registers, n), taken: make([]bool, n), passed: make([]bool, n)}
	index := make(map[asm.RawInstructionOffset]int, n) // by offset in the kernel's instructions
	iter := insns.Iterate()
	for iter.Next() {
		index[iter.Offset] = iter.Index
	}
	iter = insns.Iterate()
	for iter.Next() {
		g.target[iter.Index] = -1
		if !jumps(iter.Ins) {
			continue
		}
		to := int(iter.Offset) + 1 + int(iter.Ins.Offset)
		i, ok := index[asm.RawInstructionOffset(to)]
		if to < 0 || !ok {
			return nil, fmt.Errorf("prune program: instruction %d jumps to %d, where none begins", iter.Index, to)
		}
		g.target[iter.Index] = i
	}
	return g, nil
}

// jumps tells jumps from calls and exits, which have the same class.
func jumps(ins *asm.Instruction) bool {
	op := ins.OpCode.JumpOp()
	return ins.OpCode.Class().IsJump() && op != asm.Call && op != asm.Exit
}

// walk visits what can run, until nothing new is known.
func (g *graph) walk() error {
	work := []int{0}
	g.states[0] = registers{}
	reach := func(i int, state registers) error {
		if i >= len(g.insns) {
			return fmt.Errorf("prune program: it runs over its end")
		}
		if g.states[i] == nil {
			g.states[i] = state.clone()
			work = append(work, i)
		} else if g.states[i].meet(state) {
			work = append(work, i)
		}
		return nil
	}
	for len(work) > 0 {
		i := work[len(work)-1]
		work = work[:len(work)-1]
		ins, state := &g.insns[i], g.states[i]
		if jumps(ins) {
			taken, passed := branches(ins, state)
			g.taken[i] = g.taken[i] || taken
			g.passed[i] = g.passed[i] || passed
			if taken {
				if err := reach(g.target[i], state); err != nil {
					return err
				}
			}
			if passed {
				if err := reach(i+1, state); err != nil {
					return err
				}
			}
			continue
		}
		if ins.OpCode.Class().IsJump() && ins.OpCode.JumpOp() == asm.Exit {
			continue
		}
		if err := reach(i+1, step(ins, state)); err != nil {
			return err
		}
	}
	return nil
}

func (r registers) clone() registers {
	c := make(registers, len(r))
	for reg, value := range r {
		c[reg] = value
	}
	return c
}

// meet keeps what holds on both ways to an instruction, and tells whether that
// is less than before.
func (r registers) meet(other registers) (less bool) {
	for reg, value := range r {
		if v, ok := other[reg]; !ok || v != value {
			delete(r, reg)
			less = true
		}
	}
	return less
}

// step returns what is known behind an instruction that is no jump. Only loads
// of constants and copies are followed: that is what the constants' tests are
// made of.
func step(ins *asm.Instruction, state registers) registers {
	op := ins.OpCode
	class := op.Class()
	next := state.clone()
	switch {
	case op.IsDWordLoad() && !ins.IsLoadFromMap() && !ins.IsLoadOfFunctionPointer():
		next[ins.Dst] = uint64(ins.Constant)
	case class == asm.ALU64Class && op.ALUOp() == asm.Mov && op.Source() == asm.ImmSource:
		next[ins.Dst] = uint64(ins.Constant)
	case class == asm.ALUClass && op.ALUOp() == asm.Mov && op.Source() == asm.ImmSource:
		next[ins.Dst] = uint64(uint32(ins.Constant))
	case class == asm.ALU64Class && op.ALUOp() == asm.Mov && op.Source() == asm.RegSource && ins.Offset == 0:
		if value, ok := state[ins.Src]; ok {
			next[ins.Dst] = value
		} else {
			delete(next, ins.Dst)
		}
	case class.IsJump(): // a call
		for reg := asm.R0; reg <= asm.R5; reg++ {
			delete(next, reg)
		}
	case class.IsALU(), class.IsLoad():
		delete(next, ins.Dst)
	case class == asm.StXClass && op.Mode() == asm.AtomicMode:
		delete(next, ins.Src)
		delete(next, asm.R0)
	}
	return next
}

// branches tells which ways a jump can go.
func branches(ins *asm.Instruction, state registers) (taken, passed bool) {
	if ins.OpCode.JumpOp() == asm.Ja {
		return true, false
	}
	left, ok := state[ins.Dst]
	if !ok {
		return true, true
	}
	right := uint64(ins.Constant)
	if ins.OpCode.Source() == asm.RegSource {
		if right, ok = state[ins.Src]; !ok {
			return true, true
		}
	}
	if ins.OpCode.Class() == asm.Jump32Class {
		left, right = uint64(int64(int32(left))), uint64(int64(int32(right)))
	}
	holds, known := compare(ins.OpCode.JumpOp(), left, right)
	if !known {
		return true, true
	}
	return holds, !holds
}

// compare evaluates a condition. Operands of 32 bits come with their sign
// extended, which keeps both orders.
func compare(op asm.JumpOp, left, right uint64) (holds, known bool) {
	switch op {
	case asm.JEq:
		return left == right, true
	case asm.JNE:
		return left != right, true
	case asm.JGT:
		return left > right, true
	case asm.JGE:
		return left >= right, true
	case asm.JLT:
		return left < right, true
	case asm.JLE:
		return left <= right, true
	case asm.JSet:
		return left&right != 0, true
	case asm.JSGT:
		return int64(left) > int64(right), true
	case asm.JSGE:
		return int64(left) >= int64(right), true
	case asm.JSLT:
		return int64(left) < int64(right), true
	case asm.JSLE:
		return int64(left) <= int64(right), true
	}
	return false, false
}

// rebuild returns what runs, with jumps that are always taken made plain ones,
// and those that never are removed.
func (g *graph) rebuild() (asm.Instructions, error) {
	var kept asm.Instructions
	var from []int // index that each had
	for i := range g.insns {
		if g.states[i] == nil || g.target[i] >= 0 && !g.taken[i] {
			continue
		}
		ins := g.insns[i]
		if g.target[i] >= 0 && !g.passed[i] {
			ins.OpCode = asm.Ja.Op(asm.ImmSource)
			ins.Dst, ins.Src, ins.Constant = 0, 0, 0
		}
		kept = append(kept, ins)
		from = append(from, i)
	}
	// Where an instruction went, or if it is gone, the next that stayed.
	at := make([]int, len(g.insns)+1)
	for i, next := len(g.insns), len(kept); i >= 0; i-- {
		if next > 0 && from[next-1] == i {
			next--
		}
		at[i] = next
	}
	offsets := rawOffsets(kept)
	for i := range kept {
		if to := g.target[from[i]]; to >= 0 {
			if at[to] >= len(kept) {
				return nil, fmt.Errorf("prune program: a jump leads behind its end")
			}
			kept[i].Offset = int16(offsets[at[to]] - offsets[i] - 1)
		}
	}
	if len(g.insns) > 0 && len(kept) > 0 {
		kept[0].Metadata = g.insns[0].Metadata // the function's name
	}
	return kept, nil
}
