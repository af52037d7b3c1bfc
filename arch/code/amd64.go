package code

// amd64 walks from the entry on, each instruction once.
func (w *walk) amd64() {
	w.seen = make([]uint64, (len(w.code)+63)/64)
	todo := make([]int, 0, 16)
	if w.isPart {
		todo = append(todo, w.entries...)
	} else {
		todo = append(todo, 0)
	}
	var in x86
	for len(todo) > 0 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		called := false // by the instruction before
		for at < len(w.code) && w.visit(at) {
			if !in.decode(w.code[at:]) {
				w.cut = w.cut || !isUndefined(w.code[at])
				break
			}
			next := at + in.len
			w.operands(&in, at)

			f := in.flow()
			patched := in.len == 5 && w.patchedAMD64(at)
			if patched {
				f = plain
			}
			switch f {
			case calls:
				target := w.addr + uint64(next) + uint64(in.imm)
				if off, ok := w.inside(target); ok && off > 0 {
					// It fills the return stack buffer, and never returns.
					todo = append(todo, off)
				} else {
					w.add(call, at, target)
				}
			case jumps, branches:
				target := w.addr + uint64(next) + uint64(in.imm)
				if off, ok := w.inside(target); ok {
					todo = append(todo, off)
				} else {
					w.add(jump, at, target)
				}
			case callsIndirect, jumpsIndirect:
				w.indirect++
			case traps:
				// Padding is behind a call that never returns; elsewhere a
				// breakpoint is a probe's.
				w.cut = w.cut || in.opcode == 0xcc && !called
			}
			if f == jumps || f == jumpsIndirect || f == returns || f == traps {
				break
			}
			called = patched || f == calls || f == callsIndirect
			at = next
		}
	}
}

// isUndefined tells whether a byte is an instruction that compilers and kernels
// use as a trap, as it is none.
func isUndefined(b byte) bool { return b == 0xd6 || b == 0xea }

// patchedAMD64 tells whether the instruction at an offset is the call, or the
// jump, that ftrace puts at the entry or behind endbr64, which the kernel
// replaces by a nop where nothing needs it.
func (w *walk) patchedAMD64(at int) bool {
	if op := w.code[at]; w.isPart || at != 0 && at != 4 || op != 0xe8 && op != 0xe9 {
		return false
	}
	if at == 0 {
		return true
	}
	switch [3]byte(w.code[:3]) {
	case [3]byte{0xf3, 0x0f, 0x1e}: // endbr64
		return w.code[3] == 0xfa
	case [3]byte{0x66, 0x0f, 0x1f}, [3]byte{0x0f, 0x1f, 0x40}: // nopw (%rax), nopl d6(%rax)
		return true
	}
	return false
}

// flow is where an instruction goes on.
type flow uint8

const (
	plain         flow = iota
	calls              // to imm, then on
	branches           // to imm, or on
	jumps              // to imm
	callsIndirect      // elsewhere, then on
	jumpsIndirect      // elsewhere
	returns
	traps
	undefined // not known where
)

func (in *x86) flow() flow {
	op := in.opcode
	switch in.m {
	case map1:
		switch {
		case op == 0xe8:
			return calls
		case op == 0xe9, op == 0xeb:
			return jumps
		case op&0xf0 == 0x70, op&0xfc == 0xe0: // jcc; loop, jrcxz
			return branches
		case op == 0xff:
			switch in.modrm >> 3 & 7 {
			case 2, 3:
				return callsIndirect
			case 4, 5:
				return jumpsIndirect
			}
		case op&0xf6 == 0xc2, op == 0xcf: // ret, lret; iret
			return returns
		case op == 0xcc:
			return traps
		}
	case map0F:
		switch {
		case op&0xf0 == 0x80:
			return branches
		case op == 0x0b, op == 0xb9, op == 0xff: // ud2, ud1, ud0
			return traps
		case op == 0x07, op == 0x35: // sysret, sysexit
			return returns
		}
	}
	return plain
}

// operands adds the addresses among the operands.
func (w *walk) operands(in *x86, at int) {
	const lea = 0x8d
	switch {
	case in.dispSize == 0:
	case !in.rip:
		w.address(name, at, uint64(int64(in.disp)))
	case in.m == map1 && in.opcode == lea:
		w.address(name, at, w.addr+uint64(at+in.len)+uint64(int64(in.disp)))
	default:
		w.address(slot, at, w.addr+uint64(at+in.len)+uint64(int64(in.disp)))
	}
	if in.immSize >= 4 && in.holds() {
		w.address(name, at, uint64(in.imm))
	}
}

// holds tells whether the immediate can be an address: one of 64 bits, that is
// moved, added or compared, not a mask.
func (in *x86) holds() bool {
	if in.m != map1 {
		return false
	}
	switch op := in.opcode; {
	case op == 0x68: // push
		return true
	case op&0xfc == 0xa0: // moffs
		return in.immSize == 8
	case op&0xf8 == 0xb8, op == 0xc7: // mov
		return in.wide
	case op == 0x05, op == 0x2d, op == 0x3d: // add, sub, cmp
		return in.wide
	case op == 0x81:
		reg := in.modrm >> 3 & 7
		return in.wide && (reg == 0 || reg == 5 || reg == 7)
	}
	return false
}
