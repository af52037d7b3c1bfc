package guest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"encoding/json"
	"fgtrace/lab/internal/frame"
)

// quiet is how long a job's output must be silent, after the job itself has
// ended, to be taken as complete although processes it left behind hold it
// open.
const quiet = 200 * time.Millisecond

func runJob(out *frame.Writer, job frame.Job) frame.Status {
	if len(job.Argv) == 0 {
		return frame.Status{Code: -1, Err: "start job: no command"}
	}
	env := environment(job.Env)
	path, err := lookPath(job.Argv[0], env)
	if err != nil {
		return frame.Status{Code: -1, Err: err.Error()}
	}
	null, err := os.Open("/dev/null")
	if err != nil {
		return frame.Status{Code: -1, Err: err.Error()}
	}
	defer null.Close()
	stdout, err := newRelay(out, frame.Stdout)
	if err != nil {
		return frame.Status{Code: -1, Err: err.Error()}
	}
	stderr, err := newRelay(out, frame.Stderr)
	if err != nil {
		stdout.w.Close()
		return frame.Status{Code: -1, Err: err.Error()}
	}
	// Not os/exec: PID 1 waits for every child, see wait.
	pid, err := syscall.ForkExec(path, job.Argv, &syscall.ProcAttr{
		Dir:   "/",
		Env:   env,
		Files: []uintptr{null.Fd(), stdout.w.Fd(), stderr.w.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	stdout.w.Close()
	stderr.w.Close()
	if err != nil {
		return frame.Status{Code: -1, Err: fmt.Sprintf("start %s: %v", path, err)}
	}
	status := wait(pid)
	stdout.finish()
	stderr.finish()
	return status
}

// wait reaps children, orphans that fell to PID 1 among them, until the one
// with this pid has ended.
func wait(pid int) frame.Status {
	for {
		var ws unix.WaitStatus
		got, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return frame.Status{Code: -1, Err: fmt.Sprintf("wait for job: %v", err)}
		case got != pid:
		case ws.Signaled():
			return frame.Status{Code: -1, Signal: int(ws.Signal())}
		case ws.Exited():
			return frame.Status{Code: ws.ExitStatus()}
		}
	}
}

func environment(extra []string) []string {
	env := []string{"PATH=/bin:/sbin:/usr/bin:/usr/sbin", "HOME=/root", "TERM=dumb"}
	for _, kv := range extra {
		name, _, _ := strings.Cut(kv, "=")
		for i, have := range env {
			if strings.HasPrefix(have, name+"=") {
				env = append(env[:i], env[i+1:]...)
				break
			}
		}
		env = append(env, kv)
	}
	return env
}

func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, kv := range env {
		dirs, ok := strings.CutPrefix(kv, "PATH=")
		if !ok {
			continue
		}
		for _, dir := range filepath.SplitList(dirs) {
			path := filepath.Join(dir, name)
			if unix.Access(path, unix.X_OK) == nil {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("start %s: not found in the guest", name)
}

// relay sends what is written to w as frames.
type relay struct {
	w     *os.File
	bytes atomic.Uint64
	mute  atomic.Bool
	done  chan struct{}
}

func newRelay(out *frame.Writer, kind frame.Kind) (*relay, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	// Fewer, larger reads; a smaller pipe works too.
	_, _ = unix.FcntlInt(r.Fd(), unix.F_SETPIPE_SZ, 1<<20)
	rel := &relay{w: w, done: make(chan struct{})}
	go func() {
		defer close(rel.done)
		defer r.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := r.Read(buf)
			// What comes after the job has ended belongs to no job.
			if n > 0 && !rel.mute.Load() {
				_ = out.Write(kind, buf[:n])
				rel.bytes.Add(uint64(n))
			}
			if err != nil {
				return
			}
		}
	}()
	return rel, nil
}

// finish returns when all output is sent, or when what is left is silent.
func (r *relay) finish() {
	last := r.bytes.Load()
	timer := time.NewTicker(quiet)
	defer timer.Stop()
	for {
		select {
		case <-r.done:
			return
		case <-timer.C:
			now := r.bytes.Load()
			if now == last {
				r.mute.Store(true)
				return
			}
			last = now
		}
	}
}

func collect(out *frame.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return header(out, frame.Header{Path: path, Err: err.Error()})
	}
	defer f.Close()
	if err := header(out, frame.Header{Path: path}); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := f.Read(buf)
		if n > 0 {
			if err := out.Write(frame.Data, buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return header(out, frame.Header{Path: path, Err: err.Error()})
		}
	}
}

func header(out *frame.Writer, h frame.Header) error {
	data, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("encode header: %w", err)
	}
	return out.Write(frame.File, data)
}
