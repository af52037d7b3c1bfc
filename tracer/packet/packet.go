// Package packet tells packets in the kernel's memory by pcap filters: it finds where a
// struct sk_buff, xdp_buff or xdp_frame has its packet, and makes BPF code of a
// filter's classic BPF that reads it there.
//
// A packet begins with its Ethernet header, where it has one, or else with its
// network header: see Form.
package packet

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/net/bpf"

	"fgtrace/btfx"
)

// Filter is a compiled pcap filter.
type Filter struct {
	Text string
	// Ethernet is for packets that begin with an Ethernet header.
	Ethernet []bpf.RawInstruction
	// Raw is for those that begin with a network header; nil: none of them matches.
	Raw []bpf.RawInstruction
	// NoRaw tells why there is no Raw, in libpcap's words.
	NoRaw string
	// Tunnel says that it is for what is inside of packets; nil: for packets.
	Tunnel *Tunnel
}

// ErrNoPacket tells that a type is no pointer to a packet.
var ErrNoPacket = errors.New("no packet")

// Of returns the filter for one form of packets.
func (f *Filter) Of(form *Form) (*Matcher, error) {
	m := &Matcher{text: f.Text, Form: form, Tunnel: f.Tunnel}
	var err error
	if m.Programs[Ethernet], err = newProgram(f.Ethernet); err != nil {
		return nil, fmt.Errorf("read filter: %w", err)
	}
	if (form.hasRaw() || f.Tunnel != nil) && f.Raw != nil {
		if m.Programs[Raw], err = newProgram(f.Raw); err != nil {
			return nil, fmt.Errorf("read filter: %w", err)
		}
	}
	return m, nil
}

// Matcher is a filter for one form of packets: an expr.Matcher.
type Matcher struct {
	text     string
	Form     *Form
	Tunnel   *Tunnel     // nil: the filter is not for what is inside
	Programs [2]*Program // by Link; nil: nothing matches
}

// Link is how a packet begins.
type Link int

const (
	Ethernet Link = iota
	Raw
)

// String spells the filter: two that are spelled alike do the same.
func (m *Matcher) String() string {
	s := fmt.Sprintf("%+v %q", *m.Form, m.text)
	if m.Tunnel != nil {
		s += " " + m.Tunnel.String()
	}
	return s
}

// Form is how a type has its packet.
type Form struct {
	Name   string // of the struct
	Fields map[string]Field
	Tag    TagForm
}

// Field is a member, in bytes.
type Field struct{ Offset, Size int }

// load returns what a member has of the struct at an address.
func (f Field) load(addr uint64, read func(addr uint64, buf []byte) error) (uint64, error) {
	var word [8]byte
	if err := read(addr+uint64(f.Offset), word[:f.Size]); err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(word[:]), nil
}

// FormFields are the members that are read of each type.
var FormFields = map[string][]string{
	"sk_buff":   {"head", "data", "len", "data_len", "mac_header", "network_header", "end"},
	"xdp_buff":  {"data", "data_end", "flags"},
	"xdp_frame": {"data", "len", "flags"},
}

// IsSKB tells whether it is that of a struct sk_buff.
func (f *Form) IsSKB() bool { return f.Name == "sk_buff" }

// hasRaw tells whether packets may begin with a network header.
func (f *Form) hasRaw() bool { return f.IsSKB() }

// FormOf returns how what a type points to has its packet, or ErrNoPacket.
func FormOf(types *btfx.Types, pointer btfx.ID) (*Form, error) {
	id, err := types.Underlying(pointer)
	if err != nil || types.Kind(id) != btfx.KindPtr {
		return nil, ErrNoPacket
	}
	to, err := types.Ref(id)
	if err == nil {
		to, err = types.Underlying(to)
	}
	if err != nil || types.Kind(to) != btfx.KindStruct {
		return nil, ErrNoPacket
	}
	f := &Form{Name: types.Name(to), Fields: map[string]Field{}}
	names, ok := FormFields[f.Name]
	if !ok {
		return nil, ErrNoPacket
	}
	for _, name := range names {
		field, err := fieldOf(types, to, name)
		if err != nil && (name == "flags" || name == "end") {
			continue // there are no fragments yet, or none that are read
		}
		if err != nil {
			return nil, err
		}
		f.Fields[name] = field
	}
	if f.Name == "sk_buff" {
		f.Tag = tagOf(types, to)
	}
	return f, nil
}

// fieldOf returns a member of a struct.
func fieldOf(types *btfx.Types, id btfx.ID, name string) (Field, error) {
	m, err := types.Member(id, name)
	if err != nil {
		return Field{}, err
	}
	size, err := types.Size(m.Type)
	if err != nil {
		return Field{}, err
	}
	if m.Bits != 0 || m.Offset%8 != 0 || m.Offset/8%size != 0 || size > 8 {
		return Field{}, fmt.Errorf("find %s of struct %s: it is no word", name, types.Name(id))
	}
	return Field{m.Offset / 8, size}, nil
}

// EthernetHeader is the length of one, without tags.
const EthernetHeader = 14

// NoHeader is what mac_header is until it is set (skb_mac_header_was_set).
const NoHeader = 0xffff

// view is where a packet is.
type view struct {
	link   Link
	base   uint64
	linear int64 // bytes from base that follow one another
	total  int64 // bytes of the packet
}

// Match tells whether the packet of a struct matches. Memory that can't be read is an
// error.
func (m *Matcher) Match(addr uint64, read func(addr uint64, buf []byte) error) (bool, error) {
	v, err := m.Form.view(addr, read)
	if err != nil {
		return false, err
	}
	if m.Tunnel != nil {
		inside, ok, err := m.Tunnel.within(v, read)
		if err != nil || !ok {
			return false, err
		}
		v = inside
	}
	p := m.Programs[v.link]
	if p == nil {
		return false, nil
	}
	if v.total > v.linear {
		return false, ErrUnread // this does not look where the filter does
	}
	packet := make([]byte, max(v.linear, 0))
	if err := read(v.base, packet); err != nil {
		return false, err
	}
	tag, err := m.AskedTag(v.link).values(addr, read)
	if err != nil {
		return false, err
	}
	return p.Run(packet, tag)
}

func (f *Form) view(addr uint64, read func(addr uint64, buf []byte) error) (view, error) {
	values := map[string]uint64{}
	for name, field := range f.Fields {
		var err error
		if values[name], err = field.load(addr, read); err != nil {
			return view{}, err
		}
	}
	data := values["data"]
	switch f.Name {
	case "sk_buff":
		v := view{total: int64(values["len"]), linear: int64(values["len"]) - int64(values["data_len"])}
		at := int64(data - values["head"])
		start, link, known := skbStart(int64(values["mac_header"]), int64(values["network_header"]), at)
		if !known {
			return v, ErrUnread
		}
		v.link, v.base = link, values["head"]+uint64(start)
		v.linear += at - start
		v.total += at - start
		return v, nil
	case "xdp_buff":
		values["len"] = values["data_end"] - data
	}
	v := view{base: data, linear: int64(values["len"]), total: int64(values["len"])}
	if values["flags"]&HasFrags != 0 {
		v.total = UnknownLength
	}
	return v, nil
}

// skbStart tells where the packet of a struct sk_buff begins, from its head on, given
// its headers and its data there; known is false where nothing tells, as of what TCP
// is about to send.
//
// What is on its way in has both headers, or, until the protocol is known, that of the
// link and the data behind it. What is on its way out has that of the network, and the
// data in front of it once there is an Ethernet header. mac_header may be left from
// what the packet was in: a tunnel's outer header. So it counts only where an Ethernet
// header with its tags fits.
func skbStart(mac, network, data int64) (start int64, l Link, known bool) {
	behind := network
	if network == 0 {
		behind = data
	}
	switch {
	case mac != NoHeader && isEthernet(behind-mac):
		return mac, Ethernet, true
	case network != 0 && isEthernet(network-data):
		return data, Ethernet, true
	}
	return network, Raw, network != 0
}

// MaxTags is how many bytes of tags an Ethernet header has at most, in units of 4: of
// VLANs and MPLS. 8 are also PPPoE.
const MaxTags = 12

func isEthernet(length int64) bool {
	tags := length - EthernetHeader
	return tags >= 0 && tags <= MaxTags && tags%4 == 0
}

// HasFrags is the bit of flags that says that a struct xdp_buff or xdp_frame has
// fragments (XDP_FLAGS_HAS_FRAGS, Linux 5.18).
const HasFrags = 1

// UnknownLength is the length of a packet with more fragments than are counted.
const UnknownLength = 1 << 30

// ErrUnread tells that a packet, or what it takes to tell, can't be read.
var ErrUnread = errors.New("the packet can't be read")
