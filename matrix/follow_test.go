package matrix

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// followed is a datagram that a worker sends and another task reads.
type followed struct{ server, client int }

const followedPort = 5020

func openFollowed(t *testing.T) followed {
	t.Helper()
	var f followed
	for fd, port := range map[*int]int{&f.server: followedPort, &f.client: udpFrom} {
		var err error
		if *fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(*fd) })
		if err := unix.Bind(*fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Connect(f.client, &unix.SockaddrInet4{Port: followedPort, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	return f
}

// send has the worker send data, and this task read it in so many datagrams. With a size
// the kernel cuts it up.
func (f followed) send(t *testing.T, data []byte, size, datagrams int) func() {
	return func() {
		onWorker(func() {
			err := unix.SetsockoptInt(f.client, unix.SOL_UDP, unix.UDP_SEGMENT, size)
			if err == nil {
				_, err = unix.Write(f.client, data)
			}
			if err != nil {
				t.Error(err)
			}
		})
		for range datagrams {
			err := arrives(f.server)
			if err == nil {
				_, err = unix.Read(f.server, data)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// skbs returns the addresses of the packets that a function was called with, by the
// worker and by other tasks.
func (o *output) skbs(kind, function string) (worker, others []string) {
	for _, e := range o.of(kind, function) {
		skb, _ := e.arg("skb")
		if text := fmt.Sprint(skb.Value); e.Comm == workerName {
			worker = append(worker, text)
		} else {
			others = append(others, text)
		}
	}
	return worker, others
}

// TestGuestTrackSKB: a packet that a filter found once is shown wherever it goes, with its
// copies: here the filter is for the task that sends it.
func TestGuestTrackSKB(t *testing.T) {
	inGuest(t)
	f := openFollowed(t)
	const sent, read = "ip_output", "skb_consume_udp"
	args := []string{"-k", sent + "," + read, "--filter-comm", workerName}
	f.send(t, make([]byte, 30), 0, 1)() // neighbours are found

	o := traceDuring(t, f.send(t, make([]byte, 30), 0, 1), args...)
	if worker, _ := o.skbs("call", sent); len(worker) != 1 || len(o.Events) != 1 || o.End.Followed > 0 {
		t.Fatalf("without following, %v; %+v", o.Events, o.End)
	}
	args = append(args, "--track-skb")
	check := func(t *testing.T, kind string, args ...string) {
		t.Helper()
		o := traceDuring(t, f.send(t, make([]byte, 30), 0, 1), args...)
		worker, _ := o.skbs(kind, sent)
		_, others := o.skbs(kind, read)
		if len(worker) != 1 || !slices.Equal(worker, others) || o.End.Followed != 1 || o.End.NotFollowed > 0 {
			t.Errorf("sent %v, read %v; %+v", worker, others, o.End)
		}
	}
	for i, kind := range []string{"entry", "exit"} {
		if inShare(t, i) {
			t.Run(kind, func(t *testing.T) { check(t, kind, append(slices.Clone(args), "-m", "entry,exit")...) })
		}
	}
	for i, backend := range slices.Sorted(maps.Keys(backends())) {
		if backends()[backend] && inShare(t, i) {
			t.Run(backend, func(t *testing.T) { check(t, "call", append(slices.Clone(args), "--backend", backend)...) })
		}
	}
	t.Run("roots", func(t *testing.T) {
		check(t, "call", append(slices.Clone(args), "-g", "--fgraph-max-depth", "1", "--no-learn", "--fgraph-include", "ip_finish_output")...)
	})
	t.Run("copies", func(t *testing.T) { checkCopies(t, f, args) })

	refuses(t, "parse --track-skb: no filter says which packets are followed", "-k", sent, "--track-skb", "--", "true")
	refuses(t, "filter calls of vfs_read: no parameter is a pointer to a struct sk_buff, whose packet would be followed",
		"-k", "vfs_read", "--track-skb", "--filter-comm", workerName, "--", "true")
}

// checkCopies: each copy of a packet is followed too, until it is freed.
func checkCopies(t *testing.T, f followed, args []string) {
	const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8 // in the network's order
	tap, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, all)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(tap)
	const segments = 4
	args = slices.Clone(args)
	freeing := slices.DeleteFunc([]string{"kfree_skbmem", "napi_skb_cache_put"}, func(name string) bool { return len(functions("^"+name+"$")) == 0 })
	args[1] = strings.Join(append([]string{"ip_output", "skb_consume_udp", "consume_skb"}, freeing...), ",")
	o := traceDuring(t, func() {
		f.send(t, make([]byte, 10*segments), 10, segments)()
		// When it is sent and when it is received, whole or as segments.
		for err == nil {
			_, _, err = unix.Recvfrom(tap, make([]byte, 100), unix.MSG_DONTWAIT)
		}
		if err != unix.EAGAIN {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // what is freed may be left to a softirq
	}, args...)
	sent, _ := o.skbs("call", "ip_output")
	_, read := o.skbs("call", "skb_consume_udp")
	_, clones := o.skbs("call", "consume_skb")
	clones = slices.DeleteFunc(clones, func(skb string) bool { return slices.Contains(sent, skb) || slices.Contains(read, skb) })
	if len(sent) != 1 || len(read) != segments || len(clones) == 0 {
		t.Errorf("sent %v, read %v, copies read %v; %+v", sent, read, clones, o.End)
	}
	if o.End.Followed < 1+segments+1 || o.End.NotFreed > 0 || o.End.NotFollowed > 0 {
		t.Errorf("%+v", o.End)
	}
	freed := map[string]bool{}
	for _, name := range freeing {
		worker, others := o.skbs("call", name)
		for _, skb := range slices.Concat(worker, others) {
			freed[skb] = true
		}
	}
	for _, skb := range slices.Concat(sent, read, clones) {
		if !freed[skb] {
			t.Errorf("%s was not seen to be freed: %v", skb, freed)
		}
	}
}

// TestGuestTrackTunnel: a packet is followed into a tunnel, where its headers are no more
// what the filter asks for.
func TestGuestTrackTunnel(t *testing.T) {
	inGuest(t)
	needModule(t, "ipip")
	ip := func(args string) {
		t.Helper()
		if res := startCommand(t, guestCommand("ip", strings.Fields(args)...)).wait(); res.Status != 0 {
			t.Fatalf("ip %s: %s", args, res.Stderr)
		}
	}
	ip("tunnel add tun_a mode ipip local 127.0.0.1 remote 127.0.0.2")
	t.Cleanup(func() { ip("tunnel del tun_a") })
	ip("addr add 10.97.0.1/24 dev tun_a")
	ip("link set tun_a up")
	outer, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_IPIP)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(outer)
	inner, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(inner)
	send := func() {
		err := unix.Sendto(inner, []byte("x"), 0, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{10, 97, 0, 2}})
		if err == nil {
			err = arrives(outer)
		}
		if err == nil {
			_, err = unix.Read(outer, make([]byte, 100))
		}
		if err != nil {
			t.Error(err)
		}
	}
	args := []string{"-k", "ip_output,ip_rcv", "--filter-pkt", "udp dst port 9 and dst host 10.97.0.2"}
	for _, test := range []struct {
		more []string
		want map[string]int
	}{
		{nil, map[string]int{"ip_output": 1}},
		{[]string{"--track-skb"}, map[string]int{"ip_output": 2, "ip_rcv": 1}}, // with the outer header
	} {
		o := traceDuring(t, send, append(slices.Clone(args), test.more...)...)
		got := map[string]int{}
		for _, e := range o.Events {
			got[e.Func]++
		}
		if !maps.Equal(got, test.want) || o.End.Lost+o.End.Unread > 0 {
			t.Errorf("%v: %v, want %v; %+v", test.more, got, test.want, o.End)
		}
	}
}
