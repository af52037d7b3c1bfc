package plan

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/net/bpf"

	"fgtrace/btfx/expr"
	"fgtrace/internal/btftest"
	"fgtrace/tracer/packet"
	"fgtrace/tracer/spec"
)

// packetTypes are what filters for packets read, made small.
func packetTypes() (skb, xdp, frame btf.Type) {
	structs := func(name string, size int, members ...btf.Member) *btf.Struct {
		return &btf.Struct{Name: name, Size: uint32(size), Members: members}
	}
	at := func(offset int, name string, t btf.Type) btf.Member {
		return btf.Member{Name: name, Type: t, Offset: btf.Bits(8 * offset)}
	}
	pointer := func(t btf.Type) btf.Type { return &btf.Pointer{Target: t} }
	u16 := &btf.Int{Name: "unsigned short", Size: 2}
	net := structs("net", 8, at(0, "ns", structs("ns_common", 8, at(4, "inum", btftest.U32))))
	device := structs("net_device", 32,
		at(0, "name", &btf.Array{Type: btftest.Char, Index: btftest.U32, Nelems: 16}),
		at(16, "nd_net", structs("possible_net_t", 8, at(0, "net", pointer(net)))))
	common := structs("sock_common", 8, at(0, "skc_net", structs("possible_net_t", 8, at(0, "net", pointer(net)))))
	sock := structs("sock", 8, at(0, "__sk_common", common))
	return pointer(structs("sk_buff", 72, at(64, "skb_iif", btftest.Int),
			at(0, "dev", pointer(device)), at(8, "sk", pointer(sock)), at(16, "_skb_refdst", btftest.U64), at(24, "mark", btftest.U32),
			at(28, "len", btftest.U32), at(32, "data_len", btftest.U32), at(36, "mac_header", u16), at(38, "network_header", u16),
			at(40, "head", btftest.VoidP), at(48, "data", btftest.VoidP),
			at(56, "used", pointer(structs("dst_entry", 8, at(0, "dev", pointer(device))))))),
		pointer(structs("xdp_buff", 24, at(0, "data", btftest.VoidP), at(8, "data_end", btftest.VoidP),
			at(16, "rxq", pointer(structs("xdp_rxq_info", 8, at(0, "dev", pointer(device))))))),
		pointer(structs("xdp_frame", 24, at(0, "data", btftest.VoidP), at(8, "len", u16), at(16, "dev_rx", pointer(device))))
}

// pointerTo is a pointer to a struct that is another one in truth.
func pointerTo(name string) btf.Type {
	return &btf.Pointer{Target: &btf.Struct{Name: name, Size: 4, Members: []btf.Member{{Name: "len", Type: btftest.U32}}}}
}

// TestPackets: filters for packets, over memory that is made up.
func TestPackets(t *testing.T) {
	skb, xdp, frame := packetTypes()
	types := btftest.Types(t,
		btftest.Func("input", btftest.Int, "n", btftest.Int, "skb", skb, "other", skb),
		btftest.Func("run_xdp", btftest.Int, "x", xdp),
		btftest.Func("send_xdp", btftest.Int, "f", frame),
		btftest.Func("read", btftest.Int, "n", btftest.Int),
		btftest.Func("dynptr_from_skb", btftest.Int, "n", btftest.Int, "s", pointerTo("__sk_buff")),
		btftest.Func("dynptr_from_xdp", btftest.Int, "x", pointerTo("xdp_md")),
	)
	k := &Kernel{Types: types, Modules: func() ([]Module, error) { return nil, nil }}
	const at = 0x1000
	const skbAt, xdpAt, frameAt, deviceAt, netAt, sockAt, rxqAt, dstAt, dataAt = at, at + 0x100, at + 0x200, at + 0x300, at + 0x400, at + 0x500, at + 0x600, at + 0x700, at + 0x800
	memory := make([]byte, 0x1000)
	le := binary.LittleEndian
	put := func(addr int, value uint64) { le.PutUint64(memory[addr-at:], value) }
	put(skbAt+16, dstAt+1)
	put(skbAt+24, 0x12345678|100<<32)
	put(skbAt+36, 0xffff|16<<16)
	put(skbAt+40, dataAt-16)
	put(skbAt+48, dataAt)
	put(xdpAt, dataAt)
	put(xdpAt+8, dataAt+100)
	put(xdpAt+16, rxqAt)
	put(frameAt, dataAt)
	put(frameAt+8, 100)
	put(frameAt+16, deviceAt)
	put(rxqAt, deviceAt)
	put(dstAt, deviceAt)
	put(deviceAt+16, netAt)
	copy(memory[deviceAt-at:], "eth0")
	put(netAt, 77<<32)
	put(sockAt, netAt)
	put(dataAt, 0x45)
	read := func(addr uint64, buf []byte) error {
		if addr < at || addr+uint64(len(buf)) > at+uint64(len(memory)) {
			return errors.New("not mapped")
		}
		copy(buf, memory[addr-at:])
		return nil
	}
	first := []bpf.RawInstruction{{Op: 0x30}, {Op: 0x15, Jf: 1, K: 0x45}, {Op: 6, K: 1}, {Op: 6}} // is the first byte 0x45
	filter := func(insns []bpf.RawInstruction) *packet.Filter { return &packet.Filter{Ethernet: insns, Raw: insns} }
	for _, test := range []struct {
		packets Packets
		want    string // whether the packets of the three functions match
	}{
		{Packets{Device: "eth0"}, "yes yes -"},
		{Packets{Device: "eth"}, "no no -"},
		{Packets{NetNS: 77}, "yes yes -"},
		{Packets{NetNS: 78}, "no no -"},
		{Packets{Mark: &Mark{0x12345678, 1<<32 - 1}}, "yes - -"},
		{Packets{Mark: &Mark{0x5600, 0xff00}, Device: "eth0"}, "yes - -"},
		{Packets{Mark: &Mark{0x5700, 0xff00}}, "no - -"},
		{Packets{Filter: filter(first)}, "yes yes yes"},
		{Packets{Filter: filter(first), Device: "eth1"}, "no no -"},
		{Packets{Filter: filter([]bpf.RawInstruction{{Op: 6}})}, "no no no"},
	} {
		answers := map[string]string{}
		for name, word := range map[string]uint64{"input": skbAt, "run_xdp": xdpAt, "send_xdp": frameAt, "dynptr_from_skb": skbAt, "dynptr_from_xdp": xdpAt} {
			p, err := filteredPlan(t, k, name, test.packets)
			answer := "-"
			switch {
			case err == nil:
				args := []uint64{word, 0}
				if name == "input" || name == "dynptr_from_skb" {
					args = []uint64{1, word, 0}
				}
				value, err := expr.Eval(p.Targets[0].Condition, &expr.World{Args: args, Read: read})
				answer = map[uint64]string{0: "no", 1: "yes"}[value]
				if err != nil {
					answer = "fault"
				}
			case !strings.Contains(err.Error(), ": a struct xdp_") || !strings.Contains(err.Error(), " has no "):
				t.Fatal(err)
			}
			answers[name] = answer
		}
		if all := answers["input"] + " " + answers["run_xdp"] + " " + answers["send_xdp"]; all != test.want {
			t.Errorf("%+v: %s, want %s", test.packets, all, test.want)
		}
		if answers["dynptr_from_skb"] != answers["input"] || answers["dynptr_from_xdp"] != answers["run_xdp"] {
			t.Errorf("%+v: %v", test.packets, answers)
		}
	}
	// What TCP has taken the device of, and what nothing tells the namespace of.
	for _, broken := range []struct {
		packets     Packets
		refdst, iif uint64
	}{{Packets{Device: "eth0"}, dstAt, 2}, {Packets{NetNS: 77}, 0, 2}} {
		put(skbAt+16, broken.refdst)
		put(skbAt+64, broken.iif)
		p, err := filteredPlan(t, k, "input", broken.packets)
		if err != nil {
			t.Fatal(err)
		}
		if value, err := expr.Eval(p.Targets[0].Condition, &expr.World{Args: []uint64{1, skbAt, 0}, Read: read}); err == nil {
			t.Errorf("%+v: %d, and nothing can be known", broken.packets, value)
		}
	}
	if _, err := filteredPlan(t, k, "read", Packets{Device: "lo"}); err == nil || !strings.Contains(err.Error(), "filter calls of read: no parameter is a pointer to a struct sk_buff") {
		t.Errorf("a function without a packet: %v", err)
	}
}

// TestFollow: a packet is followed by the parameter that is a struct sk_buff.
func TestFollow(t *testing.T) {
	skb, xdp, _ := packetTypes()
	types := btftest.Types(t,
		btftest.Func("input", btftest.Int, "n", btftest.Int, "x", xdp, "skb", skb),
		btftest.Func("run_xdp", btftest.Int, "x", xdp),
	)
	k := &Kernel{Types: types, Modules: func() ([]Module, error) { return nil, nil }}
	filter := func(text string) (*Plan, error) {
		named, err := spec.ParseFiltered([]string{text})
		if err != nil {
			t.Fatal(err)
		}
		p, err := Resolve(named, k)
		if err != nil {
			t.Fatal(err)
		}
		return p, p.Filter(Filters{Follow: true, Targets: named})
	}
	p, err := filter("input")
	if err != nil {
		t.Fatal(err)
	}
	e := p.Targets[0].Expressions
	if e.Follow == nil || e.Follow.Word != 2 || e.Condition != nil {
		t.Errorf("%+v", e)
	}
	if followed := e.String(); followed == (Expressions{}).String() {
		t.Errorf("%q is spelled as what is not followed", followed)
	}
	if _, err := filter("run_xdp"); err == nil || !strings.Contains(err.Error(), "filter calls of run_xdp: no parameter is a pointer to a struct sk_buff") {
		t.Errorf("by name: %v", err)
	}
	if p, err := filter("*u*"); err != nil || len(p.Targets) != 1 || len(p.Skipped) != 1 || p.Skipped[0].Func != "run_xdp" {
		t.Errorf("by a glob: %+v, %v", p, err)
	}
}

// filteredPlan plans to trace a function, and filters its calls by their packets.
func filteredPlan(t *testing.T, k *Kernel, name string, packets Packets) (*Plan, error) {
	t.Helper()
	named, err := spec.ParseFiltered([]string{name})
	if err != nil {
		t.Fatal(err)
	}
	p, err := Resolve(named, k)
	if err != nil {
		t.Fatal(err)
	}
	return p, p.Filter(Filters{Packets: packets, Targets: named})
}
