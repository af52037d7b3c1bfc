package matrix

import (
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
	busy := func() {
		onWorker(func() {
			fd, err := unix.Open("/dev/zero", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer unix.Close(fd)
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
	}
	o := traceDuring(t, busy, "-k", function, "--output-stack", "-m", "entry")
	hits := w.hits()
	w.stop()

	// The kernel saw some before the first event and after the last.
	events := o.of("entry", function)
	if len(hits) == 0 || len(events) < 20 || o.End.Lost+o.End.RecursionMisses > 0 {
		t.Fatalf("%d events; %+v", len(events), o.End)
	}
	first := 0
	for first < len(hits) && uint64(hits[first].Time) <= events[0].Time {
		first++
	}
	// Which of the two programs runs first at an interrupt is up to the kernel.
	same := func(h hit, e event) bool { return h.PID == e.TID && slices.Equal(h.Chain, e.chain()) }
	if first == len(hits) || first > 0 && !same(hits[first], events[0]) {
		first--
	}
	if first+len(events) > len(hits) {
		t.Fatalf("the kernel saw %d interrupts, and %d of %d events are behind the first", len(hits), first, len(events))
	}
	inKernel, inUser := 0, 0
	for i, e := range events {
		h := hits[first+i]
		if diff := diffOf(h.Chain, e.chain()); diff != "" || e.Truncated || e.TID != h.PID {
			t.Fatalf("interrupt %d of %s/%d, truncated %v, the kernel's of %s/%d (-true +shown)\n%s", i, e.Comm, e.TID, e.Truncated, h.Comm, h.PID, diff)
		}
		if e.Comm == workerName && slices.ContainsFunc(h.Chain, func(f string) bool { return syscallEntry.MatchString(f) }) {
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
