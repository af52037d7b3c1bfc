package matrix

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
)

const (
	lossCalls   = 20000
	smallBuffer = "4K"
	lossFunc    = "shmem_file_llseek" // through a pointer: never inlined
	firstOffset = 1 << 33             // no other call's
)

// TestGuestLossOfEntries checks that each call is shown or counted as lost.
func TestGuestLossOfEntries(t *testing.T) {
	inGuest(t)
	for buffer, calls := range map[string]int{smallBuffer: lossCalls, "64M": lossCalls / 10} {
		t.Run(buffer, func(t *testing.T) {
			o := traceDuring(t, seek(t, firstOffset, calls),
				"-k", lossFunc, "-m", "entry", "--buffer-size", buffer, "--filter-pid", strconv.Itoa(os.Getpid()))
			if got := o.End.Events + o.End.Lost + o.End.RecursionMisses; got != uint64(calls) {
				t.Errorf("%d calls of %d: %+v", got, calls, o.End)
			}
			if lost := o.End.Lost > 0; lost != (buffer == smallBuffer) {
				t.Errorf("%d lost in a buffer of %s", o.End.Lost, buffer)
			}
			last := int64(firstOffset - 1)
			for _, e := range o.Events {
				a, _ := e.arg("offset")
				offset, err := a.integer()
				if err != nil || offset <= last {
					t.Fatalf("offset %v after %d: %v", a, last, err)
				}
				last = offset
			}
		})
	}
}

// TestGuestLossOfPackets checks that each packet is shown or counted, alone or with its
// call.
func TestGuestLossOfPackets(t *testing.T) {
	inGuest(t)
	const count = 500
	all := slices.Repeat([]datagram{{port: 5001, text: "lost"}}, count)
	sendUDP(t, all[:1])() // neighbours are found
	o := traceDuring(t, sendUDP(t, all), "-k", "ip_rcv", "-m", "entry", "--filter-pkt", "udp dst port 5001", "--output-pkt", "--buffer-size", smallBuffer)
	if got := o.End.Events + o.End.Lost + o.End.RecursionMisses; got != count {
		t.Errorf("%d calls of %d: %+v", got, count, o.End)
	}
	shown := uint64(0)
	for _, e := range o.Events {
		if e.Packet != nil {
			shown++
		}
	}
	if o.End.LostPackets == 0 || o.End.Events-shown > o.End.LostPackets || shown+o.End.LostPackets+o.End.Lost < count {
		t.Errorf("%d packets of %d calls: %+v", shown, o.End.Events, o.End)
	}
}

// TestGuestLossOfCalls checks that a lost record never joins the entry of one
// call with the exit of another: each call returns its argument.
func TestGuestLossOfCalls(t *testing.T) {
	inGuest(t)
	for _, mode := range []string{"", "exit", "entry,exit"} {
		t.Run(modeName(mode), func(t *testing.T) {
			o := traceDuring(t, seek(t, firstOffset, lossCalls),
				modeArgs(mode, "-k", lossFunc, "--buffer-size", smallBuffer, "--filter-pid", strconv.Itoa(os.Getpid()))...)
			checkLosses(t, o, lossCalls)
		})
	}
}

// checkLosses checks that so many calls of lossFunc are all shown or counted, and
// that what is joined is of one call.
func checkLosses(t *testing.T, o *output, calls int) {
	t.Helper()
	if o.End.Lost == 0 {
		t.Error("nothing was lost")
	}
	joined := uint64(0)
	for _, e := range o.Events {
		if !e.has("duration_ns") {
			continue
		}
		joined++
		a, _ := e.arg("offset")
		if fmt.Sprint(a.Value) != fmt.Sprint(e.Retval.Value) {
			t.Fatalf("the call with offset %v returned %v", a.Value, e.Retval.Value)
		}
	}
	if joined == 0 {
		t.Error("no entry was joined with its exit")
	}
	// Each call has two records.
	records := 2*joined + o.End.NoEntry + o.End.NoExit + o.End.Running + o.End.Lost + o.End.RecursionMisses
	if records != uint64(2*calls) {
		t.Errorf("%d records of %d calls; %d joined; %+v", records, calls, joined, o.End)
	}
}
