// Package arch describes the architectures that trace runs on. An architecture
// is a value, so that each is compiled, and tested, everywhere.
package arch

import (
	"fmt"
	"slices"
)

// Arch is what differs between architectures.
type Arch struct {
	// Name is Go's: amd64, arm64.
	Name string

	// ArgRegisters is the number of 8-byte argument words that the calling
	// convention passes in registers. Trampolines of some kernels take no more.
	ArgRegisters int

	// PatchSpan bounds the trampoline's call in a function's first bytes: its
	// return address lies in (ip, ip+PatchSpan]. The call follows an endbr64 or
	// bti where the function has one, which is a property of each function, so
	// only the range is certain.
	PatchSpan uint64

	// Regs is where struct pt_regs has what a probe reads.
	Regs Regs

	// ProbeStacks tells that a stack taken by a probe at a function's entry has
	// its caller. On arm64 that is in a register only, and the kernel leaves it
	// out.
	ProbeStacks bool

	// PatchSites are the bytes that an instruction which ftrace may have patched
	// begins with, unpatched and patched, and how to compare them: see Patchable.
	PatchSites []PatchSite

	// LandsOn are the instructions, of 4 bytes, that a function may begin with
	// which is called through a pointer. Empty: any.
	LandsOn [][4]byte

	// PerCPUPreemptCount tells that the preempt count is a per-CPU variable;
	// elsewhere it is in the task's thread_info.
	PerCPUPreemptCount bool

	// DirectCallsSince is the first kernel series whose ftrace can call a
	// trampoline from a kernel function, for messages only; "" where all can.
	DirectCallsSince string
}

// Regs holds offsets in struct pt_regs, in bytes.
type Regs struct {
	Args       []int    // of the ArgRegisters, in order
	Names      []string // theirs
	Retval, SP int

	// StackArgs is where the arguments are that don't fit in registers, from the
	// stack pointer at the entry on.
	StackArgs int
}

// PatchSite is an instruction that ftrace puts where it patches a function.
type PatchSite struct {
	Bytes, Mask []byte
	IsBranch    bool // one of 5 bytes, the last four of which are an offset
	IsJump      bool // not a call
}

// LandingPad tells whether a function that begins with code may be called through
// pointers, on a kernel that checks it.
func (a Arch) LandingPad(code []byte) bool {
	if len(code) < 4 {
		return false
	}
	return len(a.LandsOn) == 0 || slices.Contains(a.LandsOn, [4]byte(code))
}

// Patchable tells whether a function that begins with code may be one that
// ftrace patches: whether the instruction is there that it patches, or one that
// it put there. code should have PatchSpan bytes and those of an instruction.
func (a Arch) Patchable(code []byte) bool {
	_, _, ok := a.patchSite(code)
	return ok
}

// Jumps tells whether the instruction at the patch site of a function that begins
// with code is a jump.
func (a Arch) Jumps(code []byte) bool {
	_, site, ok := a.patchSite(code)
	return ok && site.IsJump
}

// BranchTarget returns where the branch leads to that is at the patch site of a
// function at addr, if there is one: to a trampoline if ftrace has put it there.
// On amd64 alone, the function's own code can look like that.
func (a Arch) BranchTarget(code []byte, addr uint64) (target uint64, ok bool) {
	at, site, ok := a.patchSite(code)
	if !ok || !site.IsBranch || len(code) < at+5 {
		return 0, false
	}
	offset := int32(uint32(code[at+1]) | uint32(code[at+2])<<8 | uint32(code[at+3])<<16 | uint32(code[at+4])<<24)
	return addr + uint64(at) + 5 + uint64(int64(offset)), true
}

func (a Arch) patchSite(code []byte) (at int, site PatchSite, ok bool) {
	for at := 0; at < int(a.PatchSpan) && at < len(code); at += 4 {
		for _, site := range a.PatchSites {
			if site.at(code[at:]) {
				return at, site, true
			}
		}
	}
	return 0, PatchSite{}, false
}

func (p PatchSite) at(code []byte) bool {
	if len(code) < len(p.Bytes) {
		return false
	}
	for i, b := range p.Bytes {
		if (code[i]^b)&p.Mask[i] != 0 {
			return false
		}
	}
	return true
}

// AMD64 is x86-64. The patched call is 5 bytes, endbr64 4.
func AMD64() Arch {
	return Arch{
		Name:               "amd64",
		ArgRegisters:       6,
		PatchSpan:          9,
		PerCPUPreemptCount: true,
		// arch/x86/include/uapi/asm/ptrace.h
		Regs: Regs{Args: []int{112, 104, 96, 88, 72, 64}, Names: []string{"rdi", "rsi", "rdx", "rcx", "r8", "r9"},
			Retval: 80, SP: 152, StackArgs: 8},
		ProbeStacks: true,
		LandsOn:     [][4]byte{{0xf3, 0x0f, 0x1e, 0xfa}}, // endbr64
		PatchSites: []PatchSite{
			{Bytes: []byte{0x0f, 0x1f, 0x44, 0x00, 0x00}, Mask: []byte{0xff, 0xff, 0xff, 0xff, 0xff}}, // nopl 0(%rax,%rax,1)
			// The same on what is not Intel's, up to 5.12 (a89dfde3dc3c).
			{Bytes: []byte{0x66, 0x66, 0x66, 0x66, 0x90}, Mask: []byte{0xff, 0xff, 0xff, 0xff, 0xff}},
			{Bytes: []byte{0xe8}, Mask: []byte{0xff}, IsBranch: true},               // call
			{Bytes: []byte{0xe9}, Mask: []byte{0xff}, IsBranch: true, IsJump: true}, // jmp
		},
	}
}

// ARM64 is AArch64. The patch site is two instructions (arch/arm64/kernel/ftrace.c:
// mov x9, x30; bl), behind a bti where there is one, and behind a paciasp.
func ARM64() Arch {
	return Arch{
		Name:         "arm64",
		ArgRegisters: 8,
		PatchSpan:    16,
		// arch/arm64/include/asm/ptrace.h
		Regs: Regs{Args: []int{0, 8, 16, 24, 32, 40, 48, 56}, Names: []string{"x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7"},
			Retval: 0, SP: 248},
		PatchSites: []PatchSite{
			{Bytes: []byte{0x1f, 0x20, 0x03, 0xd5}, Mask: []byte{0xff, 0xff, 0xff, 0xff}}, // nop
			{Bytes: []byte{0xe9, 0x03, 0x1e, 0xaa}, Mask: []byte{0xff, 0xff, 0xff, 0xff}}, // mov x9, x30
		},
		DirectCallsSince: "6.4",
	}
}

// ByName returns the architecture that Go calls so.
func ByName(name string) (Arch, error) {
	for _, a := range []Arch{AMD64(), ARM64()} {
		if a.Name == name {
			return a, nil
		}
	}
	return Arch{}, fmt.Errorf("find architecture %q: only amd64 and arm64 are supported", name)
}
