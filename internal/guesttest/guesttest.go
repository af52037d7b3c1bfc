// Package guesttest is for tests that run in the VMs of matrix's TestKernels, on a real
// kernel each.
package guesttest

import (
	"fmt"
	"os"
	"testing"
)

// Variables of a guest.
const (
	Env      = "TRACE_GUEST" // that it is one
	ShareEnv = "TRACE_SHARE" // "1/3": which of many cases are its own; "": all
)

// Only skips a test anywhere but in a guest. TestKernels fails if every guest skips it.
func Only(tb testing.TB) {
	tb.Helper()
	if os.Getenv(Env) == "" {
		tb.Skip("runs in the VMs of matrix's TestKernels")
	}
}

// InShare tells whether a case is this guest's. Where cases are many and alike, each is
// for some kernels only.
func InShare(tb testing.TB, number int) bool {
	tb.Helper()
	share := os.Getenv(ShareEnv)
	if share == "" {
		return true
	}
	var n, of int
	if _, err := fmt.Sscanf(share, "%d/%d", &n, &of); err != nil || of < 1 {
		tb.Fatalf("share %q: %v", share, err)
	}
	return number%of == n%of
}
