package lab

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// SeriesGoneError says that no suite of the archive has a kernel of a series,
// and that the store has none from before.
type SeriesGoneError struct {
	Series    string
	Arch      string
	Available []string      // the series that there are, oldest first
	Failed    []*SuiteError // suites that could not be asked
}

func (e *SeriesGoneError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "find kernel %s for %s: the archive has none", e.Series, e.Arch)
	if len(e.Available) > 0 {
		fmt.Fprintf(&b, " (it has %s)", strings.Join(e.Available, ", "))
	}
	for _, f := range e.Failed {
		fmt.Fprintf(&b, "; %v", f)
	}
	return b.String()
}

// SuiteError says that one suite of the archive could not be read.
type SuiteError struct {
	Suite string
	Err   error
}

func (e *SuiteError) Error() string { return fmt.Sprintf("read suite %s: %v", e.Suite, e.Err) }

// Unwrap returns the cause.
func (e *SuiteError) Unwrap() error { return e.Err }

// NoMirrorError says that neither the options nor the machine's apt sources
// name a Debian mirror.
type NoMirrorError struct{}

func (e *NoMirrorError) Error() string {
	return "find Debian mirror: the machine's apt sources name none; give one with --mirror URL (the directory that has dists/ and pool/)"
}

// MissingProgramError says that a program of the host is missing.
type MissingProgramError struct {
	Program string
	Package string // the Debian package that has it
}

func (e *MissingProgramError) Error() string {
	return fmt.Sprintf("find %s: not installed; apt-get install %s", e.Program, e.Package)
}

// GuestPanicError says that the guest's kernel panicked.
type GuestPanicError struct {
	Kernel  Kernel
	Booted  bool     // whether its PID 1 had reported
	Reason  string   // what the kernel said after "Kernel panic - not syncing: "
	Console []string // the last lines of the console
}

func (e *GuestPanicError) Error() string {
	hint := ""
	if !e.Booted && strings.Contains(e.Reason, "kill init") {
		hint = "; PID 1's binary must link fgtrace/lab/guest and call its Main"
	}
	return fmt.Sprintf("run guest %s: kernel panic: %s%s%s", e.Kernel.Name(), e.Reason, hint, consoleTail(e.Console))
}

// eflagsPattern finds the flags that a kernel prints of where it failed.
var eflagsPattern = regexp.MustCompile(`\bEFLAGS: ([0-9a-f]{8})\b`)

// Emulator tells whether it was the emulator that failed: the kernel found flags set
// which are always 0 on amd64 (bits 22 to 31; Intel's manual, volume 1, 3.4.3). QEMU 7.2
// was seen to take a register for them, behind a cmpxchg16b.
func (e *GuestPanicError) Emulator() bool {
	for _, line := range e.Console {
		for _, m := range eflagsPattern.FindAllStringSubmatch(line, -1) {
			if flags, err := strconv.ParseUint(m[1], 16, 32); err == nil && flags>>22 != 0 {
				return true
			}
		}
	}
	return false
}

// TimeoutError says that a guest did not boot, or did not end, in time.
type TimeoutError struct {
	Kernel  Kernel
	Booted  bool // false if its PID 1 never reported
	After   time.Duration
	Console []string // the last lines of the console
}

func (e *TimeoutError) Error() string {
	what := "run guest %s: not finished after %v%s"
	if !e.Booted {
		what = "boot guest %s: not up after %v%s"
	}
	return fmt.Sprintf(what, e.Kernel.Name(), e.After, consoleTail(e.Console))
}

// Timeout marks the error as one, like those of package net.
func (e *TimeoutError) Timeout() bool { return true }

// EmulatorError says that QEMU could not be started or ended early.
type EmulatorError struct {
	Kernel  Kernel
	Err     error
	Stderr  string   // what QEMU printed
	Console []string // the last lines of the console
}

func (e *EmulatorError) Error() string {
	msg := fmt.Sprintf("run guest %s: emulator ended early: %v", e.Kernel.Name(), e.Err)
	if e.Stderr != "" {
		msg += ": " + strings.TrimSpace(e.Stderr)
	}
	return msg + consoleTail(e.Console)
}

// Unwrap returns the cause.
func (e *EmulatorError) Unwrap() error { return e.Err }

// StoppedError says that the caller's context ended the run; the emulator is
// gone.
type StoppedError struct {
	Kernel  Kernel
	Err     error
	Console []string // the last lines of the console
}

func (e *StoppedError) Error() string {
	return fmt.Sprintf("run guest %s: stopped: %v", e.Kernel.Name(), e.Err)
}

// Unwrap returns the context's error.
func (e *StoppedError) Unwrap() error { return e.Err }

// GuestError says that PID 1 of the guest could not do its work: a module that
// does not load, a file system that does not mount.
type GuestError struct {
	Kernel  Kernel
	Message string
	Console []string // the last lines of the console
}

func (e *GuestError) Error() string {
	return fmt.Sprintf("run guest %s: %s%s", e.Kernel.Name(), e.Message, consoleTail(e.Console))
}

// DamagedError says that part of what the guest sent was lost on the way, so
// that the output is not complete.
type DamagedError struct {
	Kernel  Kernel
	Frames  uint64 // how many pieces are missing
	Console []string
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("run guest %s: %d pieces of its output were lost on the console%s", e.Kernel.Name(), e.Frames, consoleTail(e.Console))
}

// consoleTail shows the last lines of a console under a message.
func consoleTail(lines []string) string {
	const most = 30
	if len(lines) == 0 {
		return ""
	}
	if len(lines) > most {
		lines = lines[len(lines)-most:]
	}
	return "\nlast lines of the console:\n\t" + strings.Join(lines, "\n\t")
}
