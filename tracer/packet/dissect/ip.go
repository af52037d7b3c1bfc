package dissect

// Protocols, as include/uapi/linux/in.h and in6.h have them.
const (
	protocolHopByHop    = 0
	protocolICMP        = 1
	protocolIGMP        = 2
	protocolIPv4        = 4
	protocolTCP         = 6
	protocolUDP         = 17
	protocolIPv6        = 41
	protocolRouting     = 43
	protocolFragment    = 44
	protocolGRE         = 47
	protocolESP         = 50
	protocolAH          = 51
	protocolICMPv6      = 58
	protocolNone        = 59
	protocolDestination = 60
	protocolSCTP        = 132
)

var (
	ipv4 = form{ // RFC 791
		name: "ipv4", short: "ip", size: 20,
		fields: []field{
			{"src", 12, addr4, 0}, {"dst", 16, addr4, 0}, {"ttl", 8, u8, 0}, {"id", 4, u16, 0}, {"protocol", 9, u8, 0},
			{"length", 0, length, 0}, {"dont_fragment", 6, flag, 0x40}, {"more_fragments", 6, flag, 0x20},
		},
		rare: []field{{"tos", 1, u8, 0}, {"offset", 6, times8, 0x1fff}, {"options", 20, ipOptions, 0}},
	}
	ipv6 = form{ // RFC 8200
		name: "ipv6", short: "ip6", size: 40,
		fields: []field{
			{"src", 8, addr16, 0}, {"dst", 24, addr16, 0}, {"hop_limit", 7, u8, 0}, {"next_header", 6, u8, 0},
			{"length", 0, length, 0},
		},
		rare: []field{{"traffic_class", 0, u16, 0xff0}, {"flow_label", 0, u32, 0xfffff}},
	}
	unknownVersion = form{
		name: "unknown", text: "unknown ip {version}",
		fields: []field{{"version", 0, number, 0}, {"length", 0, length, 0}},
	}
	unknownProtocol = form{
		name: "unknown", text: "ip-proto-{protocol} {length}",
		fields: []field{{"protocol", 0, number, 0}, {"length", 0, length, 0}},
	}
	noNext = form{name: "none", text: "no next header"}
)

// Extension headers of IPv6 (RFC 8200, 4), and what IPsec has (RFC 4302, RFC 4303).
var (
	hopByHop    = form{"hop-by-hop", "hbhopt", 8, "HBH ", nextFields, nil}
	destination = form{"destination", "dstopt", 8, "DSTOPT ", nextFields, nil}
	nextFields  = []field{{"next_header", 0, u8, 0}, {"length", 0, length, 0}}

	fragment = form{
		name: "fragment", short: "frag6", size: 8, text: "frag ({offset}|{payload}) ",
		fields: []field{
			{"id", 4, u32, 0}, {"offset", 2, times8, 0xfff8}, {"more_fragments", 3, flag, 1}, {"next_header", 0, u8, 0},
			{"length", 0, length, 0},
		},
	}
	routing = form{
		name: "routing", short: "rt6", size: 8, text: "RT6 (len={hdr_ext_len}, type={routing_type}{*}) ",
		fields: []field{
			{"hdr_ext_len", 1, u8, 0}, {"routing_type", 2, u8, 0}, {"segments_left", 3, u8, 0}, {"next_header", 0, u8, 0},
			{"length", 0, length, 0},
		},
	}
	ah = form{
		name: "ah", short: "ah", size: 12, text: "AH(spi=0x{spi:8},seq=0x{seq:1},icv=0x{icv}): ",
		fields: []field{
			{"spi", 4, u32, 0}, {"seq", 8, u32, 0}, {"icv", 12, rest, 0}, {"next_header", 0, u8, 0}, {"length", 0, length, 0},
		},
	}
	esp = form{
		name: "esp", short: "esp", size: 8, text: "ESP(spi=0x{spi:8},seq=0x{seq:1}), length {length}",
		fields: []field{{"spi", 0, u32, 0}, {"seq", 4, u32, 0}, {"length", 0, length, 0}},
	}
)

// routingVariants are the types of routing headers: RFC 5095, RFC 6275 and RFC 8754.
var routingVariants = []variant{
	{0, anyCode, " [Deprecated], segleft={segments_left}{addresses}", routingAddresses},
	{2, anyCode, ", segleft={segments_left}{addresses}", routingAddresses},
	{
		routingSegments, anyCode,
		", segleft={segments_left}, last-entry={last}{flags:1?, flags=0x%}, tag={tag:1}{addresses}",
		[]field{{"last", 4, u8, 0}, {"flags", 5, u8, 0}, {"tag", 6, u16, 0}, {"addresses", 8, addresses, 0}},
	},
	{text: ", segleft={segments_left}"},
}

var routingAddresses = []field{{"addresses", 8, addresses, 0}}

const routingSegments = 4

// hops returns the addresses of a routing header, 16 bytes each, as far as they were captured.
func (l *layer) hops(f field) []byte {
	h, listed := l.header, l.bytes(f)
	count := int(h[1]) / 2
	if h[2] == routingSegments {
		count = min(count, int(h[4])+1)
	}
	return listed[:min(count, len(listed)/16)*16]
}

func (d *dissection) ipv4(s span) {
	if d.otherVersion(s, 4) {
		return
	}
	l := d.add(&ipv4, s)
	if l == nil {
		return
	}
	h := l.header
	size, total := int(h[0]&0xf)*4, be16(h[2:])
	if total == 0 {
		total = s.length // not filled in yet, or more than 64 KB: iph_totlen in include/linux/ip.h
	}
	if size < len(h) || total < size {
		l.malformed = true
		return
	}
	d.claim(l, total)
	s = s.first(total)
	const more, offset = 0x2000, 0x1fff
	fragment := be16(h[6:])
	d.fragmented = fragment&more != 0
	if l.extend(s, size) && fragment&offset == 0 {
		d.protocol(int(h[9]), 4, s.after(size))
	}
}

func (d *dissection) ipv6(s span) {
	if d.otherVersion(s, 6) {
		return
	}
	l := d.add(&ipv6, s)
	if l == nil {
		return
	}
	h := l.header
	total := len(h) + be16(h[4:])
	if total == len(h) {
		total = s.length // not filled in yet, or more than 64 KB: __ip6_local_out in net/ipv6/output_core.c
	}
	d.claim(l, total)
	d.fragmented = false
	d.protocol(int(h[6]), 6, s.first(total).after(len(h)))
}

// otherVersion adds a layer if s begins with another version of IP.
func (d *dissection) otherVersion(s span, version byte) bool {
	if len(s.data) == 0 || s.data[0]>>4 == version {
		return false
	}
	d.unknown(&unknownVersion, int(s.data[0]>>4), s)
	return true
}

// protocol decodes what a protocol's number names, in IP of a version.
func (d *dissection) protocol(number, version int, s span) {
	v4, v6 := version == 4, version == 6
	switch {
	case number == protocolTCP:
		d.tcp(s)
	case number == protocolUDP:
		d.udp(s)
	case number == protocolSCTP:
		d.sctp(s)
	case number == protocolICMP && v4:
		d.icmp(s)
	case number == protocolICMPv6 && v6:
		d.icmpv6(s)
	case number == protocolIGMP && v4:
		d.igmp(s)
	case number == protocolIPv4:
		d.ipv4(s)
	case number == protocolIPv6:
		d.ipv6(s)
	case number == protocolGRE:
		d.gre(s)
	case number == protocolESP:
		d.add(&esp, s)
	case number == protocolAH:
		d.extension(&ah, version, s)
	case number == protocolHopByHop && v6:
		d.extension(&hopByHop, version, s)
	case number == protocolRouting && v6:
		d.extension(&routing, version, s)
	case number == protocolFragment && v6:
		d.extension(&fragment, version, s)
	case number == protocolDestination && v6:
		d.extension(&destination, version, s)
	case number == protocolNone:
		d.add(&noNext, s)
	default:
		d.unknown(&unknownProtocol, number, s)
	}
}

// extension decodes a header that begins with the protocol of what is behind it, and tells its length.
func (d *dissection) extension(f *form, version int, s span) {
	l := d.add(f, s)
	if l == nil {
		return
	}
	h := l.header
	size := int(h[1])*8 + 8
	switch f {
	case &routing:
		l.variant = find(routingVariants, int(h[2]), anyCode)
	case &fragment:
		size = len(h)
		if be16(h[2:])&^7 != 0 {
			return // it is not the first one
		}
		d.fragmented = h[3]&1 != 0
	case &ah:
		size = int(h[1])*4 + 8
	}
	if size < len(h) {
		l.malformed = true
		return
	}
	if l.extend(s, size) {
		d.protocol(int(h[0]), version, s.after(size))
	}
}
