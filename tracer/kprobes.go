package tracer

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"fgtrace/bpf"
	"fgtrace/internal/bpfsys"
	"fgtrace/tracer/build"
	"fgtrace/tracer/plan"
)

// kprobes is the backend for functions of a graph that have no trampoline, as they
// have no prototype, or more arguments than the kernel's take, on kernels that can't
// probe many functions at once: a kprobe and
// a kretprobe for each, as perf events, which are gone with their descriptors
// (perf_kprobe in kernel/events/core.c, Linux 4.17).
type kprobes struct {
	session *Session
	indices []int
	pmu     uint32
	progs   map[int][]*ebpf.Program // by index of target: of the return, and of the entry
	events  map[int][]int           // descriptors
}

func newKprobes(s *Session, indices []int) *kprobes {
	return &kprobes{session: s, indices: indices, progs: make(map[int][]*ebpf.Program), events: make(map[int][]int)}
}

func (k *kprobes) name() string { return "kprobe and kretprobe" }

// kprobePMU says which type of perf event a kprobe is.
const kprobePMU = "/sys/bus/event_source/devices/kprobe/type"

func (k *kprobes) load(o build.Options) error {
	raw, err := os.ReadFile(kprobePMU)
	if err != nil {
		for _, i := range k.indices {
			k.session.refuse(k.session.targets[i], "no trampoline takes it, and the kernel has no perf events of kprobes")
		}
		return nil
	}
	pmu, err := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 32)
	if err != nil {
		return fmt.Errorf("read type of kprobes: %w", err)
	}
	k.pmu = uint32(pmu)
	for n, i := range k.indices {
		t := k.session.targets[i]
		k.session.progress("loading", n, len(k.indices))
		k.session.shapes[i] = t.Shape(false)
		constants := o.KprobeConstants(i, t, k.session.kernel.Arch.Regs)
		for _, name := range []string{bpf.ProgKretprobe, bpf.ProgKprobe} {
			prog, err := k.session.loadProgram(bpfsys.Program{Name: name, Type: ebpf.Kprobe}, constants, k.session.expressions(t.Expressions, probing))
			if err != nil {
				return explain(fmt.Errorf("load programs of %s: %w", t.Func, err))
			}
			k.progs[i] = append(k.progs[i], prog)
		}
	}
	return nil
}

// isKretprobeCode tells functions of kernel/kprobes.c, of its first and its last ones
// that have to do with returns.
func isKretprobeCode(name []byte) bool {
	switch string(name) {
	case symKretprobeLock, "recycle_rp_inst", "pre_handler_kretprobe", "__kretprobe_trampoline_handler":
		return true
	}
	return false
}

// symKretprobeLock is what kretprobes lock with up to 5.10 (d741bf41d7c7).
const symKretprobeLock = "kretprobe_hash_lock"

// kretprobeCode returns where kretprobes take locks, if they do.
func (s *Symbols) kretprobeCode(k *plan.Kernel) build.Range {
	if _, ok := k.Types.FindFunc(symKretprobeLock); !ok || len(s.kretprobes) == 0 {
		return build.Range{}
	}
	first, last := slices.Min(s.kretprobes), slices.Max(s.kretprobes)
	end := last
	for sym, ok := s.text.Symbol(last); ok; end++ {
		next, more := s.text.Symbol(end)
		ok = more && next.Name == sym.Name
	}
	return build.Range{Addr: first, Size: end - first}
}

func (k *kprobes) attach(keep map[*plan.Target]bool) (leftOver []int, next []way, err error) {
	for n, i := range k.indices {
		t := k.session.targets[i]
		k.session.progress("attaching", n, len(k.indices))
		for side, prog := range k.progs[i] {
			if !keep[t] {
				break
			}
			fd, err := openKprobe(k.pmu, t.Addr, side == 0, prog.FD())
			if err != nil {
				k.session.refuse(t, fmt.Sprintf("no trampoline takes it, and no kprobe: %v", err))
				k.drop(i)
				break
			}
			k.events[i] = append(k.events[i], fd)
		}
	}
	return nil, nil, nil
}

// openKprobe makes a program run at a function's entry or return.
func openKprobe(pmu uint32, addr uint64, atReturn bool, prog int) (int, error) {
	attr := unix.PerfEventAttr{Type: pmu, Ext2: addr} // kprobe_addr
	if atReturn {
		attr.Config = 1
	}
	attr.Size = uint32(unsafe.Sizeof(attr))
	// Kernel-wide, whatever CPU it is opened for.
	fd, err := unix.PerfEventOpen(&attr, -1, 0, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("open kprobe: %w", err)
	}
	if err := unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_SET_BPF, prog); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("give kprobe a program: %w", err)
	}
	if err := unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_ENABLE, 0); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("enable kprobe: %w", err)
	}
	return fd, nil
}

func (k *kprobes) attached() []int {
	var have []int
	for _, i := range k.indices {
		if len(k.events[i]) > 0 {
			have = append(have, i)
		}
	}
	return have
}

func (k *kprobes) misses(targets []uint64) (shared uint64, err error) {
	for _, i := range k.indices {
		for _, prog := range k.progs[i] {
			stats, err := prog.Stats()
			if err != nil {
				continue // before 5.12 our own guard counts
			}
			targets[i] += stats.RecursionMisses
		}
	}
	return 0, nil
}

func (k *kprobes) missed(int) (entries, exits uint64, err error) { return 0, 0, nil }

func (k *kprobes) drop(i int) {
	for _, fd := range k.events[i] {
		unix.Close(fd)
	}
	delete(k.events, i)
	for _, prog := range k.progs[i] {
		prog.Close()
	}
	delete(k.progs, i)
}

func (k *kprobes) close() {
	for _, i := range k.indices {
		k.drop(i)
	}
}
