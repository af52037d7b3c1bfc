package packet

import (
	"encoding/binary"
	"fmt"
)

// Tunnel says that a filter is for what is inside of a packet: of VXLAN, Geneve, GRE, IP
// in IP. It looks into one of them, the outermost. Headers of IPv6 between the first one
// and the tunnel's are not followed, and of fragments no inside is known.
type Tunnel struct {
	VXLAN  []uint16 // UDP ports
	Geneve []uint16
}

// String spells it: two that are spelled alike do the same.
func (t *Tunnel) String() string { return fmt.Sprintf("tunnel %v %v", t.VXLAN, t.Geneve) }

// Numbers that tunnels are told by.
const (
	EtherIPv4   = 0x0800
	EtherIPv6   = 0x86dd
	EtherVLAN   = 0x8100
	EtherQinQ   = 0x88a8
	EtherBridge = 0x6558 // Ethernet in GRE and Geneve (RFC 2784, RFC 8926)

	ProtoIPIP = 4
	ProtoUDP  = 17
	ProtoIPv6 = 41
	ProtoGRE  = 47

	UDPHeader   = 8
	VXLANHeader = 8 // RFC 7348
	IPv6Header  = 40
	// MaxVLANs is how many tags are in front of the IP header at most.
	MaxVLANs = 2

	// Flags of GRE's first 16 bits (RFC 2784, RFC 2890).
	GREChecksum = 0x8000
	GRERouting  = 0x4000
	GREKey      = 0x2000
	GRESequence = 0x1000
	GREVersion  = 0x0007
)

// inner finds what is inside of a packet: where it begins, and how. load reads a number
// of 1 or 2 bytes in the network's order; it tells where that is behind the end.
func (t *Tunnel) inner(link Link, load func(offset int64, size int) (uint64, error)) (start int64, inside Link, ok bool, err error) {
	get := func(offset int64, size int) (v uint64) {
		if err == nil {
			v, err = load(offset, size)
		}
		return v
	}
	ip := int64(0)
	if link == Ethernet {
		ip = EthernetHeader
		ethertype := get(12, 2)
		for range MaxVLANs {
			if ethertype != EtherVLAN && ethertype != EtherQinQ {
				break
			}
			ethertype = get(ip+2, 2)
			ip += 4
		}
		if ethertype != EtherIPv4 && ethertype != EtherIPv6 {
			return 0, 0, false, err
		}
	}
	var proto uint64
	var l4 int64
	switch first := get(ip, 1); first >> 4 {
	case 4:
		if get(ip+6, 2)&0x1fff != 0 {
			return 0, 0, false, err
		}
		proto, l4 = get(ip+9, 1), ip+int64(first&15)*4
	case 6:
		proto, l4 = get(ip+6, 1), ip+IPv6Header
	default:
		return 0, 0, false, err
	}
	of := func(ethertype uint64, start int64) (int64, Link, bool, error) {
		switch ethertype {
		case EtherBridge:
			return start, Ethernet, err == nil, err
		case EtherIPv4, EtherIPv6:
			return start, Raw, err == nil, err
		}
		return 0, 0, false, err
	}
	switch proto {
	case ProtoIPIP, ProtoIPv6:
		return l4, Raw, err == nil, err
	case ProtoGRE:
		flags := get(l4, 2)
		if flags&(GRERouting|GREVersion) != 0 {
			return 0, 0, false, err
		}
		start := l4 + 4
		for _, flag := range []uint64{GREChecksum, GREKey, GRESequence} {
			if flags&flag != 0 {
				start += 4
			}
		}
		return of(get(l4+2, 2), start)
	case ProtoUDP:
		port := uint16(get(l4+2, 2))
		for _, p := range t.VXLAN {
			if p == port {
				return l4 + UDPHeader + VXLANHeader, Ethernet, err == nil, err
			}
		}
		for _, p := range t.Geneve {
			if p == port {
				options := int64(get(l4+UDPHeader, 1)&0x3f) * 4
				return of(get(l4+UDPHeader+2, 2), l4+UDPHeader+8+options)
			}
		}
	}
	return 0, 0, false, err
}

// within narrows a view to what is inside; ok is false if there is nothing.
func (t *Tunnel) within(v view, read func(offset int64, buf []byte) error) (inside view, ok bool, err error) {
	behind := false
	start, link, ok, err := t.inner(v.link, func(offset int64, size int) (uint64, error) {
		if offset+int64(size) > v.total {
			behind = true
			return 0, errBehind
		}
		var word [2]byte
		if err := read(offset, word[2-size:]); err != nil {
			return 0, err
		}
		return uint64(binary.BigEndian.Uint16(word[:])), nil
	})
	if behind || !ok && err == nil {
		return v, false, nil
	}
	if err != nil {
		return v, false, err
	}
	v.link, v.base, v.linear, v.total = link, v.base+uint64(start), v.linear-start, v.total-start
	return v, true, nil
}

// errBehind tells that a packet ends before what is asked for.
var errBehind = fmt.Errorf("the packet ends before")
