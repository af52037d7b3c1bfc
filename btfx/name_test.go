package btfx

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// golden compares text with a file in testdata, or writes it.
func golden(t *testing.T, file, got string) {
	t.Helper()
	file = filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-update writes it):\n%s", file, diff)
	}
}

func TestPrototypes(t *testing.T) {
	types := fixtureTypes(t)
	var b strings.Builder
	for id := range types.Funcs {
		fmt.Fprintln(&b, types.Prototype(id))
	}
	golden(t, "prototypes.golden", b.String())
}

func TestDeclarations(t *testing.T) {
	types := fixtureTypes(t)
	var b strings.Builder
	for _, name := range []string{"sk_buff", "sock", "iov_iter", "tcphdr", "proto_ops", "bpf_prog"} {
		id := mustFind(t, types, KindStruct, name)
		fields, err := types.Fields(id)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s {\n", types.TypeName(id))
		for _, f := range fields {
			fmt.Fprintf(&b, "\t%s", types.DeclName(f.Type, f.Name))
			if f.Bits != 0 {
				fmt.Fprintf(&b, " : %d", f.Bits)
			}
			fmt.Fprintf(&b, "; // %d\n", f.Offset)
		}
		fmt.Fprintln(&b, "}")
	}
	golden(t, "structs.golden", b.String())
}

func TestTypeName(t *testing.T) {
	b := newBlob(nil)
	i := b.int("int", 4, encSigned)
	char := b.int("char", 1, encSigned)
	u8 := b.refer(KindTypedef, "u8", b.int("unsigned char", 1, 0))
	sock := b.composite(KindStruct, "sock", 0)
	constChar := b.refer(KindConst, "", char)
	fn := b.proto(i, "", b.ptr(sock), "", i)
	fnPtr := b.ptr(fn)
	handler := b.ptr(b.proto(0, "sig", i))
	loop := b.next
	b.refer(KindConst, "", loop)
	selfProto := b.next + 1
	b.ptr(selfProto)
	b.proto(0, "", selfProto-1, "", selfProto-1)

	type decl struct{ abstract, named string }
	want := make(map[ID]decl)
	add := func(id ID, abstract, named string) { want[id] = decl{abstract, named} }
	add(0, "void", "void x")
	add(i, "int", "int x")
	add(u8, "u8", "u8 x")
	add(b.ptr(0), "void *", "void *x")
	add(b.ptr(sock), "struct sock *", "struct sock *x")
	add(b.ptr(constChar), "const char *", "const char *x")
	add(b.refer(KindConst, "", b.ptr(char)), "char *const", "char *const x")
	add(b.ptr(b.refer(KindConst, "", b.ptr(constChar))), "const char *const *", "const char *const *x")
	add(b.refer(KindRestrict, "", b.ptr(0)), "void *restrict", "void *restrict x")
	add(b.refer(KindVolatile, "", b.refer(KindConst, "", i)), "volatile const int", "volatile const int x")
	add(b.refer(KindConst, "", constChar), "const char", "const char x")
	add(b.array(u8, 16), "u8[16]", "u8 x[16]")
	add(b.array(b.array(i, 3), 2), "int[2][3]", "int x[2][3]")
	add(b.array(b.ptr(char), 4), "char *[4]", "char *x[4]")
	add(b.ptr(b.array(i, 4)), "int (*)[4]", "int (*x)[4]")
	add(b.refer(KindConst, "", b.array(constChar, 8)), "const char[8]", "const char x[8]")
	add(b.array(char, 0), "char[0]", "char x[0]")
	add(fn, "int (struct sock *, int)", "int x(struct sock *, int)")
	add(fnPtr, "int (*)(struct sock *, int)", "int (*x)(struct sock *, int)")
	add(b.array(fnPtr, 3), "int (*[3])(struct sock *, int)", "int (*x[3])(struct sock *, int)")
	add(b.proto(handler, "sig", i, "h", handler), "void (*(int sig, void (*h)(int sig)))(int sig)",
		"void (*x(int sig, void (*h)(int sig)))(int sig)")
	add(b.proto(i, "fmt", b.ptr(constChar), "", ID(0)), "int (const char *fmt, ...)", "int x(const char *fmt, ...)")
	add(b.proto(0), "void (void)", "void x(void)")
	add(b.refer(KindConst, "", fnPtr), "int (*const)(struct sock *, int)", "int (*const x)(struct sock *, int)")
	add(b.composite(KindStruct, "", 0), "struct {...}", "struct {...} x")
	add(b.composite(KindUnion, "u", 0), "union u", "union u x")
	add(b.enum("", false), "enum {...}", "enum {...} x")
	add(b.add(KindEnum64, false, 0, "big", 8), "enum big", "enum big x")
	add(b.add(KindFwd, false, 0, "f", 0), "struct f", "struct f x")
	add(b.add(KindFwd, true, 0, "f", 0), "union f", "union f x")
	add(b.ptr(b.refer(KindTypeTag, "user", char)), "char *", "char *x")
	add(b.ptr(b.refer(KindTypeTag, "rcu", b.refer(KindConst, "", sock))), "const struct sock *", "const struct sock *x")
	add(b.add(KindFloat, false, 0, "double", 8), "double", "double x")
	add(b.refer(KindFunc, "f", fn), badType, badType+" x")
	add(b.ptr(9999), badType, badType+" x")
	add(loop, badType, badType+" x")
	add(selfProto, badType, badType+" x")

	types := b.parse(t)
	for id, w := range want {
		if got := types.TypeName(id); got != w.abstract {
			t.Errorf("type %d: %q instead of %q", id, got, w.abstract)
		}
		if got := types.DeclName(id, "x"); got != w.named {
			t.Errorf("type %d: %q instead of %q", id, got, w.named)
		}
	}
}
