package pcapng

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// noon is a time whose halves and nanoseconds all count.
const noon = 1700000000123456789

// echo is an ICMP echo request, raw and as a frame.
var (
	echo = []byte{
		0x45, 0, 0, 28, 0, 1, 0, 0, 64, 1, 0x7c, 0xde, 127, 0, 0, 1, 127, 0, 0, 1,
		8, 0, 0xf7, 0xfd, 0, 1, 0, 1,
	}
	frame = append([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0}, echo...)
)

// capture is a file that has everything. Interfaces are told when they are needed.
func capture() ([]byte, *file) {
	f := &file{
		Section: Section{Hardware: "x86_64", OS: "Linux 6.12.1", Application: "trace 1", Comment: "trace -k icmp_rcv\nsecond line"},
		Interfaces: []Interface{
			{Name: "icmp_rcv@entry", Description: "skb", Filter: "icmp", LinkType: LinkEthernet, SnapLen: 65535},
			{Name: "icmp_rcv@return", LinkType: LinkEthernet, SnapLen: 65535},
			{Name: "ip_rcv@entry", Description: "größer", LinkType: LinkRaw, SnapLen: 128},
		},
		Packets: []packet{
			{Interface: 0, Time: noon, Data: frame, Length: 1514, Flags: Inbound, Comments: []string{"ping 42, CPU 3", "result 0"}},
			{Interface: 0, Time: noon + 1, Data: frame[:15], Length: 42, Flags: Outbound},
			{Interface: 1, Time: noon + 2, Data: frame, Length: 42, Comments: []string{"größer"}},
			{Interface: 2, Time: noon + 3, Data: echo, Length: 28},
			{Interface: 0, Time: noon + 1e9, Data: nil, Length: 60},
		},
		Statistics: []Statistics{
			{Interface: 0, Time: noon + 2e9, Start: noon - 1, End: noon + 2e9, Received: 1<<32 + 7, Dropped: 4, Accepted: 9, OSDropped: 5, Delivered: 3},
			{Interface: 1, Time: noon + 2e9, Received: 1, Dropped: 0, Accepted: 1, OSDropped: Unknown, Delivered: 1},
			{Interface: 2, Time: noon + 2e9, Received: Unknown, Dropped: Unknown, Accepted: Unknown, OSDropped: Unknown, Delivered: Unknown},
		},
	}
	b := AppendSection(nil, f.Section)
	known := 0
	for _, p := range f.Packets {
		for ; known <= p.Interface; known++ {
			b = AppendInterface(b, f.Interfaces[known])
		}
		b = AppendPacket(b, p.packet())
	}
	for _, s := range f.Statistics {
		b = AppendStatistics(b, s)
	}
	return b, f
}

func (p packet) packet() Packet {
	return Packet{
		Interface: p.Interface, Time: p.Time, Data: p.Data, Length: p.Length, Flags: p.Flags,
		Comment: []byte(strings.Join(p.Comments, "\n")),
	}
}

func TestRoundTrip(t *testing.T) {
	b, want := capture()
	got, err := read(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
}

// TestBytes compares with bytes that were written down by the draft.
func TestBytes(t *testing.T) {
	for _, c := range []struct{ name, got, want string }{
		{
			"section", hex(AppendSection(nil, Section{})),
			"0a0d0d0a 1c000000 4d3c2b1a 01000000 ffffffff ffffffff 1c000000",
		},
		{
			"section with an option", hex(AppendSection(nil, Section{OS: "Linux"})),
			"0a0d0d0a 2c000000 4d3c2b1a 01000000 ffffffff ffffffff 03000500 4c696e75 78000000 00000000 2c000000",
		},
		{
			"interface", hex(AppendInterface(nil, Interface{Name: "f", Filter: "tcp", LinkType: LinkRaw, SnapLen: 96})),
			"01000000 30000000 65000000 60000000 02000100 66000000 09000100 09000000 0b000400 00746370 00000000 30000000",
		},
		{
			"packet", hex(AppendPacket(nil, Packet{Interface: 2, Time: 0x1122334455667788, Data: []byte{1, 2, 3, 4, 5}})),
			"06000000 28000000 02000000 44332211 88776655 05000000 05000000 01020304 05000000 28000000",
		},
		{
			"packet with options", hex(AppendPacket(nil, Packet{Length: 9, Flags: Outbound, Comment: []byte("abcd")})),
			"06000000 34000000 00000000 00000000 00000000 00000000 09000000 01000400 61626364 02000400 02000000 00000000 34000000",
		},
		{
			"statistics", hex(AppendStatistics(nil, Statistics{
				Interface: 1, Time: 0x1122334455667788, Start: 0x0102030405060708,
				Received: Unknown, Dropped: 3, Accepted: Unknown, OSDropped: Unknown, Delivered: Unknown,
			})),
			"05000000 34000000 01000000 44332211 88776655 02000800 04030201 08070605 05000800 03000000 00000000 00000000 34000000",
		},
	} {
		if c.got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, c.got, c.want)
		}
	}
}

// hex prints words in the order of their bytes.
func hex(b []byte) string {
	var words []string
	for ; len(b) >= 4; b = b[4:] {
		words = append(words, fmt.Sprintf("%x", b[:4]))
	}
	return strings.Join(words, " ")
}

func TestComments(t *testing.T) {
	long := strings.Repeat("x", maxOption)
	for _, c := range []struct {
		name, comment string
		want          []string
	}{
		{"none", "", nil},
		{"empty lines", "\n\na\n\nb\n", []string{"a", "b"}},
		{"no UTF-8", "a\xff\xc3\nb", []string{"a\ufffd\ufffd", "b"}},
		{"zero", "a\x00b", []string{"a\ufffdb"}},
		{"U+FFFD", "\ufffd", []string{"\ufffd"}},
		{"longest", long, []string{long}},
		{"too long", long + "y", []string{long[3:] + "..."}},
		{"cut at a rune", long[:maxOption-5] + "ü€abc", []string{long[:maxOption-5] + "ü..."}},
		{"cut in a rune", long[:maxOption-5] + "€€", []string{long[:maxOption-5] + "..."}},
		{"cut in a rune's last byte", long[:maxOption-6] + "😀€", []string{long[:maxOption-6] + "..."}},
		{"too long as UTF-8", strings.Repeat("\xff", 30000), []string{strings.Repeat("\ufffd", 65532/3) + "..."}},
	} {
		f, err := read(onePacket(Packet{Comment: []byte(c.comment)}))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if diff := cmp.Diff(c.want, f.Packets[0].Comments); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

func onePacket(p Packet) []byte {
	return AppendPacket(AppendInterface(AppendSection(nil, Section{}), Interface{LinkType: LinkEthernet}), p)
}

// TestBlocksAreBounded writes what is too long for a block in each of them.
func TestBlocksAreBounded(t *testing.T) {
	long := strings.Repeat("x", 100000)
	lines := strings.Repeat(long+"\n", 5)
	for n := range 9 {
		b := AppendSection(nil, Section{Hardware: "h", OS: long[:n+1], Application: "a", Comment: long})
		b = AppendInterface(b, Interface{Name: long[n:], Description: long, Filter: long})
		data := bytes.Repeat([]byte{1}, MaxSnapLen+4-n)
		b = AppendPacket(b, Packet{Data: data, Length: 7, Comment: []byte(lines), Flags: Inbound})
		b = AppendPacket(b, Packet{Data: data[:n], Comment: []byte(lines), Flags: Inbound})
		f, err := read(b)
		if err != nil {
			t.Fatal(err)
		}
		p := f.Packets[0]
		if len(p.Data) != min(len(data), MaxSnapLen) || p.Length != len(data) {
			t.Errorf("%d of %d bytes are there, the length is %d", len(p.Data), len(data), p.Length)
		}
		if len(p.Comments) != 1 || len(p.Comments[0]) < 65000 || !strings.HasSuffix(p.Comments[0], "x...") {
			t.Errorf("%d comments beside %d bytes", len(p.Comments), len(p.Data))
		}
		if got := len(f.Packets[1].Comments); got != 4 {
			t.Errorf("%d comments beside %d bytes", got, n)
		}
		if p.Flags != Inbound || f.Interfaces[0].Filter == "" {
			t.Error("what comes after long strings is missing")
		}
		if n := len(f.Section.Comment); n < 1950 || !strings.HasSuffix(f.Section.Comment, "x...") {
			t.Errorf("the section's comment has %d bytes", n)
		}
	}
}

// TestLittleRoom leaves from much to no room for a string.
func TestLittleRoom(t *testing.T) {
	for n := range maxSection {
		s := Section{OS: strings.Repeat("x", n), Comment: strings.Repeat("ü", 1100)}
		f, err := read(AppendSection(nil, s))
		if err != nil {
			t.Fatalf("after %d bytes: %v", n, err)
		}
		text, isCut := strings.CutSuffix(f.Section.Comment, "...")
		if isCut == (f.Section.Comment == "") || strings.Trim(text, "ü") != "" {
			t.Errorf("after %d bytes: %q", n, f.Section.Comment)
		}
	}
}

// TestBlocksHaveNoPlace appends to what is there already.
func TestBlocksHaveNoPlace(t *testing.T) {
	want, _ := capture()
	_, f := capture()
	for n := range 5 {
		prefix := strings.Repeat("p", n)
		b := AppendPacket([]byte(prefix), f.Packets[0].packet())
		b = AppendStatistics(b, f.Statistics[0])
		if !bytes.HasPrefix(b, []byte(prefix)) || !bytes.Contains(want, b[n:n+int(u32(b[n+4:]))]) {
			t.Errorf("after %d bytes: %x", n, b)
		}
	}
}

func TestPacketsDoNotAllocate(t *testing.T) {
	dst := make([]byte, 0, 1024)
	p := Packet{Time: noon, Data: frame, Length: 1514, Flags: Inbound, Comment: []byte("ping 42\nbroken \xff\x00\nresult 0")}
	if n := testing.AllocsPerRun(100, func() { dst = AppendPacket(dst[:0], p) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAppendPacket(b *testing.B) {
	var dst []byte
	p := Packet{Time: noon, Data: make([]byte, 128), Length: 1514, Flags: Inbound, Comment: []byte("ping 42, CPU 3\nresult 0")}
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendPacket(dst[:0], p)
	}
}

func FuzzRoundTrip(f *testing.F) {
	f.Add("x86_64", "a comment", "icmp_rcv@entry", "icmp or arp", []byte("one\ntwo"), frame, 1514, uint64(noon), uint64(7), uint32(Inbound))
	f.Add("", "", "", "", []byte(nil), []byte(nil), 0, uint64(0), uint64(Unknown), uint32(0))
	f.Add("\xff\x00", "\x00", "ü\xc3", "\n", []byte("\n\x00\n\xf0\x9f"), []byte{0}, -1, uint64(1)<<63, uint64(0), uint32(1)<<31)
	f.Fuzz(func(t *testing.T, hardware, comment, name, filter string, comments, data []byte, length int, time, count uint64, flags uint32) {
		if len(hardware)+len(comment)+len(name)+len(filter) > 600 || len(comments) > 10000 {
			return // TestBlocksAreBounded has what is cut
		}
		length = min(max(length, -1), 1<<32-1)
		in := file{
			Section: Section{Hardware: hardware, OS: name, Application: filter, Comment: comment},
			Interfaces: []Interface{
				{Name: name, Description: comment, Filter: filter, LinkType: uint16(count), SnapLen: flags},
				{Name: filter, Description: hardware, Filter: comment, LinkType: LinkRaw, SnapLen: MaxSnapLen},
			},
			Statistics: []Statistics{{
				Interface: int(count & 1), Time: time, Start: count, End: time,
				Received: count, Dropped: time, Accepted: uint64(flags), OSDropped: ^count, Delivered: count + time,
			}},
		}
		p := Packet{Interface: int(time & 1), Time: time, Data: data, Length: length, Flags: flags, Comment: comments}
		b := AppendSection(nil, in.Section)
		for _, i := range in.Interfaces {
			b = AppendInterface(b, i)
		}
		b = AppendPacket(b, p)
		b = AppendStatistics(b, in.Statistics[0])

		got, err := read(b)
		if err != nil {
			t.Fatal(err)
		}
		want := &file{
			Section:    Section{Hardware: clean(hardware), OS: clean(name), Application: clean(filter), Comment: clean(comment)},
			Statistics: in.Statistics,
			Packets: []packet{{
				Interface: p.Interface, Time: time, Data: append([]byte{}, data[:min(len(data), MaxSnapLen)]...),
				Length: max(length, len(data)), Flags: flags,
			}},
		}
		for _, i := range in.Interfaces {
			i.Name, i.Description, i.Filter = clean(i.Name), clean(i.Description), clean(i.Filter)
			want.Interfaces = append(want.Interfaces, i)
		}
		for line := range strings.SplitSeq(string(comments), "\n") {
			if line != "" {
				want.Packets[0].Comments = append(want.Packets[0].Comments, clean(line))
			}
		}
		if !reflect.DeepEqual(want, got) { // cmp differs from run to run, which the fuzzer takes for news
			t.Error(cmp.Diff(want, got))
		}
	})
}

// clean is the string that a reader finds for one that was written.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == 0 {
			return utf8.RuneError
		}
		return r
	}, s)
}
