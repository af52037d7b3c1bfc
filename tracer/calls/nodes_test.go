package calls

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fgtrace/internal/wiretest"
	"fgtrace/tracer/event"
)

// nodeShapes are those of targets A (one word), B (one word, a string), C (two words,
// two strings), D (one word, two outputs) and E (one word, an output, a string).
var nodeShapes = []event.Shape{
	{Words: 1}, {Words: 1, Strings: 1}, {Words: 2, Strings: 2}, {Words: 1, Outputs: 2 * outputSize}, {Words: 1, Outputs: outputSize, Strings: 1},
}

// An output is of at most 8 bytes.
const outputSize = 16

// Records of nodes are written as "strings E 1.7/2 =ab one": kind, target, tree and
// number of the node, depth, outputs and the strings; "-" is one that could not be read.
func parsePlace(t *testing.T, text string) []byte {
	t.Helper()
	fields := strings.Fields(text)
	var tree, number uint64
	var depth byte
	if _, err := fmt.Sscanf(fields[2], "%d.%d/%d", &tree, &number, &depth); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	p := wiretest.Place{Target: uint32(fields[1][0] - 'A'), ID: tree<<40 | number, Depth: depth}
	var words []uint64
	for range nodeShapes[p.Target].Words {
		words = append(words, 5)
	}
	switch fields[0] {
	case "open":
		return wiretest.Open{Place: p, Words: words}.Bytes()
	case "node":
		return wiretest.Node{Place: p, Words: words}.Bytes()
	case "lost":
		p.ExitLost = true
		return wiretest.Node{Place: p, Words: words}.Bytes()
	case "strings":
		s := wiretest.Strings{Place: p}
		for _, text := range fields[3:] {
			value, isOutput := strings.CutPrefix(text, "=")
			switch {
			case isOutput && value == "-":
				s.Outputs = append(s.Outputs, wiretest.Output(-14, make([]byte, 8))...)
			case isOutput:
				data := make([]byte, 8)
				s.Outputs = append(s.Outputs, wiretest.Output(int64(copy(data, value)), data)...)
			case text == "-":
				s.Strings = append(s.Strings, wiretest.String{Len: -14})
			default:
				s.Strings = append(s.Strings, wiretest.Text(text))
			}
		}
		return s.Bytes()
	}
	t.Fatalf("what is %q?", text)
	return nil
}

func view(t *testing.T, raw []byte) *event.Place {
	t.Helper()
	var p event.Place
	if err := p.View(raw, len(nodeShapes)); err != nil {
		t.Fatal(err)
	}
	return &p
}

// show gives records to nodes, and spells the calls that come of them.
func show(t *testing.T, n *Nodes, records string) string {
	t.Helper()
	var got []string
	for text := range strings.SplitSeq(records, ";") {
		p := view(t, parsePlace(t, text))
		if p.Kind() == event.Strings {
			n.Note(p)
			continue
		}
		c := n.Call(p)
		call := fmt.Sprintf("%c%d.%d", 'A'+c.Target, c.ID>>40, c.ID&(1<<40-1))
		switch want := nodeShapes[c.Target].Outputs; {
		case c.Outputs == nil && want > 0:
			call += " =lost"
		case len(c.Outputs) != want:
			t.Errorf("%s: %d bytes of outputs, want %d", text, len(c.Outputs), want)
		}
		for at := 0; at < len(c.Outputs); at += outputSize {
			value, status := event.Output(c.Outputs, at, 8)
			if status < 0 {
				value = fmt.Append(nil, "-", -status)
			}
			call += " =" + string(value)
		}
		for i := range nodeShapes[c.Target].Strings {
			s, _, errno := event.String(c.Strings, i)
			if errno != 0 {
				s = fmt.Append(nil, "-", errno)
			}
			call += " " + string(s)
		}
		if c.Node.End == ExitLost {
			call += " lost"
		}
		got = append(got, call)
	}
	return strings.Join(got, "; ")
}

func TestNodes(t *testing.T) {
	for records, want := range map[string]string{
		"node A 1.1/0":                                                          "A1.1",
		"strings B 1.1/0 one; node B 1.1/0":                                     "B1.1 one",
		"strings C 1.1/0 one two; node C 1.1/0":                                 "C1.1 one two",
		"strings C 1.1/0 - two; node C 1.1/0":                                   "C1.1 -14 two",
		"strings B 1.1/0 one; open B 1.1/0; node A 1.2/1; node B 1.1/0":         "B1.1 one; A1.2; B1.1 one",
		"strings B 1.1/0 one; strings B 1.2/1 two; node B 1.2/1; node B 1.1/0":  "B1.2 two; B1.1 one",
		"strings B 1.1/0 one; strings B 2.1/0 two; node B 1.1/0; node B 2.1/0":  "B1.1 one; B2.1 two",
		"strings B 1.1/0 one; strings B 1.2/1 two; lost B 1.2/1; node B 1.1/0":  "B1.2 two lost; B1.1 one",
		"strings B 1.1/0 one; node B 1.1/0; strings B 1.2/0 two; node B 1.2/0":  "B1.1 one; B1.2 two",
		"strings B 1.1/0 a; strings B 1.2/1 b; strings B 1.3/2 c; open B 1.2/1": "B1.2 b",
		"strings B 1.1/0 a; strings B 1.2/1 b; node B 1.1/0; node B 1.2/1":      "B1.1 a; B1.2 -14",
		"strings B 1.1/0 a; strings C 1.1/0 b c; node C 1.1/0":                  "C1.1 b c",
		"strings B 1.1/0 one; node B 1.1/0; node B 1.1/0":                       "B1.1 one; B1.1 -14",

		// The strings found no room: of the first node, of an inner one, of an outer one.
		"node B 1.1/0": "B1.1 -14",
		"open C 1.1/0": "C1.1 -14 -14",
		"strings B 1.1/0 one; node B 1.2/1; node B 1.1/0": "B1.2 -14; B1.1 one",
		"strings B 1.2/1 two; node B 1.2/1; node B 1.1/0": "B1.2 two; B1.1 -14",

		// Those of another target, which has fewer.
		"strings B 1.1/0 one; node C 1.1/0": "C1.1 -14 -14",
		"strings B 1.1/0; node B 1.1/0":     "B1.1 -14",

		// Outputs come with the strings, and in front of them.
		"strings D 1.1/0 =one =two; node D 1.1/0":                                 "D1.1 =one =two",
		"strings D 1.1/0 =- =two; node D 1.1/0":                                   "D1.1 =-14 =two",
		"strings D 1.1/0 =one =two; open D 1.1/0; node A 1.2/1; node D 1.1/0":     "D1.1 =one =two; A1.2; D1.1 =one =two",
		"strings E 1.1/0 =one two; node E 1.1/0":                                  "E1.1 =one two",
		"strings E 1.1/0 =- -; node E 1.1/0":                                      "E1.1 =-14 -14",
		"strings E 1.1/0 =a b; strings D 1.2/1 =c =d; lost D 1.2/1; node E 1.1/0": "D1.2 =c =d lost; E1.1 =a b",
		"strings E 1.1/0 =a b; strings E 2.1/0 =c d; node E 1.1/0; node E 2.1/0":  "E1.1 =a b; E2.1 =c d",
		"strings E 1.1/0 =a b; node E 1.1/0; strings B 1.2/0 c; node B 1.2/0":     "E1.1 =a b; B1.2 c",

		// They were lost, or are those of another target, which has fewer.
		"node D 1.1/0": "D1.1 =lost",
		"open E 1.1/0": "E1.1 =lost -14",
		"strings E 1.1/0 =a b; node D 1.2/1; node E 1.1/0": "D1.2 =lost; E1.1 =a b",
		"strings E 1.1/0 =a b; node E 1.1/0; node E 1.1/0": "E1.1 =a b; E1.1 =lost -14",
		"strings B 1.1/0 one; node E 1.1/0":                "E1.1 =lost -14",
		"strings D 1.1/0 =one; node D 1.1/0":               "D1.1 =lost",
		"strings E 1.1/0 =a b; open E 1.1/0; node A 1.2/0": "E1.1 =a b; A1.2",
	} {
		t.Run(records, func(t *testing.T) {
			var n Nodes
			n.Grow(nodeShapes)
			if diff := cmp.Diff(want, show(t, &n, strings.ReplaceAll(records, "; ", ";"))); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestNodesForgotten counts the strings that are kept for nodes that have ended
// and were not told of.
func TestNodesForgotten(t *testing.T) {
	var n Nodes
	n.Grow(nodeShapes)
	for i := range 1000 {
		show(t, &n, fmt.Sprintf("strings B 1.%d/0 root;strings B 1.%d/1 child", 2*i+1, 2*i+2))
	}
	if kept := len(n.strings[1]); kept > 2 {
		t.Errorf("%d strings are kept, and 2 nodes under way", kept)
	}
	if got, want := show(t, &n, "node B 1.2000/1;node B 1.1999/0"), "B1.2000 child; B1.1999 root"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestNodeCall(t *testing.T) {
	place := wiretest.Place{
		Entry: 100, ID: 1<<40 | 7, Parent: 1<<40 | 5, Pid: 10, Tid: 11, Target: 2, CPU: 3, Comm: "ping", Below: 30, Depth: 2,
		Context: 1, Outer: 0,
	}
	lost := place
	lost.ExitLost, lost.Context, lost.Outer = true, 3, 2
	odd := place
	odd.Context, odd.Outer = 0xff, 0xfe
	call := Call{
		ID: 1<<40 | 7, Target: 2, Pid: 10, Tid: 11, CPU: 3, ExitCPU: 3, Comm: [16]byte{'p', 'i', 'n', 'g'}, Entry: 100, Exit: 150,
		Entered: true, Words: []byte{1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0}, Retval: [8]byte{9},
		Node: Node{Parent: 1<<40 | 5, Depth: 2, Context: Softirq, Below: 30},
	}
	words := []uint64{1, 2}
	for name, test := range map[string]struct {
		raw  []byte
		want func(*Call)
	}{
		"node": {wiretest.Node{Place: place, Exit: 150, Retval: 9, Words: words}.Bytes(), func(*Call) {}},
		"open": {wiretest.Open{Place: place, Words: words}.Bytes(), func(c *Call) { c.Exit, c.Retval = 100, [8]byte{} }},
		"exit lost": {wiretest.Node{Place: lost, Exit: 150, Retval: 9, Words: words}.Bytes(), func(c *Call) {
			c.Node.End, c.Node.Context, c.Node.Outer = ExitLost, NMI, Hardirq
		}},
		"more words": {wiretest.Node{Place: place, Exit: 150, Retval: 9, Words: []uint64{1, 2, 0}}.Bytes(), func(c *Call) {
			c.Words = append(c.Words[:16:16], make([]byte, 8)...)
		}},
		"too few words": {wiretest.Node{Place: place, Exit: 150, Retval: 9, Words: words[:1]}.Bytes(), func(c *Call) {
			c.Entered, c.Words = false, c.Words[:8:8]
		}},
		"no words, open": {wiretest.Open{Place: place}.Bytes(), func(c *Call) {
			c.Entered, c.Words, c.Exit, c.Retval = false, []byte{}, 100, [8]byte{}
		}},
		"no such contexts": {wiretest.Node{Place: odd, Exit: 150, Retval: 9, Words: words}.Bytes(), func(c *Call) {
			c.Node.Context, c.Node.Outer = NMI, Hardirq
		}},
	} {
		t.Run(name, func(t *testing.T) {
			want := call
			test.want(&want)
			var n Nodes
			n.Grow([]event.Shape{{}, {}, {Words: 2}})
			// What an earlier record left behind must not show.
			n.call = Call{Retval: [8]byte{1, 2}, Outputs: []byte{1}, Strings: []byte{1}, Packet: &Packet{}, Node: Node{End: Running}}
			if p := view(t, test.raw); p.Kind() == event.Open {
				want.Retval = n.call.Retval // of no meaning before the exit
			}
			got := *n.Call(view(t, test.raw))
			if diff := cmp.Diff(fmt.Sprintf("%+v", want), fmt.Sprintf("%+v", got)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestNodeCounts(t *testing.T) {
	var n Nodes
	n.Grow(nodeShapes)
	show(t, &n, "open A 1.1/0;node A 1.2/1;lost A 1.3/1;node A 1.1/0;lost A 2.1/0;strings B 3.1/0 x;open B 3.1/0")
	if got, want := n.Counts(), (NodeCounts{Roots: 2, ExitLost: 2}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestNodeOutputsAreCopied: outputs stay while their node does, whatever becomes of the
// record that they came from, and of others.
func TestNodeOutputsAreCopied(t *testing.T) {
	var n Nodes
	n.Grow(nodeShapes)
	raw := parsePlace(t, "strings E 1.1/0 =outer one")
	n.Note(view(t, raw))
	clear(raw)
	if got, want := show(t, &n, "open E 1.1/0;strings E 1.2/1 =inner two;strings D 2.1/0 =x =y;node E 1.2/1;node E 1.1/0"),
		"E1.1 =outer one; E1.2 =inner two; E1.1 =outer one"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestNodesGrow adds a target while strings are kept.
func TestNodesGrow(t *testing.T) {
	var n Nodes
	n.Grow(nodeShapes[:2])
	show(t, &n, "strings B 1.1/0 one")
	n.Grow(nodeShapes[2:])
	if got, want := show(t, &n, "node C 1.2/1;node B 1.1/0"), "C1.2 -14 -14; B1.1 one"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestOwn(t *testing.T) {
	for _, test := range []struct{ entry, exit, below, want uint64 }{
		{100, 150, 0, 50}, {100, 150, 30, 20}, {100, 150, 50, 0}, {100, 150, 51, 0}, {100, 100, 0, 0},
	} {
		c := Call{Entry: test.entry, Exit: test.exit, Node: Node{Below: test.below}}
		if got := c.Own(); got != test.want {
			t.Errorf("%+v: %d", test, got)
		}
	}
}

func TestNodesNoAllocation(t *testing.T) {
	var n Nodes
	n.Grow(nodeShapes)
	note, node := view(t, parsePlace(t, "strings E 1.1/0 =four one")), view(t, parsePlace(t, "node E 1.1/0"))
	if allocs := testing.AllocsPerRun(1000, func() {
		n.Note(note)
		if c := n.Call(node); binary.LittleEndian.Uint32(c.Strings) != 4 || binary.LittleEndian.Uint64(c.Outputs) != 4 {
			t.Fatalf("outputs % x, strings % x", c.Outputs, c.Strings)
		}
	}); allocs != 0 {
		t.Errorf("%v allocations a node", allocs)
	}
}

// TestNodeRunning covers a root that had not returned when tracing ended.
func TestNodeRunning(t *testing.T) {
	var n Nodes
	n.Grow(nodeShapes)
	show(t, &n, "strings B 1.1/0 one;open B 1.1/0;node A 1.2/1")
	c := n.Running(view(t, parsePlace(t, "node B 1.1/0")), 70)
	s, _, _ := event.String(c.Strings, 0)
	if c.Exit != 70 || c.Node.End != Running || string(s) != "one" {
		t.Errorf("exit %d, end %d, string %q", c.Exit, c.Node.End, s)
	}
	if got := n.Counts(); got != (NodeCounts{}) {
		t.Errorf("%+v, and nothing has ended that counts", got)
	}
}
