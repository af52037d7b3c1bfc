package learn

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// sample is one as 7.2 makes it.
const sample = "62000000 66000000 d3afa27f01000000 1c000000 0100010466000000 14f0e6adffffffff e121d6adffffffff 00000000"

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestParseSample(t *testing.T) {
	raw := unhex(t, sample)
	want := Call{IP: 0xffffffffade6f014, Parent: 0xffffffffadd621e1, Time: 0x17fa2afd3, Tid: 0x66}
	if got, ok := ParseSample(raw); got != want || !ok {
		t.Errorf("%+v, %v", got, ok)
	}
	if got, ok := ParseSample(raw[:callEnd]); got != want || !ok {
		t.Errorf("without padding: %+v, %v", got, ok)
	}
	for _, n := range []int{0, 8, 20, callEnd - 1} {
		if got, ok := ParseSample(raw[:n]); ok {
			t.Errorf("%d bytes: %+v", n, got)
		}
	}
	binary.LittleEndian.PutUint32(raw[sizeAt:], 20)
	if got, ok := ParseSample(raw); ok {
		t.Errorf("an entry of 20 bytes: %+v", got)
	}
}

func FuzzParseSample(f *testing.F) {
	f.Add(unhex(f, sample))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		if c, ok := ParseSample(raw); ok != (len(raw) >= callEnd && raw[sizeAt] >= callEnd-entryAt || ok) || !ok && c != (Call{}) {
			t.Errorf("%+v, %v", c, ok)
		}
	})
}

func TestEdges(t *testing.T) {
	e := NewEdges(3)
	for i, step := range []struct {
		parent, ip uint64
		want       bool
	}{
		{1, 2, true}, {1, 2, false}, {2, 1, true}, {0, 0, false}, {0, 7, true}, {0, 7, false},
		{9, 9, false}, {9, 9, false}, {1, 2, false},
	} {
		if got := e.Add(step.parent, step.ip); got != step.want {
			t.Errorf("%d: %d, %d: %v", i, step.parent, step.ip, got)
		}
	}
	if e.Len() != 3 || e.Dropped() != 2 || !e.Has(2, 1) || e.Has(9, 9) || e.Has(0, 0) {
		t.Errorf("%d pairs, %d dropped", e.Len(), e.Dropped())
	}
	e.Reset()
	if e.Len() != 0 || e.Dropped() != 0 || e.Has(2, 1) || !e.Add(2, 1) {
		t.Error("not empty after a reset")
	}
	var none Edges
	if none.Add(1, 2) || none.Has(1, 2) || none.Len() != 0 {
		t.Error("the zero value takes pairs")
	}
}

// Addresses as a kernel has them: 16 bytes apart, few bits that differ.
func TestEdgesMany(t *testing.T) {
	const count = 200_000
	e := NewEdges(count)
	known := map[Pair]bool{}
	r := rand.New(rand.NewPCG(1, 2))
	for range 2 * count {
		p := Pair{0xffffffff81000000 + r.Uint64N(2000)*4, 0xffffffff81000004 + r.Uint64N(400)*16}
		if got := e.Add(p.Parent, p.IP); got == known[p] {
			if len(known) < count {
				t.Fatalf("%x: new is %v", p, got)
			}
			continue
		}
		known[p] = true
	}
	all := e.Append(nil)
	if len(all) != e.Len() || len(known) != e.Len() {
		t.Errorf("%d pairs, %d told, want %d", e.Len(), len(all), len(known))
	}
	for _, p := range all {
		if !known[p] {
			t.Fatalf("%x was never added", p)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	e := NewEdges(100)
	for i := range uint64(100) {
		e.Add(i+1, i)
	}
	w := NewWindows(1000)
	c := Call{IP: 5, Parent: 6, Tid: 7}
	for range 2000 {
		w.Note(c)
	}
	if n := testing.AllocsPerRun(100, func() { e.Add(50, 49); e.Add(500, 499); w.Note(c) }); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}

func BenchmarkAddKnown(b *testing.B) {
	e := NewEdges(1 << 16)
	for i := range uint64(1 << 15) {
		e.Add(0xffffffff81000000+i*64, 0xffffffff82000000+i*16)
	}
	for i := uint64(0); b.Loop(); i++ {
		i %= 1 << 15
		e.Add(0xffffffff81000000+i*64, 0xffffffff82000000+i*16)
	}
}

func TestWindows(t *testing.T) {
	calls := []Call{
		{IP: 1, Parent: 10, Time: 100, Tid: 7, CPU: 0},
		{IP: 2, Parent: 10, Time: 110, Tid: 7, CPU: 0},
		{IP: 2, Parent: 10, Time: 111, Tid: 7, CPU: 0},
		{IP: 3, Parent: 10, Time: 113, Tid: 8, CPU: 0},
		{IP: 9, Parent: 10, Time: 116, Tid: 7, CPU: 0}, // it interrupted the next
		{IP: 4, Parent: 10, Time: 115, Tid: 7, CPU: 0},
		{IP: 5, Parent: 10, Time: 130, Tid: 7, CPU: 3}, // moved
		{IP: 6, Parent: 10, Time: 131, Tid: 0, CPU: 0},
		{IP: 7, Parent: 10, Time: 131, Tid: 0, CPU: 3},
		{IP: 8, Parent: 10, Time: 132, Tid: 7, CPU: -1},
		{IP: 8, Parent: 10, Time: 132, Tid: 7, CPU: 1 << 20},
	}
	w := NewWindows(1000)
	for _, c := range calls {
		w.Note(c)
	}
	for _, test := range []struct {
		tid         uint32
		cpu         int
		entry, exit uint64
		want        string
	}{
		{7, 0, 100, 140, "1 2 9 4 5"},
		{7, 3, 100, 140, "1 2 9 4 5"},
		{7, 0, 101, 115, "2 4"},
		{7, 0, 116, 116, "9"},
		{8, 0, 0, 1000, "3"},
		{9, 0, 0, 1000, ""},
		{7, 0, 200, 300, ""},
		{7, 0, 140, 100, ""},
		{0, 0, 100, 140, "6"},
		{0, 3, 100, 140, "7"},
		{0, 1, 100, 140, ""},
		{0, 99, 100, 140, ""},
	} {
		pairs, whole := w.Root(test.tid, test.cpu, test.entry, test.exit, nil)
		if got := ips(pairs); got != test.want || !whole {
			t.Errorf("%+v: %q, %v", test, got, whole)
		}
	}
}

func ips(pairs []Pair) string {
	var parts []string
	for _, p := range pairs {
		parts = append(parts, fmt.Sprint(p.IP))
	}
	return strings.Join(parts, " ")
}

// What was overwritten is missed, and said to be.
func TestWindowsOverwrite(t *testing.T) {
	w := NewWindows(1000) // 1024
	for i := range uint64(3000) {
		w.Note(Call{IP: i + 1, Parent: 10, Time: 1000 + i, Tid: 7, CPU: 1})
	}
	// Of the block that was begun last, 2816 to 2999, the rest is 1976 to 2047: gone
	// as far as it is told, and given where it is still there.
	for _, test := range []struct {
		entry, exit uint64
		count       int
		whole       bool
	}{
		{1000 + 2048, 9999, 952, true},
		{1000 + 2047, 9999, 953, false},
		{0, 9999, 1024, false},
		{1000 + 2990, 1000 + 2994, 5, true},
		{1000, 1500, 0, false},
	} {
		pairs, whole := w.Root(7, 0, test.entry, test.exit, nil)
		if len(pairs) != test.count || whole != test.whole {
			t.Errorf("%+v: %d, %v", test, len(pairs), whole)
		}
	}
}

// Calls of a root that had gaps are not whole: on its CPU, or on another one that its
// task moved to.
func TestWindowsGaps(t *testing.T) {
	w := NewWindows(1000)
	for i := range uint64(10) {
		w.Note(Call{IP: 1, Parent: 10, Time: 100 + 10*i, Tid: 7, CPU: int(i % 2)})
		w.Note(Call{IP: 1, Parent: 10, Time: 100 + 10*i, Tid: 8})
	}
	gap := func(cpu int, from, to uint64) {
		w.Stop(cpu, from)
		w.Start(cpu, to)
	}
	w.Start(1, 50)
	gap(1, 0, 99)
	gap(1, 120, 130)
	gap(-1, 0, 1000)
	w.Stop(1, 170)
	type question struct {
		tid         uint32
		cpu         int
		entry, exit uint64
	}
	for q, want := range map[question]bool{
		{7, 1, 100, 119}: true, {7, 1, 100, 120}: false, {7, 1, 110, 140}: false, {7, 1, 130, 140}: false, {7, 1, 131, 140}: true,
		{7, 1, 99, 110}: false, {7, 1, 140, 169}: true, {7, 1, 140, 170}: false, {7, 1, 9999, 99999}: false,
		{7, 0, 100, 200}: false, {7, 2, 100, 200}: false, {8, 0, 100, 200}: true, {8, 1, 100, 200}: false,
		{7, 0, 120, 129}: true, {7, 0, 120, 130}: false,
	} {
		if _, whole := w.Root(q.tid, q.cpu, q.entry, q.exit, nil); whole != want {
			t.Errorf("%+v: whole %v", q, whole)
		}
	}
	w.Start(1, 180)
	for i := range uint64(maxGaps) { // the first three are not kept
		gap(1, 1000+10*i, 1001+10*i)
	}
	for q, want := range map[question]bool{{7, 1, 180, 190}: false, {7, 1, 181, 190}: true, {7, 1, 1001, 1002}: false, {7, 1, 1002, 1003}: true} {
		if _, whole := w.Root(q.tid, q.cpu, q.entry, q.exit, nil); whole != want {
			t.Errorf("%+v: whole %v", q, whole)
		}
	}
}

// Windows against a search of all calls.
func FuzzWindows(f *testing.F) {
	f.Add(uint64(1), uint16(2000), uint8(3))
	f.Add(uint64(2), uint16(100), uint8(0))
	f.Fuzz(func(t *testing.T, seed uint64, count uint16, cpus uint8) {
		r := rand.New(rand.NewPCG(seed, 0))
		w := NewWindows(512)
		var calls []Call
		for i := range uint64(count) {
			c := Call{IP: r.Uint64N(20), Parent: 1 + r.Uint64N(5), Time: 1000 + i*10 + r.Uint64N(50), Tid: r.Uint32N(3), CPU: r.IntN(int(cpus%4) + 1)}
			calls = append(calls, c)
			w.Note(c)
		}
		for range 20 {
			tid, cpu := r.Uint32N(3), r.IntN(4)
			entry := 1000 + r.Uint64N(uint64(count)*10+1)
			exit := entry + r.Uint64N(3000)
			got, whole := w.Root(tid, cpu, entry, exit, nil)
			all := map[Pair]bool{}
			for _, c := range calls {
				if c.Tid == tid && c.Time >= entry && c.Time <= exit && (tid != 0 || c.CPU == cpu) {
					all[Pair{c.Parent, c.IP}] = true
				}
			}
			if whole && len(got) != len(all) || len(got) > len(all) || slices.ContainsFunc(got, func(p Pair) bool { return !all[p] }) {
				t.Fatalf("%d [%d, %d]: got %d, whole %v, want %d", tid, entry, exit, len(got), whole, len(all))
			}
		}
	})
}
