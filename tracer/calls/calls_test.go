package calls

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fgtrace/tracer/event"
)

// Records are written as "entry f1 A t=10; exit f1 A t=15": the frame, the
// target's letter, the time, and where they matter the CPU (cpu=), the thread
// (tid=), an argument word (w=), the result (ret=), or "lost" for an exit whose
// entry found no room.
var tests = map[string]string{
	"entry f1 A t=10 w=7; exit f1 A t=15 ret=3": `
A#1 10..15 w=7 ret=3
`,
	"entry f1 A t=10; entry f2 B t=11; exit f2 B t=12; exit f1 A t=13": `
B#2 11..12
A#1 10..13
`,

	// Recursion: each call has a frame of its own.
	"entry f1 A t=1 w=3; entry f2 A t=2 w=2; entry f3 A t=3 w=1; exit f3 A t=4 ret=1; exit f2 A t=5 ret=2; exit f1 A t=6 ret=6": `
A#3 3..4 w=1 ret=1
A#2 2..5 w=2 ret=2
A#1 1..6 w=3 ret=6
`,

	// Two tasks on two CPUs.
	"entry f1 A t=1 cpu=0 tid=10; entry f2 A t=2 cpu=1 tid=20; exit f1 A t=3 cpu=0 tid=10; exit f2 A t=4 cpu=1 tid=20": `
A#1 1..3 tid=10
A#2 2..4 cpu=1 tid=20
`,

	// The task moved: the CPU of an exit is where it returned.
	"entry f1 A t=1 cpu=0 tid=10; exit f1 A t=9 cpu=3 tid=10": `
A#1 1..9 cpu=3 tid=10
`,

	// A frame is used again by later calls.
	"entry f1 A t=1 w=1; exit f1 A t=2; entry f1 A t=3 w=2; exit f1 A t=4; entry f1 B t=5; exit f1 B t=6": `
A#1 1..2 w=1
A#2 3..4 w=2
B#3 5..6
`,

	// Tracing began in the middle of a call.
	"exit f1 A t=5 ret=9; entry f1 A t=6; exit f1 A t=7": `
A#1 ?..5 ret=9
A#2 6..7
noentry=1
`,

	// The entry was lost, with nothing at its frame, and with an older call there
	// whose exit was lost too.
	"exit f1 A t=5 lost": `
A#1 ?..5
noentry=1
`,
	"entry f1 A t=1 w=1; exit f1 A t=9 lost ret=2": `
A#2 ?..9 ret=2
noentry=1 noexit=1
`,

	// The exit was lost, and the frame is used again: by the same function, and
	// by another.
	"entry f1 A t=1 w=1; entry f1 A t=5 w=2; exit f1 A t=6": `
A#2 5..6 w=2
noexit=1
`,
	"entry f1 A t=1; entry f1 B t=5; exit f1 B t=6": `
B#2 5..6
noexit=1
`,

	// Exit of A and entry of B both lost: B's exit is not A's.
	"entry f1 A t=1 w=1; exit f1 B t=6 ret=4": `
B#2 ?..6 ret=4
noentry=1 noexit=1
`,

	// A call can't return before it began.
	"entry f1 A t=9; exit f1 A t=8": `
A#2 ?..8
noentry=1 noexit=1
`,

	// Two exits of one entry.
	"entry f1 A t=1; exit f1 A t=2; exit f1 A t=3": `
A#1 1..2
A#2 ?..3
noentry=1
`,

	"entry f1 A t=1; entry f2 A t=2; exit f1 A t=3": `
A#1 1..3
open=1
`,
	"": "\n",
}

func TestAssembler(t *testing.T) {
	for text, want := range tests {
		t.Run(text, func(t *testing.T) {
			var a Assembler
			var got strings.Builder
			got.WriteByte('\n')
			for field := range strings.SplitSeq(text, ";") {
				r := parseRecord(t, strings.TrimSpace(field))
				switch {
				case r == nil:
				case r.Kind == event.Entry:
					a.Enter(r)
				default:
					c := a.Leave(r)
					got.WriteString(format(c))
					a.Release(c)
				}
			}
			counts := a.Counts()
			writeLine(&got, "noentry", counts.NoEntry, "noexit", counts.NoExit, "open", uint64(a.Open()))
			if diff := cmp.Diff(want, got.String()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func parseRecord(t *testing.T, text string) *event.Record {
	t.Helper()
	fields := strings.Fields(text)
	if len(fields) == 0 {
		return nil
	}
	r := &event.Record{Kind: event.Exit, Retval: make([]byte, 8)}
	if fields[0] == "entry" {
		r = &event.Record{Kind: event.Entry, Words: make([]byte, 8)}
	}
	r.Frame = number(t, strings.TrimPrefix(fields[1], "f"))
	r.Target = int(fields[2][0] - 'A')
	for _, field := range fields[3:] {
		name, value, _ := strings.Cut(field, "=")
		switch name {
		case "t":
			r.Time = number(t, value)
		case "cpu":
			r.CPU = uint16(number(t, value))
		case "tid":
			r.Tid = uint32(number(t, value))
		case "w":
			binary.LittleEndian.PutUint64(r.Words, number(t, value))
		case "ret":
			binary.LittleEndian.PutUint64(r.Retval, number(t, value))
		case "lost":
			r.EntryLost = true
		default:
			t.Fatalf("what is %q?", field)
		}
	}
	return r
}

func number(t *testing.T, text string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func format(c *Call) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%c#%d ", 'A'+c.Target, c.ID)
	word := uint64(0)
	if c.Entered {
		fmt.Fprintf(&b, "%d", c.Entry)
		word = binary.LittleEndian.Uint64(c.Words)
	} else {
		b.WriteByte('?')
	}
	fmt.Fprintf(&b, "..%d", c.Exit)
	if c.Entered && c.Duration() != c.Exit-c.Entry {
		b.WriteString(" bad duration")
	}
	b.WriteByte(' ')
	writeLine(&b, "cpu", uint64(c.ExitCPU), "tid", uint64(c.Tid), "w", word, "ret", binary.LittleEndian.Uint64(c.Retval[:]))
	return strings.TrimSpace(b.String()) + "\n"
}

// writeLine writes what isn't zero of pairs of names and numbers.
func writeLine(b *strings.Builder, pairs ...any) {
	var parts []string
	for i := 0; i < len(pairs); i += 2 {
		if n := pairs[i+1].(uint64); n != 0 {
			parts = append(parts, fmt.Sprintf("%s=%d", pairs[i], n))
		}
	}
	if len(parts) > 0 {
		b.WriteString(strings.Join(parts, " ") + "\n")
	}
}

// TestNote covers entries whose exits nobody waits for.
func TestNote(t *testing.T) {
	var a Assembler
	for range 2 {
		a.Release(a.Note(parseRecord(t, "entry f1 A t=1")))
	}
	if a.Open() != 0 || a.Counts() != (Counts{}) {
		t.Errorf("%d open, %+v", a.Open(), a.Counts())
	}
}

// TestCopies checks that a call doesn't refer to the record that it came from,
// nor to a call that was released.
func TestCopies(t *testing.T) {
	fill := func(seed byte) *event.Record {
		r := &event.Record{
			Kind: event.Entry, Frame: uint64(seed), Time: 10,
			Words: make([]byte, 16), Outputs: make([]byte, 24), Strings: make([]byte, 128),
		}
		for part, b := range [][]byte{r.Words, r.Outputs, r.Strings} {
			for i := range b {
				b[i] = seed + byte(part)<<4
			}
		}
		return r
	}
	exit := func(frame uint64) *event.Record { return &event.Record{Kind: event.Exit, Frame: frame, Time: 20} }
	check := func(c *Call, seed byte) {
		t.Helper()
		want := fill(seed)
		if string(c.Words) != string(want.Words) || string(c.Outputs) != string(want.Outputs) || string(c.Strings) != string(want.Strings) {
			t.Errorf("call of %d: words % x, outputs % x, strings % x", seed, c.Words, c.Outputs, c.Strings)
		}
	}
	var a Assembler
	r := fill(1)
	first := a.Enter(r)
	for _, b := range [][]byte{r.Words, r.Outputs, r.Strings} {
		copy(b, "changed")
	}
	first.Stack, first.Packet = "made at the entry", &Packet{Length: 1}
	check(first, 1)

	a.Release(a.Leave(exit(1)))
	second, third := a.Enter(fill(2)), a.Enter(fill(3))
	check(second, 2)
	check(third, 3)
	if second == third {
		t.Error("two open calls are one")
	}
	// Appending to words must not reach the outputs behind them, nor that to outputs
	// the strings.
	_, _ = append(second.Words, "xxxxxxxx"...), append(second.Outputs, "xxxxxxxx"...)
	check(second, 2)
	for _, c := range []*Call{second, third} {
		if c.Stack != nil || c.Packet != nil {
			t.Errorf("left behind by an older call: %v, %v", c.Stack, c.Packet)
		}
		c.Stack, c.Packet = "made at the entry", &Packet{Length: 2}
	}

	a.Release(a.Leave(exit(2)))
	fourth := a.Enter(&event.Record{Kind: event.Entry, Frame: 4, Time: 10})
	if len(fourth.Words)+len(fourth.Outputs)+len(fourth.Strings) != 0 || fourth.Stack != nil || fourth.Packet != nil || fourth.Retval != [8]byte{} {
		t.Errorf("left behind by an older call: %+v", fourth)
	}

	// Outputs alone are copied, too.
	r = fill(5)
	r.Words, r.Strings = nil, nil
	if c := a.Note(r); string(c.Outputs) != string(r.Outputs) || &c.Outputs[0] == &r.Outputs[0] {
		t.Errorf("outputs % x", c.Outputs)
	}

	// Of an exit whose entry is not known, there is nothing.
	a.Release(a.Leave(exit(3)))
	fifth := a.Leave(exit(5))
	if len(fifth.Words)+len(fifth.Outputs)+len(fifth.Strings) != 0 || fifth.Stack != nil || fifth.Packet != nil {
		t.Errorf("left behind by an older call: %+v", fifth)
	}
	if got, want := a.Counts(), (Counts{NoEntry: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestNoAllocation(t *testing.T) {
	var a Assembler
	entry := event.Record{
		Kind: event.Entry, Frame: 1, Time: 1, Words: make([]byte, 96), Outputs: make([]byte, 512), Strings: make([]byte, 1536),
	}
	exit := event.Record{Kind: event.Exit, Frame: 1, Time: 2, Retval: make([]byte, 8)}
	call := func() {
		entry.Frame, exit.Frame = entry.Frame+16, exit.Frame+16 // mostly new to the map
		a.Enter(&entry)
		a.Release(a.Leave(&exit))
	}
	call()
	if n := testing.AllocsPerRun(10000, call); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}
