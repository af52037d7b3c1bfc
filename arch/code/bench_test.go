package code

import (
	"bytes"
	"testing"
)

// BenchmarkScan reads functions of 100 instructions with 12 references each.
func BenchmarkScan(b *testing.B) {
	b.Run("amd64", func(b *testing.B) {
		part := assemble(b, "amd64", `
			48 89 fb             ; mov %rdi,%rbx
			48 8b 05 00 00 01 00 ; mov 0x10000(%rip),%rax
			48 85 c0             ; test %rax,%rax
			74 08                ; je
			48 8b 43 08          ; mov 8(%rbx),%rax
			89 45 f8             ; mov %eax,-8(%rbp)
			90                   ; nop
			48 c7 c7 10 00 00 82 ; mov $0xffffffff82000010,%rdi
			e8 00 00 01 00       ; call
			85 c0                ; test %eax,%eax`)
		benchmark(b, "amd64", part, []byte{0xc3}, baseAMD64, lowestAMD64)
	})
	b.Run("arm64", func(b *testing.B) {
		part := assemble(b, "arm64", `
			aa0003f3 ; mov x19, x0
			90000080 ; adrp x0, 10000
			f9402001 ; ldr x1, [x0, #0x40]
			b4000081 ; cbz x1
			f9400662 ; ldr x2, [x19, #8]
			b90007e2 ; str w2, [sp, #4]
			d503201f ; nop
			91048c00 ; add x0, x0, #0x123
			94000400 ; bl
			2a0003f4 ; mov w20, w0`)
		benchmark(b, "arm64", part, []byte{0xc0, 0x03, 0x5f, 0xd6}, baseARM64, lowestARM64)
	})
}

func benchmark(b *testing.B, arch string, part, end []byte, base, lowest uint64) {
	code := append(bytes.Repeat(part, 10), end...)
	b.ReportAllocs()
	for b.Loop() {
		if refs, err := Scan(arch, code, base, lowest); err != nil || refs.Cut {
			b.Fatal(refs, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/101, "ns/insn")
}
