package perfdata

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
)

// record makes one of size bytes, which are its number.
func record(kind uint32, size int, fill byte) []byte {
	raw := bytes.Repeat([]byte{fill}, size)
	binary.LittleEndian.PutUint32(raw, kind)
	binary.LittleEndian.PutUint16(raw[4:], 0)
	binary.LittleEndian.PutUint16(raw[6:], uint16(size))
	return raw
}

// ringOf puts records into a ring of 64 bytes, at a position.
func ringOf(at uint64, records ...[]byte) (r Ring, tail, head uint64) {
	r.Data = make([]byte, 64)
	head = at
	for _, raw := range records {
		for _, b := range raw {
			r.Data[head%64] = b
			head++
		}
	}
	return r, at, head
}

func TestWalk(t *testing.T) {
	bad := record(9, 16, 1)
	bad[6] = 4
	long := record(9, 16, 1)
	long[6] = 32
	for name, test := range map[string]struct {
		at      uint64
		records [][]byte
		want    string
		left    uint64
	}{
		"nothing":              {at: 24},
		"one":                  {records: [][]byte{record(9, 16, 1)}, want: "9:0101010101010101 "},
		"a header alone":       {records: [][]byte{record(2, 8, 0)}, want: "2: "},
		"two, full":            {at: 1 << 40, records: [][]byte{record(9, 32, 1), record(2, 32, 2)}, want: "9:" + hex(1, 24) + " 2:" + hex(2, 24) + " "},
		"wraps behind header":  {at: 56, records: [][]byte{record(9, 24, 3)}, want: "9:" + hex(3, 16) + " "},
		"wraps in the body":    {at: 48, records: [][]byte{record(9, 24, 3), record(9, 16, 4)}, want: "9:" + hex(3, 16) + " 9:" + hex(4, 8) + " "},
		"positions overflow":   {at: ^uint64(0) - 15, records: [][]byte{record(9, 24, 3)}, want: "9:" + hex(3, 16) + " "},
		"too small for itself": {records: [][]byte{record(9, 16, 5), bad}, want: "9:" + hex(5, 8) + " ", left: 16},
		"longer than what is":  {records: [][]byte{long}, left: 16},
	} {
		r, tail, head := ringOf(test.at, test.records...)
		got := ""
		end := r.Walk(tail, head, func(kind uint32, body []byte) { got += fmt.Sprintf("%d:%x ", kind, body) })
		if got != test.want || head-end != test.left {
			t.Errorf("%s: %q, %d bytes left; want %q, %d", name, got, head-end, test.want, test.left)
		}
	}
}

func hex(b byte, n int) string { return fmt.Sprintf("%x", bytes.Repeat([]byte{b}, n)) }

func TestWalkRefuses(t *testing.T) {
	for name, r := range map[string]Ring{"empty": {}, "small": {Data: make([]byte, 4)}, "behind": {Data: make([]byte, 64)}} {
		if end := r.Walk(0, 72, func(uint32, []byte) { t.Errorf("%s: a record", name) }); end != 0 {
			t.Errorf("%s: went to %d", name, end)
		}
	}
}

func TestLost(t *testing.T) {
	body := binary.LittleEndian.AppendUint64(make([]byte, 8), 77)
	if got := Lost(body); got != 77 {
		t.Errorf("%d", got)
	}
	if got := Lost(body[:15]); got != 0 {
		t.Errorf("%d of a short one", got)
	}
}

func FuzzWalk(f *testing.F) {
	f.Add(record(9, 64, 0), uint64(56), uint64(64))
	f.Add(append(record(9, 24, 0), record(2, 40, 0)...), uint64(24), uint64(64))
	f.Fuzz(func(t *testing.T, data []byte, tail, length uint64) {
		for len(data)&(len(data)-1) != 0 {
			data = data[1:]
		}
		r := Ring{Data: data}
		sum := uint64(0)
		end := r.Walk(tail, tail+length, func(_ uint32, body []byte) { sum += uint64(len(body)) + headerSize })
		if end-tail != sum || sum > length && length > 0 || sum > uint64(len(data)) {
			t.Errorf("%d bytes of records, moved by %d of %d", sum, end-tail, length)
		}
	})
}
