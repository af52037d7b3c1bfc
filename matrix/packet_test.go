package matrix

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// datagram is what a worker sends, over the loopback device.
type datagram struct {
	v6   bool
	port int
	text string
	mark int
}

// sendUDP sends datagrams from one port and waits for each to arrive: the kernel may
// leave that to ksoftirqd. So calls are told by their packets, not by their tasks.
func sendUDP(t *testing.T, all []datagram) func() {
	return func() {
		onWorker(func() {
			for _, d := range all {
				if err := d.send(); err != nil {
					t.Errorf("send to port %d: %v", d.port, err)
				}
			}
		})
	}
}

const udpFrom = 5000

func (d datagram) send() error {
	family, to, from := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: d.port, Addr: [4]byte{127, 0, 0, 1}}), unix.Sockaddr(&unix.SockaddrInet4{Port: udpFrom})
	if d.v6 {
		one := [16]byte{15: 1}
		family, to, from = unix.AF_INET6, &unix.SockaddrInet6{Port: d.port, Addr: one}, &unix.SockaddrInet6{Port: udpFrom}
	}
	var ends [2]int
	for i, addr := range []unix.Sockaddr{to, from} {
		fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Bind(fd, addr); err != nil {
			return err
		}
		ends[i] = fd
	}
	sender := ends[1]
	if err := unix.SetsockoptInt(sender, unix.SOL_SOCKET, unix.SO_MARK, d.mark); err != nil {
		return err
	}
	if err := unix.Sendto(sender, []byte(d.text), 0, to); err != nil {
		return err
	}
	return arrives(ends[0])
}

// arrives waits until there is something to read from a socket, or an error of it.
func arrives(fd int) error {
	ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for deadline := time.Now().Add(patience); ; {
		switch n, err := unix.Poll(ready, int(time.Until(deadline).Milliseconds())); {
		case n > 0:
			return nil
		case err == nil:
			return fmt.Errorf("wait for packet: not after %v", patience)
		case err != unix.EINTR:
			return fmt.Errorf("wait for packet: %w", err)
		}
	}
}

// onTheWay are functions that each packet of the kind goes through once: to be sent,
// with no header of the link, with one, received, and at the transport header.
var (
	onTheWay4 = []string{"ip_output", "loopback_xmit", "ip_rcv", "udp_rcv"}
	onTheWay6 = []string{"ipv6_rcv"}
)

// TestGuestFilterPacket: those calls are shown whose packets match, at each place on
// their way, by each way of attaching and in each mode.
func TestGuestFilterPacket(t *testing.T) {
	inGuest(t)
	all := []datagram{
		{port: 5001, text: "abcdefgh"}, {port: 5002, text: "abcdefgh"}, {port: 5001, text: "ijklmnop"}, {port: 5003, text: "abc"},
		{v6: true, port: 5001, text: "abcdefgh"}, {v6: true, port: 5002, text: "ijklmnop"},
	}
	sendUDP(t, all)() // neighbours are found
	type filter struct {
		text string
		want func(d datagram) bool
	}
	starts := func(d datagram, text string) bool { return strings.HasPrefix(d.text, text) }
	filters := []filter{
		{"udp port 5001", func(d datagram) bool { return d.port == 5001 }},
		{"ip6 and udp and src port 5000", func(d datagram) bool { return d.v6 }},
		{"host 127.0.0.2 or tcp port 5001 or icmp", func(datagram) bool { return false }},
		{"udp[8:4] == 0x61626364", func(d datagram) bool { return !d.v6 && starts(d, "abcd") }}, // not in IPv6: see pcap-filter(7)
		{"ip6[48:4] == 0x696a6b6c", func(d datagram) bool { return d.v6 && starts(d, "ijkl") }},
		{"ip6 protochain 17 and len > 0", func(d datagram) bool { return d.v6 }},
		{"udp and less 45", func(d datagram) bool { return !d.v6 && len(d.text) == 3 }},
	}
	check := func(t *testing.T, f filter, args ...string) {
		t.Helper()
		functions := slices.Concat(onTheWay4, onTheWay6)
		args = append([]string{"-k", strings.Join(functions, ","), "--filter-pkt", f.text}, args...)
		o := traceDuring(t, sendUDP(t, all), args...)
		want := map[string]int{}
		for _, d := range all {
			if !f.want(d) {
				continue
			}
			on := onTheWay4
			if d.v6 {
				on = onTheWay6
			}
			for _, name := range on {
				want[name]++
			}
			if d.v6 {
				want["loopback_xmit"]++
			}
		}
		if strings.HasPrefix(f.text, "udp and less") { // without the 14 bytes of the link, all of IPv4 are
			want["ip_output"] = 4
		}
		for _, kind := range eventsOf(modeOf(args)) {
			got := map[string]int{}
			for _, e := range o.of(kind, "") {
				got[e.Func]++
			}
			if !maps.Equal(got, want) {
				t.Errorf("%s: %s: %v, want %v; %+v", f.text, kind, got, want, o.End)
			}
		}
		if o.End.Lost+o.End.Unread+o.End.RecursionMisses > 0 || len(o.End.Skipped) > 0 {
			t.Errorf("%s: %+v", f.text, o.End)
		}
	}
	for i, f := range filters {
		if !inShare(t, i) {
			continue
		}
		t.Run(f.text, func(t *testing.T) { check(t, f) })
	}
	t.Run("entry,exit", func(t *testing.T) { check(t, filters[0], "-m", "entry,exit") })
	for backend, have := range backends() {
		if have {
			t.Run(backend, func(t *testing.T) { check(t, filters[1], "--backend", backend) })
		}
	}
	// One that is large, and goes back: verifiers have their limits.
	var hosts strings.Builder
	for i := range 30 {
		fmt.Fprintf(&hosts, "host 10.1.2.%d or ", i)
	}
	large := func(t *testing.T, args ...string) {
		o := traceDuring(t, sendUDP(t, all), append([]string{"-k", "ipv6_rcv", "--filter-pkt", hosts.String() + "(ip6 protochain 17 and udp port 5001)"}, args...)...)
		if len(o.Events) != 1 || o.End.Unread > 0 {
			t.Errorf("%d calls, want one; %+v", len(o.Events), o.End)
		}
	}
	t.Run("large", func(t *testing.T) { large(t) })
	for i, backend := range slices.Sorted(maps.Keys(backends())) {
		if backends()[backend] && inShare(t, i) {
			t.Run("large by "+backend, func(t *testing.T) { large(t, "--backend", backend) })
		}
	}
	t.Run("beside an expression", func(t *testing.T) {
		check(t, filter{"udp port 5001", func(d datagram) bool { return d.port == 5001 && !d.v6 }}, "--filter-arg", "skb->protocol == 8")
	})
	t.Run("roots", func(t *testing.T) {
		o := traceDuring(t, sendUDP(t, all), "-k", "udp_rcv", "-g", "--fgraph-max-depth", "1", "--no-learn", "--fgraph-include", "__udp4_lib_rcv",
			"--filter-pkt", "udp port 5001")
		if got := len(o.of("call", "udp_rcv")); got != 2 {
			t.Errorf("%d roots, want 2; %+v", got, o.End)
		}
	})
}

// TestGuestFilterTunnel: a filter for what is inside, on packets that have it, and on
// others that match themselves.
func TestGuestFilterTunnel(t *testing.T) {
	inGuest(t)
	inner := func(port byte) []byte { // a datagram
		return []byte{
			0x45, 0, 0, 32, 0, 1, 0, 0, 64, unix.IPPROTO_UDP, 0, 0, 10, 1, 0, 1, 10, 1, 0, 2,
			0x13, 0x88, 0x1e, port, 0, 12, 0, 0, 't', 'e', 's', 't',
		}
	}
	vxlan := func(port byte) string {
		return string(slices.Concat([]byte{8, 0, 0, 0, 0, 0, 42, 0}, make([]byte, 12), []byte{8, 0}, inner(port)))
	}
	send := func() {
		sendUDP(t, []datagram{
			{port: 4789, text: vxlan(0x61)}, {port: 4790, text: vxlan(0x61)}, {port: 8472, text: vxlan(0x62)}, {port: 0x1e61, text: "itself"},
			{v6: true, port: 4789, text: vxlan(0x61)},
		})()
		onWorker(func() {
			for proto, packet := range map[int][]byte{unix.IPPROTO_IPIP: inner(0x61), unix.IPPROTO_GRE: append([]byte{0x20, 0, 8, 0, 0, 0, 0, 7}, inner(0x61)...)} {
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
				if err != nil {
					t.Error(err)
					continue
				}
				if err := unix.Sendto(fd, packet, 0, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
					t.Error(err)
				} else if err := arrives(fd); err != nil { // a raw socket gets a copy
					t.Error(err)
				}
				unix.Close(fd)
			}
		})
	}
	send() // neighbours are found
	for args, want := range map[string]map[string]int{
		// Two by UDP, one of them over IPv6, one by each of IP in IP and GRE.
		"":                         {"ip_output": 3, "ip_rcv": 3, "ipv6_rcv": 1},
		"--tunnel-port vxlan:4790": {"ip_output": 4, "ip_rcv": 4, "ipv6_rcv": 1},
	} {
		o := traceDuring(t, send, append([]string{
			"-k", "ip_output,ip_rcv,ipv6_rcv", "--filter-pkt", "udp dst port 7777", "--filter-tunnel", "--output-pkt",
		}, strings.Fields(args)...)...)
		got := map[string]int{}
		for _, e := range o.Events {
			got[e.Func]++
		}
		if !maps.Equal(got, want) || o.End.Unread > 0 {
			t.Errorf("%s: %v, want %v; %+v", args, got, want, o.End)
		}
	}
	refuses(t, "parse --filter-tunnel: there is no --filter-pkt", "-k", "ip_rcv", "--filter-tunnel", "--", "true")
}

// kernelHasType tells whether the kernel has a type of this name.
func kernelHasType(t *testing.T, name string) bool {
	t.Helper()
	types, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	_, err = types.AnyTypeByName(name)
	if err != nil && !errors.Is(err, btf.ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

// TestGuestDropReason: why a packet is dropped, by name.
func TestGuestDropReason(t *testing.T) {
	inGuest(t)
	function := ""
	for _, name := range []string{"sk_skb_reason_drop", "kfree_skb_reason"} {
		if len(functions("^"+name+"$")) == 1 {
			function = name
			break
		}
	}
	if function == "" {
		if kernelHasType(t, "skb_drop_reason") {
			t.Fatal("this kernel has reasons, and no function that takes one")
		}
		t.Skip("this kernel has no reasons")
	}
	nobody := func() { // listens there
		onWorker(func() {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer unix.Close(fd)
			if err := unix.Connect(fd, &unix.SockaddrInet4{Port: 5009, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
				t.Error(err)
			} else if _, err := unix.Write(fd, []byte("x")); err != nil {
				t.Error(err)
			} else if err := arrives(fd); err != nil { // that it was refused
				t.Error(err)
			}
		})
	}
	o := traceDuring(t, nobody, "-k", function, "--filter-pkt", "udp dst port 5009", "--output-arg", "reason")
	const want = "SKB_DROP_REASON_NO_SOCKET"
	if len(o.Events) != 1 || !strings.Contains(string(o.Events[0].keys["values"]), `"name":"`+want+`"`) || !strings.Contains(string(o.Events[0].keys["args"]), `"name":"`+want+`"`) {
		t.Errorf("%d calls, want one with %s: %+v; %+v", len(o.Events), want, o.Events, o.End)
	}
}

// TestGuestFilterDevice: calls by a packet's device, mark and network namespace.
func TestGuestFilterDevice(t *testing.T) {
	inGuest(t)
	all := []datagram{{port: 5001, mark: 0x1272}, {port: 5002, mark: 0x1282}, {v6: true, port: 5003, mark: 0x72}}
	sendUDP(t, all)() // neighbours are found
	var own unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &own); err != nil {
		t.Fatal(err)
	}
	for args, want := range ofShare(t, map[string][]string{
		"--filter-ifname lo":                                        {"5001", "5002", "5003"},
		"--filter-ifname lo0":                                       {},
		"--filter-mark 0x70/0xf0":                                   {"5001", "5003"},
		"--filter-mark 4738/0xffff --filter-ifname lo":              {"5002"},
		fmt.Sprint("--filter-netns ", own.Ino+1):                    {},
		"--filter-netns /proc/1/ns/net --filter-mark 0x1200/0xff00": {"5001", "5002"},
	}) {
		o := traceDuring(t, sendUDP(t, all), append([]string{
			"-k", "ip_output,loopback_xmit,ip_rcv,ipv6_rcv", "--filter-pkt", "udp",
		}, strings.Fields(args)...)...)
		got := map[string]int{}
		for _, e := range o.Events {
			got[e.Func]++
		}
		v6 := 0
		if slices.Contains(want, "5003") {
			v6 = 1
		}
		wanted := map[string]int{"ip_output": len(want) - v6, "ip_rcv": len(want) - v6, "loopback_xmit": len(want), "ipv6_rcv": v6}
		maps.DeleteFunc(wanted, func(_ string, n int) bool { return n == 0 })
		if !maps.Equal(got, wanted) || o.End.Lost > 0 {
			t.Errorf("%s: %v, want %v; %+v", args, got, wanted, o.End)
		}
	}
}

// TestGuestFilterFragments: filters look into packets whose bytes lie elsewhere than
// their headers, by each way of attaching.
func TestGuestFilterFragments(t *testing.T) {
	inGuest(t)
	all := []datagram{{port: 5001, text: strings.Repeat("a", 40000)}, {port: 5002, text: "aaaaaaaaaa"}}
	filters := []string{
		"udp port 5001 and len > 40000", "udp[39000] == 0x61", "udp[39000:4] == 0x61616161 and udp[40007] == 0x61",
		"udp[6:4] & 0xffff == 0x6161 and udp[40000:2] == 0x6161", // its checksum is with the headers
		"udp[39000] == 0x62 or udp[40006:2] == 0x6161 and not udp[40004:4] == 0x61616162",
	}
	check := func(t *testing.T, filter string, args ...string) {
		t.Helper()
		o := traceDuring(t, sendUDP(t, all), append([]string{"-k", "ip_rcv", "--filter-pkt", filter}, args...)...)
		if n := len(o.of("call", "ip_rcv")); n != 1 || o.End.Unread > 0 {
			t.Errorf("%s: %d calls, want one; %+v", filter, n, o.End)
		}
	}
	for _, filter := range filters {
		check(t, filter)
	}
	for backend, have := range backends() {
		if have {
			t.Run(backend, func(t *testing.T) { check(t, filters[2], "--backend", backend) })
		}
	}
	t.Run("roots", func(t *testing.T) {
		check(t, filters[2], "-g", "--fgraph-max-depth", "1", "--no-learn", "--fgraph-include", "ip_rcv_core")
	})
	t.Run("TCP", func(t *testing.T) {
		pages := patterned(3 * os.Getpagesize())
		const header = 32 // with timestamps
		around := os.Getpagesize()
		o := traceDuring(t, sendFile(t, pages), "-k", "tcp_v4_rcv", "--filter-pkt", allAt("tcp", header, pages, around-4, around+1)+
			" and "+allAt("tcp", header, pages, len(pages)-4, len(pages)-4))
		if len(o.Events) != 1 || o.End.Unread > 0 {
			t.Errorf("%d events, want one; %+v", len(o.Events), o.End)
		}
	})
}

// patterned returns bytes of which no four that follow one another come twice.
func patterned(size int) []byte {
	var all []byte
	for i := uint16(0); len(all) < size; i++ {
		all = binary.BigEndian.AppendUint16(all, i)
	}
	return all[:size]
}

// allAt spells a filter for the four bytes at each of some places in what begins at a
// header's offset.
func allAt(header string, offset int, bytes []byte, from, to int) string {
	var terms []string
	for at := from; at <= to; at++ {
		terms = append(terms, fmt.Sprintf("%s[%d:4] == %#x", header, offset+at, binary.BigEndian.Uint32(bytes[at:])))
	}
	return strings.Join(terms, " and ")
}

// sendFile sends the pages of a file over TCP, each of which becomes a fragment.
func sendFile(t *testing.T, content []byte) func() {
	return func() {
		onWorker(func() {
			client, server, err := connectTCP()
			if err != nil {
				t.Error(err)
				return
			}
			defer files{client, server}.close()
			file, err := os.Create(filepath.Join(t.TempDir(), "pages"))
			if err != nil {
				t.Error(err)
				return
			}
			defer file.Close()
			if _, err := file.Write(content); err != nil {
				t.Error(err)
			} else if _, err := unix.Sendfile(client, int(file.Fd()), new(int64), len(content)); err != nil {
				t.Error(err)
			} else if err := arrives(server); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestGuestFilterXDPFragments: filters and captures look into the fragments of XDP
// packets, too.
func TestGuestFilterXDPFragments(t *testing.T) {
	inGuest(t)
	// Behind the headroom, and before struct skb_shared_info, is the first piece; others are pages.
	page := os.Getpagesize()
	first := page - 256 - 320
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "loads", Type: ebpf.XDP, License: "GPL", Flags: unix.BPF_F_XDP_HAS_FRAGS,
		Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R2, int32(first-32)),
			asm.Mov.Reg(asm.R3, asm.RFP),
			asm.Add.Imm(asm.R3, -64),
			asm.Mov.Imm(asm.R4, 64),
			asm.FnXdpLoadBytes.Call(),
			asm.Mov.Imm(asm.R0, 2), // XDP_PASS
			asm.Return(),
		},
	})
	if errors.Is(err, unix.EINVAL) && !kernelHasType(t, "xdp_buff_flags") {
		t.Skipf("this kernel has no fragments of XDP packets: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	const function = "bpf_xdp_copy_buf" // for bytes that do not follow one another
	short, long := patterned(5000), patterned(8000)
	runs := func() {
		for _, packet := range [][]byte{short, long} {
			if _, err := prog.Run(&ebpf.RunOptions{Data: packet}); err != nil {
				t.Error(err)
			}
		}
	}
	borders := allAt("ether", 0, long, first-4, first+1) + " and " + allAt("ether", 0, long, first+page-4, first+page+1) + " and len == 8000"
	for filter, want := range map[string]int{
		borders:                           1,
		"greater 7999":                    1,
		"less 5000":                       1,
		"len > 100 and ether[0:2] == 0":   2,
		"ether[7999] == 1 or len > 10000": 0,
	} {
		o := traceDuring(t, runs, "-k", function, "--filter-pkt", filter)
		if len(o.Events) != want || o.End.Unread > 0 {
			t.Errorf("%s: %d calls of %s, want %d; %+v", filter, len(o.Events), function, want, o.End)
		}
	}
	o := traceDuring(t, runs, "-k", function, "--filter-pkt", "greater 7999", "--output-pcap", filepath.Join(t.TempDir(), "xdp.pcapng"))
	if len(o.Events) != 1 || o.Events[0].Packet == nil || o.Events[0].Packet.Length != len(long) || o.Events[0].Packet.Captured != len(long) {
		t.Errorf("%d packets: %+v; %+v", len(o.Events), o.Events, o.End)
	}
}

// TestGuestFilterTCP: a connection's first packets above and below IP. Where nothing
// tells yet where a packet begins, and where TCP has taken its device, that is counted.
func TestGuestFilterTCP(t *testing.T) {
	inGuest(t)
	connect := func() {
		onWorker(func() {
			client, server, err := connectTCP()
			if err != nil {
				t.Error(err)
				return
			}
			files{client, server}.close()
		})
	}
	connect() // neighbours are found
	trace := func(functions string, args ...string) (map[string]int, end) {
		o := traceDuring(t, connect, append([]string{"-k", functions}, args...)...)
		got := map[string]int{}
		for _, e := range o.Events {
			got[e.Func]++
		}
		return got, o.End
	}
	const syn = "tcp[tcpflags] & tcp-syn != 0" // of the two that begin a connection
	got, sum := trace("tcp_v4_rcv,tcp_v4_do_rcv,ip_output", "--filter-pkt", syn)
	if want := map[string]int{"tcp_v4_rcv": 2, "tcp_v4_do_rcv": 2, "ip_output": 2}; !maps.Equal(got, want) || sum.Unread > 0 {
		t.Errorf("%v, want %v; %+v", got, want, sum)
	}
	if got, sum = trace("__tcp_transmit_skb", "--filter-pkt", syn); len(got) > 0 || sum.Unread == 0 {
		t.Errorf("above IP: %v; %+v", got, sum)
	}
	if got, sum = trace("tcp_v4_do_rcv", "--filter-ifname", "lo"); len(got) > 0 || sum.Unread == 0 {
		t.Errorf("without a device: %v; %+v", got, sum)
	}
	if got, sum = trace("tcp_v4_do_rcv", "--filter-netns", "/proc/self/ns/net"); got["tcp_v4_do_rcv"] < 2 { // others have lost their route, too
		t.Errorf("by the route: %v; %+v", got, sum)
	}
}

// TestGuestFilterPacketErrors: functions without a packet, and filters that are none.
func TestGuestFilterPacketErrors(t *testing.T) {
	inGuest(t)
	for args, want := range ofShare(t, map[string]string{
		"-k vfs_read --filter-pkt icmp":              "filter calls of vfs_read: no parameter is a pointer to a struct sk_buff",
		"-k ip_rcv --filter-pkt icmp_and":            "parse --filter-pkt: compile filter \"icmp_and\": ",
		"-k ip_rcv --filter-pkt host":                "syntax error",
		"-k ip_rcv --filter-pkt port%nowhere":        "unknown port 'nowhere'",
		"-k ip_rcv --filter-netns none":              "parse --filter-netns: find namespace: open /run/netns/none: no such file",
		"-k ip_rcv --filter-netns /proc/1/status":    "parse --filter-netns: \"/proc/1/status\" is no network namespace",
		"-k ip_rcv --filter-mark 1/0":                "parse --filter-mark: no mark has 0x1 under the mask 0x0",
		"-k ip_rcv --filter-netns /proc/1/ns/mnt":    "parse --filter-netns: \"/proc/1/ns/mnt\" is no network namespace",
		"-k ip_rcv --filter-netns=":                  "parse --filter-netns: there is nothing in it",
		"-k ip_rcv --filter-mark x":                  "parse --filter-mark: \"x\" is no number of 32 bits",
		"-k ip_rcv --filter-ifname sixteen_bytes_xx": "parse --filter-ifname: \"sixteen_bytes_xx\" is longer than the 15 bytes",
		"-k vfs_read --filter-ifname lo":             "filter calls of vfs_read: no parameter is a pointer",
	}) {
		fields := strings.Fields(args)
		for i := range fields {
			fields[i] = strings.ReplaceAll(fields[i], "%", " ")
		}
		refuses(t, want, append(fields, "--", "true")...)
	}
	// What libpcap refuses without an Ethernet header is told of, and goes with one.
	r := startTrace(t, "-k", "ip_rcv", "--filter-pkt", "udp or ether host 1:2:3:4:5:6")
	r.ready()
	sendUDP(t, []datagram{{port: 5001}})()
	if o := r.stop(); len(o.Events) != 1 || !strings.Contains(r.stderr.String(), "--filter-pkt matches no packet that has no Ethernet header yet: ethernet addresses supported only on") {
		t.Errorf("%d events: %s", len(o.Events), r.describe())
	}
	o := traceDuring(t, sendUDP(t, []datagram{{port: 5001}}), "-k", "udp_rc*,udp_lib_*", "--filter-pkt", "udp")
	if got := fmt.Sprint(len(o.of("call", "udp_rcv"))); got != "1" {
		t.Errorf("%s calls of udp_rcv; %+v", got, o.End)
	}
	if reason, ok := o.End.skipped("udp_lib_unhash"); !ok || !strings.Contains(reason, "the filter does not apply: no parameter is a pointer to a struct sk_buff") {
		t.Errorf("what has no packet is not told of: %q; %+v", reason, o.End.Skipped)
	}
}
