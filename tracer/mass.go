package tracer

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"fgtrace/arch"
	"fgtrace/bpf"
	"fgtrace/btfx"
	"fgtrace/internal/bpfsys"
	"fgtrace/tracer/build"
	"fgtrace/tracer/plan"
)

// massFrom is how many functions one program and one link for all of them pay
// for: a link a function takes 25 ms and more in an emulated guest, a link for
// all 100 to 200, but kprobe.session takes more time at each call.
const massFrom = 16

// way is a way of attaching a program to many functions at once.
type way struct {
	name    string
	program string // in the object
	typ     ebpf.ProgramType
	// Attach types of programs that run at entries alone, and at returns too.
	entries, sessions ebpf.AttachType
	attach            func(prog int, at ebpf.AttachType, targets []*plan.Target, cookies []uint64) (int, error)
	// takes tells whether a target can be attached so.
	takes func(*plan.Target) bool
	// stacks tells whether stacks are true there.
	stacks      func(arch.Arch) bool
	cheapStacks bool // see Session.probesForStack
}

// ways are in the order of preference. Which of them a kernel has shows when they
// are tried.
func ways() []way {
	return []way{
		{
			name: "fsession.multi", program: bpf.ProgSession, typ: ebpf.Tracing,
			entries: bpfsys.AttachFentryMulti, sessions: bpfsys.AttachFsessionMulti,
			attach: func(prog int, at ebpf.AttachType, targets []*plan.Target, cookies []uint64) (int, error) {
				ids := make([]uint32, len(targets))
				for i, t := range targets {
					ids[i] = uint32(t.ID)
				}
				return bpfsys.AttachTracingMulti(prog, at, ids, cookies)
			},
			takes:  func(t *plan.Target) bool { return t.Module == "" && !t.Raw },
			stacks: func(arch.Arch) bool { return true },
		},
		{
			name: "kprobe.session", program: bpf.ProgProbe, typ: ebpf.Kprobe,
			entries: ebpf.AttachTraceKprobeMulti, sessions: ebpf.AttachTraceKprobeSession,
			attach: func(prog int, at ebpf.AttachType, targets []*plan.Target, cookies []uint64) (int, error) {
				addrs := make([]uint64, len(targets))
				for i, t := range targets {
					addrs[i] = t.Addr
				}
				return bpfsys.AttachKprobeMulti(prog, at, addrs, cookies)
			},
			takes:  func(t *plan.Target) bool { return true },
			stacks: func(a arch.Arch) bool { return a.ProbeStacks }, cheapStacks: true,
		},
	}
}

// takesMany tells whether a target's arguments can be read by a program that
// serves others too. Where structs by value are passed is another matter.
func takesMany(t *plan.Target) bool {
	for _, p := range t.Params {
		if p.Layout.Kind == btfx.Struct || p.Layout.Kind == btfx.Union {
			return false
		}
	}
	return true
}

// mass is a backend that has one program, and if all goes well one link, for
// all targets whose records look alike.
type mass struct {
	session *Session
	way     way
	indices []int // of targets
	next    []way // to try for those that the kernel refuses
	groups  []massGroup
}

// massKey is what programs of a graph have in common that are the same.
type massKey struct {
	way         string
	room, words int
	root        bool
	expressions string
}

type massGroup struct {
	build.Group
	prog   *ebpf.Program
	shared bool  // the program is that of an earlier group
	links  []int // descriptors
	have   []int // indices of the targets that are attached
}

func newMass(s *Session, w way, indices []int, next []way) *mass {
	return &mass{session: s, way: w, indices: indices, next: next}
}

func (m *mass) name() string { return m.way.name }

func (m *mass) attachType() ebpf.AttachType {
	if m.session.opts.Exits {
		return m.way.sessions
	}
	return m.way.entries
}

// reading is how its programs find arguments.
func (m *mass) reading() reading {
	if m.way.typ == ebpf.Kprobe {
		return probing
	}
	return copying
}

func (m *mass) load(o build.Options) error {
	for _, g := range o.Groups(m.session.targets, m.indices) {
		if o.Graph != nil {
			// Programs serve functions that are found later, too.
			g.Shape.Words = max(g.Shape.Words, m.session.kernel.Arch.ArgRegisters)
		}
		key := massKey{m.way.name, g.Room, g.Shape.Words, g.Root, g.Expressions.String()}
		if prog, ok := m.session.massProgs[key]; ok {
			m.groups = append(m.groups, massGroup{Group: g, prog: prog, shared: true})
			continue
		}
		prog, err := m.session.loadProgram(bpfsys.Program{
			Name: m.way.program, Type: m.way.typ, AttachType: m.attachType(),
		}, o.GroupConstants(g, m.session.kernel.Arch.Regs), m.session.expressions(g.Expressions, m.reading()))
		if err != nil {
			return fmt.Errorf("load program of %s: %w", m.way.name, err)
		}
		m.groups = append(m.groups, massGroup{Group: g, prog: prog})
		if o.Graph != nil {
			if m.session.massProgs == nil {
				m.session.massProgs = make(map[massKey]*ebpf.Program)
			}
			m.session.massProgs[key] = prog
		}
		for _, index := range g.Targets {
			m.session.shapes[index] = g.Shape
		}
	}
	return nil
}

func (m *mass) attach(keep map[*plan.Target]bool) (leftOver []int, next []way, err error) {
	for i := range m.groups {
		g := &m.groups[i]
		var wanted []int
		for _, index := range g.Targets {
			t := m.session.targets[index]
			switch {
			case !keep[t]:
			case t.Addr == 0 || !t.Patchable && !m.session.patchable(t):
				// One that can't be patched would fail all the others.
				leftOver = append(leftOver, index)
			default:
				wanted = append(wanted, index)
			}
		}
		m.session.progress("attaching", i, len(m.groups))
		attaching := halving{
			attach: func(from, to int) error { return m.attachSome(g, wanted[from:to]) },
			refuse: func(from, to int) { leftOver = append(leftOver, wanted[from:to]...) },
			left:   maxRefusals,
		}
		if err := attaching.run(0, len(wanted)); err != nil {
			return nil, nil, explain(fmt.Errorf("attach by %s: %w", m.way.name, err))
		}
	}
	if m.session.opts.Graph != nil && len(leftOver) < m.wantedCount(keep) {
		// The kernel has this way, and what it does not take no other way does.
		for _, index := range leftOver {
			m.session.refuse(m.session.targets[index], "the kernel refuses to patch it")
		}
		return nil, nil, nil
	}
	return leftOver, m.next, nil
}

// wantedCount returns how many targets are to be attached.
func (m *mass) wantedCount(keep map[*plan.Target]bool) int {
	n := 0
	for _, index := range m.indices {
		if keep[m.session.targets[index]] {
			n++
		}
	}
	return n
}

// maxRefusals is the number of single targets that a kernel refuses before all
// that it has not taken yet are given up.
const maxRefusals = 32

func (m *mass) attachSome(g *massGroup, indices []int) error {
	targets, cookies := make([]*plan.Target, len(indices)), make([]uint64, len(indices))
	for i, index := range indices {
		targets[i] = m.session.targets[index]
		cookies[i] = build.Cookie(index, targets[i])
	}
	fd, err := m.way.attach(g.prog.FD(), m.attachType(), targets, cookies)
	if err != nil {
		return err
	}
	g.links = append(g.links, fd)
	g.have = append(g.have, indices...)
	return nil
}

func (m *mass) attached() []int {
	var indices []int
	for _, g := range m.groups {
		indices = append(indices, g.have...)
	}
	return indices
}

func (m *mass) misses(targets []uint64) (shared uint64, err error) {
	for _, g := range m.groups {
		missed, err := g.missed(m.way)
		if err != nil {
			return 0, err
		}
		shared += missed
	}
	return shared, nil
}

// missed returns nothing: a return is never joined with an entry that is not its
// own, as it has the entry's cookie.
func (m *mass) missed(int) (entries, exits uint64, err error) { return 0, 0, nil }

func (g *massGroup) missed(w way) (uint64, error) {
	var missed uint64
	if !g.shared {
		stats, err := g.prog.Stats()
		if err != nil {
			return 0, fmt.Errorf("read recursion misses: %w", err)
		}
		missed = stats.RecursionMisses
	}
	if w.typ != ebpf.Kprobe {
		return missed, nil
	}
	for _, link := range g.links {
		n, err := bpfsys.KprobeMissed(link)
		if err != nil {
			return 0, fmt.Errorf("read missed calls: %w", err)
		}
		missed += n
	}
	return missed, nil
}

func (m *mass) close() {
	for _, g := range m.groups {
		for _, fd := range g.links {
			unix.Close(fd)
		}
		if !g.shared {
			g.prog.Close()
		}
	}
	m.groups = nil
}

// isUnsupported tells that a kernel doesn't have a way of attaching.
func isUnsupported(err error) bool {
	return isRefusal(err) || errors.Is(err, build.ErrNoSessions)
}
