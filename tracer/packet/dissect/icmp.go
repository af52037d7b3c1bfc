package dissect

var (
	icmp = form{ // RFC 792
		name: "icmp", short: "icmp", size: 8, text: "ICMP {*}, length {length}",
		fields: []field{{"icmp_type", 0, u8, 0}, {"code", 1, u8, 0}, {"length", 0, length, 0}},
	}
	icmpv6 = form{ // RFC 4443
		name: "icmpv6", short: "icmp6", size: 8, text: "ICMP6, {*}, length {length}",
		fields: []field{{"icmp_type", 0, u8, 0}, {"code", 1, u8, 0}, {"length", 0, length, 0}},
	}
	igmp = form{ // RFC 3376
		name: "igmp", short: "igmp", size: 8, text: "{*}, length {length}",
		fields: []field{{"igmp_type", 0, u8, 0}, {"length", 0, length, 0}},
	}
)

var (
	echoFields    = []field{{"id", 4, u16, 0}, {"seq", 6, u16, 0}}
	pointerField  = []field{{"pointer", 4, u8, 0}}
	gatewayField  = []field{{"gateway", 4, addr4, 0}}
	pointer6Field = []field{{"pointer", 4, u32, 0}}
	targetField   = []field{{"target", 8, addr16, 0}}
	mldFields     = []field{{"max_delay", 4, u16, 0}, {"group", 8, addr16, 0}} // RFC 2710; ms
	groupField    = []field{{"group", 4, addr4, 0}}
	recordsField  = []field{{"records", 6, u16, 0}}
)

// icmpVariants are by type and code. The codes of 3 are in RFC 1812, 5.2.7.1.
var icmpVariants = []variant{
	{0, anyCode, "echo reply, id {id}, seq {seq}", echoFields},
	{3, 0, "net {quoted.dst} unreachable", nil},
	{3, 1, "host {quoted.dst} unreachable", nil},
	{3, 2, "{quoted.dst} protocol {quoted.protocol} unreachable", nil},
	{3, 3, "{quoted.dst} {quoted.port} unreachable", nil},
	{3, 4, "{quoted.dst} unreachable - need to frag{mtu? (mtu %)}", []field{{"mtu", 6, u16, 0}}}, // RFC 1191
	{3, 5, "{quoted.dst} unreachable - source route failed", nil},
	{3, 6, "net {quoted.dst} unreachable - unknown", nil},
	{3, 7, "host {quoted.dst} unreachable - unknown", nil},
	{3, 8, "{quoted.dst} unreachable - source host isolated", nil},
	{3, 9, "net {quoted.dst} unreachable - admin prohibited", nil},
	{3, 10, "host {quoted.dst} unreachable - admin prohibited", nil},
	{3, 11, "net {quoted.dst} unreachable - tos prohibited", nil},
	{3, 12, "host {quoted.dst} unreachable - tos prohibited", nil},
	{3, 13, "host {quoted.dst} unreachable - admin prohibited filter", nil},
	{3, 14, "host {quoted.dst} unreachable - host precedence violation", nil},
	{3, 15, "host {quoted.dst} unreachable - precedence cutoff", nil},
	{3, anyCode, "{quoted.dst} unreachable - #{code}", nil},
	{4, anyCode, "source quench", nil},
	{5, 0, "redirect {quoted.dst} to net {gateway}", gatewayField},
	{5, 1, "redirect {quoted.dst} to host {gateway}", gatewayField},
	{5, 2, "redirect-tos {quoted.dst} to net {gateway}", gatewayField},
	{5, 3, "redirect-tos {quoted.dst} to host {gateway}", gatewayField},
	{5, anyCode, "redirect-#{code} {quoted.dst} to {gateway}", gatewayField},
	{8, anyCode, "echo request, id {id}, seq {seq}", echoFields},
	{9, anyCode, "router advertisement", nil},
	{10, anyCode, "router solicitation", nil},
	{11, 0, "time exceeded in-transit", nil},
	{11, 1, "ip reassembly time exceeded", nil},
	{11, anyCode, "time exceeded-#{code}", nil},
	{12, 0, "parameter problem - octet {pointer}", pointerField},
	{12, anyCode, "parameter problem - code {code}", pointerField},
	{13, anyCode, "time stamp query id {id} seq {seq}", echoFields},
	{14, anyCode, "time stamp reply id {id} seq {seq}", echoFields},
	{text: "type-#{icmp_type}"},
}

// icmpv6Variants are by type and code; the code of type 130 is its version.
var icmpv6Variants = []variant{
	{1, 0, "destination unreachable, unreachable route {quoted.dst}", nil},
	{1, 1, "destination unreachable, unreachable prohibited {quoted.dst}", nil},
	{1, 2, "destination unreachable, beyond scope {quoted.dst}, source address {quoted.src}", nil},
	{1, 3, "destination unreachable, unreachable address {quoted.dst}", nil},
	{1, 4, "destination unreachable, unreachable port, {quoted.dst} {quoted.port}", nil},
	{1, anyCode, "destination unreachable, unknown unreach code ({code})", nil},
	{2, anyCode, "packet too big, mtu {mtu}", []field{{"mtu", 4, u32, 0}}},
	{3, 0, "time exceeded in-transit for {quoted.dst}", nil},
	{3, 1, "time exceeded in-transit (reassembly)", nil},
	{3, anyCode, "time exceeded in-transit, unknown code ({code})", nil},
	{4, 0, "parameter problem, erroneous - octet {pointer}", pointer6Field},
	{4, 1, "parameter problem, next header - octet {pointer}", pointer6Field},
	{4, 2, "parameter problem, option - octet {pointer}", pointer6Field},
	{4, 3, "parameter problem, incomplete header chain - octet {pointer}", pointer6Field}, // RFC 7112
	{4, anyCode, "parameter problem, code-#{code}", pointer6Field},
	{128, anyCode, "echo request, id {id}, seq {seq}", echoFields},
	{129, anyCode, "echo reply, id {id}, seq {seq}", echoFields},
	{130, 1, "multicast listener query max resp delay: {max_delay} addr: {group}", mldFields},
	{
		130, 2, "multicast listener query v2 [gaddr {group}{sources?, % source(s)}]",
		[]field{{"group", 8, addr16, 0}, {"sources", 26, u16, 0}}, // RFC 3810
	},
	{131, anyCode, "multicast listener report max resp delay: {max_delay} addr: {group}", mldFields},
	{132, anyCode, "multicast listener done max resp delay: {max_delay} addr: {group}", mldFields},
	{133, anyCode, "router solicitation", nil}, // RFC 4861, and the next four
	{134, anyCode, "router advertisement", nil},
	{135, anyCode, "neighbor solicitation, who has {target}", targetField},
	{136, anyCode, "neighbor advertisement, tgt is {target}", targetField},
	{137, anyCode, "redirect, {dst} to {target}", []field{{"target", 8, addr16, 0}, {"dst", 24, addr16, 0}}},
	{143, anyCode, "multicast listener report v2, {records} group record(s)", recordsField},
	{text: "unknown icmp6 type ({icmp_type})"},
}

// igmpVariants are by type; the code of type 0x11 is its version.
var igmpVariants = []variant{
	{0x11, 1, "igmp query v1{group? [gaddr %]}", groupField},
	{0x11, 2, "igmp query v2{group? [gaddr %]}", groupField},
	{0x11, 3, "igmp query v3{group? [gaddr %]}", groupField},
	{0x12, anyCode, "igmp v1 report {group}", groupField},
	{0x16, anyCode, "igmp v2 report {group}", groupField},
	{0x17, anyCode, "igmp leave {group}", groupField},
	{0x22, anyCode, "igmp v3 report, {records} group record(s)", recordsField},
	{text: "igmp-{igmp_type}"},
}

func (d *dissection) icmp(s span) {
	l := d.add(&icmp, s)
	if l == nil {
		return
	}
	kind := int(l.header[0])
	l.variant = find(icmpVariants, kind, int(l.header[1]))
	switch kind {
	case 3, 4, 5, 11, 12:
		if d.quote == 0 {
			d.quote = d.count
			d.ipv4(s.after(len(l.header)))
		}
	}
}

func (d *dissection) icmpv6(s span) {
	l := d.add(&icmpv6, s)
	if l == nil {
		return
	}
	kind, code := int(l.header[0]), int(l.header[1])
	if kind == 130 {
		code = 1
		if s.length >= 28 {
			code = 2 // RFC 3810, 8.1
		}
	}
	l.variant = find(icmpv6Variants, kind, code)
	if !l.extend(s, max(len(l.header), l.variant.size())) {
		return
	}
	if kind < 128 && d.quote == 0 { // an error
		d.quote = d.count
		d.ipv6(s.after(len(l.header)))
	}
}

func (d *dissection) igmp(s span) {
	l := d.add(&igmp, s)
	if l == nil {
		return
	}
	version := 1
	switch {
	case s.length >= 12:
		version = 3 // RFC 3376, 7.1
	case l.header[1] != 0:
		version = 2
	}
	l.variant = find(igmpVariants, int(l.header[0]), version)
}
