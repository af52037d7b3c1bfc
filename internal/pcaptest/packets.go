package pcaptest

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"fgtrace/internal/pcapfilter"
)

// MaxPacket is the length of the longest packet that is made.
const MaxPacket = 512

// Packet is one as a filter gets it.
type Packet struct {
	Link  int // what it begins with: pcapfilter.Ethernet or Raw
	Bytes []byte
}

// Packets makes packets of what networks carry. Addresses, ports and the like are those
// that Expressions ask for, or others. Some packets are cut off, some damaged.
func Packets(r *rand.Rand, count int) []Packet {
	m := maker{r}
	all := make([]Packet, count)
	for i := range all {
		p := Packet{Link: pcapfilter.Ethernet}
		if m.one(5) {
			p.Link = pcapfilter.Raw
			_, p.Bytes = m.network(2)
		} else {
			p.Bytes = m.frame(2)
		}
		p.Bytes = m.harmed(p.Bytes)
		all[i] = p
	}
	return all
}

// maker makes parts of packets, the outer ones around the inner ones. depth is how many
// tunnels there may be.
type maker struct{ *rand.Rand }

// one is true once in n times.
func (m maker) one(n int) bool { return m.IntN(n) == 0 }

func (m maker) byte() byte { return byte(m.Uint32()) }

func (m maker) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = m.byte()
	}
	return b
}

func pick[T any](m maker, of ...T) T { return of[m.IntN(len(of))] }

func be16(v int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(v)) }

func be32(v int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(v)) }

// harmed is what arrives of a packet.
func (m maker) harmed(p []byte) []byte {
	p = p[:min(len(p), MaxPacket)]
	if m.one(2) && len(p) < 60 {
		p = append(p, m.bytes(60-len(p))...)
	}
	switch m.IntN(8) {
	case 0:
		p = p[:m.IntN(len(p)+1)]
	case 1:
		p = p[:m.IntN(min(len(p), 64)+1)]
	case 2:
		for range 1 + m.IntN(3) {
			p[m.IntN(len(p))] = m.byte()
		}
	}
	return p
}

// frame is what an Ethernet header is in front of.
func (m maker) frame(depth int) []byte {
	p := slices.Concat(m.mac(), m.mac())
	for range pick(m, 0, 0, 0, 0, 1, 2) {
		p = slices.Concat(p, be16(pick(m, 0x8100, 0x8100, 0x88a8, 0x9100)), be16(m.IntN(8)<<13|pick(m, 100, 200, 5, 6, m.IntN(4096))))
	}
	switch m.IntN(12) {
	case 0:
		return slices.Concat(p, m.mpls(depth))
	case 1:
		return slices.Concat(p, m.pppoe(depth))
	case 2:
		llc := m.llc()
		return slices.Concat(p, be16(len(llc)), llc)
	case 3:
		return slices.Concat(p, be16(pick(m, 0x88cc, 0x888e, 0x80f3, 0x809b, 0x6002, 0x6003, 0x6004, 0x8137, 0x9000)), m.bytes(30))
	}
	protocol, network := m.network(depth)
	return slices.Concat(p, be16(protocol), network)
}

func (m maker) mac() []byte {
	return pick(m, []byte{2, 0, 0, 0, 0, byte(m.IntN(4))}, []byte{2, 0, 0, 0, 0, 1}, []byte{255, 255, 255, 255, 255, 255},
		[]byte{1, 0, 0x5e, 0, 0, 1}, []byte{1, 0x80, 0xc2, 0, 0, 0}, m.bytes(6))
}

func (m maker) mpls(depth int) []byte {
	p := be16(pick(m, 0x8847, 0x8847, 0x8848))
	for labels := pick(m, 1, 1, 2, 3); labels > 0; labels-- {
		label := pick(m, 16, 16, 1024, 1024, m.IntN(1<<20))
		p = append(p, be32(label<<12|m.IntN(8)<<9|map[bool]int{true: 1 << 8}[labels == 1]|64)...)
	}
	_, network := m.network(depth)
	return append(p, network...)
}

func (m maker) pppoe(depth int) []byte {
	session := pick(m, 1, 0x27, m.IntN(65536))
	if m.one(4) {
		return slices.Concat(be16(0x8863), []byte{0x11, pick[byte](m, 9, 7, 0x19, 0x65)}, be16(session), be16(20), m.bytes(20))
	}
	protocol, network := m.network(depth)
	ppp := map[int]int{0x0800: 0x21, 0x86dd: 0x57}[protocol]
	if m.one(5) {
		ppp = pick(m, 0xc021, 0x8021)
	}
	return slices.Concat(be16(0x8864), []byte{0x11, 0}, be16(session), be16(2+len(network)), be16(ppp), network)
}

// llc is what a length is in front of.
func (m maker) llc() []byte {
	body := m.bytes(20 + m.IntN(40))
	switch m.IntN(7) {
	case 0:
		return slices.Concat([]byte{0x42, 0x42, 3}, body)
	case 1:
		return slices.Concat([]byte{0xe0, 0xe0, 3}, body)
	case 2:
		return slices.Concat([]byte{0xff, 0xff}, body)
	case 3:
		return slices.Concat([]byte{0xf0, 0xf0, pick[byte](m, 3, 0, 1)}, body)
	case 4:
		return slices.Concat([]byte{0xfe, 0xfe, 3, pick[byte](m, 0x81, 0x82, 0x83)}, body)
	case 5:
		return slices.Concat([]byte{0xaa, 0xaa, 3}, pick(m, []byte{0, 0, 0}, []byte{8, 0, 7}), be16(pick(m, 0x0800, 0x809b, 0x80f3, 0x8137)), body)
	}
	return body
}

// network returns a packet of a network and its Ethernet type.
func (m maker) network(depth int) (protocol int, p []byte) {
	switch m.IntN(12) {
	case 0:
		return pick(m, 0x0806, 0x0806, 0x8035), m.arp()
	case 1, 2, 3:
		return 0x86dd, m.ipv6(depth)
	}
	return 0x0800, m.ipv4(depth)
}

func (m maker) arp() []byte {
	return slices.Concat(be16(1), be16(0x0800), []byte{6, 4}, be16(1+m.IntN(4)), m.mac(), m.address4(), m.mac(), m.address4())
}

func (m maker) address4() []byte {
	return pick(m, []byte{10, 0, 0, 1}, []byte{10, 0, 0, 1}, []byte{10, 0, 0, byte(m.IntN(4))}, []byte{127, 0, 0, 1}, []byte{192, 168, 1, byte(m.IntN(3))},
		[]byte{172, 16 + byte(m.IntN(32)), 3, 4}, []byte{224, 0, 0, 1}, []byte{255, 255, 255, 255}, m.bytes(4))
}

func (m maker) address6() []byte {
	zeros := make([]byte, 10)
	return pick(m, slices.Concat(zeros, []byte{0, 0, 0, 0, 0, 1}), slices.Concat([]byte{0xfe, 0x80, 0, 0, 0, 0}, zeros[1:], []byte{1}),
		slices.Concat([]byte{0x20, 0x01, 0x0d, 0xb8, 0, 0}, zeros[1:], []byte{byte(1 + m.IntN(2))}),
		slices.Concat([]byte{0xff, 2, 0, 0, 0, 0}, zeros[1:], []byte{byte(1 + m.IntN(2))}), m.bytes(16))
}

func (m maker) ipv4(depth int) []byte {
	protocol, body := m.transport(depth, false)
	if m.one(16) { // an authentication header
		body = slices.Concat([]byte{byte(protocol), 4, 0, 0}, m.bytes(20), body)
		protocol = 51
	}
	var options []byte
	switch m.IntN(8) {
	case 0:
		options = slices.Concat([]byte{7, 7, 4}, m.bytes(4), []byte{0})
	case 1:
		options = m.bytes(4 * (1 + m.IntN(10)))
	}
	fragment := pick(m, 0, 0, 0, 0x4000, 0x4000, 0x2000, 0x2000|m.IntN(64), 1+m.IntN(8191))
	length := 20 + len(options) + len(body)
	p := slices.Concat([]byte{0x45 + byte(len(options)/4), pick(m, 0, 0, 0x10, m.byte())}, be16(length), m.bytes(2), be16(fragment),
		[]byte{pick(m, 64, 255, byte(m.IntN(40)), m.byte()), byte(protocol)}, m.bytes(2), m.address4(), m.address4())
	if m.one(20) {
		p[0] = m.byte()
	}
	return slices.Concat(p, options, body)
}

func (m maker) ipv6(depth int) []byte {
	next, body := m.transport(depth, true)
	for range pick(m, 0, 0, 0, 1, 2, 3) {
		next, body = m.extension(next, body)
	}
	p := slices.Concat([]byte{0x60, 0, 0, pick(m, 0, 7, m.byte())}, be16(len(body)), []byte{byte(next), 64}, m.address6(), m.address6())
	if m.one(20) {
		p[0] = m.byte()
	}
	return append(p, body...)
}

// extension puts a header of IPv6 in front of another.
func (m maker) extension(next int, body []byte) (int, []byte) {
	switch kind := pick(m, 0, 43, 60, 44, 51); kind {
	case 44:
		return kind, slices.Concat([]byte{byte(next), 0}, be16(pick(m, 0, 1, m.IntN(65536))), m.bytes(4), body)
	case 51:
		return kind, slices.Concat([]byte{byte(next), 4, 0, 0}, m.bytes(20), body)
	default:
		units := m.IntN(3)
		return kind, slices.Concat([]byte{byte(next), byte(units)}, m.bytes(6+8*units), body)
	}
}

func (m maker) port() []byte {
	return be16(pick(m, 80, 80, 443, 443, 22, 53, 53, 1024, 4789, 36412, 6000+m.IntN(20), 80+m.IntN(12), 8080, 1000+m.IntN(1100), m.IntN(65536)))
}

// transport returns what is in a packet of IP, and its protocol.
func (m maker) transport(depth int, is6 bool) (protocol int, body []byte) {
	switch m.IntN(16) {
	case 0, 1, 2, 3, 4:
		return 6, m.tcp()
	case 5, 6, 7:
		text := pick(m, []byte("queries"), []byte("answers and the like, of some length"), m.bytes(m.IntN(80)))
		return 17, slices.Concat(m.port(), m.port(), be16(8+len(text)), m.bytes(2), text)
	case 8, 9:
		return m.icmp(is6)
	case 10:
		return 132, slices.Concat(m.port(), m.port(), m.bytes(24))
	case 11, 12, 13:
		if depth > 0 {
			return m.tunnel(depth - 1)
		}
	}
	return pick(m, 2, 50, 89, 103, 112, 255, m.IntN(256)), m.bytes(8 + m.IntN(32))
}

func (m maker) tcp() []byte {
	words := pick(m, 5, 5, 5, 6, 8, 15, m.IntN(16))
	flags := pick(m, 2, 0x12, 0x10, 0x10, 0x18, 0x11, 0x04, m.byte())
	p := slices.Concat(m.port(), m.port(), m.bytes(8), []byte{byte(words << 4), flags}, m.bytes(6), make([]byte, max(0, 4*words-20)))
	return append(p, pick(m, nil, []byte("GET / HTTP/1.1\r\n\r\n"), []byte("HTTP/1.1 200 OK\r\n\r\n"), m.bytes(m.IntN(120)))...)
}

func (m maker) icmp(is6 bool) (protocol int, body []byte) {
	protocol, kind := 1, pick[byte](m, 0, 8, 8, 3, 3, 11, m.byte())
	if is6 {
		protocol, kind = 58, pick[byte](m, 128, 129, 133, 135, 135, 136, m.byte())
	}
	return protocol, slices.Concat([]byte{kind, byte(m.IntN(4))}, m.bytes(6), []byte("pings and pongs")[:m.IntN(16)])
}

// tunnel is a packet in a packet.
func (m maker) tunnel(depth int) (protocol int, body []byte) {
	udp := func(port int, header, inside []byte) (int, []byte) {
		return 17, slices.Concat(m.port(), be16(port), be16(8+len(header)+len(inside)), m.bytes(2), header, inside)
	}
	switch m.IntN(8) {
	case 0:
		return 4, m.ipv4(depth)
	case 1:
		return 41, m.ipv6(depth)
	case 2:
		ethertype, inside := m.network(depth)
		return 47, slices.Concat(be16(0), be16(ethertype), inside)
	case 3:
		return 47, slices.Concat(be16(0x2000), be16(0x6558), m.bytes(4), m.frame(depth))
	case 4:
		return udp(4789, []byte{8, 0, 0, 0, 0, 0, byte(m.IntN(16)), 0}, m.frame(depth))
	}
	options := m.bytes(4 * pick(m, 0, 0, 1, 3))
	vni := []byte{0, 0, pick(m, 0xb, 0xb, m.byte()), 0}
	ethertype, inside := 0x6558, m.frame(depth)
	if m.one(2) {
		ethertype, inside = m.network(depth)
	}
	return udp(6081, slices.Concat([]byte{byte(len(options) / 4), 0}, be16(ethertype), vni, options), inside)
}
