package code

import "encoding/binary"

// Opcode maps of 64-bit mode: what follows an opcode, by its value. The rows are
// those of the Intel SDM's, volume 2, appendix A; 0F 38 has m everywhere, 0F 3A M.
//
//	.  nothing            x  undefined
//	m  ModRM              p  prefix or escape
//	b  imm8 or rel8       w  imm16
//	z  imm32, imm16 with the prefix 66
//	M  ModRM, imm8        Z  ModRM, imm32 or imm16
//	r  rel32              v  imm16, imm32 or imm64
//	o  moffs              e  imm16, imm8
//	g  ModRM, imm8 if its reg is 0 or 1
//	G  ModRM, imm32 or imm16 if its reg is 0 or 1
const (
	opcodes = "mmmmbzxxmmmmbzxp" + // 00
		"mmmmbzxxmmmmbzxx" + // 10
		"mmmmbzpxmmmmbzpx" + // 20
		"mmmmbzpxmmmmbzpx" + // 30
		"pppppppppppppppp" + // 40
		"................" + // 50
		"xxpmppppzZbM...." + // 60
		"bbbbbbbbbbbbbbbb" + // 70
		"MZxMmmmmmmmmmmmm" + // 80
		"..........x....." + // 90
		"oooo....bz......" + // A0
		"bbbbbbbbvvvvvvvv" + // B0
		"MMw.ppMZe.w..bx." + // C0
		"mmmmxxx.mmmmmmmm" + // D0
		"bbbbbbbbrrxb...." + // E0
		"p.pp..gG......mm" // F0

	opcodes0F = "mmmmx.....x.xm.M" + // 00
		"mmmmmmmmmmmmmmmm" + // 10
		"mmmmxxxxmmmmmmmm" + // 20
		"......x.pxpxxxxx" + // 30
		"mmmmmmmmmmmmmmmm" + // 40
		"mmmmmmmmmmmmmmmm" + // 50
		"mmmmmmmmmmmmmmmm" + // 60
		"MMMMmmm.mmxxmmmm" + // 70
		"rrrrrrrrrrrrrrrr" + // 80
		"mmmmmmmmmmmmmmmm" + // 90
		"...mMmmm...mMmmm" + // A0
		"mmmmmmmmmmMmmmmm" + // B0
		"mmMmMMMm........" + // C0
		"mmmmmmmmmmmmmmmm" + // D0
		"mmmmmmmmmmmmmmmm" + // E0
		"mmmmmmmmmmmmmmmm" // F0
)

// opMap is an opcode map. Those from mapVEX on are of VEX, EVEX and XOP,
// by their number there.
type opMap uint8

const (
	map1  opMap = iota // one byte
	map0F              // behind 0F
	map0F38
	map0F3A
	mapVEX
)

// x86 is an instruction of amd64.
type x86 struct {
	len    int
	m      opMap
	opcode byte
	modrm  byte // 0 without one
	wide   bool // REX.W
	short  bool // operand size 16: prefix 66
	rip    bool // disp is from the next instruction on

	// disp is a displacement of 4 bytes, imm an immediate or a relative target,
	// sign-extended. Sizes are 0 for none.
	disp              int32
	imm               int64
	dispSize, immSize uint8
}

// maxX86 is the length of the longest instruction.
const maxX86 = 15

// decode reads the instruction that code begins with, and tells whether it is
// complete and one that is known.
func (in *x86) decode(code []byte) bool {
	*in = x86{}
	if len(code) > maxX86 {
		code = code[:maxX86]
	}
	n, small := 0, false // small: address size 32
	var class, op byte
prefixes:
	for ; ; n++ {
		if n == len(code) {
			return false
		}
		op = code[n]
		class = opcodes[op]
		if class != 'p' {
			break
		}
		switch op {
		case 0x66:
			in.short, in.wide = true, false
		case 0x67:
			small, in.wide = true, false
		case 0x0f, 0x62, 0xc4, 0xc5:
			break prefixes
		default:
			// A REX counts only right before the opcode.
			in.wide = op&0xf8 == 0x48
		}
	}
	n++
	switch op {
	case 0x0f:
		if n == len(code) {
			return false
		}
		op, in.m = code[n], map0F
		class = opcodes0F[op]
		n++
		if class == 'p' {
			if n == len(code) {
				return false
			}
			in.m, class = map0F38, 'm'
			if op == 0x3a {
				in.m, class = map0F3A, 'M'
			}
			op = code[n]
			n++
		}
	case 0xc5:
		n, class = in.vex(code, n+1, 1)
	case 0xc4:
		if n == len(code) {
			return false
		}
		n, class = in.vex(code, n+2, code[n]&0x1f)
	case 0x62:
		if n == len(code) {
			return false
		}
		n, class = in.vex(code, n+3, code[n]&7)
	case 0x8f: // pop, XOP
		if n < len(code) && code[n]&0x38 != 0 {
			n, class = in.vex(code, n+2, code[n]&0x1f)
		}
	}
	if class == 'x' {
		return false
	}
	if in.m < mapVEX {
		in.opcode = op
	}
	return in.operands(code, n, class, small)
}

// vex reads the opcode at n, of a map of VEX, EVEX or XOP.
func (in *x86) vex(code []byte, n int, number byte) (int, byte) {
	if n >= len(code) {
		return n, 'x'
	}
	in.m, in.opcode = mapVEX+opMap(number), code[n]
	in.short = false
	class := byte('x')
	switch number {
	case 1:
		class = 'm'
		if c := opcodes0F[in.opcode]; c == 'M' || in.opcode == 0x77 {
			class = c
		}
	case 2, 5, 6, 9:
		class = 'm'
	case 3, 8:
		class = 'M'
	case 7, 10:
		class = 'Z'
	}
	return n + 1, class
}

// operands reads what follows the opcode.
func (in *x86) operands(code []byte, n int, class byte, small bool) bool {
	switch class {
	case 'm', 'M', 'Z', 'g', 'G':
		if n >= len(code) {
			return false
		}
		in.modrm = code[n]
		n++
		if mod := in.modrm >> 6; mod != 3 && !(in.m == map0F && in.opcode&^3 == 0x20) { // mov of a control register
			rm := in.modrm & 7
			if rm == 4 {
				if n >= len(code) {
					return false
				}
				rm = code[n] & 7 // the SIB's base
				n++
			} else {
				in.rip = mod == 0 && rm == 5
			}
			switch {
			case mod == 1:
				n++
			case mod == 2 || rm == 5:
				if n+4 > len(code) {
					return false
				}
				in.disp, in.dispSize = int32(binary.LittleEndian.Uint32(code[n:])), 4
				n += 4
			}
		}
	}

	full := uint8(4)
	if in.short && !in.wide {
		full = 2
	}
	switch class {
	case 'b', 'M':
		in.immSize = 1
	case 'w':
		in.immSize = 2
	case 'e':
		in.immSize = 3
	case 'r':
		in.immSize = 4
	case 'z', 'Z':
		in.immSize = full
	case 'g':
		if in.modrm&0x30 == 0 {
			in.immSize = 1
		}
	case 'G':
		if in.modrm&0x30 == 0 {
			in.immSize = full
		}
	case 'v':
		in.immSize = full
		if in.wide {
			in.immSize = 8
		}
	case 'o':
		in.immSize = 8
		if small {
			in.immSize = 4
		}
	}
	if n+int(in.immSize) > len(code) {
		return false
	}
	switch in.immSize {
	case 1:
		in.imm = int64(int8(code[n]))
	case 4:
		in.imm = int64(int32(binary.LittleEndian.Uint32(code[n:])))
	case 8:
		in.imm = int64(binary.LittleEndian.Uint64(code[n:]))
	}
	in.len = n + int(in.immSize)
	return true
}
