package tracer

import "golang.org/x/sys/unix"

// missWatch knows until when runs of a target's programs were left out. A task
// that is preempted in a program keeps it busy on its CPU, and the kernel leaves
// out all runs of it for the tasks that follow, for a time slice: on preemptible
// kernels under load, that is no rare thing.
type missWatch struct {
	drains  uint64
	targets map[int]*misses
}

type misses struct {
	drain           uint64 // in which the counters were read
	entries, exits  uint64
	entryAt, exitAt uint64 // ns: when they were last seen to have grown
}

// both reads the counters at most once a drain, as a call only asks that took
// long enough for it to matter. They are read behind all records of the drain,
// so that they know of all that was left out before those.
func (w *missWatch) both(missed func(target int) (entries, exits uint64, err error), target int, since uint64) bool {
	m := w.targets[target]
	if m == nil {
		m = &misses{}
		if w.targets == nil {
			w.targets = make(map[int]*misses)
		}
		w.targets[target] = m
	}
	if m.drain != w.drains {
		m.drain = w.drains
		entries, exits, err := missed(target)
		now, clockErr := monotonic()
		if err != nil || clockErr != nil {
			return true // not known: better no duration than a wrong one
		}
		if entries != m.entries {
			m.entries, m.entryAt = entries, now
		}
		if exits != m.exits {
			m.exits, m.exitAt = exits, now
		}
	}
	return since <= m.entryAt && since <= m.exitAt
}

// Now returns the kernel's monotonic clock in ns.
func Now() (uint64, error) { return monotonic() }

func monotonic() (uint64, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0, err
	}
	return uint64(ts.Nano()), nil
}
