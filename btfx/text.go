package btfx

import (
	"encoding/binary"
	"math"
	"math/bits"
	"strconv"
	"unicode/utf8"

	"fgtrace/internal/digits"
)

// Symbols names kernel addresses.
type Symbols interface {
	// Symbol returns the symbol that an address lies in, and how far behind
	// its start.
	Symbol(addr uint64) (name string, offset uint64, ok bool)
}

// AppendText appends a value as people read it, and returns the extended
// buffer. raw has the bytes of the value, and may have more. syms may be nil.
//
//	int           -1, 18446744073709551615
//	bool          true, false
//	char          'a', '\n', and 200 if it isn't ASCII
//	float         1.5
//	enum          NF_ACCEPT, and 7 if no enumerator has the value
//	enum of bits  A|B, A|0x80; areFlags tells which enums are
//	pointer       0xffff888003a1b700, NULL
//	to function   icmp_rcv, icmp_rcv+0x10, 0xffffffff81000000
//	struct        {.counter=1, .name="lo", .u={.a=1, .b=0x1}}
//	union         as struct, with all its members
//	array         [1, 2]
//	char[]        "lo" up to the first NUL; hexadecimal if it isn't text
//	u8[]          [01 02 ff]
//
// Members of an anonymous struct or union are printed as those of the struct
// around it. What lies behind the end of raw is printed <short>, what has more
// than 65536 scalars <large>.
func (l *Layout) AppendText(dst, raw []byte, syms Symbols) []byte {
	if len(raw) < l.Size {
		return append(dst, "<short>"...)
	}
	switch l.Kind {
	case Struct, Union:
		switch {
		case l.Elided:
			return append(dst, "{...}"...)
		case l.cost > maxCost:
			return append(dst, "<large>"...)
		}
		dst = append(dst, '{')
		dst, _ = l.appendMembers(dst, raw[:l.Size], syms, true)
		return append(dst, '}')
	case Array:
		return l.appendArray(dst, raw[:l.Size], syms)
	case Void:
		return append(dst, "void"...)
	}
	if l.Size > 8 {
		return l.appendWide(dst, raw)
	}
	return l.appendScalar(dst, load(raw, l.Size, l.Signed), syms)
}

// AppendTextWord is AppendText for a layout that IsWord: most arguments and
// results do, and need not go through their bytes.
func (l *Layout) AppendTextWord(dst []byte, word uint64, syms Symbols) []byte {
	return l.appendScalar(dst, l.FromWord(word), syms)
}

// appendScalar appends a value of at most 8 bytes.
func (l *Layout) appendScalar(dst []byte, v uint64, syms Symbols) []byte {
	switch l.Kind {
	case Int:
		return l.appendNumber(dst, v)
	case Bool:
		return strconv.AppendBool(dst, v != 0)
	case Char:
		if v < utf8.RuneSelf {
			return strconv.AppendQuoteRune(dst, rune(v))
		}
		return l.appendNumber(dst, v)
	case Enum:
		return l.appendEnum(dst, v)
	case Pointer, String:
		return appendPointer(dst, v)
	case FuncPointer:
		return appendSymbol(dst, v, syms)
	case Float:
		switch l.Size {
		case 4:
			return strconv.AppendFloat(dst, float64(math.Float32frombits(uint32(v))), 'g', -1, 32)
		case 8:
			return strconv.AppendFloat(dst, math.Float64frombits(v), 'g', -1, 64)
		}
	}
	return appendHex(dst, v)
}

// appendNumber appends a number in decimal.
func (l *Layout) appendNumber(dst []byte, v uint64) []byte {
	if l.Signed {
		return digits.AppendInt(dst, int64(v))
	}
	return digits.AppendUint(dst, v)
}

func (l *Layout) appendEnum(dst []byte, v uint64) []byte {
	if name, ok := l.EnumName(v); ok {
		return append(dst, name...)
	}
	if l.Flags {
		if text, ok := l.appendFlags(dst, v); ok {
			return text
		}
	}
	return l.appendNumber(dst, v)
}

// appendFlags appends the names of a value's bits, lowest first, and the bits
// without a name as one number. ok is false if no bit has a name.
func (l *Layout) appendFlags(dst []byte, v uint64) (_ []byte, ok bool) {
	rest := v
	for _, f := range l.Values {
		if f.Value == 0 || rest&f.Value == 0 {
			continue
		}
		if rest != v {
			dst = append(dst, '|')
		}
		dst = append(dst, f.Name...)
		rest &^= f.Value
	}
	if rest == v {
		return dst, false
	}
	if rest != 0 {
		dst = append(dst, '|')
		dst = appendHex(dst, rest)
	}
	return dst, true
}

func appendPointer(dst []byte, v uint64) []byte {
	if v == 0 {
		return append(dst, "NULL"...)
	}
	return appendHex(dst, v)
}

func appendSymbol(dst []byte, v uint64, syms Symbols) []byte {
	if v == 0 || syms == nil {
		return appendPointer(dst, v)
	}
	name, off, ok := syms.Symbol(v)
	if !ok {
		return appendHex(dst, v)
	}
	dst = append(dst, name...)
	if off != 0 {
		dst = append(dst, '+')
		dst = appendHex(dst, off)
	}
	return dst
}

func appendHex(dst []byte, v uint64) []byte {
	return digits.AppendHex(append(dst, "0x"...), v)
}

// appendWide appends a scalar of more than 8 bytes: __int128 in decimal, and
// long double, which Go has no type for, as its bytes.
func (l *Layout) appendWide(dst, raw []byte) []byte {
	if l.Kind != Int || l.Size != 16 {
		return appendBytes(dst, raw[:l.Size])
	}
	lo, hi := binary.LittleEndian.Uint64(raw), binary.LittleEndian.Uint64(raw[8:])
	if l.Signed && int64(hi) < 0 {
		dst = append(dst, '-')
		var borrow uint64
		lo, borrow = bits.Sub64(0, lo, 0)
		hi, _ = bits.Sub64(0, hi, borrow)
	}
	return appendUint128(dst, hi, lo)
}

// appendUint128 appends a number in decimal, nineteen digits at a time: 10^19
// is the largest power of ten in 64 bits.
func appendUint128(dst []byte, hi, lo uint64) []byte {
	const chunk = 1e19
	if hi == 0 && lo < chunk {
		return strconv.AppendUint(dst, lo, 10)
	}
	qhi := hi / chunk
	qlo, rem := bits.Div64(hi%chunk, lo, chunk)
	dst = appendUint128(dst, qhi, qlo)
	for n := uint64(chunk / 10); n > 0 && rem < n; n /= 10 {
		dst = append(dst, '0')
	}
	if rem == 0 {
		return dst
	}
	return strconv.AppendUint(dst, rem, 10)
}

// appendMembers appends the members of a struct; first tells that none has
// been appended before.
func (l *Layout) appendMembers(dst, raw []byte, syms Symbols, first bool) ([]byte, bool) {
	for i := range l.Members {
		m := &l.Members[i]
		part, bits, ok := m.part(raw)
		if m.Name == "" && ok {
			dst, first = m.Layout.appendMembers(dst, part, syms, first)
			continue
		}
		if !first {
			dst = append(dst, ", "...)
		}
		first = false
		if m.Name != "" {
			dst = append(dst, '.')
			dst = append(dst, m.Name...)
			dst = append(dst, '=')
		}
		switch {
		case !ok:
			dst = append(dst, "<short>"...)
		case m.Bits != 0:
			dst = m.Layout.appendScalar(dst, bits, syms)
		default:
			dst = m.Layout.AppendText(dst, part, syms)
		}
	}
	return dst, first
}

func (l *Layout) appendArray(dst, raw []byte, syms Symbols) []byte {
	switch {
	case l.Elem.Kind == Char:
		if s, ok := text(raw); ok {
			return AppendQuoted(dst, s)
		}
		return appendBytes(dst, raw)
	case l.byteArray():
		return appendBytes(dst, raw)
	case l.cost > maxCost:
		return append(dst, "<large>"...)
	}
	dst = append(dst, '[')
	size := l.Elem.Size
	for i := range l.Len {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = l.Elem.AppendText(dst, raw[i*size:(i+1)*size], syms)
	}
	return append(dst, ']')
}

// byteArray reports whether the layout is that of an array of unsigned char,
// which is what the kernel keeps bytes in.
func (l *Layout) byteArray() bool {
	return l.Kind == Array && l.Elem.Kind == Int && l.Elem.Size == 1 && !l.Elem.Signed
}

// appendBytes appends bytes as "[01 02 ff]".
func appendBytes(dst, raw []byte) []byte {
	dst = append(dst, '[')
	for i, b := range raw {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = append(dst, hexDigits[b>>4], hexDigits[b&15])
	}
	return append(dst, ']')
}
