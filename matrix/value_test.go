package matrix

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// only returns the events of one thread.
func only(events []event, tid int) []event {
	return slices.DeleteFunc(slices.Clone(events), func(e event) bool { return e.TID != tid })
}

// checkArg compares an argument's value as it is spelled.
func checkArg(t *testing.T, e event, name, typ string, want any) {
	t.Helper()
	a, ok := e.arg(name)
	if !ok || a.Type != typ || fmt.Sprint(a.Value) != fmt.Sprint(want) {
		t.Errorf("%s(): argument %s is (%s) %v of Go type %T, want (%s) %v; all: %+v", e.Func, name, a.Type, a.Value, a.Value, typ, want, e.Args)
	}
}

// TestGuestString opens a file that isn't there.
func TestGuestString(t *testing.T) {
	inGuest(t)
	const path = "/tmp/no such \"file\" \u00fc\t"
	var tid int
	o := traceDuring(t, func() {
		tid = onWorker(func() {
			if _, err := unix.Openat(unix.AT_FDCWD, path, unix.O_RDONLY, 0); err != unix.ENOENT {
				t.Errorf("open: %v", err)
			}
		})
	}, "-k", "do_sys_openat2")
	events := only(o.of("call", ""), tid)
	if len(events) != 1 {
		t.Fatalf("%d calls", len(events))
	}
	e := events[0]
	checkArg(t, e, "dfd", "int", unix.AT_FDCWD)
	checkArg(t, e, "filename", "const char *", path)
	if a, _ := e.arg("filename"); a.Addr == "" {
		t.Error("the file name has no address")
	}
	if a, _ := e.arg("how"); a.Type != "struct open_how *" || !hexPattern.MatchString(fmt.Sprint(a.Value)) {
		t.Errorf("how is %+v", a)
	}
	if got := fmt.Sprint(e.Retval.Value); got != "-2" || e.Retval.Error != "-ENOENT" {
		t.Errorf("result %+v", e.Retval)
	}
	if e.Comm != workerName || e.PID != os.Getpid() {
		t.Errorf("call of %s in process %d, want %s in %d", e.Comm, e.PID, workerName, os.Getpid())
	}
}

// TestGuestCutString opens a file with a name that is longer than what is copied.
func TestGuestCutString(t *testing.T) {
	inGuest(t)
	path := "/tmp/" + strings.Repeat("0123456789", 20)
	var tid int
	o := traceDuring(t, func() {
		tid = onWorker(func() { _, _ = unix.Openat(unix.AT_FDCWD, path, unix.O_RDONLY, 0) })
	}, "-k", "do_sys_openat2", "-m", "entry")
	events := only(o.of("entry", ""), tid)
	if len(events) != 1 {
		t.Fatalf("%d calls", len(events))
	}
	a, _ := events[0].arg("filename")
	text, _ := a.Value.(string)
	if len(text) < 100 || !strings.HasPrefix(path, text) || !strings.Contains(string(events[0].keys["args"]), `"cut":true`) {
		t.Errorf("file name %q, args %s", text, events[0].keys["args"])
	}
}

// TestGuestNap checks an enum, an integer with a name, and the time of a call
// that sleeps.
func TestGuestNap(t *testing.T) {
	inGuest(t)
	const naps = 5
	o := traceDuring(t, nap(t, naps), "-k", "hrtimer_nanosleep")
	events := slices.DeleteFunc(o.of("call", ""), func(e event) bool { return e.Comm != workerName })
	// trace sleeps too, and the kernel runs a program once at a time on a CPU.
	if n := len(events); n == 0 || n > naps || n+int(o.End.RecursionMisses) < naps {
		t.Fatalf("%d naps of %d: %+v", n, naps, o.End)
	}
	for _, e := range events {
		checkArg(t, e, "rqtp", "ktime_t", napTime.Nanoseconds())
		checkArg(t, e, "mode", "const enum hrtimer_mode", map[string]any{"name": "HRTIMER_MODE_REL", "value": json.Number("1")})
		checkArg(t, e, "clockid", "const clockid_t", unix.CLOCK_MONOTONIC)
		if d := time.Duration(e.Duration); d < napTime || d > napTime+patience {
			t.Errorf("a nap of %v took %v", napTime, d)
		}
		if got := fmt.Sprint(e.Retval.Value); got != "0" || e.has("error") {
			t.Errorf("result %+v", e.Retval)
		}
	}
}

// TestGuestBool checks parameters and results that are bool.
func TestGuestBool(t *testing.T) {
	inGuest(t)
	warmUp(t)
	o := traceDuring(t, echo(t, 1), "-k", "__netif_receive_skb_one_core,ns_capable")
	received := o.of("call", "__netif_receive_skb_one_core")
	if len(received) != icmpPerEcho {
		t.Fatalf("%d calls of __netif_receive_skb_one_core", len(received))
	}
	checkArg(t, received[0], "pfmemalloc", "bool", false)
	// To open a raw socket takes CAP_NET_RAW.
	var capable []event
	for _, e := range o.of("call", "ns_capable") {
		if a, _ := e.arg("cap"); e.Comm == workerName && fmt.Sprint(a.Value) == fmt.Sprint(unix.CAP_NET_RAW) {
			capable = append(capable, e)
		}
	}
	if len(capable) == 0 {
		t.Fatalf("no call of ns_capable for CAP_NET_RAW: %+v", o.Events)
	}
	if r := capable[0].Retval; r.Type != "bool" || r.Value != true {
		t.Errorf("result %+v, want true", r)
	}
}

// TestGuestVoid checks a function without a result.
func TestGuestVoid(t *testing.T) {
	inGuest(t)
	for _, mode := range []string{"", "exit"} {
		o := traceDuring(t, echo(t, 1), modeArgs(mode, "-k", "sk_common_release")...)
		events := slices.DeleteFunc(slices.Clone(o.Events), func(e event) bool { return e.Comm != workerName })
		if len(events) != 1 {
			t.Fatalf("%d calls in mode %q", len(events), mode)
		}
		if got := string(events[0].keys["retval"]); got != `{"type":"void","value":null}` {
			t.Errorf("result %s", got)
		}
	}
}

// TestGuestStruct checks a struct that is passed by value.
func TestGuestStruct(t *testing.T) {
	inGuest(t)
	function := structFunction(t)
	if refused(t, function) {
		t.Skipf("trampolines don't take structs before Linux 6.1 (720e6a435194): TestGuestRefused")
	}
	one := int32(1)
	o := traceDuring(t, func() {
		onWorker(func() {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer unix.Close(fd)
			_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR,
				uintptr(unsafe.Pointer(&one)), unsafe.Sizeof(one), 0)
			if errno != 0 {
				t.Error(errno)
			}
		})
	}, "-k", function)
	if len(o.Events) != 1 {
		t.Fatalf("%d calls", len(o.Events))
	}
	e := o.Events[0]
	optval, ok := e.arg("optval")
	if !ok {
		t.Fatalf("no optval: %+v", e.Args)
	}
	address := fmt.Sprintf("0x%x", uintptr(unsafe.Pointer(&one)))
	members := flatten("", optval.Value)
	if optval.Type != "sockptr_t" || members["user"] != address && members[".user"] != address || members["is_kernel"] != "false" {
		t.Errorf("optval is (%s) %v, members %v, want user %s and is_kernel false", optval.Type, optval.Value, members, address)
	}
	// What comes behind it shows that its words were counted right.
	checkArg(t, e, "optname", "int", unix.SO_REUSEADDR)
	if a, ok := e.arg("optlen"); !ok || fmt.Sprint(a.Value) != "4" {
		t.Errorf("optlen is %v", a)
	}
}

// flatten spells the members of an object, those of unnamed members at the level
// above.
func flatten(prefix string, v any) map[string]string {
	all := map[string]string{}
	object, ok := v.(map[string]any)
	if !ok {
		all[prefix] = fmt.Sprint(v)
		return all
	}
	for name, member := range object {
		for k, text := range flatten(name, member) {
			all[k] = text
		}
	}
	return all
}

// TestGuestFreedArgument checks that what was read at the entry is shown at the
// exit of a function that frees what it was given.
func TestGuestFreedArgument(t *testing.T) {
	inGuest(t)
	warmUp(t)
	// The entries of the exits are compared by parseOutput.
	o := traceDuring(t, echo(t, 3), "-k", "icmp_rcv", "-m", "entry,exit")
	if n := len(o.of("exit", "icmp_rcv")); n != icmpPerEcho*3 {
		t.Errorf("%d exits", n)
	}
	for _, e := range o.of("exit", "icmp_rcv") {
		if a, _ := e.arg("skb"); a.Type != "struct sk_buff *" || a.Value == "0x0" {
			t.Errorf("skb is %+v", a)
		}
	}
}

// TestGuestBlocked checks a call that waits for another thread.
func TestGuestBlocked(t *testing.T) {
	inGuest(t)
	const count, wait = 4093, 100 * time.Millisecond
	var tid int
	o := traceDuring(t, func() {
		var fds [2]int
		if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fds[0])
		defer unix.Close(fds[1])
		reader := make(chan int, 1)
		done := make(chan struct{})
		go func() {
			defer close(done)
			tid = onWorker(func() {
				reader <- unix.Gettid()
				buf := make([]byte, count)
				if n, err := unix.Read(fds[0], buf); n != 3 || err != nil {
					t.Errorf("read: %d, %v", n, err)
				}
			})
		}()
		thread := <-reader
		eventually(t, "a reader that waits", func() bool { return threadState(t, thread) == 'S' })
		time.Sleep(wait) // that is what is measured
		if _, err := unix.Write(fds[1], []byte("abc")); err != nil {
			t.Error(err)
		}
		<-done
	}, "-k", "vfs_read")
	var found []event
	for _, e := range only(o.Events, tid) {
		if a, _ := e.arg("count"); fmt.Sprint(a.Value) == fmt.Sprint(count) {
			found = append(found, e)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d reads of the worker", len(found))
	}
	e := found[0]
	if d := time.Duration(e.Duration); d < wait || d > wait+patience {
		t.Errorf("a read that waited %v took %v", wait, d)
	}
	if fmt.Sprint(e.Retval.Value) != "3" || e.Comm != workerName || e.PID != os.Getpid() {
		t.Errorf("result %+v of %s in process %d", e.Retval, e.Comm, e.PID)
	}
}

// threadState is the letter that /proc has for what a thread does.
func threadState(t *testing.T, tid int) byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("/proc/self/task", fmt.Sprint(tid), "stat"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(raw), ") ")
	if !ok {
		t.Fatalf("state of thread %d: %q", tid, raw)
	}
	return rest[0]
}

// TestGuestRecursion traces a function that calls itself: an epoll in an epoll
// passes on that something happened.
func TestGuestRecursion(t *testing.T) {
	inGuest(t)
	const depth = 3
	var tid int
	o := traceDuring(t, func() {
		tid = onWorker(func() {
			if err := wakeNested(depth); err != nil {
				t.Error(err)
			}
		})
	}, "-k", "ep_poll_callback", "--output-stack")
	calls := only(o.of("call", "ep_poll_callback"), tid)
	if len(calls) != depth {
		t.Fatalf("%d calls of %d", len(calls), depth)
	}
	// They return innermost first.
	seen := map[string]bool{}
	for i, e := range calls {
		a, _ := e.arg("wait")
		seen[fmt.Sprint(a.Value)] = true
		recursions := 0
		for _, f := range e.Stack {
			if f.Func == "ep_poll_callback" {
				recursions++
			}
		}
		if want := depth - i; recursions != want {
			t.Errorf("call %d has %d frames of the function, want %d: %v", i, recursions, want, e.chain())
		}
		if i == 0 {
			continue
		}
		inner := calls[i-1]
		if e.Time >= inner.Time || e.Time+e.Duration <= inner.Time+inner.Duration {
			t.Errorf("call %d from %d for %d is not around call %d from %d for %d", i, e.Time, e.Duration, i-1, inner.Time, inner.Duration)
		}
	}
	if len(seen) != depth {
		t.Errorf("%d calls have %d values of wait", depth, len(seen))
	}
}

// wakeNested writes to an eventfd that is watched by an epoll, which is watched
// by another one, and so on.
func wakeNested(depth int) error {
	watched, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("make eventfd: %w", err)
	}
	defer unix.Close(watched)
	event := watched
	for range depth {
		ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		if err != nil {
			return fmt.Errorf("make epoll: %w", err)
		}
		defer unix.Close(ep)
		if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, watched, &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
			return fmt.Errorf("watch: %w", err)
		}
		watched = ep
	}
	if _, err := unix.Write(event, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
		return fmt.Errorf("write eventfd: %w", err)
	}
	return nil
}
