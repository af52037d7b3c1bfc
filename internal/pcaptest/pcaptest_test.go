package pcaptest

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"golang.org/x/net/bpf"

	"fgtrace/internal/pcapfilter"
)

// known is what the guests of the matrix get.
func known(t *testing.T) *Set {
	t.Helper()
	s, err := Known(t.Context(), 1, 10000)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestKnown: each expression tells packets apart.
func TestKnown(t *testing.T) {
	s := known(t)
	for _, f := range s.Filters {
		if readsUnwritten(f.Ethernet) || readsUnwritten(f.Raw) {
			t.Errorf("%s: libpcap's code reads what it has not written", f.Text)
		}
		var count [Endless + 1]int
		for _, v := range f.Verdicts {
			count[v]++
		}
		const few = 5
		least, most := few, len(s.Packets)-few
		switch f.Text {
		case "len = len":
			least, most = len(s.Packets), len(s.Packets)
		case "len < 0":
			least, most = 0, 0
		}
		if count[Yes] < least || count[Yes] > most || count[Endless] > len(s.Packets)/100 {
			t.Errorf("%s: of %d packets %d match, and %d have no end", f.Text, len(s.Packets), count[Yes], count[Endless])
		}
	}
	if len(s.Filters) < 100 {
		t.Errorf("%d filters", len(s.Filters))
	}
}

// TestRandom: a seed makes the same set each time, and one that is worth running.
func TestRandom(t *testing.T) {
	var sets [2]*Set
	for i := range sets {
		var err error
		if sets[i], err = Random(t.Context(), 7, 20, 200); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(sets[0], sets[1]) {
		t.Error("the second differs")
	}
	raw, err := sets[0].Encode()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Decode(raw); err != nil || !reflect.DeepEqual(again.Filters, sets[0].Filters) || len(again.Packets) != len(sets[0].Packets) {
		t.Errorf("decoded, it differs: %v", err)
	}
	mixed := 0
	for _, f := range sets[0].Filters {
		if slices.Contains(f.Verdicts, Yes) && slices.Contains(f.Verdicts, No) {
			mixed++
		}
	}
	if mixed < 10 || len(sets[0].Filters) < 30 {
		t.Errorf("%d of %d filters tell packets apart", mixed, len(sets[0].Filters))
	}
}

// TestUnwritten: words of the scratch memory that are not stored on every way.
func TestUnwritten(t *testing.T) {
	load, store, back := bpf.RawInstruction{Op: opLd | modeMem, K: 3}, bpf.RawInstruction{Op: opSt, K: 3}, bpf.RawInstruction{Op: opJmp, K: 1<<32 - 2}
	branch, ret := bpf.RawInstruction{Op: 0x15, Jf: 1}, bpf.RawInstruction{Op: 0x16}
	for _, test := range []struct {
		code []bpf.RawInstruction
		want bool
	}{
		{nil, false},
		{[]bpf.RawInstruction{load, ret}, true},
		{[]bpf.RawInstruction{store, load, ret}, false},
		{[]bpf.RawInstruction{branch, store, load, ret}, true},
		{[]bpf.RawInstruction{branch, ret, store, load, ret}, false},
		{[]bpf.RawInstruction{store, branch, back, load, ret}, false},
	} {
		if got := readsUnwritten(test.code); got != test.want {
			t.Errorf("%v: %v", test.code, got)
		}
	}
}

// TestNative: the machine's own libpcap says the same. TRACE_TOOLS=1 makes the test fail
// where there is no tcpdump.
func TestNative(t *testing.T) {
	if _, err := exec.LookPath("tcpdump"); err != nil {
		if os.Getenv("TRACE_TOOLS") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	s := known(t)
	for link, number := range map[int]uint32{pcapfilter.Ethernet: 1, pcapfilter.Raw: 101} { // LINKTYPE_RAW
		path := filepath.Join(t.TempDir(), "packets.pcap")
		if err := os.WriteFile(path, capture(s, link, number), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, f := range s.Filters {
			if f.code(Packet{Link: link}) == nil {
				continue
			}
			out, err := exec.Command("tcpdump", "-r", path, "-w", "-", "--", f.Text).Output()
			if err != nil {
				t.Errorf("%s: %v", f.Text, err)
				continue
			}
			matches := captured(out)
			for i, p := range s.Packets {
				if p.Link == link && matches[i] != (f.Verdicts[i] == Yes) && !endsNever(s, i) {
					t.Errorf("%s, link type %d: %v for tcpdump: %x", f.Text, link, matches[i], p.Bytes)
				}
			}
		}
	}
}

// endsNever tells whether a filter doesn't end on a packet: tcpdump must not get it.
func endsNever(s *Set, packet int) bool {
	for _, f := range s.Filters {
		if f.Verdicts[packet] == Endless {
			return true
		}
	}
	return false
}

// capture is a pcap file; packets have their numbers as times.
func capture(s *Set, link int, number uint32) []byte {
	le := binary.LittleEndian
	file := le.AppendUint32(nil, 0xa1b2c3d4)
	for _, word := range []uint32{4<<16 | 2, 0, 0, 262144, number} {
		file = le.AppendUint32(file, word)
	}
	for i, p := range s.Packets {
		if p.Link != link || endsNever(s, i) {
			continue
		}
		for _, word := range []int{i, 0, len(p.Bytes), len(p.Bytes)} {
			file = le.AppendUint32(file, uint32(word))
		}
		file = append(file, p.Bytes...)
	}
	return file
}

// captured returns the numbers of the packets in a file.
func captured(file []byte) map[int]bool {
	const header, record = 24, 16
	numbers := map[int]bool{}
	for at := header; at+record <= len(file); {
		numbers[int(binary.LittleEndian.Uint32(file[at:]))] = true
		at += record + int(binary.LittleEndian.Uint32(file[at+8:]))
	}
	return numbers
}
