package kallsyms

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// generatedList is a list of n symbols in the manner of a large machine's:
// vmlinux, sorted, with aliases and data; modules, unsorted within; a few
// hundred BPF programs.
func generatedList(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	b.WriteString("0000000000000000 A fixed_percpu_data\n0000000000024000 A __per_cpu_end\n")

	addr := uint64(0xffffffff81000000)
	for i := range n * 6 / 10 {
		if r.IntN(10) > 0 {
			addr += 16 * (1 + r.Uint64N(40))
		}
		typ := "tTtTtTtTdDrRbB"[min(i*14*10/(6*n), 13)]
		fmt.Fprintf(&b, "%016x %c %s\n", addr, typ, generatedName(r, i))
	}
	for m := range 100 {
		base := 0xffffffffc0000000 + uint64(m)<<18
		for i := range n * 4 / 10 / 100 {
			fmt.Fprintf(&b, "%016x %c %s\t[module_%d]\n", base+16*r.Uint64N(1<<13), "tdtr"[i%4], generatedName(r, i), m)
		}
	}
	for i := range 300 {
		fmt.Fprintf(&b, "%016x t bpf_prog_%016x_prog_%d\t[bpf]\n", 0xffffffffc4000000+uint64(i)<<8, r.Uint64(), i)
	}
	return b.Bytes()
}

func generatedName(r *rand.Rand, i int) string {
	words := []string{"tcp", "udp", "net", "device", "register", "sendmsg", "queue", "ext4", "inode", "lookup"}
	parts := []string{words[r.IntN(len(words))], words[r.IntN(len(words))], fmt.Sprint(i)}
	return strings.Join(parts, "_")
}

const benchmarkLines = 200_000

func BenchmarkScan(b *testing.B) {
	list := generatedList(benchmarkLines)
	b.SetBytes(int64(len(list)))
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		err := Scan(bytes.NewReader(list), func(uint64, byte, []byte, []byte) bool { n++; return true })
		if err != nil {
			b.Fatal(err)
		}
		if n < benchmarkLines {
			b.Fatal(n)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	list := generatedList(benchmarkLines)
	for _, n := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := rand.New(rand.NewPCG(3, 4))
			names := make([]string, n)
			for i := range names {
				names[i] = generatedName(r, i)
			}
			for b.Loop() {
				if _, err := Lookup(bytes.NewReader(list), names); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	list := generatedList(benchmarkLines)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Load(bytes.NewReader(list)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoadBPF(b *testing.B) {
	list := generatedList(benchmarkLines)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := LoadBPF(bytes.NewReader(list)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSymbol(b *testing.B) {
	table, err := Load(bytes.NewReader(generatedList(benchmarkLines)))
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(5, 6))
	addrs := slices.Clone(table.addrs)
	r.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		table.Symbol(addrs[i%len(addrs)] + 5)
		i++
	}
}

// The running kernel's list, if it may be read, has to parse whole.
func TestRunningKernel(t *testing.T) {
	f, err := Open()
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	table, err := Load(f)
	if err == ErrHidden {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if table.Len() < 1000 {
		t.Fatalf("%d symbols", table.Len())
	}
	named := 0
	for i, addr := range table.addrs {
		if table.names[i] == noName {
			continue
		}
		s, ok := table.Symbol(addr)
		if !ok || s.Addr != addr || s.Offset != 0 || s.Name == "" {
			t.Fatalf("%#x: got %+v, %v", addr, s, ok)
		}
		named++
	}
	if named != table.Len() {
		t.Errorf("named %d of %d", named, table.Len())
	}
}
