package matrix

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// TestGuestStatus checks that the command's status is trace's.
func TestGuestStatus(t *testing.T) {
	inGuest(t)
	for script, want := range ofShare(t, map[string]int{
		"exit 0":      0,
		"exit 7":      7,
		"kill -9 $$":  128 + int(unix.SIGKILL),
		"kill -15 $$": 128 + int(unix.SIGTERM),
	}) {
		t.Run(script, func(t *testing.T) {
			runJSON(t, want, "-k", "icmp_rcv", "--", "sh", "-c", script)
		})
	}
}

// TestGuestOwnStatus checks that the command's status does not hide that trace
// itself failed.
func TestGuestOwnStatus(t *testing.T) {
	inGuest(t)
	res := run(t, "-k", "icmp_rcv", "-o", "/dev/full", "--", "sh", "-c", "ping -c 1 127.0.0.1 >/dev/null; exit 3")
	if res.Status != 1 || !strings.Contains(res.Stderr, "no space left on device") {
		t.Errorf("status %d, stderr %s", res.Status, res.Stderr)
	}
}

// TestGuestCommandOutput checks where a command's input and output go.
func TestGuestCommandOutput(t *testing.T) {
	inGuest(t)
	const script = "read line; echo out $line; echo err >&2; ping -c 1 127.0.0.1 >/dev/null"
	file := filepath.Join(t.TempDir(), "events")
	for name, test := range map[string]struct {
		args           []string
		stdout, stderr []string // lines that must be there
		json           bool     // stdout is trace's alone
	}{
		"json":         {[]string{"--json"}, nil, []string{"out in", "err"}, true},
		"json to file": {[]string{"--json", "-o", file}, []string{"out in"}, []string{"err"}, false},
		"text":         {nil, []string{"out in"}, []string{"err"}, false},
		"text to file": {[]string{"-o", file}, []string{"out in"}, []string{"err"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := traceCommand(append(append([]string{"-k", "icmp_rcv"}, test.args...), "--", "sh", "-c", script)...)
			cmd.Stdin = strings.NewReader("in\n")
			res := startCommand(t, cmd).wait()
			if res.Status != 0 {
				t.Errorf("status %d", res.Status)
			}
			for _, output := range []struct {
				name, text string
				want       []string
			}{{"stdout", res.Stdout, test.stdout}, {"stderr", res.Stderr, test.stderr}} {
				lines := strings.Split(output.text, "\n")
				for _, want := range output.want {
					if !slices.Contains(lines, want) {
						t.Errorf("no line %q on %s:\n%s", want, output.name, tail(output.text))
					}
				}
			}
			switch {
			case test.json:
				if _, err := parseOutput([]byte(res.Stdout), ""); err != nil {
					t.Error(err)
				}
			case slices.Contains(test.args, "-o"):
				if res.Stdout != "out in\n" {
					t.Errorf("stdout is %q, want what the command prints alone", res.Stdout)
				}
				if events, err := os.ReadFile(file); err != nil || !strings.Contains(string(events), "icmp_rcv") {
					t.Errorf("the file has %q, %v", events, err)
				}
			}
		})
	}
}

// TestGuestLimit checks that -E gives so many events and ends the command.
func TestGuestLimit(t *testing.T) {
	inGuest(t)
	for _, mode := range modes {
		o, _ := runJSON(t, 0, modeArgs(mode, "-k", "icmp_rcv", "-E", "5", "--", "sh", "-c", "while :; do ping -c 1 127.0.0.1 >/dev/null; done")...)
		if len(o.Events) != 5 {
			t.Errorf("%d events in mode %q", len(o.Events), mode)
		}
	}
}

// TestGuestDuration checks that --duration ends a trace and its command.
func TestGuestDuration(t *testing.T) {
	inGuest(t)
	const duration = 1500 * time.Millisecond
	for name, command := range map[string][]string{"alone": nil, "with command": {"--", "sleep", "1000"}} {
		t.Run(name, func(t *testing.T) {
			r := startTrace(t, append([]string{"-k", "icmp_rcv", "--duration", duration.String()}, command...)...)
			ready := time.Now()
			r.finish(0)
			// The first line was read some time after the clock was started.
			if took := time.Since(ready); took < duration/3 {
				t.Errorf("it ended after %v", took)
			}
		})
	}
}

// TestGuestClosedOutput checks that a reader which has enough ends the trace.
func TestGuestClosedOutput(t *testing.T) {
	inGuest(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := traceCommand("-k", "icmp_rcv", "--json")
	cmd.Stdout = w
	trace := startCommand(t, cmd)
	w.Close()
	var one [1]byte
	if _, err := r.Read(one[:]); err != nil {
		t.Fatal(err)
	}
	r.Close()
	e := startEchoing(t)
	res := trace.wait()
	e.end()
	if res.Status != 0 || strings.Contains(res.Stderr, "broken pipe") {
		t.Errorf("status %d, stderr %s", res.Status, res.Stderr)
	}
}

// TestGuestStopWithCommand checks that an interrupt ends the command too.
func TestGuestStopWithCommand(t *testing.T) {
	inGuest(t)
	r := startTrace(t, "-k", "icmp_rcv", "--", "sleep", "1000")
	if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	// A terminal sends the interrupt to the command too; this one is told to end.
	r.finish(128 + int(unix.SIGTERM))
}

// TestGuestFilterComm checks --filter-comm with two threads of one process.
func TestGuestFilterComm(t *testing.T) {
	inGuest(t)
	open := func(path string) { _, _ = unix.Openat(unix.AT_FDCWD, path, unix.O_RDONLY, 0) }
	var tid int
	o := traceDuring(t, func() {
		open("/nobody")
		tid = onWorker(func() { open("/worker") })
		open("/nobody")
	}, "-k", "do_sys_openat2", "--filter-comm", workerName)
	if len(o.Events) != 1 || o.Events[0].TID != tid || o.Events[0].Comm != workerName {
		t.Fatalf("events %+v, want one of thread %d", o.Events, tid)
	}
	checkArg(t, o.Events[0], "filename", "const char *", "/worker")
}

// TestGuestFilterCgroup checks --filter-cgroup with tasks in a cgroup, below it, and out
// of it.
func TestGuestFilterCgroup(t *testing.T) {
	inGuest(t)
	root := t.TempDir()
	if err := unix.Mount("cgroup2", root, "cgroup2", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(root, unix.MNT_DETACH)
	below := filepath.Join(root, "pod", "container")
	if err := os.MkdirAll(below, 0o700); err != nil {
		t.Fatal(err)
	}
	defer func() { os.Remove(below); os.Remove(filepath.Dir(below)) }()
	open := func(cgroup string) {
		script := fmt.Sprintf("echo $$ >%s/cgroup.procs; exec cat /in%s", cgroup, strings.TrimPrefix(cgroup, root))
		startCommand(t, guestCommand("sh", "-c", script)).wait()
	}
	o := traceDuring(t, func() { open(root); open(filepath.Dir(below)); open(below) },
		"-k", "do_sys_openat2", "--filter-cgroup", filepath.Dir(below), "-m", "entry")
	got := map[string]bool{}
	for _, e := range o.Events {
		if name, ok := e.arg("filename"); ok && strings.HasPrefix(fmt.Sprint(name.Value), "/in") {
			got[fmt.Sprint(name.Value)] = true
		}
	}
	if want := map[string]bool{"/in/pod": true, "/in/pod/container": true}; !maps.Equal(got, want) {
		t.Errorf("opened %v, want %v; %+v", got, want, o.End)
	}
	for path, want := range map[string]string{"/": "/ is no cgroup of version 2", "/none": "find cgroup: open /none: no such file"} {
		if res := run(t, "-k", "do_sys_openat2", "--filter-cgroup", path, "--", "true"); res.Status != 1 || !strings.Contains(res.Stderr, want) {
			t.Errorf("%s: status %d: %s", path, res.Status, res.Stderr)
		}
	}
}

// TestGuestFilterPid checks --filter-pid.
func TestGuestFilterPid(t *testing.T) {
	inGuest(t)
	o := traceDuring(t, func() {
		echo(t, 2)()
		if err := startCommand(t, guestCommand("ping", "-c", "2", "127.0.0.1")).wait(); err.Status != 0 {
			t.Errorf("ping: %+v", err)
		}
	}, "-k", "icmp_rcv", "--filter-pid", fmt.Sprint(os.Getpid()))
	for _, e := range o.Events {
		if e.PID != os.Getpid() {
			t.Errorf("call of %s/%d", e.Comm, e.PID)
		}
	}
	if len(o.Events) != icmpPerEcho*2 {
		t.Errorf("%d calls", len(o.Events))
	}
}

// TestGuestFilterCmd checks that --filter-cmd shows the command with all that it
// starts, from the first on, and nobody else.
func TestGuestFilterCmd(t *testing.T) {
	inGuest(t)
	dir := t.TempDir()
	var want []string
	for _, name := range []string{"one", "two", "three", "four"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		want = append(want, path)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // somebody else
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = unix.Openat(unix.AT_FDCWD, "/outside", unix.O_RDONLY, 0)
				time.Sleep(time.Millisecond) // not to keep the CPU from the others
			}
		}
	}()
	script := fmt.Sprintf("cat %s; (cat %s; sh -c 'cat %s; (cat %s)') & wait", want[0], want[1], want[2], want[3])
	o, _ := runJSON(t, 0, "-k", "do_sys_openat2,begin_new_exec", "-m", "entry", "--filter-cmd", "--", "sh", "-c", script)
	close(stop)
	<-stopped
	var got []string
	processes := map[int]bool{}
	for _, e := range o.Events {
		processes[e.PID] = true
		a, _ := e.arg("filename")
		path := fmt.Sprint(a.Value)
		if path == "/outside" || e.PID == os.Getpid() {
			t.Fatalf("call of %s/%d is not the command's: %s", e.Comm, e.PID, path)
		}
		if slices.Contains(want, path) {
			got = append(got, path)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := diffOf(want, slices.Compact(got)); diff != "" {
		t.Errorf("opened (-want +got)\n%s", diff)
	}
	if len(processes) < 3 {
		t.Errorf("calls of %d processes", len(processes))
	}
	// The first of all is the command's own execve(2).
	if len(o.of("entry", "begin_new_exec")) == 0 {
		t.Error("no start of the command")
	}
}

// TestGuestSelf checks that trace does not show what it does itself, as it would
// never end.
func TestGuestSelf(t *testing.T) {
	inGuest(t)
	for _, self := range []bool{false, true} {
		t.Run(fmt.Sprint(self), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "events")
			args := []string{"-k", "vfs_write", "-o", file, "--json"}
			if self {
				args = append(args, "--self")
			}
			cmd := traceCommand(append(args, "--", "sh", "-c", "for i in 1 2 3 4 5; do echo $i >/tmp/self; usleep 50000; done")...)
			r := startCommand(t, cmd)
			if res := r.wait(); res.Status != 0 {
				t.Fatalf("status %d: %s", res.Status, r.describe())
			}
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			o, err := parseOutput(raw, "")
			if err != nil {
				t.Fatal(err)
			}
			own, others := 0, 0
			for _, e := range o.Events {
				if e.PID == cmd.Process.Pid {
					own++
				} else if a, _ := e.arg("count"); fmt.Sprint(a.Value) == "2" {
					others++
				}
			}
			if (own > 0) != self || (o.End.Self > 0) == self {
				t.Errorf("%d events of trace itself, %d left out", own, o.End.Self)
			}
			// A task that takes the place of trace's in the middle of a program is missed.
			if others+int(o.End.RecursionMisses) < 5 {
				t.Errorf("%d writes of the command; %+v", others, o.End)
			}
		})
	}
}

// goneAfter bounds how long the kernel may take to detach four functions, with
// room for a machine that does other things too.
const goneAfter = 10 * time.Second

// TestGuestKill checks that nothing stays attached when trace is killed.
func TestGuestKill(t *testing.T) {
	inGuest(t)
	before := kernelObjects(t)
	r := startTrace(t, "-k", "icmp_rcv,ip_rcv,vfs_read,do_sys_openat2", "--output-stack")
	echo(t, 1)()
	if len(newObjects(t, before)) == 0 {
		t.Error("nothing is attached")
	}
	if err := r.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	r.wait()
	nothingNew(t, before)
	if took := time.Since(began); took > goneAfter {
		t.Errorf("all was gone only %v after the kill", took)
	}
	echo(t, 1)()
}

// newObjects returns what has come since before. (Of what there was, the kernel
// may still be freeing some.)
func newObjects(t *testing.T, before []string) []string {
	t.Helper()
	return slices.DeleteFunc(kernelObjects(t), func(o string) bool { return slices.Contains(before, o) })
}

// nothingNew waits until nothing is left of what has come since before.
func nothingNew(t *testing.T, before []string) {
	t.Helper()
	eventually(t, "nothing left", func() bool { return len(newObjects(t, before)) == 0 })
}

// kernelObjects lists the BPF programs, maps and links, and the functions that
// are traced.
func kernelObjects(t *testing.T) []string {
	t.Helper()
	var objects []string
	for kind, next := range map[string]func(uint32) (uint32, error){
		"program": func(id uint32) (uint32, error) {
			n, err := ebpf.ProgramGetNextID(ebpf.ProgramID(id))
			return uint32(n), err
		},
		"map": func(id uint32) (uint32, error) { n, err := ebpf.MapGetNextID(ebpf.MapID(id)); return uint32(n), err },
	} {
		id := uint32(0)
		for {
			var err error
			if id, err = next(id); errors.Is(err, fs.ErrNotExist) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			objects = append(objects, fmt.Sprint(kind, " ", id))
		}
	}
	links := new(link.Iterator)
	defer links.Close()
	for links.Next() {
		objects = append(objects, fmt.Sprint("link ", links.ID))
	}
	if err := links.Err(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(tracefs, "enabled_functions"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if fields := strings.Fields(line); len(fields) > 0 {
			objects = append(objects, "function "+fields[0])
		}
	}
	slices.Sort(objects)
	return objects
}

// TestGuestLeavesNothing checks that nothing stays attached after a run that went
// well, and after some that didn't.
func TestGuestLeavesNothing(t *testing.T) {
	inGuest(t)
	before := kernelObjects(t)
	for name, args := range map[string][]string{
		"well":               {"-k", "icmp_rcv", "--", "true"},
		"unwritable output":  {"-k", "icmp_rcv", "-o", "/no/such/directory/file", "--", "touch", "/tmp/ran"},
		"no such command":    {"-k", "icmp_rcv", "--", "no-such-command"},
		"no such function":   {"-k", "no_such_function"},
		"command that fails": {"-k", "icmp_rcv", "--", "false"},
	} {
		t.Run(name, func(t *testing.T) {
			res := run(t, args...)
			if want := map[bool]int{true: 0, false: 1}[name == "well"]; res.Status != want {
				t.Errorf("status %d, want %d: %s", res.Status, want, res.Stderr)
			}
			nothingNew(t, before)
		})
	}
	if _, err := os.Stat("/tmp/ran"); err == nil {
		t.Error("the command ran although the output could not be written")
	}
}
