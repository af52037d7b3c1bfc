package code

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestScanPart enters code in several places, none of which ftrace has patched.
func TestScanPart(t *testing.T) {
	const at = 0x1000
	amd64 := []byte{
		0xe8, 0xfb, 0x0f, 0x00, 0x00, // 1000: call 2000
		0xc3,                         // 1005: ret
		0xe9, 0xf5, 0x1f, 0x00, 0x00, // 1006: jmp 3000
		0xe8, 0xf0, 0x2f, 0x00, 0x00, // 100b: call 4000
		0xc3, // 1010: ret
	}
	arm64 := []byte{
		0x00, 0x04, 0x00, 0x94, // 1000: bl 2000
		0xc0, 0x03, 0x5f, 0xd6, // 1004: ret
		0xfe, 0x07, 0x00, 0x14, // 1008: b 3000
		0xfd, 0x0b, 0x00, 0x94, // 100c: bl 4000
		0xc0, 0x03, 0x5f, 0xd6, // 1010: ret
	}
	for name, test := range map[string]struct {
		arch    string
		code    []byte
		entries []uint64
		want    Refs
	}{
		"amd64, its beginning":  {"amd64", amd64, []uint64{at}, Refs{Calls: []uint64{0x2000}}},
		"amd64, several":        {"amd64", amd64, []uint64{at + 11, at + 6}, Refs{Calls: []uint64{0x4000}, Jumps: []uint64{0x3000}}},
		"amd64, none":           {"amd64", amd64, nil, Refs{}},
		"amd64, outside":        {"amd64", amd64, []uint64{at - 1, at + 17, 1<<64 - 1}, Refs{}},
		"amd64, behind padding": {"amd64", append([]byte{0x66, 0x0f, 0x1f, 0x00}, amd64...), []uint64{at}, Refs{Calls: []uint64{0x2004}}},
		"arm64, its beginning":  {"arm64", arm64, []uint64{at}, Refs{Calls: []uint64{0x2000}}},
		"arm64, several":        {"arm64", arm64, []uint64{at + 12, at + 8}, Refs{Calls: []uint64{0x4000}, Jumps: []uint64{0x3000}}},
		"arm64, none":           {"arm64", arm64, nil, Refs{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ScanPart(test.arch, test.code, at, 1<<63, test.entries)
			if err != nil {
				t.Fatal(err)
			}
			got.Calls, got.Jumps, got.Names, got.Slots = orNil(got.Calls), orNil(got.Jumps), orNil(got.Names), orNil(got.Slots)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func orNil(list []uint64) []uint64 {
	if len(list) == 0 {
		return nil
	}
	return list
}
