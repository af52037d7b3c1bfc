package tracer

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"fgtrace/internal/bpfsys"
	"fgtrace/tracer/plan"
)

// errnoNotSupported is the kernel's ENOTSUPP (include/linux/errno.h), which
// user space has no name for.
const errnoNotSupported = unix.Errno(524)

// Capability is a capability that tracing needs and the process lacks.
type Capability struct {
	Name string
	For  string
}

// MissingCapabilities returns what of the capabilities for tracing this process
// lacks. CAP_SYS_ADMIN has CAP_BPF and CAP_PERFMON in it.
func MissingCapabilities() ([]Capability, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return nil, fmt.Errorf("read capabilities: %w", err)
	}
	has := func(c int) bool { return data[c/32].Effective&(1<<(c%32)) != 0 }
	var missing []Capability
	for _, c := range []struct {
		bit      int
		implied  bool // by CAP_SYS_ADMIN
		name, to string
	}{
		{unix.CAP_BPF, true, "CAP_BPF", "load BPF programs and maps"},
		{unix.CAP_PERFMON, true, "CAP_PERFMON", "attach them to kernel functions and read kernel memory"},
		{unix.CAP_SYSLOG, false, "CAP_SYSLOG", "see the addresses in /proc/kallsyms"},
	} {
		if !has(c.bit) && !(c.implied && has(unix.CAP_SYS_ADMIN)) {
			missing = append(missing, Capability{c.name, c.to})
		}
	}
	return missing, nil
}

// RefusedError tells that the kernel takes no tracing programs from us.
type RefusedError struct {
	Err     error
	Missing []Capability // empty: the kernel refuses whoever asks
}

func (e *RefusedError) Error() string {
	if len(e.Missing) > 0 {
		return fmt.Sprintf("%v: %s", e.Err, DescribeMissing(e.Missing))
	}
	return fmt.Sprintf("%v: this kernel refuses tracing programs although the capabilities are there "+
		"(a container, kernel lockdown, or a policy); `trace lab run -K 6.12 -- ...` runs this on a kernel of its own in a VM", e.Err)
}

func (e *RefusedError) Unwrap() error { return e.Err }

// DescribeMissing says in one line which capabilities are needed for what.
func DescribeMissing(missing []Capability) string {
	var parts []string
	for _, c := range missing {
		parts = append(parts, c.Name+" (to "+c.For+")")
	}
	return "missing " + strings.Join(parts, ", ")
}

// explain makes a refusal of privileges say what is missing.
func explain(err error) error {
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
		return err
	}
	var verifier *bpfsys.VerifierError
	if errors.As(err, &verifier) {
		return err
	}
	missing, capErr := MissingCapabilities()
	if capErr != nil {
		return errors.Join(err, capErr)
	}
	return &RefusedError{Err: err, Missing: missing}
}

// isRefusal tells the kernel's no to one function from an error that all
// functions would meet.
func isRefusal(err error) bool {
	var verifier *bpfsys.VerifierError
	if errors.As(err, &verifier) {
		return true
	}
	for _, errno := range []unix.Errno{unix.EINVAL, unix.EBUSY, unix.ENOENT, unix.ENOTSUP, unix.E2BIG, unix.EADDRNOTAVAIL, errnoNotSupported} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// isContextAccess tells that the verifier refused a load from ctx.
func isContextAccess(err error) bool {
	var verifier *bpfsys.VerifierError
	return errors.As(err, &verifier) && strings.Contains(verifier.Log, "invalid bpf_context access")
}

// refusalReason says why the kernel refused a function, as far as its error
// tells: the trampoline's limits are ENOTSUPP (arch_prepare_bpf_trampoline),
// and a function that ftrace does not patch is EINVAL, EBUSY or ENOENT, as its
// first bytes are no nop (bpf_arch_text_poke, register_fentry).
func (s *Session) refusalReason(t *plan.Target, err error) string {
	var verifier *bpfsys.VerifierError
	a := s.kernel.Arch
	switch {
	case errors.As(err, &verifier):
		return "refused by the verifier: " + verifier.Error()
	case errors.Is(err, errnoNotSupported) && t.Words > a.ArgRegisters:
		return fmt.Sprintf("%d argument words, more than the %d that this kernel's trampolines take", t.Words, a.ArgRegisters)
	case errors.Is(err, errnoNotSupported) && t.Addr != 0 && !s.patchable(t):
		return plan.ReasonNotPatchable
	case errors.Is(err, errnoNotSupported) && a.DirectCallsSince != "":
		return fmt.Sprintf("this kernel has no direct calls from functions to trampolines (%s has them from %s)", a.Name, a.DirectCallsSince)
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT), errors.Is(err, errnoNotSupported):
		return fmt.Sprintf("%s (%v)", plan.ReasonNotPatchable, err)
	}
	return err.Error()
}
