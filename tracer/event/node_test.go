package event

import (
	"bytes"
	"encoding/hex"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fgtrace/internal/golden"
	"fgtrace/internal/wiretest"
)

var place = wiretest.Place{
	Entry: 0x1122334455667788, ID: 0x20000000007, Parent: 0x20000000005, Pid: 4242, Tid: 4243, Target: 1, CPU: 258,
	Comm: "fifteen_bytes_x", Below: 0x99887766, Depth: 63, Context: 2, Outer: 1, Opened: true,
}

// spelledPlace is what the methods of a place return.
type spelledPlace struct {
	Kind                   Kind
	Target                 int
	ID, Parent             uint64
	Below                  uint64
	Depth                  int
	Context, Outer         uint8
	Opened, ExitLost       bool
	Entry, PidTgid         uint64
	CPU                    uint16
	Comm                   string
	Exit                   uint64
	Retval, Words, Strings []byte
}

func spellPlace(p *Place) spelledPlace {
	s := spelledPlace{
		Kind: p.Kind(), Target: p.Target(), ID: p.ID(), Parent: p.Parent(), Below: p.Below(), Depth: p.Depth(),
		Context: p.Context(), Outer: p.Outer(), Opened: p.Opened(), ExitLost: p.ExitLost(), Entry: p.Entry(),
		PidTgid: p.PidTgid(), CPU: p.CPU(), Comm: string(p.Comm()[:]),
	}
	switch s.Kind {
	case Node:
		exit, retval := p.Exit()
		s.Exit, s.Retval, s.Words = exit, retval[:], p.Words()
	case Open:
		s.Words = p.Words()
	case Strings:
		s.Strings = p.Strings()
	}
	return s
}

// common is what all records of place hold.
var common = spelledPlace{
	Target: 1, ID: 0x20000000007, Parent: 0x20000000005, Below: 0x99887766, Depth: 63, Context: 2, Outer: 1, Opened: true,
	Entry: 0x1122334455667788, PidTgid: 4242<<32 | 4243, CPU: 258, Comm: "fifteen_bytes_x\x00",
}

func TestPlace(t *testing.T) {
	lost := place
	lost.Opened, lost.ExitLost = false, true
	words := []byte{1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0xff}
	for name, test := range map[string]struct {
		raw  []byte
		want func(*spelledPlace)
	}{
		"node": {
			wiretest.Node{Place: place, Exit: 0x2233, Retval: math.MaxUint64 - 1, Words: []uint64{1, 0xff00000000000002}}.Bytes(),
			func(s *spelledPlace) {
				s.Kind, s.Exit, s.Retval, s.Words = Node, 0x2233, []byte{0xfe, 255, 255, 255, 255, 255, 255, 255}, words
			},
		},
		"node_lost": {
			wiretest.Node{Place: lost, Exit: 0x2233}.Bytes(),
			func(s *spelledPlace) {
				s.Kind, s.Exit, s.Retval, s.Words = Node, 0x2233, make([]byte, 8), []byte{}
				s.Opened, s.ExitLost = false, true
			},
		},
		"open": {
			wiretest.Open{Place: place, Words: []uint64{1, 0xff00000000000002}}.Bytes(),
			func(s *spelledPlace) { s.Kind, s.Words = Open, words },
		},
		"strings": {
			wiretest.Strings{Place: place, Strings: []wiretest.String{wiretest.Text("ab")}}.Bytes(),
			func(s *spelledPlace) {
				s.Kind, s.Strings = Strings, append([]byte{3, 0, 0, 0, 'a', 'b'}, make([]byte, 122)...)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			want := common
			test.want(&want)
			var p Place
			if err := p.View(test.raw, 2); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, spellPlace(&p)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			golden.Check(t, "graph_"+name+".hex", hex.Dump(bytes.TrimRight(test.raw, "\x00")))
		})
	}
}

func TestPlaceErrors(t *testing.T) {
	node := wiretest.Node{Place: place}.Bytes()
	open := wiretest.Open{Place: place, Words: []uint64{1}}.Bytes()
	for name, test := range map[string]struct {
		raw     []byte
		targets int
		want    string // "" for none
	}{
		"empty":             {nil, 2, "decode node: 0 bytes, less than any"},
		"a header":          {node[:56], 2, "decode node: 56 bytes, less than any"},
		"most of a place":   {open[:79], 2, "decode node: 79 bytes, less than any"},
		"most of a result":  {node[:95], 2, "decode node: 95 bytes, less than a result"},
		"no words":          {open[:80], 2, ""},
		"part of a word":    {open[:87], 2, ""},
		"no such target":    {node, 1, "decode node: target 1 of 1"},
		"no targets":        {node, 0, "decode node: target 1 of 0"},
		"target of 32 bits": {wiretest.Node{Place: wiretest.Place{Target: math.MaxUint32}}.Bytes(), 2, "decode node: target 4294967295 of 2"},
		"kind of a call":    {wiretest.Call{Entry: wiretest.Entry{Words: []uint64{1, 2, 3}}}.Bytes(), 2, "decode node: kind 3"},
		"kind 0":            {make([]byte, 200), 2, "decode node: kind 0"},
		"seen":              {append(wiretest.Seen{}.Bytes(), make([]byte, 24)...), 2, "decode node: kind 7"},
	} {
		t.Run(name, func(t *testing.T) {
			var p Place
			got := ""
			if err := p.View(test.raw[:len(test.raw):len(test.raw)], test.targets); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func TestSeenCall(t *testing.T) {
	raw := wiretest.Seen{Number: 65535, Depth: 63}.Bytes()
	if kind := KindOf(raw); kind != Seen {
		t.Errorf("kind %d", kind)
	}
	number, depth, err := SeenCall(raw)
	if err != nil || number != 65535 || depth != 63 {
		t.Errorf("number %d, depth %d, %v", number, depth, err)
	}
	const want = "decode call that was seen: 55 bytes of 56"
	if _, _, err := SeenCall(raw[:55]); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// TestNodeSizes holds the sizes that programs are given against what tests make.
func TestNodeSizes(t *testing.T) {
	words, texts := make([]uint64, 12), make([]wiretest.String, 3)
	for _, test := range []struct {
		what      string
		got, want int
	}{
		{"open", NodeShape{}.OpenSize(), len(wiretest.Open{}.Bytes())},
		{"open of 12 words", NodeShape{Words: 12, Strings: 3}.OpenSize(), len(wiretest.Open{Words: words}.Bytes())},
		{"strings", NodeShape{Words: 12, Strings: 3}.StringsSize(), len(wiretest.Strings{Strings: texts}.Bytes())},
		{"node", NodeShape{}.NodeSize(), len(wiretest.Node{}.Bytes())},
		{"node of 12 words", NodeShape{Words: 12, Strings: 3}.NodeSize(), len(wiretest.Node{Words: words}.Bytes())},
		{"seen", placeEnd - 24, len(wiretest.Seen{}.Bytes())},
	} {
		if test.got != test.want {
			t.Errorf("%s: %d bytes, want %d", test.what, test.got, test.want)
		}
	}
}

func FuzzPlace(f *testing.F) {
	f.Add(wiretest.Node{Place: place, Words: []uint64{1}}.Bytes(), 2)
	f.Add(wiretest.Open{Place: place, Words: []uint64{1}}.Bytes(), 2)
	f.Add(wiretest.Strings{Place: place, Strings: []wiretest.String{wiretest.Text("ab")}}.Bytes(), 2)
	f.Add(wiretest.Seen{Number: 1, Depth: 2}.Bytes(), 0)
	f.Fuzz(func(t *testing.T, raw []byte, targets int) {
		if KindOf(raw) == Seen {
			if _, depth, err := SeenCall(raw); err != nil || depth < 0 {
				t.Fatalf("depth %d, %v", depth, err)
			}
		}
		var p Place
		if p.View(raw, targets&0xff) != nil {
			return
		}
		s := spellPlace(&p)
		if s.Target >= targets&0xff {
			t.Fatalf("target %d of %d", s.Target, targets&0xff)
		}
		for _, part := range [][]byte{s.Words, s.Strings, s.Retval} {
			if !within(part, raw) {
				t.Fatal("a slice lies outside of the record")
			}
		}
	})
}
