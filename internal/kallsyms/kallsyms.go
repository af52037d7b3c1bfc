// Package kallsyms reads the kernel's symbol list, /proc/kallsyms.
//
// A line is an address, a type letter, a name and, for everything that is not
// part of vmlinux, a module (s_show in kernel/kallsyms.c):
//
//	ffffffff81a3c2f0 T tcp_sendmsg
//	ffffffffc0a01000 t nft_do_chain	[nf_tables]
//	ffffffffc0201a3c t bpf_prog_6deef7357e7b4530_sd_devices	[bpf]
//
// The file costs the kernel far more to produce than it costs to parse, so each
// function here makes one pass and keeps only what its caller asked for.
package kallsyms

import (
	"errors"
	"fmt"
	"os"
)

// Pseudo modules: kernel/kallsyms.c names text that is generated at run time
// as if it belonged to one of these.
const (
	ModuleBPF     = "bpf"                // programs, trampolines, dispatchers: get_ksymbol_bpf
	ModuleFtrace  = "__builtin__ftrace"  // ftrace_get_trampoline_kallsym in kernel/trace/ftrace.c
	ModuleKprobes = "__builtin__kprobes" // get_ksymbol_kprobe
)

// ErrHidden says that every address in the list is zero. The kernel does that
// for a reader without CAP_SYSLOG, and for all readers when
// kernel.kptr_restrict is 2 (kallsyms_show_value in kernel/ksyms_common.c).
var ErrHidden = errors.New("kernel addresses are hidden")

// SyntaxError is a line that is not of the form the kernel writes.
type SyntaxError struct {
	Line int    // counted from 1
	Text string // the line, without its newline, cut to maxQuoted bytes
	Msg  string
}

// maxQuoted keeps an error about a binary blob readable.
const maxQuoted = 128

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("parse symbol: line %d: %s: %q", e.Line, e.Msg, e.Text)
}

// Open opens the running kernel's symbol list. The file is generated while it
// is read: to see programs that were loaded since, open it again.
func Open() (*os.File, error) {
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		return nil, fmt.Errorf("open kernel symbols: %w", err)
	}
	return f, nil
}

// isCode reports whether a symbol of this type names instructions. Weak
// symbols (w) are functions, weak objects have v; i is an indirect function.
func isCode(typ byte) bool {
	switch typ {
	case 't', 'T', 'w', 'W', 'i':
		return true
	}
	return false
}

// isAbsolute reports whether a symbol's value is a number or an offset into the
// per-CPU area, rather than an address.
func isAbsolute(typ byte) bool { return typ == 'a' || typ == 'A' }
