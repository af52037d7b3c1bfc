package kallsyms

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// scanned gives one line for each symbol of a list.
func scanned(r io.Reader) (string, error) {
	var b strings.Builder
	err := Scan(r, func(addr uint64, typ byte, name, module []byte) bool {
		fmt.Fprintf(&b, "%x|%c|%s|%s\n", addr, typ, name, module)
		return true
	})
	return b.String(), err
}

func TestScan(t *testing.T) {
	for in, want := range map[string]string{
		"":                                 "",
		"ffffffff81a3c2f0 T tcp_sendmsg\n": "ffffffff81a3c2f0|T|tcp_sendmsg|\n",
		"ffffffff81a3c2f0 T tcp_sendmsg":   "ffffffff81a3c2f0|T|tcp_sendmsg|\n",
		"ffffffffc0a01000 t nft_do_chain\t[nf_tables]\n":   "ffffffffc0a01000|t|nft_do_chain|nf_tables\n",
		"FFFFFFFF81000000 T up\nc0100000 t short\n":        "ffffffff81000000|T|up|\nc0100000|t|short|\n",
		"0000000000000000 A start\nffff800080000000 T a\n": "0|A|start|\nffff800080000000|T|a|\n",
		"1 t a]\n":                 "1|t|a]|\n",
		"1 t größe.constprop.0\n":  "1|t|größe.constprop.0|\n",
		"1 t bpf_prog_1f_x\t[bpf]": "1|t|bpf_prog_1f_x|bpf\n",
	} {
		t.Run(in, func(t *testing.T) {
			for _, r := range []io.Reader{
				strings.NewReader(in),
				iotest.OneByteReader(strings.NewReader(in)),
				iotest.DataErrReader(strings.NewReader(in)),
			} {
				got, err := scanned(r)
				if err != nil {
					t.Fatal(err)
				}
				if got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
		})
	}
}

func TestScanSyntaxErrors(t *testing.T) {
	const good = "1 t good\n"
	for in, want := range map[string]string{
		"\n":                       `line 2: no address: ""`,
		"x t a\n":                  `line 2: no address: "x t a"`,
		"11223344556677889 t a\n":  `line 2: address does not fit 64 bits: "11223344556677889 t a"`,
		"1":                        `line 2: no type and name after the address: "1"`,
		"1 t \n":                   `line 2: no type and name after the address: "1 t "`,
		"1 tt a\n":                 `line 2: no type and name after the address: "1 tt a"`,
		"1 t \t[m]\n":              `line 2: no name: "1 t \t[m]"`,
		strings.Repeat("x", 1<<19): `line 2: line is too long: "` + strings.Repeat("x", maxQuoted) + `"`,
	} {
		t.Run(want, func(t *testing.T) {
			_, err := scanned(strings.NewReader(good + in))
			var syntax *SyntaxError
			if !errors.As(err, &syntax) {
				t.Fatalf("got %v", err)
			}
			if got := err.Error(); got != "parse symbol: "+want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

func TestScanHidden(t *testing.T) {
	const hidden = "0000000000000000 A a\n0000000000000000 T b\n"
	for in, want := range map[string]error{
		"":                              nil,
		hidden:                          ErrHidden,
		hidden + "ffffffff81000000 T c": nil,
	} {
		for stop := range 3 {
			seen := 0
			err := Scan(strings.NewReader(in), func(uint64, byte, []byte, []byte) bool {
				seen++
				return seen != stop
			})
			if !errors.Is(err, want) {
				t.Errorf("%q, stopped at %d: got %v, want %v", in, stop, err, want)
			}
			if stop > 0 && seen > stop {
				t.Errorf("%q: called %d times, stopped at %d", in, seen, stop)
			}
		}
	}
}

func TestScanReadErrors(t *testing.T) {
	broken := errors.New("broken")
	if _, err := scanned(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if _, err := scanned(stuckReader{}); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("got %v", err)
	}
}

type stuckReader struct{}

func (stuckReader) Read([]byte) (int, error) { return 0, nil }

func TestScanAllocates(t *testing.T) {
	list := generatedList(5000)
	allocs := testing.AllocsPerRun(5, func() {
		if err := Scan(bytes.NewReader(list), func(uint64, byte, []byte, []byte) bool { return true }); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 5 {
		t.Errorf("%v allocations", allocs)
	}
}

func FuzzScan(f *testing.F) {
	f.Add([]byte("ffffffff81a3c2f0 T tcp_sendmsg\nffffffffc0a01000 t nft_do_chain\t[nf_tables]\n"))
	f.Add([]byte("0 A a\n0 T b"))
	f.Add([]byte("1 t ]\n2 t \t[]\n3 t a\t]"))
	f.Add([]byte("1 t $x\n1 d d\n1 t a\n2 T _etext\n"))
	f.Fuzz(func(t *testing.T, list []byte) {
		whole, err := scanned(bytes.NewReader(list))
		split, splitErr := scanned(iotest.OneByteReader(bytes.NewReader(list)))
		if whole != split || fmt.Sprint(err) != fmt.Sprint(splitErr) {
			t.Fatalf("in one read %q, %v; in many %q, %v", whole, err, split, splitErr)
		}
		for _, load := range []func(io.Reader) (*Table, error){Load, LoadBPF} {
			table, loadErr := load(bytes.NewReader(list))
			if fmt.Sprint(err) != fmt.Sprint(loadErr) {
				t.Fatalf("scan gives %v, load %v", err, loadErr)
			}
			if err == nil {
				checkTable(t, table)
			}
		}
	})
}

// checkTable tests what must hold for any table.
func checkTable(t *testing.T, table *Table) {
	t.Helper()
	for i, addr := range table.addrs {
		if i > 0 && table.addrs[i-1] >= addr {
			t.Fatalf("%#x before %#x", table.addrs[i-1], addr)
		}
		s, ok := table.Symbol(addr)
		if ok != (table.names[i] != noName) {
			t.Fatalf("%#x: got %v", addr, ok)
		}
		if ok && (s.Name == "" || s.Addr != addr || s.Offset != 0) {
			t.Fatalf("%#x: got %+v", addr, s)
		}
	}
}

func TestIsPart(t *testing.T) {
	for name, want := range map[string]bool{
		"icmp_rcv": false, "icmp_rcv.cold": true, "icmp_rcv.cold.12": true, "icmp_rcv.constprop.0": false,
		"icmp_rcv.isra.0.cold": true, "__pfx_icmp_rcv": true, "x__pfx_": false,
	} {
		if IsPart([]byte(name)) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}
