package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the scripts run trace: the test's own binary stands in for it.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"trace":  func() { os.Exit(mainStatus(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) },
		"status": func() { os.Exit(checkStatus(os.Args[1], os.Args[2], os.Args[3:])) },
	})
}

// checkStatus runs a program and succeeds if it ends with a status: scripts know
// success and failure only.
func checkStatus(want, program string, args []string) int {
	cmd := exec.Command(program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if got := strconv.Itoa(cmd.ProcessState.ExitCode()); got != want {
		fmt.Fprintf(os.Stderr, "status: %s instead of %s\n", got, want)
		return 1
	}
	return 0
}

// TestScript runs the scripts in testdata: see doc.go of testscript. The
// condition [btf] holds where the kernel's types can be read.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Cmds:                map[string]func(ts *testscript.TestScript, neg bool, args []string){"sorted": sorted, "lines": lines},
		Condition: func(cond string) (bool, error) {
			if cond != "btf" {
				return false, nil
			}
			f, err := os.Open("/sys/kernel/btf/vmlinux")
			if err != nil {
				return false, nil
			}
			return true, f.Close()
		},
	})
}

// sorted succeeds if the lines of a file are sorted, and no two are the same.
func sorted(ts *testscript.TestScript, neg bool, args []string) {
	last := ""
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		if line <= last {
			ts.Fatalf("%s does not come behind %s", line, last)
		}
		last = line
	}
}

// lines succeeds if a file has at least and at most so many lines.
func lines(ts *testscript.TestScript, neg bool, args []string) {
	n := strings.Count(ts.ReadFile(args[2]), "\n")
	least, err := strconv.Atoi(args[0])
	ts.Check(err)
	most, err := strconv.Atoi(args[1])
	ts.Check(err)
	if n < least || n > most {
		ts.Fatalf("%d lines, not within %d and %d", n, least, most)
	}
}
