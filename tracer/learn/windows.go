package learn

import (
	"math"
	"slices"
)

// Windows keeps the last calls seen on each CPU, to tell afterwards which of them
// were made during a call of a root function.
type Windows struct {
	perCPU int // a power of two
	cpus   []recent
	pairs  *Edges // of one answer
}

// recent are the last calls on one CPU, in the order in which they came. That is
// almost the order of their times: a call in an interrupt may get in front of the
// one that it interrupted. So blocks of calls know between which times they are.
type recent struct {
	calls  []seen // grows up to perCPU, then is overwritten from the start
	blocks []span
	next   uint64 // the number of calls that came
	gone   uint64 // the latest time that was overwritten, or of a gap that is not kept
	gaps   []span // the last of them
}

// seen is a Call without its CPU: 32 bytes.
type seen struct {
	ip, parent, time uint64
	tid              uint32
}

type span struct{ first, last uint64 }

const (
	blockCalls   = 256
	DefaultCalls = 1 << 17 // a CPU: 4 MB
	maxWindow    = 1 << 16 // pairs of one answer
	maxGaps      = 64      // a CPU
)

// NewWindows keeps so many calls a CPU, rounded up to a power of two.
func NewWindows(perCPU int) *Windows {
	w := &Windows{perCPU: blockCalls, pairs: NewEdges(maxWindow)}
	for w.perCPU < perCPU {
		w.perCPU *= 2
	}
	return w
}

// maxCPUs is more than any kernel has (CONFIG_NR_CPUS goes to 8192).
const maxCPUs = 1 << 14

// Note takes a call. Those of one CPU must come in the order of its ring.
func (w *Windows) Note(c Call) {
	r := w.of(c.CPU)
	if r == nil {
		return
	}
	at := int(r.next & uint64(w.perCPU-1))
	if at%blockCalls == 0 {
		if at/blockCalls == len(r.blocks) {
			r.blocks = append(r.blocks, span{})
		} else {
			r.gone = max(r.gone, r.blocks[at/blockCalls].last)
		}
		r.blocks[at/blockCalls] = span{c.Time, c.Time}
	}
	s := seen{c.IP, c.Parent, c.Time, c.Tid}
	if at == len(r.calls) {
		r.calls = append(r.calls, s)
	} else {
		r.calls[at] = s
	}
	b := &r.blocks[at/blockCalls]
	b.first, b.last = min(b.first, c.Time), max(b.last, c.Time)
	r.next++
}

// of returns what is kept of a CPU; nil: there is no such CPU.
func (w *Windows) of(cpu int) *recent {
	if cpu < 0 || cpu >= maxCPUs {
		return nil
	}
	for cpu >= len(w.cpus) {
		w.cpus = append(w.cpus, recent{})
	}
	return &w.cpus[cpu]
}

// Stop notes that calls on a CPU are not seen from a time on.
func (w *Windows) Stop(cpu int, from uint64) {
	r := w.of(cpu)
	if r == nil {
		return
	}
	if len(r.gaps) == maxGaps {
		r.gone = max(r.gone, r.gaps[0].last)
		r.gaps = slices.Delete(r.gaps, 0, 1)
	}
	r.gaps = append(r.gaps, span{from, math.MaxUint64})
}

// Start notes that calls on a CPU are seen again from a time on.
func (w *Windows) Start(cpu int, from uint64) {
	if r := w.of(cpu); r != nil && len(r.gaps) > 0 {
		r.gaps[len(r.gaps)-1].last = from
	}
}

// Root appends the pairs of a task's calls from entry to exit (ns, both
// included), each once. cpu is where it was called: the task may have moved since,
// but for the idle task, tid 0, which is one a CPU. whole is false where calls since
// entry may have been overwritten, were too many, or were not seen for a time on that
// CPU or one where the task made others of these calls.
//
// What interrupts did meanwhile on the task's CPU is among them: it has the
// task's tid. Parents tell it from what the root does.
func (w *Windows) Root(tid uint32, cpu int, entry, exit uint64, to []Pair) (pairs []Pair, whole bool) {
	whole = true
	w.pairs.Reset()
	for i := range w.cpus {
		r := &w.cpus[i]
		here := i == cpu
		if tid == 0 && i != cpu {
			continue
		}
		whole = whole && (r.gone == 0 || r.gone < entry)
		for b, s := range r.blocks {
			if s.last < entry || s.first > exit {
				continue
			}
			// A block that is half overwritten may have old calls at its end. They
			// count as gone, but are true.
			end := min((b+1)*blockCalls, len(r.calls))
			for _, c := range r.calls[b*blockCalls : end] {
				if c.tid != tid || c.time < entry || c.time > exit {
					continue
				}
				here = true
				if w.pairs.Add(c.parent, c.ip) {
					to = append(to, Pair{c.parent, c.ip})
				}
			}
		}
		if here && slices.ContainsFunc(r.gaps, func(g span) bool { return g.first <= exit && g.last >= entry }) {
			whole = false
		}
	}
	return to, whole && w.pairs.Dropped() == 0
}
