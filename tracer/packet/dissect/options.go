package dissect

// optionForm is an option of a TCP or IPv4 header: a layer that has the option's data for a header, and its kind
// for a number.
var optionForm = form{fields: []field{{"kind", 0, number, 0}}}

// tcpOptionVariants are by kind, as IANA's "TCP Option Kind Numbers" has them, and by the length of the data.
var tcpOptionVariants = []variant{
	{optionEnd, 0, "eol", nil},
	{optionNop, 0, "nop", nil},
	{2, 2, "mss {mss}", []field{{"mss", 0, u16, 0}}},
	{3, 1, "wscale {wscale}", []field{{"wscale", 0, u8, 0}}},
	{4, 0, "sackOK", nil},
	{5, anyCode, "sack {sack}", []field{{"sack", 0, blocks, 0}}},
	{8, 8, "TS val {ts_val} ecr {ts_ecr}", []field{{"ts_val", 0, u32, 0}, {"ts_ecr", 4, u32, 0}}},
	{19, anyCode, "md5{data? 0x%}", optionData},
	{29, anyCode, "tcp-ao{data? 0x%}", optionData},
	{30, anyCode, "mptcp{data? 0x%}", optionData},
	{34, 0, "tfo cookiereq", nil},
	{34, anyCode, "tfo cookie {data}", optionData},
	{254, anyCode, "exp-{data}", optionData},
	{text: "unknown-{kind}{data? 0x%}", fields: optionData},
}

// ipOptionVariants are for all of IPv4's.
var ipOptionVariants = []variant{{text: "", fields: optionData}}

var optionData = []field{{"data", 0, rest, 0}}

// The two kinds of options that have no length, in TCP as in IPv4.
const (
	optionEnd = 0
	optionNop = 1
)

// nextOption splits the first option off. ok is false where there is none that ends within the options; behind is
// then what can't be split.
func nextOption(options []byte, variants []variant) (o layer, behind []byte, ok bool) {
	if len(options) == 0 {
		return o, nil, false
	}
	o.form, o.number = &optionForm, int(options[0])
	switch {
	case o.number == optionEnd: // the rest is padding
	case o.number == optionNop:
		behind = options[1:]
	case len(options) < 2 || options[1] < 2 || int(options[1]) > len(options):
		return o, options, false
	default:
		o.header, behind = options[2:options[1]], options[options[1]:]
	}
	o.variant = find(variants, o.number, len(o.header))
	return o, behind, true
}
