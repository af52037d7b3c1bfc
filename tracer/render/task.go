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
	buf    []byte
}

type spelledTask struct {
	task
	text fragment // empty: nothing was spelled yet
}

// spell returns the spelling of the task that called, on the CPU of an event.
func (t *tasks) spell(e *Event) *fragment {
	c, cpu, named := e.Call, e.cpu(), e.isNamed()
	s := &t.recent[c.Tid%uint32(len(t.recent))]
	if s.tid == c.Tid && s.pid == c.Pid && s.cpu == cpu && s.named == named && s.comm == c.Comm && s.text.n != 0 {
		return &s.text
	}
	return t.spellAnew(s, c, cpu, named)
}

func (t *tasks) spellAnew(s *spelledTask, c *calls.Call, cpu uint16, named bool) *fragment {
	s.task = task{pid: c.Pid, tid: c.Tid, cpu: cpu, named: named, comm: c.Comm}
	t.buf = t.append(t.buf[:0], &s.task)
	s.text.set(t.buf)
	return &s.text
}
