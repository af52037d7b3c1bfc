package tracer

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"fgtrace/bpf"
	"fgtrace/internal/bpfsys"
	"fgtrace/tracer/build"
	"fgtrace/tracer/plan"
)

// backend is a way of attaching to functions. It reports targets that the
// kernel refuses by Session.refuse, or hands them back, and goes on without them.
// Targets are given by their indices.
type backend interface {
	name() string
	// load makes the programs of all its targets.
	load(build.Options) error
	// attach attaches the targets to keep. Those left over are for other backends
	// to try: for the ways in next, or links.
	attach(keep map[*plan.Target]bool) (leftOver []int, next []way, err error)
	attached() []int
	// misses adds what the kernel left out, by target; shared is what can't be
	// told by target.
	misses(targets []uint64) (shared uint64, err error)
	// missed returns how many runs of a target's programs the kernel left out.
	missed(target int) (entries, exits uint64, err error)
	close()
}

// links is the backend that every kernel has: a program and a link for each
// function and side, fentry and fexit.
type links struct {
	session *Session
	indices []int
	probes  bool     // entries by kprobe.multi, where stacks cost less
	targets []linked // by index of target; those that were refused are empty

	// unlinked are functions of a graph that the kernel has no trampoline for: they
	// may be had by kprobes.
	unlinked []int
}

// linked is one target's programs and links; nil and -1 where there are none.
type linked struct {
	target *plan.Target
	progs  []*ebpf.Program
	fds    []int
}

func newLinks(s *Session, indices []int) *links {
	return &links{session: s, indices: indices, targets: make([]linked, len(s.targets))}
}

func (l *links) name() string {
	switch {
	case l.probes && l.session.opts.Exits:
		return "kprobe.multi and fexit links"
	case l.probes:
		return "kprobe.multi"
	case l.session.opts.Exits:
		return "fentry and fexit links"
	}
	return "fentry links"
}

func (l *links) load(o build.Options) error {
	for n, i := range l.indices {
		t := l.session.targets[i]
		l.session.progress("loading", n, len(l.indices))
		l.session.shapes[i] = t.Shape(o.Stack)
		progs, err := l.loadSides(o, i, t)
		if l.probes && isRefusal(err) {
			l.probes, l.session.probesRefused = false, true
			progs, err = l.loadSides(o, i, t)
		}
		switch {
		case err == nil:
			l.targets[i] = linked{target: t, progs: progs}
		case isRefusal(err) || l.session.traced[t] != nil: // nobody asked for a BPF program by name
			l.refuse(i, err)
		default:
			return explain(fmt.Errorf("load programs of %s: %w", t.Func, err))
		}
	}
	return nil
}

// refuse notes that the kernel refuses a target.
func (l *links) refuse(i int, err error) {
	t := l.session.targets[i]
	if l.session.opts.Graph != nil && l.session.traced[t] == nil {
		l.unlinked = append(l.unlinked, i)
		return
	}
	l.session.refuse(t, l.session.refusalReason(t, err))
}

// loadSides loads the programs of one target: that of the exit goes first, as it
// is the one that some functions refuse.
func (l *links) loadSides(o build.Options, i int, t *plan.Target) (progs []*ebpf.Program, err error) {
	defer func() {
		if err != nil {
			(&linked{progs: progs}).close()
			progs = nil
		}
	}()
	entry, exit := o.Constants(i, t)
	if l.probes {
		entry, exit = o.ProbeConstants(i, t, l.session.kernel.Arch.Regs)
	}
	if o.Exits {
		prog, err := l.session.loadTracing(t, bpf.ProgExit, ebpf.AttachTraceFExit, exit)
		if err != nil {
			return progs, err
		}
		progs = append(progs, prog)
	}
	var prog *ebpf.Program
	if l.probes {
		prog, err = l.session.loadProgram(bpfsys.Program{
			Name: bpf.ProgProbe, Type: ebpf.Kprobe, AttachType: ebpf.AttachTraceKprobeMulti,
		}, entry, l.session.expressions(t.Expressions, probing))
	} else {
		prog, err = l.session.loadTracing(t, bpf.ProgEntry, ebpf.AttachTraceFEntry, entry)
	}
	if err != nil {
		return progs, err
	}
	return append(progs, prog), nil
}

func (s *Session) loadTracing(t *plan.Target, name string, at ebpf.AttachType, constants build.Constants) (prog *ebpf.Program, err error) {
	p := bpfsys.Program{Name: name, Type: ebpf.Tracing, AttachType: at, AttachID: uint32(t.ID)}
	switch traced := s.traced[t]; {
	case traced != nil:
		p.AttachTo = traced.FD()
	case t.Module != "":
		if p.AttachTo, err = s.modules.fd(t.Module); err != nil {
			return nil, err
		}
	}
	prog, err = s.loadProgram(p, constants, s.expressions(t.Expressions, loading))
	if err == nil || !t.AnyAtEntry() && !isContextAccess(err) {
		return prog, err
	}
	if !isContextAccess(err) {
		var again error
		if prog, again = s.loadProgram(p, constants, s.expressions(t.Expressions, reads)); again == nil {
			return prog, nil
		}
		if !isContextAccess(again) {
			return nil, err
		}
	}
	return s.loadProgram(p, constants.CopyCtx(), s.expressions(t.Expressions, copying))
}

func (l *links) attach(keep map[*plan.Target]bool) (leftOver []int, next []way, err error) {
	for n, i := range l.indices {
		l.session.progress("attaching", n, len(l.indices))
		linked := &l.targets[i]
		if linked.target == nil {
			continue
		}
		if !keep[linked.target] {
			linked.close()
			continue
		}
		if isDispatcher(linked.target.Func) && !l.session.patchable(linked.target) {
			l.session.refuse(linked.target, "the kernel itself patches it, to call BPF programs")
			linked.close()
			continue
		}
		for _, prog := range linked.progs {
			var fd int
			var err error
			if prog.Type() == ebpf.Kprobe {
				t := linked.target
				fd, err = bpfsys.AttachKprobeMulti(prog.FD(), ebpf.AttachTraceKprobeMulti, []uint64{t.Addr}, []uint64{build.Cookie(i, t)})
			} else {
				fd, err = bpfsys.AttachTracing(prog.FD())
			}
			if err != nil {
				if l.probes && isRefusal(err) && prog.Type() == ebpf.Kprobe {
					l.session.probesRefused = true
					linked.close()
					leftOver = append(leftOver, i)
					break
				}
				if !isRefusal(err) && l.session.traced[linked.target] == nil {
					return nil, nil, explain(fmt.Errorf("attach to %s: %w", linked.target.Func, err))
				}
				l.refuse(i, err)
				linked.close()
				break
			}
			linked.fds = append(linked.fds, fd)
		}
	}
	return leftOver, nil, nil
}

func (l *links) attached() []int {
	return slices.DeleteFunc(slices.Clone(l.indices), func(i int) bool { return l.targets[i].target == nil })
}

func (l *links) misses(targets []uint64) (shared uint64, err error) {
	for _, i := range l.indices {
		entries, exits, err := l.missed(i)
		if err != nil {
			return 0, err
		}
		targets[i] += entries + exits
	}
	return 0, nil
}

func (l *links) missed(target int) (entries, exits uint64, err error) {
	progs := l.targets[target].progs
	for i, prog := range progs {
		stats, err := prog.Stats()
		if errors.Is(err, ebpf.ErrNotSupported) {
			return 0, 0, nil // our own guard counts
		}
		if err != nil {
			return 0, 0, fmt.Errorf("read recursion misses: %w", err)
		}
		if i == len(progs)-1 { // entries are loaded last
			entries = stats.RecursionMisses
		} else {
			exits = stats.RecursionMisses
		}
	}
	return entries, exits, nil
}

// close detaches in parallel: each link waits for RCU on its own.
func (l *links) close() {
	var wg sync.WaitGroup
	slots := make(chan struct{}, 64)
	var mu sync.Mutex
	done := 0
	for _, i := range l.indices {
		if l.targets[i].target == nil {
			continue
		}
		wg.Add(1)
		slots <- struct{}{}
		go func() {
			defer wg.Done()
			l.targets[i].close()
			<-slots
			mu.Lock()
			defer mu.Unlock()
			done++
			l.session.progress("detaching", done, len(l.indices))
		}()
	}
	wg.Wait()
}

func (t *linked) close() {
	for _, fd := range t.fds {
		unix.Close(fd)
	}
	for _, prog := range t.progs {
		prog.Close()
	}
	*t = linked{}
}
