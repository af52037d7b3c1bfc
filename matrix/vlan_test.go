package matrix

import (
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// vlanFile is what TestGuestVLAN leaves for the host.
const vlanFile = "/vlan.pcapng"

// openVLAN makes two devices that are connected, each with one for VLAN 5 on it, and
// returns what sends a datagram from the one's to the other's. On the way its tag is in
// the struct sk_buff.
func openVLAN(t *testing.T) (send func()) {
	t.Helper()
	needModule(t, "veth")
	needModule(t, "8021q")
	for _, args := range []string{
		"link add vlan_a type veth", "link set vlan_a up", "link set veth0 up", // busybox can't name the other end
		"link add link vlan_a name vlan_a.5 type vlan id 5", "link add link veth0 name vlan_b.5 type vlan id 5",
		"link set vlan_a.5 up", "link set vlan_b.5 up",
	} {
		if res := startCommand(t, guestCommand("ip", strings.Fields(args)...)).wait(); res.Status != 0 {
			t.Fatalf("ip %s: %s", args, res.Stderr)
		}
	}
	t.Cleanup(func() { startCommand(t, guestCommand("ip", "link", "del", "vlan_a")).wait() })
	from, to := openPackets(t, "vlan_a.5"), openPackets(t, "vlan_b.5")
	frame := slices.Concat(
		[]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 0},
		[]byte{0x45, 0, 0, 32, 0, 1, 0, 0, 64, unix.IPPROTO_UDP, 0, 0, 10, 5, 0, 1, 255, 255, 255, 255},
		[]byte{0x13, 0x88, 0x13, 0x89, 0, 12, 0, 0, 't', 'e', 's', 't'},
	)
	return func() {
		onWorker(func() {
			if _, err := unix.Write(from, frame); err != nil {
				t.Error(err)
				return
			}
			if err := arrives(to); err != nil {
				t.Error(err)
			} else if _, err := unix.Read(to, make([]byte, 2048)); err != nil {
				t.Error(err)
			}
		})
	}
}

// openPackets opens a socket for the packets of IPv4 on a device.
func openPackets(t *testing.T, device string) (fd int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	index, err := os.ReadFile("/sys/class/net/" + device + "/ifindex")
	if err != nil {
		t.Fatal(err)
	}
	to := unix.SockaddrLinklayer{Protocol: binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_IP))}
	if _, err := fmt.Sscan(string(index), &to.Ifindex); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &to); err != nil {
		t.Fatal(err)
	}
	return fd
}

// vlanWay are the functions that a datagram goes through: the first one for each of the
// two devices that it is sent on, the second of the device that it arrives at, the last
// of that with the VLAN. The second one is also called __netif_rx.
const vlanWay = "dev_hard_start_xmit,*netif_rx,ip_rcv"

// TestGuestVLAN: a tag that is in the struct sk_buff is found by filters that ask for it,
// and shown where it belongs.
func TestGuestVLAN(t *testing.T) {
	inGuest(t)
	send := openVLAN(t)
	send() // devices are ready
	functionOf := func(e event) string { return strings.TrimPrefix(e.Func, "__") }
	check := func(t *testing.T, filter string, want map[string]int, args ...string) {
		t.Helper()
		o := traceDuring(t, send, append([]string{"-k", vlanWay, "--filter-pkt", filter}, args...)...)
		got := map[string]int{}
		for _, e := range o.Events {
			got[functionOf(e)]++
		}
		if !maps.Equal(got, want) || o.End.Lost+o.End.Unread > 0 {
			t.Errorf("%s: %v, want %v; %+v", filter, got, want, o.End)
		}
	}
	tagged := map[string]int{"dev_hard_start_xmit": 1, "netif_rx": 1}
	for filter, want := range ofShare(t, map[string]map[string]int{
		"vlan 5 and udp port 5001":       tagged,
		"vlan 6 and udp port 5001":       {},
		"vlan and udp[8:4] = 0x74657374": tagged,
		"vlan 5 and vlan 5":              {},     // one in the other
		"vlan 6 or udp port 5001":        tagged, // behind vlan, all is about what is behind a tag
		"udp port 5001 and not vlan":     {"dev_hard_start_xmit": 1, "ip_rcv": 1},
		"udp port 5001 and len = 46":     {"dev_hard_start_xmit": 2, "netif_rx": 1, "ip_rcv": 1},
	}) {
		t.Run(filter, func(t *testing.T) { check(t, filter, want) })
	}
	for i, backend := range slices.Sorted(maps.Keys(backends())) {
		if backends()[backend] && inShare(t, i) {
			t.Run(backend, func(t *testing.T) { check(t, "udp port 5001 and vlan 5", tagged, "--backend", backend) })
		}
	}
	const with, without = "ethernet 50 50 ethernet vlan 5 ipv4 udp", "ethernet 46 46 ethernet ipv4 udp"
	t.Run("graph", func(t *testing.T) {
		o := traceDuring(t, send, "-k", "dev_hard_start_xmit", "-g", "--no-learn", "--fgraph-max-depth", "1", "--fgraph-include", "dev_hard_start_xmit",
			"--filter-pkt", "udp port 5001 and vlan 5", "--output-pkt")
		if len(o.Events) != 1 || spelledLayers(o.Events[0].Packet) != with {
			t.Errorf("%+v; %+v", o.Events, o.End)
		}
	})
	t.Run("shown", func(t *testing.T) {
		o := traceDuring(t, send, "-k", vlanWay, "--filter-pkt", "udp port 5001", "--output-pkt", "--output-pcap", vlanFile)
		got := map[string][]string{}
		for _, e := range o.Events {
			got[functionOf(e)] = append(got[functionOf(e)], spelledLayers(e.Packet))
			slices.Sort(got[functionOf(e)]) // a call of the outer device ends last
		}
		want := map[string][]string{"dev_hard_start_xmit": {without, with}, "netif_rx": {with}, "ip_rcv": {without}}
		if diff := diffOf(want, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})
}

// spelledLayers spells what a packet consists of, with the number of a VLAN.
func spelledLayers(p *packet) string {
	if p == nil {
		return "none"
	}
	text := fmt.Sprint(p.Link, " ", p.Length, " ", p.Captured)
	for _, l := range p.Layers {
		text += fmt.Sprint(" ", l["type"])
		if l["type"] == "vlan" {
			text += fmt.Sprint(" ", l["id"])
		}
	}
	return text
}

// checkVLAN has tshark read what TestGuestVLAN wrote.
func checkVLAN(t *testing.T, raw []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vlan.pcapng")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "tshark", "-n", "-r", path, "-T", "fields",
		"-e", "frame.interface_name", "-e", "frame.len", "-e", "frame.cap_len", "-e", "vlan.etype", "-e", "vlan.id", "-e", "udp.dstport").Output()
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSpace(strings.ReplaceAll(string(out), "__netif_rx", "netif_rx")), "\n")
	slices.Sort(got)
	want := []string{
		"dev_hard_start_xmit@entry\t46\t46\t\t\t5001", "dev_hard_start_xmit@entry\t50\t50\t0x0800\t5\t5001",
		"ip_rcv@entry\t46\t46\t\t\t5001", "netif_rx@entry\t50\t50\t0x0800\t5\t5001",
	}
	if diff := diffOf(want, got); diff != "" {
		t.Errorf("tshark (-want +got)\n%s", diff)
	}
}
