package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"fgtrace/lab/internal/frame"
)

// consoleLines is how many lines of a console are kept.
const consoleLines = 200

// session takes what one boot of a guest sends.
type session struct {
	vm      VM
	jobs    []Job
	console *frame.Decoder
	port    *frame.Decoder
	ready   func() // the guest is up
	done    func() // the guest has sent everything

	mu       sync.Mutex
	lines    []string // the last lines of the console
	panicked string
	failed   string // PID 1's complaint
	booted   bool
	complete bool
	job      int // the running one, -1 if none
	results  []Result
	current  Result
	file     string // the file that Data belongs to
}

func newSession(vm VM, jobs []Job, token string) *session {
	s := &session{vm: vm, jobs: jobs, job: -1, ready: func() {}, done: func() {}}
	s.console = frame.NewDecoder(token)
	s.console.Frame = s.frame
	s.console.Text = s.text
	s.port = frame.NewDecoder(token)
	s.port.Frame = s.frame
	return s
}

// text takes a line of the console.
func (s *session) text(line []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.line(string(line))
}

// line keeps a line of the console; s.mu is held.
func (s *session) line(line string) {
	if s.vm.Console != nil {
		_, _ = fmt.Fprintln(s.vm.Console, line)
	}
	const words = "Kernel panic - not syncing: "
	if i := strings.Index(line, words); i >= 0 && s.panicked == "" {
		s.panicked = line[i+len(words):]
	}
	if len(s.lines) >= 2*consoleLines {
		s.lines = append(s.lines[:0], s.lines[len(s.lines)-consoleLines:]...)
	}
	s.lines = append(s.lines, line)
}

func (s *session) frame(kind frame.Kind, payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch kind {
	case frame.Ready:
		s.booted = true
		var hello frame.Hello
		if json.Unmarshal(payload, &hello) == nil && s.vm.Kernel.Release == "" {
			s.vm.Kernel.Release = hello.Release
		}
		s.ready()
	case frame.Kernel:
		s.line(string(payload))
	case frame.Start:
		n, err := strconv.Atoi(string(payload))
		if err != nil || n < 0 || n >= len(s.jobs) {
			s.failed = fmt.Sprintf("guest started job %q, which there is not", payload)
			return
		}
		s.job = n
		s.current = Result{ExitCode: -1}
	case frame.Stdout, frame.Stderr:
		s.output(kind, payload)
	case frame.File:
		s.collect(payload)
	case frame.Data:
		if s.file != "" {
			s.current.Files[s.file] = append(s.current.Files[s.file], payload...)
		}
	case frame.Exit:
		s.exit(payload)
	case frame.Failed:
		s.failed = string(payload)
	case frame.Done:
		s.complete = true
		s.done()
	}
}

func (s *session) output(kind frame.Kind, payload []byte) {
	if s.job < 0 {
		return
	}
	w := s.jobs[s.job].Stdout
	if kind == frame.Stderr {
		w = s.jobs[s.job].Stderr
	}
	if w == nil {
		return
	}
	if _, err := w.Write(payload); err != nil && s.current.Err == nil {
		s.current.Err = fmt.Errorf("write output of job: %w", err)
	}
}

func (s *session) collect(payload []byte) {
	var h frame.Header
	if err := json.Unmarshal(payload, &h); err != nil || s.job < 0 {
		return
	}
	if h.Err != "" {
		if s.current.Missing == nil {
			s.current.Missing = map[string]string{}
		}
		s.current.Missing[h.Path] = h.Err
		delete(s.current.Files, h.Path)
		s.file = ""
		return
	}
	if s.current.Files == nil {
		s.current.Files = map[string][]byte{}
	}
	s.current.Files[h.Path] = []byte{}
	s.file = h.Path
}

func (s *session) exit(payload []byte) {
	if s.job < 0 {
		return
	}
	var st frame.Status
	if err := json.Unmarshal(payload, &st); err != nil {
		s.failed = fmt.Sprintf("decode status of job: %v", err)
		return
	}
	s.current.ExitCode, s.current.Signal = st.Code, st.Signal
	if st.Err != "" && s.current.Err == nil {
		s.current.Err = errors.New(st.Err)
	}
	s.results = append(s.results, s.current)
	s.current, s.job, s.file = Result{}, -1, ""
}

// finish says how the guest ended. cause is why the emulator was ended, nil if
// it ended by itself.
func (s *session) finish(procErr error, stderr string, cause error) ([]Result, error) {
	s.console.Close()
	s.port.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.vm.Kernel
	lines := s.lines
	if len(lines) > consoleLines {
		lines = lines[len(lines)-consoleLines:]
	}
	var timeout *TimeoutError
	lost := s.console.Lost() + s.port.Lost()
	switch {
	case s.failed != "":
		return s.results, &GuestError{Kernel: k, Message: s.failed, Console: lines}
	case s.complete && lost > 0:
		return s.results, &DamagedError{Kernel: k, Frames: lost, Console: lines}
	case s.complete && len(s.results) < len(s.jobs):
		return s.results, &GuestError{Kernel: k, Message: fmt.Sprintf("only %d of %d jobs ended", len(s.results), len(s.jobs)), Console: lines}
	case s.complete:
		return s.results, nil
	case s.panicked != "":
		return s.results, &GuestPanicError{Kernel: k, Booted: s.booted, Reason: s.panicked, Console: lines}
	case errors.As(cause, &timeout):
		timeout.Kernel, timeout.Console, timeout.Booted = k, lines, s.booted
		return s.results, timeout
	case cause != nil:
		return s.results, &StoppedError{Kernel: k, Err: cause, Console: lines}
	case procErr == nil:
		procErr = io.ErrUnexpectedEOF
	}
	if errors.Is(procErr, syscall.ENOENT) {
		stderr = ""
	}
	return s.results, &EmulatorError{Kernel: k, Err: procErr, Stderr: stderr, Console: lines}
}
