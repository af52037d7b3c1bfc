package learn

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
	gone   uint64 // the latest time that was overwritten
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
	if c.CPU < 0 || c.CPU >= maxCPUs {
		return
	}
	for c.CPU >= len(w.cpus) {
		w.cpus = append(w.cpus, recent{})
	}
	r := &w.cpus[c.CPU]
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

// Root appends the pairs of a task's calls from entry to exit (ns, both
// included), each once. A task may have moved to another CPU in between; the idle
// task, tid 0, is one a CPU and does not move: only for it cpu matters. whole is
// false where calls since entry may have been overwritten, or were too many.
//
// What interrupts did meanwhile on the task's CPU is among them: it has the
// task's tid. Parents tell it from what the root does.
func (w *Windows) Root(tid uint32, cpu int, entry, exit uint64, to []Pair) (pairs []Pair, whole bool) {
	whole = true
	w.pairs.Reset()
	for i := range w.cpus {
		r := &w.cpus[i]
		if r.next == 0 || tid == 0 && i != cpu {
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
				if c.tid == tid && c.time >= entry && c.time <= exit && w.pairs.Add(c.parent, c.ip) {
					to = append(to, Pair{c.parent, c.ip})
				}
			}
		}
	}
	return to, whole && w.pairs.Dropped() == 0
}
