package lab

import (
	"os"
	"testing"

	"fgtrace/lab/guest"
)

// TestMain makes the test binary PID 1 of the guests that the tests boot.
func TestMain(m *testing.M) {
	if guest.Main() {
		return
	}
	os.Exit(m.Run())
}
