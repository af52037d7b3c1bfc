package main

import (
	"fmt"
	"io"
	"strconv"
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

// filters prints what a call costs that a filter rejects.
func filters(w io.Writer) error {
	time.Sleep(3 * time.Second) // the kernel's own work after boot
	// What the mask holds at the entry is whatever was in its memory before.
	const never = "mask->bits[0] != 0x7654321 && mask->bits[1] != 0x7654321 && mask->bits[2] == 0x7654321"
	fmt.Fprintf(w, "instructions a rejected call, above empty fentry and fexit programs; asked: at most %d:\n", askedOfFilter)
	for _, of := range []struct {
		function string
		call     func(n int) error
		load     string
		filters  [][]string
	}{
		{function, callFunction, guestLoad, [][]string{{"--filter-arg", never}}},
		{packetFunction, send, guestSends, [][]string{
			{"--filter-pkt", "icmp and host 127.0.0.1"}, {"--filter-pkt", "udp port 80"},
		}},
	} {
		var empty int64
		err := withEmpty(of.function, []ebpf.AttachType{ebpf.AttachTraceFEntry, ebpf.AttachTraceFExit}, func() (err error) {
			empty, err = perCall(rejectedCalls, of.call)
			return err
		})
		if err != nil {
			return fmt.Errorf("measure empty programs of %s: %w", of.function, err)
		}
		for _, filter := range of.filters {
			for _, backend := range [][]string{nil, {"--backend", "kprobe.session"}, {"--backend", "fsession.multi"}} {
				args := append(append([]string{"-k", of.function}, filter...), backend...)
				cost, err := perCall(rejectedCalls, func(n int) error {
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
