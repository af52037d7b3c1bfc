package calls

// Node is a call's place in a function graph.
type Node struct {
	Parent  uint64 // ID of the call that it was made in; 0: a root
	Depth   int    // levels below the root
	Context Context
	Outer   Context // of the parent; of a root Task
	Below   uint64  // ns that the calls took which were made in it
	End     End
}

// Context is what a CPU was doing at an entry.
type Context uint8

const (
	Task Context = iota
	Softirq
	Hardirq
	NMI
)

// String returns the name that the outputs have for a context.
func (c Context) String() string { return [...]string{"task", "softirq", "hardirq", "nmi"}[c] }

// End says what is known of a node's exit.
type End uint8

const (
	Returned End = iota
	// ExitLost: the exit was not seen. Call.Exit is when that was found out.
	ExitLost
	// Running: it had not returned when tracing ended, at Call.Exit.
	Running
)

// Own returns the time, in ns, that a node took without the nodes below it.
func (c *Call) Own() uint64 {
	total := c.Duration()
	if c.Node.Below > total {
		return 0
	}
	return total - c.Node.Below
}
