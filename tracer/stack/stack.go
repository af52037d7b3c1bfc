// Package stack makes true call chains of the return addresses that
// bpf_get_stack collects in a program called by a trampoline.
package stack

import "strings"

// Symbol is what is known of an address.
type Symbol struct {
	Func   string
	Module string // "" for vmlinux; "bpf" for BPF programs and trampolines
	Offset uint64 // of the address in the function
}

// Symbols names addresses.
type Symbols interface {
	Symbol(addr uint64) (Symbol, bool)
}

// Frame is one function of a chain. Addr is the tracee's first instruction, or
// the address that the frame returns to. Func is "" where nothing is known.
type Frame struct {
	Addr uint64
	Symbol
}

// Chain is a call chain, the tracee first. Truncated says that the kernel cut
// it off: there are callers that it doesn't name.
type Chain struct {
	Frames    []Frame
	Truncated bool
}

// Tracee is the function that a chain begins with.
type Tracee struct {
	Func, Module string
	Addr         uint64 // 0 if unknown
	PatchSpan    uint64 // arch.Arch's
}

// Build makes the chain of a stack that was taken in the tracee's program. limit
// is the number of frames that the kernel collects at most.
//
// Whether the tracee has a frame of its own depends on how the trampoline was
// entered, which other programs on the function decide, and which can change
// from call to call. Entered by call, the first return address lies just behind
// the patched instruction; entered by jmp (Linux 6.19, 25e4e3565d45), it is
// missing and the first return address is the caller's. No other return address
// can lie in that range: it holds that one call.
func Build(raw []uint64, tracee Tracee, syms Symbols, limit int) Chain {
	chain := Chain{Truncated: len(raw) >= limit}
	chain.Frames = append(make([]Frame, 0, len(raw)+1), Frame{
		Addr:   tracee.Addr,
		Symbol: Symbol{Func: tracee.Func, Module: tracee.Module},
	})

	raw = skipTracer(raw, syms)
	rest := make([]Frame, len(raw))
	for i, addr := range raw {
		rest[i] = Frame{Addr: addr}
		if i > 0 && isInterruptEntry(rest[i-1].Symbol) {
			// Not a return address, but the instruction that was interrupted.
			rest[i].Symbol, _ = syms.Symbol(addr)
			continue
		}
		rest[i].Symbol = returnSymbol(syms, addr)
	}
	if len(rest) > 0 && tracee.patched(rest[0]) {
		rest = rest[1:]
	}
	chain.Frames = appendCallers(chain.Frames, rest, tracee.PatchSpan)

	if last := chain.Frames[len(chain.Frames)-1]; isReturnHook(last.Symbol) {
		chain.Truncated = true
	}
	return chain
}

// returnSymbol names the function that a return address lies in. That is the one
// of the call before it: a function that ends with a call which never returns
// has its return address behind its end.
func returnSymbol(syms Symbols, addr uint64) Symbol {
	if sym, ok := syms.Symbol(addr); ok && (sym.Offset != 0 || isReturnHook(sym)) {
		return sym
	}
	sym, ok := syms.Symbol(addr - 1)
	if ok {
		sym.Offset++
	}
	return sym
}

// patched tells whether a frame is the call of the tracee's own trampoline.
func (t Tracee) patched(f Frame) bool {
	if t.Addr != 0 {
		return f.Addr > t.Addr && f.Addr <= t.Addr+t.PatchSpan
	}
	return f.Func == t.Func && f.Module == t.Module && f.Offset <= t.PatchSpan
}

// skipTracer drops what a stack begins with: the program, which arm64 lists
// twice, and its trampoline. That one may be gone and without a name by now, as
// every attach to the tracee makes a new one; but nothing else calls a program.
func skipTracer(raw []uint64, syms Symbols) []uint64 {
	programs := 0
	for programs < len(raw) && isProgram(returnSymbol(syms, raw[programs])) {
		programs++
	}
	if programs == 0 || programs == len(raw) {
		return raw
	}
	if caller := returnSymbol(syms, raw[programs]); caller.Func != "" && !isTrampoline(caller) {
		return raw
	}
	return raw[programs+1:]
}

// appendCallers appends the callers without what tracing put among them: a
// traced function further up is there with its body's frame; then comes its
// trampoline and, if that was entered by call, the patched instruction.
func appendCallers(chain, frames []Frame, span uint64) []Frame {
	for i := 0; i < len(frames); i++ {
		if !isTrampoline(frames[i].Symbol) {
			chain = append(chain, frames[i])
			continue
		}
		body := chain[len(chain)-1]
		if i+1 < len(frames) && isBody(body, frames[i+1]) && frames[i+1].Offset <= span {
			i++
		}
	}
	return chain
}

// isBody tells whether a frame lies in the body of the function that another
// one lies in: in the function, or in the part of it that the compiler moved
// away as unlikely (func.cold, func.cold.12).
func isBody(body, f Frame) bool {
	if hot, _, ok := strings.Cut(body.Func, ".cold"); ok {
		return hot == f.Func && body.Module == f.Module
	}
	return body.Func != "" && body.Func == f.Func && body.Addr-body.Offset == f.Addr-f.Offset
}

// isProgram knows BPF programs by the names that kernel/bpf/core.c gives them.
func isProgram(s Symbol) bool { return s.Module == "bpf" && strings.HasPrefix(s.Func, "bpf_prog_") }

// isTrampoline knows the images of kernel/bpf/trampoline.c by their symbols.
func isTrampoline(s Symbol) bool {
	return s.Module == "bpf" && strings.HasPrefix(s.Func, "bpf_trampoline_")
}

// isInterruptEntry knows the code that interrupts and exceptions enter the kernel
// through: on x86 asm_sysvec_apic_timer_interrupt, asm_common_interrupt,
// asm_exc_page_fault (arch/x86/include/asm/idtentry.h), on arm64 el1h_64_irq
// (arch/arm64/kernel/entry.S), el1_irq up to 5.10. Below it lies what they hit.
func isInterruptEntry(s Symbol) bool {
	for _, prefix := range []string{"asm_sysvec_", "asm_common_interrupt", "asm_spurious_interrupt", "asm_exc_", "el1h_64_", "el1t_64_", "el1_"} {
		if strings.HasPrefix(s.Func, prefix) {
			return true
		}
	}
	return false
}

// isReturnHook knows the code that a replaced return address leads to. A stack
// that ends there could not be followed through it.
func isReturnHook(s Symbol) bool {
	switch s.Func {
	case "return_to_handler", "arch_rethook_trampoline", "__kretprobe_trampoline", "kretprobe_trampoline":
		return true
	}
	return false
}
