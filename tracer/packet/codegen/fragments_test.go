package codegen

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf/asm"

	ourbpf "fgtrace/bpf"
	"fgtrace/bpf/wire"
	"fgtrace/tracer/packet"
)

const (
	controlAddr = 0x7fff20000000 // struct control

	mostFrags = 5
	countAt   = 2 // in struct skb_shared_info
	fragsAt   = 16
	pagesAt   = 2560 // memory of fragments
	pageShift = 6
	pageSize  = 16 // of a struct page
)

// pages says where the memory of fragments is.
var pages = packet.Pages{
	Fragments: packet.Fragments{PageSize: pageSize, PageShift: pageShift, Count: countAt, First: fragsAt, Most: mostFrags},
	FirstPage: 0xffffea0000000000, Base: memoryAddr + pagesAt,
}

// fragment puts bytes in fragments, and does something to some of them.
func (m *memory) fragment(r *rand.Rand, bytes []byte) {
	shared := m.raw[sharedInfoAt:]
	binary.LittleEndian.PutUint32(shared[fragsSizeAt:], uint32(len(bytes)))
	count := 1 + r.IntN(mostFrags)
	shared[countAt] = byte(count)
	at := 0
	for i := range count {
		n := r.IntN(len(bytes) + 1)
		switch {
		case r.IntN(2) == 0:
			n = min(n, r.IntN(4))
		case i == count-1:
			n = len(bytes)
		}
		at += r.IntN(20)
		copy(m.raw[pagesAt+at:], bytes[:n])
		page := at >> pageShift
		page -= r.IntN(page + 1) // of several that are one
		f := shared[fragsAt+16*i:]
		binary.LittleEndian.PutUint64(f, pages.FirstPage+uint64(page*pageSize))
		binary.LittleEndian.PutUint32(f[8:], uint32(n))
		binary.LittleEndian.PutUint32(f[12:], uint32(at-page<<pageShift))
		bytes, at = bytes[n:], at+n
		if n > 0 && r.IntN(40) == 0 {
			f[0], m.lost = f[0]|1, true // memory of a device
		}
	}
	m.lost = m.lost || len(bytes) > 0 // a list of further packets
	if r.IntN(20) == 0 {
		shared[countAt], m.lost = byte(mostFrags+1+r.IntN(50)), true // garbage
	}
}

// packetBytes is the function that programs get, for memory of these tests.
func packetBytes(t testing.TB) asm.Instructions {
	t.Helper()
	spec, err := ourbpf.Spec()
	if err != nil {
		t.Fatal(err)
	}
	constants := map[uint32]uint64{
		wire.ConfigPageSize: pages.PageSize, wire.ConfigPageShift: pages.PageShift, wire.ConfigNrFrags: pages.Count,
		wire.ConfigFrags: pages.First, wire.ConfigMostFrags: pages.Most,
	}
	insns := spec.Programs[ourbpf.FuncPacketBytes].Instructions
	var filled asm.Instructions
	for _, ins := range insns {
		switch {
		case ins.IsLoadFromMap():
			ins = asm.LoadImm(ins.Dst, int64(controlAddr), asm.DWord)
		case ins.OpCode.IsDWordLoad() && uint64(ins.Constant)>>32 == wire.ConfigMark>>32:
			value, ok := constants[uint32(ins.Constant)]
			if !ok {
				t.Fatalf("constant %d has no value", uint32(ins.Constant))
			}
			ins = asm.LoadImm(ins.Dst, int64(value), asm.DWord)
		}
		filled = append(filled, ins)
	}
	return filled
}

// controlWords is struct control.
func controlWords() []byte {
	var words [wire.ControlSize]byte
	var at *wire.Control
	binary.LittleEndian.PutUint64(words[unsafe.Offsetof(at.Pages):], pages.FirstPage)
	binary.LittleEndian.PutUint64(words[unsafe.Offsetof(at.PageBase):], pages.Base)
	return words[:]
}
