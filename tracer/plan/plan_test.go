package plan

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fgtrace/arch"
	"fgtrace/internal/btftest"
	"fgtrace/internal/golden"
	"fgtrace/internal/kallsyms"
	"fgtrace/tracer/spec"
)

// kernel is a snapshot with the functions of btfx's fixture, and two modules.
func kernel(t *testing.T) *Kernel {
	t.Helper()
	raw, err := os.ReadFile("../../btfx/testdata/vmlinux.btf")
	if err != nil {
		t.Fatal(err)
	}
	types := btftest.Parse(t, raw, nil)
	return &Kernel{
		Release: "6.18.0", Arch: arch.AMD64(), Types: types,
		Modules: func() ([]Module, error) {
			return []Module{
				{"nf_tables", btftest.Module(t, raw, types, "icmp_rcv", "nft_do_chain", "nft_init", "helper")},
				{"xt_conn", btftest.Module(t, raw, types, "tcp_sendmsg", "xt_conn_mt", "helper")},
			}, nil
		},
	}
}

// list is what /proc/kallsyms of that kernel has.
func list(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("testdata/kallsyms")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func parse(t *testing.T, args ...string) []spec.Target {
	t.Helper()
	targets, err := spec.ParseTargets(args)
	if err != nil {
		t.Fatal(err)
	}
	return targets
}

// resolve makes a plan and completes it with the symbols.
func resolve(t *testing.T, k *Kernel, symbols string, args ...string) (*Plan, error) {
	t.Helper()
	targets := parse(t, args...)
	p, err := Resolve(targets, k)
	if err != nil {
		t.Fatal(err)
	}
	s := NewSymbols(targets, p)
	if err := kallsyms.Scan(strings.NewReader(symbols), func(addr uint64, typ byte, name, module []byte) bool {
		s.Offer(addr, typ, name, module)
		return true
	}); err != nil && !errors.Is(err, kallsyms.ErrHidden) {
		t.Fatal(err)
	}
	return p, s.Check(p)
}

// summary is a plan in short: "icmp_rcv@10 -vfs_read:reason".
func summary(p *Plan) string {
	var parts []string
	for _, target := range p.Targets {
		parts = append(parts, fmt.Sprintf("%s@%x", qualified(target.Func, target.Module), target.Addr))
	}
	for _, s := range p.Skipped {
		parts = append(parts, fmt.Sprintf("-%s: %s", qualified(s.Func, s.Module), s.Reason))
	}
	return strings.Join(parts, "\n")
}

func qualified(name, module string) string {
	if module == "" {
		return name
	}
	return name + "[" + module + "]"
}

func TestResolve(t *testing.T) {
	for args, want := range map[string]string{
		"icmp_rcv":                         "icmp_rcv@ffffffff81001000",
		"icmp_rcv icmp_rcv":                "icmp_rcv@ffffffff81001000",
		"icmp_rcv,tcp_v4_rcv":              "icmp_rcv@ffffffff81001000\ntcp_v4_rcv@ffffffff81001200",
		"tcp_v4_rcv icmp_rcv":              "icmp_rcv@ffffffff81001000\ntcp_v4_rcv@ffffffff81001200",
		"icmp_* icmp_rcv":                  "icmp_rcv@ffffffff81001000",
		"icmp_rcv icmp_*,*_rcv,icmp_r?v":   "icmp_rcv@ffffffff81001000\nip_rcv@ffffffff81001100\ntcp_v4_do_rcv@ffffffff81001300\ntcp_v4_rcv@ffffffff81001200",
		"vfs_[rw]*":                        "vfs_read@ffffffff81002000\nvfs_write@ffffffff81002100",
		"nft_do_chain":                     "nft_do_chain[nf_tables]@ffffffffc0001000",
		"nft_*":                            "nft_do_chain[nf_tables]@ffffffffc0001000\n-nft_init[nf_tables]: no symbol in /proc/kallsyms",
		"helper":                           "helper[nf_tables]@ffffffffc0001200\nhelper[xt_conn]@ffffffffc0002200",
		"helper,help*":                     "helper[nf_tables]@ffffffffc0001200\nhelper[xt_conn]@ffffffffc0002200",
		"_printk":                          "-_printk: variadic: a trampoline can't pass on its arguments",
		"make_kuid":                        "-make_kuid: returns kuid_t, a struct: no trampoline passes that on",
		"schedule":                         "schedule@ffffffff81003000",
		"ZSTD_adjustCParams":               "-ZSTD_adjustCParams: argument of type ZSTD_compressionParameters has 28 bytes, more than the 16 that a BPF trampoline saves",
		"fl_create":                        "-fl_create: no symbol in /proc/kallsyms",
		"bpf_probe_read_kernel_str":        "-bpf_probe_read_kernel_str: on the deny list: runs in every program of ours",
		"bpf_probe_read_*":                 "-bpf_probe_read_kernel_str: on the deny list: runs in every program of ours",
		"skb_copy_bits":                    "-skb_copy_bits: a duplicate symbol: 2 functions have this name",
		"static_no_btf":                    "-static_no_btf: no BTF prototype",
		"static_no_btf static_*":           "-static_no_btf: no BTF prototype\n-static_other: no BTF prototype",
		"static_*":                         "-static_no_btf: no BTF prototype\n-static_other: no BTF prototype",
		"tcp_v4_d*":                        "tcp_v4_do_rcv@ffffffff81001300\n-tcp_v4_destroy_sock: no BTF prototype",
		"module_no_btf":                    "-module_no_btf[xt_conn]: no BTF prototype",
		"kfree consume_skb try_to_wake_up": "consume_skb@ffffffff81003200\nkfree@ffffffff81003300\ntry_to_wake_up@ffffffff81003400",

		"icmp_rvc":               `! find function: no kernel function is called "icmp_rvc"; the nearest are icmp_rcv`,
		"icmp_rcv,tcp_v4_do_rvc": `! find function: no kernel function is called "tcp_v4_do_rvc"; the nearest are tcp_v4_do_rcv`,
		"icmp_rcv,icmp_rvc":      `! find function: no kernel function is called "icmp_rvc"; the nearest are icmp_rcv`,

		// Parts of functions are none, but who asks for one gets an answer.
		"*icmp_rcv*":    "icmp_rcv@ffffffff81001000",
		"icmp_rcv.cold": "-icmp_rcv.cold: no BTF prototype",

		"xxyyzz":   `! find function: no kernel function is called "xxyyzz"`,
		"xxyyzz_*": `! find function: no kernel function matches "xxyyzz_*"`,
		// What isn't a kernel's function is no target and no suggestion.
		"bpf_prog_*":        `! find function: no kernel function matches "bpf_prog_*"`,
		"jiffies":           `! find function: no kernel function is called "jiffies"`,
		"ftrace_trampoline": `! find function: no kernel function is called "ftrace_trampoline"`,
	} {
		t.Run(args, func(t *testing.T) {
			p, err := resolve(t, kernel(t), list(t), strings.Fields(args)...)
			got := summary(p)
			if err != nil {
				got = "! " + err.Error()
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestNotFound(t *testing.T) {
	_, err := resolve(t, kernel(t), list(t), "icmp_rcv,icmp_rvc")
	var notFound *NotFoundError
	if !errors.As(err, &notFound) {
		t.Fatal(err)
	}
	if pos := notFound.Target.Pos; notFound.Target.Text != "icmp_rvc" || pos.Offset != 9 {
		t.Errorf("%q at %+v", notFound.Target.Text, pos)
	}
}

// TestHidden is about a reader who may not see addresses.
func TestHidden(t *testing.T) {
	hidden := "0000000000000000 T icmp_rcv\n0000000000000000 t skb_copy_bits\n0000000000000000 t skb_copy_bits\n"
	p, err := resolve(t, kernel(t), hidden, "icmp_rcv,skb_copy_bits")
	if err != nil {
		t.Fatal(err)
	}
	want := "icmp_rcv@0\n-skb_copy_bits: a duplicate symbol: 2 functions have this name"
	if diff := cmp.Diff(want, summary(p)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestModulesReadWhenNeeded(t *testing.T) {
	k := kernel(t)
	k.Modules = func() ([]Module, error) { return nil, errors.New("read modules") }
	if _, err := Resolve(parse(t, "icmp_rcv,vfs_read"), k); err != nil {
		t.Errorf("functions of vmlinux: %v", err)
	}
	for _, arg := range []string{"nft_do_chain", "icmp_*"} {
		if _, err := Resolve(parse(t, arg), k); err == nil || err.Error() != "read modules" {
			t.Errorf("%s: %v", arg, err)
		}
	}
}

func TestAmbiguous(t *testing.T) {
	f, g := btftest.Func("twice", btftest.Int), btftest.Func("twice", btftest.Int, "a", btftest.Long)
	k := &Kernel{Types: btftest.Types(t, f, g), Modules: func() ([]Module, error) { return nil, nil }}
	for _, arg := range []string{"twice", "tw*"} {
		p, err := resolve(t, k, "ffffffff81000010 t twice\n", arg)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := summary(p), "-twice: ambiguous in BTF: several functions have this name"; got != want {
			t.Errorf("%s: %q instead of %q", arg, got, want)
		}
	}
}

func TestParams(t *testing.T) {
	pair := btftest.Struct("pair", "a", btftest.Long, 8, "b", btftest.Long, 8)
	small := btftest.Struct("small", "a", btftest.Int, 4)
	large := btftest.Struct("large", "a", btftest.Long, 8, "b", btftest.Long, 8, "c", btftest.Char, 1)
	types := btftest.Types(t,
		btftest.Func("f_none", btftest.Int),
		btftest.Func("f_words", btftest.Int, "a", btftest.Int, "p", pair, "s", small, "z", btftest.Long),
		btftest.Func("f_strings", btftest.CharP, "a", btftest.CharP, "n", btftest.Int, "b", btftest.CharP),
		btftest.Func("f_unnamed", btftest.VoidP, "", btftest.Int, "", btftest.CharP),
		btftest.Func("f_pair_string", btftest.Bool, "p", pair, "s", btftest.CharP),
		btftest.Func("f_large", btftest.Int, "l", large),
		btftest.Func("f_twelve", btftest.Int, "a", pair, "b", pair, "c", pair, "d", pair, "e", pair, "f", pair),
		btftest.Func("f_thirteen", btftest.Int, "a", pair, "b", pair, "c", pair, "d", pair, "e", pair, "f", pair, "g", btftest.Int),
		btftest.Func("f_returns_struct", small),
		btftest.Func("f_returns_pair", pair),
	)
	k := &Kernel{Types: types, Modules: func() ([]Module, error) { return nil, nil }}
	p, err := Resolve(parse(t, "f_*"), k)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, target := range p.Targets {
		shape := target.Shape(true)
		fmt.Fprintf(&got, "%s: %d words, %d strings, entry of %d bytes, %d without stack\n", target.Prototype(), shape.Words, shape.Strings,
			shape.EntrySize(), target.Shape(false).EntrySize())
		for _, param := range target.Params {
			fmt.Fprintf(&got, "  %s at %d of %d, string %d, %s\n", param.Name, param.Word, param.Words, param.String, param.Layout.Kind)
		}
		if target.Ret != nil {
			fmt.Fprintf(&got, "  returns %s\n", target.Ret.Kind)
		}
	}
	for _, s := range p.Skipped {
		fmt.Fprintf(&got, "-%s: %s\n", s.Prototype, s.Reason)
	}
	golden.Check(t, "params.golden", got.String())
}

// TestPlan is a plan of everything.
func TestPlan(t *testing.T) {
	p, err := resolve(t, kernel(t), list(t), "*")
	if err != nil {
		t.Fatal(err)
	}
	p.KeepPatchable("icmp_rcv\nip_rcv\ntcp_v4_rcv\ntcp_v4_do_rcv\nvfs_read\nkfree\nschedule\nhelper [xt_conn]\nnft_do_chain [nf_tables]\n")
	var got strings.Builder
	for _, target := range p.Targets {
		fmt.Fprintf(&got, "+ %x %s // words %d, strings %d\n", target.Addr, qualified(target.Prototype(), target.Module), target.Words, target.Strings())
	}
	for _, s := range p.Skipped {
		prototype := s.Prototype
		if prototype == "" {
			prototype = s.Func
		}
		fmt.Fprintf(&got, "- %s // %s\n", qualified(prototype, s.Module), s.Reason)
	}
	golden.Check(t, "plan.golden", got.String())
}

func TestKeepPatchable(t *testing.T) {
	for patchable, want := range map[string]string{
		"helper [nf_tables]\nicmp_rcv\n": "helper[nf_tables]@ffffffffc0001200\nicmp_rcv@ffffffff81001000\n" +
			"-helper[xt_conn]: " + ReasonNotPatchable,
		"helper\nicmp_rcv [nf_tables]\nhelper [xt_conn]": "helper[xt_conn]@ffffffffc0002200\n" +
			"-helper[nf_tables]: " + ReasonNotPatchable + "\n-icmp_rcv: " + ReasonNotPatchable,
		"": "-helper[nf_tables]: " + ReasonNotPatchable + "\n-helper[xt_conn]: " + ReasonNotPatchable +
			"\n-icmp_rcv: " + ReasonNotPatchable,
	} {
		t.Run(patchable, func(t *testing.T) {
			p, err := resolve(t, kernel(t), list(t), "icmp_rcv,helper")
			if err != nil {
				t.Fatal(err)
			}
			p.KeepPatchable(patchable)
			if diff := cmp.Diff(want, summary(p)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestDenyList checks the names: one that no kernel has protects from nothing.
func TestDenyList(t *testing.T) {
	for name, reason := range DenyList() {
		if reason == "" || strings.TrimLeft(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			t.Errorf("%q: %q", name, reason)
		}
	}
	for _, name := range []string{"bpf_ringbuf_reserve", "bpf_get_stack", "bpf_ktime_get_ns"} {
		if DenyList()[name] == "" {
			t.Errorf("%s is called by our programs", name)
		}
	}
}

// TestMarks checks what is taken for code: data that has its type is not, and the
// marks around it have other types on some architectures.
func TestMarks(t *testing.T) {
	for _, etext := range []string{"T", "D", "R"} {
		symbols := `ffffffff81000000 T _text
ffffffff81000100 t qqq_code
ffffffff81000200 ` + etext + ` _etext
ffffffff81000300 t qqq_data
ffffffff81000400 ` + etext + ` _sinittext
ffffffff81000500 t qqq_init
ffffffff81000600 ` + etext + ` _einittext
ffffffff81000700 t qqq_more_data
ffffffffc0001000 t qqq_module	[xt_conn]
`
		p, err := resolve(t, kernel(t), symbols, "qqq_*")
		if err != nil {
			t.Fatal(err)
		}
		const want = "-qqq_code: no BTF prototype\n-qqq_init: no BTF prototype\n-qqq_module[xt_conn]: no BTF prototype"
		if diff := cmp.Diff(want, summary(p)); diff != "" {
			t.Errorf("marks of type %s (-want +got)\n%s", etext, diff)
		}
	}
}
