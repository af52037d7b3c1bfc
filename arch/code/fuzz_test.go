package code

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzScan reads code that is none. What it finds is a panic, a hang, or an
// address that is not in the bytes.
func FuzzScan(f *testing.F) {
	for _, e := range examplesAMD64() {
		f.Add(assemble(f, "amd64", e.listing), uint64(baseAMD64), uint64(lowestAMD64))
	}
	for _, e := range examplesARM64() {
		f.Add(assemble(f, "arm64", e.listing), uint64(baseARM64), uint64(lowestARM64))
	}
	f.Add([]byte{0xeb, 0xfe, 0x74, 0xff}, ^uint64(1), uint64(0))
	f.Fuzz(func(t *testing.T, code []byte, addr, lowest uint64) {
		for arch, holds := range map[string]func([]byte, uint64) func(uint64) bool{"amd64": heldAMD64, "arm64": heldARM64} {
			before := slices.Clone(code)
			refs, err := Scan(arch, code, addr, lowest)
			if err != nil {
				t.Fatal(err)
			}
			again, _ := Scan(arch, code, addr, lowest)
			if diff := cmp.Diff(refs, again); diff != "" {
				t.Errorf("%s: other references the second time\n%s", arch, diff)
			}
			if !slices.Equal(before, code) {
				t.Errorf("%s: changed the code", arch)
			}
			held := holds(code, addr)
			check := func(what string, targets []uint64, wrong func(uint64) bool) {
				seen := make(map[uint64]bool)
				for _, target := range targets {
					if !held(target) || seen[target] || wrong(target) {
						t.Errorf("%s: %s has %#x", arch, what, target)
					}
					seen[target] = true
				}
			}
			check("Calls", refs.Calls, func(uint64) bool { return false })
			check("Jumps", refs.Jumps, func(a uint64) bool { return a-addr < uint64(len(code)) })
			check("Names", refs.Names, func(a uint64) bool { return a < lowest || a > ^uint64(4095) })
			check("Slots", refs.Slots, func(a uint64) bool { return a < lowest || a > ^uint64(4095) })
			if refs.Indirect < 0 || refs.Indirect > len(code) {
				t.Errorf("%s: %d indirect", arch, refs.Indirect)
			}
		}
	})
}

// heldAMD64 tells what can be an address, wherever an instruction begins: 8
// bytes, or 1 or 4 as they are or from the instruction's end on.
func heldAMD64(code []byte, addr uint64) func(uint64) bool {
	held := make(map[uint64]bool)
	for at := range code {
		short := uint64(int64(int8(code[at])))
		held[addr+uint64(at)+1+short] = true
		if at+4 <= len(code) {
			long := uint64(int64(int32(binary.LittleEndian.Uint32(code[at:]))))
			held[long] = true
			for imm := range uint64(5) { // behind a displacement
				held[addr+uint64(at)+4+imm+long] = true
			}
			held[uint64(uint32(long))] = true // moffs with the prefix 67
		}
		if at+8 <= len(code) {
			held[binary.LittleEndian.Uint64(code[at:])] = true
		}
	}
	return func(target uint64) bool { return held[target] }
}

// heldARM64 tells what the words can be the address of, whichever of them ADRP
// goes with, and whatever they are.
func heldARM64(code []byte, addr uint64) func(uint64) bool {
	held := make(map[uint64]bool)
	var pages []uint64
	offsets := make(map[uint64]bool)
	for at := 0; at+4 <= len(code); at += 4 {
		word, pc := binary.LittleEndian.Uint32(code[at:]), addr+uint64(at)
		for _, bits := range [][2]int{{0, 26}, {5, 19}, {5, 14}} {
			target := pc + uint64(signed(word, bits[0], bits[1])*4)
			held[target] = true
			if off := target - addr; off < uint64(len(code)) && len(code)-int(off) >= 8 {
				held[binary.LittleEndian.Uint64(code[off:])] = true
			}
		}
		imm := signed(word, 5, 19)<<2 | int64(word>>29&3)
		held[pc+uint64(imm)] = true
		if word&0x9f000000 == 0x90000000 {
			pages = append(pages, pc&^4095+uint64(imm)<<12)
		}
		for _, scale := range []int{0, 1, 2, 3, 4, 12} {
			offsets[uint64(word>>10&4095)<<scale] = true
		}
	}
	return func(target uint64) bool {
		return held[target] || slices.ContainsFunc(pages, func(page uint64) bool { return offsets[target-page] })
	}
}
