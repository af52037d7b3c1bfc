package codegen

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/net/bpf"

	"fgtrace/bpf/wire"
	"fgtrace/btfx"
	"fgtrace/internal/bpfasm"
	"fgtrace/internal/bpfvm"
	"fgtrace/internal/btftest"
	"fgtrace/internal/pcapfilter"
	"fgtrace/tracer/packet"
)

// tagLayout is how a struct sk_buff has a tag beside its packet.
type tagLayout string

const (
	tagBit tagLayout = "a bit" // tells whether there is one
	tagAll tagLayout = "all"   // of it is 0, or there is one
)

// kernelTypes are the packets' structs, with members where no kernel has them.
func kernelTypes(t testing.TB, tag tagLayout) map[string]*packet.Form { return typesOf(t, tag, false) }

// typesOf are also those of a kernel where XDP packets' fragments are not known.
func typesOf(t testing.TB, tag tagLayout, isOld bool) map[string]*packet.Form {
	t.Helper()
	u16 := &btf.Int{Name: "unsigned short", Size: 2}
	u8 := &btf.Int{Name: "unsigned char", Size: 1}
	tags := map[tagLayout][]btf.Member{
		tagBit: {
			{Name: "vlan_proto", Type: u16, Offset: 8 * 32}, {Name: "vlan_tci", Type: u16, Offset: 8 * 34},
			{Name: "other", Type: u8, Offset: 8 * 38, BitfieldSize: tagShift}, {Name: "vlan_present", Type: u8, Offset: 8*38 + tagShift, BitfieldSize: 1},
		},
		tagAll: {{Type: &btf.Union{Size: 4, Members: []btf.Member{
			{Name: "vlan_all", Type: btftest.U32},
			{Type: &btf.Struct{Size: 4, Members: []btf.Member{{Name: "vlan_proto", Type: u16}, {Name: "vlan_tci", Type: u16, Offset: 8 * 2}}}},
		}}, Offset: 8 * 32}},
	}
	structs := []*btf.Struct{
		{Name: "sk_buff", Size: 120, Members: append(tags[tag],
			btf.Member{Name: "len", Type: btftest.U32, Offset: 8 * 20}, btf.Member{Name: "data_len", Type: btftest.U32, Offset: 8 * 24},
			btf.Member{Name: "mac_header", Type: u16, Offset: 8 * 30}, btf.Member{Name: "network_header", Type: u16, Offset: 8 * 36},
			btf.Member{Name: "head", Type: btftest.VoidP, Offset: 8 * 96}, btf.Member{Name: "data", Type: btftest.VoidP, Offset: 8 * 104},
			btf.Member{Name: "end", Type: btftest.U32, Offset: 8 * 92},
		)},
		{Name: "xdp_buff", Size: 56, Members: []btf.Member{
			{Name: "data", Type: btftest.VoidP}, {Name: "data_end", Type: btftest.VoidP, Offset: 8 * 8}, {Name: "flags", Type: btftest.U32, Offset: 8 * 52},
			{Name: "data_hard_start", Type: btftest.VoidP, Offset: 8 * 24}, {Name: "frame_sz", Type: btftest.U32, Offset: 8 * 48},
		}},
		{Name: "xdp_frame", Size: 40, Members: []btf.Member{
			{Name: "data", Type: btftest.VoidP}, {Name: "len", Type: u16, Offset: 8 * 8}, {Name: "headroom", Type: u16, Offset: 8 * 10},
			{Name: "frame_sz", Type: btftest.U32, Offset: 8 * 32}, {Name: "flags", Type: btftest.U32, Offset: 8 * 36},
		}},
		{Name: "skb_shared_info", Size: 300, Members: []btf.Member{{Name: "xdp_frags_size", Type: btftest.U32, Offset: 8 * fragsSizeAt}}},
		{Name: "sock", Size: 8},
	}
	if isOld {
		structs[1].Members, structs[2].Members = structs[1].Members[:3], structs[2].Members[:2]
	}
	var all []btf.Type
	for _, s := range structs {
		all = append(all, &btf.Typedef{Name: s.Name + "_p", Type: &btf.Const{Type: &btf.Pointer{Target: &btf.Const{Type: s}}}})
	}
	types := btftest.Types(t, all...)
	forms := map[string]*packet.Form{}
	for _, s := range structs {
		name := s.Name
		pointer, ok := types.FindType(btfx.KindTypedef, name+"_p")
		if !ok {
			t.Fatalf("no pointer to %s", name)
		}
		form, err := packet.FormOf(types, pointer)
		switch {
		case errors.Is(err, packet.ErrNoPacket) && (name == "sock" || name == "skb_shared_info"):
		case err != nil:
			t.Fatal(err)
		default:
			forms[name] = form
		}
	}
	return forms
}

// memory is where a test has a struct and its packet, and maybe a tag beside that.
type memory struct {
	raw  []byte
	tag  packet.Tag
	lost bool // some of the packet can't be read
}

const (
	tagShift   = 3 // of the bit that tells of a tag
	memoryAddr = uint64(0xffff888000100000)
	structAt   = 64
	headAt     = 256
	memorySize = 4096

	sharedInfoAt = 2048 // struct skb_shared_info
	fragsSizeAt  = 8
)

var errFault = errors.New("not mapped")

func (m *memory) read(addr uint64, buf []byte) error {
	if at := addr - controlAddr; at < wire.ControlSize {
		copy(buf, controlWords()[at:])
		return nil
	}
	at := addr - memoryAddr
	if at > uint64(len(m.raw)) || uint64(len(buf)) > uint64(len(m.raw))-at {
		return errFault
	}
	copy(buf, m.raw[at:])
	return nil
}

func (m *memory) put(offset int, size int, value uint64) {
	var word [8]byte
	binary.LittleEndian.PutUint64(word[:], value)
	copy(m.raw[structAt+offset:], word[:size])
}

// putTag writes a tag as both layouts have it.
func (m *memory) putTag(tag packet.Tag) {
	m.tag = tag
	binary.BigEndian.PutUint16(m.raw[structAt+32:], tag.Proto)
	m.put(34, 2, uint64(tag.TCI))
	m.raw[structAt+38] &^= 1 << tagShift
	if tag.Proto != 0 {
		m.raw[structAt+38] |= 1 << tagShift
	}
}

// tagOf is what the struct of a placing has.
func (m *memory) tagOf(p placing) packet.Tag {
	if p.form != "sk_buff" {
		return packet.Tag{}
	}
	return m.tag
}

// placing is a way in which a packet is in memory.
type placing struct {
	name   string
	form   string
	link   packet.Link
	pulled int // bytes in front of the struct's data
	// put writes the struct for a packet that begins at an offset from headAt, and
	// has so many bytes there and in all.
	put func(m *memory, at, linear, total int)
}

func skb(m *memory, head, mac, network, data, linear, total int) {
	m.put(20, 4, uint64(total))
	m.put(24, 4, uint64(total-linear))
	m.put(30, 2, uint64(mac))
	m.put(36, 2, uint64(network))
	m.put(92, 4, uint64(sharedInfoAt-head))
	m.put(96, 8, memoryAddr+uint64(head))
	m.put(104, 8, memoryAddr+uint64(head+data))
}

var placings = []placing{
	{"received", "sk_buff", packet.Ethernet, 14, func(m *memory, at, linear, total int) { skb(m, headAt, at, at+14, at+14, linear-14, total-14) }},
	{"received, at the transport header", "sk_buff", packet.Ethernet, 34, func(m *memory, at, linear, total int) { skb(m, headAt, at, at+14, at+34, linear-34, total-34) }},
	{"of no protocol yet", "sk_buff", packet.Ethernet, 14, func(m *memory, at, linear, total int) { skb(m, headAt, at, 0, at+14, linear-14, total-14) }},
	{"with a tag", "sk_buff", packet.Ethernet, 18, func(m *memory, at, linear, total int) { skb(m, headAt, at, at+18, at+18, linear-18, total-18) }},
	{"sent", "sk_buff", packet.Ethernet, 0, func(m *memory, at, linear, total int) { skb(m, headAt, packet.NoHeader, at+14, at, linear, total) }},
	{"sent in a tunnel", "sk_buff", packet.Ethernet, 0, func(m *memory, at, linear, total int) { skb(m, headAt, at+50, at+14, at, linear, total) }},
	{"to be sent", "sk_buff", packet.Raw, 0, func(m *memory, at, linear, total int) { skb(m, headAt, packet.NoHeader, at, at, linear, total) }},
	{"to be sent, at the transport header", "sk_buff", packet.Raw, 20, func(m *memory, at, linear, total int) {
		skb(m, headAt, packet.NoHeader, at, at+20, linear-20, total-20)
	}},
	{"without a link header", "sk_buff", packet.Raw, 20, func(m *memory, at, linear, total int) { skb(m, headAt, at, at, at+20, linear-20, total-20) }},
	{"out of a GRE tunnel", "sk_buff", packet.Raw, 0, func(m *memory, at, linear, total int) { skb(m, headAt, at-24, at, at, linear, total) }},
	{"out of an IP tunnel", "sk_buff", packet.Raw, 20, func(m *memory, at, linear, total int) { skb(m, headAt-32, at-2, at+32, at+52, linear-20, total-20) }},
	{"behind IPsec", "sk_buff", packet.Raw, 20, func(m *memory, at, linear, total int) { skb(m, headAt-32, at+2, at+32, at+52, linear-20, total-20) }},
	{"xdp_buff", "xdp_buff", packet.Ethernet, 0, func(m *memory, at, linear, total int) {
		m.put(0, 8, memoryAddr+uint64(headAt+at))
		m.put(8, 8, memoryAddr+uint64(headAt+at+linear))
		m.put(24, 8, memoryAddr+headAt)
		m.put(48, 4, sharedInfoAt+320-headAt)
		m.put(52, 4, map[bool]uint64{false: 0x30, true: 0x31}[total > linear])
	}},
	{"xdp_frame", "xdp_frame", packet.Ethernet, 0, func(m *memory, at, linear, total int) {
		m.put(0, 8, memoryAddr+uint64(headAt+at))
		m.put(8, 2, uint64(linear))
		m.put(10, 2, uint64(at-40))
		m.put(32, 4, sharedInfoAt+320-headAt)
		m.put(36, 4, map[bool]uint64{false: 0x30, true: 0x31}[total > linear])
	}},
}

// place puts a packet somewhere.
func (p placing) place(r *rand.Rand, bytes []byte, linear int) *memory {
	m := &memory{raw: make([]byte, memorySize)}
	for i := range m.raw {
		m.raw[i] = byte(r.Uint32())
	}
	m.putTag(randomTag(r))
	at := 16 * (3 + r.IntN(8))
	copy(m.raw[headAt+at:], bytes)
	clear(m.raw[headAt+at+linear : headAt+at+len(bytes)]) // these are elsewhere
	p.put(m, at, linear, len(bytes))
	m.fragment(r, bytes[linear:])
	return m
}

// compiled runs a matcher's code.
type compiled struct {
	insns  asm.Instructions
	bottom int16
	direct bool

	functions map[asm.BuiltinFunc]asm.Instructions
}

const top = -64

func compile(t testing.TB, m *packet.Matcher, isDirect bool) compiled {
	t.Helper()
	return compileWith(t, m, Options{Direct: isDirect})
}

func compileWith(t testing.TB, m *packet.Matcher, o Options) compiled {
	t.Helper()
	code := &bpfasm.Code{}
	unread, end := code.Label(), code.Label()
	o.Top, o.Unread = top, unread
	bottom, err := AppendCode(m, code, o)
	if err != nil {
		t.Fatal(err)
	}
	code.Jump(end)
	code.Place(unread)
	code.Add(asm.Mov.Imm(asm.R0, answerUnread))
	code.Place(end)
	insns, err := code.Instructions()
	if err != nil {
		t.Fatal(err)
	}
	// The registers of the program around it are as they were.
	all := asm.Instructions{asm.LoadMem(asm.R0, asm.RFP, -8, asm.DWord)}
	for i := range int32(4) {
		all = append(all, asm.Mov.Imm(asm.R6+asm.Register(i), 100+i))
	}
	all = append(all, insns...)
	for i := range int32(4) {
		all = append(all, asm.Sub.Imm(asm.R6+asm.Register(i), 100+i), asm.LSh.Imm(asm.R6+asm.Register(i), 1), asm.Or.Reg(asm.R0, asm.R6+asm.Register(i)))
	}
	c := compiled{insns: append(all, asm.Return()), bottom: bottom, direct: o.Direct}
	if o.Fragments {
		c.functions = map[asm.BuiltinFunc]asm.Instructions{wire.ConfigPacketBytes: packetBytes(t)}
	}
	return c
}

const answerUnread = 2

func (c compiled) run(m *memory) (answer int, err error) {
	vm := bpfvm.VM{Read: m.read, Loads: c.direct, Functions: c.functions}
	vm.SetStack(-8, memoryAddr+structAt)
	r0, err := vm.Run(c.insns)
	switch {
	case err != nil:
		return 0, err
	case r0 > answerUnread:
		return 0, fmt.Errorf("it left %d", r0)
	case vm.Lowest() < int(c.bottom):
		return 0, fmt.Errorf("it wrote to %d, and told of %d", vm.Lowest(), c.bottom)
	}
	return int(r0), nil
}

// filters compiles them, but those that libpcap refuses.
var filters = sync.OnceValues(func() (all []packet.Filter, err error) {
	raw, err := os.ReadFile("../../../internal/pcapfilter/testdata/filters.txt")
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, runtime.NumCPU()) // each has 5 s
	for text := range strings.SplitSeq(strings.TrimSuffix(string(raw), "\n"), "\n") {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			compile := func(link int) []bpf.RawInstruction {
				insns, compileErr := pcapfilter.Compile(context.Background(), text, pcapfilter.Options{LinkType: link, Snaplen: 262144})
				var refused *pcapfilter.Error
				if compileErr != nil && !errors.As(compileErr, &refused) {
					mu.Lock()
					defer mu.Unlock()
					err = compileErr
				}
				return insns
			}
			f := packet.Filter{Text: text, Ethernet: compile(pcapfilter.Ethernet), Raw: compile(pcapfilter.Raw)}
			if f.Ethernet != nil {
				mu.Lock()
				defer mu.Unlock()
				all = append(all, f)
			}
		})
	}
	wg.Wait()
	return all, err
})

// TestFilters compares compiled filters with an interpreter of classic BPF, over
// packets of all kinds in all places.
func TestFilters(t *testing.T) {
	for _, layout := range []tagLayout{tagBit, tagAll} {
		t.Run(string(layout), func(t *testing.T) { testFilters(t, kernelTypes(t, layout)) })
	}
}

func testFilters(t *testing.T, forms map[string]*packet.Form) {
	all, err := filters()
	if err != nil || len(all) < 110 {
		t.Fatalf("%d filters, %v", len(all), err)
	}
	type pair struct {
		matcher *packet.Matcher
		code    [2]compiled // that copies the struct, and that loads its members
	}
	pairs := map[string][]pair{}
	sources := make([][2][]bpf.Instruction, len(all))
	for form := range packet.FormFields {
		for _, f := range all {
			m, err := f.Of(forms[form])
			if err != nil {
				t.Fatalf("%s: %v", f.Text, err)
			}
			pairs[form] = append(pairs[form], pair{m, [2]compiled{compile(t, m, false), compile(t, m, true)}})
		}
	}
	for i, f := range all {
		sources[i][packet.Ethernet], _ = bpf.Disassemble(f.Ethernet)
		sources[i][packet.Raw], _ = bpf.Disassemble(f.Raw)
	}
	r := rand.New(rand.NewPCG(1, 2))
	matched := map[int]int{}
	const packets = 700
	for range packets {
		p := placings[r.IntN(len(placings))]
		bytes := randomPacket(r, p.link == packet.Ethernet)
		if len(bytes) < p.pulled {
			continue
		}
		m := p.place(r, bytes, len(bytes))
		for i, pair := range pairs[p.form] {
			program := pair.matcher.Programs[p.link]
			want := program != nil && interpret(sources[i][p.link], bytes, m.tagOf(p))
			byEval, err := pair.matcher.Match(memoryAddr+structAt, m.read)
			if err != nil || byEval != want {
				t.Fatalf("%s, %s: %v, %v, want %v: % x", all[i].Text, p.name, byEval, err, want, bytes)
			}
			for _, code := range pair.code {
				if got, err := code.run(m); err != nil || got != map[bool]int{true: 1}[want] {
					t.Fatalf("%s, %s, direct %v: %v, %v, want %v: % x", all[i].Text, p.name, code.direct, got, err, want, bytes)
				}
			}
			if want {
				matched[i]++
			}
		}
	}
	if len(matched) < len(all)*2/3 {
		t.Errorf("only %d of %d filters matched a packet", len(matched), len(all))
	}
}

// TestFragments: packets that do not lie in one piece. What can't be read is never taken
// for something else.
func TestFragments(t *testing.T) {
	forms := kernelTypes(t, tagAll)
	all, err := filters()
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 4))
	answers := map[bool]map[int]int{false: {}, true: {}}
	for _, f := range all {
		var sources [2][]bpf.Instruction
		sources[packet.Ethernet], _ = bpf.Disassemble(f.Ethernet)
		sources[packet.Raw], _ = bpf.Disassemble(f.Raw)
		matchers, code := map[string]*packet.Matcher{}, map[string]map[bool]compiled{}
		for form := range packet.FormFields {
			m, err := f.Of(forms[form])
			if err != nil {
				t.Fatal(err)
			}
			matchers[form], code[form] = m, map[bool]compiled{}
			for _, reads := range []bool{false, true} {
				code[form][reads] = compileWith(t, m, Options{Direct: len(f.Text)%2 == 0, Fragments: reads})
			}
		}
		for range 300 {
			p := placings[r.IntN(len(placings))]
			bytes := randomPacket(r, p.link == packet.Ethernet)
			m := matchers[p.form]
			if len(bytes) < p.pulled || m.Programs[p.link] == nil {
				continue
			}
			linear := p.pulled + r.IntN(len(bytes)-p.pulled+1)
			memory := p.place(r, bytes, linear)
			whole := interpret(sources[p.link], bytes, memory.tagOf(p))
			for reads, c := range code[p.form] {
				got, err := c.run(memory)
				if err != nil {
					t.Fatalf("%s, %s: %v", f.Text, p.name, err)
				}
				answers[reads][got]++
				isWhole := linear == len(bytes) || reads && !memory.lost
				// What it says is so of the whole packet.
				if got != answerUnread && (got == 1) != whole || got == answerUnread && isWhole {
					t.Fatalf("%s, %s, reads %v: %d of %d bytes, lost %v: %d, want %v: % x", f.Text, p.name, reads, linear, len(bytes), memory.lost, got, whole, bytes)
				}
			}
			m.Pages = &pages
			got, err := m.Match(memoryAddr+structAt, memory.read)
			if err == nil && got != whole || err != nil && !memory.lost {
				t.Fatalf("%s, %s: %d of %d bytes, lost %v: %v, %v, want %v: % x", f.Text, p.name, linear, len(bytes), memory.lost, got, err, whole, bytes)
			}
			m.Pages = nil
			if got, err := m.Match(memoryAddr+structAt, memory.read); linear < len(bytes) && !errors.Is(err, packet.ErrUnread) {
				t.Fatalf("%s, %s: %v, %v without pages", f.Text, p.name, got, err)
			}
		}
	}
	for reads, answers := range answers {
		for answer := range 3 {
			if answers[answer] < 100 {
				t.Errorf("reads %v: answer %d came %d times", reads, answer, answers[answer])
			}
		}
	}
}

// TestUnread: a struct, or a packet, that is not there.
func TestUnread(t *testing.T) {
	forms := kernelTypes(t, tagAll)
	f := packet.Filter{Ethernet: []bpf.RawInstruction{{Op: 0x30, K: 12}, {Op: 0x6, K: 1}}}
	for form := range packet.FormFields {
		m, err := f.Of(forms[form])
		if err != nil {
			t.Fatal(err)
		}
		for _, isDirect := range []bool{false, true} {
			if got, err := compile(t, m, isDirect).run(&memory{}); got != answerUnread || err != nil {
				t.Errorf("no %s, direct %v: %d, %v", form, isDirect, got, err)
			}
		}
		if _, err := m.Match(memoryAddr, (&memory{}).read); err == nil {
			t.Errorf("no %s: no error", form)
		}
	}
}

// TestUnknown: what is in a struct sk_buff before anything tells where a packet begins,
// and lengths that are not known, are no packet that does not match.
func TestUnknown(t *testing.T) {
	forms := typesOf(t, tagAll, true)
	of := func(form string, insns ...bpf.RawInstruction) compiled {
		f := packet.Filter{Ethernet: insns, Raw: insns}
		m, err := f.Of(forms[form])
		if err != nil {
			t.Fatal(err)
		}
		return compile(t, m, false)
	}
	r := rand.New(rand.NewPCG(5, 6))
	bytes := make([]byte, 100)
	fresh := placing{put: func(m *memory, at, linear, total int) { skb(m, headAt, packet.NoHeader, 0, at, linear, total) }}
	if got, err := of("sk_buff", bpf.RawInstruction{Op: 0x6, K: 1}).run(fresh.place(r, bytes, 100)); got != answerUnread || err != nil {
		t.Errorf("of nothing known: %d, %v", got, err)
	}
	long := of("xdp_buff", bpf.RawInstruction{Op: 0x80}, bpf.RawInstruction{Op: 0x35, Jf: 1, K: 50}, bpf.RawInstruction{Op: 0x6, K: 1}, bpf.RawInstruction{Op: 0x6})
	xdp := placings[len(placings)-2]
	for linear, want := range map[int]int{100: 1, 60: answerUnread} {
		if got, err := long.run(xdp.place(r, bytes, linear)); got != want || err != nil {
			t.Errorf("length of a packet of 100 bytes, %d of them there: %d, %v, want %d", linear, got, err, want)
		}
	}
	first := of("xdp_buff", bpf.RawInstruction{Op: 0x30, K: 10}, bpf.RawInstruction{Op: 0x6, K: 1})
	if got, err := first.run(xdp.place(r, bytes, 60)); got != 1 || err != nil {
		t.Errorf("the first bytes of a packet with fragments: %d, %v", got, err)
	}
}

// TestProtochain: headers that follow one another, up to as many as are looked at.
func TestProtochain(t *testing.T) {
	forms := kernelTypes(t, tagAll)
	for _, text := range []string{"ip6 protochain 17", "ip6 protochain 6 or ip6 protochain 17", "not ip6 protochain 6 and ip6"} {
		insns, err := pcapfilter.Compile(context.Background(), text, pcapfilter.Options{LinkType: pcapfilter.Raw, Snaplen: 262144})
		if err != nil {
			t.Fatal(err)
		}
		source, _ := bpf.Disassemble(insns)
		m, err := (&packet.Filter{Ethernet: insns, Raw: insns}).Of(forms["sk_buff"])
		if err != nil {
			t.Fatal(err)
		}
		code := compile(t, m, false)
		sent := placings[6]
		const most = 60
		for _, headers := range []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 17, 30, most} {
			p := append([]byte{0x60, 0, 0, 0, 0, 0, 60, 64}, make([]byte, 32)...)
			for i := range headers {
				next := byte(60)
				if i == headers-1 {
					next = 17
				}
				p = append(p, next, 0, 0, 0, 0, 0, 0, 0)
			}
			if headers == 0 {
				p[6] = 17
			}
			p = append(p, make([]byte, 40)...)
			got, err := code.run(sent.place(rand.New(rand.NewPCG(7, 8)), p, len(p)))
			want := map[bool]int{true: 1}[interpret(source, p, packet.Tag{})]
			if err != nil || got != want && (got != answerUnread || headers < 8) {
				t.Errorf("%s, %d headers: %d, %v, want %d", text, headers, got, err, want)
			}
			if headers == most && got != answerUnread {
				t.Errorf("%s, %d headers: %d", text, headers, got)
			}
		}
	}
}
