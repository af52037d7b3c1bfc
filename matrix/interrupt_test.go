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
	wrong := func(first int) (i int, diff string) {
		for i, e := range events {
			if first < 0 || first+i >= len(hits) {
				return i, "the kernel saw no interrupt"
			}
			h := hits[first+i]
			diff := diffOf(h.Chain, e.chain())
			if diff != "" || e.Truncated || e.TID != h.PID {
				return i, fmt.Sprintf("of %s/%d, truncated %v, the kernel's of %s/%d (-true +shown)\n%s", e.Comm, e.TID, e.Truncated, h.Comm, h.PID, diff)
			}
		}
		return -1, ""
	}
	before, why := wrong(first - 1)
	if after, _ := wrong(first); before >= 0 && after >= 0 {
		t.Fatalf("interrupt %d of %d, of the kernel's %d from the one before the first: %s", before, len(events), len(hits), why)
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
