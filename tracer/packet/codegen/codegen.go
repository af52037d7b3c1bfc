// Package codegen makes BPF code of packet filters.
package codegen

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/net/bpf"

	"fgtrace/bpf/wire"
	"fgtrace/btfx"
	"fgtrace/internal/bpfasm"
	"fgtrace/tracer/packet"
)

// Registers while a filter runs; what they had is on the stack.
const (
	regA      = asm.R6 // the accumulator, 32 bits
	regX      = asm.R7 // the index, 32 bits
	regLinear = asm.R8 // bytes from regBase that follow one another; may be negative
	regBase   = asm.R9 // address of the packet
)

// coder writes the code of a filter.
type coder struct {
	*bpfasm.Code
	top            int16
	form           *packet.Form
	bottom         int16                                 // of what was taken of the stack
	tag            *packet.TagForm                       // the struct's members that are asked for; nil: nobody asks
	get            func(r asm.Register, of packet.Field) // loads a member of the struct, until a program begins
	words          int16                                 // what is known of a packet with fragments
	total          int16                                 // one of them: the packet's length, of all packets
	shared         int16                                 // another: the address of struct skb_shared_info; 0: there are no fragments
	slot           int16                                 // of 8 bytes
	fragments      bool                                  // they are read
	cast           Cast
	base           int16 // where regBase is as a number, once it is a pointer; 0: it is a number
	accept, reject bpfasm.Label
	short          bpfasm.Label // R1 bytes are needed: more than follow one another
	unread         bpfasm.Label // memory can't be read
}

// Options say what code works on.
type Options struct {
	// Top is the end of the stack that it may use.
	Top int16
	// Unread is where it goes if a packet is longer than what can be read, and the
	// filter looks there.
	Unread bpfasm.Label
	// Direct says that the struct's members can be loaded.
	Direct bool
	// Cast says how a packet's bytes can be loaded.
	Cast Cast
	// Fragments says that wire.ConfigPacketBytes can be called, for what a filter looks
	// for in a packet's fragments.
	Fragments bool
}

// Cast makes a number the address of a struct that programs may load from, and that begins
// with bytes: kfunc bpf_rdonly_cast, Linux 6.2. A load of what isn't there gives 0. The zero
// value: there is none.
type Cast struct {
	Kfunc  btfx.ID
	Struct btfx.ID
	Size   int // of the bytes, which are one member
}

// CastOf returns the cast that a kernel has: to struct new_utsname
// (include/uapi/linux/utsname.h), which begins with a name.
func CastOf(types *btfx.Types) Cast {
	c := Cast{}
	var ok, found bool
	c.Kfunc, ok = types.FindFunc("bpf_rdonly_cast")
	c.Struct, found = types.FindType(btfx.KindStruct, "new_utsname")
	if !ok || !found {
		return Cast{}
	}
	name, err := types.Member(c.Struct, "sysname")
	if err != nil || name.Offset != 0 {
		return Cast{}
	}
	if c.Size, err = types.Size(name.Type); err != nil {
		return Cast{}
	}
	return c
}

// AppendCode appends code that finds the address of the struct in R0, and leaves there
// whether the packet matches: 0 or 1. It changes R0 to R5, and uses the stack from the
// top down to bottom.
func AppendCode(m *packet.Matcher, to *bpfasm.Code, o Options) (bottom int16, err error) {
	c, restore := newCoder(to, o)
	c.tag = cmp.Or(m.AskedTag(packet.Ethernet), m.AskedTag(packet.Raw))
	starts := [2]bpfasm.Label{c.Label(), c.Label()}
	outer := starts
	if m.Tunnel != nil {
		outer = [2]bpfasm.Label{c.Label(), c.Label()}
	}
	c.find(m.Form, o.Direct, outer)
	if m.Tunnel != nil {
		c.tunnel(m.Tunnel, outer, starts)
	}

	for l, p := range m.Programs {
		if !c.Used(starts[l]) {
			continue
		}
		c.Place(starts[l])
		if p == nil {
			c.Jump(c.reject)
			continue
		}
		at := c.top
		if err := c.program(p, packet.Link(l), m.AskedTag(packet.Link(l))); err != nil {
			return 0, err
		}
		c.top = at
	}

	end := c.Label()
	if c.Used(c.short) {
		c.Place(c.short)
		c.Add(asm.LoadMem(asm.R0, asm.RFP, c.total, asm.DWord))
		c.JumpIfReg(asm.JSGT, asm.R1, asm.R0, c.reject)
		c.Jump(c.unread)
	}
	c.Place(c.unread) // by the struct, if by nothing else
	restore()
	c.Jump(o.Unread)
	if c.Used(c.accept) {
		c.Place(c.accept)
		c.Add(asm.Mov.Imm(asm.R0, 1))
		c.Jump(end)
	}
	if c.Used(c.reject) {
		c.Place(c.reject)
		c.Add(asm.Mov.Imm(asm.R0, 0))
	}
	if c.Used(end) || c.Used(c.reject) {
		c.Place(end)
		restore()
	}
	return c.bottom, nil
}

// newCoder saves the registers that a coder uses; restore gives them back.
func newCoder(to *bpfasm.Code, o Options) (c *coder, restore func()) {
	c = &coder{
		Code: to, cast: o.Cast, fragments: o.Fragments, accept: to.Label(), reject: to.Label(), short: to.Label(), unread: to.Label(),
	}
	saved := []asm.Register{regA, regX, regLinear, regBase}
	c.top = o.Top - 8*int16(len(saved))
	at := c.top
	for i, r := range saved {
		c.Add(asm.StoreMem(asm.RFP, at+8*int16(i), r, asm.DWord))
	}
	c.words = c.room(wordsSize)
	c.total, c.shared = c.words+totalAt, c.words+sharedAt
	c.slot = c.room(8)
	return c, func() {
		for i, r := range saved {
			c.Add(asm.LoadMem(r, asm.RFP, at+8*int16(i), asm.DWord))
		}
	}
}

// Words of a packet, by offset.
const (
	baseAt = 8 * iota
	linearAt
	totalAt
	sharedAt
	wordsSize
)

// Place says where the parts of a packet's place are written: offsets in bytes, of words
// but for Raw, which has one byte and is 1 where the packet begins with a network header,
// and for those of packet.Tag, which have two each and are written only if there is one.
// A length that is not known is Linear's.
type Place struct{ Start, Linear, Length, Shared, Raw, TagProto, TagTCI int16 }

// AppendLocate appends code that finds the address of the struct in R0, writes where its
// packet is to memory whose address is at the offset to from the frame pointer, and goes
// on; or to o.Unread, if it can't be told. It changes R0 to R5, and uses the stack down
// to bottom.
func AppendLocate(f *packet.Form, code *bpfasm.Code, o Options, to int16, place Place) (bottom int16) {
	o.Fragments = true
	c, restore := newCoder(code, o)
	starts := [2]bpfasm.Label{c.Label(), c.Label()}
	end := c.Label()
	if f.HasTag() {
		c.tag = &f.Tag
	}
	c.find(f, o.Direct, starts)
	for l, start := range starts {
		if !c.Used(start) {
			continue
		}
		c.Place(start)
		c.Add(
			asm.LoadMem(asm.R1, asm.RFP, to, asm.DWord),
			asm.StoreMem(asm.R1, place.Start, regBase, asm.DWord),
			asm.StoreMem(asm.R1, place.Linear, regLinear, asm.DWord),
			asm.LoadMem(asm.R2, asm.RFP, c.total, asm.DWord),
		)
		known := c.Label()
		c.JumpIf(asm.JNE, asm.R2, packet.UnknownLength, known)
		c.Add(asm.Mov.Reg(asm.R2, regLinear))
		c.Place(known)
		c.Add(
			asm.StoreMem(asm.R1, place.Length, asm.R2, asm.DWord),
			asm.LoadMem(asm.R2, asm.RFP, c.shared, asm.DWord),
			asm.StoreMem(asm.R1, place.Shared, asm.R2, asm.DWord),
			asm.Mov.Imm(asm.R2, int32(l)),
			asm.StoreMem(asm.R1, place.Raw, asm.R2, asm.Byte),
		)
		c.writeTag(asm.R1, place)
		c.Jump(end)
	}
	c.Place(c.unread)
	restore()
	c.Jump(o.Unread)
	c.Place(end)
	restore()
	return c.bottom
}

// room takes bytes of the stack.
func (c *coder) room(bytes int) int16 {
	c.top -= int16((bytes + 7) &^ 7)
	c.bottom = min(c.bottom, c.top)
	return c.top
}

// read copies memory at R3 to the stack.
func (c *coder) read(to int16, size int) {
	c.tryRead(to, size)
	c.JumpIf(asm.JNE, asm.R0, 0, c.unread)
}

// tryRead does so, and leaves in R0 whether that failed.
func (c *coder) tryRead(to int16, size int) {
	c.Add(
		asm.Mov.Reg(asm.R1, asm.RFP),
		asm.Add.Imm(asm.R1, int32(to)),
		asm.Mov.Imm(asm.R2, int32(size)),
		asm.FnProbeReadKernel.Call(),
	)
}

// find reads the struct at R0, and goes on at the start of a program with regBase,
// regLinear and total set.
func (c *coder) find(f *packet.Form, isDirect bool, starts [2]bpfasm.Label) {
	c.form = f
	if isDirect {
		c.JumpIf(asm.JSGE, asm.R0, 0, c.unread) // it is none of the kernel's
		c.Add(asm.Mov.Reg(regX, asm.R0))
		c.get = func(r asm.Register, of packet.Field) {
			c.Add(asm.LoadMem(r, regX, int16(of.Offset), bpfasm.SizeOf(of.Size)))
		}
	} else {
		c.members(f)
	}
	get := func(r asm.Register, name string) { c.get(r, f.Fields[name]) }
	if f.IsSKB() {
		c.findSkb(get, starts)
		return
	}
	get(regBase, "data")
	c.JumpIf(asm.JEq, regBase, 0, c.unread) // a load of what isn't there
	if f.Name == "xdp_buff" {
		get(regLinear, "data_end")
		c.Add(asm.Sub.Reg(regLinear, regBase))
	} else {
		get(regLinear, "len")
	}
	c.findShared(get)
	c.Jump(starts[packet.Ethernet])
}

// findShared finds the fragments of an XDP packet, and its length.
func (c *coder) findShared(get func(asm.Register, string)) {
	f, whole := c.form, c.Label()
	c.Add(
		asm.StoreMem(asm.RFP, c.total, regLinear, asm.DWord),
		asm.Mov.Imm(asm.R1, 0),
		asm.StoreMem(asm.RFP, c.shared, asm.R1, asm.DWord),
	)
	if _, ok := f.Fields["flags"]; !ok {
		return
	}
	get(asm.R2, "flags")
	c.Add(asm.And.Imm(asm.R2, packet.HasFrags))
	c.JumpIf(asm.JEq, asm.R2, 0, whole)
	if f.SharedSize == 0 {
		c.Add(asm.Mov.Imm(asm.R1, packet.UnknownLength), asm.StoreMem(asm.RFP, c.total, asm.R1, asm.DWord))
		c.Place(whole)
		return
	}
	if f.Name == "xdp_buff" {
		get(asm.R3, "data_hard_start")
	} else {
		get(asm.R2, "headroom")
		c.Add(asm.Mov.Reg(asm.R3, regBase), asm.Sub.Reg(asm.R3, asm.R2), asm.Sub.Imm(asm.R3, int32(f.Size)))
	}
	get(asm.R2, "frame_sz")
	c.Add(
		asm.Add.Reg(asm.R3, asm.R2),
		asm.Sub.Imm(asm.R3, int32(f.SharedSize)),
		asm.StoreMem(asm.RFP, c.shared, asm.R3, asm.DWord),
		asm.Add.Imm(asm.R3, int32(f.FragsSize.Offset)),
	)
	c.read(c.slot, f.FragsSize.Size)
	c.Add(
		asm.LoadMem(asm.R1, asm.RFP, c.slot, bpfasm.SizeOf(f.FragsSize.Size)),
		asm.Add.Reg(asm.R1, regLinear),
		asm.StoreMem(asm.RFP, c.total, asm.R1, asm.DWord),
		asm.LoadMem(asm.R3, asm.RFP, c.shared, asm.DWord),
	)
	c.note()
	c.Place(whole)
}

// note writes down the words of a packet whose struct skb_shared_info is at R3. A helper
// copies them: then they are numbers to the verifier, as a global function takes no
// pointers, and comparisons tell it nothing about them that lasts. So it follows what comes
// behind a load once, whichever way that went.
func (c *coder) note() {
	top := c.top
	from := c.room(wordsSize)
	c.top = top
	c.Add(
		asm.LoadMem(asm.R0, asm.RFP, c.total, asm.DWord),
		asm.StoreMem(asm.RFP, from+baseAt, regBase, asm.DWord),
		asm.StoreMem(asm.RFP, from+linearAt, regLinear, asm.DWord),
		asm.StoreMem(asm.RFP, from+totalAt, asm.R0, asm.DWord),
		asm.StoreMem(asm.RFP, from+sharedAt, asm.R3, asm.DWord),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, int32(from)),
	)
	c.read(c.words, wordsSize)
	c.Add(asm.LoadMem(regLinear, asm.RFP, c.words+linearAt, asm.DWord))
}

// members copies those of the struct at R0 that are asked for.
func (c *coder) members(f *packet.Form) {
	all := slices.Collect(maps.Values(f.Fields))
	if c.tag != nil {
		all = append(all, c.tag.Present, c.tag.Proto, c.tag.TCI)
	}
	first, last := 1<<30, 0
	for _, field := range all {
		first = min(first, field.Offset&^7)
		last = max(last, field.Offset+field.Size)
	}
	at := c.room(last - first)
	c.Add(asm.Mov.Reg(asm.R3, asm.R0))
	if first != 0 {
		c.Add(asm.Add.Imm(asm.R3, int32(first)))
	}
	c.read(at, last-first)
	c.get = func(r asm.Register, of packet.Field) {
		c.Add(asm.LoadMem(r, asm.RFP, at+int16(of.Offset-first), bpfasm.SizeOf(of.Size)))
	}
}

// findSkb is skbStart, and what comes of it.
func (c *coder) findSkb(get func(asm.Register, string), starts [2]bpfasm.Label) {
	const mac, network, behind, data, tags = asm.R1, asm.R2, asm.R3, asm.R4, asm.R5
	get(regBase, "head")
	c.JumpIf(asm.JEq, regBase, 0, c.unread) // a load of what isn't there
	get(data, "data")
	c.Add(asm.Sub.Reg(data, regBase))
	get(mac, "mac_header")
	get(network, "network_header")
	known, notMac, notData := c.Label(), c.Label(), c.Label()
	c.Add(asm.Mov.Reg(behind, network))
	c.JumpIf(asm.JNE, network, 0, known)
	c.Add(asm.Mov.Reg(behind, data))
	c.Place(known)

	// isEthernet: to is how far behind from the header is.
	isEthernet := func(to, from asm.Register, not bpfasm.Label) {
		c.Add(asm.Mov.Reg(tags, to), asm.Sub.Reg(tags, from), asm.Sub.Imm(tags, packet.EthernetHeader))
		c.JumpIf(asm.JGT, tags, packet.MaxTags, not) // or negative
		c.Add(asm.And.Imm(tags, 3))
		c.JumpIf(asm.JNE, tags, 0, not)
	}
	// Where the packet begins goes to R0.
	begins := c.begins(get, data)
	c.JumpIf(asm.JEq, mac, packet.NoHeader, notMac)
	isEthernet(behind, mac, notMac)
	c.Add(asm.Mov.Reg(asm.R0, mac))
	begins(starts[packet.Ethernet])
	c.Place(notMac)
	c.JumpIf(asm.JEq, network, 0, c.unread)
	isEthernet(network, data, notData)
	c.Add(asm.Mov.Reg(asm.R0, data))
	begins(starts[packet.Ethernet])
	c.Place(notData)
	c.Add(asm.Mov.Reg(asm.R0, network))
	begins(starts[packet.Raw])
}

// begins returns what goes on with a packet that begins R0 bytes from regBase.
func (c *coder) begins(get func(asm.Register, string), data asm.Register) func(start bpfasm.Label) {
	const behind = asm.R2 // bytes that are not in the linear part
	_, hasEnd := c.form.Fields["end"]
	return func(start bpfasm.Label) {
		c.Add(asm.Add.Reg(regBase, asm.R0), asm.Sub.Reg(data, asm.R0))
		get(asm.R0, "len")
		get(behind, "data_len")
		c.Add(
			asm.Add.Reg(data, asm.R0),
			asm.StoreMem(asm.RFP, c.total, data, asm.DWord),
			asm.Sub.Reg(data, behind),
			asm.Mov.Reg(regLinear, data),
		)
		if c.fragments {
			c.Add(asm.Mov.Imm(asm.R0, 0), asm.StoreMem(asm.RFP, c.shared, asm.R0, asm.DWord))
		}
		if c.fragments && hasEnd {
			c.JumpIf(asm.JEq, behind, 0, start)
			// struct skb_shared_info is behind the linear part (skb_end_pointer).
			get(asm.R3, "head")
			get(asm.R0, "end")
			c.Add(asm.Add.Reg(asm.R3, asm.R0))
			c.note()
		}
		c.Jump(start)
	}
}

// program writes the code of a program, given where the tag is that it asks for.
func (c *coder) program(p *packet.Program, l packet.Link, tag *packet.TagForm) error {
	r := runner{coder: c, p: p, labels: make([]bpfasm.Label, len(p.Insns))}
	if tag != nil {
		r.keepTag(tag)
	}
	c.base = 0
	if r.chunkSize = chunkOf(p); r.chunkSize > 0 && r.chunkSize <= c.cast.Size {
		r.castBase()
	} else if r.chunkSize > 0 {
		// Behind an Ethernet header words are aligned.
		shift := map[packet.Link]int{packet.Ethernet: 2}[l]
		r.chunk = c.room(r.chunkSize+shift) + int16(shift)
		// Shorter packets have memory behind them, too: struct skb_shared_info.
		c.Add(asm.Mov.Reg(asm.R3, regBase))
		c.tryRead(r.chunk, r.chunkSize)
		there := c.Label()
		c.JumpIf(asm.JEq, asm.R0, 0, there)
		c.JumpIf(asm.JSGT, regLinear, 0, c.unread) // else nothing of it is looked at
		c.Place(there)
	}
	r.memory = map[int]int16{}
	c.Add(asm.Mov.Imm(regA, 0), asm.Mov.Imm(regX, 0))
	for i, ins := range p.Insns {
		if s, ok := ins.(bpf.LoadScratch); ok && p.Reached[i] {
			r.remember(s.N)
		}
	}
	for i := range r.labels {
		r.labels[i] = c.Label()
	}
	for i, ins := range p.Insns {
		if !p.Reached[i] {
			continue
		}
		c.Place(r.labels[i])
		if err := r.instruction(i, ins); err != nil {
			return fmt.Errorf("compile filter: instruction %d: %w", i, err)
		}
	}
	return nil
}

// runner writes the code of one program.
type runner struct {
	*coder
	p         *packet.Program
	labels    []bpfasm.Label // of its instructions
	chunk     int16          // where the packet's first bytes are on the stack
	chunkSize int
	memory    map[int]int16 // the words M[] that are loaded
	kept      map[bpf.Extension]int16
}

// castBase lets bytes be loaded from regBase on. What a struct sk_buff or xdp_buff has is
// there, as long as it is one at all: its address is not 0.
func (r *runner) castBase() {
	r.JumpIf(asm.JSGE, regBase, 0, r.unread) // it is none of the kernel's
	r.base = r.room(8)
	r.Add(
		asm.StoreMem(asm.RFP, r.base, regBase, asm.DWord),
		asm.Mov.Reg(asm.R1, regBase),
		asm.Mov.Imm(asm.R2, int32(r.cast.Struct)),
		asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call), Src: asm.PseudoKfuncCall, Constant: int64(r.cast.Kfunc)},
		asm.Mov.Reg(regBase, asm.R0),
	)
}

// addBase makes the address of what is so far from the packet's beginning. It changes R2.
func (c *coder) addBase(to asm.Register) {
	base := regBase
	if c.base != 0 {
		base = asm.R2
		c.Add(asm.LoadMem(base, asm.RFP, c.base, asm.DWord))
	}
	c.Add(asm.Add.Reg(to, base))
}

func (r *runner) remember(n int) {
	if _, ok := r.memory[n]; !ok {
		at := r.room(8)
		r.memory[n] = at
		r.Add(asm.StoreMem(asm.RFP, at, regA, asm.DWord))
	}
}

func register(which bpf.Register) asm.Register {
	if which == bpf.RegX {
		return regX
	}
	return regA
}

func (r *runner) instruction(i int, ins bpf.Instruction) error {
	switch ins := ins.(type) {
	case bpf.LoadConstant:
		r.Set(register(ins.Dst), uint64(ins.Val))
	case bpf.LoadScratch:
		r.Add(asm.LoadMem(register(ins.Dst), asm.RFP, r.memory[ins.N], asm.DWord))
	case bpf.StoreScratch:
		if at, ok := r.memory[ins.N]; ok {
			r.Add(asm.StoreMem(asm.RFP, at, register(ins.Src), asm.DWord))
		}
	case bpf.LoadAbsolute:
		r.fixed(regA, load{ins.Off, ins.Size})
	case bpf.LoadIndirect:
		r.Add(asm.Mov.Reg(asm.R3, regX))
		if ins.Off != 0 {
			r.Set(asm.R1, uint64(ins.Off))
			r.Add(asm.Add.Reg(asm.R3, asm.R1))
		}
		r.far(regA, ins.Size)
	case bpf.LoadMemShift:
		r.fixed(regX, load{ins.Off, 1})
		r.Add(asm.And.Imm(regX, 15), asm.LSh.Imm(regX, 2))
	case bpf.LoadExtension:
		return r.extension(ins.Num)
	case bpf.ALUOpConstant:
		r.Set(asm.R1, uint64(ins.Val))
		return r.calculate(ins.Op, asm.R1)
	case bpf.ALUOpX:
		return r.calculate(ins.Op, regX)
	case bpf.NegateA:
		r.Add(asm.Neg.Imm32(regA, 0))
	case bpf.TAX:
		r.Add(asm.Mov.Reg(regX, regA))
	case bpf.TXA:
		r.Add(asm.Mov.Reg(regA, regX))
	case bpf.Jump:
		r.Jump(r.labels[r.p.Targets[i][0]])
	case bpf.JumpIf:
		if v := ins.Val; v <= 1<<31-1 && ins.Cond != bpf.JumpBitsSet && ins.Cond != bpf.JumpBitsNotSet {
			op := jumpOps[ins.Cond]
			r.branch(i, func(to bpfasm.Label) { r.JumpIf(op, regA, int32(v), to) })
			return nil
		}
		r.Set(asm.R1, uint64(ins.Val))
		r.jump(i, ins.Cond, asm.R1)
	case bpf.JumpIfX:
		r.jump(i, ins.Cond, regX)
	case bpf.RetConstant:
		switch ins.Val {
		case 0:
			r.Jump(r.reject)
		case packet.TooLong:
			r.Jump(r.unread)
		default:
			r.Jump(r.accept)
		}
	case bpf.RetA:
		r.JumpIf(asm.JEq, regA, 0, r.reject)
		r.Jump(r.accept)
	default:
		return fmt.Errorf("unknown %T", ins)
	}
	return nil
}

// extension loads what is not among the packet's bytes.
func (r *runner) extension(which bpf.Extension) error {
	switch which {
	case bpf.ExtLen:
		r.Add(asm.LoadMem(regA, asm.RFP, r.total, asm.DWord))
		r.JumpIf(asm.JEq, regA, packet.UnknownLength, r.unread)
	case bpf.ExtVLANTagPresent, bpf.ExtVLANTag:
		r.loadTag(which)
	default:
		return fmt.Errorf("no extension %d", which)
	}
	return nil
}

// fixed loads what is at a place that is known.
func (r *runner) fixed(to asm.Register, l load) {
	end := int64(l.offset) + int64(l.size)
	if end > int64(r.chunkSize) {
		r.Set(asm.R3, uint64(l.offset))
		r.far(to, l.size)
		return
	}
	near, done := r.Label(), r.Label()
	r.JumpIf(asm.JSGE, regLinear, int32(end), near)
	r.Add(asm.Mov.Imm(asm.R1, int32(end)), asm.Mov.Imm(asm.R3, int32(l.offset)))
	r.beyond(to, l.size, done)
	r.Place(near)
	if r.base != 0 {
		r.Add(asm.LoadMem(to, regBase, int16(l.offset), bpfasm.SizeOf(l.size)))
		r.swap(to, l.size)
		r.Place(done)
		return
	}
	at := r.chunk + int16(l.offset)
	// Loads from the stack are aligned, or refused.
	unit := l.size
	for int(at)%unit != 0 {
		unit /= 2
	}
	r.Add(asm.LoadMem(to, asm.RFP, at, bpfasm.SizeOf(unit)))
	for n := unit; n < l.size; n += unit {
		r.Add(
			asm.LoadMem(asm.R1, asm.RFP, at+int16(n), bpfasm.SizeOf(unit)),
			asm.LSh.Imm(asm.R1, int32(8*n)),
			asm.Or.Reg(to, asm.R1),
		)
	}
	r.swap(to, l.size)
	r.Place(done)
}

// far loads what is R3 bytes from the beginning.
func (c *coder) far(to asm.Register, size int) {
	c.Add(asm.Mov.Reg(asm.R1, asm.R3), asm.Add.Imm(asm.R1, int32(size)))
	near, done := c.Label(), c.Label()
	c.JumpIfReg(asm.JSLE, asm.R1, regLinear, near)
	c.beyond(to, size, done)
	c.Place(near)
	c.addBase(asm.R3)
	c.read(c.slot, size)
	c.Add(asm.LoadMem(to, asm.RFP, c.slot, bpfasm.SizeOf(size)))
	c.swap(to, size)
	c.Place(done)
}

// beyond loads what is R3 bytes from the beginning, where R1 bytes are needed, more than
// follow one another, and goes on.
func (c *coder) beyond(to asm.Register, size int, done bpfasm.Label) {
	if !c.fragments {
		c.Jump(c.short)
		return
	}
	c.Add(asm.Mov.Reg(asm.R4, asm.R3), asm.LoadMem(asm.R3, asm.RFP, c.shared, asm.DWord))
	c.JumpIf(asm.JEq, asm.R3, 0, c.short)
	c.Add(asm.LoadMem(asm.R0, asm.RFP, c.total, asm.DWord))
	c.JumpIfReg(asm.JSGT, asm.R1, asm.R0, c.reject)
	c.Add(
		asm.LoadMem(asm.R1, asm.RFP, c.words+baseAt, asm.DWord),
		asm.LoadMem(asm.R2, asm.RFP, c.words+linearAt, asm.DWord),
		asm.Mov.Imm(asm.R5, int32(size)),
		asm.BuiltinFunc(wire.ConfigPacketBytes).Call(),
		asm.LoadMem(regLinear, asm.RFP, c.words+linearAt, asm.DWord), // see note
	)
	c.JumpIf(asm.JSLT, asm.R0, 0, c.unread)
	c.Add(asm.Mov.Reg(to, asm.R0))
	c.Jump(done)
}

// swap turns bytes in the network's order into a number.
func (c *coder) swap(reg asm.Register, size int) {
	if size > 1 {
		c.Add(asm.HostTo(asm.BE, reg, bpfasm.SizeOf(size)))
	}
}

var aluOps = map[bpf.ALUOp]asm.ALUOp{
	bpf.ALUOpAdd: asm.Add, bpf.ALUOpSub: asm.Sub, bpf.ALUOpMul: asm.Mul, bpf.ALUOpDiv: asm.Div, bpf.ALUOpMod: asm.Mod,
	bpf.ALUOpAnd: asm.And, bpf.ALUOpOr: asm.Or, bpf.ALUOpXor: asm.Xor, bpf.ALUOpShiftLeft: asm.LSh, bpf.ALUOpShiftRight: asm.RSh,
}

// calculate changes A.
func (r *runner) calculate(op bpf.ALUOp, by asm.Register) error {
	to, ok := aluOps[op]
	if !ok {
		return fmt.Errorf("no operation %d", op)
	}
	switch op {
	case bpf.ALUOpDiv, bpf.ALUOpMod: // a packet by which nothing can be divided does not match
		r.JumpIf(asm.JEq, by, 0, r.reject)
	case bpf.ALUOpShiftLeft, bpf.ALUOpShiftRight: // BPF takes the low 5 bits
		near := r.Label()
		r.JumpIf(asm.JLT, by, 32, near)
		r.Add(asm.Mov.Imm(regA, 0))
		r.Place(near)
	}
	r.Add(to.Reg32(regA, by))
	return nil
}

var jumpOps = map[bpf.JumpTest]asm.JumpOp{
	bpf.JumpEqual: asm.JEq, bpf.JumpNotEqual: asm.JNE, bpf.JumpGreaterThan: asm.JGT, bpf.JumpLessThan: asm.JLT,
	bpf.JumpGreaterOrEqual: asm.JGE, bpf.JumpLessOrEqual: asm.JLE,
}

// jump compares A with a register.
func (r *runner) jump(i int, cond bpf.JumpTest, with asm.Register) {
	switch cond {
	case bpf.JumpBitsSet, bpf.JumpBitsNotSet:
		op := asm.JNE
		if cond == bpf.JumpBitsNotSet {
			op = asm.JEq
		}
		r.Add(asm.Mov.Reg(asm.R0, regA), asm.And.Reg(asm.R0, with))
		r.branch(i, func(to bpfasm.Label) { r.JumpIf(op, asm.R0, 0, to) })
	default:
		r.branch(i, func(to bpfasm.Label) { r.JumpIfReg(jumpOps[cond], regA, with, to) })
	}
}

// branch goes where an instruction goes on.
func (r *runner) branch(i int, jump func(to bpfasm.Label)) {
	yes, no := r.p.Targets[i][0], r.p.Targets[i][1]
	if yes != no {
		jump(r.labels[yes])
	}
	if no != i+1 {
		r.Jump(r.labels[no])
	}
}

// load is a read of the packet.
type load struct {
	offset uint32 // from the beginning, or from X on
	size   int
}

// maxChunk is how many bytes from the beginning of a packet are read at once.
const maxChunk = 96

// chunkOf returns how many bytes from the beginning a program reads at places that are
// known, up to maxChunk.
func chunkOf(p *packet.Program) int {
	n := 0
	for i, ins := range p.Insns {
		if l, ok := fixedLoad(ins); ok && p.Reached[i] && int64(l.offset)+int64(l.size) <= maxChunk {
			n = max(n, int(l.offset)+l.size)
		}
	}
	return n
}

// fixedLoad returns what an instruction reads at a place that is known.
func fixedLoad(ins bpf.Instruction) (load, bool) {
	switch ins := ins.(type) {
	case bpf.LoadAbsolute:
		return load{ins.Off, ins.Size}, true
	case bpf.LoadMemShift:
		return load{ins.Off, 1}, true
	}
	return load{}, false
}
