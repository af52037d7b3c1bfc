package dissect

var (
	gre = form{ // RFC 2784
		name: "gre", short: "gre", size: 4, text: "GREv{version}{*}",
		fields: []field{{"version", 1, u8, 7}, {"protocol", 2, u16, 0}, {"length", 0, length, 0}},
	}
	vxlan = form{ // RFC 7348
		name: "vxlan", short: "vxlan", size: 8, text: "VXLAN, flags [{*}] (0x{flags:2}), vni {vni} ",
		fields: []field{{"flags", 0, u8, 0}, {"vni", 4, u32, 0xffffff00}, {"length", 0, length, 0}},
	}
	geneve = form{ // RFC 8926
		name: "geneve", short: "geneve", size: 8,
		text: "Geneve, Flags [{*}], vni 0x{vni:1}{options_length?, options [% bytes]}: ",
		fields: []field{
			{"vni", 4, u32, 0xffffff00}, {"protocol", 2, u16, 0}, {"control", 1, flag, 0x80},
			{"critical", 1, flag, 0x40}, {"length", 0, length, 0},
		},
		rare: []field{{"options_length", 0, times4, 0x3f}},
	}
	geneveOther = form{
		name: "geneve", size: 8, text: "Geneve ERROR: unknown-version {version}",
		fields: []field{{"version", 0, u8, 0xc0}, {"length", 0, length, 0}},
	}
)

var vxlanVariants = []variant{{0x08, anyCode, "I", nil}, {text: "invalid"}}

// geneveVariants are by the flags of control packets, 2, and critical options, 1.
var geneveVariants = []variant{{0, anyCode, "none", nil}, {1, anyCode, "C", nil}, {2, anyCode, "O", nil}, {text: "OC"}}

var (
	greRouted = variant{text: ", source routing, length {length}"} // gre_parse_header in Linux takes none, either
	greOther  = variant{text: " ERROR: unknown-version, length {length}"}
)

// greRouting is the flag of source routing, in RFC 1701 only.
const greRouting = 0x4000

// greOptional is 4 bytes of a GRE header that are there if a flag is set.
type greOptional struct {
	flag   int
	text   string
	fields []field
}

// greOptionals are what there may be behind the first 4 bytes, in order: by version, which is 1 in PPTP (RFC 2637).
// The key and the sequence number are those of RFC 2890.
var greOptionals = [2][3]greOptional{
	{
		{0x8000, ", off 0x{offset:1}", []field{{"checksum", 0, u16, 0}, {"offset", 2, u16, 0}}},
		{0x2000, ", key=0x{key:1}", []field{{"key", 0, u32, 0}}},
		{0x1000, ", seq {seq}", []field{{"seq", 0, u32, 0}}},
	}, {
		{0x2000, ", call {call}", []field{{"call", 2, u16, 0}}},
		{0x1000, ", seq {seq}", []field{{"seq", 0, u32, 0}}},
		{0x0080, ", ack {ack}", []field{{"ack", 0, u32, 0}}},
	},
}

// greVariants are by version and by which of the version's optionals there are, a bit each.
var greVariants = func() (variants [2][8]variant) {
	for version, optionals := range greOptionals {
		for present := range variants[version] {
			v := &variants[version][present]
			at := gre.size
			for i, o := range optionals {
				if present>>i&1 == 0 {
					continue
				}
				for _, f := range o.fields {
					v.fields = append(v.fields, field{f.name, at + f.at, f.as, f.mask})
				}
				v.text += o.text
				at += 4
			}
			if version == 1 && present&pptpSequence == 0 {
				v.text += ", no-payload, length {length}"
			} else {
				v.text += ", length {length}: "
			}
		}
	}
	return variants
}()

// pptpSequence is the bit of PPTP's sequence number: a packet without acknowledges, and has no payload.
const pptpSequence = 2

func (d *dissection) gre(s span) {
	l := d.add(&gre, s)
	if l == nil {
		return
	}
	flags, version := be16(l.header), int(l.header[1]&7)
	switch {
	case version >= len(greVariants):
		l.variant = &greOther
		return
	case flags&greRouting != 0:
		l.variant = &greRouted
		return
	}
	present := 0
	for i, o := range greOptionals[version] {
		if flags&o.flag != 0 {
			present |= 1 << i
		}
	}
	l.variant = &greVariants[version][present]
	protocol, size := be16(l.header[2:]), max(gre.size, l.variant.size())
	if l.extend(s, size) && (version == 0 || present&pptpSequence != 0) {
		d.etherType(protocol, s.after(size))
	}
}

func (d *dissection) vxlan(s span) {
	if l := d.add(&vxlan, s); l != nil {
		l.variant = find(vxlanVariants, int(l.header[0]&0x08), anyCode)
		d.ethernet(s.after(len(l.header)))
	}
}

func (d *dissection) geneve(s span) {
	l := d.add(&geneve, s)
	if l == nil {
		return
	}
	h := l.header
	if h[0]&0xc0 != 0 {
		l.form = &geneveOther
		return
	}
	l.variant = find(geneveVariants, int(h[1]>>6), anyCode)
	size := geneve.size + int(h[0]&0x3f)*4
	if l.extend(s, size) {
		d.etherType(be16(h[2:]), s.after(size))
	}
}
