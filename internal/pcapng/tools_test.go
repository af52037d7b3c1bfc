package pcapng

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TRACE_TOOLS=1 makes a test fail whose tool is not on the machine.

// run gives a tool what it reads from its standard input.
func run(t *testing.T, stdin []byte, tool string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	path, err := exec.LookPath(tool)
	if err != nil {
		if os.Getenv("TRACE_TOOLS") == "1" {
			t.Fatalf("%s is missing: scripts/deps.sh installs it", tool)
		}
		t.Skipf("%s is missing", tool)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C.UTF-8")
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// tshark returns a line for each packet: interface ID, name, description, link type as
// Wireshark counts it, time, lengths, direction, comments, ICMP sequence number.
func tshark(t *testing.T, stdin []byte, args ...string) []string {
	t.Helper()
	args = append(args, "-n", "-T", "fields", "-E", "separator=;", "-E", "aggregator=|")
	for _, field := range strings.Fields(`frame.interface_id frame.interface_name frame.interface_description
		frame.encap_type frame.time_epoch frame.len frame.cap_len frame.packet_flags_direction frame.comment icmp.seq`) {
		args = append(args, "-e", field)
	}
	stdout, stderr, err := run(t, stdin, "tshark", args...)
	if err != nil {
		t.Fatalf("tshark: %v\n%s", err, stderr)
	}
	return strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
}

func TestTshark(t *testing.T) {
	b, _ := capture()
	want := []string{
		"0;icmp_rcv@entry;skb;1;1700000000.123456789;1514;42;0x00000001;ping 42, CPU 3|result 0;1",
		"0;icmp_rcv@entry;skb;1;1700000000.123456790;42;15;0x00000002;;",
		"1;icmp_rcv@return;;1;1700000000.123456791;42;42;;größer;1",
		"2;ip_rcv@entry;größer;7;1700000000.123456792;28;28;;;1",
		"0;icmp_rcv@entry;skb;1;1700000001.123456789;60;0;;;",
	}
	t.Run("file", func(t *testing.T) {
		if diff := cmp.Diff(want, tshark(t, b, "-r", "-")); diff != "" {
			t.Error(diff)
		}
	})
	// As Wireshark reads a pipe, by dumpcap.
	t.Run("pipe", func(t *testing.T) {
		if diff := cmp.Diff(want, tshark(t, b, "-i", "-")); diff != "" {
			t.Error(diff)
		}
	})
}

// TestTsharkBounds gives Wireshark the longest blocks.
func TestTsharkBounds(t *testing.T) {
	long := strings.Repeat("x", 100000)
	b := AppendSection(nil, Section{Hardware: "h", OS: "o", Application: "a", Comment: long})
	b = AppendInterface(b, Interface{Name: "f", Description: long, Filter: long, LinkType: LinkEthernet})
	lines := []byte(strings.Repeat(long+"\n", 5))
	b = AppendPacket(b, Packet{Data: append(frame[:len(frame):len(frame)], make([]byte, 1<<20)...), Comment: lines, Flags: Inbound})
	b = AppendPacket(b, Packet{Data: frame, Comment: lines})
	b = AppendPacket(b, Packet{Data: frame, Comment: []byte("end")})
	for _, from := range []string{"-r", "-i"} {
		t.Run(from, func(t *testing.T) {
			lines := tshark(t, b, from, "-")
			if len(lines) != 3 || !strings.HasSuffix(lines[2], ";42;42;;end;1") {
				t.Errorf("%d packets, the last is %q", len(lines), lines[len(lines)-1])
			}
		})
	}
}

// TestTsharkStatistics shows the file as one, since tshark shows statistics nowhere else.
func TestTsharkStatistics(t *testing.T) {
	b, _ := capture()
	name := filepath.Join(t.TempDir(), "capture.pcapng")
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, err := run(t, nil, "tshark", "-X", "read_format:MIME Files Format", "-V", "-r", name)
	if err != nil {
		t.Fatalf("tshark: %v\n%s", err, stderr)
	}
	var got []string
	for line := range strings.SplitSeq(stdout, "\n") {
		line = strings.TrimSpace(line)
		if line == "Block: Interface Statistics Block" || got != nil && regexp.MustCompile(`^(Interface: |\[Timestamp: |Option: .* = )`).MatchString(line) {
			got = append(got, line)
		}
	}
	want := strings.Split(`Block: Interface Statistics Block
Interface: 0
[Timestamp: Nov 14, 2023 22:13:22.123456789 UTC]
Option: Number of Received Packets = 4294967303
Option: Number of Dropped Packets = 4
Option: Number of Accepted Packets = 9
Option: Number of Packets Dropped by OS = 5
Option: Number of Packets Delivered to the User = 3
Block: Interface Statistics Block
Interface: 1
[Timestamp: Nov 14, 2023 22:13:22.123456789 UTC]
Option: Number of Received Packets = 1
Option: Number of Dropped Packets = 0
Option: Number of Accepted Packets = 1
Option: Number of Packets Delivered to the User = 1
Block: Interface Statistics Block
Interface: 2
[Timestamp: Nov 14, 2023 22:13:22.123456789 UTC]`, "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestCapinfos(t *testing.T) {
	b, _ := capture()
	stdout, stderr, err := run(t, b, "capinfos", "-")
	if err != nil {
		t.Fatalf("capinfos: %v\n%s", err, stderr)
	}
	got := regexp.MustCompile(` +`).ReplaceAllString(stdout, " ")
	for _, want := range []string{
		"File type: Wireshark/... - pcapng\n",
		"File encapsulation: Per packet\n",
		"Number of packets: 5\n",
		"First packet time: 2023-11-14 22:13:20.123456789\n",
		"Last packet time: 2023-11-14 22:13:21.123456789\n",
		"Strict time order: True\n",
		"Capture hardware: x86_64\n",
		"Capture oper-sys: Linux 6.12.1\n",
		"Capture application: trace 1\n",
		"Capture comment: trace -k icmp_rcv",
		"Number of interfaces in file: 3\n",
		`Interface #0 info:
 Name = icmp_rcv@entry
 Description = skb
 Encapsulation = Ethernet (1 - ether)
 Capture length = 65535
 Time precision = nanoseconds (9)
 Time ticks per second = 1000000000
 Time resolution = 0x09
 Filter string = icmp
 Number of stat entries = 1
 Number of packets = 3
`,
		`Interface #2 info:
 Name = ip_rcv@entry
 Description = größer
 Encapsulation = Raw IP (7 - rawip)
 Capture length = 128
`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
}

// TestTcpdump reads interfaces that are alike.
func TestTcpdump(t *testing.T) {
	b := AppendSection(nil, Section{Comment: "trace"})
	for n := range 3 {
		b = AppendInterface(b, Interface{Name: fmt.Sprint("f", n), LinkType: LinkEthernet, SnapLen: 96})
		b = AppendPacket(b, Packet{Interface: n, Time: noon + uint64(n), Data: frame, Length: 100 + n, Comment: []byte("comment"), Flags: Inbound})
	}
	b = AppendPacket(b, Packet{Interface: 0, Time: noon + 1e9, Data: frame})
	for n := range 3 {
		b = AppendStatistics(b, Statistics{Interface: n, Time: noon + 2e9, Dropped: 1})
	}
	stdout, stderr, err := run(t, b, "tcpdump", "-n", "-e", "-tt", "--nano", "-r", "-")
	if err != nil {
		t.Fatalf("tcpdump: %v\n%s", err, stderr)
	}
	var got []string
	for line := range strings.Lines(stdout) {
		if m := regexp.MustCompile(`^(\S+) .*, (length \d+): .* (ICMP echo request.* seq 1), length`).FindStringSubmatch(line); m != nil {
			line = strings.Join(m[1:], ", ")
		}
		got = append(got, line)
	}
	want := []string{
		"1700000000.123456789, length 100, ICMP echo request, id 1, seq 1",
		"1700000000.123456790, length 101, ICMP echo request, id 1, seq 1",
		"1700000000.123456791, length 102, ICMP echo request, id 1, seq 1",
		"1700000001.123456789, length 42, ICMP echo request, id 1, seq 1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestTcpdumpStops holds what the package says of libpcap; one that reads more is fine.
func TestTcpdumpStops(t *testing.T) {
	for _, c := range []struct {
		name       string
		interfaces []Interface
		want       string // "": all is read
	}{
		{"no interface", nil, "the capture file has no Interface Description Blocks"},
		{"one raw", []Interface{{LinkType: LinkRaw}}, ""},
		{"two raw", []Interface{{LinkType: LinkRaw}, {LinkType: LinkRaw}}, "an interface has a type 101 different from the type of the first interface"},
		{"Ethernet, raw", []Interface{{LinkType: LinkEthernet}, {LinkType: LinkRaw}}, "an interface has a type 101 different from the type of the first interface"},
		{"raw, Ethernet", []Interface{{LinkType: LinkRaw}, {LinkType: LinkEthernet}}, "an interface has a type 1 different from the type of the first interface"},
		{"lengths", []Interface{{LinkType: LinkEthernet, SnapLen: 65535}, {LinkType: LinkEthernet, SnapLen: 96}}, "an interface has a snapshot length 96 different from the snapshot length of the first interface"},
		{"no length is 262144", []Interface{{LinkType: LinkEthernet}, {LinkType: LinkEthernet, SnapLen: 262144}}, ""},
		{"packet is longer", []Interface{{LinkType: LinkEthernet, SnapLen: 20}}, "invalid packet capture length 42, bigger than snaplen of 20"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := AppendSection(nil, Section{})
			for n, i := range c.interfaces {
				data := frame
				if i.LinkType == LinkRaw {
					data = echo
				}
				b = AppendPacket(AppendInterface(b, i), Packet{Interface: n, Data: data})
			}
			stdout, stderr, err := run(t, b, "tcpdump", "-n", "-r", "-")
			switch lines := strings.Count(stdout, "\n"); {
			case err == nil && lines == len(c.interfaces):
				if c.want != "" {
					t.Logf("it is read now, without: %s", c.want)
				}
			case err == nil || c.want == "" || !strings.Contains(stderr, c.want):
				t.Errorf("%d packets of %d are read: %v\n%s", lines, len(c.interfaces), err, stderr)
			}
		})
	}
}
