package dissect

import (
	"encoding/binary"
	"math/bits"
)

// form is what the headers of a protocol look like, and how they are written.
type form struct {
	name   string // in JSON
	short  string // in text, as "[|short]": tcpdump's
	size   int    // of what every header has, in bytes
	text   string // see textWriter.expand; empty: a function writes it
	fields []field
	rare   []field // mostly 0, and then left out of JSON
}

// variant is what a header's type and code add to its form.
type variant struct {
	kind, code int // code may be anyCode; the last variant of a form is for all others
	text       string
	fields     []field
}

const anyCode = -1

// find returns the variant for a type and a code.
func find(variants []variant, kind, code int) *variant {
	last := len(variants) - 1
	for i := range variants[:last] {
		if v := &variants[i]; v.kind == kind && (v.code == code || v.code == anyCode) {
			return v
		}
	}
	return &variants[last]
}

// size returns how many bytes of a header it takes to read the fields.
func (v *variant) size() int {
	size := 0
	for _, f := range v.fields {
		size = max(size, f.at+f.as.size())
	}
	return size
}

// field is one of a header.
type field struct {
	name string
	at   int // in the header, in bytes
	as   format
	mask uint32 // of a number: its bits; 0: all
}

// format is what is in a field.
type format int

const (
	u8 format = iota
	u16
	u32
	times4 // 8 bits that count 4 bytes each; written in bytes
	times8 // 16 bits that count 8 bytes each; written in bytes
	flag   // 8 bits, set if one under the mask is; absent in JSON unless set
	mac
	addr4
	addr16
	rest       // all bytes from there on
	tcpFlags   // 8 bits
	ipOptions  // all bytes from there on
	tcpOptions // the same
	chunks     // the same
	addresses  // the same, of routing
	blocks     // the same, of TCP's option sack (RFC 2018): 8 bytes each

	// What is not in the header, but in the layer:
	number
	length
	payload
)

// size returns how many bytes a field takes at least.
func (f format) size() int {
	switch f {
	case u8, times4, flag, tcpFlags:
		return 1
	case u16, times8:
		return 2
	case u32, addr4:
		return 4
	case mac:
		return 6
	case addr16:
		return 16
	}
	return 0
}

// find returns a field of a layer by its name. ok is false if it was not captured. Every layer has a payload.
func (l *layer) find(name string) (f field, ok bool) {
	if name == "payload" {
		return field{"payload", 0, payload, 0}, true
	}
	for _, fields := range l.fields() {
		for _, f := range fields {
			if f.name == name {
				return f, l.has(f)
			}
		}
	}
	return field{}, false
}

// fields returns all fields, in three lists; the last one is of those that are rare.
func (l *layer) fields() [3][]field {
	if l.variant == nil {
		return [...][]field{l.form.fields, nil, l.form.rare}
	}
	return [...][]field{l.form.fields, l.variant.fields, l.form.rare}
}

// has tells whether a field was captured, or can be told without.
func (l *layer) has(f field) bool {
	if f.as == payload {
		return l.whole() && !l.malformed && (!l.truncated || l.form == &tcp)
	}
	return f.at+f.as.size() <= len(l.header)
}

// num returns a field that is a number.
func (l *layer) num(f field) int64 {
	var v uint32
	switch f.as {
	case number:
		return int64(l.number)
	case length:
		return int64(l.length)
	case payload:
		return int64(l.payload())
	case u8, times4, flag, tcpFlags:
		v = uint32(l.header[f.at])
	case u16, times8:
		v = uint32(be16(l.header[f.at:]))
	case u32, addr4:
		v = be32(l.header[f.at:])
	}
	if f.mask != 0 {
		v = v & f.mask >> bits.TrailingZeros32(f.mask)
	}
	switch f.as {
	case times4:
		v *= 4
	case times8:
		v *= 8
	}
	return int64(v)
}

// payload returns how many bytes are behind the header.
func (l *layer) payload() int {
	if l.form == &tcp {
		return l.length - tcpHeaderLength(l.header)
	}
	return l.length - len(l.header)
}

// zero tells whether a field has nothing but zeros.
func (l *layer) zero(f field) bool {
	switch f.as {
	case mac, addr16:
		for _, b := range l.bytes(f) {
			if b != 0 {
				return false
			}
		}
		return true
	case rest, ipOptions, tcpOptions:
		return len(l.bytes(f)) == 0
	}
	return l.num(f) == 0
}

// bytes returns what is in a field.
func (l *layer) bytes(f field) []byte {
	if size := f.as.size(); size > 0 {
		return l.header[f.at : f.at+size]
	}
	return l.header[f.at:]
}

func be16(b []byte) int    { return int(binary.BigEndian.Uint16(b)) }
func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
