package calls

import (
	"math/rand/v2"
	"testing"
)

// The table must do what a map does.
func TestTableIsMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	var got table
	want := make(map[uint64]*Call)
	for range 200000 {
		frame := 0xffffc90000100000 + uint64(rng.IntN(500))*8*uint64(1+rng.IntN(3))
		if rng.IntN(2) == 0 {
			c := &Call{}
			if old := got.put(frame, c); old != want[frame] {
				t.Fatalf("put %#x: replaced %p, want %p", frame, old, want[frame])
			}
			want[frame] = c
		} else {
			if c := got.take(frame); c != want[frame] {
				t.Fatalf("take %#x: got %p, want %p", frame, c, want[frame])
			}
			delete(want, frame)
		}
		if got.used != len(want) {
			t.Fatalf("%d used, want %d", got.used, len(want))
		}
	}
}
