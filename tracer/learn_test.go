package tracer

import (
	"bufio"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fgtrace/internal/guesttest"
	"fgtrace/tracer/learn"
)

func TestLearnRingSize(t *testing.T) {
	for cpus, want := range map[int]int{0: 4 << 20, 1: 4 << 20, 64: 4 << 20, 65: 2 << 20, 256: 1 << 20, 8192: 128 << 10} {
		if got := learnRingSize(cpus); got != want {
			t.Errorf("%d CPUs: %d, want %d", cpus, got, want)
		}
	}
}

func TestLearnFilterTooLong(t *testing.T) {
	l := &learner{}
	if err := l.filter(strings.Repeat("x", maxPerfFilter)); err != nil {
		t.Error(err)
	}
	if err := l.filter(strings.Repeat("x", maxPerfFilter+1)); err == nil {
		t.Error("a filter longer than a page was taken")
	}
	if err := l.except([]string{"a\x00b"}); err == nil {
		t.Error("a filter with a zero was taken")
	}
}

func now(t *testing.T) uint64 {
	t.Helper()
	ns, err := monotonic()
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

// address returns where the kernel has a function.
func address(t *testing.T, name string) uint64 {
	t.Helper()
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) == 3 && fields[2] == name {
			addr, err := strconv.ParseUint(fields[0], 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			return addr
		}
	}
	t.Fatalf("no function %s", name)
	return 0
}

// TestGuestLearner runs in the VMs of matrix's TestKernels.
func TestGuestLearner(t *testing.T) {
	guesttest.Only(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	zero, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer zero.Close()
	const reads = 100
	read := func() (from, to uint64) {
		from = now(t)
		var b [1]byte
		for range reads {
			if _, err := unix.Read(int(zero.Fd()), b[:]); err != nil {
				t.Fatal(err)
			}
		}
		return from, now(t)
	}
	vfsRead := address(t, "vfs_read")
	const patchSpan = 16 // from a symbol to where it is patched: endbr64 or bti, two nops
	patchedBefore := patched()

	began := time.Now()
	l, err := newLearner()
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	t.Logf("opened in %v", time.Since(began))

	// Everything, for a moment.
	everything := &sink{Windows: learn.NewWindows(learn.DefaultCalls)}
	if err := l.start(everything); err != nil {
		t.Fatal(err)
	}
	from, to := read()
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	tid := uint32(unix.Gettid())
	edges := learn.NewEdges(1 << 16)
	noise := 0
	noisy := address(t, learnNoise[0])
	total := 0
	everything.call = func(c learn.Call) {
		total++
		edges.Add(c.Parent, c.IP)
		if c.IP-noisy < patchSpan {
			noise++
		}
	}
	l.drain(everything)
	t.Logf("%d calls, %d edges, %d lost in %v", total, edges.Len(), l.lost(), time.Duration(to-from))
	if noise > total/10 {
		t.Errorf("%d of %d calls are the learner's own", noise, total)
	}
	seen := false
	pairs, _ := everything.Root(tid, 0, from, to, nil)
	for _, p := range pairs {
		seen = seen || p.IP-vfsRead < patchSpan && p.Parent != 0
	}
	if !seen {
		t.Errorf("no vfs_read among %d pairs", len(pairs))
	}

	// One function, exactly.
	if err := l.filter("ip == vfs_read"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		some := &sink{Windows: learn.NewWindows(learn.DefaultCalls), call: func(learn.Call) {}}
		if err := l.start(some); err != nil {
			t.Fatal(err)
		}
		lost, stops := l.lost(), some.stops
		from, to := read()
		if err := l.stop(); err != nil {
			t.Fatal(err)
		}
		read() // unseen
		mine := 0
		some.call = func(c learn.Call) {
			switch {
			case c.IP-vfsRead >= patchSpan:
				t.Errorf("%+v is not vfs_read at %#x", c, vfsRead)
			case c.Tid == tid && c.Time >= from && c.Time <= to:
				mine++
			case c.Tid == tid && c.Time > to:
				t.Errorf("%+v was seen after the stop", c)
			}
		}
		l.drain(some)
		if mine != reads {
			t.Errorf("%d calls of vfs_read from %d to %d, want %d", mine, from, to, reads)
		}
		if _, whole := some.Root(tid, 0, from, to, nil); !whole || some.stops != stops || l.lost() != lost {
			t.Errorf("whole %v, after %d stops, %d lost", whole, some.stops-stops, l.lost()-lost)
		}
	}

	// More than a burst: what is behind that is not seen until the next is asked for.
	ring := l.rings[0]
	for n := range 2 {
		left := ring.burst - ring.taken
		many, seen := &sink{Windows: learn.NewWindows(learn.DefaultCalls)}, 0
		many.call = func(learn.Call) { seen++ }
		if err := l.start(many); err != nil {
			t.Fatal(err)
		}
		from, to := read()
		for range ring.burst/reads + 1 {
			read()
		}
		lateFrom, lateTo := read()
		l.drain(many)
		unseenFrom, unseenTo := read()
		l.drain(many)
		if err := l.more(many); err != nil {
			t.Fatal(err)
		}
		againFrom, againTo := read()
		if err := l.stop(); err != nil {
			t.Fatal(err)
		}
		l.drain(many)
		if want := left + reads; seen < want || seen > want+reads/2 {
			t.Errorf("%d: %d calls of vfs_read, want %d", n, seen, want)
		}
		for i, w := range []struct {
			from, to uint64
			whole    bool
		}{{from, to, true}, {lateFrom, lateTo, false}, {unseenFrom, unseenTo, false}, {againFrom, againTo, true}} {
			pairs, whole := many.Root(tid, 0, w.from, w.to, nil)
			if whole != w.whole || len(pairs) == 0 && whole {
				t.Errorf("%d: window %d has %d pairs, whole %v", n, i, len(pairs), whole)
			}
		}
	}

	// A CPU that the kernel stopped meanwhile is found out, as it is silent.
	blind := &sink{Windows: learn.NewWindows(learn.DefaultCalls), call: func(learn.Call) {}}
	if err := l.start(blind); err != nil {
		t.Fatal(err)
	}
	read()
	for _, r := range l.rings {
		if err := r.do(unix.PERF_EVENT_IOC_DISABLE, 0, "stop"); err != nil {
			t.Fatal(err)
		}
	}
	blindFrom, blindTo := read()
	l.drain(blind)
	time.Sleep(time.Second)
	if err := l.more(blind); err != nil {
		t.Fatal(err)
	}
	from, to = read()
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	l.drain(blind)
	if pairs, whole := blind.Root(tid, 0, from, to, nil); !whole || len(pairs) == 0 {
		t.Errorf("after the kernel stopped an event: %d pairs, whole %v", len(pairs), whole)
	}
	if _, whole := blind.Root(tid, 0, blindFrom, blindTo, nil); whole {
		t.Error("calls while an event was stopped are whole")
	}
	began = time.Now()
	if err := l.close(); err != nil {
		t.Error(err)
	}
	t.Logf("closed in %v", time.Since(began))
	if after := patched(); after != patchedBefore {
		t.Errorf("%d functions are patched, %d were before", after, patchedBefore)
	}
}

// sink is a learn.Windows that is looked at.
type sink struct {
	*learn.Windows
	call  func(learn.Call)
	stops int
}

func (s *sink) Note(c learn.Call) {
	s.call(c)
	s.Windows.Note(c)
}

func (s *sink) Stop(cpu int, from uint64) {
	s.stops++
	s.Windows.Stop(cpu, from)
}

// patched counts the functions that something is attached to, by ftrace's list.
func patched() int {
	raw, _ := os.ReadFile("/sys/kernel/tracing/enabled_functions")
	return strings.Count(string(raw), "\n")
}
