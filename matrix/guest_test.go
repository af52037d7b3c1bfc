package matrix

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"fgtrace/internal/guesttest"
)

// What TestKernels tells a guest.
const (
	modulesEnv = "TRACE_MODULES" // the modules that it was given
)

// inShare tells whether a case is this guest's.
func inShare(t *testing.T, number int) bool {
	t.Helper()
	return guesttest.InShare(t, number)
}

// inGuest skips a test anywhere but in a guest.
func inGuest(t *testing.T) {
	t.Helper()
	guesttest.Only(t)
}

// ofShare returns the cases that are this guest's, of cases by name.
func ofShare[V any](t *testing.T, cases map[string]V) map[string]V {
	t.Helper()
	mine := map[string]V{}
	for i, name := range slices.Sorted(maps.Keys(cases)) {
		if inShare(t, i) {
			mine[name] = cases[name]
		}
	}
	return mine
}

const tracePath = "/bin/trace"

// patience bounds every wait for what should happen at once.
const patience = 60 * time.Second

func diffOf(want, got any) string { return cmp.Diff(want, got) }

// result is how a program ended.
type result struct {
	Status int
	Stdout string
	Stderr string
}

// running is a program under way.
type running struct {
	t      *testing.T
	cmd    *exec.Cmd
	mode   string // of trace
	stdout lineBuffer
	stderr bytes.Buffer
	ended  chan struct{}
	began  time.Duration
}

// lineBuffer is a buffer that tells when the first line is there.
type lineBuffer struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	first chan struct{}
}

func (b *lineBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, err := b.buf.Write(p)
	if bytes.IndexByte(p, '\n') >= 0 {
		select {
		case <-b.first:
		default:
			close(b.first)
		}
	}
	return n, err
}

// take returns the whole lines that came since it was called last, and forgets them:
// hundreds of megabytes come of a graph.
func (b *lineBuffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.buf.Next(bytes.LastIndexByte(b.buf.Bytes(), '\n') + 1))
}

func (b *lineBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// traceCommand is a trace that is not started yet.
func traceCommand(args ...string) *exec.Cmd { return guestCommand(tracePath, args...) }

// guestCommand is a command of the guest.
func guestCommand(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = environment()
	return cmd
}

// environment is this process' own without what belongs to it alone.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, guesttest.Env+"=") || strings.HasPrefix(kv, workEnv+"=")
	})
}

func startCommand(t *testing.T, cmd *exec.Cmd) *running {
	t.Helper()
	r := &running{t: t, cmd: cmd, ended: make(chan struct{}), began: now()}
	r.stdout.first = make(chan struct{})
	if cmd.Stdout == nil {
		cmd.Stdout = &r.stdout
	}
	cmd.Stderr = &r.stderr
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait() // the status is in ProcessState
		close(r.ended)
	}()
	t.Cleanup(func() {
		select {
		case <-r.ended:
		default:
			_ = cmd.Process.Kill()
			<-r.ended
		}
	})
	return r
}

// startTrace starts trace with JSON on its stdout and returns when it is tracing:
// it prints the first line then.
func startTrace(t *testing.T, args ...string) *running {
	t.Helper()
	r := startCommand(t, traceCommand(append([]string{"--json"}, args...)...))
	r.mode = modeOf(args)
	r.ready()
	return r
}

// ready waits for the first line.
func (r *running) ready() {
	r.t.Helper()
	select {
	case <-r.stdout.first:
	case <-r.ended:
		r.t.Fatalf("%s ended: %s", strings.Join(r.cmd.Args, " "), r.describe())
	case <-time.After(patience):
		r.t.Fatalf("%s is not ready after %v", strings.Join(r.cmd.Args, " "), patience)
	}
}

func modeOf(args []string) string {
	if i := slices.Index(args, "-m"); i >= 0 {
		return args[i+1]
	}
	return ""
}

func (r *running) describe() string {
	return fmt.Sprintf("%v\nstdout: %s\nstderr: %s", r.cmd.ProcessState, tail(r.stdout.String()), tail(r.stderr.String()))
}

// tail shortens what goes into a message.
func tail(s string) string {
	const most = 4000
	if len(s) > most {
		return "..." + s[len(s)-most:]
	}
	return s
}

// wait waits for the program's end.
func (r *running) wait() result {
	r.t.Helper()
	select {
	case <-r.ended:
	case <-time.After(patience):
		_ = r.cmd.Process.Signal(unix.SIGQUIT)
		<-time.After(time.Second)
		r.t.Fatalf("%s does not end: %s", strings.Join(r.cmd.Args, " "), tail(r.stderr.String()))
	}
	ws := r.cmd.ProcessState.Sys().(syscall.WaitStatus)
	status := ws.ExitStatus()
	if ws.Signaled() {
		status = 128 + int(ws.Signal())
	}
	res := result{Status: status, Stdout: r.stdout.String(), Stderr: r.stderr.String()}
	if strings.Contains(res.Stderr, " is not used: ") {
		r.t.Errorf("%s: this kernel's verifier should take all programs that are for it: %s", strings.Join(r.cmd.Args, " "), tail(res.Stderr))
	}
	return res
}

// stop has a trace end as a user does, and returns what it printed.
func (r *running) stop() *output {
	r.t.Helper()
	if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
		r.t.Fatal(err)
	}
	return r.finish(0)
}

// finish waits for a trace's end and checks what it printed.
func (r *running) finish(status int) *output {
	r.t.Helper()
	res := r.wait()
	if res.Status != status {
		r.t.Fatalf("status %d, want %d: %s", res.Status, status, r.describe())
	}
	o, err := parseOutput([]byte(res.Stdout), r.mode)
	if err != nil {
		r.t.Fatalf("trace %s: %v", strings.Join(r.cmd.Args[1:], " "), err)
	}
	if diff := diffOf(r.cmd.Args, o.Start.Argv); diff != "" {
		r.t.Errorf("argv (-want +got)\n%s", diff)
	}
	if o.Start.Kernel != release() || o.Start.Arch != runtime.GOARCH {
		r.t.Errorf("this is %s on %s, and not %s on %s", release(), runtime.GOARCH, o.Start.Kernel, o.Start.Arch)
	}
	summary := fmt.Sprintf("trace: %d events, %d lost", o.End.Events, o.End.Lost)
	if !strings.Contains(res.Stderr, summary) {
		r.t.Errorf("no %q on stderr:\n%s", summary, tail(res.Stderr))
	}
	ended := now()
	for _, e := range o.Events {
		if at := time.Duration(e.Time); at < r.began || at > ended {
			r.t.Errorf("%s of %s at %v, when the trace ran from %v to %v", e.Event, e.Func, at, r.began, ended)
			break
		}
	}
	return o
}

// traceDuring traces during a work, which must go well.
func traceDuring(t *testing.T, work func(), args ...string) *output {
	t.Helper()
	r := startTrace(t, args...)
	work()
	return r.stop()
}

// run runs trace to its end.
func run(t *testing.T, args ...string) result {
	t.Helper()
	return startCommand(t, traceCommand(args...)).wait()
}

// runJSON runs trace with JSON on stdout to its end.
func runJSON(t *testing.T, status int, args ...string) (*output, result) {
	t.Helper()
	r := startCommand(t, traceCommand(append([]string{"--json"}, args...)...))
	r.mode = modeOf(args)
	o := r.finish(status)
	return o, r.wait()
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not after %v", what, patience)
		}
	}
}

// now is CLOCK_MONOTONIC, the kernel's clock of events.
func now() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // the clock is there
	}
	return time.Duration(ts.Nano())
}

var release = sync.OnceValue(func() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		panic(err)
	}
	return unix.ByteSliceToString(u.Release[:])
})

// kernelFrom tells whether the kernel is of this version or a later one.
func kernelFrom(major, minor int) bool {
	var a, b int
	if _, err := fmt.Sscanf(release(), "%d.%d", &a, &b); err != nil {
		panic(err)
	}
	return a > major || a == major && b >= minor
}

// symbol is a function of /proc/kallsyms.
type symbol struct {
	Addr   uint64
	Type   byte
	Name   string
	Module string
}

// symbols are those of the kernel and its modules.
var symbols = sync.OnceValue(func() []symbol {
	raw, err := os.ReadFile("/proc/kallsyms")
	if err != nil {
		panic(err)
	}
	var all []symbol
	for line := range strings.Lines(string(raw)) {
		fields := strings.Fields(line) // ADDRESS TYPE NAME [MODULE]
		if len(fields) < 3 {
			continue
		}
		addr, err := strconv.ParseUint(fields[0], 16, 64)
		if err != nil {
			panic(err)
		}
		s := symbol{Addr: addr, Type: fields[1][0], Name: fields[2]}
		if len(fields) > 3 {
			s.Module = strings.Trim(fields[3], "[]")
		}
		all = append(all, s)
	}
	return all
})

// addresses are the symbols' addresses, by name.
var addresses = sync.OnceValue(func() map[string][]uint64 {
	all := map[string][]uint64{}
	for _, s := range symbols() {
		all[s.Name] = append(all[s.Name], s.Addr)
	}
	return all
})

// functions are the symbols that match, without what the compiler made of parts
// of functions, what was generated, and data that has the type of code.
func functions(pattern string) []symbol {
	re := regexp.MustCompile(pattern)
	var found []symbol
	for _, s := range symbols() {
		if strings.IndexByte("tTwW", s.Type) >= 0 && re.MatchString(s.Name) && !strings.HasPrefix(s.Name, "__pfx_") && !strings.Contains(s.Name, ".cold") &&
			s.Module != "bpf" && !strings.HasPrefix(s.Module, "__builtin__") && (s.Module != "" || inText(s.Addr)) {
			found = append(found, s)
		}
	}
	return found
}

// inText tells whether an address is in vmlinux' code, as its linker script says.
func inText(addr uint64) bool {
	m := textMarks()
	return addr >= m["_stext"] && addr < m["_etext"] || addr >= m["_sinittext"] && addr < m["_einittext"]
}

var textMarks = sync.OnceValue(func() map[string]uint64 {
	marks := map[string]uint64{}
	for _, s := range symbols() {
		switch s.Name {
		case "_stext", "_etext", "_sinittext", "_einittext":
			marks[s.Name] = s.Addr
		}
	}
	return marks
})

// firstFunction returns the first of the names that is a function of the kernel.
func firstFunction(t *testing.T, names ...string) string {
	t.Helper()
	for _, name := range names {
		if len(functions("^"+regexp.QuoteMeta(name)+"$")) > 0 {
			return name
		}
	}
	t.Fatalf("the kernel has none of %v", names)
	return ""
}
