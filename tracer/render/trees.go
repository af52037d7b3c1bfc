package render

import (
	"cmp"
	"slices"

	"fgtrace/tracer/calls"
)

// step is a function in a chain of calls: its index in the plan, and the
// context that it was entered in where that isn't its caller's.
type step uint64

// unknown stands for a caller whose node never came.
const unknown step = 1<<64 - 1

func stepOf(c *calls.Call) step {
	s := step(c.Target) << 8
	if c.Node.Context != c.Node.Outer {
		s |= step(c.Node.Context)
	}
	return s
}

func (s step) target() int { return int(s >> 8) }

// entered returns the context that a function was entered in, or Task if that
// is its caller's.
func (s step) entered() calls.Context { return calls.Context(s) }

// branch is what the nodes with one chain of callers add up to.
type branch struct {
	step     step
	calls    uint64
	returned uint64 // those of the calls whose times are known
	total    uint64 // ns, of those
	own      uint64 // ns, of those
	children []*branch
}

// trees merges the nodes of function graphs: those that have the same chain of
// callers become one branch. What it holds grows with the number of chains, not
// of nodes.
//
// Children come before their parents. What is below a node that hasn't ended
// waits for it on the stack of its task, in which depths rise.
type trees struct {
	perComm bool // a tree for each name that tasks have, else one for all

	roots map[[16]byte]*branch
	tasks map[taskID]*openTask
	clock uint64 // nodes so far
	free  []*branch
	spare []*openTask
}

// taskID tells tasks apart: idle tasks, which all have thread 0, by their CPU.
type taskID struct {
	tid uint32
	cpu uint16
}

func taskOf(c *calls.Call) taskID {
	id := taskID{tid: c.Tid}
	if c.Tid == 0 {
		id.cpu = c.CPU
	}
	return id
}

// openTask is a task whose root hasn't ended.
type openTask struct {
	open []openNode
	last uint64 // trees.clock
}

// openNode is a node that hasn't ended, as far as its children tell.
type openNode struct {
	id    uint64
	depth int
	comm  [16]byte // of the first child
	below *branch
}

// maxOpenTasks is how many tasks can have a root that hasn't ended.
const maxOpenTasks = 1 << 16

func newTrees(perComm bool) *trees {
	return &trees{perComm: perComm, roots: make(map[[16]byte]*branch), tasks: make(map[taskID]*openTask)}
}

// add takes a node at its exit.
func (t *trees) add(c *calls.Call) {
	t.clock++
	id := taskOf(c)
	task := t.tasks[id]
	var below *branch
	if task != nil {
		below = t.leave(task, c)
	}
	if c.Node.Parent == 0 {
		if task != nil {
			delete(t.tasks, id)
			t.spare = append(t.spare, task)
		}
		t.put(t.root(c.Comm), c, below)
		return
	}
	if task == nil {
		task = t.start(id)
	}
	task.last = t.clock
	n := len(task.open)
	if n == 0 || task.open[n-1].id != c.Node.Parent {
		task.open = append(task.open, openNode{
			id: c.Node.Parent, depth: c.Node.Depth - 1, comm: c.Comm, below: t.get(unknown),
		})
		n++
	}
	t.put(task.open[n-1].below, c, below)
}

func (t *trees) start(id taskID) *openTask {
	if len(t.tasks) >= maxOpenTasks {
		t.drop()
	}
	if len(t.spare) == 0 {
		t.spare = append(t.spare, new(openTask))
	}
	n := len(t.spare) - 1
	task := t.spare[n]
	t.spare = t.spare[:n]
	t.tasks[id] = task
	return task
}

// leave takes from a task's stack what a node shows to have ended, and returns
// what is below the node. Other nodes that were as deep have ended without
// coming here: theirs has an unknown caller.
func (t *trees) leave(task *openTask, c *calls.Call) *branch {
	var below *branch
	for n := len(task.open); n > 0; n-- {
		top := &task.open[n-1]
		if c.Node.Parent != 0 && (top.id == c.Node.Parent || top.depth < c.Node.Depth-1) {
			break
		}
		if top.id == c.ID {
			below = top.below
		} else {
			t.orphan(top)
		}
		task.open = task.open[:n-1]
	}
	return below
}

func (t *trees) orphan(n *openNode) {
	t.moveInto(t.child(t.root(n.comm), unknown), n.below)
}

// drop gives up on the task that was quiet for longest.
func (t *trees) drop() {
	var oldest taskID
	last := t.clock + 1
	for id, task := range t.tasks {
		if task.last < last {
			oldest, last = id, task.last
		}
	}
	t.abandon(oldest)
}

func (t *trees) abandon(id taskID) {
	for i := range t.tasks[id].open {
		t.orphan(&t.tasks[id].open[i])
	}
	delete(t.tasks, id)
}

// end gives up on all parents that haven't come, and returns the trees by the
// names of tasks.
func (t *trees) end() map[[16]byte]*branch {
	for id := range t.tasks {
		t.abandon(id)
	}
	return t.roots
}

func (t *trees) root(comm [16]byte) *branch {
	if !t.perComm {
		comm = [16]byte{}
	}
	r := t.roots[comm]
	if r == nil {
		r = t.get(unknown)
		t.roots[comm] = r
	}
	return r
}

// put adds a node to what its parent has below it, and what is below the node.
func (t *trees) put(parent *branch, c *calls.Call, below *branch) {
	b := t.child(parent, stepOf(c))
	b.calls++
	if c.Node.End == calls.Returned {
		b.returned++
		b.total += c.Duration()
		b.own += c.Own()
	}
	if below != nil {
		t.moveInto(b, below)
	}
}

// moveInto adds what one branch has to another.
func (t *trees) moveInto(dst, src *branch) {
	dst.calls += src.calls
	dst.returned += src.returned
	dst.total += src.total
	dst.own += src.own
	for _, child := range src.children {
		if i, found := dst.find(child.step); found {
			t.moveInto(dst.children[i], child)
		} else {
			dst.children = slices.Insert(dst.children, i, child)
		}
	}
	src.children = src.children[:0]
	t.free = append(t.free, src)
}

func (t *trees) child(b *branch, s step) *branch {
	i, found := b.find(s)
	if !found {
		b.children = slices.Insert(b.children, i, t.get(s))
	}
	return b.children[i]
}

func (t *trees) get(s step) *branch {
	n := len(t.free)
	if n == 0 {
		return &branch{step: s}
	}
	b := t.free[n-1]
	t.free = t.free[:n-1]
	*b = branch{step: s, children: b.children}
	return b
}

func (b *branch) find(s step) (int, bool) {
	return slices.BinarySearchFunc(b.children, s, func(c *branch, s step) int { return cmp.Compare(c.step, s) })
}
