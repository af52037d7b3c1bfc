package tracer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"fgtrace/bpf"
	"fgtrace/btfx"
	"fgtrace/internal/bpfsys"
	"fgtrace/tracer/packet"
	"fgtrace/tracer/plan"
)

// Fragments of packets are pages, of which the kernel keeps a struct page and no
// address: it calculates that (page_to_virt), in a way that is the architecture's, and
// with bases that differ from boot to boot.

// Names of the variables that have them on x86 (CONFIG_DYNAMIC_MEMORY_LAYOUT).
const (
	symVmemmapBase    = "vmemmap_base"
	symPageOffsetBase = "page_offset_base"
)

func isPageVariable(name []byte) bool {
	return string(name) == symVmemmapBase || string(name) == symPageOffsetBase
}

// pageMap says where memory is: a struct page is size bytes, the first one at pages, and
// what it is about at base.
type pageMap struct{ pages, base uint64 }

// addr returns the address of what a struct page is about.
func (m pageMap) addr(page, size, bytes uint64) uint64 {
	return m.base + (page-m.pages)/size*bytes
}

// fragments returns how packets' fragments are read, but where pages are; the error says
// why they are not.
func fragments(k *plan.Kernel) (f packet.Fragments, err error) {
	page, ok := k.Types.FindType(btfx.KindStruct, "page")
	if !ok {
		return f, errors.New("find struct page: it is not in BTF")
	}
	size, err := k.Types.Size(page)
	if err != nil {
		return f, err
	}
	shared, ok := k.Types.FindType(btfx.KindStruct, "skb_shared_info")
	if !ok {
		return f, errors.New("find struct skb_shared_info: it is not in BTF")
	}
	count, err := k.Types.Member(shared, "nr_frags")
	if err != nil {
		return f, err
	}
	first, err := k.Types.Member(shared, "frags")
	if err != nil {
		return f, err
	}
	most, err := checkFragment(k, first.Type)
	if err != nil {
		return f, err
	}
	for bytes := os.Getpagesize(); bytes > 1; bytes /= 2 {
		f.PageShift++
	}
	f.PageSize, f.Count, f.First, f.Most = uint64(size), uint64(count.Offset/8), uint64(first.Offset/8), uint64(most)
	return f, nil
}

// checkFragment compares the struct of a fragment with what the program reads, and
// returns how many there is room for.
func checkFragment(k *plan.Kernel, array btfx.ID) (most int, err error) {
	layout, err := k.Types.Layout(array)
	if err != nil {
		return 0, err
	}
	if layout.Kind != btfx.Array || layout.Elem.Size != 16 {
		return 0, fmt.Errorf("read fragments: %s is not known", layout.Type)
	}
	for i, want := range []struct{ offset, size int }{{0, 8}, {64, 4}, {96, 4}} { // page, len, offset
		m := layout.Elem.Members
		if i >= len(m) || m[i].Offset != want.offset || m[i].Layout.Size != want.size {
			return 0, fmt.Errorf("read fragments: %s is not known", layout.Elem.Type)
		}
	}
	return layout.Len, nil
}

// findPages tells programs where pages are, as far as a page that is known confirms it:
// the first one of the ring buffer, whose own struct is in it.
func (s *Session) findPages(symbols *Symbols) error {
	known, err := s.knownPage()
	if err != nil {
		return err
	}
	size, bytes := s.fragments.PageSize, uint64(os.Getpagesize())
	for _, m := range s.pageMaps(symbols, size, bytes) {
		if got, err := s.peekWord(m.addr(known.page, size, bytes) + known.offset); err == nil && got == known.value {
			return errors.Join(s.setControl(controlPageBase, m.base), s.setControl(controlPages, m.pages))
		}
	}
	return errors.New("find pages: they are not where any kernel that is known has them")
}

// pageMaps returns where pages may be.
func (s *Session) pageMaps(symbols *Symbols, size, bytes uint64) (maps []pageMap) {
	if s.kernel.Arch.PerCPUPreemptCount { // x86
		pages, err := s.peekWord(symbols.variables[symVmemmapBase])
		base, err2 := s.peekWord(symbols.variables[symPageOffsetBase])
		if err == nil && err2 == nil {
			maps = append(maps, pageMap{pages, base})
		}
		// Without KASLR for memory (Documentation/arch/x86/x86_64/mm.rst).
		return append(maps, pageMap{0xffffea0000000000, 0xffff888000000000}, pageMap{0xffd4000000000000, 0xff11000000000000})
	}
	// arch/arm64/include/asm/memory.h: up to 6.8, and since (32697ff38287).
	for _, bits := range []int{48, 52, 47, 42, 39, 36} {
		base := -(uint64(1) << bits)
		maps = append(maps, pageMap{-(uint64(1) << bits / bytes * size), base})
		for _, least := range []int{min(bits, 48), bits} {
			linear := -(uint64(1) << (least - 1)) - base
			maps = append(maps, pageMap{vmemmapEnd - linear/bytes*size, base})
		}
	}
	return maps
}

// vmemmapEnd is VMEMMAP_END of arm64: 1 GB below the end.
const vmemmapEnd = 1<<64 - 1<<30

// knownPage is a page that has a known word at an offset.
type knownPage struct{ page, offset, value uint64 }

// knownPage returns the page that has the ring buffer's own struct (bpf_ringbuf_area_alloc
// in kernel/bpf/ringbuf.c), which has the address of the list of its pages.
func (s *Session) knownPage() (p knownPage, err error) {
	member := func(name, member string) uint64 {
		id, ok := s.kernel.Types.FindType(btfx.KindStruct, name)
		if !ok {
			err = errors.Join(err, fmt.Errorf("find struct %s: it is not in BTF", name))
			return 0
		}
		m, missing := s.kernel.Types.Member(id, member)
		err = errors.Join(err, missing)
		return uint64(m.Offset / 8)
	}
	ringbuf, pages := member("bpf_ringbuf_map", "rb"), member("bpf_ringbuf", "pages")
	if err != nil {
		return p, err
	}
	address, err := s.mapAddress(s.maps[bpf.MapEvents])
	if err != nil {
		return p, err
	}
	rb, err := s.peekWord(address + ringbuf)
	if err != nil {
		return p, err
	}
	if p.value, err = s.peekWord(rb + pages); err != nil {
		return p, err
	}
	p.offset = pages
	p.page, err = s.peekWord(p.value)
	return p, err
}

// mapAddress returns where the kernel has a map.
func (s *Session) mapAddress(m *ebpf.Map) (uint64, error) {
	prog, err := bpfsys.Load(bpfsys.Program{Name: "map_address", Type: ebpf.RawTracepoint, Insns: asm.Instructions{
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.LoadMapValue(asm.R2, s.maps[bpf.MapControl].FD(), uint32(s.bases.peeked)),
		asm.StoreMem(asm.R2, 0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	}})
	if err != nil {
		return 0, fmt.Errorf("load program: %w", err)
	}
	s.others = append(s.others, prog)
	if _, err := bpfsys.RunRawTracepoint(prog, 0, 0); err != nil {
		return 0, fmt.Errorf("run program: %w", err)
	}
	var word [8]byte
	if _, err := s.control.ReadAt(word[:], s.bases.peeked); err != nil {
		return 0, fmt.Errorf("read address of a map: %w", err)
	}
	return binary.LittleEndian.Uint64(word[:]), nil
}

// peekWord reads a word of the kernel's memory.
func (s *Session) peekWord(addr uint64) (uint64, error) {
	var word [8]byte
	err := s.peek(addr, word[:])
	return binary.LittleEndian.Uint64(word[:]), err
}
