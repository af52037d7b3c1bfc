package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// What is asked of captured packets: so many of this size a minute, whole and none lost.
const (
	askedPackets  = 100_000
	packetsNow    = 120_000 // what the load sends a minute
	packetBytes   = 1500    // from the IP header on
	packetPort    = 5001
	packetTime    = 15 * time.Second
	packetHeaders = 28 // IP and UDP
	etherHeader   = 14
)

const captureFile = "/tmp/bench.pcapng"

// shown prints what a call costs whose values or packet are shown, above empty programs.
func shown(w io.Writer) error {
	var empty int64
	err := withEmpty(packetFunction, []ebpf.AttachType{ebpf.AttachTraceFEntry, ebpf.AttachTraceFExit}, func() (err error) {
		empty, err = perCall(manyCalls, send)
		return err
	})
	if err != nil {
		return fmt.Errorf("measure empty programs of %s: %w", packetFunction, err)
	}
	fmt.Fprintln(w, "instructions a call that is shown, to the text in a file, above empty fentry and fexit programs:")
	for _, args := range [][]string{
		nil,
		{"--output-arg", "skb->len"},
		{"--output-arg", "skb->dev->name", "--output-arg", "be16(skb->head + skb->transport_header)"},
		{"--output-arg", "hist(skb->len)"},
		{"--output-pkt"},
		{"--output-pcap", "/dev/null"},
	} {
		cost, err := perCall(manyCalls, func(n int) error {
			missing, err := runTrace(append([]string{"-k", packetFunction}, args...), guestSends, strconv.Itoa(n))
			if err == nil && missing != "" {
				err = fmt.Errorf("%s", missing)
			}
			return err
		})
		name := strings.Join(append([]string{"trace"}, args...), " ")
		if err != nil {
			first, _, _ := strings.Cut(err.Error(), "\n")
			fmt.Fprintf(w, "  %-90s       -  %s\n", name, first)
			continue
		}
		fmt.Fprintf(w, "  %-90s %7d\n", name, cost-empty)
	}
	return nil
}

// packets prints how many packets are captured whole.
func packets(w io.Writer) error {
	defer os.Remove(captureFile)
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("set up loopback: %w: %s", err, out)
	}
	cmd := exec.Command("trace", "-k", "udp_rcv", "--filter-pkt", fmt.Sprint("udp dst port ", packetPort), "--output-pcap", captureFile, "-o", "/dev/null",
		"--", "bench", guestDatagrams, packetTime.String())
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("run trace: %w\n%s", err, out)
	}
	whole, cut, err := countPackets(captureFile)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%d packets of %d bytes a minute captured whole, %d cut off, of %d sent  asked: %d, 0 lost; in %v: %s\n",
		int64(whole)*int64(time.Minute)/int64(packetTime), packetBytes, cut, packetsNow, askedPackets, packetTime, strings.TrimSpace(string(out)))
	return nil
}

// countPackets counts the packets of a pcapng file: those that are there in full, and
// others.
func countPackets(path string) (whole, cut int, err error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, err
	}
	for len(raw) >= 12 {
		length := binary.LittleEndian.Uint32(raw[4:])
		if length < 12 || uint64(length) > uint64(len(raw)) {
			return 0, 0, fmt.Errorf("read %s: a block of %d bytes", path, length)
		}
		if block := raw[:length]; binary.LittleEndian.Uint32(block) == 6 && length >= 32 { // enhanced packet block
			captured, original := binary.LittleEndian.Uint32(block[20:]), binary.LittleEndian.Uint32(block[24:])
			if captured == original && captured == packetBytes+etherHeader {
				whole++
			} else {
				cut++
			}
		}
		raw = raw[length:]
	}
	return whole, cut, nil
}

// datagrams sends packetsNow a minute for so long, to a socket that nobody reads.
func datagrams(length string) error {
	to := &unix.SockaddrInet4{Port: packetPort, Addr: [4]byte{127, 0, 0, 1}}
	var ends [2]int
	for i := range ends {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open socket: %w", err)
		}
		defer unix.Close(fd)
		ends[i] = fd
	}
	if err := unix.Bind(ends[0], to); err != nil {
		return fmt.Errorf("bind socket: %w", err)
	}
	payload := make([]byte, packetBytes-packetHeaders)
	return paced(length, packetsNow, func(n int) error {
		for range n {
			if err := unix.Sendto(ends[1], payload, 0, to); err != nil {
				return fmt.Errorf("send: %w", err)
			}
		}
		return nil
	})
}
