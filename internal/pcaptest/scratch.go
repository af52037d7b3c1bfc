package pcaptest

import "golang.org/x/net/bpf"

// readsUnwritten tells whether code may load a word of its scratch memory that it has not
// stored: what is there is not defined, and Linux refuses such code. libpcap makes it of
// geneve in some places, where later terms look for the inside of what is no tunnel.
func readsUnwritten(code []bpf.RawInstruction) bool {
	const all = 1<<words - 1
	written := make([]uint32, len(code)) // on every way to an instruction
	for i := range written {
		written[i] = all
	}
	if len(code) > 0 {
		written[0] = 0
	}
	for isChanged := true; isChanged; {
		isChanged = false
		for i, ins := range code {
			behind := written[i]
			if ins.Op == opSt || ins.Op == opStx {
				behind |= 1 << ins.K
			}
			for _, to := range successors(code, i) {
				if less := written[to] & behind; less != written[to] {
					written[to], isChanged = less, true
				}
			}
		}
	}
	for i, ins := range code {
		if isLoad := ins.Op == opLd|modeMem || ins.Op == opLdx|modeMem; isLoad && written[i]>>ins.K&1 == 0 {
			return true
		}
	}
	return false
}

// successors are where code goes on behind an instruction.
func successors(code []bpf.RawInstruction, i int) []int {
	ins := code[i]
	switch {
	case ins.Op&7 == opRet:
		return nil
	case ins.Op == opJmp:
		return []int{i + 1 + int(int32(ins.K))}
	case ins.Op&7 == opJmp:
		return []int{i + 1 + int(ins.Jt), i + 1 + int(ins.Jf)}
	}
	return []int{i + 1}
}
