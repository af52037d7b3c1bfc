package dissect

import "strings"

// textWriter writes the layers of a dissection in tcpdump's words. A layer that another one may follow ends with
// the blank between them.
type textWriter struct {
	dissection
	writer
	start int // where in the buffer the text begins
}

func (w *textWriter) text() {
	for i := range w.outer() {
		w.layer(i)
	}
}

// layer writes a layer, given its index.
func (w *textWriter) layer(i int) {
	l := &w.layers[i]
	switch l.form {
	case &ipv4:
		w.str("IP ")
	case &ipv6:
		w.str("IP6 ")
	case &tcp, &udp, &sctp:
		// IP has written the ports already if it is next to them.
		before := w.layers[i-1].form
		if _, _, ok := l.ports(); ok && before != &ipv4 && before != &ipv6 {
			w.expand(l, "{src_port} > {dst_port}: ")
		}
	}
	if l.whole() && w.body(l, i) {
		return
	}
	if n := len(w.dst); n > w.start && w.dst[n-1] != ' ' {
		w.str(" ")
	}
	w.str("[|", l.form.short, "]")
}

// body writes a layer's text. It returns false if it could not finish, since the header was cut off.
func (w *textWriter) body(l *layer, i int) bool {
	switch l.form {
	case &ethernet:
		w.ethernet(l, i)
	case &unknownEtherType:
		w.unknownEtherType(l, i)
	case &ipv4:
		return w.ipv4(l, i)
	case &ipv6:
		w.ip(l, i)
	case &tcp:
		w.tcp(l)
	case &udp:
		w.udp(l, i)
	default:
		complete := w.expand(l, l.form.text) && !l.truncated
		if l.malformed {
			w.str("(invalid)")
		}
		return complete
	}
	return true
}

// ethernet writes the addresses if nothing else tells what the packet is.
func (w *textWriter) ethernet(l *layer, i int) {
	for i++; i < w.count && w.layers[i].form == &vlan; i++ {
	}
	if i < w.count && w.layers[i].form == &unknownEtherType {
		w.expand(l, "{src} > {dst}, ")
	}
}

func (w *textWriter) unknownEtherType(l *layer, i int) {
	for i--; w.layers[i].form == &vlan; i-- {
	}
	switch outer := &w.layers[i]; {
	case outer.form == &gre || outer.form == &geneve:
		w.str(outer.form.name)
		w.expand(l, "-proto-0x{ethertype:1}")
	case l.number < minEtherType:
		w.str("802.3, length ").num(int64(min(l.number, l.length)))
	default:
		w.str("ethertype ", find(etherTypes, l.number, 0).text)
		w.expand(l, " (0x{ethertype:4})")
		w.str(", length ").num(int64(outer.length))
	}
}

func (w *textWriter) ipv4(l *layer, i int) bool {
	h := l.header
	switch {
	case !l.malformed:
	case h[0]&0xf < 5:
		w.str("bad-hlen ").num(int64(h[0]&0xf) * 4)
		return true
	default:
		w.str("bad-len ").num(int64(be16(h[2:])))
		return true
	}
	w.ip(l, i)
	if l.truncated {
		return false
	}
	const more, offset = 0x2000, 0x1fff
	switch fragment := be16(h[6:]); {
	case fragment&offset != 0:
		w.expand(l, "frag ({offset}|{payload}) ip-proto-{protocol}")
	case fragment&more != 0:
		w.expand(l, "frag ({offset}|{payload}) ")
	}
	return true
}

// ip writes where a packet is from and to, with the ports that are in the next layer.
func (w *textWriter) ip(l *layer, i int) {
	if l.missing > 0 {
		w.str("truncated-", l.form.short, " - ").num(int64(l.missing)).str(" bytes missing! ")
	}
	if i++; i < w.count {
		if src, dst, ok := w.layers[i].ports(); ok {
			w.expand(l, "{src}.")
			w.num(int64(src))
			w.expand(l, " > {dst}.")
			w.num(int64(dst)).str(": ")
			return
		}
	}
	w.expand(l, "{src} > {dst}: ")
}

func (w *textWriter) tcp(l *layer) {
	flags, size := l.header[13], tcpHeaderLength(l.header)
	w.expand(l, "Flags [{flags}]")
	switch {
	case !l.malformed:
	case size < tcp.size:
		w.str(" [bad hdr length ").num(int64(size)).str(" - too short, < 20]")
		return
	default:
		w.str(" [bad hdr length ").num(int64(size))
		w.expand(l, " - too long, > {length}]")
		return
	}
	behind := l.payload()
	if behind > 0 || flags&(tcpSYN|tcpFIN|tcpRST) != 0 {
		w.expand(l, ", seq {seq}")
	}
	if behind > 0 {
		w.str(":").num(int64(be32(l.header[4:]) + uint32(behind)))
	}
	if flags&tcpACK != 0 {
		w.expand(l, ", ack {ack}")
	}
	w.expand(l, ", win {window}")
	if flags&tcpURG != 0 {
		w.expand(l, ", urg {urgent}")
	}
	if size > tcp.size {
		w.tcpOptions(l)
	}
	w.expand(l, ", length {payload}")
}

func (w *textWriter) tcpOptions(l *layer) {
	w.str(", options [")
	rest, separator := l.header[tcp.size:], ""
	for {
		o, behind, ok := nextOption(rest, tcpOptionVariants)
		rest = behind
		if !ok {
			break
		}
		w.str(separator)
		w.expand(&o, o.variant.text)
		separator = ","
	}
	switch {
	case l.truncated:
		w.str(separator, "[|tcp]")
	case len(rest) > 0:
		w.str(separator, "[bad opt]")
	}
	w.str("]")
}

func (w *textWriter) udp(l *layer, i int) {
	switch {
	case l.malformed:
		w.str("truncated-udplength ").num(int64(be16(l.header[4:])))
	case i+1 < w.count: // a tunnel
	case l.missing > 0:
		w.expand(l, "UDP, bad length {payload} > ")
		w.num(int64(l.payload() - l.missing))
	default:
		w.expand(l, "UDP, length {payload}")
	}
}

// expand writes text, with fields of a layer for what is in braces:
//
//	{name}        the field as usual: a number in decimal
//	{name:4}      a number in hexadecimal, with at least 4 digits
//	{name? (%)}   the text behind the question mark, with the field for the "%"; nothing if the field is 0
//	{*}           the text of the layer's variant
//	{quoted.name} a field of the IP header that an ICMP error quotes
//	{quoted.port} the port that what it quotes was for
//
// It stops where a field was not captured, without the words behind the last comma, and returns false.
func (w *textWriter) expand(l *layer, text string) bool {
	for {
		before, behind, more := strings.Cut(text, "{")
		w.str(before)
		if !more {
			return true
		}
		var name string
		name, text, _ = strings.Cut(behind, "}")
		end := len(w.dst)
		if !w.expandField(l, name) {
			if comma := strings.LastIndex(before, ", "); comma >= 0 && len(w.dst) == end {
				w.dst = w.dst[:end-len(before)+comma]
			}
			return false
		}
	}
}

func (w *textWriter) expandField(l *layer, name string) bool {
	switch name {
	case "*":
		return w.expand(l, l.variant.text)
	case "quoted.port":
		return w.quotedPort()
	}
	if of, ok := strings.CutPrefix(name, "quoted."); ok {
		quoted := w.quoted()
		return len(quoted) > 0 && w.expandField(&quoted[0], of)
	}
	name, around, conditional := strings.Cut(name, "?")
	name, digits, _ := strings.Cut(name, ":")
	f, ok := l.find(name)
	switch {
	case !ok:
		return false
	case !conditional:
		w.value(l, f, digits)
	case !l.zero(f):
		before, behind, with := strings.Cut(around, "%")
		w.str(before)
		if with {
			w.value(l, f, digits)
			w.str(behind)
		}
	}
	return true
}

// quotedPort writes the port that the packet was for that an ICMP error quotes.
func (w *textWriter) quotedPort() bool {
	for i := range w.quoted() {
		l := &w.quoted()[i]
		if _, dst, ok := l.ports(); ok {
			w.str(l.form.name, " port ").num(int64(dst))
			return true
		}
	}
	return false
}

// value writes a field. Digits tells, unless it is empty, how many hexadecimal ones a number has at least.
func (w *textWriter) value(l *layer, f field, digits string) {
	switch f.as {
	case mac:
		w.bytes(l.bytes(f), ":")
	case addr4, addr16:
		w.addr(l.bytes(f))
	case rest:
		w.bytes(l.bytes(f), "")
	case tcpFlags:
		if l.zero(f) {
			w.str("none")
		}
		for i, name := range tcpFlagNames {
			if l.num(f)>>i&1 != 0 {
				w.str(name[0])
			}
		}
	case addresses:
		for i, hops := int64(0), l.hops(f); len(hops) > 0; i, hops = i+1, hops[16:] {
			w.str(", [").num(i).str("]").addr(hops[:16])
		}
	case blocks:
		b := l.bytes(f)
		w.num(int64(len(b) / 8)).str(" ")
		for ; len(b) >= 8; b = b[8:] {
			w.str("{").num(int64(be32(b))).str(":").num(int64(be32(b[4:]))).str("}")
		}
	case chunks:
		w.chunks(l.bytes(f))
	default:
		if digits == "" {
			w.num(l.num(f))
		} else {
			w.hex(l.num(f), int(digits[0]-'0'))
		}
	}
}

// chunks writes the types of SCTP's chunks.
func (w *textWriter) chunks(rest []byte) {
	separator := " ("
	for n := int64(1); ; n++ {
		kind, behind, ok := nextChunk(rest)
		if !ok {
			return
		}
		w.str(separator).num(n)
		if kind < len(chunkNames) {
			w.str(") [", chunkNames[kind], "]")
		} else {
			w.str(") [Unknown chunk type: 0x").hex(int64(kind), 1).str("]")
		}
		rest, separator = behind, ", ("
	}
}
