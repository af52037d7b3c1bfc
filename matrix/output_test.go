package matrix

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// spelledValues spells the values of an event, one after the other.
func spelledValues(t *testing.T, e event) string {
	t.Helper()
	var all []string
	for _, v := range e.Values {
		text := fmt.Sprint(v.Value)
		switch {
		case v.Error != "":
			text = v.Error
		case v.Value == nil:
			text = "nothing"
		}
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

// TestGuestOutputArg: values at the entry, by each way of attaching and in each mode.
func TestGuestOutputArg(t *testing.T) {
	inGuest(t)
	sizes := []int{16, 100, 4096}
	outputs := []string{
		"count", "count * 2 > 100", "str(file->f_path.dentry->d_name.name)", "file->f_inode->i_rdev", "file->f_inode->i_sb->s_id",
		"((struct file *)0)->f_inode", "*(int *)8", "*((struct file *)0)->f_op", "(char)('a' + count % 3)", "hist(count)", "s32(&init_task.pid)",
		"slice(init_task.comm, 4)", "hex(init_task.comm, 1, 3)", "hex(buf, 4)", "hex((char *)16, 4)",
	}
	const inBuffer = "61626364"
	want := func(size int) string {
		return fmt.Sprint(size, " ", bit(size*2 > 100), " zero ", 1<<20|5, " devtmpfs null fault null ", 'a'+size%3, " ", size, " 0 swap 776170 ", inBuffer, " fault")
	}
	work := withZero(t, func(fd int) {
		for _, n := range sizes {
			buf := make([]byte, n)
			copy(buf, "abcd")
			if _, err := unix.Read(fd, buf); err != nil {
				t.Error(err)
			}
		}
	})
	check := func(t *testing.T, args ...string) {
		t.Helper()
		args = append([]string{"-k", "vfs_read", "--filter-comm", workerName}, args...)
		for _, o := range outputs {
			args = append(args, "--output-arg", o)
		}
		o := traceDuring(t, work, args...)
		for _, kind := range eventsOf(modeOf(args)) {
			events := o.of(kind, "vfs_read")
			if len(events) != len(sizes) {
				t.Fatalf("%d %s events, want %d; %+v", len(events), kind, len(sizes), o.End)
			}
			for i, e := range events {
				if got := spelledValues(t, e); got != want(sizes[i]) {
					t.Errorf("%s: %s, want %s", kind, got, want(sizes[i]))
				}
				for j, v := range e.Values {
					if v.Expr != outputs[j] {
						t.Errorf("value %d is of %q, want %q", j, v.Expr, outputs[j])
					}
				}
			}
		}
		const counted = `"expr":"hist(count)","count":3,"min":16,"max":4096,"buckets":[{"from":16,"to":31,"calls":1},{"from":32,"to":63,"calls":0},`
		if len(o.Counted) != 1 || !strings.Contains(o.Counted[0], counted) {
			t.Errorf("counted %s, want %s", o.Counted, counted)
		}
		if o.End.Lost+o.End.NoEntry+o.End.NoExit > 0 {
			t.Errorf("%+v", o.End)
		}
	}
	t.Run("calls", func(t *testing.T) { check(t) })
	for i, mode := range []string{"entry", "exit", "entry,exit"} {
		if inShare(t, i) {
			t.Run(mode, func(t *testing.T) { check(t, "-m", mode, "--output-stack") })
		}
	}
	for backend, have := range backends() {
		if have {
			t.Run(backend, func(t *testing.T) { check(t, "--backend", backend, "--filter-arg", "count < 5000") })
		}
	}
	t.Run("graph", func(t *testing.T) {
		o := traceDuring(t, work, "-k", "vfs_read", "-g", "--no-learn", "--fgraph-max-depth", "1", "--fgraph-include", "rw_verify_area", "--filter-comm", workerName,
			"--output-arg", "count", "--output-arg", "str(file->f_path.dentry->d_name.name)")
		for _, name := range []string{"vfs_read", "rw_verify_area"} {
			events := o.of("call", name)
			if len(events) != len(sizes) {
				t.Fatalf("%d calls of %s; %+v", len(events), name, o.End)
			}
			for i, e := range events {
				if got, want := spelledValues(t, e), fmt.Sprint(sizes[i], " zero"); got != want {
					t.Errorf("%s: %s, want %s", name, got, want)
				}
			}
		}
	})
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestGuestOutputErrors: a value that a function does not have is an error of a name,
// before anything is attached, and leaves out functions of a glob.
func TestGuestOutputErrors(t *testing.T) {
	inGuest(t)
	for output, want := range ofShare(t, map[string]string{
		"skb->len":         "show values of vfs_read: at offset 0: there is no skb here",
		"file->f_inod":     "no member f_inod: f_inode?",
		"buf(file)":        "write buf(POINTER, [OFFSET,] SIZE)",
		"retval":           "there is no result",
		"hist(file)":       "is no number",
		"hex(file, 20000)": "20000 is not within 1 and 16384",
	}) {
		refuses(t, want, "-k", "vfs_read", "--output-arg", output, "--", "true")
	}
	refuses(t, "show values of vfs_read: no parameter is a pointer to a struct sk_buff", "-k", "vfs_read", "--output-pkt", "--", "true")
	o := traceDuring(t, readZero(t, 2, []int{7}), "-k", "vfs_read,vfs_fsync*", "--filter-comm", workerName, "--output-arg", "count")
	if got := readSizes(t, o.Events); fmt.Sprint(got) != "[7 7]" {
		t.Errorf("calls of %v bytes; %+v", got, o.End)
	}
	if reason, ok := o.End.skipped("vfs_fsync"); !ok || reason != "the output does not apply: there is no count here" {
		t.Errorf("vfs_fsync is left out as %q; %+v", reason, o.End)
	}
}

// TestGuestOutputPacket: the packets of calls on their way, and where they begin.
func TestGuestOutputPacket(t *testing.T) {
	inGuest(t)
	all := []datagram{{port: 5001, text: "abcdefgh"}, {v6: true, port: 5002, text: strings.Repeat("x", 1400)}}
	sendUDP(t, all)() // neighbours are found
	functions := strings.Join(slices.Concat(onTheWay4, onTheWay6), ",")
	check := func(t *testing.T, args ...string) {
		t.Helper()
		args = append([]string{"-k", functions, "--filter-pkt", "udp", "--output-pkt"}, args...)
		o := traceDuring(t, sendUDP(t, all), args...)
		for _, kind := range eventsOf(modeOf(args)) {
			got := map[string]string{}
			for _, e := range o.of(kind, "") {
				p := e.Packet
				if p == nil {
					t.Errorf("%s %s has no packet", kind, e.Func)
					continue
				}
				last := p.Layers[len(p.Layers)-1]
				text := fmt.Sprint(p.Link, " ", p.Length, " ", p.Captured, " ", last["type"], " ", last["src_port"], " > ", last["dst_port"])
				got[e.Func] = strings.TrimPrefix(got[e.Func]+"; "+text, "; ")
			}
			const v4, v6 = "50 50 udp 5000 > 5001", "1462 256 udp 5000 > 5002"
			want := map[string]string{
				"ip_output": "raw 36 36 udp 5000 > 5001", "loopback_xmit": "ethernet " + v4 + "; ethernet " + v6, "ip_rcv": "ethernet " + v4,
				"udp_rcv": "ethernet " + v4, "ipv6_rcv": "ethernet " + v6,
			}
			if diff := diffOf(want, got); diff != "" {
				t.Errorf("%s (-want +got)\n%s", kind, diff)
			}
		}
		if o.End.Lost+o.End.Unread > 0 {
			t.Errorf("%+v", o.End)
		}
	}
	t.Run("calls", func(t *testing.T) { check(t) })
	for i, mode := range []string{"entry", "exit", "entry,exit"} {
		if inShare(t, i) {
			t.Run(mode, func(t *testing.T) { check(t, "-m", mode) })
		}
	}
	for backend, have := range backends() {
		if have {
			t.Run(backend, func(t *testing.T) { check(t, "--backend", backend) })
		}
	}
}

// captureFile is what TestGuestCapture leaves for the host.
const captureFile = "/capture.pcapng"

// captured are the datagrams that are in it.
var captured = []datagram{{port: 5001, text: "abcdefgh"}, {v6: true, port: 5002, text: strings.Repeat("y", 3000)}, {port: 5003}}

// capturedTCP is what a TCP connection sends, in fragments.
const capturedTCP = 3000

// sendCaptured sends all of it.
func sendCaptured(t *testing.T) func() {
	udp := sendUDP(t, captured)
	return func() {
		udp()
		onWorker(func() {
			client, server, err := connectTCP()
			if err != nil {
				t.Error(err)
				return
			}
			defer files{client, server}.close()
			if _, err := unix.Write(client, bytes.Repeat([]byte{'z'}, capturedTCP)); err != nil {
				t.Error(err)
			} else if err := arrives(server); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestGuestCapture writes packets to a file, which the host has others read: see
// checkCapture.
func TestGuestCapture(t *testing.T) {
	inGuest(t)
	sendCaptured(t)() // neighbours are found
	functions := strings.Join(slices.Concat(onTheWay4, onTheWay6, []string{"tcp_v4_rcv"}), ",")
	args := []string{"-k", functions, "--filter-pkt", "udp or (tcp and greater 2000)", "--output-arg", "skb->dev->name"}
	traceDuring(t, sendCaptured(t), append(args, "--output-pcap", captureFile)...)

	args[1] = "ip_rcv"
	r := startCommand(t, traceCommand(append(args, "--output-pcap", "-", "--snaplen", "60")...))
	r.ready()
	sendCaptured(t)()
	if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	res := r.wait()
	file, err := os.ReadFile(captureFile)
	if err != nil {
		t.Fatal(err)
	}
	if res.Status != 0 || !strings.HasPrefix(res.Stdout, "\x0a\x0d\x0d\x0a") || len(res.Stdout) > len(file) || len(res.Stdout) < 500 {
		t.Errorf("status %d, %d bytes on stdout, %d in the file; %s", res.Status, len(res.Stdout), len(file), res.Stderr)
	}
	// A disk that is full leaves what is whole.
	if res := run(t, append(args, "--output-pcap", "/dev/full", "--", "true")...); res.Status != 1 || !strings.Contains(res.Stderr, "no space left on device") {
		t.Errorf("status %d: %s", res.Status, res.Stderr)
	}
}

// checkCapture has tshark, tcpdump and capinfos read what TestGuestCapture wrote.
func checkCapture(t *testing.T, raw []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "capture.pcapng")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	tool := func(name string, args ...string) string {
		out, err := exec.CommandContext(t.Context(), name, args...).Output()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return string(out)
	}
	got := map[string][]string{}
	for line := range strings.Lines(tool("tshark", "-n", "-r", path, "-T", "fields", "-e", "frame.interface_name", "-e", "frame.len", "-e", "frame.cap_len",
		"-e", "udp.dstport", "-e", "udp.length", "-e", "tcp.payload", "-e", "frame.comment")) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 7)
		if len(fields) != 7 || (strings.Contains(fields[0], "output") && !strings.Contains(fields[6], workerName)) || !strings.Contains(fields[6], ` = `) {
			t.Errorf("a packet without its call: %q", line)
			continue
		}
		if fields[5] == strings.Repeat("7a", capturedTCP) {
			fields[5] = "zzz"
		}
		got[fields[0]] = append(got[fields[0]], strings.Join(strings.Fields(strings.Join(fields[1:6], " ")), " "))
	}
	want := map[string][]string{
		"ip_output@entry":     {"50 50 5001 16", "42 42 5003 8", "3066 3066 zzz"},
		"loopback_xmit@entry": {"50 50 5001 16", "3062 3062 5002 3008", "42 42 5003 8", "3066 3066 zzz"},
		"ip_rcv@entry":        {"50 50 5001 16", "42 42 5003 8", "3066 3066 zzz"},
		"tcp_v4_rcv@entry":    {"3066 3066 zzz"},
		"udp_rcv@entry":       {"50 50 5001 16", "42 42 5003 8"},
		"ipv6_rcv@entry":      {"3062 3062 5002 3008"},
	}
	if diff := diffOf(want, got); diff != "" {
		t.Errorf("tshark (-want +got)\n%s", diff)
	}
	lines := strings.Split(strings.TrimSpace(tool("tcpdump", "-n", "-r", path)), "\n")
	if n := len(lines); n != 14 || !strings.Contains(lines[0], "IP 127.0.0.1.5000 > 127.0.0.1.5001: UDP, length 8") {
		t.Errorf("tcpdump reads %d packets: %s", n, lines)
	}
	if info := tool("capinfos", path); !strings.Contains(info, "Number of packets:   14") || !strings.Contains(info, "Number of interfaces in file: 6") {
		t.Errorf("capinfos: %s", info)
	}
}
