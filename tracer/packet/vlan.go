package packet

import (
	"encoding/binary"
	"errors"

	"golang.org/x/net/bpf"

	"fgtrace/btfx"
)

// Tag is a VLAN tag that lies beside its packet, in a struct sk_buff: a device has taken
// it out, or is to put it in.
type Tag struct {
	Proto uint16 // EtherVLAN, EtherQinQ; 0: there is none
	TCI   uint16 // the number, and priorities
}

// Where a tag belongs in a packet, and how many bytes it has there.
const (
	EthernetAddresses = 12
	TagSize           = 4
)

// AppendTo appends what a tag is in a packet.
func (t Tag) AppendTo(dst []byte) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(dst, t.Proto), t.TCI)
}

// TagForm is how a type has the tag of its packet.
type TagForm struct {
	Present Field  // 0 under the mask: there is none
	Mask    uint32 // of a bit, or all
	Proto   Field  // in the network's order
	TCI     Field
}

// HasTag tells whether packets may have a tag beside them.
func (f *Form) HasTag() bool { return f.Tag.TCI.Size > 0 }

// tagOf returns how a struct has a tag; the zero value: it has none.
func tagOf(types *btfx.Types, id btfx.ID) (t TagForm) {
	var errs [3]error
	t.Present, t.Mask, errs[0] = presenceOf(types, id)
	t.Proto, errs[1] = fieldOf(types, id, "vlan_proto")
	t.TCI, errs[2] = fieldOf(types, id, "vlan_tci")
	if errors.Join(errs[:]...) != nil {
		return TagForm{}
	}
	return t
}

// presenceOf returns what tells of a tag: a bit up to Linux 6.1, and since then protocol
// and TCI, a word that is 0 where there is none.
func presenceOf(types *btfx.Types, id btfx.ID) (present Field, mask uint32, err error) {
	if bit, err := types.Member(id, "vlan_present"); err == nil {
		return Field{bit.Offset / 8, 1}, 1 << (bit.Offset % 8), nil
	}
	present, err = fieldOf(types, id, "vlan_all")
	return present, 1<<32 - 1, err
}

// AskedTag returns where the tag is that the filter asks for, of packets that begin with
// a link. It is nil if the filter does not ask, or there is none: what is inside of a
// packet has its tags in it.
func (m *Matcher) AskedTag(l Link) *TagForm {
	p := m.Programs[l]
	if p == nil || m.Tunnel != nil || !m.Form.HasTag() || !p.asksTag() {
		return nil
	}
	return &m.Form.Tag
}

// asksTag tells whether a program loads what is about a tag beside the packet.
func (p *Program) asksTag() bool {
	for i, ins := range p.Insns {
		if l, ok := ins.(bpf.LoadExtension); ok && p.Reached[i] && (l.Num == bpf.ExtVLANTag || l.Num == bpf.ExtVLANTagPresent) {
			return true
		}
	}
	return false
}

// values returns what extensions load that are about a tag; of a nil form: there is none.
func (t *TagForm) values(addr uint64, read func(addr uint64, buf []byte) error) (map[bpf.Extension]uint32, error) {
	values := map[bpf.Extension]uint32{bpf.ExtVLANTagPresent: 0, bpf.ExtVLANTag: 0}
	if t == nil {
		return values, nil
	}
	present, err := t.Present.load(addr, read)
	if err != nil {
		return nil, err
	}
	tci, err := t.TCI.load(addr, read)
	if err != nil {
		return nil, err
	}
	if uint32(present)&t.Mask != 0 {
		values[bpf.ExtVLANTagPresent] = 1
	}
	values[bpf.ExtVLANTag] = uint32(tci)
	return values, nil
}
