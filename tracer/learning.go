package tracer

import (
	"errors"
	"fmt"
	"time"

	"fgtrace/tracer/learn"
	"fgtrace/tracer/plan"
)

// Learning adds to a graph what its roots were seen to call, and no code tells:
// calls through pointers, and where the kernel has no way of attaching to many
// functions at once, all of them. Its methods are called by whoever drains the
// session; what takes long runs beside them.
type Learning struct {
	session *Session
	callees *Callees
	windows *learn.Windows
	learner *learner // nil: not open
	pairs   []learn.Pair
	state   learningState
	begun   time.Time

	news      int // pairs that were new since the last extension
	quiet     int // root calls in a row that taught nothing
	since     time.Time
	calls     int // root calls that were seen
	functions int // that were added

	work   chan work // what is under way beside; nil: nothing
	grown  chan struct{}
	closed error
}

type learningState uint8

const (
	learningWaits learningState = iota // until Begin
	learningOpens                      // the kernel patches its functions
	learningOn                         // calls are watched
	learningEnds                       // the kernel restores its functions
	learningIsOver
)

// work is what came of something that ran beside.
type work struct {
	learner *learner
	targets []*plan.Target // found: grow, then go on
	done    bool
	err     error
}

const (
	// learningQuiet is how many root calls teach nothing before learning ends.
	learningQuiet = 8
	// learningBatch is how long news are collected before functions are attached.
	learningBatch = 300 * time.Millisecond
	// learningLimit bounds the time in which every function of the kernel is
	// watched.
	learningLimit = 30 * time.Second
)

// NewLearning prepares to learn.
func NewLearning(s *Session, c *Callees) *Learning {
	return &Learning{session: s, callees: c, windows: learn.NewWindows(learn.DefaultCalls)}
}

// Begin begins to watch. It is over at once where the kernel can't.
func (l *Learning) Begin() {
	l.state, l.begun = learningOpens, time.Now()
	l.beside(func(out chan<- work) {
		opened, err := newLearner()
		if err == nil {
			err = opened.start()
		}
		out <- work{learner: opened, done: true, err: err}
	})
}

func (l *Learning) beside(run func(out chan<- work)) {
	out := make(chan work, 1)
	l.work = out
	go run(out)
}

// Waits tells whether learning has not begun, Over whether it has ended.
func (l *Learning) Waits() bool { return l.state == learningWaits }
func (l *Learning) Over() bool  { return l.state == learningIsOver }

// Watches tells whether root calls teach something now.
func (l *Learning) Watches() bool { return l.state == learningOn }

// Count returns how many root calls were seen, and how many functions were added.
func (l *Learning) Count() (calls, functions int) { return l.calls, l.functions }

// Root takes a call of a root that has returned: its task, CPU, and times in ns,
// CLOCK_MONOTONIC.
func (l *Learning) Root(tid uint32, cpu int, entry, exit uint64) {
	if l.state != learningOn {
		return
	}
	l.drain()
	pairs, whole := l.windows.Root(tid, cpu, entry, exit, l.pairs[:0])
	l.pairs = pairs
	if len(pairs) == 0 {
		return // before watching had begun
	}
	l.calls++
	fresh := 0
	for _, p := range pairs {
		if l.callees.saw(p.Parent, p.IP) {
			fresh++
		}
	}
	switch {
	case fresh > 0:
		if l.news == 0 {
			l.since = time.Now()
		}
		l.news += fresh
		l.quiet = 0
	case whole:
		l.quiet++
	}
}

func (l *Learning) drain() { l.learner.drain(l.windows.Note) }

// Poll goes on. It returns targets that the output has to know before Go.
func (l *Learning) Poll() (targets []*plan.Target, err error) {
	if l.state == learningOn {
		l.drain()
	}
	if l.work != nil {
		select {
		case w := <-l.work:
			if !w.done {
				return w.targets, nil
			}
			l.work = nil
			if err := l.finish(w); err != nil {
				return nil, err
			}
		default:
		}
		return nil, nil
	}
	if l.state != learningOn {
		return nil, nil
	}
	switch {
	case l.news > 0 && time.Since(l.since) >= learningBatch:
		l.extend()
	case l.news == 0 && l.quiet >= learningQuiet, time.Since(l.begun) > learningLimit:
		l.end()
	}
	return nil, nil
}

// extend attaches to what has become known.
func (l *Learning) extend() {
	l.news = 0
	l.callees.settle()
	l.grown = make(chan struct{})
	l.beside(func(out chan<- work) {
		targets, err := l.callees.Next()
		if err == nil && len(targets) > 0 {
			out <- work{targets: targets}
			<-l.grown
			err = l.session.Extend(targets)
		}
		out <- work{done: true, err: err, targets: targets}
	})
}

// Go lets functions be attached that Poll returned.
func (l *Learning) Go() { close(l.grown) }

func (l *Learning) finish(w work) error {
	switch l.state {
	case learningOpens:
		if w.err != nil {
			l.state, l.closed = learningIsOver, w.err
			return nil
		}
		l.learner, l.state = w.learner, learningOn
	case learningEnds:
		l.state = learningIsOver
	default:
		l.functions += len(w.targets)
	}
	return w.err
}

// end stops watching.
func (l *Learning) end() {
	l.state = learningEnds
	ended := l.learner
	l.beside(func(out chan<- work) { out <- work{done: true, err: ended.close()} })
}

// Close ends learning, and waits for what is under way.
func (l *Learning) Close() error {
	var errs []error
	for l.work != nil {
		w := <-l.work
		if !w.done {
			errs = append(errs, errors.New("extend graph: the output does not know the functions")) // Poll was given none
			close(l.grown)
			continue
		}
		l.work = nil
		errs = append(errs, l.finish(w))
	}
	if l.state == learningOn {
		l.state = learningIsOver
		errs = append(errs, l.learner.close())
	}
	return errors.Join(errs...)
}

// Err tells why nothing could be learned.
func (l *Learning) Err() error {
	if l.closed == nil {
		return nil
	}
	return fmt.Errorf("learn calls through pointers: %w", l.closed)
}
