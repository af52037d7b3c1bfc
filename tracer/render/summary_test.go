package render

import (
	"math/rand/v2"
	"slices"
	"testing"

	"fgtrace/internal/golden"
)

func TestSummary(t *testing.T) {
	for _, graph := range graphs(t) {
		t.Run(graph.name, func(t *testing.T) {
			got := graph.render(NewSummary(values(graph.all)))
			golden.Check(t, "summary/"+graph.name+".golden", got)
		})
	}
}

// TestHistogram compares percentiles with those of sorted values.
func TestHistogram(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, bits := range []int{1, 5, 7, 12, 30, 63} {
		for _, n := range []int{1, 2, 3, 100, 10000} {
			var h histogram
			var all []uint64
			for range n {
				v := random.Uint64() >> (63 - random.IntN(bits+1))
				all = append(all, v)
				h.add(v)
			}
			slices.Sort(all)
			for _, p := range []int{50, 99} {
				want, got := all[(n*p+99)/100-1], h.percentile(uint64(p))
				if off := max(want, got) - min(want, got); off > want/100 {
					t.Errorf("%d values of %d bits: %d percent are %d, not %d", n, bits, p, got, want)
				}
			}
		}
	}
	for _, v := range []uint64{0, 1, 63, 64, 65, 127, 128, 1<<32 - 1, 1 << 63, 1<<64 - 1} {
		var h histogram
		h.add(v)
		if got := h.percentile(50); got != v {
			t.Errorf("%d alone is %d", v, got)
		}
	}
}

// TestTotals compares totals with those of trees that are looked at whole.
func TestTotals(t *testing.T) {
	all := targets(t)
	random := rand.New(rand.NewPCG(3, 4))
	fns := []string{"icmp_rcv", "schedule", "lookup", "is_set"}
	var grow func(from, to uint64, depth int) node
	grow = func(from, to uint64, depth int) node {
		n := call(fns[random.IntN(len(fns))], from, to)
		if depth > 0 {
			width := (to - from) / 4
			for i := range uint64(random.IntN(4)) {
				n.below = append(n.below, grow(from+i*width+1, from+(i+1)*width, depth-1))
			}
		}
		return n
	}
	want := make([]uint64, len(all))
	var outermost func(n node, around []string)
	outermost = func(n node, around []string) {
		if !slices.Contains(around, n.fn) {
			want[index(all, n.fn)] += n.to - n.from
		}
		for _, child := range n.below {
			outermost(child, append(around, n.fn))
		}
	}
	s := NewSummary(values(all))
	g := &graph{all: all}
	for range 200 {
		root := grow(0, 1_000_000, 6)
		outermost(root, nil)
		for _, e := range g.events(owner{"ping", 1, 1, 0}, root) {
			s.AppendEvent(nil, e)
		}
	}
	functions := make([]function, len(all))
	addUp(functions, s.trees.end()[[16]byte{}].children)
	for i, f := range functions {
		if f.total != want[i] {
			t.Errorf("%s: total %d, not %d", s.names[i], f.total, want[i])
		}
	}
}
