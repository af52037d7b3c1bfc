package build

import (
	"fmt"
	"slices"
	"unsafe"

	"github.com/cilium/ebpf/asm"

	"fgtrace/arch"
	"fgtrace/bpf/wire"
	"fgtrace/btfx/expr"
	"fgtrace/btfx/expr/codegen"
	"fgtrace/internal/bpfasm"
	"fgtrace/tracer/packet"
	packetcode "fgtrace/tracer/packet/codegen"
	"fgtrace/tracer/plan"
)

// Expressions are those of a program, and where it finds what they are about.
type Expressions struct {
	plan.Expressions
	// Regs is where probes find arguments; nil: they are in a trampoline's context.
	Regs *arch.Regs
	// Copy says that words of a trampoline's context can't be loaded: programs that
	// serve several functions don't know how many there are.
	Copy bool
	// Direct says that the members of structs that arguments point to can be loaded:
	// where a kernel's verifier refuses that, they are read as any memory.
	Direct bool
	// Cast says how bytes of packets can be loaded.
	Cast packetcode.Cast
	// PacketBytes is the function that filters for packets call for what is in fragments;
	// nil: they can't tell what is there.
	PacketBytes asm.Instructions
}

// splice puts the code of expressions in place of the loads that stand for them.
func splice(insns asm.Instructions, e Expressions) (asm.Instructions, error) {
	top := stackUsed(insns)
	for _, one := range []struct {
		mark    uint32
		compile func(top int16) (asm.Instructions, error)
	}{
		{wire.ConfigCondition, func(top int16) (asm.Instructions, error) { return e.compile(e.Condition, top) }},
		{wire.ConfigResultCondition, func(top int16) (asm.Instructions, error) { return e.compile(e.ResultCondition, top) }},
		{wire.ConfigNodeCondition, func(top int16) (asm.Instructions, error) { return e.compile(e.NodeCondition, top) }},
		{wire.ConfigTake, e.compileOutputs},
		{wire.ConfigLocate, e.compileLocate},
		{wire.ConfigSkb, func(top int16) (asm.Instructions, error) { return e.compileSKB(top), nil }},
	} {
		code, err := one.compile(top)
		if err != nil {
			return nil, err
		}
		for at := 0; at < len(insns); at++ {
			if !isMark(&insns[at]) || uint32(insns[at].Constant) != one.mark {
				continue
			}
			if insns, err = replace(insns, at, code); err != nil {
				return nil, err
			}
			at += len(code) - 1 // a number in it may look like a mark
		}
	}
	return insns, nil
}

// replace puts code in place of an instruction.
func replace(insns asm.Instructions, at int, code asm.Instructions) (asm.Instructions, error) {
	g, err := newGraph(insns)
	if err != nil {
		return nil, err
	}
	spliced := slices.Concat(insns[:at], code, insns[at+1:])
	moved := func(i int) int {
		if i > at {
			return i + len(code) - 1
		}
		return i
	}
	offsets := rawOffsets(spliced)
	for i, to := range g.target {
		if to < 0 {
			continue
		}
		off := offsets[moved(to)] - offsets[moved(i)] - 1
		if off != int(int16(off)) {
			return nil, fmt.Errorf("build program: %d instructions of an expression: %w", len(code), bpfasm.ErrTooLarge)
		}
		spliced[moved(i)].Offset = int16(off)
	}
	if at == 0 {
		spliced[0].Metadata = insns[0].Metadata
	}
	return spliced, nil
}

// isMark tells the loads of constants that are to be written in.
func isMark(ins *asm.Instruction) bool {
	return ins.OpCode.IsDWordLoad() && !ins.IsLoadFromMap() && uint64(ins.Constant)>>32 == wire.ConfigMark>>32
}

// rawOffsets returns where instructions are in what the kernel counts.
func rawOffsets(insns asm.Instructions) []int {
	offsets := make([]int, len(insns))
	iter := insns.Iterate()
	for iter.Next() {
		offsets[iter.Index] = int(iter.Offset)
	}
	return offsets
}

// stackUsed returns the lowest offset from the frame pointer that code has, a
// multiple of 8.
func stackUsed(insns asm.Instructions) int16 {
	lowest := int64(0)
	for i := range insns {
		ins := &insns[i]
		switch class := ins.OpCode.Class(); {
		case class == asm.LdXClass && ins.Src == asm.RFP, class.IsStore() && ins.Dst == asm.RFP:
			lowest = min(lowest, int64(ins.Offset))
		case class == asm.ALU64Class && ins.OpCode.ALUOp() == asm.Add && ins.OpCode.Source() == asm.ImmSource && i > 0 && insns[i-1].Src == asm.RFP:
			lowest = min(lowest, ins.Constant)
		}
	}
	return int16(lowest &^ 7)
}

// compile makes code of a condition, which finds ctx, or a result, in R1 and leaves the
// answer in R0. Without a condition that is yes.
func (e *Expressions) compile(condition *expr.Tree, top int16) (asm.Instructions, error) {
	if condition == nil {
		return asm.Instructions{asm.Mov.Imm(asm.R0, 1)}, nil
	}
	insns, frame := e.fetch(condition.Words(), top)
	if condition.HasRetval() {
		insns = append(insns, asm.StoreMem(asm.RFP, frame.Retval, asm.R1, asm.DWord))
	}
	code, err := codegen.Compile(condition, frame)
	if err != nil {
		return nil, err
	}
	return append(insns, code.Insns...), nil
}

// compileOutputs makes code that finds ctx in R1, and in R2 where outputs go.
func (e *Expressions) compileOutputs(top int16) (asm.Instructions, error) {
	if len(e.Outputs) == 0 {
		return asm.Instructions{asm.Mov.Imm(asm.R0, 0)}, nil
	}
	var words []int
	var pieces []codegen.Piece
	for _, o := range e.Outputs {
		words = append(words, o.Tree.Words()...)
		pieces = append(pieces, codegen.Piece{Output: o.Output, Offset: o.Offset})
	}
	slices.Sort(words)
	to := top - wordSize
	insns, frame := e.fetch(slices.Compact(words), to)
	code, err := codegen.CompileOutputs(pieces, frame, to)
	if err != nil {
		return nil, err
	}
	return slices.Concat(asm.Instructions{asm.StoreMem(asm.RFP, to, asm.R2, asm.DWord)}, insns, code.Insns), nil
}

// compileLocate makes code that finds ctx in R1, and in R2 where it writes the place of
// the packet. It leaves in R0 whether that is known.
func (e *Expressions) compileLocate(top int16) (asm.Instructions, error) {
	if e.Packet == nil {
		return asm.Instructions{asm.Mov.Imm(asm.R0, codegen.No)}, nil
	}
	to := top - wordSize
	insns, frame := e.fetch([]int{e.Packet.Word}, to)
	var code bpfasm.Code
	unread, end := code.Label(), code.Label()
	code.Add(asm.StoreMem(asm.RFP, to, asm.R2, asm.DWord))
	code.Add(insns...)
	code.Add(asm.LoadMem(asm.R0, asm.RFP, frame.Args+int16(wordSize*e.Packet.Word), asm.DWord))
	packetcode.AppendLocate(e.Packet.Form, &code, packetcode.Options{Top: frame.Top, Unread: unread, Direct: e.isDirect()}, to, packetcode.Place{
		Start: int16(unsafe.Offsetof(packetAt.Start)), Linear: int16(unsafe.Offsetof(packetAt.Linear)),
		Length: int16(unsafe.Offsetof(packetAt.Length)), Shared: int16(unsafe.Offsetof(packetAt.Shared)), Raw: int16(unsafe.Offsetof(packetAt.Raw)),
		TagProto: int16(unsafe.Offsetof(packetAt.VlanProto)), TagTCI: int16(unsafe.Offsetof(packetAt.VlanTci)),
	})
	code.Add(asm.Mov.Imm(asm.R0, codegen.Yes))
	code.Jump(end)
	code.Place(unread)
	code.Add(asm.Mov.Imm(asm.R0, codegen.Unread))
	code.Place(end)
	return code.Instructions()
}

// compileSKB makes code that finds ctx in R1 and leaves the address of the struct sk_buff
// in R0 whose packet is followed.
func (e *Expressions) compileSKB(top int16) asm.Instructions {
	if e.Follow == nil {
		return asm.Instructions{asm.Mov.Imm(asm.R0, 0)}
	}
	insns, frame := e.fetch([]int{e.Follow.Word}, top)
	return append(insns, asm.LoadMem(asm.R0, asm.RFP, frame.Args+int16(wordSize*e.Follow.Word), asm.DWord))
}

// packetAt has the offsets of a packet's parts.
var packetAt *wire.Packet

// match appends the code of a filter for packets.
func (e *Expressions) match(m expr.Matcher, to *bpfasm.Code, top int16, unread bpfasm.Label) (bottom int16, err error) {
	filter, ok := m.(*packet.Matcher)
	if !ok {
		return 0, fmt.Errorf("build program: unknown filter %T", m)
	}
	return packetcode.AppendCode(filter, to, packetcode.Options{
		Top: top, Unread: unread, Direct: e.isDirect(), Cast: e.Cast, Fragments: e.PacketBytes != nil,
	})
}

func (e *Expressions) hasPointers() bool { return e.Regs == nil && !e.Copy }

func (e *Expressions) isDirect() bool { return e.hasPointers() && e.Direct }

// fetch puts argument words on the stack.
func (e *Expressions) fetch(words []int, top int16) (insns asm.Instructions, frame codegen.Frame) {
	count := 0
	if len(words) > 0 {
		count = words[len(words)-1] + 1
	}
	retval := top - wordSize
	args := retval - int16(wordSize*count)
	frame = codegen.Frame{Args: args, Retval: retval, Top: args, Pointers: e.hasPointers(), Direct: e.isDirect(), Match: e.match}
	slot := func(word int) int16 { return args + int16(wordSize*word) }
	load := func(word, offset int) {
		insns = append(insns, asm.LoadMem(asm.R2, asm.R1, int16(offset), asm.DWord), asm.StoreMem(asm.RFP, slot(word), asm.R2, asm.DWord))
	}
	// Read from a pointer in R3.
	read := func(from, to int) {
		insns = append(insns,
			asm.Mov.Reg(asm.R1, asm.RFP), asm.Add.Imm(asm.R1, int32(slot(from))),
			asm.Mov.Imm(asm.R2, int32(wordSize*(to-from))),
			asm.FnProbeReadKernel.Call())
	}
	if len(words) == 0 {
		return nil, frame
	}
	last := words[len(words)-1]
	switch {
	case e.Regs == nil && e.Copy:
		insns = append(insns, asm.Mov.Reg(asm.R3, asm.R1))
		read(0, last+1)
	case e.Regs == nil:
		for _, word := range words {
			load(word, wordSize*word)
		}
	default:
		inRegs := len(e.Regs.Args)
		for _, word := range words {
			if word < inRegs {
				load(word, e.Regs.Args[word])
			}
		}
		if last >= inRegs {
			insns = append(insns, asm.LoadMem(asm.R3, asm.R1, int16(e.Regs.SP), asm.DWord), asm.Add.Imm(asm.R3, int32(e.Regs.StackArgs)))
			read(inRegs, last+1)
		}
	}
	return insns, frame
}
