package kallsyms

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLookup(t *testing.T) {
	const list = smallList + `ffffffffc0800000 t weak_function	[other]
ffffffffc0800100 d last_function	[other]
`
	for name, want := range map[string][]Entry{
		"startup_64": {{Addr: 0xffffffff81000000, Type: 'T'}},
		"_text":      {{Addr: 0xffffffff81000000, Type: 'T'}}, // an alias has a name too
		"pcpu_hot":   {{Addr: 0x21a40, Type: 'A'}},
		"some_data":  {{Addr: 0xffffffff81200000, Type: 'D'}},
		"nft_second": {{Addr: 0xffffffffc0001200, Type: 't', Module: "nf_tables"}},
		"weak_function": {
			{Addr: 0xffffffff81002000, Type: 'W'},
			{Addr: 0xffffffffc0800000, Type: 't', Module: "other"},
		},
		"last_function": {
			{Addr: 0xffffffff81003000, Type: 'T'},
			{Addr: 0xffffffffc0800100, Type: 'd', Module: "other"},
		},
		"icmp_rcv": nil,
		"":         nil,
	} {
		t.Run(name, func(t *testing.T) {
			// Others that are wanted, or wanted twice, make no difference.
			found, err := Lookup(strings.NewReader(list), []string{name, "_stext", name})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, found[name]); diff != "" {
				t.Error(diff)
			}
			if _, ok := found[name]; ok != (want != nil) {
				t.Errorf("in the map: %v", ok)
			}
			if len(found["_stext"]) != 1 {
				t.Errorf("got %v", found["_stext"])
			}
		})
	}
}

func TestLookupHidden(t *testing.T) {
	if _, err := Lookup(strings.NewReader("0 T a\n0 T b\n"), []string{"a"}); !errors.Is(err, ErrHidden) {
		t.Errorf("got %v", err)
	}
}

func TestEntryCode(t *testing.T) {
	for _, typ := range "tTwWi" {
		if !(Entry{Type: byte(typ)}).Code() {
			t.Errorf("%c is not code", typ)
		}
	}
	for _, typ := range "aAbBdDrRvVgsnN?U" {
		if (Entry{Type: byte(typ)}).Code() {
			t.Errorf("%c is code", typ)
		}
	}
}
