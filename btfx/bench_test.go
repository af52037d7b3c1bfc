package btfx

import (
	"os"
	"strconv"
	"testing"
)

// hostBTF returns the running kernel's BTF, and skips the test if there is
// none to be read.
func hostBTF(tb testing.TB) []byte {
	tb.Helper()
	raw, err := os.ReadFile("/sys/kernel/btf/vmlinux")
	if err != nil {
		tb.Skip("no BTF of a running kernel: ", err)
	}
	return raw
}

func hostTypes(tb testing.TB) *Types {
	tb.Helper()
	t, err := Parse(hostBTF(tb), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

func BenchmarkParse(b *testing.B) {
	raw := hostBTF(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(raw, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseFindFunc(b *testing.B) {
	raw := hostBTF(b)
	b.ReportAllocs()
	for b.Loop() {
		t, err := Parse(raw, nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, ok := t.FindFunc("icmp_rcv"); !ok {
			b.Fatal("icmp_rcv not found")
		}
	}
}

func BenchmarkFindFunc(b *testing.B) {
	t := hostTypes(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := t.FindFunc("no_such_function"); ok {
			b.Fatal("found")
		}
	}
}

func BenchmarkFindType(b *testing.B) {
	t := hostTypes(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, ok := t.FindType(KindStruct, "no_such_struct"+strconv.Itoa(i)); ok { // a name alone is remembered
			b.Fatal("found")
		}
	}
}

func BenchmarkFuncs(b *testing.B) {
	t := hostTypes(b)
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for _, name := range t.Funcs {
			n += len(name)
		}
	}
}

func BenchmarkPrototype(b *testing.B) {
	t := hostTypes(b)
	id, _ := t.FindFunc("tcp_v4_rcv")
	b.ReportAllocs()
	for b.Loop() {
		t.Prototype(id)
	}
}

func BenchmarkLayoutSkBuff(b *testing.B) {
	raw := hostBTF(b)
	for b.Loop() {
		b.StopTimer()
		t, _ := Parse(raw, nil)
		id, _ := t.FindType(KindStruct, "sk_buff")
		b.StartTimer()
		if _, err := t.Layout(id); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	t := hostTypes(b)
	raw := []byte{0x12, 0x34, 0x56, 0x78, 0x80, 0x88, 0xff, 0xff}
	buf := make([]byte, 0, 256)
	find := func(kind Kind, name string) *Layout {
		id, ok := t.FindType(kind, name)
		if !ok {
			b.Fatal(name)
		}
		l, err := t.Layout(id)
		if err != nil {
			b.Fatal(err)
		}
		return l
	}
	for name, l := range map[string]*Layout{
		"int":     find(KindInt, "int"),
		"u64":     find(KindTypedef, "u64"),
		"pointer": {Kind: Pointer, Size: 8},
		"enum":    find(KindEnum, "bpf_attach_type"),
	} {
		b.Run("text/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				buf = l.AppendText(buf[:0], raw, nil)
			}
		})
		b.Run("json/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				buf = l.AppendJSON(buf[:0], raw, nil)
			}
		})
	}
}
