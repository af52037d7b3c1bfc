package render

import (
	"fgtrace/tracer/calls"
)

// node writes a line of a function graph: one at the beginning of a node that
// others are made in, and one at each node's end.
//
//	15:04:05.710082515 [0] ping/492 icmp_rcv(struct sk_buff *skb=0xffff8880035b4700) {
//	15:04:05.710083001 [0] ping/492   icmp_echo(struct sk_buff *skb=0xffff8880035b4700) = 0 1.234us
//	15:04:05.710084689 [0] ping/492 } icmp_rcv = 0 2.174us, own 940ns
func (t *Text) node(dst []byte, e *Event) []byte {
	c := e.Call
	target := &t.targets[c.Target]
	l := &t.line
	l.begin(dst)
	if e.Kind == Close {
		t.time(c.Exit)
	} else {
		t.time(c.Entry)
	}
	l.fragment(t.tasks.spell(e))
	for range c.Node.Depth {
		l.word(' '|' '<<8, 2)
	}
	if e.Kind == Close {
		l.short("} ")
		l.fragment(&target.name)
		l.room()
	} else {
		if c.Node.Context != c.Node.Outer {
			l.byte('<')
			l.string(c.Node.Context.String())
			l.short("> ")
		}
		if c.Entered {
			t.args(target, c)
		} else {
			l.fragment(&target.unknown)
		}
	}
	switch {
	case e.Kind == Open:
		l.short(" {")
	case c.Node.End == calls.ExitLost:
		l.string(" = ? (its exit was not seen)")
	case c.Node.End == calls.Running:
		l.string(" still running after")
		t.duration(c.Duration())
	default:
		l.short(" = ")
		t.result(&target.result, c)
		t.duration(c.Duration())
		if e.Kind == Close {
			l.short(", own")
			t.duration(c.Own())
		}
	}
	l.byte('\n')
	if e.Kind == Close {
		return l.end() // they are below the line that opened it
	}
	return t.details(l.end(), target, e)
}

// nodeOf adds what the object of a node has besides that of a call.
func (j *JSON) nodeOf(c *calls.Call) {
	l := &j.line
	l.short(`,"parent":`)
	l.uint(c.Node.Parent)
	l.short(`,"depth":`)
	l.uint(uint64(c.Node.Depth))
	l.fragment(&jsonContexts[c.Node.Context])
	switch c.Node.End {
	case calls.Returned:
		l.short(`,"own_ns":`)
		l.uint(c.Own())
	case calls.ExitLost:
		l.string(`,"end":"exit lost"`)
	case calls.Running:
		l.string(`,"end":"running"`)
	}
}

// jsonContexts are the members of nodes by their context.
var jsonContexts = [...]fragment{
	calls.Task:    newFragment([]byte(`,"context":"task"`)),
	calls.Softirq: newFragment([]byte(`,"context":"softirq"`)),
	calls.Hardirq: newFragment([]byte(`,"context":"hardirq"`)),
	calls.NMI:     newFragment([]byte(`,"context":"nmi"`)),
}
