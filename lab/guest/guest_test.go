package guest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMainIsNotPID1(t *testing.T) {
	if Main() {
		t.Error("Main takes a test for PID 1")
	}
}

func TestEnvironment(t *testing.T) {
	want := []string{"HOME=/root", "TERM=dumb", "PATH=/x", "A=1"}
	if diff := cmp.Diff(want, environment([]string{"PATH=/x", "A=1"})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestKernelLine(t *testing.T) {
	for record, want := range map[string]string{
		"6,339,5140900,-;NET: Registered\n SUBSYSTEM=x\n": "NET: Registered",
		"6,1,2,-;a;b\n": "a;b",
		"odd":           "odd",
	} {
		if got := string(kernelLine([]byte(record))); got != want {
			t.Errorf("kernelLine(%q) = %q, want %q", record, got, want)
		}
	}
}
