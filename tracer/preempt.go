package tracer

import (
	"fgtrace/bpf/wire"
	"fgtrace/btfx"
	"fgtrace/tracer/plan"
)

// Names of the kernel's variables that lead to the preempt count on x86, where
// it is per CPU: a variable of its own, or from 6.2 to 6.14 (64701838bf05) a
// member of pcpu_hot. A per-CPU variable's symbol is an offset to what
// __per_cpu_offset has for the CPU; since 6.15, a symbol like others.
const (
	symPerCPUOffset = "__per_cpu_offset"
	symPreemptCount = "__preempt_count"
	symPCPUHot      = "pcpu_hot"
)

func isPreemptVariable(name []byte) bool {
	switch string(name) {
	case symPerCPUOffset, symPreemptCount, symPCPUHot:
		return true
	}
	return false
}

// Bits of the preempt count (include/linux/preempt.h) that tell that an
// interrupt is being served: softirq, hardirq, NMI. Bottom halves that are only
// disabled count from 0x200. The 7.3 layout has more bits below, and 8 bytes.
const inSoftirq = 0x100

// interruptMasks are those bits, of one layout.
type interruptMasks struct{ hardirq, nmi uint64 }

func (m interruptMasks) set(c *wire.Control) {
	c.SoftirqMask, c.HardirqMask, c.NmiMask = inSoftirq, m.hardirq, m.nmi
	c.InterruptMask = inSoftirq | m.hardirq | m.nmi
}

func masksTo72() interruptMasks { return interruptMasks{hardirq: 0x000f0000, nmi: 0x00f00000} }
func masksSince73() interruptMasks {
	return interruptMasks{hardirq: 0x0f000000, nmi: 0xf0000000}
}

// preemptControl tells the programs where the preempt count is. Where that
// can't be found out, it leaves them with no mask: they then take every context
// for an interrupt, and show the tracer's own calls rather than hide others.
func preemptControl(k *plan.Kernel, s *Symbols) (c wire.Control) {
	if !k.Arch.PerCPUPreemptCount {
		task, ok := k.Types.FindType(btfx.KindStruct, "task_struct")
		if !ok {
			return c
		}
		field, err := k.Types.Member(task, "thread_info.preempt_count")
		if err != nil {
			return c
		}
		c.PreemptCount = uint64(field.Offset / 8)
		masksTo72().set(&c)
		return c
	}
	base, ok := s.variables[symPerCPUOffset]
	if !ok || base == 0 {
		return c
	}
	if at, ok := s.variables[symPreemptCount]; ok {
		c.PreemptCount = at
		masks := masksTo72()
		// 5.10's BTF does not have the variable.
		if v, ok := k.Types.FindVar(symPreemptCount); ok && v.Size == 8 {
			masks = masksSince73()
		}
		masks.set(&c)
	} else if at, ok := s.variables[symPCPUHot]; ok {
		hot, ok := k.Types.FindType(btfx.KindStruct, symPCPUHot)
		if !ok {
			return c
		}
		field, err := k.Types.Member(hot, "preempt_count")
		if err != nil {
			return c
		}
		c.PreemptCount = at + uint64(field.Offset/8)
		masksTo72().set(&c)
	} else {
		return c
	}
	c.PercpuBase = base
	return c
}
