package lab

import (
	"debug/elf"
	"fmt"
	"os"
)

// hostBusybox is the host's busybox if it is static, otherwise "".
func hostBusybox() string {
	for _, path := range []string{"/bin/busybox", "/usr/bin/busybox"} {
		if b, err := readBinary(path); err == nil && b.static {
			return path
		}
	}
	return ""
}

type program struct {
	arch   string
	static bool
}

// readBinary says what an ELF file can run on.
func readBinary(path string) (program, error) {
	f, err := os.Open(path)
	if err != nil {
		return program{}, fmt.Errorf("open binary: %w", err)
	}
	defer f.Close()
	e, err := elf.NewFile(f)
	if err != nil {
		return program{}, fmt.Errorf("read binary %s: %w", path, err)
	}
	b := program{static: true}
	switch e.Machine {
	case elf.EM_X86_64:
		b.arch = "amd64"
	case elf.EM_AARCH64:
		b.arch = "arm64"
	default:
		b.arch = e.Machine.String()
	}
	for _, p := range e.Progs {
		if p.Type == elf.PT_INTERP {
			b.static = false
		}
	}
	return b, nil
}

// BinaryError says that a binary can't run in a guest.
type BinaryError struct {
	Path   string
	Arch   string // what it is built for
	Want   string // what the guest is
	Static bool
}

func (e *BinaryError) Error() string {
	if e.Arch != e.Want {
		return fmt.Sprintf("check binary %s: it is built for %s, the guest is %s", e.Path, e.Arch, e.Want)
	}
	return fmt.Sprintf("check binary %s: it is not static, and the guest has no libraries; build it with CGO_ENABLED=0", e.Path)
}

func checkBinary(path, arch string) error {
	b, err := readBinary(path)
	if err != nil {
		return err
	}
	if b.arch != arch || !b.static {
		return &BinaryError{Path: path, Arch: b.arch, Want: arch, Static: b.static}
	}
	return nil
}
