// Package dissect tells what is in a packet: it decodes the headers, from the link's to those in tunnels, and
// writes them as one line of text, in tcpdump's words, or as JSON.
//
// A packet is decoded once, into the layers of a dissection. A layer has the bytes of a header and the header's
// form: a table of its fields, and the words for them. Text and JSON are two ways to write the layers.
package dissect

import "fgtrace/tracer/packet"

// AppendText appends what is in a packet to dst, as one line without its newline:
//
//	IP 10.0.0.1.43512 > 10.0.0.2.80: Flags [S], seq 123, win 65535, options [mss 65495], length 0
//
// data is what was captured of the packet, from its beginning on: from the Ethernet header, or, for packet.Raw,
// from the IPv4 or IPv6 header. length is the packet's own, in bytes; less than len(data) counts as len(data).
//
// The words are those of "tcpdump -nS". It differs where tcpdump is silent or begins another line: it tells VLAN
// tags and fragments of IPv4, and goes on with what is in a tunnel; payloads are not decoded. A header that was
// not captured whole ends the line, as with tcpdump: "[|tcp]".
func AppendText(dst []byte, link packet.Link, data []byte, length int) []byte {
	w := textWriter{writer: writer{dst}, start: len(dst)}
	w.decode(link, data, length)
	w.text()
	return w.dst
}

// AppendJSON appends what is in a packet to dst, as one JSON object. Its parameters are those of AppendText.
//
//	{"length":98,"captured":98,"link":"ethernet","layers":[{"type":"ethernet","src":"02:00:00:00:00:01",...},...]}
//
// length and captured are in bytes, link is "ethernet" or "raw". layers are the headers, the outermost first: each
// has its type and fields. Flags are absent unless they are set, and so are fields that mostly are 0. A layer's
// length is that of its header and all that is behind it, in bytes; payload is what is behind it alone.
//
// "truncated":true marks a layer whose header was not captured whole: fields are absent. "malformed":true marks
// one with lengths that contradict each other. Both are the last layer. "missing" is how many bytes the packet is
// shorter than the layer's length. A header that is not decoded has the type "unknown", and its number. What an
// ICMP error quotes is in the error's "quoted", as layers.
func AppendJSON(dst []byte, link packet.Link, data []byte, length int) []byte {
	w := jsonWriter{writer: writer{dst}}
	w.decode(link, data, length)
	w.packet()
	return w.dst
}

// maxLayers bounds how many headers are decoded, and so how deep tunnels go. It has room for eight of VXLAN.
const maxLayers = 36

// dissection is a decoded packet.
type dissection struct {
	link     packet.Link
	length   int // of the packet, in bytes
	captured int // bytes of it

	layers [maxLayers]layer
	count  int
	quote  int // index of the first layer that an ICMP error quotes; 0: none

	fragmented bool // what is being decoded is the first fragment of more
}

// layer is a header, and what it has behind it.
type layer struct {
	form      *form
	variant   *variant // nil: the form has none
	truncated bool     // the capture ends within the header
	malformed bool     // the header's lengths contradict each other, or the packet's
	header    []byte   // as much as was captured
	length    int      // of the header and what it has behind it, in bytes
	missing   int      // how many bytes of length the packet does not have
	number    int      // of an unknown header: its EtherType, protocol or version
}

func (d *dissection) decode(link packet.Link, data []byte, length int) {
	s := span{data, max(length, len(data))}
	d.link, d.length, d.captured = link, s.length, len(data)
	switch {
	case link == packet.Ethernet:
		d.ethernet(s)
	case len(data) > 0 && data[0]>>4 == 6:
		d.ipv6(s)
	default:
		d.ipv4(s)
	}
}

// add appends a layer that begins where s does. It returns nil where decoding ends with it: what every header of
// that form has was not captured whole, or there are too many layers.
func (d *dissection) add(f *form, s span) *layer {
	if d.count == maxLayers-1 {
		f = &tooDeep
	}
	l := &d.layers[d.count]
	d.count++
	l.form, l.length = f, s.length
	if !l.extend(s, f.size) || f == &tooDeep {
		return nil
	}
	return l
}

// unknown appends a layer that is not decoded, given its number.
func (d *dissection) unknown(f *form, number int, s span) {
	if l := d.add(f, s); l != nil {
		l.number = number
	}
}

// extend sets the header of a layer that begins where s does, given the header's size in bytes. It tells whether
// all of it was captured.
func (l *layer) extend(s span, size int) bool {
	l.header = s.data[:min(size, len(s.data))]
	l.truncated = len(s.data) < size
	return !l.truncated
}

// whole tells whether what every header of the form has was captured.
func (l *layer) whole() bool { return len(l.header) >= l.form.size }

// claim sets a layer's length to what its header says, in bytes. What an ICMP error quotes is never all there.
func (d *dissection) claim(l *layer, length int) {
	if d.quote == 0 {
		l.missing = max(length-l.length, 0)
	}
	l.length = length
}

// outer returns the layers that are not quoted, quoted those that are.
func (d *dissection) outer() []layer {
	if d.quote > 0 {
		return d.layers[:d.quote]
	}
	return d.layers[:d.count]
}

func (d *dissection) quoted() []layer { return d.layers[len(d.outer()):d.count] }

// span is a part of a packet.
type span struct {
	data   []byte // what was captured of it
	length int    // in bytes; at least len(data)
}

// first returns the first n bytes, whether there are so many or not.
func (s span) first(n int) span { return span{s.data[:min(n, len(s.data))], n} }

// after returns what is behind the first n bytes.
func (s span) after(n int) span { return span{s.data[min(n, len(s.data)):], max(s.length-n, 0)} }
