// Package guest is PID 1 of a lab guest: it mounts what a tracer needs, runs
// the jobs that the host put into the initramfs and sends their output back
// over the console. It is linked into the binary that is tested, so that the
// initramfs needs no other program of ours.
package guest

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"fgtrace/lab/internal/frame"
)

// Main returns false at once if this process is not PID 1 of a lab guest. In
// such a guest it does PID 1's work, ends the guest and never returns.
// Call it first thing in main (or in TestMain).
func Main() bool {
	if os.Getpid() != 1 {
		return false
	}
	token := os.Getenv(frame.TokenEnv)
	if token == "" {
		return false
	}
	run(token)
	// The host ends the emulator when it has seen the last frame; this is
	// for the case that it can't.
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	for {
		time.Sleep(time.Hour)
	}
}

func run(token string) {
	if err := mountAll(); err != nil {
		fmt.Fprintln(os.Stderr, "lab guest:", err)
		return
	}
	console, err := openConsole()
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab guest:", err)
		return
	}
	out := frame.NewWriter(console, token)
	port, err := openPort(os.Getenv(frame.PortEnv))
	switch {
	case err != nil:
		_ = out.Write(frame.Failed, []byte(err.Error()))
		_ = out.Write(frame.Done, nil)
		drain(console)
		return
	case port != nil:
		out = frame.NewWriter(port, token)
	default:
		relayKernelLog(out)
	}
	if err := serve(out); err != nil {
		_ = out.Write(frame.Failed, []byte(err.Error()))
	}
	_ = out.Write(frame.Done, nil)
	drain(console)
}

func serve(out *frame.Writer) error {
	data, err := os.ReadFile(frame.PlanPath)
	if err != nil {
		return fmt.Errorf("read plan: %w", err)
	}
	var plan frame.Plan
	if err := json.Unmarshal(data, &plan); err != nil {
		return fmt.Errorf("decode plan: %w", err)
	}
	if err := unix.Sethostname([]byte(plan.Hostname)); err != nil {
		return fmt.Errorf("set hostname: %w", err)
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	for _, path := range plan.Modules {
		if err := loadModule(path); err != nil {
			return err
		}
	}
	hello, err := json.Marshal(identify())
	if err != nil {
		return fmt.Errorf("encode hello: %w", err)
	}
	if err := out.Write(frame.Ready, hello); err != nil {
		return err
	}
	for i, job := range plan.Jobs {
		if err := out.Write(frame.Start, strconv.AppendInt(nil, int64(i), 10)); err != nil {
			return err
		}
		status, err := json.Marshal(runJob(out, job))
		if err != nil {
			return fmt.Errorf("encode status: %w", err)
		}
		for _, path := range job.Collect {
			if err := collect(out, path); err != nil {
				return err
			}
		}
		if err := out.Write(frame.Exit, status); err != nil {
			return err
		}
	}
	return nil
}

func identify() frame.Hello {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return frame.Hello{}
	}
	return frame.Hello{
		Release: unix.ByteSliceToString(u.Release[:]),
		Version: unix.ByteSliceToString(u.Version[:]),
		Arch:    unix.ByteSliceToString(u.Machine[:]),
	}
}
