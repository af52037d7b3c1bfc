package kallsyms

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A Text must name what a Table of the same list names.
func TestTextIsTable(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var list strings.Builder
	addr := uint64(0xffffffff81000000)
	var addrs []uint64
	for i := range 50 {
		fmt.Fprintf(&list, "%016x A percpu_%d\n", i*64, i)
	}
	for i := range 3000 {
		if rng.IntN(4) != 0 {
			addr += uint64(rng.IntN(300))
		}
		if rng.IntN(100) == 0 {
			addr += maxCode + 1000
		}
		typ := "tTdDbwWr"[rng.IntN(8)]
		name := fmt.Sprintf("sym_%d", i)
		switch rng.IntN(60) {
		case 0:
			name = "$x"
		case 1:
			name = "_etext"
		}
		fmt.Fprintf(&list, "%016x %c %s\n", addr, typ, name)
		addrs = append(addrs, addr)
	}
	for i := range 200 {
		module := []string{"nf_tables", "veth", ModuleBPF}[i/70]
		at := 0xffffffffc0000000 + uint64(rng.IntN(1<<20))
		fmt.Fprintf(&list, "%016x t mod_%d\t[%s]\n", at, i, module)
		addrs = append(addrs, at)
	}
	table, err := Load(strings.NewReader(list.String()))
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	text, err := ReadText(strings.NewReader(list.String()), func(uint64, byte, []byte, []byte) { lines++ })
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Count(list.String(), "\n"); lines != want {
		t.Errorf("saw %d symbols of %d", lines, want)
	}
	for range 20000 {
		addr := addrs[rng.IntN(len(addrs))] + uint64(rng.IntN(400)) - 100
		want, wantOK := table.Symbol(addr)
		got, gotOK := text.Symbol(addr)
		if diff := cmp.Diff(want, got); diff != "" || wantOK != gotOK {
			t.Fatalf("%#x: found %v, the table %v\n%s", addr, gotOK, wantOK, diff)
		}
	}
}

// A list that is not sorted, which no kernel gives, is still searched right.
func TestTextUnsorted(t *testing.T) {
	text, err := ReadText(strings.NewReader("ffffffff81002000 t b\nffffffff81001000 t a\n"), func(uint64, byte, []byte, []byte) {})
	if err != nil {
		t.Fatal(err)
	}
	got, ok := text.Symbol(0xffffffff81001010)
	if want := (Sym{Name: "a", Addr: 0xffffffff81001000, Offset: 0x10}); !ok || got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}
