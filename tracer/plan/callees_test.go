package plan

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"

	"fgtrace/arch"
	"fgtrace/btfx"
	"fgtrace/internal/btftest"
)

// word is what unsigned long is called in BTF.
var word = &btf.Int{Name: "long unsigned int", Size: 8}

// calleesKernel has functions of all kinds.
func calleesKernel(t *testing.T, a arch.Arch) *Kernel {
	t.Helper()
	pair := btftest.Struct("pair", "a", btftest.Long, 8, "b", btftest.Long, 8)
	large := btftest.Struct("large", "a", btftest.Long, 8, "b", btftest.Long, 8, "c", btftest.Char, 1)
	types := btftest.Types(t, word,
		btftest.Func("typed", btftest.Int, "name", btftest.CharP, "n", word),
		btftest.Func("nothing", nil),
		btftest.Func("twice", btftest.Int), btftest.Func("twice", btftest.Int, "a", btftest.Long),
		btftest.Variadic(btftest.Func("variadic", btftest.Int, "fmt", btftest.CharP)),
		btftest.Func("returns_pair", pair),
		btftest.Func("takes_large", btftest.Int, "l", large),
		btftest.Func("bpf_get_stack", btftest.Int),
		btftest.Func("in_both", btftest.Int, "a", btftest.Long),
	)
	raw, err := os.ReadFile("../../btfx/testdata/vmlinux.btf")
	if err != nil {
		t.Fatal(err)
	}
	base := btftest.Parse(t, raw, nil)
	return &Kernel{Arch: a, Types: types, Modules: func() ([]Module, error) {
		return []Module{
			{"nf_tables", btftest.Module(t, raw, base, "icmp_rcv", "nft_do_chain", "in_both", "nft_twice", "nft_twice")},
			{"empty", btftest.Module(t, raw, base, "icmp_rcv")},
		}, nil
	}}
}

// spellTarget is a target in short: its prototype, or its registers.
func spellTarget(target *Target) string {
	s := qualified(target.Prototype(), target.Module)
	if target.Raw {
		var names []string
		for i, p := range target.Params {
			if p.Word != i || p.Words != 1 || p.String != -1 || p.Layout.Size != 8 {
				names = append(names, "bad")
			}
			names = append(names, target.Types.DeclName(p.Type, p.Name))
		}
		s = fmt.Sprintf("raw %s(%s) %s", qualified(target.Func, target.Module), strings.Join(names, ", "), target.Ret.Type)
	}
	return fmt.Sprintf("%s @%x words=%d", s, target.Addr, target.Words)
}

const sixRegisters = "(unsigned long rdi, unsigned long rsi, unsigned long rdx, unsigned long rcx, unsigned long r8, unsigned long r9) unsigned long"

func TestCallees(t *testing.T) {
	for name, test := range map[string]struct {
		callee Callee
		want   string
	}{
		"typed":                        {Callee{"typed", "", 0x10}, "int typed(const char *name, unsigned long n) @10 words=2"},
		"no result":                    {Callee{"nothing", "", 0x10}, "void nothing(void) @10 words=0"},
		"no BTF":                       {Callee{"static_fn", "", 0x10}, "raw static_fn" + sixRegisters + " @10 words=6"},
		"ambiguous":                    {Callee{"twice", "", 0x10}, "raw twice" + sixRegisters + " @10 words=6"},
		"variadic":                     {Callee{"variadic", "", 0x10}, "raw variadic" + sixRegisters + " @10 words=6"},
		"a struct returned":            {Callee{"returns_pair", "", 0x10}, "raw returns_pair" + sixRegisters + " @10 words=6"},
		"a large argument":             {Callee{"takes_large", "", 0x10}, "raw takes_large" + sixRegisters + " @10 words=6"},
		"denied":                       {Callee{"bpf_get_stack", "", 0x10}, "-bpf_get_stack: on the deny list: runs in our programs when a stack is taken"},
		"denied, not in BTF":           {Callee{"unwind_next_frame", "", 0x10}, "-unwind_next_frame: on the deny list: runs in our programs when a stack is taken"},
		"denied, in a module":          {Callee{"bpf_get_stack", "m", 0x10}, "-bpf_get_stack[m]: on the deny list: runs in our programs when a stack is taken"},
		"in a module":                  {Callee{"nft_do_chain", "nf_tables", 0x10}, "int nft_do_chain(struct sk_buff *skb)[nf_tables] @10 words=1"},
		"in a module and vmlinux":      {Callee{"in_both", "nf_tables", 0x10}, "int in_both(struct sk_buff *skb)[nf_tables] @10 words=1"},
		"in vmlinux and a module":      {Callee{"in_both", "", 0x10}, "int in_both(long a) @10 words=1"},
		"in a module, ambiguous":       {Callee{"nft_twice", "nf_tables", 0x10}, "raw nft_twice[nf_tables]" + sixRegisters + " @10 words=6"},
		"in a module, only in vmlinux": {Callee{"typed", "nf_tables", 0x10}, "raw typed[nf_tables]" + sixRegisters + " @10 words=6"},
		"in a module of no functions":  {Callee{"typed", "empty", 0x10}, "raw typed[empty]" + sixRegisters + " @10 words=6"},
		"in a module that has no BTF":  {Callee{"typed", "other", 0x10}, "raw typed[other]" + sixRegisters + " @10 words=6"},
	} {
		t.Run(name, func(t *testing.T) {
			targets, skipped, err := calleesKernel(t, arch.AMD64()).Callees([]Callee{test.callee})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, target := range targets {
				got = append(got, spellTarget(target))
			}
			for _, s := range skipped {
				got = append(got, "-"+qualified(s.Func, s.Module)+": "+s.Reason)
			}
			if diff := cmp.Diff(test.want, strings.Join(got, "\n")); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestCalleesInOrder keeps the order, reads modules once, and only where one has
// callees.
func TestCalleesInOrder(t *testing.T) {
	k := calleesKernel(t, arch.ARM64())
	reads, modules := 0, k.Modules
	k.Modules = func() ([]Module, error) { reads++; return modules() }
	targets, skipped, err := k.Callees([]Callee{
		{"variadic", "", 3}, {"nft_do_chain", "nf_tables", 2}, {"bpf_get_stack", "", 9}, {"typed", "", 1}, {"x", "other", 5},
	})
	if err != nil || len(skipped) != 1 {
		t.Fatalf("%d skipped, %v", len(skipped), err)
	}
	var got []string
	for _, target := range targets {
		got = append(got, fmt.Sprintf("%s %d raw=%v words=%d", target.Func, target.Addr, target.Raw, target.Words))
	}
	want := []string{"variadic 3 raw=true words=8", "nft_do_chain 2 raw=false words=1", "typed 1 raw=false words=2", "x 5 raw=true words=8"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if reads != 1 {
		t.Errorf("modules were read %d times", reads)
	}
	k.Modules = func() ([]Module, error) { return nil, errors.New("read modules") }
	if _, _, err := k.Callees([]Callee{{"typed", "", 1}}); err != nil {
		t.Errorf("of vmlinux: %v", err)
	}
	if _, _, err := k.Callees([]Callee{{"typed", "", 1}, {"x", "m", 1}}); err == nil || err.Error() != "read modules" {
		t.Errorf("of a module: %v", err)
	}
	if targets, skipped, err := k.Callees(nil); len(targets)+len(skipped) != 0 || err != nil {
		t.Errorf("of nothing: %v, %v, %v", targets, skipped, err)
	}
}

func TestCalleesNoWord(t *testing.T) {
	for name, test := range map[string]struct {
		types *btfx.Types
		want  string
	}{
		"GCC's name":   {btftest.Types(t, btftest.Func("f", nil, "a", word)), "<nil>"},
		"another name": {btftest.Types(t, btftest.Func("f", nil, "a", btftest.U64)), "<nil>"},
		"neither":      {btftest.Types(t, btftest.Func("f", nil)), "find unsigned long: it is not in BTF"},
	} {
		k := &Kernel{Arch: arch.AMD64(), Types: test.types}
		if _, _, err := k.Callees([]Callee{{Func: "g"}}); fmt.Sprint(err) != test.want {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
	}
}

func TestSelection(t *testing.T) {
	for _, test := range []struct {
		include, exclude string
		want             string
	}{
		{"", "", "tcp_ack tcp_rcv udp_rcv"},
		{"tcp_*", "", "tcp_ack tcp_rcv"},
		{"tcp_ack,udp_*", "", "tcp_ack udp_rcv"},
		{"", "tcp_ack", "tcp_rcv udp_rcv"},
		{"", "*_rcv,tcp_ack", ""},
		{"tcp_*", "*_rcv", "tcp_ack"},
		{"tcp_rcv", "tcp_rcv", ""},
		{"none", "", ""},
	} {
		var s Selection
		if test.include != "" {
			s.Include = parse(t, test.include)
		}
		if test.exclude != "" {
			s.Exclude = parse(t, test.exclude)
		}
		var got []string
		for _, name := range []string{"tcp_ack", "tcp_rcv", "udp_rcv"} {
			if s.Wants(name) {
				got = append(got, name)
			}
		}
		if got := strings.Join(got, " "); got != test.want {
			t.Errorf("include %q, exclude %q: %s, want %s", test.include, test.exclude, got, test.want)
		}
	}
}
