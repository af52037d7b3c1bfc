package btfx

import (
	"encoding/hex"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
)

// symbols is a Symbols with one function of 0x100 bytes.
type symbols struct {
	name string
	addr uint64
}

func (s symbols) Symbol(addr uint64) (string, uint64, bool) {
	return s.name, addr - s.addr, addr >= s.addr && addr-s.addr < 0x100
}

// valueTypes are the types of TestValues by name.
func valueTypes(tb testing.TB) (*Types, map[string]ID) {
	b := newBlob(nil)
	types := map[string]ID{
		"void":  0,
		"int":   b.int("int", 4, encSigned),
		"short": b.int("short int", 2, encSigned),
		"u16":   b.int("short unsigned int", 2, 0),
		"u32":   b.int("unsigned int", 4, 0),
		"s64":   b.int("long int", 8, encSigned),
		"u64":   b.int("long unsigned int", 8, 0),
		"s128":  b.int("__int128", 16, encSigned),
		"u128":  b.int("__int128 unsigned", 16, 0),
		"int24": b.int("int24", 3, encSigned),
		"u8":    b.int("unsigned char", 1, 0),
		"s8":    b.int("signed char", 1, encSigned),
		"char":  b.int("char", 1, encSigned),
		"bool":  b.int("_Bool", 1, encBool),
		"f32":   b.add(KindFloat, false, 0, "float", 4),
		"f64":   b.add(KindFloat, false, 0, "double", 8),
		"f128":  b.add(KindFloat, false, 0, "long double", 16),
		"verdict": b.enum("verdict", false, blobValue{"NF_DROP", 0}, blobValue{"NF_ACCEPT", 1},
			blobValue{"NF_STOLEN", 2}, blobValue{"NF_QUEUE", 3}),
		"signed enum": b.enum("e", true, blobValue{"ZERO", 0}, blobValue{"MINUS", 0xffffffff}),
		"two":         b.enum("two", false, blobValue{"ONE", 1}, blobValue{"TWO", 2}, blobValue{"UNE", 1}),
		"flags": b.enum("flags", true, blobValue{"NONE", 0}, blobValue{"A", 1}, blobValue{"B", 2},
			blobValue{"C", 4}, blobValue{"HIGH", 1 << 31}),
		"enum64": b.add(KindEnum64, false, 1, "big", 8, b.str("BIG"), 5, 1),
	}
	types["ptr"] = b.ptr(0)
	types["string"] = b.ptr(b.refer(KindConst, "", types["char"]))
	types["fn"] = b.ptr(b.proto(0))
	types["int[2]"] = b.array(types["int"], 2)
	types["int[2][2]"] = b.array(types["int[2]"], 2)
	types["char[4]"] = b.array(types["char"], 4)
	types["u8[3]"] = b.array(b.refer(KindTypedef, "u8", types["u8"]), 3)
	types["s8[2]"] = b.array(types["s8"], 2)
	types["flexible"] = b.array(types["int"], 0)
	types["union"] = b.composite(KindUnion, "", 4, blobMember{name: "a", typ: types["int"]},
		blobMember{name: "b", typ: types["u8[3]"]})
	types["anonymous"] = b.composite(KindStruct, "", 4, blobMember{name: "lo", typ: types["u16"]},
		blobMember{name: "hi", typ: types["u16"], offset: 16})
	types["empty"] = b.composite(KindStruct, "empty", 0)
	types["struct"] = b.composite(KindStruct, "s", 16,
		blobMember{name: "", typ: types["empty"]},
		blobMember{name: "", typ: types["anonymous"]},
		blobMember{name: "u", typ: types["union"], offset: 32},
		blobMember{name: "name", typ: types["char[4]"], offset: 64},
		blobMember{name: "", typ: types["union"], offset: 96},
		blobMember{name: "tail", typ: types["flexible"], offset: 128})
	types["bits"] = b.composite(KindStruct, "bits", 4,
		blobMember{name: "a", typ: types["u32"], offset: 0, bits: 3},
		blobMember{name: "s", typ: types["int"], offset: 3, bits: 7},
		blobMember{name: "", typ: types["int"], offset: 10, bits: 1},
		blobMember{name: "wide", typ: types["u32"], offset: 11, bits: 14},
		blobMember{name: "v", typ: types["verdict"], offset: 25, bits: 2},
		blobMember{name: "t", typ: types["bool"], offset: 27, bits: 1})
	// Before kind_flag, a bitfield was an INT with fewer bits, at an offset of
	// its own.
	old := b.add(KindInt, false, 0, "unsigned int", 4, 2<<16|5)
	types["old bits"] = b.add(KindStruct, false, 2, "old", 4,
		b.str("a"), uint32(types["u8"]), 0, b.str("b"), uint32(old), 8)
	types["outside"] = b.composite(KindStruct, "outside", 4, blobMember{name: "a", typ: types["int"], offset: 32},
		blobMember{name: "b", typ: types["int"], offset: 30, bits: 8}, blobMember{name: "", typ: types["union"], offset: 64})
	types["large"] = b.array(types["empty"], 1<<31)
	return b.parse(tb), types
}

func TestValues(t *testing.T) {
	types, ids := valueTypes(t)
	syms := symbols{"icmp_rcv", 0xffffffff81000000}
	for _, test := range []struct{ typ, raw, text, json string }{
		{"void", "", "void", "null"},
		{"int", "ffffffff", "-1", "-1"},
		{"int", "2a000000 ffff", "42", "42"},
		{"int", "2a0000", "<short>", "null"},
		{"short", "feff", "-2", "-2"},
		{"u16", "feff", "65534", "65534"},
		{"u32", "ffffffff", "4294967295", "4294967295"},
		{"s64", "00000000 00000080", "-9223372036854775808", "-9223372036854775808"},
		{"u64", "ffffffff ffffffff", "18446744073709551615", "18446744073709551615"},
		{"u128", "ffffffff ffffffff ffffffff ffffffff", "340282366920938463463374607431768211455", "340282366920938463463374607431768211455"},
		{"s128", "feffffff ffffffff ffffffff ffffffff", "-2", "-2"},
		{"s128", "00000000 00000000 00000000 00000080", "-170141183460469231731687303715884105728", "-170141183460469231731687303715884105728"},
		{"u128", "000064a7 b3b6e00d 00000000 00000000", "1000000000000000000", "1000000000000000000"},
		{"u128", "0000e889 0423c78a 00000000 00000000", "10000000000000000000", "10000000000000000000"},
		{"u128", "01000000 00000000 01000000 00000000", "18446744073709551617", "18446744073709551617"},
		{"int24", "feffff", "-2", "-2"},
		{"s8", "ff", "-1", "-1"},
		{"u8", "61", "97", "97"},
		{"char", "61", "'a'", "97"},
		{"char", "0a", `'\n'`, "10"},
		{"char", "00", `'\x00'`, "0"},
		{"char", "ff", "-1", "-1"},
		{"bool", "00", "false", "false"},
		{"bool", "02", "true", "true"},
		{"f32", "0000c03f", "1.5", "1.5"},
		{"f64", "000000000000f83f", "1.5", "1.5"},
		{"f64", "000000000000f07f", "+Inf", `"+Inf"`},
		{"f64", "010000000000f87f", "NaN", `"NaN"`},
		{"f128", "00000000000000000000000000000001", "[00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01]",
			`"[00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01]"`},
		{"verdict", "01000000", "NF_ACCEPT", `{"name":"NF_ACCEPT","value":1}`},
		{"verdict", "09000000", "9", `{"value":9}`},
		{"signed enum", "ffffffff", "MINUS", `{"name":"MINUS","value":-1}`},
		{"signed enum", "feffffff", "-2", `{"value":-2}`},
		{"two", "01000000", "ONE", `{"name":"ONE","value":1}`},
		{"two", "03000000", "3", `{"value":3}`},
		{"flags", "00000000", "NONE", `{"name":"NONE","value":0}`},
		{"flags", "05000000", "A|C", `{"name":"A|C","value":5}`},
		{"flags", "12000000", "B|0x10", `{"value":18}`},
		{"flags", "10000000", "16", `{"value":16}`},
		{"flags", "01000080", "A|HIGH", `{"name":"A|HIGH","value":-2147483647}`},
		{"enum64", "05000000 01000000", "BIG", `{"name":"BIG","value":4294967301}`},
		{"ptr", "00000000 00000000", "NULL", `"0x0"`},
		{"ptr", "00b7a103 8088ffff", "0xffff888003a1b700", `"0xffff888003a1b700"`},
		{"string", "00b7a103 8088ffff", "0xffff888003a1b700", `"0xffff888003a1b700"`},
		{"fn", "00000081 ffffffff", "icmp_rcv", `"0xffffffff81000000"`},
		{"fn", "10000081 ffffffff", "icmp_rcv+0x10", `"0xffffffff81000010"`},
		{"fn", "00010081 ffffffff", "0xffffffff81000100", `"0xffffffff81000100"`},
		{"fn", "00000000 00000000", "NULL", `"0x0"`},
		{"int[2]", "01000000 02000000", "[1, 2]", "[1,2]"},
		{"int[2][2]", "01000000 02000000 03000000 04000000", "[[1, 2], [3, 4]]", "[[1,2],[3,4]]"},
		{"char[4]", "6c6f0078", `"lo"`, `"lo"`},
		{"char[4]", "6c6f220a", `"lo\"\n"`, `"lo\"\n"`},
		{"char[4]", "00ffffff", `""`, `""`},
		{"char[4]", "61ff0041", "[61 ff 00 41]", `"a` + "\ufffd" + `"`},
		{"char[4]", "c3a40000", `"ä"`, `"ä"`},
		{"u8[3]", "0102ff", "[01 02 ff]", "[1,2,255]"},
		{"s8[2]", "01ff", "[1, -1]", "[1,-1]"},
		{"flexible", "", "[]", "[]"},
		{"empty", "", "{}", "{}"},
		{"union", "01000000", "{.a=1, .b=[01 00 00]}", `{"a":1,"b":[1,0,0]}`},
		{"struct", "0100 0200 07000000 65746800 08000000",
			`{.lo=1, .hi=2, .u={.a=7, .b=[07 00 00]}, .name="eth", .a=8, .b=[08 00 00], .tail=[]}`,
			`{"lo":1,"hi":2,"u":{"a":7,"b":[7,0,0]},"name":"eth","a":8,"b":[8,0,0],"tail":[]}`},
		{"bits", "f5fbff0b", "{.a=5, .s=-2, .wide=16383, .v=NF_ACCEPT, .t=true}",
			`{"a":5,"s":-2,"wide":16383,"v":{"name":"NF_ACCEPT","value":1},"t":true}`},
		{"old bits", "ff7c0000", "{.a=255, .b=31}", `{"a":255,"b":31}`},
		{"outside", "ffffffff", "{.a=<short>, .b=<short>, <short>}", `{"a":null,"b":null}`},
		{"large", "", "<large>", "null"},
	} {
		l, err := types.Layout(ids[test.typ])
		if err != nil {
			t.Errorf("%s: %v", test.typ, err)
			continue
		}
		raw, err := hex.DecodeString(strings.ReplaceAll(test.raw, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(l.AppendText([]byte("x"), raw, syms)); got != "x"+test.text {
			t.Errorf("%s %s: text %s instead of %s", test.typ, test.raw, got[1:], test.text)
		}
		got := string(l.AppendJSON([]byte("x"), raw, syms))
		if got != "x"+test.json {
			t.Errorf("%s %s: JSON %s instead of %s", test.typ, test.raw, got[1:], test.json)
		}
		if !json.Valid([]byte(got[1:])) {
			t.Errorf("%s %s: no JSON: %s", test.typ, test.raw, got[1:])
		}
		if len(raw) > 0 && len(raw) == l.Size {
			if got := string(l.AppendText(nil, raw[1:], nil)); got != "<short>" {
				t.Errorf("%s %s: %s when short", test.typ, test.raw, got)
			}
		}
	}
}

func TestUint(t *testing.T) {
	types, ids := valueTypes(t)
	for _, test := range []struct {
		typ  string
		want uint64
		ok   bool
	}{
		{"short", 0xffffffffffffff80, true},
		{"u16", 0xff80, true},
		{"flags", 0xffffffffffffff80, true},
		{"ptr", 0xffffffffffffff80, true},
		{"s128", 0, false},
		{"struct", 0, false},
		{"void", 0, false},
	} {
		l, err := types.Layout(ids[test.typ])
		if err != nil {
			t.Fatal(err)
		}
		raw := []byte{0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
		if v, ok := l.Uint(raw); v != test.want || ok != test.ok {
			t.Errorf("%s: %#x, %v", test.typ, v, ok)
		}
	}
}

func TestAppendAllocs(t *testing.T) {
	types, ids := valueTypes(t)
	buf := make([]byte, 0, 1024)
	raw := make([]byte, 64)
	for name, id := range ids {
		l, err := types.Layout(id)
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(10, func() {
			l.AppendText(buf, raw, symbols{})
			l.AppendJSON(buf, raw, nil)
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestQuote(t *testing.T) {
	for _, test := range []struct{ in, text, json string }{
		{"", `""`, `""`},
		{"eth0", `"eth0"`, `"eth0"`},
		{"a\"b\\c", `"a\"b\\c"`, `"a\"b\\c"`},
		{"\a\b\t\n\v\f\r\x1b\x7f", `"\a\b\t\n\v\f\r\x1b\x7f"`, `"\u0007\u0008\t\n\u000b\u000c\r\u001b` + "\x7f" + `"`},
		{"ä€😀", `"ä€😀"`, `"ä€😀"`},
		{"\xff\xc3", `"\xff\xc3"`, `"` + "\ufffd\ufffd" + `"`},
		{"\ufffd", "\"\ufffd\"", "\"\ufffd\""},
		{"\u200b", `"\xe2\x80\x8b"`, "\"\u200b\""},
	} {
		if got := string(AppendQuoted(nil, test.in)); got != test.text {
			t.Errorf("%q: text %s instead of %s", test.in, got, test.text)
		}
		if got := string(AppendJSONString(nil, []byte(test.in))); got != test.json {
			t.Errorf("%q: JSON %s instead of %s", test.in, got, test.json)
		}
	}
}

func FuzzAppendJSONString(f *testing.F) {
	f.Add([]byte("a\xffb\u2028\x00"))
	f.Fuzz(func(t *testing.T, s []byte) {
		var got string
		if err := json.Unmarshal(AppendJSONString(nil, s), &got); err != nil {
			t.Fatal(err)
		}
		if want := strings.ToValidUTF8(string(s), "\ufffd"); strings.ReplaceAll(got, "\ufffd", "") != strings.ReplaceAll(want, "\ufffd", "") {
			t.Errorf("%q instead of %q", got, want)
		}
	})
}

func TestLayoutErrors(t *testing.T) {
	b := newBlob(nil)
	i := b.int("int", 4, encSigned)
	self := b.next
	want := map[ID]string{
		b.composite(KindStruct, "self", 4, blobMember{name: "s", typ: self}): "more than 64 types in one another",
		b.add(KindFwd, false, 0, "fwd", 0):                                   "lay out struct fwd: struct fwd is incomplete",
		b.proto(0):                                                           "lay out void (void): a FUNC_PROTO is no value",
		b.int("huge", 17, 0):                                                 "lay out huge: integer of 17 bytes",
		b.add(KindEnum, false, 0, "e", 3):                                    "lay out enum e: enum of 3 bytes",
		b.array(i, math.MaxUint32):                                           "array of 4294967295 elements of 4 bytes",
		b.composite(KindStruct, "crooked", 8, blobMember{name: "m", typ: i, offset: 3}): `lay out struct crooked: member "m": at bit 3, but no bitfield`,
		b.composite(KindStruct, "wide", 8, blobMember{name: "m", typ: i, bits: 65}):     `lay out struct wide: member "m": bitfield of 65 bits of type int`,
		b.refer(KindConst, "", b.next): "more than 64 typedefs and qualifiers in a row",
		9999:                           "no type 9999",
	}
	types := b.parse(t)
	for id, w := range want {
		if _, err := types.Layout(id); err == nil || !strings.HasSuffix(err.Error(), w) {
			t.Errorf("type %d: %v instead of %s", id, err, w)
		}
	}
}

// TestEnumerators: names of values, with their signs also where no enum's flag tells.
func TestEnumerators(t *testing.T) {
	untold, told := newBlob(nil), newBlob(nil)
	untold.enum("small", false, blobValue{"MINUS", 0xffffffff}, blobValue{"LEAST", 0xfffff000}, blobValue{"TWICE", 1})
	untold.enum("bits", false, blobValue{"ALL", 0xffffffff}, blobValue{"HIGH", 1 << 31})
	untold.enum("other", false, blobValue{"TWICE", 2})
	told.enum("small", false, blobValue{"MINUS", 0xffffffff})
	told.enum("e", true, blobValue{"LESS", 0xfffffffe})
	told.add(KindEnum64, false, 1, "big", 8, told.str("BIG"), 5, 1)
	told.add(KindEnum64, true, 1, "low", 8, told.str("LOW"), 0, 0xffffffff)
	base := told.parse(t)
	for _, test := range []struct {
		types *Types
		name  string
		want  []Enumerator
	}{
		{untold.parse(t), "MINUS", []Enumerator{{1, 1<<64 - 1, true}}},
		{untold.parse(t), "LEAST", []Enumerator{{1, 1<<64 - 4096, true}}},
		{untold.parse(t), "ALL", []Enumerator{{2, 0xffffffff, false}}},
		{untold.parse(t), "TWICE", []Enumerator{{1, 1, true}, {3, 2, false}}},
		{base, "MINUS", []Enumerator{{1, 0xffffffff, false}}},
		{base, "LESS", []Enumerator{{2, 1<<64 - 2, true}}},
		{base, "BIG", []Enumerator{{3, 5 + 1<<32, false}}},
		{base, "LOW", []Enumerator{{4, 0xffffffff << 32, true}}},
		{newBlob(base).parse(t), "LESS", []Enumerator{{2, 1<<64 - 2, true}}},
		{base, "NONE", nil},
		{base, "", nil},
	} {
		for range 2 { // found, and remembered
			if got := test.types.Enumerators(test.name); !slices.Equal(got, test.want) {
				t.Errorf("%s: %v, want %v", test.name, got, test.want)
			}
		}
	}
	split := newBlob(base)
	id := split.enum("of a module", false, blobValue{"ABOVE", 0xffffffff})
	l, err := split.parse(t).Layout(id)
	if err != nil || l.Signed {
		t.Errorf("an enum of a module: %+v, %v", l, err)
	}
	if l, err = untold.parse(t).Layout(1); err != nil || !l.Signed || string(l.AppendText(nil, []byte{255, 255, 255, 255}, nil)) != "MINUS" {
		t.Errorf("an enum of an old kernel: %+v, %v", l, err)
	}
}
