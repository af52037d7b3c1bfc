package codegen

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/cilium/ebpf/asm"

	"fgtrace/internal/bpfasm"
	"fgtrace/internal/bpfvm"
	"fgtrace/internal/pcapfilter"
	"fgtrace/tracer/packet"
)

// filterOf compiles a filter for packets that begin with an Ethernet header.
func filterOf(t *testing.T, text string) *packet.Filter {
	t.Helper()
	insns, err := pcapfilter.Compile(context.Background(), text, pcapfilter.Options{LinkType: pcapfilter.Ethernet, Snaplen: 262144})
	if err != nil {
		t.Fatal(err)
	}
	return &packet.Filter{Text: text, Ethernet: insns}
}

// udpFrame is a datagram with so many tags in the packet.
func udpFrame(tags ...int) []byte {
	p := make([]byte, 12)
	for _, id := range tags {
		p = append(append(p, be16(packet.EtherVLAN)...), be16(id)...)
	}
	p = append(append(p, be16(packet.EtherIPv4)...), 0x45, 0, 0, 28, 0, 0, 0, 0, 64, packet.ProtoUDP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2)
	return append(append(append(p, be16(5000)...), be16(53)...), 0, 8, 0, 0)
}

// TestTags: a tag beside the packet is in front of those in it, and what does not ask for
// tags sees the packet without it.
func TestTags(t *testing.T) {
	received, xdp := placings[0], placings[len(placings)-2]
	five := packet.Tag{Proto: packet.EtherVLAN, TCI: 0xe005}
	none := packet.Tag{}
	gone := packet.Tag{TCI: 5} // up to 6.1, what is taken out leaves its TCI
	for _, test := range []struct {
		filter  string
		placing placing
		tag     packet.Tag
		bytes   []byte
		want    bool
	}{
		{"vlan", received, five, udpFrame(), true},
		{"vlan 5", received, five, udpFrame(), true},
		{"vlan 5 and udp port 53", received, five, udpFrame(), true},
		{"vlan 6", received, five, udpFrame(), false},
		{"not vlan", received, five, udpFrame(), false},
		{"udp port 53", received, five, udpFrame(), true},
		{"ether[12:2] = 0x8100", received, five, udpFrame(), false},
		{"vlan 5 and len = 42", received, five, udpFrame(), true},
		{"vlan 5 and vlan 7 and udp", received, five, udpFrame(7), true},
		{"vlan 7", received, five, udpFrame(7), false},
		{"vlan 0", received, packet.Tag{Proto: packet.EtherQinQ}, udpFrame(), true},
		{"vlan", received, none, udpFrame(), false},
		{"vlan 5", received, none, udpFrame(5), true},
		{"vlan 5 and udp", received, none, udpFrame(5), true},
		{"vlan 6", received, none, udpFrame(5), false},
		{"vlan", xdp, five, udpFrame(), false},
		{"vlan 5", xdp, five, udpFrame(5), true},
		{"vlan 6", xdp, packet.Tag{Proto: packet.EtherVLAN, TCI: 6}, udpFrame(5), false},
		{"vlan", received, gone, udpFrame(), false},
		{"vlan 7", received, gone, udpFrame(7), true},
	} {
		for _, layout := range []tagLayout{tagBit, tagAll} {
			if test.tag == gone && layout == tagAll {
				continue
			}
			m, err := filterOf(t, test.filter).Of(kernelTypes(t, layout)[test.placing.form])
			if err != nil {
				t.Fatal(err)
			}
			memory := test.placing.place(rand.New(rand.NewPCG(13, 14)), test.bytes, len(test.bytes))
			memory.putTag(test.tag)
			if got, err := m.Match(memoryAddr+structAt, memory.read); err != nil || got != test.want {
				t.Errorf("%s, %s, %+v, %s: %v, %v", test.filter, test.placing.name, test.tag, layout, got, err)
			}
			for _, isDirect := range []bool{false, true} {
				if got, err := compile(t, m, isDirect).run(memory); err != nil || (got == 1) != test.want {
					t.Errorf("%s, %s, %+v, %s, direct %v: %v, %v", test.filter, test.placing.name, test.tag, layout, isDirect, got, err)
				}
			}
		}
	}
}

// TestTagsInside: what is in a tunnel has no tag beside it.
func TestTagsInside(t *testing.T) {
	outer := udpFrame()
	copy(outer[packet.EthernetHeader+20+2:], be16(4789)) // the destination port
	inside := append(append(outer, make([]byte, packet.VXLANHeader)...), udpFrame(7)...)
	for text, want := range map[string]bool{"vlan 5": false, "vlan 7": true, "vlan 7 and udp port 53": true} {
		f := filterOf(t, text)
		f.Tunnel = ports()
		m, err := f.Of(kernelTypes(t, tagAll)["sk_buff"])
		if err != nil {
			t.Fatal(err)
		}
		memory := placings[0].place(rand.New(rand.NewPCG(15, 16)), inside, len(inside))
		memory.putTag(packet.Tag{Proto: packet.EtherVLAN, TCI: 5})
		byEval, err := m.Match(memoryAddr+structAt, memory.read)
		if err != nil || byEval != want {
			t.Errorf("%s: %v, %v", text, byEval, err)
		}
		if got, err := compile(t, m, false).run(memory); err != nil || (got == 1) != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

// TestTagsUnasked: a filter that asks for no tag has the same code whether there may be one
// or not.
func TestTagsUnasked(t *testing.T) {
	with := kernelTypes(t, tagBit)["sk_buff"]
	without := *with
	without.Tag = packet.TagForm{}
	for text, same := range map[string]bool{"udp port 53": true, "ether host 1:2:3:4:5:6 or ip6": true, "vlan 5": false} {
		for _, isDirect := range []bool{false, true} {
			var code [2][]byte
			for i, form := range []*packet.Form{with, &without} {
				m, err := filterOf(t, text).Of(form)
				if err != nil {
					t.Fatal(err)
				}
				var b bytes.Buffer
				if err := compile(t, m, isDirect).insns.Marshal(&b, binary.LittleEndian); err != nil {
					t.Fatal(err)
				}
				code[i] = b.Bytes()
			}
			if got := bytes.Equal(code[0], code[1]); got != same {
				t.Errorf("%s, direct %v: the code is the same: %v", text, isDirect, got)
			}
		}
	}
}

// located is what code writes of a packet's place.
type located struct {
	Start          uint64
	Linear, Length int64
	Raw            bool
	Tag            packet.Tag
}

// locate runs AppendLocate's code.
func locate(t *testing.T, form *packet.Form, m *memory, isDirect bool) located {
	t.Helper()
	code := &bpfasm.Code{}
	unread := code.Label()
	const to = top - 8
	code.Add(
		asm.LoadImm(asm.R0, bpfvm.OutAddr, asm.DWord),
		asm.StoreMem(asm.RFP, to, asm.R0, asm.DWord),
		asm.LoadMem(asm.R0, asm.RFP, -8, asm.DWord),
		asm.Mov.Imm(asm.R9, 109),
	)
	bottom := AppendLocate(form, code, Options{Top: to, Unread: unread, Direct: isDirect}, to,
		Place{Start: 0, Linear: 8, Length: 16, Shared: 24, Raw: 32, TagProto: 34, TagTCI: 36})
	code.Add(asm.Mov.Reg(asm.R0, asm.R9), asm.Return()) // the registers of the program around it are as they were
	code.Place(unread)
	code.Add(asm.Mov.Imm(asm.R0, answerUnread), asm.Return())
	insns, err := code.Instructions()
	if err != nil {
		t.Fatal(err)
	}
	vm := bpfvm.VM{Read: m.read, Loads: isDirect, Out: make([]byte, 40)}
	vm.SetStack(-8, memoryAddr+structAt)
	if r0, err := vm.Run(insns); err != nil || r0 != 109 || vm.Lowest() < int(bottom) {
		t.Fatalf("%d, %v; it wrote to %d, and told of %d", r0, err, vm.Lowest(), bottom)
	}
	le := binary.LittleEndian
	return located{
		le.Uint64(vm.Out), int64(le.Uint64(vm.Out[8:])), int64(le.Uint64(vm.Out[16:])), vm.Out[32] != 0,
		packet.Tag{Proto: le.Uint16(vm.Out[34:]), TCI: le.Uint16(vm.Out[36:])},
	}
}

// TestLocate: where packets are, and the tags beside them.
func TestLocate(t *testing.T) {
	r := rand.New(rand.NewPCG(17, 18))
	forms := map[tagLayout]map[string]*packet.Form{tagBit: kernelTypes(t, tagBit), tagAll: kernelTypes(t, tagAll)}
	tagged := 0
	for range 300 {
		p := placings[r.IntN(len(placings))]
		sent := randomPacket(r, p.link == packet.Ethernet)
		if len(sent) < p.pulled {
			continue
		}
		m := p.place(r, sent, len(sent))
		if m.tagOf(p).Proto != 0 {
			tagged++
		}
		for layout, of := range forms {
			for _, isDirect := range []bool{false, true} {
				got := locate(t, of[p.form], m, isDirect)
				want := located{got.Start, int64(len(sent)), int64(len(sent)), p.link == packet.Raw, m.tagOf(p)}
				if got != want {
					t.Errorf("%s, %s, direct %v: %+v, want %+v", p.name, layout, isDirect, got, want)
				}
				found := make([]byte, len(sent))
				if err := m.read(got.Start, found); err != nil || !bytes.Equal(found, sent) {
					t.Errorf("%s: %v, % x at %#x, want % x", p.name, err, found, got.Start, sent)
				}
			}
		}
	}
	if tagged < 50 {
		t.Errorf("only %d packets have a tag", tagged)
	}
}
