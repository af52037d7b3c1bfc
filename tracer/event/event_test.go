package event

import (
	"bytes"
	"encoding/hex"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fgtrace/bpf/wire"
	"fgtrace/internal/golden"
	"fgtrace/internal/wiretest"
)

var entry = wiretest.Entry{
	Time: 0x1122334455667788, Frame: 0xffffc90000123e48, Pid: 4242, Tid: 4243, Target: 1, CPU: 258,
	Comm: "fifteen_bytes_x",
}

func with(e wiretest.Entry, change func(*wiretest.Entry)) wiretest.Entry {
	change(&e)
	return e
}

var shapeTests = map[string]struct {
	shape Shape
	raw   []byte
	want  Record
}{
	"entry": {
		raw:  entry.Bytes(),
		want: Record{Words: []byte{}, Strings: []byte{}},
	},
	"entry words": {
		shape: Shape{Words: 2},
		raw:   with(entry, func(e *wiretest.Entry) { e.Words = []uint64{1, 0xff00000000000002} }).Bytes(),
		want: Record{
			Words:   []byte{1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0xff},
			Strings: []byte{},
		},
	},
	"entry word string": {
		shape: Shape{Words: 1, Strings: 1},
		raw: with(entry, func(e *wiretest.Entry) {
			e.Words, e.Strings = []uint64{3}, []wiretest.String{wiretest.Text("ab")}
		}).Bytes(),
		want: Record{
			Words:   []byte{3, 0, 0, 0, 0, 0, 0, 0},
			Strings: append([]byte{3, 0, 0, 0, 'a', 'b'}, make([]byte, 122)...),
		},
	},
	"entry word string stack": {
		shape: Shape{Words: 1, Strings: 1, Stack: true},
		raw: with(entry, func(e *wiretest.Entry) {
			e.Words, e.Strings = []uint64{3}, []wiretest.String{wiretest.Text("ab")}
			e.Stack, e.Frames = true, []uint64{0xffffffff81000005, 6}
		}).Bytes(),
		want: Record{
			Words:   []byte{3, 0, 0, 0, 0, 0, 0, 0},
			Strings: append([]byte{3, 0, 0, 0, 'a', 'b'}, make([]byte, 122)...),
			Frames:  []byte{5, 0, 0, 0x81, 0xff, 0xff, 0xff, 0xff, 6, 0, 0, 0, 0, 0, 0, 0},
		},
	},
	"entry stack error": {
		shape: Shape{Stack: true},
		raw:   with(entry, func(e *wiretest.Entry) { e.Stack, e.StackErr = true, 14 }).Bytes(),
		want:  Record{Words: []byte{}, Strings: []byte{}, StackErr: 14},
	},
	"exit": {
		shape: Shape{Words: 12, Strings: 12, Stack: true},
		raw: wiretest.Exit{
			Time: 0x1122334455667788, Frame: 0xffffc90000123e48, Pid: 4242, Tid: 4243, Target: 1, CPU: 258,
			Retval: 0xfffffffffffffffe,
		}.Bytes(),
		want: Record{
			Kind: Exit, Retval: []byte{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		},
	},
	"exit entry lost": {
		raw: wiretest.Exit{
			Time: 0x1122334455667788, Frame: 0xffffc90000123e48, Pid: 4242, Tid: 4243, Target: 1, CPU: 258, EntryLost: true,
		}.Bytes(),
		want: Record{Kind: Exit, EntryLost: true, Retval: make([]byte, 8)},
	},
	"exit unwanted": {
		raw: wiretest.Exit{
			Time: 0x1122334455667788, Frame: 0xffffc90000123e48, Pid: 4242, Tid: 4243, Target: 1, CPU: 258, Unwanted: true,
		}.Bytes(),
		want: Record{Kind: Exit, Unwanted: true, Retval: make([]byte, 8)},
	},
}

func TestDecode(t *testing.T) {
	for name, test := range shapeTests {
		t.Run(name, func(t *testing.T) {
			want := test.want
			want.Target, want.Time, want.Frame = 1, entry.Time, entry.Frame
			want.Pid, want.Tid, want.CPU = 4242, 4243, 258
			if want.Kind == 0 {
				want.Kind = Entry
				copy(want.Comm[:], entry.Comm)
			}
			// What an earlier record left behind must not show.
			got := Record{StackErr: 1, EntryLost: true, Unwanted: true, Unsure: 9, Words: []byte{9}, Strings: []byte{9}, Frames: []byte{9}, Retval: []byte{9}}
			shapes := []Shape{{}, test.shape}
			if err := Decode(test.raw, shapes, &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			for n := range test.raw {
				if err := Decode(test.raw[:n:n], shapes, &got); err == nil {
					t.Errorf("%d bytes of %d: no error", n, len(test.raw))
				}
			}
			golden.Check(t, strings.ReplaceAll(name, " ", "_")+".hex", hex.Dump(bytes.TrimRight(test.raw, "\x00")))
		})
	}
}

func TestDecodeErrors(t *testing.T) {
	stack := func(frames int) []byte {
		raw := with(entry, func(e *wiretest.Entry) { e.Target, e.Stack = 0, true }).Bytes()
		raw[unsafe.Offsetof(wire.Record{}.Frames)] = byte(frames)
		return raw
	}
	kind := func(k byte) []byte {
		raw := wiretest.Exit{}.Bytes()
		raw[unsafe.Offsetof(wire.Record{}.Kind)] = k
		return raw
	}
	for name, test := range map[string]struct {
		raw  []byte
		want string // "" for none
	}{
		"empty":             {nil, "decode record: 0 bytes, less than any"},
		"half a record":     {make([]byte, 55), "decode record: 55 bytes, less than any"},
		"half an exit":      {wiretest.Exit{}.Bytes()[:71], "decode exit: 71 bytes of 72"},
		"no such target":    {wiretest.Exit{Target: 1}.Bytes(), "decode record: target 1 of 1"},
		"target of 32 bits": {wiretest.Exit{Target: 1<<32 - 1}.Bytes(), "decode record: target 4294967295 of 1"},
		"kind 0":            {kind(0), "decode record: kind 0"},
		"kind 3":            {kind(3), "decode record: kind 3"},
		"no room for stack": {entryBytes(0), "decode entry: 64 bytes of 1072"},
		"127 frames":        {stack(127), ""},
		"128 frames":        {stack(128), "decode stack: 128 frames"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if err := Decode(test.raw, []Shape{{Stack: true}}, &Record{}); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

var call = wiretest.Call{
	Entry: with(entry, func(e *wiretest.Entry) {
		e.Words, e.Stack, e.Frames = []uint64{7, 8}, true, []uint64{0xffffffff81000005, 6}
	}),
	ExitTime: 0x1122334455667799, Retval: 0xfffffffffffffffe,
}

// spelled is what the methods of a Whole return.
type spelled struct {
	Target            int
	Entry, Exit       uint64
	Frame, PidTgid    uint64
	CPU               uint16
	Comm              string
	Words, Ret, Stack []byte
	StackErr          int
}

func spell(w *Whole) spelled {
	s := spelled{
		Target: w.Target(), Entry: w.Entry(), Exit: w.Exit(), Frame: w.Frame(), PidTgid: w.PidTgid(), CPU: w.CPU(),
		Comm: string(bytes.TrimRight(w.Comm()[:], "\x00")), Words: w.Words(), Ret: w.Retval()[:],
	}
	s.Stack, s.StackErr = w.Stack()
	return s
}

func TestWhole(t *testing.T) {
	want := spelled{
		Target: 1, Entry: call.Time, Exit: call.ExitTime, Frame: call.Frame, PidTgid: 4242<<32 | 4243, CPU: 258, Comm: call.Comm,
		Words: []byte{7, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0},
		Ret:   []byte{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		Stack: []byte{5, 0, 0, 0x81, 0xff, 0xff, 0xff, 0xff, 6, 0, 0, 0, 0, 0, 0, 0},
	}
	for name, test := range map[string]struct {
		shape  Shape
		change func(*wiretest.Call)
		want   func(*spelled)
	}{
		"with stack": {Shape{Words: 2, Stack: true}, func(*wiretest.Call) {}, func(*spelled) {}},
		"without":    {Shape{Words: 2}, func(c *wiretest.Call) { c.Stack = false }, func(s *spelled) { s.Stack = nil }},
		"no words": {
			Shape{Stack: true}, func(c *wiretest.Call) { c.Words = nil }, func(s *spelled) { s.Words = []byte{} },
		},
		"no stack to be had": {
			Shape{Words: 2, Stack: true}, func(c *wiretest.Call) { c.Frames, c.StackErr = nil, 14 },
			func(s *spelled) { s.Stack, s.StackErr = nil, 14 },
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, want := call, want
			test.change(&c)
			test.want(&want)
			raw := c.Bytes()
			if KindOf(raw) != Call {
				t.Errorf("kind %d", KindOf(raw))
			}
			shapes := []Shape{{}, test.shape}
			var w Whole
			if err := w.View(raw, Layouts(shapes)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, spell(&w)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			for n := range raw {
				if err := new(Whole).View(raw[:n:n], Layouts(shapes)); err == nil {
					t.Errorf("%d bytes of %d: no error", n, len(raw))
				}
			}
			golden.Check(t, "call_"+strings.ReplaceAll(name, " ", "_")+".hex", hex.Dump(bytes.TrimRight(raw, "\x00")))
		})
	}
}

func TestWholeErrors(t *testing.T) {
	frames := call.Bytes()
	frames[unsafe.Offsetof(wire.Record{}.Frames)] = 128
	for name, test := range map[string]struct {
		raw    []byte
		shapes []Shape
		want   string
	}{
		"empty":          {nil, []Shape{{}}, "decode call: 0 bytes, less than any"},
		"no such target": {call.Bytes(), []Shape{{}}, "decode call: target 1 of 1"},
		"too short":      {call.Bytes()[:80], []Shape{{}, {Words: 2}}, "decode call: 80 bytes of 88"},
		"128 frames":     {frames, []Shape{{}, {Words: 2, Stack: true}}, "decode call: 128 frames"},
	} {
		if err := new(Whole).View(test.raw, Layouts(test.shapes)); err == nil || err.Error() != test.want {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
	}
}

func FuzzWhole(f *testing.F) {
	f.Add(call.Bytes(), byte(2), true)
	f.Fuzz(func(t *testing.T, raw []byte, words byte, stack bool) {
		shape := Shape{Words: int(words % 13), Stack: stack}
		var w Whole
		if w.View(raw, Layouts([]Shape{shape, shape})) != nil {
			return
		}
		s := spell(&w)
		for _, part := range [][]byte{s.Words, s.Ret, s.Stack} {
			if !within(part, raw) {
				t.Fatal("a slice lies outside of the record")
			}
		}
		if len(s.Words) != 8*shape.Words || len(s.Stack)%8 != 0 || !stack && s.Stack != nil {
			t.Fatalf("%d bytes of words, %d of stack", len(s.Words), len(s.Stack))
		}
	})
}

// entryBytes is an entry of one word that has no stack.
func entryBytes(target uint32) []byte {
	return with(entry, func(e *wiretest.Entry) { e.Target, e.Words = target, []uint64{1} }).Bytes()
}

func TestString(t *testing.T) {
	long := strings.Repeat("x", 122)
	type result struct {
		Text  string
		Cut   bool
		Errno int
	}
	for name, test := range map[string]struct {
		in   wiretest.String
		want result
	}{
		"text":             {wiretest.Text("lo"), result{Text: "lo"}},
		"empty":            {wiretest.Text(""), result{}},
		"122 bytes":        {wiretest.Text(long), result{Text: long}},
		"123 bytes":        {wiretest.Text(long + "y"), result{Text: long + "y", Cut: true}},
		"124 bytes":        {wiretest.Text(long + "yz"), result{Text: long + "y", Cut: true}},
		"unreadable":       {wiretest.String{Len: -14}, result{Errno: 14}},
		"nothing":          {wiretest.String{Len: 0, Data: "junk"}, result{}},
		"longer than data": {wiretest.String{Len: 1 << 30, Data: "junk"}, result{Text: "junk" + strings.Repeat("\x00", 119), Cut: true}},
	} {
		t.Run(name, func(t *testing.T) {
			strs := wiretest.Entry{Strings: []wiretest.String{wiretest.Text("before"), test.in}}.Bytes()[wire.RecordSize:]
			s, cut, errno := String(strs, 1)
			if diff := cmp.Diff(test.want, result{string(s), cut, errno}); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestSizes(t *testing.T) {
	for _, test := range []struct {
		what      string
		got, want int
	}{
		{"struct record", int(unsafe.Sizeof(wire.Record{})), wire.RecordSize},
		{"struct string", int(unsafe.Sizeof(wire.String{})), wire.StringSize},
		{"exit", ExitSize, len(wiretest.Exit{}.Bytes())},
		{"entry", Shape{}.EntrySize(), len(entry.Bytes())},
		{"largest entry", Shape{Words: 12, Strings: 12, Stack: true}.EntrySize(), 56 + 12*8 + 12*128 + 127*8},
		{"call", Shape{}.CallSize(), len(wiretest.Call{}.Bytes())},
		{"largest call", Shape{Words: 12, Stack: true}.CallSize(), 56 + 16 + 12*8 + 127*8},
		{"stack of an entry", Shape{Words: 3, Strings: 2, Stack: true}.EntryStackAt(), 56 + 3*8 + 2*128},
		{"stack of a call", Shape{Words: 3, Stack: true}.CallStackAt(), 56 + 16 + 3*8},
		{"no stack of an entry", Shape{Words: 3, Strings: 2}.EntryStackAt(), 0},
		{"no stack of a call", Shape{Words: 3}.CallStackAt(), 0},
	} {
		if test.got != test.want {
			t.Errorf("%s: %d bytes, want %d", test.what, test.got, test.want)
		}
	}
}

// TestHeader holds the generated types against the text of wire.h: struct record
// has no padding that the text doesn't show.
func TestHeader(t *testing.T) {
	text, err := os.ReadFile("../../bpf/src/wire.h")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]uintptr{
		"time": unsafe.Offsetof(wire.Record{}.Time), "frame": unsafe.Offsetof(wire.Record{}.Frame),
		"pid_tgid": unsafe.Offsetof(wire.Record{}.PidTgid), "target": unsafe.Offsetof(wire.Record{}.Target),
		"cpu": unsafe.Offsetof(wire.Record{}.Cpu), "kind": unsafe.Offsetof(wire.Record{}.Kind),
		"flags": unsafe.Offsetof(wire.Record{}.Flags), "frames": unsafe.Offsetof(wire.Record{}.Frames),
		"comm": unsafe.Offsetof(wire.Record{}.Comm),
	}
	_, body, ok := strings.Cut(string(text), "\nstruct record {\n")
	if !ok {
		t.Fatal("wire.h has no struct record")
	}
	body, _, _ = strings.Cut(body, "\n};")
	got, offset := make(map[string]uintptr), uintptr(0)
	for _, m := range regexp.MustCompile(`(?m)^\t[us](\d+) (\w+)(\[COMM_SIZE\])?;`).FindAllStringSubmatch(body, -1) {
		bits, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		got[m[2]] = offset
		offset += uintptr(bits / 8)
		if m[3] != "" {
			offset += uintptr(bits / 8 * (wire.CommSize - 1))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("offsets (-wire +wire.h)\n%s", diff)
	}
	if offset != wire.RecordSize {
		t.Errorf("%d bytes in wire.h, %d in wire", offset, wire.RecordSize)
	}
}

func FuzzDecode(f *testing.F) {
	for _, test := range shapeTests {
		f.Add(test.raw, byte(test.shape.Words), byte(test.shape.Strings), test.shape.Stack)
	}
	f.Fuzz(func(t *testing.T, raw []byte, words, strs byte, stack bool) {
		shape := Shape{Words: int(words % 13), Strings: int(strs % 13), Stack: stack}
		var r Record
		if err := Decode(raw, []Shape{shape, shape}, &r); err != nil {
			return
		}
		for _, part := range [][]byte{r.Words, r.Strings, r.Frames, r.Retval} {
			if !within(part, raw) {
				t.Fatal("a slice lies outside of the record")
			}
		}
		if r.Kind == Exit {
			if len(r.Retval) != 8 {
				t.Fatalf("%d bytes of return value", len(r.Retval))
			}
			return
		}
		if len(r.Words) != 8*shape.Words || len(r.Strings) != wire.StringSize*shape.Strings || len(r.Frames)%8 != 0 {
			t.Fatalf("%d bytes of words, %d of strings, %d of frames", len(r.Words), len(r.Strings), len(r.Frames))
		}
		for i := range shape.Strings {
			if s, _, _ := String(r.Strings, i); !within(s, r.Strings) || len(s) >= wire.StringData {
				t.Fatalf("a string of %d bytes", len(s))
			}
		}
	})
}

func within(part, whole []byte) bool {
	if len(part) == 0 {
		return true
	}
	start, first := uintptr(unsafe.Pointer(&whole[0])), uintptr(unsafe.Pointer(&part[0]))
	return first >= start && first+uintptr(len(part)) <= start+uintptr(len(whole))
}
