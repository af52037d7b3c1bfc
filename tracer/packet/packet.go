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
	"slices"

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
	if (form.IsSKB() || f.Tunnel != nil) && f.Raw != nil {
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

	// Pages says how Match reads fragments; nil: not at all. Code has its own way.
	Pages *Pages
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
	Alias  bool   // the pointer's type is another: see aliases
	Fields map[string]Field
	Tag    TagForm
	Size   int // of the struct, in bytes

	// SharedSize and FragsSize are of the struct skb_shared_info behind a struct xdp_buff's
	// or xdp_frame's first piece of memory: how far in front of the end of that it is, and
	// where it has the length of the fragments. Size 0: they are not known.
	SharedSize int
	FragsSize  Field
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
	"xdp_buff":  {"data", "data_end", "flags", "data_hard_start", "frame_sz"},
	"xdp_frame": {"data", "len", "flags", "headroom", "frame_sz"},
}

// IsSKB tells whether it is that of a struct sk_buff, whose packets may begin with a network
// header.
func (f *Form) IsSKB() bool { return f.Name == "sk_buff" }

// fragmentFields are those that are about fragments: kernels may lack them.
var fragmentFields = []string{"end", "flags", "data_hard_start", "headroom", "frame_sz"}

// aliases are structs that functions which BPF programs call (kfuncs) name: what they get
// is a pointer to another.
var aliases = map[string]string{"__sk_buff": "sk_buff", "xdp_md": "xdp_buff"}

// FormOf returns how what a type points to has its packet, or ErrNoPacket.
func FormOf(types *btfx.Types, pointer btfx.ID) (*Form, error) {
	id, err := structOf(types, pointer)
	if err != nil {
		return nil, err
	}
	f := &Form{Name: types.Name(id), Fields: map[string]Field{}}
	if of, ok := aliases[f.Name]; ok {
		f.Name, f.Alias = of, true
		if id, ok = types.FindType(btfx.KindStruct, of); !ok {
			return nil, ErrNoPacket
		}
	}
	names, ok := FormFields[f.Name]
	if !ok {
		return nil, ErrNoPacket
	}
	if f.Size, err = types.Size(id); err != nil {
		return nil, err
	}
	for _, name := range names {
		field, err := fieldOf(types, id, name)
		if err != nil && slices.Contains(fragmentFields, name) {
			continue // there are no fragments yet, or none that are read
		}
		if err != nil {
			return nil, err
		}
		f.Fields[name] = field
	}
	if f.IsSKB() {
		f.Tag = tagOf(types, id)
	}
	f.findShared(types)
	return f, nil
}

// structOf returns the struct that a type points to, or ErrNoPacket.
func structOf(types *btfx.Types, pointer btfx.ID) (btfx.ID, error) {
	id, err := types.Underlying(pointer)
	if err != nil || types.Kind(id) != btfx.KindPtr {
		return 0, ErrNoPacket
	}
	if id, err = types.Ref(id); err == nil {
		id, err = types.Underlying(id)
	}
	if err != nil || types.Kind(id) != btfx.KindStruct {
		return 0, ErrNoPacket
	}
	return id, nil
}

// fieldOf finds a member that is a word.
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

// cacheLine is SMP_CACHE_BYTES of both architectures, which struct skb_shared_info is
// aligned to (SKB_DATA_ALIGN).
const cacheLine = 64

// findShared finds where XDP packets have their fragments (xdp_get_shared_info_from_buff
// and xdp_get_shared_info_from_frame in include/net/xdp.h), if they have any.
func (f *Form) findShared(types *btfx.Types) {
	for _, name := range FormFields[f.Name] {
		if _, ok := f.Fields[name]; !ok || f.IsSKB() {
			return
		}
	}
	shared, ok := types.FindType(btfx.KindStruct, "skb_shared_info")
	if !ok {
		return
	}
	size, err := types.Size(shared)
	if err != nil {
		return
	}
	if field, err := fieldOf(types, shared, "xdp_frags_size"); err == nil {
		f.SharedSize, f.FragsSize = (size+cacheLine-1)&^(cacheLine-1), field
	}
}

// EthernetHeader is the length of one, without tags.
const EthernetHeader = 14

// NoHeader is what mac_header is until it is set (skb_mac_header_was_set).
const NoHeader = 0xffff

// view is where a packet is.
type view struct {
	link   Link
	base   uint64
	linear int64  // bytes from base that follow one another
	total  int64  // bytes of the packet
	shared uint64 // address of its struct skb_shared_info; 0: not known
}

// Match tells whether the packet of a struct matches. Memory that can't be read is an
// error.
func (m *Matcher) Match(addr uint64, read func(addr uint64, buf []byte) error) (bool, error) {
	v, err := m.Form.view(addr, read)
	if err != nil {
		return false, err
	}
	if m.Tunnel != nil {
		inside, ok, err := m.Tunnel.within(v, func(offset int64, buf []byte) error { return v.load(offset, buf, m.Pages, read) })
		if err != nil || !ok {
			return false, err
		}
		v = inside
	}
	p := m.Programs[v.link]
	if p == nil {
		return false, nil
	}
	if v.total > maxPacket {
		return false, ErrUnread
	}
	packet := make([]byte, max(v.total, 0)) // this does not look only where the filter does
	if err := v.load(0, packet, m.Pages, read); err != nil {
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
		if end, ok := values["end"]; ok {
			v.shared = values["head"] + end
		}
		return v, nil
	case "xdp_buff":
		values["len"] = values["data_end"] - data
	case "xdp_frame":
		values["data_hard_start"] = data - values["headroom"] - uint64(f.Size)
	}
	v := view{base: data, linear: int64(values["len"]), total: int64(values["len"])}
	if values["flags"]&HasFrags == 0 {
		return v, nil
	}
	if f.SharedSize == 0 {
		v.total = UnknownLength
		return v, nil
	}
	v.shared = values["data_hard_start"] + values["frame_sz"] - uint64(f.SharedSize)
	var word [8]byte
	if err := read(v.shared+uint64(f.FragsSize.Offset), word[:f.FragsSize.Size]); err != nil {
		return v, err
	}
	v.total += int64(binary.LittleEndian.Uint64(word[:]))
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

// UnknownLength is the length of a packet with fragments of which it is not known.
const UnknownLength = 1 << 30

// ErrUnread tells that a packet, or what it takes to tell, can't be read.
var ErrUnread = errors.New("the packet can't be read")
