package matrix

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"fgtrace/internal/guesttest"
	"fgtrace/lab"
)

// Variables that say what TestSoak does.
const (
	soakTimeEnv = "TRACE_SOAK_TIME" // how long each kernel is traced
	soakArgsEnv = "TRACE_SOAK_ARGS" // what is traced, to find out which function does harm
)

// soakKernels are those that TestSoak boots: one of each way of attaching.
var soakKernels = []series{{"amd64", "6.1"}, {"amd64", "6.12"}, {"amd64", "7.2"}}

const (
	soakTime = 10 * time.Minute
	soakArgs = "-k tcp_*,ip_*,vfs_* -g --yes"
	// Where each function has links of its own, the kernel detaches one after the
	// other, which takes a second or two each under load: what soakArgs names would
	// take hours, and what it calls is learned and attached, too.
	soakLinksArgs = "-k tcp_v4_rcv,ip_rcv,ip_queue_xmit,vfs_read,vfs_write,vfs_open -g --fgraph-max-depth 2"

	soakRounds = 20 // of attaching and detaching, in soakTime
	soakLeast  = 3  // however short the time

	// roundLimit bounds a round beyond the time of tracing: with thousands of
	// functions under load, each of the two ways takes minutes in an emulator.
	roundLimit = 20 * time.Minute
)

// soakGuest is the test that TestSoak has a guest run. Its name keeps it out of
// the matrix.
const soakGuest = "TestSoakOfGraphs"

// TestSoak traces large graphs under load, again and again, on some kernels.
func TestSoak(t *testing.T) {
	if os.Getenv(soakEnv) == "" {
		t.Skipf("takes long: %s=1 go test -timeout 3h -run ^TestSoak$ ./matrix", soakEnv)
	}
	wanted := soakKernels
	if text := os.Getenv(matrixEnv); text != "" {
		var err error
		if wanted, err = parseMatrix(text); err != nil {
			t.Fatal(err)
		}
	}
	length, err := time.ParseDuration(cmp.Or(os.Getenv(soakTimeEnv), soakTime.String()))
	if err != nil {
		t.Fatalf("read %s: %v", soakTimeEnv, err)
	}
	store, err := lab.Open(lab.Options{Mirror: os.Getenv("MIRROR"), Progress: func(text string) { t.Log(text) }})
	if err != nil {
		t.Fatal(err)
	}
	m := &matrix{store: store}
	m.fetch(t, wanted)
	m.build(t)
	for _, g := range m.guests {
		t.Run(g.series.String(), func(t *testing.T) { m.soak(t, g, length) })
	}
}

// soakRoundsIn says how many rounds there are in a time.
func soakRoundsIn(length time.Duration) int {
	return max(soakLeast, int(soakRounds*length/soakTime))
}

// soak boots one kernel and has it traced for so long.
func (m *matrix) soak(t *testing.T, g guestKernel, length time.Duration) {
	var console bytes.Buffer
	limit := length + time.Duration(soakRoundsIn(length)+1)*roundLimit
	vm := lab.VM{
		Kernel: g.kernel, Busybox: g.busybox, Timeout: limit + lab.DefaultBootTimeout,
		Binary: m.trace[g.series.arch], Init: m.test[g.series.arch],
		Modules: g.modules, MemoryMB: 2048,
		Append: "ignore_loglevel", Console: &console,
	}
	out := &guestLog{prefix: g.series.String()}
	results, err := vm.Run(t.Context(), lab.Job{
		Argv: []string{"/init", "-test.v", "-test.run", "^" + soakGuest + "$", "-test.timeout", limit.String()},
		Env: []string{
			guesttest.Env + "=1", soakTimeEnv + "=" + length.String(), soakArgsEnv + "=" + os.Getenv(soakArgsEnv),
		},
		Stdout: out, Stderr: out,
	})
	tests := parseTests(out.text.String())
	switch {
	case err != nil:
		t.Errorf("%v\n%s\nconsole:\n%s", err, tail(out.text.String()), tail(console.String()))
	case len(tests) != 1 || tests[0].status != statusPass || !results[0].OK():
		t.Errorf("ended with %+v\n%s", results, tail(out.text.String()))
	}
}

// TestSoakOfGraphs runs in the guests of TestSoak.
func TestSoakOfGraphs(t *testing.T) {
	inGuest(t)
	length, err := time.ParseDuration(cmp.Or(os.Getenv(soakTimeEnv), soakTime.String()))
	if err != nil {
		t.Fatal(err)
	}
	// A task that hangs is told of in time. Not all kernels can.
	_ = os.WriteFile("/proc/sys/kernel/hung_task_timeout_secs", []byte("60"), 0)
	log := openKernelLog(t)
	loads := startLoads(t)
	before := leftovers(t)
	var warm memory
	rounds := soakRoundsIn(length)
	for i := range rounds {
		soakRound(t, i, length/time.Duration(rounds))
		eventually(t, "all is detached", func() bool { return leftovers(t) == before })
		for _, line := range log.complaints(t) {
			t.Errorf("round %d: the kernel says: %s", i, line)
		}
		loads.pause(t, func() {
			used := usedMemory(t)
			t.Logf("round %d: memory %+v", i, used)
			if i == 0 {
				warm = used
			}
		})
		if t.Failed() {
			break
		}
	}
	loads.end()
	after := usedMemory(t)
	t.Logf("memory after the first round: %+v, after the last: %+v", warm, after)
	if why := after.grownFrom(warm); why != "" {
		t.Error(why)
	}
	if loads.rounds.Load() == 0 {
		t.Error("there was no load")
	}
}

var summaryLine = regexp.MustCompile(`(?m)^trace: (\d+) events, .*$`)

// soakRound attaches, traces for so long, and detaches.
func soakRound(t *testing.T, i int, length time.Duration) {
	t.Helper()
	usual := soakArgs
	if !backends()["kprobe.session"] {
		usual = soakLinksArgs
	}
	args := append(strings.Fields(cmp.Or(os.Getenv(soakArgsEnv), usual)), "-v", "-o", "/dev/null")
	// The duration begins when trace is ready.
	cmd := traceCommand(append(args, "--duration", length.String())...)
	began := time.Now()
	r := startCommand(t, cmd)
	select {
	case <-r.ended:
	case <-time.After(length + roundLimit):
		t.Fatalf("round %d: trace does not end; %s", i, tail(r.stderr.String()))
	}
	stderr := r.stderr.String()
	if code := cmd.ProcessState.ExitCode(); code != 0 {
		t.Fatalf("round %d: %s", i, r.describe())
	}
	summary := summaryLine.FindStringSubmatch(stderr)
	if summary == nil || summary[1] == "0" {
		t.Errorf("round %d: no events: %s", i, tail(stderr))
		return
	}
	all := time.Since(began)
	t.Logf("round %d: ready after %v, detached in %v: %s", i, readyAfter(stderr), all-readyAfter(stderr)-length, summary[0])
}

var readyLine = regexp.MustCompile(`(?m)^trace: ready after (\S+) `)

// readyAfter returns how long trace says it took to start; 0 if it does not.
func readyAfter(stderr string) time.Duration {
	m := readyLine.FindStringSubmatch(stderr)
	if m == nil {
		return 0
	}
	d, err := time.ParseDuration(m[1])
	if err != nil {
		return 0
	}
	return d.Round(time.Millisecond)
}

// left is what a trace could leave behind in the kernel.
type left struct {
	functions, probes     int // that ftrace calls something for, that have a kprobe
	programs, maps, links int
}

func leftovers(t *testing.T) left {
	t.Helper()
	l := left{functions: countLines(t, filepath.Join(tracefs, "enabled_functions"))}
	l.probes = countLines(t, "/sys/kernel/debug/kprobes/list")
	l.programs, l.maps, l.links = countObjects(11), countObjects(12), countObjects(31)
	return l
}

// countObjects counts BPF objects by the command that goes from one's number to
// the next one's: BPF_PROG_GET_NEXT_ID, BPF_MAP_GET_NEXT_ID, BPF_LINK_GET_NEXT_ID.
func countObjects(command uintptr) int {
	attr := struct{ start, next, flags uint32 }{}
	for n := 0; ; n++ {
		if _, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr)); errno != 0 {
			return n
		}
		attr.start = attr.next
	}
}

func countLines(t *testing.T, path string) int {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(raw, []byte("\n"))
}

// memory is what is left of the guest's, in KiB, and what the kernel's own
// objects take.
type memory struct{ Available, Slab, Percpu, Vmalloc int }

// The bounds of what may differ for other reasons.
const (
	memoryBound = 48 << 10
	slabBound   = 16 << 10
)

func (m memory) grownFrom(was memory) string {
	if lost := was.Available - m.Available; lost > memoryBound {
		return fmt.Sprintf("%d KiB of memory are gone", lost)
	}
	if grown := m.Slab - was.Slab; grown > slabBound {
		return fmt.Sprintf("slabs have grown by %d KiB", grown)
	}
	if grown := m.Percpu - was.Percpu; grown > slabBound {
		return fmt.Sprintf("per-CPU memory has grown by %d KiB", grown)
	}
	return ""
}

// usedMemory measures without what is only kept for later.
func usedMemory(t *testing.T) memory {
	t.Helper()
	time.Sleep(3 * time.Second) // what is freed after grace periods
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	field := func(name string) int {
		_, rest, _ := strings.Cut(string(raw), "\n"+name+":")
		n := 0
		if _, err := fmt.Sscan(rest, &n); err != nil {
			t.Fatalf("find %s in /proc/meminfo: %v", name, err)
		}
		return n
	}
	return memory{field("MemAvailable"), field("Slab"), field("Percpu"), field("VmallocUsed")}
}

// kernelLog is the kernel's log, from when it was opened.
type kernelLog struct{ fd int }

func openKernelLog(t *testing.T) *kernelLog {
	t.Helper()
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Seek(fd, 0, 2); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return &kernelLog{fd}
}

var complaint = regexp.MustCompile(`(?i)\bBUG\b|WARNING:|Oops|stall|blocked for more than|lockup|Call Trace|general protection|refcount_t|RIP: |leak|corrupt|panic`)

// complaints are the lines since the last time that tell of something wrong, and
// those behind the first of them.
func (l *kernelLog) complaints(t *testing.T) []string {
	t.Helper()
	var lines []string
	buf := make([]byte, 8<<10)
	for len(lines) < 60 {
		n, err := unix.Read(l.fd, buf)
		if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.EINTR) {
			continue // some were overwritten
		}
		if err != nil {
			break
		}
		line := strings.TrimSpace(string(buf[:n]))
		if len(lines) > 0 || complaint.MatchString(line) {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestComplaint(t *testing.T) {
	for line, want := range map[string]bool{
		"4,1,2,-;INFO: task tcp:12 blocked for more than 60 seconds.": true,
		"3,1,2,-;rcu: INFO: rcu_preempt self-detected stall on CPU":   true,
		"0,1,2,-;watchdog: BUG: soft lockup - CPU#0 stuck for 26s!":   true,
		"4,1,2,-;WARNING: CPU: 0 PID: 1 at kernel/bpf/trampoline.c":   true,
		"6,1,2,-;debug: lo: link becomes ready":                       false,
	} {
		if got := complaint.MatchString(line); got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
}
