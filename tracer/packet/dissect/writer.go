package dissect

import (
	"net/netip"
	"strconv"
)

// writer appends to a buffer.
type writer struct{ dst []byte }

func (w *writer) str(parts ...string) *writer {
	for _, part := range parts {
		w.dst = append(w.dst, part...)
	}
	return w
}

func (w *writer) num(v int64) *writer {
	w.dst = strconv.AppendInt(w.dst, v, 10)
	return w
}

// hex appends v in hexadecimal, below 1<<32, with at least some digits.
func (w *writer) hex(v int64, digits int) *writer {
	for shift := 28; shift >= 0; shift -= 4 {
		if v>>shift != 0 || shift < 4*digits {
			w.dst = append(w.dst, hexDigits[v>>shift&0xf])
		}
	}
	return w
}

// bytes appends the bytes of b in hexadecimal, with a separator between them.
func (w *writer) bytes(b []byte, separator string) *writer {
	for i, c := range b {
		if i > 0 {
			w.str(separator)
		}
		w.dst = append(w.dst, hexDigits[c>>4], hexDigits[c&0xf])
	}
	return w
}

const hexDigits = "0123456789abcdef"

// addr appends an address of 4 or 16 bytes.
func (w *writer) addr(b []byte) *writer {
	a, _ := netip.AddrFromSlice(b)
	w.dst = a.AppendTo(w.dst)
	return w
}
