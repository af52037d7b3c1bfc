package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"
)

// Defaults of a VM's fields that are left 0.
const (
	DefaultCPUs        = 1
	DefaultMemoryMB    = 1024
	DefaultTimeout     = 5 * time.Minute
	DefaultBootTimeout = 90 * time.Second
)

// VM is one guest. The zero value of every field but Kernel and Binary is
// useful.
type VM struct {
	Kernel Kernel
	// Binary is the host path of the program that becomes /bin/trace. It
	// must be static.
	Binary string
	// Init is the host path of the program for PID 1, which must link
	// fgtrace/lab/guest and call its Main; empty means Binary.
	Init string
	// Busybox is the host path of a static busybox for the guest's
	// architecture; empty means the host's own, which does only for a guest
	// of the host's architecture. See [Store.Busybox].
	Busybox string
	// Root is a host directory that is laid over the guest's root.
	Root string
	// Files are single files: guest path -> host path.
	Files map[string]string
	// Modules are names of modules that are loaded before the first job,
	// with what they depend on. The kernel's Modules must be there.
	Modules []string
	// CPUs of the guest. With more than one, emulation now and then panics
	// a guest while kernel text is patched; Run then boots it once more,
	// says so in the results, and hands out output only at the end.
	CPUs     int
	MemoryMB int
	// ICount makes one guest nanosecond one instruction, on one CPU: two
	// runs print the same digits. All output goes over the slower console.
	ICount bool
	// Append is added to the kernel's command line.
	Append string
	// Timeout bounds all of Run, the boot too; BootTimeout the boot alone.
	Timeout     time.Duration
	BootTimeout time.Duration
	// Console gets the guest's console, line by line, if it is not nil.
	Console io.Writer
}

// Job is one command that a guest runs.
type Job struct {
	// Argv is the command. A name without a slash is looked up in the
	// guest's /bin; the VM's Binary is "trace".
	Argv []string
	// Env is added to (and wins over) PATH, HOME and TERM.
	Env []string
	// Stdout and Stderr get the command's output, byte by byte, as it
	// comes. nil discards it.
	Stdout, Stderr io.Writer
	// Collect are guest paths of files to bring back when the job ended.
	Collect []string
}

// Result is how a job ended.
type Result struct {
	// ExitCode is the exit status, or -1 if it has none (see Signal, Err).
	ExitCode int
	// Signal is the number of the signal that ended it, 0 if none did.
	Signal int
	// Err says why the job could not be started, or why its output could
	// not be written on the host.
	Err error
	// Files are the files to collect that could be read: guest path -> bytes.
	Files map[string][]byte
	// Missing are the files to collect that could not be read, and why.
	Missing map[string]string
	// Retried says that this is from a second boot, because the first guest
	// panicked (see VM.CPUs).
	Retried bool
}

// OK says whether the job ran and ended with status 0.
func (r Result) OK() bool { return r.Err == nil && r.Signal == 0 && r.ExitCode == 0 }

// Run boots the guest once and runs the jobs one after another, the later ones
// also when an earlier one failed. It returns a result for each job that
// ended. The error, if any, is about the guest: a [*GuestPanicError],
// [*TimeoutError], [*EmulatorError], [*StoppedError], [*GuestError],
// [*DamagedError] or [*MissingProgramError]. No emulator is left behind.
func (vm VM) Run(ctx context.Context, jobs ...Job) ([]Result, error) {
	if vm.CPUs == 0 {
		vm.CPUs = DefaultCPUs
	}
	if vm.MemoryMB == 0 {
		vm.MemoryMB = DefaultMemoryMB
	}
	if vm.Timeout == 0 {
		vm.Timeout = DefaultTimeout
	}
	if vm.BootTimeout == 0 {
		vm.BootTimeout = DefaultBootTimeout
	}
	if vm.Init == "" {
		vm.Init = vm.Binary
	}
	if vm.Kernel.Arch == "" {
		vm.Kernel.Arch = runtime.GOARCH
	}
	if vm.ICount && vm.CPUs != 1 {
		return nil, fmt.Errorf("run guest %s: counting instructions needs one CPU, not %d", vm.Kernel.Name(), vm.CPUs)
	}
	if vm.Init == "" {
		return nil, fmt.Errorf("run guest %s: no binary for PID 1", vm.Kernel.Name())
	}
	if vm.CPUs == 1 {
		return vm.boot(ctx, jobs)
	}

	held := hold(jobs)
	results, err := vm.boot(ctx, held.jobs)
	var panicked *GuestPanicError
	if errors.As(err, &panicked) && ctx.Err() == nil {
		held = hold(jobs)
		results, err = vm.boot(ctx, held.jobs)
		for i := range results {
			results[i].Retried = true
		}
	}
	if werr := held.release(jobs); werr != nil && err == nil {
		err = werr
	}
	return results, err
}
