package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// packetFunction gets each packet that send sends.
const packetFunction = "ip_rcv"

// manyPackets is manyCalls where each is a packet, on its way through all of the
// kernel's network.
const manyPackets = 60_000

// askedOfFilter is how many instructions a call that a filter rejects may cost above
// empty programs.
const askedOfFilter = 250

// filters prints what a call costs that a filter rejects.
func filters(w io.Writer) error {
	time.Sleep(3 * time.Second) // the kernel's own work after boot
	// What the mask holds at the entry is whatever was in its memory before.
	const never = "mask->bits[0] != 0x7654321 && mask->bits[1] != 0x7654321 && mask->bits[2] == 0x7654321"
	fmt.Fprintf(w, "instructions a rejected call, above empty fentry and fexit programs; asked: at most %d:\n", askedOfFilter)
	for _, of := range []struct {
		function string
		many     int
		call     func(n int) error
		load     string
		filters  [][]string
	}{
		{function, manyCalls, callFunction, guestLoad, [][]string{{"--filter-arg", never}}},
		{packetFunction, manyPackets, send, guestSends, [][]string{
			{"--filter-pkt", "icmp and host 127.0.0.1"}, {"--filter-pkt", "udp and host 127.0.0.2"}, {"--filter-pkt", "udp port 80"},
		}},
	} {
		var empty int64
		err := withEmpty(of.function, []ebpf.AttachType{ebpf.AttachTraceFEntry, ebpf.AttachTraceFExit}, func() (err error) {
			empty, err = perCall(of.many, of.call)
			return err
		})
		if err != nil {
			return fmt.Errorf("measure empty programs of %s: %w", of.function, err)
		}
		for _, filter := range of.filters {
			for _, backend := range [][]string{nil, {"--backend", "kprobe.session"}, {"--backend", "fsession.multi"}} {
				args := append(append([]string{"-k", of.function}, filter...), backend...)
				cost, err := perCall(of.many, func(n int) error {
					missing, err := runTrace(args, of.load, strconv.Itoa(n))
					if err == nil && missing != "" {
						err = fmt.Errorf("%s", missing)
					}
					return err
				})
				name := fmt.Sprintf("trace %v", args)
				if err != nil {
					fmt.Fprintf(w, "  %-80s       -  %v\n", name, err)
					continue
				}
				fmt.Fprintf(w, "  %-80s %7d\n", name, cost-empty)
			}
		}
	}
	return nil
}

// send sends datagrams to a socket that is full, and drops them.
func send(n int) error {
	to := &unix.SockaddrInet4{Port: 5001, Addr: [4]byte{127, 0, 0, 1}}
	var fds [2]int
	for i := range fds {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("make socket: %w", err)
		}
		defer unix.Close(fd)
		fds[i] = fd
	}
	if err := unix.Bind(fds[0], to); err != nil {
		return fmt.Errorf("bind socket: %w", err)
	}
	for range n {
		if err := unix.Sendto(fds[1], []byte("eightbyt"), 0, to); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	return nil
}
