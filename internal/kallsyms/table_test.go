package kallsyms

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

const smallList = `0000000000000000 A fixed_percpu_data
0000000000021a40 A pcpu_hot
ffffffff81000000 T startup_64
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81001000 t icmp_rcv.cold
ffffffff81002000 W weak_function
ffffffff81003000 T last_function
ffffffff81003100 T _etext
ffffffff81200000 D some_data
ffffffff81300000 T init_function
ffffffffc0001200 t nft_second	[nf_tables]
ffffffffc0001000 t $x	[nf_tables]
ffffffffc0001000 t nft_first	[nf_tables]
ffffffffc0001080 t $d	[nf_tables]
ffffffffc0001040 a nft_constant	[nf_tables]
ffffffffc0002000 d nft_data	[nf_tables]
ffffffffc0002000 T nft_third	[nf_tables]
ffffffffc0003000 r nft_strings	[nf_tables]
ffffffffc0100000 t ftrace_trampoline	[__builtin__ftrace]
ffffffffc0200000 t bpf_prog_6deef7357e7b4530_first	[bpf]
ffffffffc0200400 t bpf_prog_7dc8126e8768ea37_second	[bpf]
ffffffffc0500000 t bpf_trampoline_6442528104	[bpf]
ffffffffc0600000 t bpf_dispatcher_xdp	[bpf]
ffffffffc0700000 t kprobe_insn_page	[__builtin__kprobes]
`

func TestSymbol(t *testing.T) {
	table, err := Load(strings.NewReader(smallList))
	if err != nil {
		t.Fatal(err)
	}
	checkTable(t, table)
	checkSymbols(t, table, map[uint64]string{
		0:                  "",
		0x21a40:            "", // per-CPU
		0xffffffff80ffffff: "",
		0xffffffff81000000: "startup_64+0x0", // the first alias
		0xffffffff81000fff: "startup_64+0xfff",
		0xffffffff81001005: "icmp_rcv.cold+0x5",
		0xffffffff81002001: "weak_function+0x1",
		0xffffffff810030ff: "last_function+0xff",
		0xffffffff81003100: "", // _etext
		0xffffffff81200000: "", // data
		0xffffffff81300010: "init_function+0x10",
		0xffffffff813fffff: "init_function+0xfffff",
		0xffffffff81400000: "", // 1 MiB behind
		0xffffffffc0000fff: "",
		0xffffffffc0001000: "nft_first+0x0 [nf_tables]",
		0xffffffffc0001044: "nft_first+0x44 [nf_tables]", // behind a constant
		0xffffffffc00011ff: "nft_first+0x1ff [nf_tables]",
		0xffffffffc0001200: "nft_second+0x0 [nf_tables]",
		0xffffffffc0002000: "nft_third+0x0 [nf_tables]", // code before data
		0xffffffffc0003000: "",
		0xffffffffc0100010: "ftrace_trampoline+0x10 [__builtin__ftrace]",
		0xffffffffc0101000: "",
		0xffffffffc02003ff: "bpf_prog_6deef7357e7b4530_first+0x3ff [bpf]",
		0xffffffffc0200400: "bpf_prog_7dc8126e8768ea37_second+0x0 [bpf]",
		0xffffffffc03003ff: "bpf_prog_7dc8126e8768ea37_second+0xfffff [bpf]",
		0xffffffffc0300400: "",
		0xffffffffc0500fff: "bpf_trampoline_6442528104+0xfff [bpf]",
		0xffffffffc0501000: "",
		0xffffffffc0600001: "bpf_dispatcher_xdp+0x1 [bpf]",
		0xffffffffc0601000: "",
		0xffffffffc0700fff: "kprobe_insn_page+0xfff [__builtin__kprobes]",
		0xffffffffc0701000: "",
		0xffffffffffffffff: "",
	})
	if got, want := table.Len(), 14; got != want {
		t.Errorf("got %d symbols, want %d", got, want)
	}
}

func TestLoadBPF(t *testing.T) {
	// A module that was loaded behind a program ends it.
	const later = "ffffffffc0200800 t later\t[later]\n"
	table, err := LoadBPF(strings.NewReader(smallList + later))
	if err != nil {
		t.Fatal(err)
	}
	checkTable(t, table)
	checkSymbols(t, table, map[uint64]string{
		0xffffffff81000000: "",
		0xffffffffc0001000: "",
		0xffffffffc0100010: "ftrace_trampoline+0x10 [__builtin__ftrace]",
		0xffffffffc0200000: "bpf_prog_6deef7357e7b4530_first+0x0 [bpf]",
		0xffffffffc02007ff: "bpf_prog_7dc8126e8768ea37_second+0x3ff [bpf]",
		0xffffffffc0200800: "",
		0xffffffffc0500001: "bpf_trampoline_6442528104+0x1 [bpf]",
		0xffffffffc0700001: "kprobe_insn_page+0x1 [__builtin__kprobes]",
	})
	if got, want := table.Len(), 6; got != want {
		t.Errorf("got %d symbols, want %d", got, want)
	}
}

func checkSymbols(t *testing.T, table *Table, want map[uint64]string) {
	t.Helper()
	for addr, want := range want {
		got := ""
		if s, ok := table.Symbol(addr); ok {
			got = fmt.Sprintf("%s+%#x", s.Name, s.Offset)
			if s.Module != "" {
				got += " [" + s.Module + "]"
			}
			if s.Addr+s.Offset != addr {
				t.Errorf("%#x: got address %#x and offset %#x", addr, s.Addr, s.Offset)
			}
		}
		if got != want {
			t.Errorf("%#x: got %q, want %q", addr, got, want)
		}
	}
}

func TestLoadErrors(t *testing.T) {
	if _, err := Load(strings.NewReader("0 T a\n")); !errors.Is(err, ErrHidden) {
		t.Errorf("got %v", err)
	}
	var syntax *SyntaxError
	if _, err := LoadBPF(strings.NewReader("1 T a\n?\n")); !errors.As(err, &syntax) || syntax.Line != 2 {
		t.Errorf("got %v", err)
	}
	table, err := Load(strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := table.Symbol(1); ok {
		t.Errorf("got %+v", s)
	}
}

// More modules than fit the column must not alias.
func TestLoadManyModules(t *testing.T) {
	var b strings.Builder
	for i := range 1 << 16 {
		fmt.Fprintf(&b, "%x t f\t[m%d]\n", 16*(i+1), i)
	}
	if _, err := Load(strings.NewReader(b.String())); err == nil {
		t.Error("got no error")
	}
}
