package tracer

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"unsafe"

	"github.com/cilium/ebpf"

	"fgtrace/bpf"
	"fgtrace/bpf/wire"
	"fgtrace/tracer/build"
	"fgtrace/tracer/event"
	"fgtrace/tracer/plan"
)

// GraphOptions say how calls become nodes of a function graph. Targets whose Root
// is set begin its trees.
type GraphOptions struct {
	Depth  int  // levels below the root; 0: as many as there is room for
	Early  bool // nodes are wanted when the first call is made in them, too
	NoIRQs bool // leave out what hardware interrupts call
	// Below is given the functions that are found below the roots, before anything is
	// made of them, and returns those that are wanted, and why others are not. It may be
	// nil, and may be called beside the trace.
	Below func(targets []*plan.Target) ([]*plan.Target, []plan.Skip)
}

// maxExtra is how many targets Extend may add.
const maxExtra = 8192

// MaxDepth is the number of levels below a root that there is room for.
const MaxDepth = wire.MaxNodes - 1

func (s *Session) graphOptions() *build.Graph {
	g := s.opts.Graph
	words := s.kernel.Arch.ArgRegisters
	for _, t := range s.targets {
		words = max(words, t.Words)
		if t.Root {
			s.roots++
		}
	}
	levels := g.Depth
	if levels == 0 {
		levels = MaxDepth
	}
	return &build.Graph{
		Nodes: levels + 1, Early: g.Early, NoIRQs: g.NoIRQs, MaxWords: words, KeyAt: s.keyAt(),
	}
}

// keyAt returns where the return address into the caller is, behind the argument
// words that a trampoline saves: behind the return value and the frame pointer, and
// as long as trampolines are called from the function, behind the return address
// into that. A probe has its stack pointer there.
func (s *Session) keyAt() int {
	if s.kernel.JmpMode() {
		return 2 * wordBytes
	}
	return 3 * wordBytes
}

const wordBytes = 8

// Extend adds targets to a graph, of which those that the kernel refuses are left
// out: see Refused. Records of the others may come before it returns: their
// indices come behind those that there are. It may run while others drain.
func (s *Session) Extend(targets []*plan.Target) error {
	return s.extend(targets, s.ways(), s.assignEach)
}

// ExtendMass does the same if the kernel has a way of attaching to many functions at
// once, and tells whether it has. What this does not take is left out. It goes before
// anybody asks for Targets.
func (s *Session) ExtendMass(targets []*plan.Target) (bool, error) {
	first := len(s.targets)
	var left []int
	if err := s.extend(targets, s.ways(), func(indices []int) error {
		left = append(left, indices...)
		return nil
	}); err != nil {
		return false, err
	}
	if len(left) == min(len(targets), maxExtra) {
		has, err := s.hasMass()
		if err != nil {
			return false, err
		}
		if !has {
			s.targets, s.shapes = s.targets[:first], s.shapes[:first]
			return false, nil
		}
	}
	return true, s.leaveOut(left)
}

// extendMass does so where the kernel is known to have such a way.
func (s *Session) extendMass(targets []*plan.Target) error {
	return s.extend(targets, s.ways(), s.leaveOut)
}

func (s *Session) leaveOut(indices []int) error {
	for _, i := range indices {
		s.refuse(s.targets[i], "no way of attaching to many functions takes it")
	}
	return nil
}

// hasMass tries a way of attaching to many functions on a root, for a moment.
func (s *Session) hasMass() (bool, error) {
	for _, b := range s.backends {
		if m, ok := b.(*mass); ok && len(m.attached()) > 0 {
			return true, nil
		}
	}
	have := maps.Clone(s.massProgs)
	defer func() { s.massProgs = have }()
	for _, w := range s.ways() {
		if s.opts.Backend != "" && s.opts.Backend != w.name {
			continue
		}
		for i, t := range s.targets {
			if !t.Root || t.Addr == 0 || !w.takes(t) || !takesMany(t) {
				continue
			}
			m := newMass(s, w, []int{i}, nil)
			err := m.load(s.build)
			if err == nil {
				err = m.attachSome(&m.groups[0], []int{i})
			}
			m.close()
			s.noteUnused(w, err)
			if err == nil || !isUnsupported(err) {
				return err == nil, err
			}
		}
	}
	return false, nil
}

// extend adds targets; each gets those that none of the ways of attaching to many
// takes.
func (s *Session) extend(targets []*plan.Target, ways []way, each func(indices []int) error) error {
	first := len(s.targets)
	room := max(int(s.maps[bpf.MapCounts].MaxEntries())-first, 0)
	s.targets = append(s.targets, targets...)
	s.shapes = append(s.shapes, make([]event.Shape, len(targets))...)
	indices := make([]int, 0, len(targets))
	keep := make(map[*plan.Target]bool, len(targets))
	for i, t := range targets {
		if i >= room {
			s.refuse(t, fmt.Sprintf("there is room for %d functions below the roots, and nearer ones took it", maxExtra))
			continue
		}
		indices = append(indices, first+i)
		keep[t] = true
		s.shapes[first+i] = t.Shape(false)
		s.build.Graph.MaxWords = max(s.build.Graph.MaxWords, t.Words)
	}
	before := len(s.backends)
	if err := s.assign(indices, ways, each); err != nil {
		return err
	}
	if err := s.attachFrom(before, keep, each); err != nil {
		return err
	}
	return s.probeUnlinked(before, keep)
}

// probeUnlinked attaches by kprobes what backends from one on could not link.
func (s *Session) probeUnlinked(first int, keep map[*plan.Target]bool) error {
	var unlinked []int
	for _, b := range s.backends[first:] {
		if l, ok := b.(*links); ok {
			unlinked = append(unlinked, l.unlinked...)
		}
	}
	if len(unlinked) == 0 {
		return nil
	}
	k := newKprobes(s, unlinked)
	s.backends = append(s.backends, k)
	if err := k.load(s.build); err != nil {
		return err
	}
	_, _, err := k.attach(keep)
	return err
}

// setPreemptCounts tells the programs where each CPU's preempt count is.
func (s *Session) setPreemptCounts(c wire.Control) error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count CPUs: %w", err)
	}
	offsets := make([]byte, wordBytes*cpus)
	if err := s.peek(c.PercpuBase, offsets); err != nil {
		return fmt.Errorf("read per-CPU offsets: %w", err)
	}
	for at := 0; at < len(offsets); at += wordBytes {
		word := offsets[at : at+wordBytes]
		binary.LittleEndian.PutUint64(word, binary.LittleEndian.Uint64(word)+c.PreemptCount)
	}
	if _, err := s.control.WriteAt(offsets, s.bases.preemptCounts); err != nil {
		return fmt.Errorf("write preempt counts: %w", err)
	}
	return nil
}

// Running calls fn with a record, as Drain does, for each node of a graph that has
// not returned: those of a tree from the innermost on. The gate must be closed.
func (s *Session) Running(fn func(raw []byte)) error {
	var task [wordBytes]byte
	for at := range uint32(wire.TreeBuckets * wire.TreeWays) {
		if _, err := s.control.ReadAt(task[:], s.bases.tasks+int64(at)*wordBytes); err != nil {
			return fmt.Errorf("read calls under way: %w", err)
		}
		if binary.LittleEndian.Uint64(task[:]) == 0 {
			continue
		}
		tree, err := s.maps[bpf.MapTrees].LookupBytes(at)
		if err != nil {
			return fmt.Errorf("read calls under way: %w", err)
		}
		for _, raw := range slices.Backward(runningNodes(tree)) {
			fn(raw)
		}
	}
	return nil
}

// runningNodes makes records of kind Node of a tree's nodes, the root's first.
func runningNodes(tree []byte) [][]byte {
	var (
		head   wire.Tree
		node   wire.Node
		nodes  [][]byte
		parent uint64
		outer  uint8
	)
	const headSize = int(unsafe.Offsetof(head.Nodes))
	if len(tree) < headSize {
		return nil
	}
	depth := int(binary.LittleEndian.Uint32(tree[unsafe.Offsetof(head.Depth):]))
	for i := range depth {
		at := headSize + i*wire.NodeSize
		if at+wire.NodeSize > len(tree) {
			break
		}
		raw := tree[at : at+wire.NodeSize]
		record := make([]byte, wire.RecordSize, wire.RecordSize+wire.PlaceSize+wire.ResultSize+len(node.Words)*wordBytes)
		id := raw[unsafe.Offsetof(node.Id):][:wordBytes]
		copy(record[unsafe.Offsetof(wire.Record{}.Time):], raw[unsafe.Offsetof(node.Time):][:wordBytes])
		copy(record[unsafe.Offsetof(wire.Record{}.Frame):], id)
		copy(record[unsafe.Offsetof(wire.Record{}.PidTgid):], tree[unsafe.Offsetof(head.PidTgid):][:wordBytes])
		copy(record[unsafe.Offsetof(wire.Record{}.Target):], raw[unsafe.Offsetof(node.Target):][:4])
		copy(record[unsafe.Offsetof(wire.Record{}.Cpu):], raw[unsafe.Offsetof(node.Cpu):][:2])
		record[unsafe.Offsetof(wire.Record{}.Kind)] = wire.KindNode
		copy(record[unsafe.Offsetof(wire.Record{}.Comm):], tree[unsafe.Offsetof(head.Comm):][:wire.CommSize])

		var place [wire.PlaceSize]byte
		binary.LittleEndian.PutUint64(place[unsafe.Offsetof(wire.Place{}.Parent):], parent)
		copy(place[unsafe.Offsetof(wire.Place{}.Below):], raw[unsafe.Offsetof(node.Below):][:wordBytes])
		place[unsafe.Offsetof(wire.Place{}.Depth)] = uint8(i)
		context := raw[unsafe.Offsetof(node.Context)]
		place[unsafe.Offsetof(wire.Place{}.Context)] = context
		place[unsafe.Offsetof(wire.Place{}.Outer)] = outer
		place[unsafe.Offsetof(wire.Place{}.Opened)] = raw[unsafe.Offsetof(node.Opened)]
		record = append(record, place[:]...)
		record = append(record, make([]byte, wire.ResultSize)...)
		record = append(record, raw[unsafe.Offsetof(node.Words):]...)
		nodes = append(nodes, record)
		parent, outer = binary.LittleEndian.Uint64(id), context
	}
	return nodes
}

// LostOpens returns how many nodes were not told of when the first call was made
// in them.
func (s *Session) LostOpens() (uint64, error) { return s.getControl(controlLostOpens) }
