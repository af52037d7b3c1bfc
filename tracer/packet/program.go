package packet

import (
	"fmt"
	"slices"

	"golang.org/x/net/bpf"
)

// Program is a filter's classic BPF, read. It only goes forwards.
type Program struct {
	Insns   []bpf.Instruction
	Targets [][2]int // where each goes on: if it holds, if not
	Reached []bool   // whether anything goes there
}

func newProgram(insns []bpf.RawInstruction) (*Program, error) {
	read, ok := bpf.Disassemble(insns)
	if !ok || len(read) == 0 {
		return nil, fmt.Errorf("unknown instruction")
	}
	read = unrolled(read)
	p := &Program{Insns: read, Targets: make([][2]int, len(read)), Reached: make([]bool, len(read))}
	p.Reached[0] = true
	for i, ins := range read {
		next, other := i+1, i+1
		switch ins := ins.(type) {
		case bpf.Jump:
			next += int(int32(ins.Skip))
			other = next
		case bpf.JumpIf:
			next, other = next+int(ins.SkipTrue), other+int(ins.SkipFalse)
		case bpf.JumpIfX:
			next, other = next+int(ins.SkipTrue), other+int(ins.SkipFalse)
		case bpf.RetA, bpf.RetConstant:
			continue
		}
		p.Targets[i] = [2]int{next, other}
		for _, to := range p.Targets[i] {
			if to >= len(read) || to <= i {
				return nil, fmt.Errorf("instruction %d of %d goes on at %d", i, len(read), to)
			}
			p.Reached[to] = p.Reached[to] || p.Reached[i] // all go forwards
		}
	}
	return p, nil
}

// maxHeaders is how many headers that follow one another protochain looks at, at least. IPv6 has
// seven kinds of them in front of others (RFC 8200, 4.1).
const maxHeaders = 8

// TooLong is what a program returns that would have to go back more often.
const TooLong = 1<<32 - 1

// unrolled returns a program that does the same without going back: only protochain
// does that, by jumps without a condition.
func unrolled(insns []bpf.Instruction) []bpf.Instruction {
	goesBack := func(ins bpf.Instruction) bool {
		j, ok := ins.(bpf.Jump)
		return ok && int32(j.Skip) < 0
	}
	loops := 0
	for _, ins := range insns {
		if goesBack(ins) {
			loops++
		}
	}
	if loops == 0 {
		return insns
	}
	rounds := 1 + loops*maxHeaders
	var all []bpf.Instruction
	for round := range rounds {
		for _, ins := range insns {
			if goesBack(ins) {
				ins = bpf.Jump{Skip: uint32(len(insns)) + ins.(bpf.Jump).Skip}
				if round == rounds-1 {
					ins = bpf.RetConstant{Val: TooLong}
				}
			}
			all = append(all, ins)
		}
	}
	return all
}

// Run runs it over a packet of which all is there, given what extensions load that are
// not about its bytes.
func (p *Program) Run(packet []byte, extensions map[bpf.Extension]uint32) (bool, error) {
	insns := slices.Clone(p.Insns)
	for i, ins := range insns { // the machine has none but the length
		if load, ok := ins.(bpf.LoadExtension); ok {
			if v, ok := extensions[load.Num]; ok {
				insns[i] = bpf.LoadConstant{Dst: bpf.RegA, Val: v}
			}
		}
	}
	vm, err := bpf.NewVM(insns)
	if err != nil {
		return false, fmt.Errorf("run filter: %w", err)
	}
	n, err := vm.Run(packet)
	if err == nil && uint32(n) == TooLong {
		err = ErrUnread
	}
	return n != 0, err
}
