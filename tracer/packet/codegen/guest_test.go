package codegen_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"

	"fgtrace/btfx"
	"fgtrace/internal/bpfasm"
	"fgtrace/internal/guesttest"
	"fgtrace/internal/pcapfilter"
	"fgtrace/internal/pcaptest"
	"fgtrace/tracer/packet"
	"fgtrace/tracer/packet/codegen"
)

// TestGuestKnownFilters compares expressions such as pcap-filter(7) has with libpcap's own
// bpf_filter, in the kernel. It runs in the VMs of matrix's TestKernels, which make
// the set.
func TestGuestKnownFilters(t *testing.T) {
	compareSet(t, "/testdata/known.set", func(k *kernel, i int) []target {
		return []target{k.targets[0], k.targets[1+i%(len(k.targets)-1)]}
	})
}

// TestGuestRandomFilters does it with what no one would write: the verifier takes all that
// the compiler makes.
func TestGuestRandomFilters(t *testing.T) {
	compareSet(t, "/testdata/random.set", func(k *kernel, i int) []target {
		return []target{k.targets[i%len(k.targets)]}
	})
}

// A packet's slot in the kernel's memory: a struct for each form, and the packet.
const (
	skbAt    = 0
	buffAt   = 320
	frameAt  = 384
	headAt   = 512 // of the struct sk_buff
	packetAt = headAt + 64
	slotSize = packetAt + pcaptest.MaxPacket
)

// target is how packets are handed to filters.
type target struct {
	form *packet.Form
	at   int   // of the struct, in a slot
	cast int32 // the type that it is loaded as; 0: it is read
}

func (to target) String() string {
	how := "read"
	if to.cast != 0 {
		how = "loaded"
	}
	return how + " struct " + to.form.Name
}

// compareSet compares the filters that are this guest's; of says how the i-th of them gets
// its packets.
func compareSet(t *testing.T, path string, of func(k *kernel, i int) []target) {
	t.Helper()
	guesttest.Only(t)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	set, err := pcaptest.Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	k := newKernel(t)
	k.fill(t, set.Packets)
	filters, programs := 0, 0
	for i := range set.Filters {
		if !guesttest.InShare(t, i) {
			continue
		}
		for _, to := range of(k, filters) {
			k.compare(t, to, &set.Filters[i], set.Packets)
			programs++
		}
		filters++
	}
	if k.refused > programs/20 {
		t.Errorf("%d of %d programs are too large", k.refused, programs)
	}
	t.Logf("%d of %d filters, %d programs, %d packets, %d verdicts; %d too large, %v to load",
		filters, len(set.Filters), programs, len(set.Packets), k.verdicts, k.refused, k.loading.Round(time.Millisecond))
}

// kernel has packets in its memory, and programs that run filters on them.
type kernel struct {
	targets []target
	cast    int32        // bpf_rdonly_cast
	bytes   codegen.Cast // how packets are loaded where structs are

	slots, results, next, tail *ebpf.Map

	base uint64 // of the slots

	verdicts int // that were compared
	refused  int // programs, by the compiler
	loading  time.Duration
}

func newKernel(t *testing.T) *kernel {
	t.Helper()
	raw, err := os.ReadFile("/sys/kernel/btf/vmlinux")
	if err != nil {
		t.Fatal(err)
	}
	types, err := btfx.Parse(raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	k := &kernel{}
	for _, of := range []struct {
		taker, name string // a function whose argument is a pointer to it
		at          int
	}{{"kfree_skb_partial", "sk_buff", skbAt}, {"xdp_return_buff", "xdp_buff", buffAt}, {"xdp_return_frame", "xdp_frame", frameAt}} {
		k.targets = append(k.targets, target{formTaken(t, types, of.taker), of.at, 0})
	}
	// From Linux 6.2 on a number can be taken for a pointer, whose members are loaded.
	if cast, ok := types.FindFunc("bpf_rdonly_cast"); ok {
		k.cast = int32(cast)
		if k.bytes = codegen.CastOf(types); k.bytes.Size < 60 { // headers up to the ports
			t.Errorf("%+v", k.bytes)
		}
		for _, read := range k.targets {
			id, _ := types.FindType(btfx.KindStruct, read.form.Name)
			k.targets = append(k.targets, target{read.form, read.at, int32(id)})
		}
	}
	return k
}

// formTaken returns the form of a function's first argument.
func formTaken(t *testing.T, types *btfx.Types, function string) *packet.Form {
	t.Helper()
	id, ok := types.FindFunc(function)
	if !ok {
		t.Fatalf("no %s", function)
	}
	proto, err := types.Proto(id)
	if err != nil {
		t.Fatal(err)
	}
	form, err := packet.FormOf(types, proto.Params[0].Type)
	if err != nil {
		t.Fatal(err)
	}
	return form
}

// fill puts packets into the kernel's memory.
func (k *kernel) fill(t *testing.T, packets []pcaptest.Packet) {
	t.Helper()
	array := func(kind ebpf.MapType, size, count int) *ebpf.Map {
		m, err := ebpf.NewMap(&ebpf.MapSpec{Type: kind, KeySize: 4, ValueSize: uint32(size), MaxEntries: uint32(count)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.Close() })
		return m
	}
	k.slots = array(ebpf.Array, slotSize, len(packets))
	k.results = array(ebpf.Array, len(packets), 1)
	k.next = array(ebpf.Array, 8, 1)
	k.tail = array(ebpf.ProgramArray, 4, 1)
	k.base = k.address(t)
	for i, p := range packets {
		if err := k.slots.Put(uint32(i), k.slot(i, p)); err != nil {
			t.Fatal(err)
		}
	}
}

// address returns that of the first slot; the others follow.
func (k *kernel) address(t *testing.T) uint64 {
	t.Helper()
	code := &bpfasm.Code{}
	none := code.Label()
	code.Add(
		asm.Mov.Imm(asm.R1, 0),
		asm.StoreMem(asm.RFP, -8, asm.R1, asm.DWord),
		asm.LoadMapPtr(asm.R1, k.slots.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -8),
		asm.FnMapLookupElem.Call(),
	)
	code.JumpIf(asm.JEq, asm.R0, 0, none)
	code.Add(asm.LoadMapValue(asm.R1, k.next.FD(), 0), asm.StoreMem(asm.R1, 0, asm.R0, asm.DWord))
	code.Place(none)
	code.Add(asm.Mov.Imm(asm.R0, 0), asm.Return())
	prog := load(t, code)
	defer prog.Close()
	if _, err := prog.Run(&ebpf.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	var base uint64
	if err := k.next.Lookup(uint32(0), &base); err != nil {
		t.Fatal(err)
	}
	if base>>63 == 0 {
		t.Fatalf("the kernel has a map at %#x", base)
	}
	return base
}

func load(t *testing.T, code *bpfasm.Code) *ebpf.Program {
	t.Helper()
	prog, err := tryLoad(code)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	return prog
}

// errRefused tells that the compiler, not the kernel, refuses a filter.
var errRefused = errors.New("compile filter")

func tryLoad(code *bpfasm.Code) (*ebpf.Program, error) {
	insns, err := code.Instructions()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errRefused, err)
	}
	// Reads of the kernel's memory are for programs of this license.
	return ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.RawTracepoint, Instructions: insns, License: "GPL"})
}

// slot is a packet with structs around it: one that was received, or sent, or is to get
// its Ethernet header.
func (k *kernel) slot(number int, p pcaptest.Packet) []byte {
	slot := make([]byte, slotSize)
	for i := packetAt + len(p.Bytes); i < len(slot); i++ {
		slot[i] = 0xa5 // what is behind a packet is not the packet's
	}
	copy(slot[packetAt:], p.Bytes)
	base := k.base + uint64(number*slotSize)
	begin := uint64(packetAt - headAt)
	network := begin
	if p.Link == pcapfilter.Ethernet {
		network += packet.EthernetHeader
	}
	mac, data := uint64(packet.NoHeader), begin
	if received := p.Link == pcapfilter.Ethernet && number%2 == 0 && len(p.Bytes) >= packet.EthernetHeader; received {
		mac, data = begin, network
	}
	length := uint64(len(p.Bytes))
	members := map[string]map[string]uint64{
		"sk_buff": {
			"head": base + headAt, "end": slotSize - headAt, "mac_header": mac, "network_header": network,
			"data": base + headAt + data, "len": length - (data - begin),
		},
		"xdp_buff":  {"data": base + packetAt, "data_end": base + packetAt + length},
		"xdp_frame": {"data": base + packetAt, "len": length},
	}
	for _, to := range k.targets {
		for name, value := range members[to.form.Name] {
			to.put(slot, name, value)
		}
	}
	return slot
}

// put sets a member of a target's struct, if its kernel has that.
func (to target) put(slot []byte, name string, value uint64) {
	field, ok := to.form.Fields[name]
	if !ok {
		return
	}
	var word [8]byte
	binary.LittleEndian.PutUint64(word[:], value)
	copy(slot[to.at+field.Offset:], word[:field.Size])
}

// answer is a filter's.
type answer byte

const (
	answerNo answer = iota
	answerYes
	answerUnread
	answerNone // it has not run
)

func (a answer) String() string { return [...]string{"no", "yes", "unread", "none"}[a] }

// compare runs a filter on all packets.
func (k *kernel) compare(t *testing.T, to target, f *pcaptest.Filter, packets []pcaptest.Packet) {
	t.Helper()
	m, err := (&packet.Filter{Text: f.Text, Ethernet: f.Ethernet, Raw: f.Raw}).Of(to.form)
	if err != nil {
		t.Errorf("%s: %v", f.Text, err)
		return
	}
	answers, err := k.run(t, to, m, len(packets))
	if errors.Is(err, errRefused) && (pcaptest.GoesBack(f.Ethernet) || pcaptest.GoesBack(f.Raw)) {
		k.refused++ // what is unrolled may be too large
		return
	}
	if err != nil {
		t.Errorf("%s, %s: %v; %v", f.Text, to, err, f.Ethernet)
		return
	}
	wrong, asked, unread := 0, 0, 0
	for i, p := range packets {
		if p.Link == pcapfilter.Raw && to.form.Name != "sk_buff" {
			continue // XDP has Ethernet headers
		}
		k.verdicts++
		got := answer(answers[i])
		if f.Verdicts[i] != pcaptest.Endless {
			asked++
			if got == answerUnread {
				unread++
			}
		}
		if isRight(got, f, p, f.Verdicts[i]) {
			continue
		}
		if wrong++; wrong <= 3 {
			t.Errorf("%s, %s, packet %d of link type %d: %v in the kernel, %v by libpcap: %x", f.Text, to, i, p.Link, got, f.Verdicts[i], p.Bytes)
		}
	}
	if wrong > 3 {
		t.Errorf("%s, %s: %d packets", f.Text, to, wrong)
	}
	if unread > asked/10 {
		t.Errorf("%s, %s: no answer to %d of %d packets", f.Text, to, unread, asked)
	}
}

// isRight: of long chains of headers an answer may be missing.
func isRight(got answer, f *pcaptest.Filter, p pcaptest.Packet, verdict pcaptest.Verdict) bool {
	code := f.Ethernet
	if p.Link == pcapfilter.Raw {
		code = f.Raw
	}
	switch got {
	case answerNo:
		return verdict == pcaptest.No
	case answerYes:
		return verdict == pcaptest.Yes
	case answerUnread:
		return pcaptest.GoesBack(code)
	}
	return false
}

// run returns a filter's answers.
func (k *kernel) run(t *testing.T, to target, m *packet.Matcher, count int) ([]byte, error) {
	t.Helper()
	began := time.Now()
	prog, err := k.load(to, m, count)
	k.loading += time.Since(began)
	if err != nil {
		return nil, err
	}
	defer prog.Close()
	if err := errors.Join(
		k.tail.Put(uint32(0), prog),
		k.next.Put(uint32(0), uint64(0)),
		k.results.Put(uint32(0), bytes.Repeat([]byte{byte(answerNone)}, count)),
	); err != nil {
		t.Fatal(err)
	}
	for next, before := uint64(0), uint64(0); next < uint64(count); before = next {
		if _, err := prog.Run(&ebpf.RunOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := k.next.Lookup(uint32(0), &next); err != nil {
			t.Fatal(err)
		}
		if next == before {
			t.Fatalf("packet %d is not filtered", next)
		}
	}
	answers := make([]byte, count)
	if err := k.results.Lookup(uint32(0), answers); err != nil {
		t.Fatal(err)
	}
	return answers, nil
}

// load makes a program that filters the next packet, and calls itself for the one after
// it, as often as the kernel lets it.
func (k *kernel) load(to target, m *packet.Matcher, count int) (*ebpf.Program, error) {
	const ctx, number, top = -8, -16, -16
	code := &bpfasm.Code{}
	unread, answered, end := code.Label(), code.Label(), code.Label()
	code.Add(
		asm.StoreMem(asm.RFP, ctx, asm.R1, asm.DWord),
		asm.LoadMapValue(asm.R2, k.next.FD(), 0),
		asm.LoadMem(asm.R1, asm.R2, 0, asm.DWord),
	)
	code.JumpIf(asm.JGE, asm.R1, int32(count), end)
	code.Add(
		asm.StoreMem(asm.RFP, number, asm.R1, asm.DWord),
		asm.Mov.Reg(asm.R0, asm.R1),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R2, 0, asm.R1, asm.DWord),
		asm.Mul.Imm(asm.R0, slotSize),
	)
	code.Set(asm.R1, k.base+uint64(to.at))
	code.Add(asm.Add.Reg(asm.R0, asm.R1))
	if to.cast != 0 {
		code.Add(
			asm.Mov.Reg(asm.R1, asm.R0),
			asm.Mov.Imm(asm.R2, to.cast),
			asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call), Src: asm.PseudoKfuncCall, Constant: int64(k.cast)},
		)
	}
	for r := asm.R6; r <= asm.R9; r++ {
		code.Add(asm.Mov.Imm(r, 0)) // the filter saves them
	}
	o := codegen.Options{Top: top, Unread: unread}
	if to.cast != 0 {
		o.Direct, o.Cast = true, k.bytes
	}
	if _, err := codegen.AppendCode(m, code, o); err != nil {
		return nil, err
	}
	code.Jump(answered)
	code.Place(unread)
	code.Add(asm.Mov.Imm(asm.R0, int32(answerUnread)))
	code.Place(answered)
	code.Add(asm.LoadMem(asm.R1, asm.RFP, number, asm.DWord))
	code.JumpIf(asm.JGE, asm.R1, int32(count), end)
	code.Add(
		asm.LoadMapValue(asm.R2, k.results.FD(), 0),
		asm.Add.Reg(asm.R2, asm.R1),
		asm.StoreMem(asm.R2, 0, asm.R0, asm.Byte),
		asm.LoadMem(asm.R1, asm.RFP, ctx, asm.DWord),
		asm.LoadMapPtr(asm.R2, k.tail.FD()),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnTailCall.Call(),
	)
	code.Place(end)
	code.Add(asm.Mov.Imm(asm.R0, 0), asm.Return())
	return tryLoad(code)
}
