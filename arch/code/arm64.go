package code

import "encoding/binary"

// arm64 walks from the entry on, each instruction once. Encodings are those of
// the Arm Architecture Reference Manual, C4.1.
func (w *walk) arm64() {
	w.seen = make([]uint64, (len(w.code)/4+64)/64)
	todo := make([]way, 1, 4)
	if w.isPart {
		todo = todo[:0]
		for _, off := range w.entries {
			todo = append(todo, way{at: off})
		}
	}
	for len(todo) > 0 {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for s.at < len(w.code) && w.visit(s.at/4) {
			at := s.at
			if at+4 > len(w.code) {
				w.cut = true
				break
			}
			word := binary.LittleEndian.Uint32(w.code[at:])
			f, off := flowARM64(word)
			if w.patchedARM64(at, f) || w.probedARM64(at, word) {
				f = plain
			}
			target := w.addr + uint64(at) + uint64(off)
			switch f {
			case plain:
				w.name64(&s, word)
			case calls:
				w.add(call, at, target)
			case jumps, branches:
				if off, ok := w.inside(target); !ok {
					w.add(jump, at, target)
				} else if f == branches {
					todo = append(todo, s)
					todo[len(todo)-1].at = off
				} else {
					s.at = off
					continue
				}
			case callsIndirect, jumpsIndirect:
				w.indirect++
			case undefined:
				w.cut = true
			}
			if f != plain && f != calls && f != branches && f != callsIndirect {
				break
			}
			if f == calls || f == callsIndirect {
				s.known &^= 1<<30 | 1<<19 - 1 // a callee saves x19 to x29
			}
			s.at = at + 4
		}
	}
}

// way is a place to go on at, and the registers that hold a page's address
// there: those that ADRP has set, on the first way that leads to it. Pages are
// numbered from the code's first one on, as a way is copied at each branch.
type way struct {
	at    int
	known uint32
	pages [32]int32
}

// page returns the page's address that a register holds.
func (w *walk) page(s *way, reg uint32) uint64 {
	return w.addr&^4095 + uint64(int64(s.pages[reg]))<<12
}

const (
	movX9LR     = 0xaa1e03e9
	nop         = 0xd503201f
	kprobeBreak = 0xd4200080 // brk #4: arch/arm64/include/asm/brk-imm.h
)

// patchedARM64 tells whether the instruction at an offset is the call that
// ftrace puts behind mov x9, x30 at the entry.
func (w *walk) patchedARM64(at int, f flow) bool {
	if f != calls || at == 0 || at >= 16 {
		return false
	}
	before := binary.LittleEndian.Uint32(w.code[at-4:])
	return before == movX9LR || before == kprobeBreak && at == 4 && !w.isPart
}

// probedARM64 tells whether the instruction at an offset is the breakpoint of a
// probe at the entry of a function that ftrace can patch: what it hides leads on,
// as what ftrace patches, or has patched, comes next.
func (w *walk) probedARM64(at int, word uint32) bool {
	if word != kprobeBreak || at != 0 || w.isPart || len(w.code) < 8 {
		return false
	}
	next := binary.LittleEndian.Uint32(w.code[4:])
	f, _ := flowARM64(next)
	return next == nop || next == movX9LR || f == calls
}

// flowARM64 tells where an instruction goes on, and how far from it.
func flowARM64(word uint32) (f flow, off int64) {
	switch {
	case word&0xfc000000 == 0x94000000: // bl
		return calls, signed(word, 0, 26) * 4
	case word&0xfc000000 == 0x14000000: // b
		return jumps, signed(word, 0, 26) * 4
	case word&0xff000000 == 0x54000000, // b.cond, bc.cond
		word&0x7e000000 == 0x34000000: // cbz, cbnz
		return branches, signed(word, 5, 19) * 4
	case word&0x7e000000 == 0x36000000: // tbz, tbnz
		return branches, signed(word, 5, 14) * 4
	case word&0xfe000000 == 0xd6000000: // registers; bit 24 and those below 16: authenticated
		switch word >> 21 & 7 {
		case 0:
			return jumpsIndirect, 0
		case 1:
			return callsIndirect, 0
		case 2, 4, 5: // ret, eret, drps
			return returns, 0
		}
		return undefined, 0
	case word&0xffe0001f == 0xd4200000: // brk
		if word == kprobeBreak {
			return undefined, 0
		}
		return traps, 0
	case word>>16 == 0, word&0xffe0001f == 0xd4400000: // udf, hlt
		return traps, 0
	case word&0x9e000000 == 0, word&0x1a000000 == 0x02000000: // reserved, unallocated
		return undefined, 0
	}
	return plain, 0
}

// signed returns a field of some bits from bit at on.
func signed(word uint32, at, bits int) int64 {
	return int64(int32(word<<(32-at-bits)) >> (32 - bits))
}

// name64 adds the address that an instruction computes, reads or writes, and
// follows what it does to the pages in registers.
func (w *walk) name64(s *way, word uint32) {
	rd, rn := word&31, word>>5&31
	pc := w.addr + uint64(s.at)
	switch {
	case word&0x1f000000 == 0x10000000: // adr, adrp
		imm := signed(word, 5, 19)<<2 | int64(word>>29&3)
		if word>>31 == 0 {
			w.address(name, s.at, pc+uint64(imm))
			break
		}
		s.pages[rd] = int32(pc>>12-w.addr>>12) + int32(imm)
		s.known |= 1 << rd &^ (1 << 31) // xzr
		return
	case word&0xff800000 == 0x91000000 && s.known>>rn&1 != 0: // add
		imm := uint64(word >> 10 & 4095)
		if word>>22&1 != 0 {
			imm <<= 12
		}
		w.address(name, s.at, w.page(s, rn)+imm)
	case word&0x3b000000 == 0x39000000: // ldr, str and kin, from a register on
		scale := word >> 30
		if word&0x04800000 == 0x04800000 { // 128 bits
			scale = 4
		}
		if s.known>>rn&1 != 0 {
			w.address(slot, s.at, w.page(s, rn)+uint64(word>>10&4095)<<scale)
		}
		if word&0x04c00000 == 0 || word>>26&1 != 0 { // str, vectors
			return
		}
	case word&0x3b000000 == 0x18000000: // ldr of a literal
		w.literal(s.at, word, pc+uint64(signed(word, 5, 19)*4))
	case word&0x0a000000 == 0x08000000: // other loads and stores: all that they may write
		s.known &^= 1<<rn | 1<<(word>>10&31) | 1<<(word>>16&31)
	}
	s.known &^= 1 << rd
}

// literal adds the address of a literal and, where that is 64 bits of the
// code, the one in it.
func (w *walk) literal(at int, word uint32, target uint64) {
	w.address(slot, at, target)
	const wide = 0x58000000
	if off, ok := w.inside(target); ok && word&0xff000000 == wide && off+8 <= len(w.code) {
		w.address(name, at, binary.LittleEndian.Uint64(w.code[off:]))
	}
}
