// Package arch describes the architectures that trace runs on. An architecture
// is a value, so that each is compiled, and tested, everywhere.
package arch

import "fmt"

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

	// PerCPUPreemptCount tells that the preempt count is a per-CPU variable;
	// elsewhere it is in the task's thread_info.
	PerCPUPreemptCount bool

	// DirectCallsSince is the first kernel series whose ftrace can call a
	// trampoline from a kernel function, for messages only; "" where all can.
	DirectCallsSince string
}

// AMD64 is x86-64. The patched call is 5 bytes, endbr64 4.
func AMD64() Arch {
	return Arch{
		Name:               "amd64",
		ArgRegisters:       6,
		PatchSpan:          9,
		PerCPUPreemptCount: true,
	}
}

// ARM64 is AArch64. The patch site is two instructions (arch/arm64/kernel/ftrace.c:
// mov x9, x30; bl), behind a bti where there is one, and behind a paciasp.
func ARM64() Arch {
	return Arch{
		Name:             "arm64",
		ArgRegisters:     8,
		PatchSpan:        16,
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
