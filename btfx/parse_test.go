package btfx

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"
)

func TestParseErrors(t *testing.T) {
	valid := func() []byte {
		b := newBlob(nil)
		b.ptr(b.int("int", 4, encSigned))
		return b.bytes()
	}
	patch := func(at int, v uint32) []byte {
		raw := valid()
		binary.LittleEndian.PutUint32(raw[at:], v)
		return raw
	}
	const types = headerSize
	for name, test := range map[string]struct {
		raw  []byte
		want string
	}{
		"empty":         {nil, "0 bytes are no header"},
		"magic":         {patch(0, 0x01000000), "magic 0x0 instead of 0xeb9f"},
		"big endian":    {patch(0, 0x10000|0x9feb), "big-endian"},
		"version":       {patch(0, 0x20000|magic), "version 2 instead of 1"},
		"short header":  {patch(4, 20), "header of 20 bytes in 57"},
		"long header":   {patch(4, 1<<31), "header of 2147483648 bytes in 57"},
		"types outside": {patch(12, 1<<31), "section of types at 0 of 2147483648 bytes lies outside the 33 bytes after the header"},
		"strs outside":  {patch(16, 1<<31), "section of strings at 2147483648 of 5 bytes lies outside the 33 bytes after the header"},
		"strs without NUL": {func() []byte {
			raw := valid()
			raw[len(raw)-1] = 'x'
			return raw
		}(), "section of strings doesn't end in NUL"},
		"unknown kind":   {patch(types+16+4, 20<<24), "type 2 at offset 16: unknown kind 20"},
		"void":           {patch(types+16+4, 0), "type 2 at offset 16: unknown kind 0"},
		"record cut off": {patch(12, 20), "type 2 at offset 16: cut off"},
		"tail cut off":   {patch(types+16+4, uint32(KindArray)<<24), "type 2 (ARRAY) at offset 16: cut off"},
		"many members":   {patch(types+16+4, uint32(KindStruct)<<24|0xffffff), "type 2 (STRUCT) at offset 16: cut off"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(test.raw, nil)
			if err == nil || err.Error() != "parse btf: "+test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

// Later versions of the format have more in the header.
func TestParseLongHeader(t *testing.T) {
	b := newBlob(nil)
	b.int("int", 4, encSigned)
	raw := b.bytes()
	long := append(append(bytes.Clone(raw[:headerSize]), make([]byte, 8)...), raw[headerSize:]...)
	binary.LittleEndian.PutUint32(long[4:], headerSize+8)
	types, err := Parse(long, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := types.TypeName(1); got != "int" {
		t.Error(got)
	}
}

// splitBTF has types of its own, and uses types and strings of the fixture.
func splitBTF(tb testing.TB) (raw []byte, base *Types) {
	base = fixtureTypes(tb)
	b := newBlob(base)
	sk, _ := base.FindType(KindStruct, "sk_buff")
	i, _ := base.FindType(KindInt, "int")
	proto := b.proto(i, "skb", b.ptr(sk))
	b.add(KindFunc, false, 0, "mod_rcv", uint32(proto))
	b.add(KindFunc, false, 0, "mod_rcv", uint32(proto))
	b.composite(KindStruct, "mod", 8, blobMember{name: "count", typ: i}, blobMember{name: "more", typ: i, offset: 32})

	// A function called like one of the base has the base's string.
	icmp, _ := base.FindFunc("icmp_rcv")
	le := binary.LittleEndian
	rec := le.AppendUint32(nil, base.nameOffset(icmp))
	rec = le.AppendUint32(rec, uint32(KindFunc)<<24)
	rec = le.AppendUint32(rec, uint32(proto))
	b.types = append(b.types, rec...)
	return b.bytes(), base
}

func TestSplit(t *testing.T) {
	raw, base := splitBTF(t)
	types, err := Parse(raw, base)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for id := range types.Funcs {
		got = append(got, types.Prototype(id))
	}
	want := []string{"int mod_rcv(struct sk_buff *skb)", "int mod_rcv(struct sk_buff *skb)", "int icmp_rcv(struct sk_buff *skb)"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	var names []string
	for _, name := range types.Funcs {
		names = append(names, name)
	}
	if diff := cmp.Diff([]string{"mod_rcv", "mod_rcv", "icmp_rcv"}, names); diff != "" {
		t.Error(diff)
	}
	if ids := types.FindFuncs("mod_rcv"); len(ids) != 2 {
		t.Errorf("mod_rcv: %v", ids)
	}
	own, ok := types.FindFunc("icmp_rcv")
	if first, _ := types.IDs(); !ok || own < first {
		t.Errorf("icmp_rcv: found %d in the base", own)
	}
	if _, ok := types.FindFunc("tcp_v4_rcv"); ok {
		t.Error("tcp_v4_rcv: found in the base")
	}
	if id, ok := types.FindType(KindStruct, "sock"); !ok || types.TypeName(id) != "struct sock" {
		t.Error("struct sock: not found in the base")
	}
	if f, err := types.Member(mustFind(t, types, KindStruct, "mod"), "more"); err != nil || f.Offset != 32 {
		t.Errorf("mod.more: %+v, %v", f, err)
	}

	spec, err := btf.LoadSpecFromReader(bytes.NewReader(fixtureBTF(t)))
	if err != nil {
		t.Fatal(err)
	}
	if spec, err = btf.LoadSplitSpecFromReader(bytes.NewReader(raw), spec); err != nil {
		t.Fatal(err)
	}
	o := oracle{t, spec, types}
	for first, end := types.IDs(); first < end; first++ {
		typ, err := spec.TypeByID(btf.TypeID(first))
		if err != nil {
			t.Fatal(err)
		}
		o.compare(first, typ)
	}
}

func mustFind(tb testing.TB, t *Types, kind Kind, name string) ID {
	tb.Helper()
	id, ok := t.FindType(kind, name)
	if !ok {
		tb.Fatalf("%s %s not found", kind, name)
	}
	return id
}
