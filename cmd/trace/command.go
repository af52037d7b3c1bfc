package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// command is the command that bounds a trace; nil where there is none.
type command struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait, once done is closed
}

// startCommand starts the command, if there is one.
func (t *tracing) startCommand() (*command, error) {
	if len(t.options.command) == 0 {
		return nil, nil
	}
	cmd := exec.Command(t.options.commandPath, t.options.command[1:]...)
	cmd.Args[0] = t.options.command[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if t.mixedStdout {
		cmd.Stdout = os.Stderr
	}
	start := cmd.Start
	if t.options.filterCmd {
		start = func() error { return t.session.Follow(cmd.Start) }
	}
	if err := start(); err != nil {
		return nil, fmt.Errorf("start command: %w", err)
	}
	c := &command{cmd: cmd, done: make(chan struct{})}
	go func() {
		c.err = cmd.Wait()
		close(c.done)
	}()
	return c, nil
}

// ended is closed when the command has ended; without one it never is.
func (c *command) ended() <-chan struct{} {
	if c == nil {
		return nil
	}
	return c.done
}

// status returns how the command ended, as an error for the exit status. Shells
// say 128 and the signal's number of what a signal ended.
func (c *command) status() error {
	if c == nil || c.err == nil {
		return nil
	}
	var exit *exec.ExitError
	if !errors.As(c.err, &exit) {
		return fmt.Errorf("wait for command: %w", c.err)
	}
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return statusError(128 + int(ws.Signal()))
	}
	return statusError(exit.ExitCode())
}

// patience is how long a command may take to end once it is told to.
const patience = 2 * time.Second

// stop ends a command after the user stopped trace: a terminal has sent its
// interrupt to the command too.
func (c *command) stop(context.Context) {
	if c == nil {
		return
	}
	select {
	case <-c.done:
	case <-time.After(patience / 4):
		c.terminate()
	}
}

// terminate ends a command that outlives the trace.
func (c *command) terminate() {
	if c == nil {
		return
	}
	c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.done:
	case <-time.After(patience):
		c.cmd.Process.Kill()
		<-c.done
	}
}
