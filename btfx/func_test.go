package btfx

import (
	"errors"
	"testing"
)

func TestArgWords(t *testing.T) {
	b := newBlob(nil)
	i := b.int("int", 4, encSigned)
	sized := func(kind Kind, size uint32) ID { return b.composite(kind, "s", size) }
	want := map[ID]int{ // 0: not supported
		0:                                   0,
		i:                                   1,
		b.ptr(0):                            1,
		b.int("__int128", 16, encSigned):    2,
		b.enum("e", false):                  1,
		b.add(KindEnum64, false, 0, "e", 8): 1,
		sized(KindStruct, 0):                0,
		sized(KindStruct, 1):                1,
		sized(KindStruct, 8):                1,
		sized(KindStruct, 9):                2,
		sized(KindStruct, 16):               2,
		sized(KindStruct, 17):               0,
		sized(KindUnion, 16):                2,
		b.add(KindFloat, false, 0, "f", 4):  0,
		b.array(i, 1):                       0,
		b.refer(KindTypedef, "t", b.refer(KindConst, "", i)): 1,
	}
	types := b.parse(t)
	for id, w := range want {
		got, err := types.ArgWords(id)
		var unsupported *UnsupportedArgError
		if got != w || (w == 0) != errors.As(err, &unsupported) {
			t.Errorf("%s: %d words, %v", types.TypeName(id), got, err)
		}
	}
}

func TestArgWordsFixture(t *testing.T) {
	types := fixtureTypes(t)
	for _, test := range []struct {
		fn   string
		want []int
	}{
		{"icmp_rcv", []int{1}},
		{"tcp_setsockopt", []int{1, 1, 1, 2, 1}},
		{"from_kuid", []int{1, 1}},
		{"ZSTD_adjustCParams", []int{0, 1, 1}},
	} {
		fn, ok := types.FindFunc(test.fn)
		if !ok {
			t.Fatal(test.fn)
		}
		p, err := types.Proto(fn)
		if err != nil {
			t.Fatal(err)
		}
		for i, param := range p.Params {
			if got, _ := types.ArgWords(param.Type); got != test.want[i] {
				t.Errorf("%s: %s has %d words instead of %d", test.fn, param.Name, got, test.want[i])
			}
		}
	}
}

func TestProtoErrors(t *testing.T) {
	types := fixtureTypes(t)
	sk := mustFind(t, types, KindStruct, "sk_buff")
	for id, want := range map[ID]string{
		sk:      "a STRUCT is no function",
		1 << 30: "no type 1073741824",
	} {
		if _, err := types.Proto(id); err == nil || !hasSuffix(err, want) {
			t.Errorf("%d: %v instead of %s", id, err, want)
		}
	}
}

func hasSuffix(err error, s string) bool {
	return len(err.Error()) >= len(s) && err.Error()[len(err.Error())-len(s):] == s
}

func TestMember(t *testing.T) {
	types := fixtureTypes(t)
	sk := mustFind(t, types, KindStruct, "sk_buff")
	for _, test := range []struct{ path, typ string }{
		{"len", "unsigned int"},
		{"next", "struct sk_buff *"}, // in an anonymous union and struct
		{"list.next", "struct list_head *"},
		{"protocol", "__be16"}, // in a struct_group
		{"headers.protocol", "__be16"},
	} {
		f, err := types.Member(sk, test.path)
		if err != nil {
			t.Errorf("%s: %v", test.path, err)
			continue
		}
		if got := types.TypeName(f.Type); got != test.typ {
			t.Errorf("%s: %s instead of %s", test.path, got, test.typ)
		}
	}
	for path, want := range map[string]string{
		"nothing":      "find member nothing of struct sk_buff: struct sk_buff has no member nothing",
		"len.x":        "find member len.x of struct sk_buff: unsigned int has no member x",
		"":             "find member  of struct sk_buff: struct sk_buff has no member ",
		"list.next.up": "find member list.next.up of struct sk_buff: struct list_head * has no member up",
	} {
		if _, err := types.Member(sk, path); err == nil || err.Error() != want {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestFindNothing(t *testing.T) {
	types := fixtureTypes(t)
	for _, name := range []string{"", "icmp_rc", "cmp_rcv", "icmp_rcv\x00", "no such name"} {
		if id, ok := types.FindFunc(name); ok {
			t.Errorf("%q: found %d", name, id)
		}
		if v, ok := types.FindVar(name); ok {
			t.Errorf("%q: found %v", name, v)
		}
	}
}

func TestErrnoName(t *testing.T) {
	for n, want := range map[int]string{0: "", -2: "", 2: "ENOENT", 11: "EAGAIN", 41: "", 133: "EHWPOISON", 512: "ERESTARTSYS",
		517: "EPROBE_DEFER", 524: "ENOTSUPP", 531: "ENOGRACE", 4096: ""} {
		if got := ErrnoName(n); got != want {
			t.Errorf("%d: %q instead of %q", n, got, want)
		}
	}
}
