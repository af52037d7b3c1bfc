package event

import (
	"bytes"
	"encoding/hex"
	"math"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"fgtrace/bpf/wire"
	"fgtrace/internal/golden"
	"fgtrace/internal/wiretest"
)

// counting returns so many bytes that differ from their neighbours.
func counting(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i%251 + 1)
	}
	return b
}

var packet = wiretest.Packet{
	Frame: 0xffffc90000123e48, Target: 1, Start: 0xffff888003a1b742, Linear: 5, Length: 1514, Data: counting(5),
}

func TestDecodePacket(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*wiretest.Packet)
		want   func(*Packet)
	}{
		"cut":                {func(*wiretest.Packet) {}, func(*Packet) {}},
		"whole":              {func(p *wiretest.Packet) { p.Length = 5 }, func(p *Packet) { p.Length = 5 }},
		"raw":                {func(p *wiretest.Packet) { p.Raw = true }, func(p *Packet) { p.Raw = true }},
		"tagged":             {func(p *wiretest.Packet) { p.Proto, p.TCI = 0x88a8, 0xe005 }, func(p *Packet) { p.TagProto, p.TagTCI = 0x88a8, 0xe005 }},
		"more":               {func(p *wiretest.Packet) { p.More = true }, func(p *Packet) { p.More = true }},
		"more of a raw one":  {func(p *wiretest.Packet) { p.Raw, p.More = true, true }, func(p *Packet) { p.Raw, p.More = true, true }},
		"nothing there":      {func(p *wiretest.Packet) { p.Linear, p.Data = 0, nil }, func(p *Packet) { p.Data = nil }},
		"nothing at all":     {func(p *wiretest.Packet) { *p = wiretest.Packet{} }, func(p *Packet) { *p = Packet{} }},
		"linear is negative": {func(p *wiretest.Packet) { p.Linear, p.Data = -14, nil }, func(p *Packet) { p.Data = nil }},
		"length is negative": {func(p *wiretest.Packet) { p.Length = -1 }, func(p *Packet) { p.Length = 5 }},
		"length is less":     {func(p *wiretest.Packet) { p.Length = 4 }, func(p *Packet) { p.Length = 5 }},
		"a room is full":     {func(p *wiretest.Packet) { p.Data = counting(128) }, func(p *Packet) { p.Data = counting(128) }},
		"the next room":      {func(p *wiretest.Packet) { p.Data = counting(129) }, func(p *Packet) { p.Data = counting(129) }},
		"largest": {func(p *wiretest.Packet) { p.Data = counting(65536) }, func(p *Packet) {
			p.Length, p.Data = 65536, counting(65536)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			in, want := packet, Packet{Frame: packet.Frame, Target: 1, Length: 1514, Data: packet.Data}
			test.change(&in)
			test.want(&want)
			raw := in.Bytes()
			if KindOf(raw) != KindPacket {
				t.Errorf("kind %d", KindOf(raw))
			}
			got, err := DecodePacket(raw, 2)
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Data) == 0 {
				got.Data = nil
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if !within(got.Data, raw) {
				t.Error("the data is not that of the record")
			}
			least := wire.RecordSize + wire.PacketSize + len(in.Data) // what is behind has no meaning
			for n := range raw {
				if _, err := DecodePacket(raw[:n:n], 2); (err == nil) != (n >= least) {
					t.Errorf("%d bytes of %d: %v", n, len(raw), err)
				}
			}
			if len(in.Data) < 100 {
				golden.Check(t, "packet_"+strings.ReplaceAll(name, " ", "_")+".hex", hex.Dump(bytes.TrimRight(raw, "\xee")))
			}
		})
	}
}

func TestDecodePacketErrors(t *testing.T) {
	size := func(n byte) []byte {
		raw := packet.Bytes()
		raw[wire.RecordSize+unsafe.Offsetof(wire.Packet{}.Size)+3] = n
		return raw
	}
	far := packet
	far.Target = math.MaxUint32
	for name, test := range map[string]struct {
		raw     []byte
		targets int
		want    string // "" for none
	}{
		"it is one":         {packet.Bytes(), 2, ""},
		"empty":             {nil, 2, "decode packet: 0 bytes, less than any"},
		"a header":          {packet.Bytes()[:56], 2, "decode packet: 56 bytes, less than any"},
		"most of a packet":  {packet.Bytes()[:103], 2, "decode packet: 103 bytes, less than any"},
		"no bytes":          {packet.Bytes()[:104], 2, "decode packet: 0 bytes of 5"},
		"a byte less":       {packet.Bytes()[:108], 2, "decode packet: 4 bytes of 5"},
		"size of 32 bits":   {size(0xff), 2, "decode packet: 128 bytes of 4278190085"},
		"no such target":    {packet.Bytes(), 1, "decode packet: target 1 of 1"},
		"no targets":        {packet.Bytes(), 0, "decode packet: target 1 of 0"},
		"target of 32 bits": {far.Bytes(), 2, "decode packet: target 4294967295 of 2"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			p, err := DecodePacket(test.raw, test.targets)
			if err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if err != nil && (p.Data != nil || p.Frame != 0) {
				t.Errorf("a packet besides the error: %+v", p)
			}
		})
	}
}

// TestPacketIsNoEntry: neither decodes the records of the other.
func TestPacketIsNoEntry(t *testing.T) {
	const want = "decode record: kind 8"
	if err := Decode(packet.Bytes(), []Shape{{}, {}}, &Record{}); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if err := new(Place).View(packet.Bytes(), 2); err == nil || err.Error() != "decode node: kind 8" {
		t.Errorf("%v", err)
	}
}

func FuzzDecodePacket(f *testing.F) {
	for _, n := range []int{0, 5, 128, 129} {
		p := packet
		p.Data, p.More, p.Proto = counting(n), n == 129, uint16(n)
		f.Add(p.Bytes(), 2)
		f.Add(p.Bytes()[:104+n], 0)
	}
	f.Add([]byte(nil), 1)
	f.Fuzz(func(t *testing.T, raw []byte, targets int) {
		raw = raw[:len(raw):len(raw)]
		targets &= 0xff
		p, err := DecodePacket(raw, targets)
		if err != nil {
			return
		}
		if p.Target >= targets || p.Length < len(p.Data) || !within(p.Data, raw) {
			t.Fatalf("target %d of %d, %d bytes of %d", p.Target, targets, len(p.Data), p.Length)
		}
		if len(p.Data) > len(raw)-wire.RecordSize-wire.PacketSize {
			t.Fatalf("%d bytes of a record of %d", len(p.Data), len(raw))
		}
	})
}

func TestOutput(t *testing.T) {
	type result struct {
		Value  string
		Status int
	}
	for name, test := range map[string]struct {
		status int64
		data   string // as much as there is room for
		want   result
	}{
		"a word":             {8, "12345678", result{"12345678", 8}},
		"less than a word":   {3, "abc", result{"abc", 3}},
		"more than a word":   {9, "123456789", result{"123456789", 9}},
		"a short string":     {4, "abc\x00stale..", result{"abc\x00", 4}},
		"one byte":           {1, "\x00stale", result{"\x00", 1}},
		"NULL":               {0, "stale", result{"", 0}},
		"fault":              {-14, "stale", result{"", -14}},
		"any error":          {math.MinInt32, "stale", result{"", math.MinInt32}},
		"too long":           {6, "abcde", result{"abcde", 5}},
		"longer than memory": {math.MaxInt64, "abcde", result{"abcde", 5}},
		"no room":            {1, "", result{"", 0}},
	} {
		t.Run(name, func(t *testing.T) {
			before := wiretest.Output(5, []byte("before"))
			piece := wiretest.Output(test.status, []byte(test.data))
			outputs := append(append(before[:len(before):len(before)], piece...), wiretest.Output(8, []byte("behind.."))...)
			value, status := Output(outputs, len(before), len(test.data))
			if diff := cmp.Diff(test.want, result{string(value), status}); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if test.status <= 0 && value != nil {
				t.Error("there is no value, but one of no bytes")
			}
			// The last one has nothing behind it.
			if value, status := Output(piece[:len(piece):len(piece)], 0, len(test.data)); string(value) != test.want.Value || status != test.want.Status {
				t.Errorf("alone: %q, %d", value, status)
			}
		})
	}
}

func TestOutputSize(t *testing.T) {
	for size, want := range map[int]int{0: 8, 1: 16, 7: 16, 8: 16, 9: 24, 12: 24, 128: 136, 16384: 16392} {
		if got := OutputSize(size); got != want {
			t.Errorf("%d bytes: %d, want %d", size, got, want)
		}
		if got := len(wiretest.Output(int64(size), make([]byte, size))); got != want {
			t.Errorf("%d bytes: %d in the record, want %d", size, got, want)
		}
	}
}

// twoOutputs are of 3 and 8 bytes.
var twoOutputs = append(wiretest.Output(3, []byte("abc")), wiretest.Output(-14, []byte("\xee\xee\xee\xee\xee\xee\xee\xee"))...)

// TestDecodeOutputs: outputs are behind the words, in front of the strings.
func TestDecodeOutputs(t *testing.T) {
	words, text := []byte{3, 0, 0, 0, 0, 0, 0, 0}, append([]byte{3, 0, 0, 0, 'a', 'b'}, make([]byte, 122)...)
	entry := with(entry, func(e *wiretest.Entry) { e.Outputs = twoOutputs })
	for name, test := range map[string]struct {
		shape Shape
		raw   []byte
		want  Record
	}{
		"outputs": {
			Shape{Outputs: 32}, entry.Bytes(), Record{Words: []byte{}, Outputs: twoOutputs, Strings: []byte{}},
		},
		"word outputs": {
			Shape{Words: 1, Outputs: 32}, with(entry, func(e *wiretest.Entry) { e.Words = []uint64{3} }).Bytes(),
			Record{Words: words, Outputs: twoOutputs, Strings: []byte{}},
		},
		"word outputs string": {
			Shape{Words: 1, Outputs: 32, Strings: 1},
			with(entry, func(e *wiretest.Entry) {
				e.Words, e.Strings = []uint64{3}, []wiretest.String{wiretest.Text("ab")}
			}).Bytes(),
			Record{Words: words, Outputs: twoOutputs, Strings: text},
		},
		"word outputs string stack": {
			Shape{Words: 1, Outputs: 32, Strings: 1, Stack: true},
			with(entry, func(e *wiretest.Entry) {
				e.Words, e.Strings = []uint64{3}, []wiretest.String{wiretest.Text("ab")}
				e.Stack, e.Frames = true, []uint64{0xffffffff81000005}
			}).Bytes(),
			Record{Words: words, Outputs: twoOutputs, Strings: text, Frames: []byte{5, 0, 0, 0x81, 0xff, 0xff, 0xff, 0xff}},
		},
		"packet before": {
			Shape{Outputs: 32}, with(entry, func(e *wiretest.Entry) { e.HasPacket = true }).Bytes(),
			Record{HasPacket: true, Words: []byte{}, Outputs: twoOutputs, Strings: []byte{}},
		},
		"packet alone": {
			Shape{}, with(entry, func(e *wiretest.Entry) { e.HasPacket, e.Outputs = true, nil }).Bytes(),
			Record{HasPacket: true, Words: []byte{}, Outputs: []byte{}, Strings: []byte{}},
		},
		"exit": {
			Shape{Outputs: 32},
			wiretest.Exit{Time: entry.Time, Frame: entry.Frame, Pid: 4242, Tid: 4243, Target: 1, CPU: 258}.Bytes(),
			Record{Kind: Exit, Retval: make([]byte, 8)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			want := test.want
			want.Target, want.Time, want.Frame = 1, entry.Time, entry.Frame
			want.Pid, want.Tid, want.CPU = 4242, 4243, 258
			if want.Kind == 0 {
				want.Kind = Entry
				copy(want.Comm[:], entry.Comm)
			}
			// What an earlier record left behind must not show.
			got := Record{HasPacket: !want.HasPacket, Comm: want.Comm, Outputs: []byte{9}}
			shapes := []Shape{{Outputs: 8}, test.shape}
			if err := Decode(test.raw, shapes, &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			for n := range test.raw {
				if err := Decode(test.raw[:n:n], shapes, &got); err == nil {
					t.Errorf("%d bytes of %d: no error", n, len(test.raw))
				}
			}
			golden.Check(t, "outputs_"+strings.ReplaceAll(name, " ", "_")+".hex", hex.Dump(bytes.TrimRight(test.raw, "\x00")))
		})
	}
}

// TestPacketSizes holds what programs are given against what tests make.
func TestPacketSizes(t *testing.T) {
	texts := []wiretest.String{wiretest.Text("a"), wiretest.Text("b")}
	full := wiretest.Entry{Words: make([]uint64, 3), Outputs: twoOutputs, Strings: texts, Stack: true}
	shape := Shape{Words: 3, Outputs: 32, Strings: 2, Stack: true}
	for _, test := range []struct {
		what      string
		got, want int
	}{
		{"struct packet", int(unsafe.Sizeof(wire.Packet{})), wire.PacketSize},
		{"struct output", int(unsafe.Sizeof(wire.Output{})), wire.OutputSize},
		{"packet without bytes", wire.RecordSize + wire.PacketSize + 128, len(wiretest.Packet{}.Bytes())},
		{"largest packet", wire.RecordSize + wire.PacketSize + wire.MaxPacket, len(wiretest.Packet{Data: make([]byte, 65536)}.Bytes())},
		{"entry", shape.EntrySize(), len(full.Bytes())},
		{"stack of an entry", shape.EntryStackAt(), len(full.Bytes()) - 127*8},
		{"strings of a node", NodeShape{Words: 3, Outputs: 32, Strings: 2}.StringsSize(), len(wiretest.Strings{Outputs: twoOutputs, Strings: texts}.Bytes())},
		{"outputs of a node", NodeShape{Outputs: 32}.StringsSize(), len(wiretest.Strings{Outputs: twoOutputs}.Bytes())},
		{"open node", NodeShape{Words: 3, Outputs: 32}.OpenSize(), len(wiretest.Open{Words: make([]uint64, 3)}.Bytes())},
		{"node", NodeShape{Words: 3, Outputs: 32}.NodeSize(), len(wiretest.Node{Words: make([]uint64, 3)}.Bytes())},
	} {
		if test.got != test.want {
			t.Errorf("%s: %d bytes, want %d", test.what, test.got, test.want)
		}
	}
}

// FuzzOutputs decodes an entry and each of its outputs.
func FuzzOutputs(f *testing.F) {
	e := entry
	e.Words, e.Outputs, e.Strings = []uint64{1}, twoOutputs, []wiretest.String{wiretest.Text("ab")}
	f.Add(e.Bytes(), byte(3), byte(8), byte(1))
	e.HasPacket, e.Strings = true, nil
	f.Add(e.Bytes(), byte(3), byte(8), byte(0))
	f.Fuzz(func(t *testing.T, raw []byte, first, second, strs byte) {
		sizes := []int{int(first), int(second)}
		shape := Shape{Words: 1, Outputs: OutputSize(sizes[0]) + OutputSize(sizes[1]), Strings: int(strs % 3)}
		var r Record
		if Decode(raw, []Shape{shape, shape}, &r) != nil || r.Kind != Entry {
			return
		}
		if !within(r.Outputs, raw) || len(r.Outputs) != shape.Outputs || len(r.Strings) != wire.StringSize*shape.Strings {
			t.Fatalf("%d bytes of outputs, %d of strings", len(r.Outputs), len(r.Strings))
		}
		offset := 0
		for _, size := range sizes {
			value, status := Output(r.Outputs, offset, size)
			if !within(value, r.Outputs) || len(value) > size || status > size || len(value) != max(status, 0) {
				t.Fatalf("%d bytes of %d, status %d", len(value), size, status)
			}
			offset += OutputSize(size)
		}
	})
}
