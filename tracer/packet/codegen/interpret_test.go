package codegen

import (
	"encoding/binary"

	"golang.org/x/net/bpf"

	"fgtrace/tracer/packet"
)

// interpret runs classic BPF as bpf_filter(3) does: also what goes back, which package
// bpf does not, and what asks for a tag beside the packet.
func interpret(insns []bpf.Instruction, p []byte, tag packet.Tag) bool {
	var a, x uint32
	var memory [16]uint32
	load := func(off uint64, size int) (v uint32, ok bool) {
		if off+uint64(size) > uint64(len(p)) {
			return 0, false
		}
		switch b := p[off:]; size {
		case 1:
			return uint32(b[0]), true
		case 2:
			return uint32(binary.BigEndian.Uint16(b)), true
		default:
			return binary.BigEndian.Uint32(b), true
		}
	}
	calculate := func(op bpf.ALUOp, by uint32) bool {
		switch op {
		case bpf.ALUOpAdd:
			a += by
		case bpf.ALUOpSub:
			a -= by
		case bpf.ALUOpMul:
			a *= by
		case bpf.ALUOpDiv, bpf.ALUOpMod:
			if by == 0 {
				return false
			}
			if op == bpf.ALUOpDiv {
				a /= by
			} else {
				a %= by
			}
		case bpf.ALUOpAnd:
			a &= by
		case bpf.ALUOpOr:
			a |= by
		case bpf.ALUOpXor:
			a ^= by
		case bpf.ALUOpShiftLeft:
			a <<= by
		case bpf.ALUOpShiftRight:
			a >>= by
		}
		return true
	}
	holds := func(cond bpf.JumpTest, with uint32) bool {
		switch cond {
		case bpf.JumpEqual:
			return a == with
		case bpf.JumpNotEqual:
			return a != with
		case bpf.JumpGreaterThan:
			return a > with
		case bpf.JumpLessThan:
			return a < with
		case bpf.JumpGreaterOrEqual:
			return a >= with
		case bpf.JumpLessOrEqual:
			return a <= with
		case bpf.JumpBitsSet:
			return a&with != 0
		}
		return a&with == 0
	}
	set := func(r bpf.Register, v uint32) {
		if r == bpf.RegX {
			x = v
		} else {
			a = v
		}
	}
	for i := 0; i < len(insns); i++ {
		ok := true
		switch ins := insns[i].(type) {
		case bpf.LoadConstant:
			set(ins.Dst, ins.Val)
		case bpf.LoadScratch:
			set(ins.Dst, memory[ins.N])
		case bpf.StoreScratch:
			memory[ins.N] = a
			if ins.Src == bpf.RegX {
				memory[ins.N] = x
			}
		case bpf.LoadAbsolute:
			a, ok = load(uint64(ins.Off), ins.Size)
		case bpf.LoadIndirect:
			a, ok = load(uint64(x)+uint64(ins.Off), ins.Size)
		case bpf.LoadMemShift:
			x, ok = load(uint64(ins.Off), 1)
			x = x & 15 * 4
		case bpf.LoadExtension: // pcapfilter makes no other
			switch ins.Num {
			case bpf.ExtLen:
				a = uint32(len(p))
			case bpf.ExtVLANTag:
				a = uint32(tag.TCI)
			case bpf.ExtVLANTagPresent:
				a = 0
				if tag.Proto != 0 {
					a = 1
				}
			default:
				return false
			}
		case bpf.ALUOpConstant:
			ok = calculate(ins.Op, ins.Val)
		case bpf.ALUOpX:
			ok = calculate(ins.Op, x)
		case bpf.NegateA:
			a = -a
		case bpf.TAX:
			x = a
		case bpf.TXA:
			a = x
		case bpf.Jump:
			i += int(int32(ins.Skip))
		case bpf.JumpIf:
			if holds(ins.Cond, ins.Val) {
				i += int(ins.SkipTrue)
			} else {
				i += int(ins.SkipFalse)
			}
		case bpf.JumpIfX:
			if holds(ins.Cond, x) {
				i += int(ins.SkipTrue)
			} else {
				i += int(ins.SkipFalse)
			}
		case bpf.RetConstant:
			return ins.Val != 0
		case bpf.RetA:
			return a != 0
		}
		if !ok {
			return false
		}
	}
	return false
}
