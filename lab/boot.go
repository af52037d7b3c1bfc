package lab

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"fgtrace/lab/internal/frame"
)

// errDone ends a run whose guest has sent everything.
var errDone = errors.New("done")

// boot boots the guest once and runs the jobs.
func (vm VM) boot(ctx context.Context, jobs []Job) ([]Result, error) {
	m, err := machineFor(vm.Kernel.Arch)
	if err != nil {
		return nil, err
	}
	qemu, err := exec.LookPath(m.qemu)
	if err != nil {
		return nil, &MissingProgramError{Program: m.qemu, Package: m.pkg}
	}
	dir, err := os.MkdirTemp("", "trace-lab-")
	if err != nil {
		return nil, fmt.Errorf("make directory for guest: %w", err)
	}
	defer os.RemoveAll(dir)
	initrd := filepath.Join(dir, "initrd")
	if err := vm.writeInitrd(ctx, initrd, jobs); err != nil {
		return nil, err
	}
	token, err := vm.token(initrd)
	if err != nil {
		return nil, err
	}

	ctx, cancel := context.WithTimeoutCause(ctx, vm.Timeout, &TimeoutError{Kernel: vm.Kernel, Booted: true, After: vm.Timeout})
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	bootTimer := time.AfterFunc(vm.BootTimeout, func() {
		stop(&TimeoutError{Kernel: vm.Kernel, After: vm.BootTimeout})
	})
	defer bootTimer.Stop()

	s := newSession(vm, jobs, token)
	s.ready = func() { bootTimer.Stop() }
	s.done = func() { stop(errDone) }
	stderr, procErr := runEmulator(ctx, qemu, vm.arguments(m, initrd, token), s)
	return s.finish(procErr, stderr, context.Cause(ctx))
}

// token makes a boot's token. Where instructions are counted it must be the
// same in every run of the same thing: the command line is part of what the
// guest works on.
func (vm VM) token(initrd string) (string, error) {
	var b [8]byte
	if !vm.ICount {
		if _, err := rand.Read(b[:]); err != nil {
			return "", fmt.Errorf("make token: %w", err)
		}
		return hex.EncodeToString(b[:]), nil
	}
	f, err := os.Open(initrd)
	if err != nil {
		return "", fmt.Errorf("make token: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("make token: %w", err)
	}
	copy(b[:], h.Sum(nil))
	return hex.EncodeToString(b[:]), nil
}

func (vm VM) writeInitrd(ctx context.Context, path string, jobs []Job) error {
	busybox := vm.Busybox
	if busybox == "" && vm.Kernel.Arch == runtime.GOARCH {
		busybox = hostBusybox()
	}
	if busybox == "" {
		return &MissingProgramError{Program: "static busybox for " + vm.Kernel.Arch, Package: "busybox-static"}
	}
	im := image{
		init: vm.Init, binary: vm.Binary, busybox: busybox, root: vm.Root, files: vm.Files,
		applets: applets(ctx, busybox, vm.Kernel.Arch == runtime.GOARCH),
	}
	for _, path := range []string{vm.Init, vm.Binary} {
		if path == "" {
			continue
		}
		if err := checkBinary(path, vm.Kernel.Arch); err != nil {
			return err
		}
	}
	var err error
	im.modules, err = resolveModules(ctx, vm.Kernel, vm.Modules)
	if err != nil {
		return err
	}
	if vm.usesPort() {
		port, err := portModules(ctx, vm.Kernel)
		if err != nil {
			return err
		}
		for i, m := range port {
			m.guestPath = fmt.Sprintf("%s/%02d-%s.ko", frame.PortModules, i, m.name)
			im.port = append(im.port, m)
		}
	}
	im.plan.Hostname = "lab"
	for _, m := range im.modules {
		im.plan.Modules = append(im.plan.Modules, m.guestPath)
	}
	for _, j := range jobs {
		im.plan.Jobs = append(im.plan.Jobs, frame.Job{Argv: j.Argv, Env: j.Env, Collect: j.Collect})
	}
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("create initramfs: %w", err)
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	if err := im.writeTo(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write initramfs: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write initramfs: %w", err)
	}
	return nil
}

// portName is the name of the virtio port that frames go to.
const portName = "lab"

// portFD is the emulator's file descriptor that gets what the guest writes to
// the port.
const portFD = 3

// arguments is the emulator's command line.
func (vm VM) arguments(m machine, initrd, token string) []string {
	args := append([]string{}, m.machine...)
	args = append(args, "-cpu", m.cpus)
	if vm.ICount {
		// The guest's random numbers and its date are part of what must
		// be the same in every run.
		args = append(args, "-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off",
			"-seed", "1", "-rtc", "base=2030-01-01T00:00:00,clock=vm")
	} else {
		args = append(args, "-accel", "tcg,thread=multi")
	}
	args = append(args,
		"-smp", fmt.Sprint(vm.CPUs), "-m", fmt.Sprint(vm.MemoryMB),
		"-nodefaults", "-no-user-config", "-nic", "none", "-display", "none", "-monitor", "none", "-no-reboot",
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
	)
	if vm.usesPort() {
		args = append(args,
			"-add-fd", fmt.Sprintf("fd=%d,set=1", portFD),
			"-device", "virtio-serial-pci",
			"-chardev", "file,id=port,path=/dev/fdset/1,append=on",
			"-device", "virtserialport,chardev=port,name="+portName,
		)
	}
	return append(args, "-kernel", vm.Kernel.Image, "-initrd", initrd, "-append", vm.commandLine(m, token))
}

// usesPort says whether frames go over a virtio port: it takes about 13 MB of
// output a second, the console less than 0.5. Not where instructions
// are counted: when the emulator takes a buffer from the port's queue depends
// on the host, and so would the guest's interrupts.
func (vm VM) usesPort() bool { return !vm.ICount }

func (vm VM) commandLine(m machine, token string) string {
	words := []string{
		"console=" + m.console, "quiet",
		// The emulator ends when the guest reboots: a panic is no hang. An
		// oops that kills only a task must not look like a failing tool.
		"panic=-1", "oops=panic",
		frame.TokenEnv + "=" + token,
	}
	words = append(words, m.params...)
	if vm.usesPort() {
		words = append(words, frame.PortEnv+"="+portName)
	}
	if vm.Append != "" {
		words = append(words, vm.Append)
	}
	return strings.Join(words, " ")
}
