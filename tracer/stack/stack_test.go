package stack

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fgtrace/arch"
)

// symbols is a kernel of functions of funcSize bytes that lie side by side.
type symbols struct{ names []string }

const (
	base     = 0xffffffff81000000
	funcSize = 0x400
)

// newSymbols has functions as "name" or "name[module]".
func newSymbols(text string) *symbols { return &symbols{strings.Fields(text)} }

func (s *symbols) Symbol(addr uint64) (Symbol, bool) {
	if addr < base || addr >= base+uint64(len(s.names))*funcSize {
		return Symbol{}, false
	}
	sym := splitModule(s.names[(addr-base)/funcSize])
	sym.Offset = (addr - base) % funcSize
	return sym, true
}

func splitModule(text string) Symbol {
	name, module, _ := strings.Cut(text, "[")
	return Symbol{Func: name, Module: strings.TrimSuffix(module, "]")}
}

// addr parses "name+0x9", "name", or a number.
func (s *symbols) addr(t *testing.T, text string) uint64 {
	t.Helper()
	name, offset, ok := strings.Cut(text, "+")
	if !ok {
		offset = "0"
	}
	for i, have := range s.names {
		if splitModule(have).Func == name {
			n, err := strconv.ParseUint(offset, 0, 64)
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			return base + uint64(i)*funcSize + n
		}
	}
	n, err := strconv.ParseUint(text, 0, 64)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return n
}

// kernel has what the stacks below need. make_task_dead ends with a call of
// do_exit, which doesn't return, and lies right in front of ktime_get.
var kernel = newSymbols(`icmp_rcv ip_protocol_deliver_rcu ip_local_deliver_finish ip_local_deliver __netif_receive_skb
	net_rx_action handle_softirqs do_softirq make_task_dead ktime_get do_exit schedule_tail ret_from_fork
	kernel_clone kernel_clone.cold asm_sysvec_apic_timer_interrupt return_to_handler mutual nf_do[nf_tables] bpf_map_update
	bpf_prog_6deef7357e7b4530_on_entry[bpf] bpf_prog_0123456789abcdef_other[bpf]
	bpf_trampoline_6442472561[bpf] bpf_trampoline_6442472562[bpf]`)

const (
	program = "bpf_prog_6deef7357e7b4530_on_entry+0x90 "
	ours    = program + "bpf_trampoline_6442472561+0x47 "
	other   = "bpf_trampoline_6442472562+0x60 "
)

// The callers of icmp_rcv that most of the tests have.
const callers = "ip_protocol_deliver_rcu+0x3c ip_local_deliver_finish+0x77 net_rx_action+0x120"

var tests = map[string]struct {
	tracee string // icmp_rcv if empty
	raw    string // behind the program and its trampoline
	hidden bool   // the tracee's address isn't known
	gone   bool   // the trampoline has been freed
	twice  bool   // the program is there twice
	bare   bool   // not even those are there
	span   uint64
	limit  int
	want   string // the callers' chain if empty
}{
	"5.10 call":        {raw: "icmp_rcv+0x5 " + callers},
	"6.12 call, endbr": {raw: "icmp_rcv+0x9 " + callers},
	"6.12 call, static function without endbr": {raw: "icmp_rcv+0x5 " + callers},
	"7.2 jmp":              {raw: callers},
	"hidden address, call": {raw: "icmp_rcv+0x9 " + callers, hidden: true},
	"hidden address, jmp":  {raw: callers, hidden: true},

	"arm64": {raw: "icmp_rcv+0x10 " + callers, span: arch.ARM64().PatchSpan},
	"arm64, caller": {
		raw:  "icmp_rcv+0x10 icmp_rcv+0x14 " + callers,
		span: arch.ARM64().PatchSpan,
		want: "icmp_rcv icmp_rcv+0x14 " + callers,
	},

	"caller traced, call": {
		raw: "icmp_rcv+0x9 ip_protocol_deliver_rcu+0x3c " + other + "ip_protocol_deliver_rcu+0x9 ip_local_deliver_finish+0x77 net_rx_action+0x120",
	},
	"caller traced, jmp": {
		raw: "ip_protocol_deliver_rcu+0x3c " + other + "ip_local_deliver_finish+0x77 net_rx_action+0x120",
	},
	"two callers traced, call and jmp": {
		raw: "icmp_rcv+0x9 ip_protocol_deliver_rcu+0x3c " + other + "ip_protocol_deliver_rcu+0x5 ip_local_deliver_finish+0x77 " + other + "net_rx_action+0x120",
	},
	"caller's unlikely part, call": {
		tracee: "do_exit",
		raw:    "do_exit+0x9 kernel_clone.cold+0x21 " + other + "kernel_clone+0x9 net_rx_action+0x120",
		want:   "do_exit kernel_clone.cold+0x21 net_rx_action+0x120",
	},
	"caller traced, its caller calls early": {
		tracee: "icmp_rcv",
		raw:    "schedule_tail+0x50 " + other + "ret_from_fork+0x8",
		want:   "icmp_rcv schedule_tail+0x50 ret_from_fork+0x8",
	},

	"recursion, call": {
		tracee: "mutual",
		raw:    "mutual+0x9 mutual+0x80 " + other + "mutual+0x9 mutual+0x80 " + other + "mutual+0x9 net_rx_action+0x120",
		want:   "mutual mutual+0x80 mutual+0x80 net_rx_action+0x120",
	},
	"recursion, jmp": {
		tracee: "mutual",
		raw:    "mutual+0x80 " + other + "mutual+0x80 " + other + "net_rx_action+0x120",
		want:   "mutual mutual+0x80 mutual+0x80 net_rx_action+0x120",
	},
	"recursion, fentry alone": {
		tracee: "mutual",
		raw:    "mutual+0x9 mutual+0x80 mutual+0x80 net_rx_action+0x120",
		want:   "mutual mutual+0x80 mutual+0x80 net_rx_action+0x120",
	},

	// A program of another tool, called by the trampoline of net_rx_action, calls
	// the tracee.
	"called by a program, call": {
		tracee: "bpf_map_update",
		raw:    "bpf_map_update+0x9 bpf_prog_0123456789abcdef_other+0x30 " + other + "net_rx_action+0x9 do_softirq+0x99",
		want:   "bpf_map_update bpf_prog_0123456789abcdef_other+0x30 net_rx_action+0x9 do_softirq+0x99",
	},
	"called by a program, jmp": {
		tracee: "bpf_map_update",
		raw:    "bpf_prog_0123456789abcdef_other+0x30 " + other + "do_softirq+0x99",
		want:   "bpf_map_update bpf_prog_0123456789abcdef_other+0x30 do_softirq+0x99",
	},
	"module": {
		tracee: "nf_do",
		raw:    "nf_do+0x9 nf_do+0x50 net_rx_action+0x120",
		want:   "nf_do[nf_tables] nf_do[nf_tables]+0x50 net_rx_action+0x120",
	},

	"unknown address": {
		raw:  "icmp_rcv+0x9 0xffffffffdeadbeef net_rx_action+0x120",
		want: "icmp_rcv 0xffffffffdeadbeef net_rx_action+0x120",
	},
	"return behind the function's end": {
		tracee: "do_exit",
		raw:    "do_exit+0x9 make_task_dead+0x400 net_rx_action+0x120",
		want:   "do_exit make_task_dead+0x400 net_rx_action+0x120",
	},
	"trampoline without a name": {raw: "icmp_rcv+0x9 " + callers, gone: true},
	"no frames":                 {bare: true, want: "icmp_rcv"},
	"arm64, program twice":      {raw: "icmp_rcv+0x8 " + callers, twice: true, span: arch.ARM64().PatchSpan},
	"interrupted at a function's first instruction": {
		tracee: "schedule_tail",
		raw:    "schedule_tail+0x9 asm_sysvec_apic_timer_interrupt+0x1a ktime_get do_softirq+0x99",
		want:   "schedule_tail asm_sysvec_apic_timer_interrupt+0x1a ktime_get do_softirq+0x99",
	},
	"empty":        {raw: "", want: "icmp_rcv"},
	"tracee alone": {raw: "icmp_rcv+0x9", want: "icmp_rcv"},
	"limit reached": {
		raw: "icmp_rcv+0x9 ip_protocol_deliver_rcu+0x3c", limit: 4,
		want: "icmp_rcv ip_protocol_deliver_rcu+0x3c [truncated]",
	},
	"one below the limit": {
		raw: "icmp_rcv+0x9 ip_protocol_deliver_rcu+0x3c", limit: 5,
		want: "icmp_rcv ip_protocol_deliver_rcu+0x3c",
	},
	"ends in a return hook": {
		raw:  "icmp_rcv+0x9 ip_protocol_deliver_rcu+0x3c return_to_handler",
		want: "icmp_rcv ip_protocol_deliver_rcu+0x3c return_to_handler [truncated]",
	},
	"goes through a return hook": {
		raw:  "icmp_rcv+0x9 return_to_handler net_rx_action+0x120",
		want: "icmp_rcv return_to_handler net_rx_action+0x120",
	},
	"ends in a trampoline": {
		raw:  "icmp_rcv+0x9 ip_protocol_deliver_rcu+0x3c " + other,
		want: "icmp_rcv ip_protocol_deliver_rcu+0x3c",
	},
}

func TestBuild(t *testing.T) {
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.tracee == "" {
				test.tracee = "icmp_rcv"
			}
			if test.want == "" {
				test.want = "icmp_rcv " + callers
			}
			if test.span == 0 {
				test.span = arch.AMD64().PatchSpan
			}
			if test.limit == 0 {
				test.limit = 125
			}
			var raw []uint64
			switch {
			case test.bare:
			case test.gone:
				test.raw = program + "0xffffffffdead0060 " + test.raw
			case test.twice:
				test.raw = program + ours + test.raw
			default:
				test.raw = ours + test.raw
			}
			for field := range strings.FieldsSeq(test.raw) {
				raw = append(raw, kernel.addr(t, field))
			}
			addr := kernel.addr(t, test.tracee)
			sym, _ := kernel.Symbol(addr)
			tracee := Tracee{Func: sym.Func, Module: sym.Module, Addr: addr, PatchSpan: test.span}
			if test.hidden {
				tracee.Addr = 0
			}
			chain := Build(raw, tracee, kernel, test.limit)
			if diff := cmp.Diff(test.want, spell(chain)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if got := chain.Frames[0].Addr; got != tracee.Addr {
				t.Errorf("tracee at %#x", got)
			}
			for i, f := range chain.Frames {
				if f.Func != "" && f.Addr != 0 && f.Addr != kernel.addr(t, f.Func)+f.Offset {
					t.Errorf("frame %d: %s+%#x is not at %#x", i, f.Func, f.Offset, f.Addr)
				}
			}
		})
	}
}

func spell(c Chain) string {
	var parts []string
	for _, f := range c.Frames {
		text := f.Func
		if text == "" {
			text = fmt.Sprintf("%#x", f.Addr)
		}
		if f.Module != "" && f.Module != "bpf" {
			text += "[" + f.Module + "]"
		}
		if f.Offset != 0 {
			text += fmt.Sprintf("+%#x", f.Offset)
		}
		parts = append(parts, text)
	}
	if c.Truncated {
		parts = append(parts, "[truncated]")
	}
	return strings.Join(parts, " ")
}

// A model of the kernel for TestProperty: how a function is traced decides what
// a stack shows of it.
type mode int

const (
	untraced  mode = iota
	entryOnly      // called from the first bytes; nothing is left on the stack
	byCall         // the trampoline calls the body, and was itself called
	byJump         // the trampoline calls the body, and was jumped to
	modes
)

type model struct {
	syms  *symbols
	modes map[string]mode
	endbr map[string]bool
	tramp uint64
}

func (m *model) patchReturn(name string) uint64 {
	addr := m.addr(name) + 5
	if m.endbr[name] {
		addr += 4
	}
	return addr
}

func (m *model) addr(name string) uint64 {
	for i, have := range m.syms.names {
		if splitModule(have).Func == name {
			return base + uint64(i)*funcSize
		}
	}
	panic(name)
}

// stack gives what the kernel collects in a program of the chain's first
// function. The others are callers, with the offsets that they return to.
func (m *model) stack(chain []Frame, jumped bool) []uint64 {
	raw := []uint64{m.addr("bpf_prog_6deef7357e7b4530_on_entry") + 0x90, m.tramp}
	if !jumped {
		raw = append(raw, m.patchReturn(chain[0].Func))
	}
	for _, f := range chain[1:] {
		raw = append(raw, f.Addr)
		hot, _, _ := strings.Cut(f.Func, ".cold")
		switch m.modes[hot] {
		case byCall:
			raw = append(raw, m.tramp, m.patchReturn(hot))
		case byJump:
			raw = append(raw, m.tramp)
		}
	}
	return raw
}

// TestProperty makes chains at random, lets the kernel's model collect them with
// any of the functions traced in any way, and wants the chain back.
func TestProperty(t *testing.T) {
	syms := newSymbols(`a b c d e f.constprop.0 g h[mod] i[mod] a.cold c.cold.7 p[bpf] q[bpf] r
		bpf_prog_6deef7357e7b4530_on_entry[bpf] bpf_trampoline_1[bpf]`)
	callers := []string{"a", "b", "c", "d", "e", "f.constprop.0", "g", "h", "i", "a.cold", "c.cold.7", "p", "q"}
	traceable := []string{"a", "b", "c", "d", "e", "f.constprop.0", "g", "h", "i", "p"}
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 50000 {
		m := &model{syms: syms, modes: make(map[string]mode), endbr: make(map[string]bool)}
		m.tramp = m.addr("bpf_trampoline_1") + 0x60
		for _, name := range traceable {
			m.modes[name] = mode(rng.IntN(int(modes)))
			m.endbr[name] = rng.IntN(2) == 0
		}
		tracee := traceable[rng.IntN(len(traceable))]
		sym, _ := syms.Symbol(m.addr(tracee))
		want := []Frame{{Addr: m.addr(tracee), Symbol: sym}}
		for range rng.IntN(8) {
			name := callers[rng.IntN(len(callers))]
			// A call in a function's first bytes is its trampoline's, where it can
			// have one, and may be of its own elsewhere. The last offset is behind
			// the function's end.
			first := 10
			if m.modes[name] == untraced && name != tracee {
				first = 5
			}
			offset := uint64(first + rng.IntN(funcSize+1-first))
			sym, _ := syms.Symbol(m.addr(name))
			sym.Offset = offset
			want = append(want, Frame{Addr: m.addr(name) + offset, Symbol: sym})
		}
		jumped := rng.IntN(2) == 0
		raw := m.stack(want, jumped)
		known := Tracee{Func: tracee, Module: want[0].Module, Addr: want[0].Addr, PatchSpan: arch.AMD64().PatchSpan}
		if got := Build(raw, known, syms, 127); spell(got) != spell(Chain{Frames: want}) {
			t.Fatalf("round %d: modes %v, jumped %v: raw %s\n got %s\nwant %s", round, m.modes, jumped,
				spellRaw(raw, syms), spell(got), spell(Chain{Frames: want}))
		}
	}
}

func spellRaw(raw []uint64, syms *symbols) string {
	var frames []Frame
	for _, addr := range raw {
		sym, _ := syms.Symbol(addr)
		frames = append(frames, Frame{Addr: addr, Symbol: sym})
	}
	return spell(Chain{Frames: frames})
}
