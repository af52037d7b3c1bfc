package codegen

import (
	"github.com/cilium/ebpf/asm"
	"golang.org/x/net/bpf"

	"fgtrace/tracer/packet"
)

// keepTag copies what extensions load of a tag to the stack, as regX is the program's from
// there on.
func (r *runner) keepTag(t *packet.TagForm) {
	present, tci := r.room(8), r.room(8)
	r.isTagged(asm.R1, t)
	r.Add(asm.StoreMem(asm.RFP, present, asm.R1, asm.DWord))
	r.get(asm.R1, t.TCI)
	r.Add(asm.StoreMem(asm.RFP, tci, asm.R1, asm.DWord))
	r.kept = map[bpf.Extension]int16{bpf.ExtVLANTagPresent: present, bpf.ExtVLANTag: tci}
}

// loadTag loads what was kept of a tag: nothing, if there can't be one.
func (r *runner) loadTag(which bpf.Extension) {
	at, ok := r.kept[which]
	if !ok {
		r.Add(asm.Mov.Imm(regA, 0))
		return
	}
	r.Add(asm.LoadMem(regA, asm.RFP, at, asm.DWord))
}

// isTagged leaves in a register whether there is a tag: 0 or 1.
func (c *coder) isTagged(to asm.Register, t *packet.TagForm) {
	c.get(to, t.Present)
	c.Add(
		asm.And.Imm(to, int32(t.Mask)),
		asm.Neg.Imm(to, 0), // of what is not 0, the uppermost bit is set then: it has 32 bits
		asm.RSh.Imm(to, 63),
	)
}

// writeTag writes the packet's tag, if it has one, where to has the address of its place.
// It changes R2.
func (c *coder) writeTag(to asm.Register, place Place) {
	if c.tag == nil {
		return
	}
	none := c.Label()
	c.isTagged(asm.R2, c.tag)
	c.JumpIf(asm.JEq, asm.R2, 0, none)
	c.get(asm.R2, c.tag.Proto)
	c.swap(asm.R2, 2)
	c.Add(asm.StoreMem(to, place.TagProto, asm.R2, asm.Half))
	c.get(asm.R2, c.tag.TCI)
	c.Add(asm.StoreMem(to, place.TagTCI, asm.R2, asm.Half))
	c.Place(none)
}
