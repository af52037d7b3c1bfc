package build

import (
	"fmt"
	"slices"

	"github.com/cilium/ebpf/asm"

	"fgtrace/arch"
	"fgtrace/bpf/wire"
	"fgtrace/btfx/expr"
	"fgtrace/btfx/expr/codegen"
	"fgtrace/internal/bpfasm"
	"fgtrace/tracer/packet"
	packetcode "fgtrace/tracer/packet/codegen"
)

// Conditions are what must hold for a call to be shown; nil: nothing.
type Conditions struct {
	Entry  *Condition // asked at its entry
	Result *Condition // asked at its return, of the result alone
}

// Condition is an expression, and where a program finds what it is about.
type Condition struct {
	Tree *expr.Tree
	// Regs is where probes find arguments; nil: they are in a trampoline's context.
	Regs *arch.Regs
	// Copy says that words of a trampoline's context can't be loaded: programs that
	// serve several functions don't know how many there are.
	Copy bool
	// Direct says that the members of structs that arguments point to can be loaded:
	// where a kernel's verifier refuses that, they are read as any memory.
	Direct bool
}

// splice puts the code of conditions in place of the loads that stand for them.
func splice(insns asm.Instructions, c Conditions) (asm.Instructions, error) {
	top := stackUsed(insns)
	for _, one := range []struct {
		mark      uint32
		condition *Condition
	}{{wire.ConfigCondition, c.Entry}, {wire.ConfigResultCondition, c.Result}} {
		code := asm.Instructions{asm.Mov.Imm(asm.R0, 1)}
		if one.condition != nil {
			var err error
			if code, err = one.condition.compile(top); err != nil {
				return nil, err
			}
		}
		for at := 0; at < len(insns); at++ {
			if !isMark(&insns[at]) || uint32(insns[at].Constant) != one.mark {
				continue
			}
			var err error
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
			return nil, fmt.Errorf("build program: the expression is too large: %d instructions", len(code))
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

// compile makes code that finds ctx, or a result, in R1 and leaves the answer in R0.
func (c *Condition) compile(top int16) (asm.Instructions, error) {
	words := c.Tree.Words()
	count := 0
	if len(words) > 0 {
		count = words[len(words)-1] + 1
	}
	retval := top - wordSize
	args := retval - int16(wordSize*count)
	fetch := c.fetch(words, args)
	if c.Tree.HasRetval() {
		fetch = append(fetch, asm.StoreMem(asm.RFP, retval, asm.R1, asm.DWord))
	}
	pointers := c.Regs == nil && !c.Copy
	code, err := codegen.Compile(c.Tree, codegen.Frame{
		Args: args, Retval: retval, Top: args, Pointers: pointers, Direct: pointers && c.Direct,
		Match: func(m expr.Matcher, to *bpfasm.Code, top int16, unread bpfasm.Label) (bottom int16, err error) {
			filter, ok := m.(*packet.Matcher)
			if !ok {
				return 0, fmt.Errorf("build program: unknown filter %T", m)
			}
			return packetcode.AppendCode(filter, to, packetcode.Options{Top: top, Unread: unread, Direct: pointers && c.Direct})
		},
	})
	if err != nil {
		return nil, err
	}
	return append(fetch, code.Insns...), nil
}

// fetch puts argument words on the stack.
func (c *Condition) fetch(words []int, args int16) asm.Instructions {
	var insns asm.Instructions
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
		return nil
	}
	last := words[len(words)-1]
	switch {
	case c.Regs == nil && c.Copy:
		insns = append(insns, asm.Mov.Reg(asm.R3, asm.R1))
		read(0, last+1)
	case c.Regs == nil:
		for _, word := range words {
			load(word, wordSize*word)
		}
	default:
		inRegs := len(c.Regs.Args)
		for _, word := range words {
			if word < inRegs {
				load(word, c.Regs.Args[word])
			}
		}
		if last >= inRegs {
			insns = append(insns, asm.LoadMem(asm.R3, asm.R1, int16(c.Regs.SP), asm.DWord), asm.Add.Imm(asm.R3, int32(c.Regs.StackArgs)))
			read(inRegs, last+1)
		}
	}
	return insns
}

// ConditionText spells what the entries of a group have in common.
func (g Group) ConditionText() string {
	return spellCondition(g.Condition) + " " + spellCondition(g.ResultCondition)
}

// spellCondition spells a condition: equal ones are spelled alike.
func spellCondition(t *expr.Tree) string {
	if t == nil {
		return ""
	}
	return t.String()
}
