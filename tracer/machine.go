// Package tracer takes a snapshot of the machine, loads and attaches programs,
// and reads what they write. It is the only package that creates kernel
// objects; what needs no kernel is in the packages below it.
package tracer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"fgtrace/arch"
	"fgtrace/btfx"
	"fgtrace/internal/kallsyms"
	"fgtrace/tracer/plan"
	"fgtrace/tracer/reach"
	"fgtrace/tracer/spec"
)

const btfDir = "/sys/kernel/btf"

// ErrNoBTF tells that the kernel has no type information.
var ErrNoBTF = errors.New("this kernel has no BTF (CONFIG_DEBUG_INFO_BTF)")

// Inspect takes the snapshot of the running kernel. Modules are read when the
// snapshot is asked for them.
func Inspect() (*plan.Kernel, error) {
	a, err := arch.ByName(runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	var uname unix.Utsname
	if err := unix.Uname(&uname); err != nil {
		return nil, fmt.Errorf("read kernel release: %w", err)
	}
	types, err := readBTF("vmlinux", nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(btfDir, "vmlinux"), ErrNoBTF)
	}
	if err != nil {
		return nil, err
	}
	return &plan.Kernel{
		Release: unix.ByteSliceToString(uname.Release[:]),
		Arch:    a,
		Types:   types,
		Modules: sync.OnceValues(func() ([]plan.Module, error) { return readModules(types) }),
	}, nil
}

func readBTF(name string, base *btfx.Types) (*btfx.Types, error) {
	raw, err := os.ReadFile(filepath.Join(btfDir, name))
	if err != nil {
		return nil, fmt.Errorf("read BTF: %w", err)
	}
	types, err := btfx.Parse(raw, base)
	if err != nil {
		return nil, fmt.Errorf("parse BTF of %s: %w", name, err)
	}
	return types, nil
}

// readModules reads the types of all loaded modules.
func readModules(base *btfx.Types) ([]plan.Module, error) {
	entries, err := os.ReadDir(btfDir)
	if err != nil {
		return nil, fmt.Errorf("list BTF: %w", err)
	}
	var modules []plan.Module
	for _, e := range entries {
		if e.Name() == "vmlinux" {
			continue
		}
		types, err := readBTF(e.Name(), base)
		if errors.Is(err, fs.ErrNotExist) {
			continue // unloaded meanwhile
		}
		if err != nil {
			return nil, err
		}
		modules = append(modules, plan.Module{Name: e.Name(), Types: types})
	}
	return modules, nil
}

// Symbols is what one pass over /proc/kallsyms gives.
type Symbols struct {
	*plan.Symbols
	variables map[string]uint64
	text      *kallsyms.Text // nil if hidden
	places    *reach.Symbols // nil: not asked for

	kretprobes  []uint64 // functions of kretprobes
	dispatchers []uint64 // of BPF programs
}

// NewSymbols returns symbols for a plan, still to be read.
func NewSymbols(targets []spec.Target, p *plan.Plan) *Symbols {
	return &Symbols{Symbols: plan.NewSymbols(targets, p), variables: make(map[string]uint64)}
}

// ForGraph asks for what NewCallees needs.
func (s *Symbols) ForGraph() { s.places = &reach.Symbols{} }

// Read makes the pass. It is slow for the kernel (0.3 s in an emulated guest),
// so it is best run beside Load.
func (s *Symbols) Read() error {
	f, err := kallsyms.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	s.text, err = kallsyms.ReadText(f, func(addr uint64, typ byte, name, module []byte) {
		if typ != 't' && len(module) == 0 && (isPreemptVariable(name) || isPageVariable(name)) {
			s.variables[string(name)] = addr
		}
		if s.places != nil && len(module) == 0 && (typ == 't' || typ == 'T') {
			switch {
			case isKretprobeCode(name):
				s.kretprobes = append(s.kretprobes, addr)
			case len(name) > 0 && name[0] == 'b' && isDispatcher(string(name)):
				s.dispatchers = append(s.dispatchers, addr)
			}
		}
		s.Offer(addr, typ, name, module)
		if s.places != nil {
			s.places.Add(addr, typ, name, module)
		}
	})
	if err != nil && !errors.Is(err, kallsyms.ErrHidden) {
		return fmt.Errorf("read symbols: %w", err)
	}
	if s.places != nil {
		s.places.Sort()
	}
	return nil
}

// Hidden tells that the kernel hides addresses, for want of CAP_SYSLOG.
func (s *Symbols) Hidden() bool { return s.text == nil }

// maxStack returns the number of frames that the kernel collects at most.
func maxStack() (int, error) {
	raw, err := os.ReadFile("/proc/sys/kernel/perf_event_max_stack")
	if err != nil {
		return 0, fmt.Errorf("read stack limit: %w", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return 0, fmt.Errorf("read stack limit: %w", err)
	}
	return n, nil
}

// RealtimeOffset returns what to add to the kernel's monotonic clock to have
// the time of day, in nanoseconds.
func RealtimeOffset() (int64, error) {
	var monotonic, realtime unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &monotonic); err != nil {
		return 0, fmt.Errorf("read clock: %w", err)
	}
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &realtime); err != nil {
		return 0, fmt.Errorf("read clock: %w", err)
	}
	return realtime.Nano() - monotonic.Nano(), nil
}

// patchableFile lists the functions that ftrace can patch, one a line, those of
// modules with " [module]".
const patchableFile = "/sys/kernel/tracing/available_filter_functions"

// CheckPatchable moves the targets that the kernel can't patch to the skipped
// ones. Without tracefs it does nothing: attaching will tell.
func CheckPatchable(p *plan.Plan) error {
	raw, err := os.ReadFile(patchableFile)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read patchable functions: %w", err)
	}
	p.KeepPatchable(string(raw))
	return nil
}
