package render

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestLine adds pieces of all kinds in any order, to lines of any length.
func TestLine(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	var l line
	for range 300 {
		l.begin([]byte("before"))
		want := "before"
		for range rng.IntN(300) {
			v := rng.Uint64() >> rng.IntN(64)
			text := strings.Repeat("0123456789", 400)[:rng.IntN(40)*rng.IntN(100)]
			l.room()
			switch rng.IntN(8) {
			case 0:
				l.uint(v)
				want += fmt.Sprint(v)
			case 1:
				l.int(int64(v))
				want += fmt.Sprint(int64(v))
			case 2:
				l.hex(v)
				want += fmt.Sprintf("%#x", v)
			case 3:
				l.thousandths(v % 1e6)
				want += fmt.Sprintf("%.3f", float64(v%1e6)/1000)
			case 4:
				f := newFragment([]byte(text))
				l.fragment(&f)
				want += text
			case 5:
				l.long([]byte(text))
				want += text
			case 6:
				l.string("\x1b[31m")
				l.string("")
				l.short("sixteen bytes, x")
				want += "\x1b[31msixteen bytes, x"
			case 7:
				l.begin(append(l.end(), text...))
				want += text
			}
		}
		if got := string(l.end()); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}

// TestAddress spells addresses again, and others in between.
func TestAddress(t *testing.T) {
	var l line
	var one, other address
	l.begin(nil)
	want := ""
	for _, v := range []uint64{1, 1, 0xffff888003a1b700, 0xffff888003a1b700, 1, 0xdead, 1} {
		l.room()
		l.address(v, &one)
		l.address(v+1, &other)
		want += fmt.Sprintf("%#x%#x", v, v+1)
	}
	if got := string(l.end()); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
