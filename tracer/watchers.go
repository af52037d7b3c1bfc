package tracer

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"fgtrace/bpf"
	"fgtrace/bpf/wire"
	"fgtrace/internal/bpfsys"
	"fgtrace/tracer/build"
	"fgtrace/tracer/learn"
)

// callWatcher sees all calls of all functions, and which of them were made during
// a root's.
type callWatcher struct {
	callees *Callees
	learner *learner
	windows *learn.Windows
	pairs   []learn.Pair
	err     error // of watching
}

func newCallWatcher(c *Callees) (*callWatcher, error) {
	// All functions are patched.
	for _, addr := range c.symbols.dispatchers {
		if c.session.jumpsAt(addr) && listsFunction(c.name(addr)) {
			return nil, fmt.Errorf("an XDP program is attached, and this kernel's ftrace would break: %s is patched for it", c.name(addr))
		}
	}
	l, err := newLearner()
	if err != nil {
		return nil, err
	}
	w := &callWatcher{callees: c, learner: l, windows: learn.NewWindows(learn.DefaultCalls)}
	if err := l.start(w.windows); err != nil {
		l.close()
		return nil, err
	}
	return w, nil
}

// listsFunction tells whether ftrace may patch a function, as far as it can be read.
func listsFunction(name string) bool {
	raw, err := os.ReadFile(patchableFile)
	if err != nil {
		return true
	}
	return bytes.HasPrefix(raw, []byte(name+"\n")) || bytes.Contains(raw, []byte("\n"+name+"\n"))
}

func (w *callWatcher) poll() {
	w.learner.drain(w.windows)
	if w.err == nil {
		w.err = w.learner.more(w.windows)
	}
}

func (w *callWatcher) root(tid uint32, cpu int, entry, exit uint64) (news int, seen bool) {
	w.learner.drain(w.windows)
	var whole bool
	w.pairs, whole = w.windows.Root(tid, cpu, entry, exit, w.pairs[:0])
	for _, p := range w.pairs {
		if w.callees.saw(p) {
			news++
		}
	}
	// Of a call with gaps it is not known whether there is anything to learn.
	return news, len(w.pairs) > 0 && (whole || news > 0)
}

func (w *callWatcher) close() error { return errors.Join(w.err, w.learner.close()) }

// pointedWatcher has a probe on all functions that are called through pointers and
// are not traced. What it sees comes as records of kind Seen.
type pointedWatcher struct {
	prog  *ebpf.Program
	links []int
}

func newPointedWatcher(s *Session, c *Callees) (*pointedWatcher, error) {
	prog, err := s.loadProgram(bpfsys.Program{
		Name: bpf.ProgSeen, Type: ebpf.Kprobe, AttachType: ebpf.AttachTraceKprobeMulti,
	}, s.build.SeenConstants(), build.Expressions{})
	if err != nil {
		return nil, explain(fmt.Errorf("load program %s: %w", bpf.ProgSeen, err))
	}
	w := &pointedWatcher{prog: prog}
	listed, err := patchableAddrs()
	if err != nil {
		listed = nil // attaching tells
	}
	addrs := c.pointedFunctions(func(addr uint64) bool {
		// What is listed is behind the instruction that indirect calls land on.
		return listed == nil || listed[addr] || listed[addr+landingPad]
	})
	numbers := make([]uint64, len(addrs))
	for i := range numbers {
		numbers[i] = uint64(i)
	}
	const tooMany = 64
	attaching := halving{
		attach: func(from, to int) error {
			link, err := bpfsys.AttachKprobeMulti(w.prog.FD(), ebpf.AttachTraceKprobeMulti, addrs[from:to], numbers[from:to])
			if err == nil {
				w.links = append(w.links, link)
			}
			return err
		},
		refuse: func(from, to int) { c.unwatched += to - from },
		left:   tooMany,
	}
	err = attaching.run(0, len(addrs))
	if err == nil && len(addrs) > 0 && len(w.links) == 0 {
		err = errors.New("the kernel refuses it")
	}
	if err != nil {
		w.close()
		return nil, explain(fmt.Errorf("attach by kprobe.multi: %w", err))
	}
	return w, nil
}

// landingPad is the size of the instruction that indirect calls land on, in bytes.
const landingPad = 4

// patchableAddrs returns the addresses of the functions that ftrace can patch
// (Linux 6.5, 83f74441bcb1). It takes the kernel as long as /proc/kallsyms. Without
// it, attaching tells.
func patchableAddrs() (map[uint64]bool, error) {
	raw, err := os.ReadFile(patchableFile + "_addrs")
	if err != nil {
		return nil, fmt.Errorf("read patchable functions: %w", err)
	}
	addrs := make(map[uint64]bool, bytes.Count(raw, []byte{'\n'}))
	for line := range bytes.Lines(raw) {
		text, _, _ := bytes.Cut(line, []byte{' '})
		if addr, err := strconv.ParseUint(string(text), 16, 64); err == nil {
			addrs[addr] = true
		}
	}
	return addrs, nil
}

func (w *pointedWatcher) poll() {}

func (w *pointedWatcher) root(uint32, int, uint64, uint64) (news int, seen bool) { return 0, true }

func (w *pointedWatcher) close() error {
	for _, link := range w.links {
		unix.Close(link)
	}
	return w.prog.Close()
}

// maxPointed is how many functions a pointedWatcher can tell apart.
const maxPointed = wire.MaxSeen
