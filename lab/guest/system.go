package guest

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

type mount struct {
	source, target, fstype, data string
	optional                     bool // a kernel without it is fine
}

func mounts() []mount {
	return []mount{
		{"proc", "/proc", "proc", "", false},
		{"sysfs", "/sys", "sysfs", "", false},
		{"devtmpfs", "/dev", "devtmpfs", "", false},
		{"devpts", "/dev/pts", "devpts", "", true},
		{"tmpfs", "/dev/shm", "tmpfs", "", true},
		{"tmpfs", "/tmp", "tmpfs", "mode=1777", false},
		{"tmpfs", "/run", "tmpfs", "mode=755", false},
		{"tracefs", "/sys/kernel/tracing", "tracefs", "", true},
		{"debugfs", "/sys/kernel/debug", "debugfs", "", true},
		{"bpf", "/sys/fs/bpf", "bpf", "mode=700", true},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", "", true},
	}
}

func mountAll() error {
	for _, m := range mounts() {
		// sysfs and devtmpfs have directories of their own, or refuse;
		// mount says so then.
		_ = os.MkdirAll(m.target, 0o755)
		err := unix.Mount(m.source, m.target, m.fstype, 0, m.data)
		if err != nil && !m.optional && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s on %s: %w", m.fstype, m.target, err)
		}
	}
	return nil
}

// openConsole opens the console for frames: raw, so that bytes come out as
// they are.
func openConsole() (*os.File, error) {
	fd, err := unix.Open("/dev/console", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/console: %w", err)
	}
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("read settings of /dev/console: %w", err)
	}
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Iflag &^= unix.ICRNL | unix.IXON
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return nil, fmt.Errorf("make /dev/console raw: %w", err)
	}
	return os.NewFile(uintptr(fd), "/dev/console"), nil
}

// drain waits until the console has sent everything.
func drain(console *os.File) {
	// TCSBRK with an argument other than 0 is tcdrain(3).
	_ = unix.IoctlSetInt(int(console.Fd()), unix.TCSBRK, 1)
}

// loopbackUp brings lo up. The kernel gives it its addresses.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}

func loadModule(path string) error {
	image, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("load module: %w", err)
	}
	if err := unix.InitModule(image, ""); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load module %s: %w", path, err)
	}
	return nil
}
