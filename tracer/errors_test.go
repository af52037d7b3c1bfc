package tracer

import (
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"fgtrace/internal/bpfsys"
)

// What the verifier refuses is told, once; what the kernel does not know is not.
func TestUnused(t *testing.T) {
	s := &Session{}
	refused := &bpfsys.VerifierError{Err: unix.EACCES, Log: "0: R1=ctx()\nR2 unbounded memory access\nprocessed 3 insns\n"}
	unknown := &bpfsys.VerifierError{Err: unix.EINVAL, Log: "Tracing programs must provide btf_id\n"}
	for _, err := range []error{nil, unix.EINVAL, unknown, refused, fmt.Errorf("load program: %w", refused)} {
		s.noteUnused(way{name: "kprobe.session"}, err)
	}
	s.noteUnused(way{name: "fsession.multi"}, refused)
	const reason = " is not used: the verifier refuses its program: permission denied: R2 unbounded memory access"
	if want := []string{"kprobe.session" + reason, "fsession.multi" + reason}; !slices.Equal(s.Notes(), want) {
		t.Errorf("%q", s.Notes())
	}
}
