package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// vmKernels is the variable with the series to boot, separated by commas; the
// Makefile's matrix sets it.
const vmKernels = "TRACE_VM_TESTS"

// eachKernel runs a test on every kernel that is asked for.
func eachKernel(t *testing.T, test func(t *testing.T, vm VM)) {
	list := os.Getenv(vmKernels)
	if list == "" {
		t.Skipf("boots VMs: set %s to a list of series", vmKernels)
	}
	if !strings.Contains(list, ".") {
		list = "6.12"
	}
	s, err := Open(Options{Progress: func(text string) { t.Log(text) }})
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, series := range strings.Split(list, ",") {
		t.Run(series, func(t *testing.T) {
			k, err := s.Kernel(t.Context(), series, hostArch())
			if err != nil {
				t.Fatal(err)
			}
			test(t, VM{Kernel: k, Binary: exe, Timeout: 2 * time.Minute})
		})
	}
}

func TestRun(t *testing.T) {
	eachKernel(t, func(t *testing.T, vm VM) {
		var out, errOut, big bytes.Buffer
		start := time.Now()
		results, err := vm.Run(t.Context(),
			Job{Argv: []string{"sh", "-c", `uname -r; printf 'a\000\001\377\r\n'; echo complaint >&2; echo $X >/tmp/f; exit 3`}, Env: []string{"X=y"},
				Stdout: &out, Stderr: &errOut, Collect: []string{"/tmp/f", "/nope"}},
			Job{Argv: []string{"sh", "-c", "kill -9 $$"}},
			Job{Argv: []string{"nosuch"}},
			Job{Argv: []string{"sh", "-c", "ping -c1 127.0.0.1 >/dev/null && ls /sys/kernel/tracing/README /sys/fs/bpf /sys/fs/cgroup/cgroup.procs >/dev/null"}},
			Job{Argv: []string{"dd", "if=/dev/zero", "bs=1M", "count=20"}, Stdout: &big},
			// It leaves a child behind that holds its output.
			Job{Argv: []string{"sh", "-c", "sleep 1000 & echo $$"}},
		)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("boot and jobs: %v", time.Since(start))
		want := []Result{
			{ExitCode: 3, Files: map[string][]byte{"/tmp/f": []byte("y\n")}, Missing: map[string]string{"/nope": "open /nope: no such file or directory"}},
			{ExitCode: -1, Signal: 9},
			{ExitCode: -1, Err: errors.New("start nosuch: not found in the guest")},
			{}, {}, {},
		}
		if diff := cmp.Diff(want, results, cmp.Comparer(func(a, b error) bool { return fmt.Sprint(a) == fmt.Sprint(b) })); diff != "" {
			t.Errorf("results (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{vm.Kernel.Release + "\na\x00\x01\xff\r\n", "complaint\n"}, []string{out.String(), errOut.String()}); diff != "" {
			t.Errorf("output (-want +got):\n%s", diff)
		}
		if big.Len() != 20<<20 {
			t.Errorf("%d bytes of 20 MB came back", big.Len())
		}
	})
}

func TestRunOnConsole(t *testing.T) {
	eachKernel(t, func(t *testing.T, vm VM) {
		vm.ICount = true
		run := func() string {
			var out bytes.Buffer
			results, err := vm.Run(t.Context(), Job{
				// The kernel's messages go between the job's output.
				Argv: []string{"sh", "-c", "for i in $(seq 200); do echo line $i; echo '<3>noise' >/dev/kmsg; done; cat /proc/uptime"}, Stdout: &out,
			})
			if err != nil || !results[0].OK() {
				t.Fatalf("results %+v, error %v", results, err)
			}
			return out.String()
		}
		out := run()
		if n := strings.Count(out, "line "); n != 200 {
			t.Errorf("%d lines of 200", n)
		}
		if again := run(); again != out {
			t.Errorf("the guest's clock differs between two runs:\n%s%s", out[len(out)-20:], again[len(again)-20:])
		}
	})
}

func TestRunFails(t *testing.T) {
	eachKernel(t, func(t *testing.T, vm VM) {
		_, err := vm.Run(t.Context(), Job{Argv: []string{"sh", "-c", "echo c >/proc/sysrq-trigger"}})
		var panicked *GuestPanicError
		if !errors.As(err, &panicked) || !strings.Contains(panicked.Reason, "sysrq") {
			t.Errorf("error %v, want a panic", err)
		}

		vm.Timeout = 8 * time.Second
		_, err = vm.Run(t.Context(), Job{Argv: []string{"sleep", "1000"}})
		var timeout *TimeoutError
		if !errors.As(err, &timeout) || !timeout.Booted {
			t.Errorf("error %v, want a timeout after the boot", err)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = vm.Run(ctx, Job{Argv: []string{"true"}})
		var stopped *StoppedError
		if !errors.As(err, &stopped) {
			t.Errorf("error %v, want one about the context", err)
		}
	})
}
