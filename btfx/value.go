package btfx

import "encoding/binary"

// load reads the first size bytes of raw, which has as many, as a little-endian
// number, and extends its sign.
func load(raw []byte, size int, signed bool) uint64 {
	switch size {
	case 8:
		return binary.LittleEndian.Uint64(raw)
	case 4:
		v := binary.LittleEndian.Uint32(raw)
		if signed {
			return uint64(int32(v))
		}
		return uint64(v)
	case 2:
		v := binary.LittleEndian.Uint16(raw)
		if signed {
			return uint64(int16(v))
		}
		return uint64(v)
	case 1:
		if signed {
			return uint64(int8(raw[0]))
		}
		return uint64(raw[0])
	}
	return loadBits(raw, 0, 8*min(size, 8), signed)
}

// loadBits reads a bitfield of 1 to 64 bits at an offset in bits, which raw
// has.
func loadBits(raw []byte, offset, width int, signed bool) uint64 {
	var v uint64
	for got := 0; got < width; {
		bit := offset + got
		n := min(8-bit%8, width-got)
		part := uint64(raw[bit/8]) >> (bit % 8) & (1<<n - 1)
		v |= part << got
		got += n
	}
	if signed && width < 64 {
		shift := 64 - width
		return uint64(int64(v<<shift) >> shift)
	}
	return v
}

// part returns the bytes of a member, or nil if raw ends before them, and the
// member's value if it is a bitfield.
func (m *Member) part(raw []byte) (bytes []byte, bits uint64, ok bool) {
	if m.Bits != 0 {
		if m.Offset < 0 || m.Offset+m.Bits > 8*len(raw) {
			return nil, 0, false
		}
		return nil, loadBits(raw, m.Offset, m.Bits, m.Layout.Signed), true
	}
	start := m.Offset / 8
	if start < 0 || start > len(raw) || m.Layout.Size > len(raw)-start {
		return nil, 0, false
	}
	return raw[start : start+m.Layout.Size], 0, true
}

// Uint returns the value of a scalar of at most 8 bytes, its sign extended
// where the type has one. ok is false for other layouts, and where raw is
// short.
func (l *Layout) Uint(raw []byte) (v uint64, ok bool) {
	if !l.scalar() || l.Size > 8 || len(raw) < l.Size {
		return 0, false
	}
	return load(raw, l.Size, l.Signed), true
}

// IsWord reports whether a value is a scalar of at most 8 bytes. Such values
// come as the low bytes of a word, too: in a register, or in an argument's place.
func (l *Layout) IsWord() bool { return l.scalar() && l.Size >= 1 && l.Size <= 8 }

// FromWord returns the value that is in the low bytes of a word, its sign
// extended where the type has one. The layout IsWord.
func (l *Layout) FromWord(word uint64) uint64 {
	unused := (64 - 8*l.Size) & 63
	if l.Signed {
		return uint64(int64(word<<unused) >> unused)
	}
	return word << unused >> unused
}
