package tracer

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"fgtrace/internal/perfdata"
	"fgtrace/tracer/learn"
)

// learner watches which functions call which, over all CPUs: the kernel's
// function tracer as a perf event, ftrace:function (perf_ftrace_function_call in
// kernel/trace/trace_event_perf.c, Linux 3.4). It is gone with its descriptors,
// however this process ends, and changes nothing in tracefs.
//
// While it is open every function of the kernel calls into ftrace: once for each
// CPU, as there is an event for each, and returns soon while the learner is
// stopped. So opening patches all functions and closing restores them: seconds in
// an emulated guest. Starting and stopping are an interrupt a CPU. A sample is
// 56 bytes, and 7 to 15 us in an emulated guest.
//
// A busy kernel makes samples faster than they can be read; in an emulated guest
// those of the timer's interrupts alone may leave no time for anything else. What
// matters are calls of roots that were seen whole, not how many were seen: so a CPU
// is watched for a burst of calls, which the kernel ends by itself, and again when
// the reader asks for more.
//
// It works beside BPF links and probes on the same functions. But stop it while
// those are attached or detached: patching calls so many functions that 3 s become
// 90 in an emulated guest, and 5 while it is stopped.
//
// A parent may be in a BPF trampoline, or be the return hook of a probe
// (arch_rethook_trampoline): a traced function returns there, and so does what it
// jumps to.
//
// Its methods must not run at the same time.
type learner struct {
	rings   []*learnerRing
	missing uint64 // samples that the kernel had no room for
	strange uint64 // samples that are none
}

// learnerRing is a learner's event of one CPU.
type learnerRing struct {
	*perfRing
	burst int    // how many calls are watched at a time
	taken int    // of them
	over  bool   // a burst: the event is stopped
	blind bool   // calls behind the last one were not seen, which was told
	last  uint64 // when that was
}

// callSink takes what a learner sees of each CPU: *learn.Windows.
type callSink interface {
	Note(learn.Call)
	Stop(cpu int, from uint64)  // calls are not seen from then on, ns
	Start(cpu int, from uint64) // they are again
}

// errNoFunctionEvent tells that this kernel does not have ftrace:function for us.
var errNoFunctionEvent = errors.New("no perf event ftrace:function")

const (
	// functionEvent is TRACE_FN (enum trace_type in kernel/trace/trace.h, the
	// same since 2.6.37): the event's id, where tracefs can't tell it.
	functionEvent = 1

	learnRing     = 4 << 20   // bytes a CPU: two bursts
	learnRingAll  = 256 << 20 // bytes of all CPUs
	learnRingTiny = 128 << 10
	learnSample   = 64 // bytes of a sample, at most

	// maxPerfFilter is what PERF_EVENT_IOC_SET_FILTER takes, less its zero:
	// strndup_user of a page of 4 KB (perf_event_set_filter).
	maxPerfFilter = 4095
)

// learnNoise are functions that the event itself runs and that would be seen for
// each sample: ftrace allows one level of recursion, as it can't tell it from an
// interrupt (trace_test_and_set_recursion, "transition").
var learnNoise = [...]string{"__task_pid_nr_ns", "perf_swevent_get_recursion_context"}

// newLearner opens the events, stopped. A learner that there is no kernel for is
// errNoFunctionEvent, one that this process is not allowed a *RefusedError.
func newLearner() (*learner, error) {
	cpus, err := onlineCPUs()
	if err != nil {
		return nil, err
	}
	id := functionEventID()
	l := &learner{}
	for _, cpu := range cpus {
		r, err := openFunctionEvent(id, cpu, learnRingSize(len(cpus)))
		if err == nil {
			l.rings = append(l.rings, &learnerRing{perfRing: r, burst: len(r.ring.Data) / learnSample / 2, over: true})
			continue
		}
		l.close()
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
			return nil, fmt.Errorf("%w (CONFIG_FUNCTION_TRACER, CONFIG_PERF_EVENTS): %w", errNoFunctionEvent, err)
		}
		return nil, explain(fmt.Errorf("watch calls on CPU %d: %w", cpu, err))
	}
	// Half of the samples would be noise. A kernel that does not know a name, or does
	// not trace it, does not make them, and takes none of them.
	err = l.except(learnNoise[:])
	if errors.Is(err, unix.EINVAL) {
		err = l.except(learnNoise[:1])
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func functionEventID() uint64 {
	for _, dir := range []string{"/sys/kernel/tracing", "/sys/kernel/debug/tracing"} {
		raw, err := os.ReadFile(dir + "/events/ftrace/function/id")
		if err != nil {
			continue
		}
		if id, err := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 32); err == nil {
			return id
		}
	}
	return functionEvent
}

// learnRingSize returns a ring's bytes, a power of two.
func learnRingSize(cpus int) int {
	fair := max(learnRingAll/max(cpus, 1), learnRingTiny)
	return min(learnRing, 1<<(bits.Len(uint(fair))-1))
}

func openFunctionEvent(id uint64, cpu, size int) (*perfRing, error) {
	for {
		r, err := openPerfRing(&unix.PerfEventAttr{
			Type:        unix.PERF_TYPE_TRACEPOINT,
			Config:      id,
			Sample:      1,
			Sample_type: unix.PERF_SAMPLE_TID | unix.PERF_SAMPLE_TIME | unix.PERF_SAMPLE_RAW,
			// A sampling function event without exclude_callchain_user is refused
			// (perf_trace_event_perm).
			Bits:    unix.PerfBitDisabled | unix.PerfBitExcludeCallchainUser | unix.PerfBitUseClockID,
			Clockid: unix.CLOCK_MONOTONIC, // bpf_ktime_get_ns
		}, cpu, size/unix.Getpagesize())
		// Without CAP_IPC_LOCK a user's rings are bounded (perf_mmap), and memory
		// may be short.
		full := r == nil && (errors.Is(err, errMapPerf) && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOMEM)))
		if !full || size/2 < learnRingTiny {
			return r, err
		}
		size /= 2
	}
}

// except leaves functions out, at once for all CPUs: names, or globs. A name that
// no traceable function has is EINVAL, and some of the names may have been taken.
// Each glob costs a walk over all
// functions for each CPU: 200 ms in an emulated guest.
func (l *learner) except(names []string) error {
	return l.filter("ip != " + strings.Join(names, ","))
}

func (l *learner) filter(text string) error {
	if len(text) > maxPerfFilter {
		return fmt.Errorf("filter calls: %d bytes of names, the kernel takes %d", len(text), maxPerfFilter)
	}
	raw, err := unix.BytePtrFromString(text)
	if err != nil {
		return fmt.Errorf("filter calls: %w", err)
	}
	for _, r := range l.rings {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(r.fd), unix.PERF_EVENT_IOC_SET_FILTER, uintptr(unsafe.Pointer(raw))); errno != 0 {
			return fmt.Errorf("filter calls on CPU %d: %w", r.cpu, errno)
		}
	}
	return nil
}

// start begins to watch, or goes on.
func (l *learner) start(to callSink) error {
	for _, r := range l.rings {
		to.Stop(r.cpu, r.last)
		if err := r.watch(to); err != nil {
			return err
		}
	}
	return nil
}

// more goes on on the CPUs where a burst is over, and on those that are silent: one
// that ended while the next began may have stopped that, too (perf_pending_disable
// runs in an interrupt of its own).
func (l *learner) more(to callSink) error {
	now, err := monotonic()
	if err != nil {
		return err
	}
	for _, r := range l.rings {
		if !r.over && !r.silent(now) {
			continue
		}
		r.stopped(to)
		if err := r.watch(to); err != nil {
			return err
		}
	}
	return nil
}

// silent tells whether there was no call on the CPU for so long that it may be blind.
func (r *learnerRing) silent(now uint64) bool {
	const long = uint64(time.Second)
	return now > r.last && now-r.last > long
}

// watch starts a burst, or goes on with one.
func (r *learnerRing) watch(to callSink) error {
	request, calls := uint(unix.PERF_EVENT_IOC_ENABLE), 0
	if r.over {
		request, calls = unix.PERF_EVENT_IOC_REFRESH, r.burst
		r.over, r.taken = false, 0
	}
	if err := r.do(request, calls, "start"); err != nil {
		return err
	}
	// From 6.19 on, an event that has stopped at its limit stays PERF_HES_STOPPED,
	// and is skipped (perf_tp_event_match), until it is given a period.
	if err := r.setPeriod(1); err != nil {
		return err
	}
	now, err := monotonic()
	if err != nil {
		return err
	}
	r.blind, r.last = false, now
	to.Start(r.cpu, now)
	return nil
}

// stop pauses: what was seen can still be drained.
func (l *learner) stop() error {
	var errs []error
	for _, r := range l.rings {
		errs = append(errs, r.do(unix.PERF_EVENT_IOC_DISABLE, 0, "stop"))
	}
	return errors.Join(errs...)
}

// drain gives what was seen since: CPU by CPU, on each in the order in which room
// was reserved for the samples.
func (l *learner) drain(to callSink) {
	for _, r := range l.rings {
		r.drain(func(kind uint32, body []byte) { l.take(r, kind, body, to) })
		if r.taken >= r.burst {
			r.over = true
			r.stopped(to)
		}
	}
}

// stopped tells that calls behind the last one are not seen.
func (r *learnerRing) stopped(to callSink) {
	if !r.blind {
		r.blind = true
		to.Stop(r.cpu, r.last)
	}
}

func (l *learner) take(r *learnerRing, kind uint32, body []byte, to callSink) {
	switch kind {
	case perfdata.RecordSample:
		r.taken++
		c, ok := learn.ParseSample(body)
		if !ok {
			l.strange++
			r.stopped(to)
			return
		}
		c.CPU = r.cpu
		r.last = max(r.last, c.Time)
		if r.blind {
			r.blind = false
			to.Start(r.cpu, c.Time)
		}
		to.Note(c)
	case perfdata.RecordLost:
		lost := perfdata.Lost(body)
		l.missing += lost
		r.taken += int(lost)
		r.stopped(to)
	}
}

// lost returns how many calls were seen by nobody, as far as the rings that were
// drained tell. The kernel tells of a loss once there is room again.
func (l *learner) lost() uint64 { return l.missing + l.strange }

// close ends it, and waits until the kernel has restored its functions. It may be
// called twice.
func (l *learner) close() error {
	err := l.stop()
	for _, r := range l.rings {
		r.close()
	}
	l.rings = nil
	return err
}
