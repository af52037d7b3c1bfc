// Package bpfvm runs BPF instructions on memory that isn't there: for tests of what
// makes them.
package bpfvm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/cilium/ebpf/asm"
)

// VM runs code. The stack is all memory that code may touch by itself.
type VM struct {
	// Read is what bpf_probe_read_kernel does.
	Read func(addr uint64, buf []byte) error
	// ReadUser is what bpf_probe_read_user does; nil: nothing is there.
	ReadUser func(addr uint64, buf []byte) error
	CPU      uint64
	// Loads says that code may load what Read reads: 0 where that fails.
	Loads bool
	// Out is memory that code may write to, from OutAddr on.
	Out []byte
	// Functions are what code calls by numbers that no helper has, each with a stack of
	// its own.
	Functions map[asm.BuiltinFunc]asm.Instructions

	regs   [11]uint64
	stack  [stackSize]byte
	lowest int
	steps  int // that were taken
}

const (
	stackSize = 512
	frame     = 0x7fff_0000_1000 // where R10 points to
	maxSteps  = 1 << 20

	// OutAddr is where code finds VM.Out.
	OutAddr = 0x7fff_1000_0000
)

// SetStack writes a word at an offset from the frame pointer.
func (v *VM) SetStack(offset int, word uint64) {
	binary.LittleEndian.PutUint64(v.stack[stackSize+offset:], word)
}

// Lowest returns the lowest offset from the frame pointer that code wrote to.
func (v *VM) Lowest() int { return v.lowest }

// Steps returns how many instructions ran.
func (v *VM) Steps() int { return v.steps }

// Run runs code to its exit, and returns R0. Code that reads a register which a
// call has changed finds nonsense there, as it would get the verifier's refusal.
func (v *VM) Run(insns asm.Instructions) (uint64, error) {
	offsets := make(map[int]int, len(insns)) // to indices
	var at []int
	n := 0
	for i := range insns {
		offsets[n] = i
		at = append(at, n)
		n++
		if insns[i].OpCode.IsDWordLoad() {
			n++
		}
	}
	v.regs[asm.RFP] = frame
	for i := 0; ; {
		if i >= len(insns) {
			return 0, errors.New("run BPF: code has no end")
		}
		if v.steps++; v.steps > maxSteps {
			return 0, errors.New("run BPF: code does not end")
		}
		ins := &insns[i]
		class := ins.OpCode.Class()
		if !class.IsJump() {
			if err := v.step(ins); err != nil {
				return 0, fmt.Errorf("run BPF: instruction %d, %v: %w", i, ins, err)
			}
			i++
			continue
		}
		switch op := ins.OpCode.JumpOp(); op {
		case asm.Exit:
			return v.regs[0], nil
		case asm.Call:
			if err := v.call(asm.BuiltinFunc(ins.Constant)); err != nil {
				return 0, fmt.Errorf("run BPF: instruction %d: %w", i, err)
			}
			i++
		default:
			taken, err := v.jumps(ins, op)
			if err != nil {
				return 0, fmt.Errorf("run BPF: instruction %d: %w", i, err)
			}
			if !taken {
				i++
				continue
			}
			to, ok := offsets[at[i]+1+int(ins.Offset)]
			if !ok {
				return 0, fmt.Errorf("run BPF: instruction %d jumps to where none begins", i)
			}
			i = to
		}
	}
}

func (v *VM) memory(addr uint64, size int) ([]byte, error) {
	if out, ok := v.out(addr, uint64(size)); ok {
		return out, nil
	}
	off := int64(addr-frame) + stackSize
	if off < 0 || off+int64(size) > stackSize || off%int64(size) != 0 {
		return nil, fmt.Errorf("%d bytes at %d from the frame", size, off-stackSize)
	}
	return v.stack[off:][:size], nil
}

func (v *VM) out(addr, size uint64) ([]byte, bool) {
	at := addr - OutAddr
	if at > uint64(len(v.Out)) || size > uint64(len(v.Out))-at {
		return nil, false
	}
	return v.Out[at:][:size], true
}

func (v *VM) step(ins *asm.Instruction) error {
	op := ins.OpCode
	switch class := op.Class(); class {
	case asm.LdClass:
		if !op.IsDWordLoad() {
			return errors.New("unknown load")
		}
		v.regs[ins.Dst] = uint64(ins.Constant)
		return nil
	case asm.LdXClass:
		addr := v.regs[ins.Src] + uint64(int64(ins.Offset))
		m, err := v.memory(addr, op.Size().Sizeof())
		if err != nil && v.Loads && addr-frame+stackSize > 2*stackSize {
			m = make([]byte, op.Size().Sizeof())
			if v.Read(addr, m) != nil {
				clear(m)
			}
		} else if err != nil {
			return err
		}
		var word [8]byte
		copy(word[:], m)
		v.regs[ins.Dst] = binary.LittleEndian.Uint64(word[:])
		return nil
	case asm.StXClass:
		addr := v.regs[ins.Dst] + uint64(int64(ins.Offset))
		m, err := v.memory(addr, op.Size().Sizeof())
		if err != nil {
			return err
		}
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], v.regs[ins.Src])
		copy(m, word[:])
		if _, isOut := v.out(addr, 1); !isOut {
			v.wrote(addr)
		}
		return nil
	case asm.ALUClass, asm.ALU64Class:
		return v.calculate(ins, class == asm.ALU64Class)
	}
	return errors.New("unknown class")
}

func (v *VM) wrote(addr uint64) { v.lowest = min(v.lowest, int(int64(addr-frame))) }

func (v *VM) operand(ins *asm.Instruction) uint64 {
	if ins.OpCode.Source() == asm.RegSource {
		return v.regs[ins.Src]
	}
	return uint64(ins.Constant)
}

func (v *VM) calculate(ins *asm.Instruction, wide bool) error {
	x, y := v.regs[ins.Dst], v.operand(ins)
	most := uint64(63)
	if !wide {
		x, y, most = uint64(uint32(x)), uint64(uint32(y)), 31
	}
	imm := ins.OpCode.Source() == asm.ImmSource
	switch op := ins.OpCode.ALUOp(); op {
	case asm.Add:
		x += y
	case asm.Sub:
		x -= y
	case asm.Mul:
		x *= y
	case asm.Div, asm.Mod:
		if imm && y == 0 {
			return errors.New("division by zero") // check_alu_op refuses it
		}
		switch {
		case op == asm.Div && y == 0:
			x = 0
		case op == asm.Div:
			x /= y
		case y != 0:
			x %= y
		}
	case asm.And:
		x &= y
	case asm.Or:
		x |= y
	case asm.Xor:
		x ^= y
	case asm.LSh, asm.RSh, asm.ArSh:
		if imm && y > most {
			return errors.New("shift too far") // check_alu_op refuses it
		}
		switch y &= most; {
		case op == asm.LSh:
			x <<= y
		case op == asm.RSh:
			x >>= y
		case wide:
			x = uint64(int64(x) >> y)
		default:
			x = uint64(int32(x) >> y)
		}
	case asm.Neg:
		x = -x
	case asm.Mov:
		x = y
	case asm.Swap: // bswap of the low bytes, to big endian
		if ins.OpCode.Endianness() != asm.BE {
			return errors.New("unknown byte order")
		}
		switch ins.Constant {
		case 16:
			x = uint64(bits.ReverseBytes16(uint16(v.regs[ins.Dst])))
		case 32:
			x = uint64(bits.ReverseBytes32(uint32(v.regs[ins.Dst])))
		case 64:
			x = bits.ReverseBytes64(v.regs[ins.Dst])
		default:
			return fmt.Errorf("swap of %d bits", ins.Constant)
		}
	default:
		return fmt.Errorf("unknown operation %v", op)
	}
	if !wide && ins.OpCode.ALUOp() != asm.Swap {
		x = uint64(uint32(x))
	}
	v.regs[ins.Dst] = x
	return nil
}

func (v *VM) jumps(ins *asm.Instruction, op asm.JumpOp) (bool, error) {
	x, y := v.regs[ins.Dst], v.operand(ins)
	if ins.OpCode.Class() == asm.Jump32Class && op != asm.Ja {
		x, y = uint64(int64(int32(x))), uint64(int64(int32(y))) // keeps both orders
	}
	switch op {
	case asm.Ja:
		return true, nil
	case asm.JEq:
		return x == y, nil
	case asm.JNE:
		return x != y, nil
	case asm.JGT:
		return x > y, nil
	case asm.JGE:
		return x >= y, nil
	case asm.JLT:
		return x < y, nil
	case asm.JLE:
		return x <= y, nil
	case asm.JSGT:
		return int64(x) > int64(y), nil
	case asm.JSGE:
		return int64(x) >= int64(y), nil
	case asm.JSLT:
		return int64(x) < int64(y), nil
	case asm.JSLE:
		return int64(x) <= int64(y), nil
	case asm.JSet:
		return x&y != 0, nil
	}
	return false, fmt.Errorf("unknown jump %v", op)
}

const fault = -14 // EFAULT

func (v *VM) call(fn asm.BuiltinFunc) error {
	r := v.regs
	for i := 1; i <= 5; i++ {
		v.regs[i] = 0xbad0bad0bad0bad0
	}
	if code, ok := v.Functions[fn]; ok {
		callee := VM{Read: v.Read, ReadUser: v.ReadUser, CPU: v.CPU, Loads: true} // of maps
		copy(callee.regs[1:6], r[1:6])
		var err error
		v.regs[0], err = callee.Run(code)
		v.steps += callee.steps
		return err
	}
	switch fn {
	case asm.FnGetSmpProcessorId:
		v.regs[0] = v.CPU
		return nil
	case asm.FnProbeReadKernel, asm.FnProbeReadUser, asm.FnProbeReadKernelStr, asm.FnProbeReadUserStr:
	default:
		return fmt.Errorf("unknown function %v", fn)
	}
	to, isOut := v.out(r[1], r[2])
	if !isOut {
		off := int64(r[1]-frame) + stackSize
		if size := int64(r[2]); off < 0 || size < 1 || size > stackSize || off+size > stackSize {
			return fmt.Errorf("%v: %d bytes at %d from the frame", fn, size, off-stackSize)
		}
		to = v.stack[off:][:r[2]]
		v.wrote(r[1])
	}
	switch fn {
	case asm.FnProbeReadKernel:
		v.regs[0] = 0
		if from := int64(r[3]-frame) + stackSize; from >= 0 && from+int64(len(to)) <= stackSize {
			copy(to, v.stack[from:])
		} else if v.Read(r[3], to) != nil {
			clear(to)
			v.regs[0] = ^uint64(0) - (-fault - 1)
		}
	case asm.FnProbeReadUser:
		v.regs[0] = 0
		if v.ReadUser == nil || v.ReadUser(r[3], to) != nil {
			clear(to)
			v.regs[0] = ^uint64(0) - (-fault - 1)
		}
	case asm.FnProbeReadKernelStr:
		v.regs[0] = readString(v.Read, r[3], to)
	case asm.FnProbeReadUserStr:
		v.regs[0] = ^uint64(0) - (-fault - 1)
		if v.ReadUser != nil {
			v.regs[0] = readString(v.ReadUser, r[3], to)
		}
	}
	return nil
}

// readString copies up to a zero, which it always ends with, and returns how many
// bytes these are.
func readString(read func(uint64, []byte) error, addr uint64, to []byte) uint64 {
	for i := range to {
		if read(addr+uint64(i), to[i:i+1]) != nil {
			clear(to)
			return ^uint64(0) - (-fault - 1)
		}
		if to[i] == 0 {
			return uint64(i + 1)
		}
	}
	to[len(to)-1] = 0
	return uint64(len(to))
}
