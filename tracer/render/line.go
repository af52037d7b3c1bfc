package render

import (
	"encoding/binary"
	"slices"

	"fgtrace/internal/digits"
)

// line is where the pieces of an event come together. There are two dozen of
// them, most a few bytes long, and appending each to a slice would cost more
// than making it: the slice and its growth go through every call. Here a piece
// is stored in whole words, and the next one overwrites what was too much.
//
// Who adds pieces calls room first; lineRoom bytes can follow, until the next
// call.
type line struct {
	out []byte // what went before, with room for buf behind it
	n   uint   // bytes in buf
	buf *[lineSize + chunkSize]byte
}

const (
	lineSize  = 1 << 11
	lineRoom  = 1 << 9
	chunkSize = 32 // what is stored at once, at most

	// lineMask changes no index that is right; the compiler needs no check of
	// one that it is applied to.
	lineMask = lineSize - 1
)

// begin starts a line behind dst.
func (l *line) begin(dst []byte) {
	if cap(dst)-len(dst) < len(l.buf) {
		dst = slices.Grow(dst, len(l.buf))
	}
	l.out, l.n = dst, 0
	l.buf = (*[lineSize + chunkSize]byte)(dst[len(dst) : len(dst)+len(l.buf)])
}

// end returns what begin was given, with the line.
func (l *line) end() []byte { return l.out[:len(l.out)+int(l.n)] }

func (l *line) room() {
	if l.n > lineSize-lineRoom {
		l.flush()
	}
}

// flush makes the pieces so far a part of out, for what comes seldom.
//
//go:noinline
func (l *line) flush() { l.begin(l.end()) }

// word adds the n lowest bytes of a word.
func (l *line) word(w uint64, n uint) {
	binary.LittleEndian.PutUint64(l.buf[l.n&lineMask:], w)
	l.n += n
}

func (l *line) byte(b byte) {
	l.buf[l.n&lineMask] = b
	l.n++
}

// short adds a constant of at most 16 bytes.
func (l *line) short(s string) {
	l.n += uint(copy(l.buf[l.n&lineMask:][:16], s))
}

// string adds a few bytes, such as a colour or the name of an error.
func (l *line) string(s string) {
	if s != "" {
		l.n += uint(copy(l.buf[l.n&lineMask:], s))
	}
}

// uint adds a number in decimal.
func (l *line) uint(v uint64) {
	switch {
	case v < 1000:
		small := digits.SmallOf(v)
		binary.LittleEndian.PutUint32(l.buf[l.n&lineMask:], small.Digits)
		l.n += uint(small.Len)
	case v < 1e8:
		d := digits.Decimal8(v)
		leading := uint(digits.LeadingZeros(d))
		l.word(d>>(8*leading&63), 8-leading)
	default:
		l.uint(v / 1e8)
		l.word(digits.Decimal8(v%1e8), 8)
	}
}

func (l *line) int(v int64) {
	if v < 0 {
		l.byte('-')
		v = -v
	}
	l.uint(uint64(v))
}

// thousandths adds a number of thousandths: 2.174.
func (l *line) thousandths(v uint64) {
	l.uint(v / 1000)
	l.word('.'|digits.Decimal3(v%1000)<<8, 4)
}

// duration adds nanoseconds in a unit that people read, to three places: 812ns,
// 2.174us, 13.042ms, 1.500s.
func (l *line) duration(ns uint64) {
	switch {
	case ns < 1e3:
		l.uint(ns)
		l.short("ns")
	case ns < 1e6:
		l.thousandths(ns)
		l.short("us")
	case ns < 1e9:
		l.thousandths(ns / 1e3)
		l.short("ms")
	default:
		l.thousandths(ns / 1e6)
		l.short("s")
	}
}

// hex adds a number in hexadecimal, as C writes it.
func (l *line) hex(v uint64) {
	n := digits.HexLen(v)
	v <<= (64 - 4*n) & 63 // moves the first digit to the front
	at := l.buf[l.n&lineMask:]
	binary.LittleEndian.PutUint16(at, '0'|'x'<<8)
	binary.LittleEndian.PutUint64(at[2:10], digits.Hex8(v>>32))
	binary.LittleEndian.PutUint64(at[10:18], digits.Hex8(v&0xffffffff))
	l.n += 2 + uint(n)
}

// address is how the last address of a parameter was spelled. The same objects
// are passed again and again: a socket, a device, a file.
type address struct {
	v    uint64 // 0: none yet
	text [hexSize]byte
	n    uint
}

const hexSize = 18 // 0x and 16 digits

// address adds an address that isn't 0.
func (l *line) address(v uint64, last *address) {
	if v != last.v {
		start := l.n & lineMask
		l.hex(v)
		last.v, last.n, last.text = v, l.n-start, [hexSize]byte(l.buf[start:])
		return
	}
	*(*[hexSize]byte)(l.buf[l.n&lineMask:]) = last.text
	l.n += last.n
}

// fragment is text that is the same in many lines. Its first 32 bytes are stored
// by four instructions, whether it has as many or not; that they are two halves
// lets them be copied in registers.
type fragment struct {
	first, second [chunkSize / 2]byte
	n             uint   // bytes in both
	rest          []byte // what comes after them
}

func newFragment(text []byte) fragment {
	var f fragment
	f.set(text)
	return f
}

// set changes the text.
func (f *fragment) set(text []byte) {
	n := copy(f.first[:], text)
	n += copy(f.second[:], text[n:])
	f.n, f.rest = uint(n), append(f.rest[:0], text[n:]...)
}

// fragment adds a fragment.
func (l *line) fragment(f *fragment) {
	at := l.buf[l.n&lineMask:]
	*(*[16]byte)(at) = f.first
	*(*[16]byte)(at[16:32]) = f.second
	l.n += f.n
	if len(f.rest) > 0 {
		l.long(f.rest)
	}
}

// long adds text of any length, and makes room.
func (l *line) long(text []byte) {
	if l.n+uint(len(text)) > lineSize-lineRoom {
		l.begin(append(l.end(), text...))
		return
	}
	l.n += uint(copy(l.buf[l.n&lineMask:], text))
}
