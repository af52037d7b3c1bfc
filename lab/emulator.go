package lab

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// runEmulator runs QEMU until it ends or ctx does, which kills it. What comes
// from the guest's console and port goes to the session. It returns how the
// process ended and what it printed itself.
func runEmulator(ctx context.Context, path string, args []string, s *session) (printed string, err error) {
	portR, portW, err := os.Pipe()
	if err != nil {
		return "", fmt.Errorf("make pipe: %w", err)
	}
	defer portR.Close()
	consoleR, consoleW, err := os.Pipe()
	if err != nil {
		portW.Close()
		return "", fmt.Errorf("make pipe: %w", err)
	}
	defer consoleR.Close()

	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdout, cmd.Stderr = consoleW, &stderr
	cmd.ExtraFiles = []*os.File{portW} // the first one is portFD
	cmd.WaitDelay = 5 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// The terminal's ctrl-C is for us, we end the emulator.
		Setpgid: true,
		// If we are killed, it must not stay. The signal comes when the
		// thread that started it ends, hence LockOSThread.
		Pdeathsig: syscall.SIGKILL,
	}

	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = cmd.Start()
	portW.Close()
	consoleW.Close()
	if err != nil {
		return "", fmt.Errorf("start emulator: %w", err)
	}
	var readers sync.WaitGroup
	readers.Go(func() { copyAll(s.console, consoleR) })
	readers.Go(func() { copyAll(s.port, portR) })
	// The pipes end with the emulator, which is the only one to hold them.
	readers.Wait()
	err = cmd.Wait()
	return stderr.String(), err
}

// copyAll hands everything from r to w, which never fails.
func copyAll(w io.Writer, r io.Reader) {
	buf := make([]byte, 256<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			_, _ = w.Write(buf[:n])
		}
		if err != nil {
			return
		}
	}
}
