// Command trace shows calls of kernel functions: their arguments, results,
// durations and call chains.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"fgtrace/tracer/spec"
)

// version is what `trace --version` and the JSON's first line say.
const version = "0.1.0"

// Exit statuses of trace itself. With a command, the command's own is used
// where trace did its work.
const (
	statusFailed = 1
	statusUsage  = 2
)

// usageError is about the command line: nothing was tried.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// statusError carries an exit status for which there is nothing to say.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// ExitCode returns the status.
func (e statusError) ExitCode() int { return int(e) }

func main() {
	if runGuestInit() {
		return
	}
	os.Exit(mainStatus(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

func mainStatus(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRootCommand(stdout, stderr)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return report(root.ExecuteContext(ctx), stderr)
}

// report prints an error and returns the exit status that it stands for.
func report(err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	var status statusError
	if errors.As(err, &status) {
		return status.ExitCode()
	}
	fmt.Fprintf(stderr, "trace: %v\n", err)
	var typed interface{ Caret() string }
	if errors.As(err, &typed) {
		fmt.Fprintln(stderr, typed.Caret())
	}
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		return coded.ExitCode()
	}
	var usage usageError
	var syntax *spec.SyntaxError
	if errors.As(err, &usage) || errors.As(err, &syntax) {
		return statusUsage
	}
	return statusFailed
}

func newRootCommand(stdout, stderr io.Writer) *cobra.Command {
	root := newTraceCommand(stdout, stderr)
	root.AddCommand(newListCommand(stdout, stderr), newLabCommand())
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	return root
}
