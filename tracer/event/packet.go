package event

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"fgtrace/bpf/wire"
)

// KindPacket is that of a call's packet.
const KindPacket Kind = wire.KindPacket

// Packet is the record of a call's packet. Its data is that of the record.
type Packet struct {
	Frame  uint64 // of the call's entry; of a node the ID
	Target int    // index in the plan
	Depth  int    // of the node
	Raw    bool   // it begins with a network header, not with one of Ethernet
	More   bool   // Data are bytes of the packet that come next
	Length int    // of the packet in bytes, of which Data has the first ones
	Data   []byte

	// Of a VLAN's tag that is not in the packet, but beside it; TagProto 0: there is none.
	TagProto, TagTCI uint16
}

// DecodePacket reads the record of a packet of one of so many targets. An error says
// that it is not what a program of ours writes.
func DecodePacket(raw []byte, targets int) (Packet, error) {
	if len(raw) < wire.RecordSize+wire.PacketSize {
		return Packet{}, fmt.Errorf("decode packet: %d bytes, less than any", len(raw))
	}
	h := (*header)(raw)
	if target := h.target(); uint64(target) >= uint64(targets) {
		return Packet{}, fmt.Errorf("decode packet: target %d of %d", target, targets)
	}
	p, data := raw[wire.RecordSize:], raw[wire.RecordSize+wire.PacketSize:]
	size := binary.LittleEndian.Uint32(p[unsafe.Offsetof(packetAt.Size):])
	length := int64(binary.LittleEndian.Uint64(p[unsafe.Offsetof(packetAt.Length):]))
	if uint64(size) > uint64(len(data)) {
		return Packet{}, fmt.Errorf("decode packet: %d bytes of %d", len(data), size)
	}
	return Packet{
		Frame: h.frame(), Target: int(h.target()), Depth: int(h.frames()), Data: data[:size],
		Raw: p[unsafe.Offsetof(packetAt.Raw)] != 0, More: p[unsafe.Offsetof(packetAt.More)] != 0,
		TagProto: binary.LittleEndian.Uint16(p[unsafe.Offsetof(packetAt.VlanProto):]),
		TagTCI:   binary.LittleEndian.Uint16(p[unsafe.Offsetof(packetAt.VlanTci):]),
		Length:   max(int(length), int(size)),
	}, nil
}

// packetAt has the offsets of a packet's parts.
var packetAt *wire.Packet
