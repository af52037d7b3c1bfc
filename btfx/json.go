package btfx

import (
	"math"
	"strconv"
)

// AppendJSON appends a value as JSON, and returns the extended buffer. raw has
// the bytes of the value, and may have more. What programs that read it can
// rely on:
//
//	int              a number, all its digits: 64-bit ones are exact
//	bool             true, false
//	char             a number
//	float            a number; "NaN", "+Inf" and "-Inf" are strings
//	enum             {"name":"NF_ACCEPT","value":1}, and {"value":7} for a
//	                 value that has no name; one of bits has "A|B" for a name,
//	                 if all bits of the value have one
//	pointer          "0xffff888003a1b700", "0x0"; to a function, too
//	struct, union    an object; members of anonymous ones are those of the
//	                 object around them
//	array            an array
//	char[]           a string, up to the first NUL; bytes that aren't UTF-8
//	                 become U+FFFD
//	void             null
//
// What lies behind the end of raw, and what has more than 65536 scalars,
// is null.
//
// No address is replaced by a symbol, so syms isn't used; it is there so that
// AppendJSON and AppendText are called alike.
func (l *Layout) AppendJSON(dst, raw []byte, syms Symbols) []byte {
	if len(raw) < l.Size {
		return append(dst, "null"...)
	}
	switch l.Kind {
	case Struct, Union:
		if l.Elided || l.cost > maxCost {
			return append(dst, "null"...)
		}
		dst = append(dst, '{')
		dst, _ = l.appendJSONMembers(dst, raw[:l.Size], syms, true)
		return append(dst, '}')
	case Array:
		return l.appendJSONArray(dst, raw[:l.Size], syms)
	case Void:
		return append(dst, "null"...)
	}
	if l.Size > 8 {
		if l.Kind == Int && l.Size == 16 {
			return l.appendWide(dst, raw)
		}
		dst = append(dst, '"')
		dst = l.appendWide(dst, raw)
		return append(dst, '"')
	}
	return l.appendJSONScalar(dst, load(raw, l.Size, l.Signed))
}

// AppendJSONWord is AppendJSON for a layout that IsWord.
func (l *Layout) AppendJSONWord(dst []byte, word uint64) []byte {
	return l.appendJSONScalar(dst, l.FromWord(word))
}

// appendJSONScalar appends a value of at most 8 bytes.
func (l *Layout) appendJSONScalar(dst []byte, v uint64) []byte {
	switch l.Kind {
	case Int, Char:
		return l.appendNumber(dst, v)
	case Bool:
		return strconv.AppendBool(dst, v != 0)
	case Enum:
		return l.appendJSONEnum(dst, v)
	case Float:
		switch l.Size {
		case 4:
			return appendJSONFloat(dst, float64(math.Float32frombits(uint32(v))), 32)
		case 8:
			return appendJSONFloat(dst, math.Float64frombits(v), 64)
		}
	}
	dst = append(dst, '"')
	dst = appendHex(dst, v)
	return append(dst, '"')
}

func appendJSONFloat(dst []byte, f float64, size int) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		dst = append(dst, '"')
		dst = strconv.AppendFloat(dst, f, 'g', -1, size)
		return append(dst, '"')
	}
	return strconv.AppendFloat(dst, f, 'g', -1, size)
}

func (l *Layout) appendJSONEnum(dst []byte, v uint64) []byte {
	dst = append(dst, '{')
	if name, ok := l.EnumName(v); ok {
		dst = append(dst, `"name":"`...)
		dst = append(dst, name...)
		dst = append(dst, `",`...)
	} else if l.Flags && l.named(v) {
		dst = append(dst, `"name":"`...)
		dst, _ = l.appendFlags(dst, v)
		dst = append(dst, `",`...)
	}
	dst = append(dst, `"value":`...)
	dst = l.appendNumber(dst, v)
	return append(dst, '}')
}

// named reports whether every bit of a value has a name, and there is one.
func (l *Layout) named(v uint64) bool {
	rest := v
	for _, f := range l.Values {
		rest &^= f.Value
	}
	return rest == 0 && v != 0
}

// appendJSONMembers appends the members of a struct; first tells that none has
// been appended before.
func (l *Layout) appendJSONMembers(dst, raw []byte, syms Symbols, first bool) ([]byte, bool) {
	for i := range l.Members {
		m := &l.Members[i]
		part, bits, ok := m.part(raw)
		if m.Name == "" {
			// One that lies outside has no members to be null.
			if ok {
				dst, first = m.Layout.appendJSONMembers(dst, part, syms, first)
			}
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = AppendJSONString(dst, m.Name)
		dst = append(dst, ':')
		switch {
		case !ok:
			dst = append(dst, "null"...)
		case m.Bits != 0:
			dst = m.Layout.appendJSONScalar(dst, bits)
		default:
			dst = m.Layout.AppendJSON(dst, part, syms)
		}
	}
	return dst, first
}

func (l *Layout) appendJSONArray(dst, raw []byte, syms Symbols) []byte {
	if l.Elem.Kind == Char {
		return AppendJSONString(dst, untilNUL(raw))
	}
	if l.cost > maxCost {
		return append(dst, "null"...)
	}
	dst = append(dst, '[')
	size := l.Elem.Size
	for i := range l.Len {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = l.Elem.AppendJSON(dst, raw[i*size:(i+1)*size], syms)
	}
	return append(dst, ']')
}
