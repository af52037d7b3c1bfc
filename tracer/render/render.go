// Package render turns calls into bytes. A renderer appends to a buffer and
// never fails; writing is somebody else's.
package render

import (
	"strconv"

	"fgtrace/btfx"
	"fgtrace/tracer/calls"
	"fgtrace/tracer/plan"
	"fgtrace/tracer/stack"
)

// Kind says what of a call an event shows.
type Kind uint8

const (
	Entry Kind = iota
	Exit
	Call // both in one, at the exit

	// Of a function graph, whose nodes come at their exits, children first.
	Open  // a node that has begun, and whose children come next
	Leaf  // a node that was not opened, at its exit
	Close // a node that was opened, at its exit
)

// String returns the name that the JSON has for a kind.
func (k Kind) String() string {
	return [...]string{"entry", "exit", "call", "open", "call", "call"}[k]
}

// Event is what is shown of a call. Chain is nil where no stack was asked for.
type Event struct {
	Kind   Kind
	Call   *calls.Call
	Target *plan.Target
	Chain  *Chain
}

// cpu returns the CPU at the event's time.
func (e *Event) cpu() uint16 {
	if e.Kind == Exit {
		return e.Call.ExitCPU
	}
	return e.Call.CPU
}

// isNamed reports whether the name of the task is known: records of nodes have it,
// an exit without its entry hasn't.
func (e *Event) isNamed() bool { return e.Kind >= Open || e.Call.Entered }

// isNode reports whether an event shows a whole call: a node of a graph at its
// exit, or a call outside of graphs.
func (e *Event) isNode() bool {
	return e.Kind == Leaf || e.Kind == Close || e.Kind == Call && e.Call.Entered
}

// Chain is a call chain and its spelling, which a renderer makes once.
type Chain struct {
	stack.Chain
	Errno    int         // why there is no stack, or 0
	Raw      stack.Chain // as the kernel gave it; Frames is nil if not asked for
	rendered []byte
}

// Start is what is known when tracing starts.
type Start struct {
	Kernel         string
	Arch           string
	Version        string
	Argv           []string
	Targets        int
	RealtimeOffset int64 // ns to add to the kernel's clock for the time of day
}

// End is what is known when tracing has ended. Roots, ExitLost and what follows
// them are those of a function graph.
type End struct {
	Events          uint64 // shown
	Lost            uint64 // records that found no room, or could not be decoded
	RecursionMisses uint64 // program runs that the kernel, or our guard, left out
	Self            uint64 // calls of the tracer itself, left out
	NoEntry, NoExit uint64 // see calls.Counts
	Running         uint64 // calls that had not returned
	Skipped         []plan.Skip
	PerTarget       []Loss

	Roots       uint64
	ExitLost    uint64 // nodes that had returned, and whose exit was not seen
	NoTree      uint64 // roots left out, as too many tasks had one
	TooDeep     uint64 // nodes left out, as too many were under way
	LostPackets uint64 // packets, or parts of them, that found no room
	NoPacket    uint64 // packets of which it could not be told where they are, or be read
	Unread      uint64 // calls left out, as it could not be read whether their packets match
	LostOpens   uint64 // nodes that were shown at their end only

	Followed, NotFreed, NotFollowed uint64 // packets: see tracer.Followed
}

// Loss is what is missing of one target's calls. Targets that miss nothing are
// not listed.
type Loss struct {
	Target          *plan.Target
	LostEntries     uint64
	LostExits       uint64
	LostPackets     uint64
	RecursionMisses uint64
	Undecoded       uint64
}

// Renderer is an output format.
type Renderer interface {
	// Grow takes further targets, whose indices come behind those that there are.
	Grow(targets []*plan.Target)
	AppendStart(dst []byte, s *Start) []byte
	AppendEvent(dst []byte, e *Event) []byte
	AppendEnd(dst []byte, e *End) []byte
}

// stackError spells why there is no stack: -EFAULT, or the number of an error
// that has no name.
func stackError(errno int) string {
	if name := btfx.ErrnoName(errno); name != "" {
		return "-" + name
	}
	return strconv.Itoa(-errno)
}

func moduleName(module string) string {
	if module == "" {
		return "vmlinux"
	}
	return module
}

// untilNUL cuts a C string at its end.
func untilNUL(b []byte) []byte {
	for i, c := range b {
		if c == 0 {
			return b[:i]
		}
	}
	return b
}
