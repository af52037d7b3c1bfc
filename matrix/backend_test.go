package matrix

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// backends are the ways of attaching one program to many functions, and whether
// this kernel must have them.
func backends() map[string]bool {
	amd64 := runtime.GOARCH == "amd64"
	return map[string]bool{
		"fsession.multi": amd64 && kernelFrom(7, 2),
		// 535a3692ba72; Debian's arm64 kernels have CONFIG_FPROBE from 6.18 or later.
		"kprobe.session": amd64 && kernelFrom(6, 10) || !amd64 && kernelFrom(7, 2),
	}
}

// forEachBackend runs a test with each backend that this kernel has, and checks
// that the others are refused when they are asked for.
func forEachBackend(t *testing.T, test func(t *testing.T, backend string)) {
	for backend, have := range backends() {
		t.Run(backend, func(t *testing.T) {
			if have {
				test(t, backend)
				return
			}
			res := run(t, "-k", "icmp_rcv", "--backend", backend, "--", "true")
			if res.Status != 1 || !strings.Contains(res.Stderr, backend) {
				t.Errorf("status %d: %s", res.Status, res.Stderr)
			}
		})
	}
}

// TestGuestBackendChains compares chains with the kernel's own.
func TestGuestBackendChains(t *testing.T) {
	inGuest(t)
	warmUp(t)
	const calls = 6
	work := echo(t, calls/icmpPerEcho)
	functions := []string{"icmp_rcv", "ip_append_data", staticFunction(t)}
	set := chainSetOf(truthOf(t, work, functions...))
	forEachBackend(t, func(t *testing.T, backend string) {
		if runtime.GOARCH == "arm64" && backend == "kprobe.session" {
			res := run(t, "-k", "icmp_rcv", "--backend", backend, "--output-stack", "--", "true")
			if res.Status != 1 || !strings.Contains(res.Stderr, "lack") {
				t.Errorf("status %d: %s", res.Status, res.Stderr)
			}
			return
		}
		for _, mode := range modes {
			t.Run(modeName(mode), func(t *testing.T) {
				o := traceDuring(t, work, modeArgs(mode, "-k", strings.Join(functions, ","), "--output-stack", "--backend", backend)...)
				if o.End.Lost+o.End.RecursionMisses > 0 || len(o.End.Skipped) > 0 {
					t.Errorf("lost some: %+v", o.End)
				}
				for _, kind := range eventsOf(mode) {
					for _, function := range functions {
						set.compareAll(t, o.of(kind, function), calls)
						checkAddresses(t, o.of(kind, function))
					}
				}
			})
		}
	})
}

// TestGuestBackendValues checks arguments in registers, strings, arguments on the
// stack, and results: by each backend they are what links read.
func TestGuestBackendValues(t *testing.T) {
	inGuest(t)
	const path, calls = "/tmp/no such file", 50
	forEachBackend(t, func(t *testing.T, backend string) {
		var tid int
		work, icmp := seek(t, firstOffset, calls), echo(t, 1)
		o := traceDuring(t, func() {
			work()
			icmp()
			tid = onWorker(func() { _, _ = unix.Openat(unix.AT_FDCWD, path, unix.O_RDONLY, 0) })
		}, "-k", lossFunc+",do_sys_openat2,ip_append_data,sched_setaffinity", "--backend", backend)
		if len(o.End.Skipped) > 0 || o.End.Lost+o.End.NoEntry+o.End.NoExit > 0 {
			t.Errorf("%+v", o.End)
		}
		next := int64(firstOffset)
		for _, e := range o.of("call", lossFunc) {
			offset, ok := e.arg("offset")
			if n, err := offset.integer(); !ok || err != nil || n != next || fmt.Sprint(e.Retval.Value) != fmt.Sprint(next) {
				continue // of another task
			}
			next++
		}
		if next != firstOffset+calls {
			t.Errorf("%d calls of %s, want %d", next-firstOffset, lossFunc, calls)
		}
		opens := only(o.of("call", "do_sys_openat2"), tid)
		if len(opens) != 1 {
			t.Fatalf("%d calls of do_sys_openat2", len(opens))
		}
		checkArg(t, opens[0], "dfd", "int", unix.AT_FDCWD)
		checkArg(t, opens[0], "filename", "const char *", path)
		if opens[0].Retval.Error != "-ENOENT" {
			t.Errorf("result %+v", opens[0].Retval)
		}
		// An echo request of 8 bytes and what follows: the ninth word is on the
		// stack, flags that raw_sendmsg and icmp_push_reply pass on.
		appends := o.of("call", "ip_append_data")
		if len(appends) == 0 {
			t.Fatal("no call of ip_append_data")
		}
		for _, e := range appends {
			flags, ok := e.arg("flags")
			if n, err := flags.integer(); !ok || err != nil || n&^(unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL) != 0 {
				t.Errorf("flags %+v, %v", flags, err)
			}
			if fmt.Sprint(e.Retval.Value) != "0" {
				t.Errorf("result %+v", e.Retval)
			}
		}
	})
}

// TestGuestMany traces more functions than links are used for: every call is
// there, and they are attached as one.
func TestGuestMany(t *testing.T) {
	inGuest(t)
	const calls = 200
	r := startTrace(t, "-k", "shmem_*", "-v", "--filter-pid", strconv.Itoa(os.Getpid()))
	r.ready()
	seek(t, firstOffset, calls)()
	o := r.stop()
	n := 0
	for _, e := range o.of("call", lossFunc) {
		if offset, _ := e.arg("offset"); fmt.Sprint(offset.Value) == fmt.Sprint(firstOffset+n) {
			n++
		}
	}
	if n != calls || o.End.Lost+o.End.NoEntry+o.End.NoExit > 0 {
		t.Errorf("%d calls of %d: %+v", n, calls, o.End)
	}
	many := "by fentry and fexit links"
	for _, backend := range []string{"fsession.multi", "kprobe.session"} {
		if backends()[backend] {
			many = "by " + backend
			break
		}
	}
	if said := r.stderr.String(); !strings.Contains(said, "tracing "+lossFunc) || !strings.Contains(said, many) {
		t.Errorf("attached otherwise than %s:\n%s", many, r.describe())
	}
}

// TestGuestBackendLoss checks that what is lost is counted, by each backend.
func TestGuestBackendLoss(t *testing.T) {
	inGuest(t)
	forEachBackend(t, func(t *testing.T, backend string) {
		for _, mode := range []string{"", "entry,exit"} {
			t.Run(modeName(mode), func(t *testing.T) {
				o := traceDuring(t, seek(t, firstOffset, lossCalls), modeArgs(mode, "-k", lossFunc, "--backend", backend,
					"--buffer-size", smallBuffer, "--filter-pid", strconv.Itoa(os.Getpid()))...)
				checkLosses(t, o, lossCalls)
			})
		}
	})
}

// TestGuestNoReturns: by kprobe.session a call that nobody wants is not under the
// kernel's hook for returns: it may wait for long, and there is less to do. fsession.multi
// has no such way out.
func TestGuestNoReturns(t *testing.T) {
	inGuest(t)
	if err := os.WriteFile("/proc/sys/kernel/bpf_stats_enabled", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	defer os.WriteFile("/proc/sys/kernel/bpf_stats_enabled", []byte("0"), 0)
	const calls = 2000
	programs := map[string]string{"kprobe.session": "on_probe", "fsession.multi": "on_session"}
	forEachBackend(t, func(t *testing.T, backend string) {
		unwanted := uint64(2 * calls)
		if backend == "kprobe.session" {
			unwanted = calls
		}
		for filter, want := range map[string]uint64{"count == 7": 2 * calls, "count == 8": unwanted} {
			r := startTrace(t, "-k", "vfs_read", "--backend", backend, "--filter-comm", workerName, "--filter-arg", filter)
			r.ready()
			before := programRuns(t, programs[backend])
			readZero(t, calls, []int{7})()
			ran := programRuns(t, programs[backend]) - before
			r.stop()
			if ran < want || ran > want+calls/2 {
				t.Errorf("%s: the program ran %d times for %d calls, want %d", filter, ran, calls, want)
			}
		}
	})
}

// programRuns returns how often programs of a name have run since they were loaded.
func programRuns(t *testing.T, name string) (runs uint64) {
	t.Helper()
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return runs
		}
		if err != nil {
			t.Fatal(err)
		}
		id = next
		prog, err := ebpf.NewProgramFromID(id)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		info, err := prog.Info()
		if err == nil && info.Name == name {
			stats, statsErr := prog.Stats()
			if statsErr != nil {
				t.Fatal(statsErr)
			}
			runs += stats.RunCount
		}
		prog.Close()
	}
}
