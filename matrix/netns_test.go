package matrix

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
)

// openNamespace makes two devices that are connected, the second one in a network
// namespace of its own. It returns a path of that, and what sends an echo request there
// and waits for the reply.
func openNamespace(t *testing.T) (path string, echo func()) {
	t.Helper()
	needModule(t, "veth")
	run := func(args ...string) {
		t.Helper()
		if res := startCommand(t, guestCommand(args[0], args[1:]...)).wait(); res.Status != 0 {
			t.Fatalf("%s: %s", args, res.Stderr)
		}
	}
	run("ip", "link", "add", "ns_a", "type", "veth")
	t.Cleanup(func() { // it goes with the namespace
		eventually(t, "the namespace's device is gone", func() bool { _, err := os.Stat("/sys/class/net/ns_a"); return err != nil })
	})
	inside := startCommand(t, guestCommand("unshare", "-n", "sh", "-c", "echo ready; exec sleep 10000"))
	inside.ready()
	pid := fmt.Sprint(inside.cmd.Process.Pid)
	run("ip", "link", "set", "veth0", "netns", pid)
	for device, address := range map[string]string{"ns_a": "10.98.0.1/24", "veth0": "10.98.0.2/24"} {
		var enter []string
		if device == "veth0" {
			enter = []string{"nsenter", "-t", pid, "-n"}
		}
		run(append(enter, "ip", "addr", "add", address, "dev", device)...)
		run(append(enter, "ip", "link", "set", device, "up")...)
	}
	echo = func() { run("ping", "-c", "1", "10.98.0.2") }
	return "/proc/" + pid + "/ns/net", echo
}

// TestGuestNamespaces: a packet on its way to another network namespace, by where it is,
// and over the border.
func TestGuestNamespaces(t *testing.T) {
	inGuest(t)
	inside, echo := openNamespace(t)
	echo() // neighbours are found
	const outside, way = "/proc/self/ns/net", "ip_output,ip_rcv,icmp_rcv"
	sent, received := map[string]int{"ip_output": 1}, map[string]int{"ip_rcv": 1, "icmp_rcv": 1}
	all := map[string]int{"ip_output": 1, "ip_rcv": 1, "icmp_rcv": 1}
	for args, want := range ofShare(t, map[string]map[string]int{
		"--filter-netns " + outside:                     sent,
		"--filter-netns " + inside:                      received,
		"--filter-ifname ns_a":                          sent,
		"--filter-ifname veth0":                         received,
		"--filter-netns " + outside + " --track-skb":    all,
		"--filter-netns " + inside + " --track-skb":     received, // it was sent before
		"--filter-ifname ns_a --track-skb -m entry":     all,
		"--filter-ifname ns_a --filter-netns " + inside: {},
	}) {
		o := traceDuring(t, echo, append([]string{"-k", way, "--filter-pkt", "icmp[icmptype] == icmp-echo"}, strings.Fields(args)...)...)
		got := map[string]int{}
		for _, e := range o.Events {
			got[e.Func]++
		}
		if !maps.Equal(got, want) || o.End.Lost+o.End.Unread > 0 {
			t.Errorf("%s: %v, want %v; %+v", args, got, want, o.End)
		}
	}
}
