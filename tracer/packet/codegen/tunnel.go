package codegen

import (
	"github.com/cilium/ebpf/asm"

	"fgtrace/internal/bpfasm"
	"fgtrace/tracer/packet"
)

// tunnel is packet.Tunnel's code: it finds what is inside of a packet that begins with
// one of outer, and goes on with that at inner, or rejects the packet.
//
// regX is where the next header is, in bytes from regBase.
func (c *coder) tunnel(t *packet.Tunnel, outer, inner [2]bpfasm.Label) {
	// load leaves a number of 1 or 2 bytes behind regX in regA.
	load := func(offset int32, size int) {
		c.Add(asm.Mov.Reg(asm.R3, regX))
		if offset != 0 {
			c.Add(asm.Add.Imm(asm.R3, offset))
		}
		c.far(regA, size)
	}
	skip := func(bytes int32) { c.Add(asm.Add.Imm(regX, bytes)) }
	ip, isIPv4, isIPv6, l4 := c.Label(), c.Label(), c.Label(), c.Label()

	if c.Used(outer[packet.Ethernet]) {
		c.Place(outer[packet.Ethernet])
		c.Add(asm.Mov.Imm(regX, packet.EthernetHeader))
		for range packet.MaxVLANs + 1 {
			tag := c.Label()
			load(-2, 2)
			c.JumpIf(asm.JEq, regA, packet.EtherIPv4, ip)
			c.JumpIf(asm.JEq, regA, packet.EtherIPv6, ip)
			c.JumpIf(asm.JEq, regA, packet.EtherVLAN, tag)
			c.JumpIf(asm.JNE, regA, packet.EtherQinQ, c.reject)
			c.Place(tag)
			skip(4)
		}
		c.Jump(c.reject)
	}
	if c.Used(outer[packet.Raw]) {
		c.Place(outer[packet.Raw])
		c.Add(asm.Mov.Imm(regX, 0))
	}
	c.Place(ip)
	load(0, 1)
	c.Add(asm.Mov.Reg(asm.R1, regA), asm.RSh.Imm(asm.R1, 4))
	c.JumpIf(asm.JEq, asm.R1, 4, isIPv4)
	c.JumpIf(asm.JEq, asm.R1, 6, isIPv6)
	c.Jump(c.reject)

	// The protocol goes to the slot of header, which loads do not use.
	header := c.room(16)
	c.Place(isIPv4)
	c.Add(asm.And.Imm(regA, 15), asm.LSh.Imm(regA, 2), asm.StoreMem(asm.RFP, header+8, regA, asm.DWord))
	load(6, 2)
	c.Add(asm.And.Imm(regA, 0x1fff))
	c.JumpIf(asm.JNE, regA, 0, c.reject)
	load(9, 1)
	c.Add(asm.LoadMem(asm.R1, asm.RFP, header+8, asm.DWord), asm.Add.Reg(regX, asm.R1))
	c.Jump(l4)
	c.Place(isIPv6)
	load(6, 1)
	skip(packet.IPv6Header)

	c.Place(l4)
	gre, udp, ethertype := c.Label(), c.Label(), c.Label()
	begins := [2]bpfasm.Label{c.Label(), c.Label()}
	c.JumpIf(asm.JEq, regA, packet.ProtoIPIP, begins[packet.Raw])
	c.JumpIf(asm.JEq, regA, packet.ProtoIPv6, begins[packet.Raw])
	c.JumpIf(asm.JEq, regA, packet.ProtoGRE, gre)
	c.JumpIf(asm.JEq, regA, packet.ProtoUDP, udp)
	c.Jump(c.reject)

	c.Place(gre)
	load(0, 2)
	c.Add(asm.Mov.Reg(asm.R1, regA), asm.And.Imm(asm.R1, packet.GRERouting|packet.GREVersion))
	c.JumpIf(asm.JNE, asm.R1, 0, c.reject)
	c.Add(asm.Mov.Imm(asm.R2, 4))
	for _, flag := range []int32{packet.GREChecksum, packet.GREKey, packet.GRESequence} {
		without := c.Label()
		c.Add(asm.Mov.Reg(asm.R1, regA), asm.And.Imm(asm.R1, flag))
		c.JumpIf(asm.JEq, asm.R1, 0, without)
		c.Add(asm.Add.Imm(asm.R2, 4))
		c.Place(without)
	}
	c.Add(asm.StoreMem(asm.RFP, header, asm.R2, asm.DWord))
	load(2, 2)
	c.Jump(ethertype)

	c.Place(udp)
	load(2, 2)
	vxlan, geneve := c.Label(), c.Label()
	for _, port := range t.VXLAN {
		c.JumpIf(asm.JEq, regA, int32(port), vxlan)
	}
	for _, port := range t.Geneve {
		c.JumpIf(asm.JEq, regA, int32(port), geneve)
	}
	c.Jump(c.reject)
	if c.Used(vxlan) {
		c.Place(vxlan)
		skip(packet.UDPHeader + packet.VXLANHeader)
		c.Jump(begins[packet.Ethernet])
	}
	if c.Used(geneve) {
		c.Place(geneve)
		load(packet.UDPHeader, 1)
		c.Add(asm.And.Imm(regA, 0x3f), asm.LSh.Imm(regA, 2), asm.Add.Imm(regA, packet.UDPHeader+8), asm.StoreMem(asm.RFP, header, regA, asm.DWord))
		load(packet.UDPHeader+2, 2)
	}
	c.Place(ethertype)
	c.Add(asm.LoadMem(asm.R1, asm.RFP, header, asm.DWord), asm.Add.Reg(regX, asm.R1))
	c.JumpIf(asm.JEq, regA, packet.EtherBridge, begins[packet.Ethernet])
	c.JumpIf(asm.JEq, regA, packet.EtherIPv4, begins[packet.Raw])
	c.JumpIf(asm.JNE, regA, packet.EtherIPv6, c.reject)

	for _, l := range []packet.Link{packet.Raw, packet.Ethernet} {
		c.Place(begins[l])
		unknown := c.Label()
		c.Add(
			asm.Add.Reg(regBase, regX),
			asm.Sub.Reg(regLinear, regX),
			asm.LoadMem(asm.R1, asm.RFP, c.total, asm.DWord),
		)
		c.JumpIf(asm.JEq, asm.R1, packet.UnknownLength, unknown)
		c.Add(asm.Sub.Reg(asm.R1, regX), asm.StoreMem(asm.RFP, c.total, asm.R1, asm.DWord))
		c.Place(unknown)
		if c.fragments {
			c.Add(asm.LoadMem(asm.R3, asm.RFP, c.shared, asm.DWord))
			c.JumpIf(asm.JEq, asm.R3, 0, inner[l])
			c.note()
		}
		c.Jump(inner[l])
	}
}
