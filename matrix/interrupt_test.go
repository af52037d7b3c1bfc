package matrix

import (
	"fmt"
	"regexp"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestGuestInterrupts compares the chains of a timer's interrupts, which go on
// through what they interrupted, each with the one that the kernel takes of the
// same interrupt.
func TestGuestInterrupts(t *testing.T) {
	inGuest(t)
	const function = "hrtimer_interrupt"
	w := watchTruth(t, function)
	busy := withZero(t, func(fd int) {
		buf := make([]byte, 1<<20)
		sum := byte(0)
		for until := now() + 500*1e6; now() < until; { // both sides get their share of interrupts
			if _, err := unix.Read(fd, buf); err != nil {
				t.Error(err)
				return
			}
			for i := range buf {
				sum += buf[i] ^ byte(i)
			}
		}
		buf[0] = sum
	})
	o := traceDuring(t, busy, "-k", function, "--output-stack", "-m", "entry")
	hits := w.hits()
	w.stop()

	events := o.of("entry", function)
	if len(hits) == 0 || len(events) < 20 || o.End.Lost+o.End.RecursionMisses > 0 {
		t.Fatalf("%d events; %+v", len(events), o.End)
	}
	// Each is one of the kernel's, which go by in the same order. Which of the two
	// programs runs first at an interrupt is up to the kernel.
	next, first, last := 0, -1, -1
	for i, e := range events {
		for next < len(hits) && uint64(hits[next].Time) <= e.Time {
			next++
		}
		before, after := "it was another one", ""
		if next-1 > last {
			before = differs(hits, next-1, e)
		}
		switch after = differs(hits, next, e); {
		case before == "":
			last = next - 1
		case after == "":
			last = next
		default:
			t.Errorf("interrupt %d of %d at %d ns, in %s/%d, is neither the kernel's last before it: %s\nnor the first behind it: %s",
				i, len(events), e.Time, e.Comm, e.TID, before, after)
			continue
		}
		if first < 0 {
			first = last
		}
	}
	if more := last + 1 - first - len(events); more > len(events)/50 {
		t.Errorf("the kernel saw %d interrupts more than the %d that are shown", more, len(events))
	}
	inKernel, inUser := 0, 0
	for _, e := range events {
		if e.Comm == workerName && slices.ContainsFunc(e.chain(), syscallEntry.MatchString) {
			inKernel++
		} else if e.Comm == workerName {
			inUser++
		}
	}
	if inKernel == 0 || inUser == 0 {
		t.Errorf("%d interrupts of system calls and %d of user space, want both", inKernel, inUser)
	}
}

var syscallEntry = regexp.MustCompile(`^(entry_SYSCALL_64|el0t?_svc|el0_sync)`)

// differs tells what an interrupt has otherwise than the i-th that the kernel saw;
// nothing: it is that.
func differs(hits []hit, i int, e event) string {
	if i < 0 || i >= len(hits) {
		return "there is none"
	}
	h := hits[i]
	diff := diffOf(h.Chain, e.chainLike(h.Chain))
	if diff == "" && !e.Truncated && e.TID == h.PID {
		return ""
	}
	return fmt.Sprintf("at %d ns in %s/%d; truncated %v; (-kernel +shown)\n%s", h.Time, h.Comm, h.PID, e.Truncated, diff)
}
