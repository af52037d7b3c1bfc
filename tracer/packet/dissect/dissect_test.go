package dissect

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"fgtrace/tracer/packet"
)

// example is a packet, and what is to be told of it.
type example struct {
	name       string
	link       packet.Link
	length     int
	data       []byte
	text, json string // json may be empty: it is like that of others
}

// examples reads testdata/packets.txt, which tells its format.
func examples(tb testing.TB) []example {
	tb.Helper()
	f, err := os.Open("testdata/packets.txt")
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	var all []example
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), " ")
		switch {
		case key == "packet":
			all = append(all, example{name: value})
			continue
		case len(all) == 0: // comments
			continue
		}
		switch e := &all[len(all)-1]; key {
		case "ethernet", "raw":
			if key == "raw" {
				e.link = packet.Raw
			}
			length, data, _ := strings.Cut(value, " ")
			if e.length, err = strconv.Atoi(length); err == nil {
				e.data, err = hex.DecodeString(data)
			}
			if err != nil {
				tb.Fatalf("%s: %v", e.name, err)
			}
		case "text":
			e.text = value
		case "json":
			e.json = value
		case "", "tcpdump":
		default:
			tb.Fatalf("%s: no key %q", e.name, key)
		}
	}
	if err := lines.Err(); err != nil {
		tb.Fatal(err)
	}
	return all
}

func TestExamples(t *testing.T) {
	for _, e := range examples(t) {
		if got := string(AppendText(nil, e.link, e.data, e.length)); got != e.text {
			t.Errorf("%s:\n %s instead of\n %s", e.name, got, e.text)
		}
		got := string(AppendJSON(nil, e.link, e.data, e.length))
		if e.json != "" && got != e.json {
			t.Errorf("%s:\n %s instead of\n %s", e.name, got, e.json)
		}
		check(t, e.link, e.data, e.length)
	}
}

// TestTruncated cuts every packet off at every length.
func TestTruncated(t *testing.T) {
	for _, e := range examples(t) {
		for n := range e.data {
			check(t, e.link, e.data[:n:n], e.length)
			check(t, e.link, e.data[:n:n], n)
		}
	}
}

// check tests what holds for whatever bytes.
func check(t *testing.T, link packet.Link, data []byte, length int) {
	t.Helper()
	text := AppendText([]byte("> "), link, data, length)
	text, ok := bytes.CutPrefix(text, []byte("> "))
	if !ok || len(text) == 0 {
		t.Fatalf("%x: text %q", data, text)
	}
	if !utf8.Valid(text) || bytes.ContainsFunc(text, unicode.IsControl) || bytes.ContainsAny(text, "%") {
		t.Fatalf("%x: text %q", data, text)
	}
	object, ok := bytes.CutPrefix(AppendJSON([]byte("> "), link, data, length), []byte("> "))
	var got struct {
		Length, Captured int
		Link             string
		Layers           []struct {
			Type                 string
			Truncated, Malformed bool
		}
	}
	if err := json.Unmarshal(object, &got); err != nil || !ok {
		t.Fatalf("%x: %v: %s", data, err, object)
	}
	if got.Length != max(length, len(data)) || got.Captured != len(data) || len(got.Layers) == 0 {
		t.Fatalf("%x: %s", data, object)
	}
	for i, l := range got.Layers {
		if l.Type == "" || (l.Truncated || l.Malformed) && i < len(got.Layers)-1 {
			t.Fatalf("%x: layer %d: %s", data, i, object)
		}
	}
}

// TestCut has what ends in a header, at all the places where that makes a difference.
func TestCut(t *testing.T) {
	for _, test := range []struct {
		name string
		at   int
		want string
	}{
		{"icmp echo request", 0, "[|ether]"},
		{"icmp echo request", 13, "[|ether]"},
		{"icmp echo request", 33, "IP [|ip]"},
		{"icmp echo request", 34, "IP 10.0.0.1 > 10.0.0.2: [|icmp]"},
		{"ipv4 record route", 60, "IP 10.0.0.1 > 10.0.0.2: [|ip]"},
		{"vlan", 17, "[|vlan]"},
		{"vlan", 20, "vlan 5, p 0, IP [|ip]"},
		{"arp request", 21, "[|arp]"},
		{"arp request", 36, "ARP, Request who-has [|arp]"},
		{"ipip", 40, "IP 10.0.0.1 > 10.0.0.2: IP [|ip]"},
		{"udp", 34, "IP 10.0.0.1 > 10.0.0.2: [|udp]"},
		{"udp", 38, "IP 10.0.0.1.47977 > 10.0.0.2.9999: [|udp]"},
		{"udp over ipv6", 53, "IP6 [|ip6]"},
		{"tcp ack", 53, "IP 10.0.0.1.60716 > 10.0.0.2.80: [|tcp]"},
		{
			"tcp ack", 56,
			"IP 10.0.0.1.60716 > 10.0.0.2.80: Flags [.], ack 2756932411, win 63, options [nop,nop,[|tcp]], length 0",
		},
		{"icmp port unreachable", 57, "IP 10.0.0.2 > 10.0.0.1: ICMP [|icmp]"},
		{"icmp port unreachable", 62, "IP 10.0.0.2 > 10.0.0.1: ICMP 10.0.0.2 [|icmp]"},
		{"neighbor solicitation", 70, "IP6 fd00::1 > ff02::1:ff00:2: ICMP6, neighbor solicitation [|icmp6]"},
		{"ipv6 hop-by-hop and destination options", 44, "IP6 fd00::1 > fd00::2: [|hbhopt]"},
		{"ipv6 hop-by-hop and destination options", 58, "IP6 fd00::1 > fd00::2: HBH DSTOPT [|udp]"},
		{
			"ipv6 segment routing", 70,
			"IP6 fd00::1 > fd00::2: RT6 (len=4, type=4, segleft=1, last-entry=1, tag=7, [0]fd00::3) [|rt6]",
		},
		{"gre with checksum, key and sequence", 28, "IP 10.0.0.1 > 10.0.0.2: GREv0, off 0x0 [|gre]"},
		{
			"geneve with options", 56,
			"IP6 fd00::1.5000 > fd00::2.6081: Geneve, Flags [OC], vni 0x7, options [8 bytes]: [|geneve]",
		},
		{"esp", 24, "IP 10.0.0.1 > 10.0.0.2: [|esp]"},
	} {
		e := named(t, test.name)
		if got := string(AppendText(nil, e.link, e.data[:test.at:test.at], e.length)); got != test.want {
			t.Errorf("%s, %d bytes:\n %s instead of\n %s", test.name, test.at, got, test.want)
		}
	}
}

// TestTooDeep nests tunnels, whose headers don't tell how long they are.
func TestTooDeep(t *testing.T) {
	vxlan := bytes.Clone(named(t, "vxlan without vni").data[:20+8+8+14])
	copy(vxlan[2:], []byte{0, 0})          // IPv4's total length
	copy(vxlan[20+4:], []byte{0xff, 0xff}) // UDP's
	ipip := bytes.Clone(vxlan[:20])
	ipip[9] = protocolIPv4
	inner := named(t, "udp").data[14:]
	for _, test := range []struct {
		name  string
		outer []byte
		depth int
		end   string
	}{
		{"vxlan", vxlan, 8, ": UDP, length 4"},
		{"vxlan", vxlan, 9, " [nested too deep]"},
		{"ipip", ipip, 33, ": UDP, length 4"},
		{"ipip", ipip, 100, " [nested too deep]"},
	} {
		data := append(bytes.Repeat(test.outer, test.depth), inner...)
		check(t, packet.Raw, data, len(data))
		if got := string(AppendText(nil, packet.Raw, data, len(data))); !strings.HasSuffix(got, test.end) {
			t.Errorf("%s, %d deep: %s", test.name, test.depth, got)
		}
	}
}

func named(tb testing.TB, name string) example {
	tb.Helper()
	for _, e := range examples(tb) {
		if e.name == name {
			return e
		}
	}
	tb.Fatalf("no packet %q", name)
	panic("unreachable")
}

// TestWords finds every field that a text names.
func TestWords(t *testing.T) {
	variants := map[*form][]variant{
		&arp: append(arpVariants, arpOther), &routing: routingVariants, &icmp: icmpVariants, &icmpv6: icmpv6Variants,
		&igmp: igmpVariants, &vxlan: vxlanVariants, &geneve: geneveVariants, &geneveOther: {{}},
		&gre:        append(append(greVariants[0][:], greVariants[1][:]...), greRouted, greOther),
		&optionForm: append(tcpOptionVariants, ipOptionVariants...),
	}
	for _, f := range []*form{
		&vlan, &ah, &esp, &hopByHop, &destination, &fragment, &sctp, &unknownProtocol, &unknownVersion, &noNext, &tooDeep,
	} {
		variants[f] = []variant{{}}
	}
	for f, all := range variants {
		for i := range all {
			l := layer{form: f, variant: &all[i], header: make([]byte, 64)}
			for _, part := range strings.Split(f.text+all[i].text, "{")[1:] {
				name, _, closed := strings.Cut(part, "}")
				name, _, _ = strings.Cut(name, "?")
				name, _, _ = strings.Cut(name, ":")
				if _, ok := l.find(name); !closed || !ok && name != "*" && !strings.HasPrefix(name, "quoted.") {
					t.Errorf("%s: %s: no field %q", f.name, all[i].text, name)
				}
			}
		}
	}
}

func TestNoAllocation(t *testing.T) {
	all := examples(t)
	buf := make([]byte, 0, 1<<16)
	if n := testing.AllocsPerRun(10, func() {
		for _, e := range all {
			buf = AppendText(buf[:0], e.link, e.data, e.length)
			buf = AppendJSON(buf[:0], e.link, e.data, e.length)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzDissect(f *testing.F) {
	for _, e := range examples(f) {
		f.Add(e.link == packet.Ethernet, e.data, e.length)
	}
	f.Fuzz(func(t *testing.T, ethernet bool, data []byte, length int) {
		link := packet.Raw
		if ethernet {
			link = packet.Ethernet
		}
		check(t, link, data[:len(data):len(data)], length)
	})
}

func BenchmarkText(b *testing.B) { benchmark(b, AppendText) }
func BenchmarkJSON(b *testing.B) { benchmark(b, AppendJSON) }

func benchmark(b *testing.B, write func(dst []byte, link packet.Link, data []byte, length int) []byte) {
	for _, name := range []string{"icmp echo request", "tcp syn", "vxlan"} {
		e := named(b, name)
		b.Run(name, func(b *testing.B) {
			buf := make([]byte, 0, 4096)
			b.ReportAllocs()
			for b.Loop() {
				buf = write(buf[:0], e.link, e.data, e.length)
			}
		})
	}
}
