package build

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cilium/ebpf/asm"
	"github.com/google/go-cmp/cmp"
)

// jump is a conditional jump by offset, as compiled code has it.
func jump(op asm.JumpOp, dst asm.Register, imm int64, offset int16) asm.Instruction {
	return asm.Instruction{OpCode: op.Op(asm.ImmSource), Dst: dst, Constant: imm, Offset: offset}
}

// jump32 is a conditional jump that compares the lower halves.
func jump32(op asm.JumpOp, dst asm.Register, imm int64, offset int16) asm.Instruction {
	ins := jump(op, dst, imm, offset)
	ins.OpCode = ins.OpCode&^asm.OpCode(asm.JumpClass) | asm.OpCode(asm.Jump32Class)
	return ins
}

func always(offset int16) asm.Instruction {
	return asm.Instruction{OpCode: asm.Ja.Op(asm.ImmSource), Offset: offset}
}

func TestPrune(t *testing.T) {
	for name, test := range map[string]struct{ in, want asm.Instructions }{
		"branch never taken": {
			in: asm.Instructions{
				asm.LoadImm(asm.R1, 1, asm.DWord),
				jump(asm.JEq, asm.R1, 0, 1),
				asm.Mov.Imm(asm.R0, 7),
				asm.Return(),
			},
			want: asm.Instructions{
				asm.LoadImm(asm.R1, 1, asm.DWord),
				asm.Mov.Imm(asm.R0, 7),
				asm.Return(),
			},
		},
		"branch always taken, over a wide instruction": {
			in: asm.Instructions{
				asm.LoadImm(asm.R1, 0, asm.DWord),
				jump(asm.JEq, asm.R1, 0, 2),
				asm.LoadImm(asm.R2, 5, asm.DWord),
				asm.Mov.Imm(asm.R0, 7),
				asm.Return(),
			},
			want: asm.Instructions{
				asm.LoadImm(asm.R1, 0, asm.DWord),
				always(0),
				asm.Mov.Imm(asm.R0, 7),
				asm.Return(),
			},
		},
		"unknown after a call": {
			in: asm.Instructions{
				asm.LoadImm(asm.R1, 1, asm.DWord),
				asm.FnKtimeGetNs.Call(),
				jump(asm.JEq, asm.R1, 0, 1),
				asm.Mov.Imm(asm.R0, 7),
				asm.Return(),
			},
		},
		"unknown where two values meet": {
			in: asm.Instructions{
				asm.Mov.Imm(asm.R1, 1),
				asm.LoadMem(asm.R2, asm.R10, -8, asm.DWord),
				jump(asm.JEq, asm.R2, 0, 1),
				asm.Mov.Imm(asm.R1, 2),
				jump(asm.JEq, asm.R1, 1, 0),
				asm.Mov.Reg(asm.R0, asm.R1),
				asm.Return(),
			},
		},
		"a loop stays": {
			in: asm.Instructions{
				asm.Mov.Imm(asm.R1, 0),
				asm.Add.Imm(asm.R1, 1),
				jump(asm.JNE, asm.R1, 12, -2),
				asm.Mov.Imm(asm.R0, 0),
				asm.Return(),
			},
		},
		"jump backwards over what is removed": {
			in: asm.Instructions{
				asm.Mov.Imm(asm.R0, 0),
				asm.Add.Imm(asm.R0, 1),
				asm.Mov.Imm(asm.R1, 0),
				jump(asm.JEq, asm.R1, 0, 1),
				asm.Mov.Imm(asm.R3, 3),
				jump(asm.JNE, asm.R0, 12, -5),
				asm.Return(),
			},
			want: asm.Instructions{
				asm.Mov.Imm(asm.R0, 0),
				asm.Add.Imm(asm.R0, 1),
				asm.Mov.Imm(asm.R1, 0),
				always(0),
				jump(asm.JNE, asm.R0, 12, -4),
				asm.Return(),
			},
		},
		"copied and compared as 32 bits": {
			in: asm.Instructions{
				asm.LoadImm(asm.R1, 1<<32, asm.DWord),
				asm.Mov.Reg(asm.R2, asm.R1),
				jump32(asm.JEq, asm.R2, 0, 1),
				asm.Mov.Imm(asm.R0, 7),
				asm.Return(),
			},
			want: asm.Instructions{
				asm.LoadImm(asm.R1, 1<<32, asm.DWord),
				asm.Mov.Reg(asm.R2, asm.R1),
				always(0),
				asm.Return(),
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if test.want == nil {
				test.want = test.in
			}
			got, err := prune(test.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(plain(test.want), plain(got)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestPruneErrors(t *testing.T) {
	for name, in := range map[string]asm.Instructions{
		"jump into a wide instruction": {
			always(1), asm.LoadImm(asm.R0, 0, asm.DWord), asm.Return(),
		},
		"jump behind the end": {always(7), asm.Return()},
		"no exit":             {asm.Mov.Imm(asm.R0, 0)},
	} {
		if got, err := prune(in); err == nil {
			t.Errorf("%s: pruned to %v", name, got)
		}
	}
}

// plain spells what a program does, without names and sources.
func plain(insns asm.Instructions) []string {
	lines := make([]string, len(insns))
	for i, ins := range insns {
		lines[i] = fmt.Sprintf("%v dst %v src %v offset %d constant %d", ins.OpCode, ins.Dst, ins.Src, ins.Offset, ins.Constant)
	}
	return lines
}

// TestPruneRuns executes programs made at random, as they are and pruned: they
// must return the same, and take the same steps but for jumps.
func TestPruneRuns(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	ops := []asm.JumpOp{asm.JEq, asm.JNE, asm.JGT, asm.JGE, asm.JLT, asm.JLE, asm.JSet, asm.JSGT, asm.JSGE, asm.JSLT, asm.JSLE}
	shorter := 0
	for range 3000 {
		n := 4 + rng.IntN(20)
		var insns asm.Instructions
		for i := range n {
			reg := asm.Register(rng.IntN(4))
			switch left := n - i - 1; rng.IntN(5) {
			case 0:
				insns = append(insns, asm.Mov.Imm(reg, rng.Int32N(4)-1))
			case 1:
				insns = append(insns, asm.Mov.Reg(reg, asm.Register(rng.IntN(4))))
			case 2:
				insns = append(insns, asm.Add.Imm(reg, rng.Int32N(3)))
			default:
				op := ops[rng.IntN(len(ops))]
				ins := jump(op, reg, int64(rng.IntN(4)-1), int16(rng.IntN(left+1)))
				if rng.IntN(3) == 0 {
					ins = jump32(op, reg, ins.Constant, ins.Offset)
				}
				insns = append(insns, ins)
			}
		}
		insns = append(insns, asm.Return())
		pruned, err := prune(insns)
		if err != nil {
			t.Fatal(err)
		}
		if len(pruned) < len(insns) {
			shorter++
		}
		// Nothing is known of the registers at the start.
		for range 5 {
			start := [4]uint64{rng.Uint64N(4), rng.Uint64N(4), rng.Uint64N(4), rng.Uint64N(4)}
			want, wantSteps := execute(t, insns, start)
			got, gotSteps := execute(t, pruned, start)
			if want != got || wantSteps != gotSteps {
				t.Fatalf("%v\nreturns %d after %d steps; pruned\n%v\n%d after %d", insns, want, wantSteps, pruned, got, gotSteps)
			}
		}
	}
	if shorter == 0 {
		t.Error("nothing was pruned")
	}
}

// execute runs a program without memory. Steps do not count jumps.
func execute(t *testing.T, insns asm.Instructions, regs [4]uint64) (r0 uint64, steps int) {
	t.Helper()
	for pc := 0; pc < len(insns); pc++ {
		ins := insns[pc]
		class := ins.OpCode.Class()
		switch {
		case class.IsJump() && ins.OpCode.JumpOp() == asm.Exit:
			return regs[0], steps
		case class.IsJump():
			holds := true
			if ins.OpCode.JumpOp() != asm.Ja {
				left, right := regs[ins.Dst], uint64(ins.Constant)
				if class == asm.Jump32Class {
					left, right = uint64(int64(int32(left))), uint64(int64(int32(right)))
				}
				holds, _ = compare(ins.OpCode.JumpOp(), left, right)
			}
			if holds {
				pc += int(ins.Offset)
			}
			continue
		case ins.OpCode.ALUOp() == asm.Add:
			regs[ins.Dst] += uint64(ins.Constant)
		case ins.OpCode.Source() == asm.RegSource:
			regs[ins.Dst] = regs[ins.Src]
		default:
			regs[ins.Dst] = uint64(ins.Constant)
		}
		steps++
	}
	t.Fatal("ran over the end")
	return 0, 0
}
