package matrix

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// openNamespace makes two devices that are connected, the second one in a network
// namespace of its own, that of a thread. It returns a path of that, and what sends an echo
// request there and waits for the reply.
func openNamespace(t *testing.T) (path string, echo func()) {
	t.Helper()
	needModule(t, "veth")
	ip := func(args string) error { // in the namespace of the thread that calls it
		if out, err := guestCommand("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", args, err, out)
		}
		return nil
	}
	if err := ip("link add ns_a type veth"); err != nil {
		t.Fatal(err)
	}
	inside, end := make(chan func() error), make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the namespace ends with the thread
		for work := range inside {
			end <- work()
		}
	}()
	t.Cleanup(func() {
		if err := ip("link del ns_a"); err != nil { // both
			t.Error(err)
		}
		close(inside)
	})
	var tid int
	inside <- func() error {
		tid = unix.Gettid()
		return unix.Unshare(unix.CLONE_NEWNET)
	}
	err := <-end
	if err == nil {
		err = errors.Join(ip(fmt.Sprint("link set veth0 netns ", tid)), ip("addr add 10.98.0.1/24 dev ns_a"), ip("link set ns_a up"))
	}
	if err != nil {
		t.Fatal(err)
	}
	inside <- func() error { return errors.Join(ip("addr add 10.98.0.2/24 dev veth0"), ip("link set veth0 up")) }
	if err := <-end; err != nil {
		t.Fatal(err)
	}
	echo = func() {
		if res := startCommand(t, guestCommand("ping", "-c", "1", "10.98.0.2")).wait(); res.Status != 0 {
			t.Errorf("ping: %s", res.Stdout)
		}
	}
	return fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), tid), echo
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
