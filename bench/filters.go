package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// packetFunction gets each packet that send sends.
const packetFunction = "skb_ensure_writable"

// rejectedCalls is how many calls are made where nothing is shown. They are measured by who
// makes them: what a start costs differs from run to run.
const rejectedCalls = 500_000

// askedOfFilter is how many instructions a call that a filter rejects may cost above
// empty programs.
const askedOfFilter = 250

// filters prints what a call costs that a filter rejects, and one whose values or packet
// are shown.
func filters(w io.Writer) error {
	time.Sleep(3 * time.Second) // the kernel's own work after boot
	fmt.Fprintf(w, "instructions a rejected call, above empty fentry and fexit programs; asked: at most %d:\n", askedOfFilter)
	var empty int64
	err := withEmpty(packetFunction, []ebpf.AttachType{ebpf.AttachTraceFEntry, ebpf.AttachTraceFExit}, func() (err error) {
		empty, err = timedSend(rejectedCalls)
		return err
	})
	if err != nil {
		return fmt.Errorf("measure empty programs of %s: %w", packetFunction, err)
	}
	for _, filter := range [][]string{
		// Three members that are not 0, and three that are: those are read twice.
		{"--filter-arg", "skb->len > 20 && skb->truesize > 100 && skb->protocol == 5"},
		{"--filter-arg", "!skb->mark && !skb->priority && skb->hash"},
		{"--filter-pkt", "icmp and host 127.0.0.1"},
		{"--filter-pkt", "udp port 80"},
	} {
		for _, backend := range [][]string{nil, {"--backend", "kprobe.session"}, {"--backend", "fsession.multi"}} {
			args := append(append([]string{"-k", packetFunction}, filter...), backend...)
			cost, err := rejectedCost(args)
			name := strings.Join(append(filter, backend...), " ")
			if err != nil {
				first, _, _ := strings.Cut(err.Error(), "\n")
				fmt.Fprintf(w, "  %-90s       -  %s\n", name, first)
				continue
			}
			fmt.Fprintf(w, "  %-90s %7d\n", name, (cost-empty)/rejectedCalls)
		}
	}
	return shown(w)
}

// rejectedCost returns what rejectedCalls calls take that trace does not show, in
// instructions.
func rejectedCost(args []string) (int64, error) {
	missing, out, err := runTraceOutput(args, guestTimedSends, strconv.Itoa(rejectedCalls))
	if err != nil {
		return 0, err
	}
	if missing != "" {
		return 0, errors.New(missing)
	}
	cost, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read time of calls: %w", err)
	}
	return cost, nil
}

// printSends prints what so many packets take to send, in instructions.
func printSends(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil {
		return fmt.Errorf("parse calls: %w", err)
	}
	cost, err := timedSend(n)
	if err != nil {
		return err
	}
	fmt.Println(cost)
	return nil
}

func send(n int) error {
	_, err := timedSend(n)
	return err
}

// timedSend has the kernel run a program over a packet that it makes, a datagram from
// 127.0.0.1 to itself. The program calls packetFunction, and there is nothing else to do.
// It returns what that takes, in instructions.
func timedSend(n int) (int64, error) {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R2, 0),
		asm.FnSkbPullData.Call(),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	}})
	if err != nil {
		return 0, fmt.Errorf("load sender: %w", err)
	}
	defer prog.Close()
	frame := append(make([]byte, 12), 8, 0,
		0x45, 0, 0, 36, 0, 1, 0, 0, 64, unix.IPPROTO_UDP, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1,
		0x13, 0x88, 0x13, 0x89, 0, 16, 0, 0, 'e', 'i', 'g', 'h', 't', 'b', 'y', 't')
	return elapsed(func() error {
		if _, err := prog.Run(&ebpf.RunOptions{Data: frame, Repeat: uint32(n)}); err != nil {
			return fmt.Errorf("send: %w", err)
		}
		return nil
	})
}
