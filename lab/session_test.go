package lab

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"fgtrace/lab/internal/frame"

	"github.com/google/go-cmp/cmp"
)

const testToken = "00112233"

func TestSession(t *testing.T) {
	var out, errOut, console bytes.Buffer
	vm := VM{Kernel: Kernel{Version: "6.12.1", Arch: "amd64"}, Console: &console}
	s := newSession(vm, []Job{{Stdout: &out, Stderr: &errOut}, {}}, testToken)
	ended := false
	s.done = func() { ended = true }
	w := frame.NewWriter(s.port, testToken)
	write := func(kind frame.Kind, payload string) {
		t.Helper()
		if err := w.Write(kind, []byte(payload)); err != nil {
			t.Fatal(err)
		}
	}
	s.console.Write([]byte("Booting\r\n"))
	write(frame.Ready, `{"Release":"6.12.1-cloud-amd64"}`)
	write(frame.Start, "0")
	write(frame.Stdout, "out\x00put")
	write(frame.Stderr, "complaint")
	write(frame.File, `{"Path":"/f"}`)
	write(frame.Data, "da")
	write(frame.Data, "ta")
	write(frame.File, `{"Path":"/g","Err":"no such file"}`)
	write(frame.Exit, `{"Code":3}`)
	write(frame.Start, "1")
	write(frame.Stdout, "nobody wants it")
	write(frame.Exit, `{"Code":-1,"Signal":9}`)
	write(frame.Kernel, "a line of the log")
	write(frame.Done, "")
	results, err := s.finish(nil, "", errDone)
	if err != nil || !ended {
		t.Fatalf("error %v, ended %v", err, ended)
	}
	want := []Result{
		{ExitCode: 3, Files: map[string][]byte{"/f": []byte("data")}, Missing: map[string]string{"/g": "no such file"}},
		{ExitCode: -1, Signal: 9},
	}
	if diff := cmp.Diff(want, results); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"out\x00put", "complaint", "Booting\na line of the log\n"}, []string{out.String(), errOut.String(), console.String()}); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

func TestSessionErrors(t *testing.T) {
	kernel := Kernel{Version: "6.12.1", Arch: "amd64"}
	sessionOf := func(console string, frames ...frame.Kind) *session {
		s := newSession(VM{Kernel: kernel}, []Job{{}}, testToken)
		s.console.Write([]byte(console))
		w := frame.NewWriter(s.port, testToken)
		for _, f := range frames {
			if err := w.Write(f, []byte("no module")); err != nil {
				t.Fatal(err)
			}
		}
		return s
	}
	exit := errors.New("exit status 1")
	for name, test := range map[string]struct {
		s      *session
		proc   error
		stderr string
		cause  error
		want   string
		is     func(error) bool
	}{
		"panic": {
			sessionOf("[    1.0] Kernel panic - not syncing: Fatal exception\r\nmore\r\n", frame.Ready), nil, "", nil,
			"run guest 6.12.1 (amd64): kernel panic: Fatal exception\nlast lines of the console:\n\t[    1.0] Kernel panic - not syncing: Fatal exception\n\tmore",
			is[*GuestPanicError],
		},
		"no guest binary": {
			sessionOf("Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\n"), nil, "", nil,
			"PID 1's binary must link fgtrace/lab/guest", is[*GuestPanicError],
		},
		"boot timeout": {
			sessionOf("Booting\n"), exit, "", &TimeoutError{After: time.Minute},
			"boot guest 6.12.1 (amd64): not up after 1m0s\nlast lines of the console:\n\tBooting", is[*TimeoutError],
		},
		"timeout": {
			sessionOf("", frame.Ready), exit, "", &TimeoutError{After: time.Minute},
			"run guest 6.12.1 (amd64): not finished after 1m0s", is[*TimeoutError],
		},
		"stopped": {
			sessionOf("", frame.Ready), exit, "", context.Canceled,
			"run guest 6.12.1 (amd64): stopped: context canceled", func(err error) bool { return errors.Is(err, context.Canceled) },
		},
		"emulator": {
			sessionOf(""), exit, "qemu: no such option\n", nil,
			"run guest 6.12.1 (amd64): emulator ended early: exit status 1: qemu: no such option", is[*EmulatorError],
		},
		"PID 1": {
			sessionOf("", frame.Failed, frame.Done), nil, "", errDone,
			"run guest 6.12.1 (amd64): no module", is[*GuestError],
		},
		"no result": {
			sessionOf("", frame.Ready, frame.Done), nil, "", errDone,
			"only 0 of 1 jobs ended", is[*GuestError],
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := test.s.finish(test.proc, test.stderr, test.cause)
			if err == nil || !strings.Contains(err.Error(), test.want) || !test.is(err) {
				t.Errorf("error %T %v, want %s", err, err, test.want)
			}
		})
	}
}

func is[T error](err error) bool {
	var want T
	return errors.As(err, &want)
}

func TestDamaged(t *testing.T) {
	s := newSession(VM{}, nil, testToken)
	w := frame.NewWriter(s.console, testToken)
	if err := w.Write(frame.Ready, nil); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	cut := frame.NewWriter(&b, testToken)
	for range 3 {
		b.Reset()
		if err := cut.Write(frame.Done, nil); err != nil {
			t.Fatal(err)
		}
	}
	s.console.Write(b.Bytes()) // the third, after the first
	_, err := s.finish(nil, "", errDone)
	var damaged *DamagedError
	if !errors.As(err, &damaged) || damaged.Frames != 1 {
		t.Errorf("error %v", err)
	}
}

// TestPanicOfEmulator: flags that are always 0 tell a broken emulator from a kernel.
func TestPanicOfEmulator(t *testing.T) {
	for line, want := range map[string]bool{
		"[  265.771817] RSP: 0018:ff6ff760806775b0 EFLAGS: 41da92da":                    true,
		"[    1.000000] RSP: 0018:ff6ff760806775b0 EFLAGS: 00010246":                    false,
		"[    1.000000] RSP: 002b:00002ad0c44b26a8 EFLAGS: 003f7fd7 ORIG_RAX: 00000141": false,
		"Kernel panic - not syncing: Fatal exception in interrupt":                      false,
	} {
		if got := (&GuestPanicError{Console: []string{"first", line}}).Emulator(); got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
}
