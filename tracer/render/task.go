package render

import "fgtrace/tracer/calls"

// task is who called.
type task struct {
	pid, tid uint32
	cpu      uint16
	named    bool // comm is known: that of an exit without its entry isn't
	comm     [16]byte
}

// tasks remembers how the last tasks are spelled. Most events are of few of
// them, and who called is a third of the text of an event.
type tasks struct {
	append func(dst []byte, t *task) []byte
	recent [16]spelledTask // by the low bits of the thread
}

type spelledTask struct {
	task
	text []byte // nil: nothing was spelled yet
}

// spell returns the spelling of the task that called.
func (t *tasks) spell(c *calls.Call) []byte {
	s := &t.recent[c.Tid%uint32(len(t.recent))]
	if s.tid == c.Tid && s.pid == c.Pid && s.cpu == c.CPU && s.named == c.Entered && s.comm == c.Comm && s.text != nil {
		return s.text
	}
	s.task = task{pid: c.Pid, tid: c.Tid, cpu: c.CPU, named: c.Entered, comm: c.Comm}
	s.text = t.append(s.text[:0], &s.task)
	return s.text
}
