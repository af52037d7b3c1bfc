package code

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	baseAMD64   = 0xffffffff81000000
	lowestAMD64 = 0xffffffff80000000
	baseARM64   = 0xffff800081000000
	lowestARM64 = 0xffff800080000000
)

// assemble reads a listing: a line has an instruction's bytes, or on arm64 its
// word, and what it is behind a semicolon. The assembly is clang-19's.
func assemble(t testing.TB, arch, listing string) []byte {
	t.Helper()
	var code []byte
	for line := range strings.Lines(listing) {
		digits, _, _ := strings.Cut(line, ";")
		b, err := hex.DecodeString(strings.Join(strings.Fields(digits), ""))
		if err != nil {
			t.Fatal(err)
		}
		if arch == "arm64" && len(b) == 4 {
			b = binary.LittleEndian.AppendUint32(nil, binary.BigEndian.Uint32(b))
		}
		code = append(code, b...)
	}
	return code
}

type example struct {
	name, listing string
	want          Refs // as offsets from the base, where they are small
}

func TestAMD64(t *testing.T) { testExamples(t, "amd64", baseAMD64, lowestAMD64, examplesAMD64()) }
func TestARM64(t *testing.T) { testExamples(t, "arm64", baseARM64, lowestARM64, examplesARM64()) }

func testExamples(t *testing.T, arch string, base, lowest uint64, examples []example) {
	for _, e := range examples {
		t.Run(e.name, func(t *testing.T) {
			for _, targets := range [][]uint64{e.want.Calls, e.want.Jumps, e.want.Names, e.want.Slots} {
				for i := range targets {
					if targets[i] < 1<<32 {
						targets[i] += base
					}
				}
			}
			got, err := Scan(arch, assemble(t, arch, e.listing), base, lowest)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(e.want, got); diff != "" {
				t.Errorf("want -, got +\n%s", diff)
			}
		})
	}
}

func TestNoCode(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		got, err := Scan(arch, nil, baseAMD64, lowestAMD64)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(Refs{}, got); diff != "" {
			t.Errorf("%s: %s", arch, diff)
		}
	}
	if _, err := Scan("riscv64", nil, 0, 0); err == nil {
		t.Error("no error for riscv64")
	}
}
