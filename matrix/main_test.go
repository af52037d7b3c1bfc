package matrix

import (
	"fmt"
	"os"
	"testing"

	"fgtrace/lab/guest"
)

// workEnv names a work that the test binary does instead of tests: see doWork.
const workEnv = "TRACE_WORK"

// TestMain makes the test binary PID 1 of the guests, and the commands that
// tests have trace run.
func TestMain(m *testing.M) {
	if guest.Main() {
		return
	}
	if name := os.Getenv(workEnv); name != "" {
		if err := doWork(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}
