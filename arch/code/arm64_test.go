package code

func examplesARM64() []example {
	return []example{
		{"flow", `
			d503245f ; bti c
			aa1e03e9 ; mov x9, x30
			94000400 ; bl 1008, ftrace's
			d503233f ; paciasp
			94000800 ; bl 2010
			b4000100 ; cbz x0, 34
			37198001 ; tbnz w1, #3, 3018
			54020000 ; b.eq 401c
			d63f0100 ; blr x8
			d73f0909 ; blraa x8, x9
			d50323bf ; autiasp
			d65f0bff ; retaa
			94001400 ; bl 5030
			14001800 ; b 6034`,
			Refs{Calls: []uint64{0x2010}, Jumps: []uint64{0x3018, 0x401c, 0x6034}, Indirect: 2}},
		{"addresses", `
			d503201f ; nop
			90000080 ; adrp x0, 10000
			b0000113 ; adrp x19, 21000
			91048c00 ; add x0, x0, #0x123
			f9402261 ; ldr x1, [x19, #0x40]
			39010661 ; strb w1, [x19, #0x41]
			3dc01660 ; ldr q0, [x19, #0x50]
			94000040 ; bl 11c
			91004002 ; add x2, x0, #0x10
			90000183 ; adrp x3, 30000
			94000080 ; bl 228
			91004064 ; add x4, x3, #0x10, of a register that is lost
			91400665 ; add x5, x19, #0x1, lsl #12
			aa0503f3 ; mov x19, x5
			f9402666 ; ldr x6, [x19, #0x48], of another register
			10280007 ; adr x7, 5003c
			58000088 ; ldr x8, 50
			18000049 ; ldr w9, 4c
			d61f0100 ; br x8
			00000000
			81234568 ; the lower half of a literal
			ffff8000`,
			Refs{Calls: []uint64{0x11c, 0x228}, Indirect: 1, Names: []uint64{
				0x10123, 0x22000, 0x5003c, 0xffff800081234568,
			}, Slots: []uint64{0x21040, 0x21041, 0x21050, 0x50, 0x4c}}},
		{"ways", `
			90000080 ; adrp x0, 10000
			b40000a1 ; cbz x1, 18
			90000100 ; adrp x0, 20000
			f9400402 ; ldr x2, [x0, #8]
			d4210000 ; brk #0x800
			94000040 ; bl 114
			f9400802 ; ldr x2, [x0, #0x10], where cbz leads to
			14000002 ; b 24
			94000080 ; bl 220
			90000094 ; adrp x20, 10000
			a94057f4 ; ldp x20, x21, [sp]
			f9400e82 ; ldr x2, [x20, #0x18]
			d65f03c0 ; ret`,
			Refs{Slots: []uint64{0x20008, 0x10010}}},
		{"a loop", `
			f1000400 ; subs x0, x0, #1
			54ffffe1 ; b.ne 0
			17fffffe ; b 0`,
			Refs{}},
		{"a probe's breakpoint", `
			d503201f ; nop
			d4200080 ; brk #4
			940000c0 ; bl 308`,
			Refs{Cut: true}},
		{"a probe at the entry", `
			d4200080 ; brk #4, in place of mov x9, x30
			d503201f ; nop
			940000c0 ; bl 308`,
			Refs{Calls: []uint64{0x308}}},
		{"a probe at the entry that is patched", `
			d4200080 ; brk #4
			94000400 ; bl 1004, ftrace's
			940000c0 ; bl 308`,
			Refs{Calls: []uint64{0x308}}},
		{"a probe at the entry, a landing pad", `
			d4200080 ; brk #4, in place of bti c
			aa1e03e9 ; mov x9, x30
			94000400 ; bl 1008, ftrace's
			940000c0 ; bl 30c`,
			Refs{Calls: []uint64{0x30c}}},
		{"a probe at the entry of what can't be patched", `
			d4200080 ; brk #4, in place of any
			b4000060 ; cbz x0, 10
			940000c0 ; bl 308`,
			Refs{Cut: true}},
		{"undefined", `
			b4000060 ; cbz x0, c
			02000000 ; none
			940000c0 ; bl 308
			940000c0 ; bl 30c
			00000000 ; udf #0
			940000c0 ; bl 314`,
			Refs{Calls: []uint64{0x30c}, Cut: true}},
		{"cut off", `
			d503201f ; nop
			1f20     ; half of another one`,
			Refs{Cut: true}},
	}
}
