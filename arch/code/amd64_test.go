package code

func examplesAMD64() []example {
	return []example{
		{"patched behind endbr64", `
			f3 0f 1e fa    ; endbr64
			e8 fb 0f 00 00 ; call 1004
			55             ; push %rbp
			e8 fb 1f 00 00 ; call 200a
			c3             ; ret`,
			Refs{Calls: []uint64{0x200a}}},
		{"patched behind what was endbr64", `
			66 0f 1f 00    ; nopw (%rax)
			e9 fb 0f 00 00 ; jmp 1004
			c3             ; ret`,
			Refs{}},
		{"not patched behind a store", `
			48 89 47 08    ; mov %rax,8(%rdi)
			e8 fb 0f 00 00 ; call 1004
			c3             ; ret`,
			Refs{Calls: []uint64{0x1004}}},
		{"patched at the entry; a static key that is off", `
			e8 fb 0f 00 00       ; call 1000
			0f 1f 44 00 00       ; nopl 0(%rax,%rax,1)
			85 ff                ; test %edi,%edi
			0f 84 00 30 00 00    ; je 3012
			e8 fb 1f 00 00       ; call 2012
			e8 f6 1f 00 00       ; call 2012
			e9 fb 3f 00 00       ; jmp 401c
			e8 fb 4f 00 00       ; call 5021`,
			Refs{Calls: []uint64{0x2012}, Jumps: []uint64{0x3012, 0x401c}}},
		{"a static key that is on", `
			0f 1f 44 00 00 ; nopl 0(%rax,%rax,1)
			e9 01 00 00 00 ; jmp b
			c3             ; ret
			e8 fb 01 00 00 ; call 20b
			eb f8          ; jmp a`,
			Refs{Calls: []uint64{0x20b}}},
		{"the same, off", `
			0f 1f 44 00 00 ; nopl 0(%rax,%rax,1)
			0f 1f 44 00 00 ; nopl 0(%rax,%rax,1)
			c3             ; ret
			e8 fb 01 00 00 ; call 20b
			eb f8          ; jmp a`,
			Refs{}},
		{"a loop", `
			89 c3 ; mov %eax,%ebx
			ff cb ; dec %ebx
			75 fc ; jne 2
			eb f8 ; jmp 0`,
			Refs{}},
		{"addresses", `
			0f 1f 44 00 00                ; nopl 0(%rax,%rax,1)
			48 c7 c7 10 00 00 82          ; mov $0xffffffff82000010,%rdi
			48 8b 34 c5 30 00 00 82       ; mov table(,%rax,8),%rsi
			48 b8 20 00 00 c0 ff ff ff ff ; movabs $0xffffffffc0000020,%rax
			48 8d 15 00 00 03 00          ; lea 0x30000(%rip),%rdx
			c6 05 45 23 01 00 01          ; movb $1,0x12345(%rip)
			65 ff 05 45 23 02 00          ; incl %gs:0x22345(%rip)
			48 81 7f 08 40 00 00 82       ; cmpq $0xffffffff82000040,8(%rdi)
			68 50 00 00 82                ; push $0xffffffff82000050
			a0 60 00 00 82 ff ff ff ff    ; movabs 0xffffffff82000060,%al
			0f b6 80 70 00 00 82          ; movzbl table(%rax),%eax
			48 c7 c7 10 00 00 82          ; mov $0xffffffff82000010,%rdi
			c3                            ; ret`,
			Refs{Names: []uint64{
				0xffffffff82000010, 0xffffffff82000030, 0xffffffffc0000020, 0x30025,
				0xffffffff82000040, 0xffffffff82000050, 0xffffffff82000060, 0xffffffff82000070,
			}, Slots: []uint64{0x12371, 0x22378}}},
		{"no addresses", `
			b8 ea ff ff ff       ; mov $-22,%eax
			48 c7 c0 ea ff ff ff ; mov $-22,%rax
			48 25 70 00 00 82    ; and $0xffffffff82000070,%rax
			b9 80 00 00 82       ; mov $0x82000080,%ecx
			48 8b 85 f8 fe ff ff ; mov -0x108(%rbp),%rax
			48 c7 c7 00 10 00 00 ; mov $0x1000,%rdi
			66 68 00 82          ; pushw $0x8200
			c3                   ; ret`,
			Refs{}},
		{"indirect", `
			48 85 ff             ; test %rdi,%rdi
			74 0a                ; je f
			eb 08                ; jmp f
			48 8b 05 00 01 00 00 ; mov 0x100(%rip),%rax
			c3                   ; ret
			ff 15 00 02 00 00    ; call *0x200(%rip)
			ff d0                ; call *%rax
			ff e0                ; jmp *%rax
			e8 fb 00 00 00       ; call 119`,
			Refs{Slots: []uint64{0x215}, Indirect: 3}},
		{"traps", `
			85 ff                ; test %edi,%edi
			75 09                ; jne d
			0f 0b                ; ud2
			48 8b 05 00 01 00 00 ; mov 0x100(%rip),%rax
			78 0b                ; js 1a
			e8 fb 00 00 00       ; call 10f
			cc                   ; int3
			e8 fb 01 00 00       ; call 215
			f4                   ; hlt
			e8 fb 02 00 00       ; call 31b
			67 0f b9 40 02       ; ud1 2(%eax),%eax
			e8 fb 01 00 00       ; call 225`,
			Refs{Calls: []uint64{0x10f, 0x31b}}},
		{"a call that never returns, at the entry", `
			e8 fb 0f 00 00 ; call 1000
			cc             ; int3
			e8 fb 01 00 00 ; call 201`,
			Refs{}},
		{"udb", `
			90                   ; nop
			d6                   ; udb
			e8 fb 01 00 00       ; call 202`,
			Refs{}},
		{"a probe's breakpoint", `
			90                   ; nop
			cc                   ; int3, in place of another one
			e8 fb 01 00 00       ; call 202`,
			Refs{Cut: true}},
		{"undefined", `
			74 01                ; je 3
			06                   ; none
			e8 fb 01 00 00       ; call 203
			c3                   ; ret`,
			Refs{Calls: []uint64{0x203}, Cut: true}},
		{"cut off", `
			48 8b 05 00 01 00    ; mov 0x100(%rip),%rax, without its last byte`,
			Refs{Cut: true}},
		{"displacements", `
			c5 fe 6f 05 00 10 00 00          ; vmovdqu 0x1000(%rip),%ymm0
			62 f3 75 48 44 15 00 20 00 00 11 ; vpclmulhqhqdq 0x2000(%rip),%zmm1,%zmm2
			c4 e3 7b f0 05 00 30 00 00 05    ; rorx $5,0x3000(%rip),%eax
			48 69 05 00 40 00 00 45 23 01 00 ; imul $0x12345,0x4000(%rip),%rax
			83 3d 00 50 00 00 05             ; cmpl $5,0x5000(%rip)
			f6 05 00 60 00 00 01             ; testb $1,0x6000(%rip)
			f6 15 00 70 00 00                ; notb 0x7000(%rip)
			66 0f 3a 61 0d 00 80 00 00 03    ; pcmpestri $3,0x8000(%rip),%xmm1
			f0 48 0f c7 0d 00 90 00 00       ; lock cmpxchg16b 0x9000(%rip)
			f2 48 0f 38 f1 05 00 a0 00 00    ; crc32q 0xa000(%rip),%rax
			48 0f c7 2f                      ; xsaves64 (%rdi)
			f3 0f c7 f8                      ; rdpid %rax
			2e e8 fb 0f 00 00                ; cs call 1062
			2e e9 fb 1f 00 00                ; cs jmp 2068`,
			Refs{Calls: []uint64{0x1062}, Jumps: []uint64{0x2068}, Slots: []uint64{
				0x1008, 0x2013, 0x301d, 0x4028, 0x502f, 0x6036, 0x703c, 0x8046, 0x904f, 0xa059,
			}}},
	}
}
