package digits

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

func TestAppend(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	values := []uint64{0, 1, 9, 10, 99, 100, 101, 999, 1000, math.MaxInt64, math.MaxInt64 + 1, math.MaxUint64}
	for range 10000 {
		values = append(values, rng.Uint64()>>rng.IntN(64))
	}
	for _, v := range values {
		for _, c := range []struct{ name, got, want string }{
			{"AppendHex", string(AppendHex(nil, v)), fmt.Sprintf("%x", v)},
			{"AppendUint", string(AppendUint(nil, v)), fmt.Sprintf("%d", v)},
			{"AppendInt", string(AppendInt(nil, int64(v))), fmt.Sprintf("%d", int64(v))},
			{"Decimal8", word(Decimal8(v % 1e8)), fmt.Sprintf("%08d", v%1e8)},
			{"Decimal8 without zeros", word(Decimal8(v % 1e8))[LeadingZeros(Decimal8(v%1e8)):], fmt.Sprint(v % 1e8)},
			{"SmallOf", word(uint64(SmallOf(v % 1e3).Digits))[:SmallOf(v%1e3).Len], fmt.Sprint(v % 1e3)},
			{"Decimal3", word(Decimal3(v % 1e3))[:3], fmt.Sprintf("%03d", v%1e3)},
			{"Hex8", word(Hex8(v & 0xffffffff)), fmt.Sprintf("%08x", v&0xffffffff)},
		} {
			if c.got != c.want {
				t.Fatalf("%s(%d): got %q, want %q", c.name, v, c.got, c.want)
			}
		}
	}
}

// word returns the bytes of a word, the lowest first.
func word(w uint64) string { return string(binary.LittleEndian.AppendUint64(nil, w)) }
