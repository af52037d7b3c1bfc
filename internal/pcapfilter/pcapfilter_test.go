package pcapfilter

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/bpf"

	"fgtrace/internal/golden"
)

func filters(t testing.TB) []string { return golden.Lines(t, "filters.txt") }

// variant is a way of compiling, as tcpdump's options.
type variant struct {
	link    []string
	options Options
}

// Packets of the loopback device have an Ethernet header, and a live capture finds tags
// of VLANs beside them.
var (
	ofDevice = []string{"-i", "lo"}
	ofRaw    = []string{"-y", "RAW"}
)

var variants = []variant{
	{ofDevice, Options{LinkType: Ethernet, Snaplen: 262144}},
	{ofDevice, Options{LinkType: Ethernet, Snaplen: 262144, Plain: true}},
	{ofRaw, Options{LinkType: Raw, Snaplen: 262144}},
	{ofRaw, Options{LinkType: Raw, Snaplen: 262144, Plain: true}},
}

// native is what the native libpcap makes of a filter: code as "op jt jf k,", or its
// message.
func native(v variant, filter string) string {
	args := append([]string{"-ddd"}, v.link...)
	if v.options.Plain {
		args = append(args, "-O")
	}
	out, err := exec.Command("tcpdump", append(args, "--", filter)...).CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err != nil {
		return "error: " + strings.TrimPrefix(lines[len(lines)-1], "tcpdump: ")
	}
	for i, line := range lines {
		if n, err := strconv.Atoi(line); err == nil && n == len(lines)-i-1 {
			return strings.Join(lines[i+1:], ",")
		}
	}
	return "error: " + string(out)
}

// askNative has the native libpcap compile the filters, by tcpdump.
func askNative(t *testing.T) {
	t.Helper()
	var b strings.Builder
	for _, filter := range filters(t) {
		for _, v := range variants {
			fmt.Fprintln(&b, native(v, filter))
		}
	}
	golden.Check(t, goldenFile, b.String())
}

const goldenFile = "filters.golden"

func spell(insns []bpf.RawInstruction) string {
	var parts []string
	for _, i := range insns {
		parts = append(parts, fmt.Sprintf("%d %d %d %d", i.Op, i.Jt, i.Jf, i.K))
	}
	return strings.Join(parts, ",")
}

// TestCompile compares code and messages with those of the native libpcap. -update
// asks it.
func TestCompile(t *testing.T) {
	if golden.Updating() {
		askNative(t)
	}
	want := golden.Lines(t, goldenFile)
	all := filters(t)
	if len(want) != len(all)*len(variants) {
		t.Fatalf("%d results for %d filters: -update", len(want), len(all))
	}
	refused := 0
	for i, filter := range all {
		for j, v := range variants {
			v.options.Names = Names{
				Protocol: func(name string) (int, bool) { return 6, name == "tcp" },
				Port:     func(service, protocol string) (int, bool) { return 80, service == "http" && protocol != "udp" },
			}
			insns, err := Compile(context.Background(), filter, v.options)
			got := spell(insns)
			if err != nil {
				var e *Error
				if !errors.As(err, &e) {
					t.Fatal(err)
				}
				refused++
				got = "error: " + e.Msg
			}
			if w := want[i*len(variants)+j]; got != w {
				t.Errorf("%s %+v\n got %s\nwant %s", filter, v.options, got, w)
			}
		}
	}
	if refused == 0 || refused > len(want)/2 {
		t.Errorf("%d of %d are refused", refused, len(want))
	}
}

func TestNames(t *testing.T) {
	names := Names{
		Addresses: func(host string) []netip.Addr {
			if host != "two.example" {
				return nil
			}
			return []netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("2001:db8::7")}
		},
		Port: func(service, protocol string) (int, bool) {
			return 8080, service == "web" && protocol != "udp"
		},
		Protocol: func(name string) (int, bool) { return 132, name == "sctp" },
		Network:  func(name string) (uint32, bool) { return 10, name == "ten" },
	}
	for named, numeric := range map[string]string{
		"ip host two.example":      "ip host 10.1.2.3",
		"ip6 src host two.example": "ip6 src host 2001:db8::7",
		"tcp port web":             "tcp port 8080",
		`ip proto \sctp`:           "ip proto 132",
		"net ten":                  "net 10",
		"tcp dst port web or icmp": "tcp dst port 8080 or icmp",
	} {
		o := Options{LinkType: Ethernet, Snaplen: 1}
		want, err := Compile(context.Background(), numeric, o)
		if err != nil {
			t.Fatal(err)
		}
		o.Names = names
		if got, err := Compile(context.Background(), named, o); err != nil || spell(got) != spell(want) {
			t.Errorf("%s: %v, %v, want %v", named, got, err, want)
		}
		o.Names = Names{}
		if got, err := Compile(context.Background(), named, o); err == nil {
			t.Errorf("%s without names: %v", named, got)
		}
	}
}

// TestUnknown: what can't be known of a packet in the kernel is refused.
func TestUnknown(t *testing.T) {
	for filter, want := range map[string]string{
		"ip broadcast": "netmask not known, so 'ip broadcast' not supported",
		"inbound":      "inbound/outbound not supported on Ethernet",
		"outbound":     "inbound/outbound not supported on Ethernet",
	} {
		_, err := Compile(context.Background(), filter, Options{LinkType: Ethernet, Snaplen: 1})
		var e *Error
		if !errors.As(err, &e) || e.Msg != want || e.Expression != filter {
			t.Errorf("%s: %v, want %q", filter, err, want)
		}
	}
}

// TestLimits: what would take too much ends with a message, soon.
func TestLimits(t *testing.T) {
	o := Options{LinkType: Ethernet, Snaplen: 1}
	var terms []string
	for i := range 3000 {
		terms = append(terms, fmt.Sprintf("(tcp port %d and host 10.%d.%d.1)", i+1, i/256, i%256))
	}
	for name, test := range map[string]struct{ filter, want string }{
		"many":   {strings.Join(terms[:200], " or "), ""}, // more than can be interpreted
		"terms":  {strings.Join(terms[:1500], " or "), "filter"},
		"long":   {strings.Join(terms, " or "), "a filter has at most 65536"},
		"deep":   {strings.Repeat("(", 30000) + "tcp" + strings.Repeat(")", 30000), ""},
		"nots":   {strings.Repeat("not ", 15000) + "tcp", ""},
		"zero":   {"tcp\x00 or udp", "a zero in the text"},
		"binary": {"\xff\xfe\x01", ""},
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			insns, err := Compile(context.Background(), test.filter, o)
			if took := time.Since(began); took > 2*maxTime {
				t.Errorf("it took %v", took)
			}
			var e *Error
			if err != nil && !errors.As(err, &e) || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%d instructions, %v, want %q", len(insns), err, test.want)
			}
			if err != nil && len(err.Error()) > 1000 {
				t.Errorf("a message of %d bytes", len(err.Error()))
			}
			if name == "many" && err != nil && !strings.Contains(err.Error(), "libpcap takes more than") {
				t.Error(err)
			}
		})
	}
}

func FuzzCompile(f *testing.F) {
	for _, filter := range filters(f) {
		f.Add(filter, true)
	}
	f.Fuzz(func(t *testing.T, filter string, ethernet bool) {
		o := Options{LinkType: Raw, Snaplen: 65535}
		if ethernet {
			o.LinkType = Ethernet
		}
		insns, err := Compile(context.Background(), filter, o)
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Fatalf("%q: %v", filter, err)
		}
		if err != nil {
			return
		}
		if _, all := bpf.Disassemble(insns); len(insns) == 0 || !all && !strings.Contains(filter, "chain") {
			t.Fatalf("%q: %v", filter, insns)
		}
	})
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		if _, err := Compile(context.Background(), "tcp port 80 and host 10.0.0.1", Options{LinkType: Ethernet, Snaplen: 1}); err != nil {
			b.Fatal(err)
		}
	}
}
