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

// rejectedCalls is manyCalls where nothing is shown: what a start costs differs by more
// than so many calls do from run to run.
const rejectedCalls = 2_000_000

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
		empty, err = perCall(rejectedCalls, send)
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
			cost, err := perCall(rejectedCalls, func(n int) error {
				missing, err := runTrace(args, guestSends, strconv.Itoa(n))
				if err == nil && missing != "" {
					err = errors.New(missing)
				}
				return err
			})
			name := strings.Join(append(filter, backend...), " ")
			if err != nil {
				first, _, _ := strings.Cut(err.Error(), "\n")
				fmt.Fprintf(w, "  %-90s       -  %s\n", name, first)
				continue
			}
			fmt.Fprintf(w, "  %-90s %7d\n", name, cost-empty)
		}
	}
	return shown(w)
}

// send has the kernel run a program over a packet that it makes, a datagram from
// 127.0.0.1 to itself. The program calls packetFunction, and there is nothing else to do.
func send(n int) error {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R2, 0),
		asm.FnSkbPullData.Call(),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	}})
	if err != nil {
		return fmt.Errorf("load sender: %w", err)
	}
	defer prog.Close()
	frame := append(make([]byte, 12), 8, 0,
		0x45, 0, 0, 36, 0, 1, 0, 0, 64, unix.IPPROTO_UDP, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1,
		0x13, 0x88, 0x13, 0x89, 0, 16, 0, 0, 'e', 'i', 'g', 'h', 't', 'b', 'y', 't')
	if _, err := prog.Run(&ebpf.RunOptions{Data: frame, Repeat: uint32(n)}); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}
