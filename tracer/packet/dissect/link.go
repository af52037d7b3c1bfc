package dissect

// EtherTypes, as include/uapi/linux/if_ether.h has them.
const (
	typeIPv4     = 0x0800
	typeARP      = 0x0806
	typeEthernet = 0x6558 // in GRE and Geneve
	typeRARP     = 0x8035
	typeVLAN     = 0x8100
	typeIPv6     = 0x86dd
	typeQinQ     = 0x88a8
	typeQinQ9100 = 0x9100 // of devices older than 802.1ad
	typeQinQ9200 = 0x9200
)

// minEtherType is the lowest EtherType; what is less is a length (IEEE 802.3, 3.2.6).
const minEtherType = 0x600

var (
	ethernet = form{
		name: "ethernet", short: "ether", size: 14, // the text is that of what is in it
		fields: []field{{"src", 6, mac, 0}, {"dst", 0, mac, 0}, {"ethertype", 12, u16, 0}},
	}
	vlan = form{ // 802.1Q and 802.1ad, behind the EtherType
		name: "vlan", short: "vlan", size: 4, text: "vlan {id}, p {priority}, {dei?DEI, }",
		fields: []field{{"id", 0, u16, 0xfff}, {"priority", 0, u8, 0xe0}, {"dei", 0, flag, 0x10}, {"ethertype", 2, u16, 0}},
	}
	unknownEtherType = form{name: "unknown", fields: []field{{"ethertype", 0, number, 0}, {"length", 0, length, 0}}}
	tooDeep          = form{name: "unknown", text: "[nested too deep]", fields: []field{{"length", 0, length, 0}}}
)

// arp is ARP (RFC 826) and RARP (RFC 903). The addresses are in the header only if they are MAC and IPv4 addresses.
var arp = form{
	name: "arp", short: "arp", size: 8, text: "ARP, {*}, length {length}",
	fields: []field{
		{"hardware", 0, u16, 0}, {"hardware_length", 4, u8, 0}, {"protocol", 2, u16, 0}, {"protocol_length", 5, u8, 0},
		{"operation", 6, u16, 0}, {"sender_mac", 8, mac, 0}, {"sender_ip", 14, addr4, 0}, {"target_mac", 18, mac, 0},
		{"target_ip", 24, addr4, 0}, {"length", 0, length, 0},
	},
}

var arpVariants = []variant{
	{1, anyCode, "Request who-has {target_ip}{target_mac? (%)} tell {sender_ip}", nil},
	{2, anyCode, "Reply {sender_ip} is-at {sender_mac}", nil},
	{3, anyCode, "Reverse Request who-is {target_mac} tell {sender_mac}", nil},
	{4, anyCode, "Reverse Reply {target_mac} at {target_ip}", nil},
	{text: "Unknown ({operation})"},
}

var arpOther = variant{
	text: "hardware {hardware} (len {hardware_length}), protocol 0x{protocol:4} (len {protocol_length})",
}

func (d *dissection) ethernet(s span) {
	if l := d.add(&ethernet, s); l != nil {
		d.etherType(be16(l.header[12:]), s.after(len(l.header)))
	}
}

// etherType decodes what an EtherType names.
func (d *dissection) etherType(t int, s span) {
	switch t {
	case typeIPv4:
		d.ipv4(s)
	case typeIPv6:
		d.ipv6(s)
	case typeARP, typeRARP:
		d.arp(s)
	case typeVLAN, typeQinQ, typeQinQ9100, typeQinQ9200:
		if l := d.add(&vlan, s); l != nil {
			d.etherType(be16(l.header[2:]), s.after(len(l.header)))
		}
	case typeEthernet:
		d.ethernet(s)
	default:
		d.unknown(&unknownEtherType, t, s)
	}
}

func (d *dissection) arp(s span) {
	l := d.add(&arp, s)
	if l == nil {
		return
	}
	h := l.header
	if protocol, hlen, plen := be16(h[2:]), h[4], h[5]; protocol != typeIPv4 || hlen != 6 || plen != 4 {
		l.variant = &arpOther
		return
	}
	l.variant = find(arpVariants, be16(h[6:]), anyCode)
	l.extend(s, 28)
}

// etherTypes are the names of those that are not decoded, as tcpdump has them.
var etherTypes = []variant{
	{kind: 0x8809, text: "Slow Protocols"},
	{kind: 0x8847, text: "MPLS unicast"},
	{kind: 0x8863, text: "PPPoE D"},
	{kind: 0x8864, text: "PPPoE S"},
	{kind: 0x888e, text: "EAPOL"},
	{kind: 0x88cc, text: "LLDP"},
	{kind: 0x88e5, text: "802.1AE MACsec"},
	{kind: 0x88f7, text: "PTP"},
	{text: "Unknown"},
}
