package tracer

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fgtrace/bpf/wire"
	"fgtrace/internal/wiretest"
	"fgtrace/tracer/event"
	"fgtrace/tracer/learn"
)

// underWay is a call in a tree that a test makes.
type underWay struct {
	id, time, below uint64
	target          uint32
	cpu             uint16
	context, opened byte
	words           []uint64
}

// treeBytes is struct tree of wire.h, member by member.
func treeBytes(depth uint32, nodes ...underWay) []byte {
	u64 := binary.LittleEndian.AppendUint64
	b := u64(nil, 4242<<32|4243) // pid_tgid
	b = append(b, "fifteen_bytes_x\x00"...)
	b = u64(u64(u64(b, 99), 0xdead), 7) // seq, scratch, index
	b = binary.LittleEndian.AppendUint32(b, depth)
	b = binary.LittleEndian.AppendUint32(b, 1)    // ready
	b = append(b, make([]byte, wire.NodeSize)...) // none
	for _, n := range nodes {
		b = u64(u64(u64(u64(b, 0xffffc90000003e48), n.id), n.time), n.below)
		b = binary.LittleEndian.AppendUint32(b, n.target)
		b = binary.LittleEndian.AppendUint16(b, n.cpu)
		b = append(b, n.context, n.opened)
		b = u64(b, 1) // probe
		for i := range 12 {
			word := uint64(0)
			if i < len(n.words) {
				word = n.words[i]
			}
			b = u64(b, word)
		}
	}
	return b
}

var inTree = []underWay{
	{id: 8<<40 | 1, time: 100, below: 5, target: 1, cpu: 2, opened: 1, words: []uint64{1, 2, 3}},
	{id: 8<<40 | 4, time: 200, target: 0, cpu: 3, context: 1, words: slices.Repeat([]uint64{1<<64 - 1}, 12)},
	{id: 8<<40 | 9, time: 300, below: 1 << 40, target: 2, cpu: 65535, context: 2, opened: 1},
}

// records are those of inTree.
func records() [][]byte {
	var all [][]byte
	parent, outer := uint64(0), byte(0)
	for depth, n := range inTree {
		words := append(slices.Clone(n.words), make([]uint64, 12-len(n.words))...)
		all = append(all, wiretest.Node{
			Place: wiretest.Place{
				Entry: n.time, ID: n.id, Parent: parent, Pid: 4242, Tid: 4243, Target: n.target, CPU: n.cpu, Comm: "fifteen_bytes_x",
				Below: n.below, Depth: byte(depth), Context: n.context, Outer: outer, Opened: n.opened == 1,
			},
			Words: words,
		}.Bytes())
		parent, outer = n.id, n.context
	}
	return all
}

func TestRunningNodes(t *testing.T) {
	whole := treeBytes(3, inTree...)
	head, node := 56+144, 144 // a node that is none is part of the head
	if len(whole) != head+3*node {
		t.Fatalf("%d bytes", len(whole))
	}
	for name, test := range map[string]struct {
		tree []byte
		want int // of records
	}{
		"nothing":              {nil, 0},
		"no calls":             {treeBytes(0), 0},
		"calls that have gone": {treeBytes(0, inTree...), 0},
		"a root":               {treeBytes(1, inTree...), 1},
		"nested":               {whole, 3},
		"fewer than it says":   {treeBytes(64, inTree...), 3},
		"far fewer":            {treeBytes(1<<32-1, inTree...), 3},
		"most of a head":       {whole[:head-1], 0},
		"a head":               {whole[:head], 0},
		"most of a call":       {whole[:head+node-1], 0},
		"a call":               {whole[:head+node], 1},
		"most of all":          {whole[:len(whole)-1], 2},
	} {
		t.Run(name, func(t *testing.T) {
			got := runningNodes(slices.Clip(test.tree))
			if diff := cmp.Diff(fmt.Sprintf("% x", records()[:test.want]), fmt.Sprintf("% x", got)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			for _, raw := range got {
				var p event.Place
				if err := p.View(raw, 3); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func FuzzRunningNodes(f *testing.F) {
	f.Add(treeBytes(3, inTree...))
	f.Add(treeBytes(1<<32 - 1))
	f.Fuzz(func(t *testing.T, tree []byte) {
		for _, raw := range runningNodes(tree) {
			var p event.Place
			if err := p.View(raw, 1<<32); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestCalleeNames tells what is no function, and below which nothing is looked for.
func TestCalleeNames(t *testing.T) {
	for name, want := range map[string]string{
		"icmp_rcv": "", "icmp_rcv.constprop.0": "", "__SCT__tp_func_sched_switch": "static call", "__SCK__tp_func_sched_switch": "",
		"_printk": "end", "panic": "end", "panic_on_oops": "", "do_exit": "end",
		"__ubsan_handle_out_of_bounds": "end", "__fortify_panic": "end", "refcount_warn_saturate": "end", "refcount_dec_if_one": "",
		"__x86_indirect_thunk_rax": "end thunk", "__x86_return_thunk": "end thunk", "srso_alias_return_thunk": "end thunk",
	} {
		got := ""
		for _, kind := range []struct {
			name string
			is   bool
		}{{" static call", isStaticCall(name)}, {" end", isEnd(name)}, {" thunk", isThunk(name)}} {
			if kind.is {
				got += kind.name
			}
		}
		if got != "" {
			got = got[1:]
		}
		if got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// TestSeenCalls: what was seen counts as new once, or again where it is less deep.
func TestSeenCalls(t *testing.T) {
	c := &Callees{pointed: []uint64{0x1000, 0x2000}}
	for _, test := range []struct {
		number uint64
		depth  int
		want   bool
	}{
		{0, 3, true}, {0, 3, false}, {0, 4, false}, {0, 2, true}, {1, 9, true}, {2, 1, false}, {1 << 63, 1, false},
	} {
		if got := c.sawPointed(test.number, test.depth); got != test.want {
			t.Errorf("function %d at %d: %v", test.number, test.depth, got)
		}
	}
	for _, test := range []struct {
		from, to uint64
		want     bool
	}{{1, 2, true}, {1, 2, false}, {1, 3, true}, {2, 1, true}} {
		if got := c.saw(learn.Pair{Parent: test.from, IP: test.to}); got != test.want {
			t.Errorf("call from %d to %d: %v", test.from, test.to, got)
		}
	}
}
