// Package guesttest is for tests that run in the VMs of matrix's TestKernels, on a real
// kernel each.
package guesttest

import (
	"os"
	"testing"
)

// Env is set in a guest.
const Env = "TRACE_GUEST"

// Only skips a test anywhere but in a guest. TestKernels fails if every guest skips it.
func Only(tb testing.TB) {
	tb.Helper()
	if os.Getenv(Env) == "" {
		tb.Skip("runs in the VMs of matrix's TestKernels")
	}
}
