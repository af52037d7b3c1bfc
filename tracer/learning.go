package tracer

import (
	"errors"
	"fmt"
	"time"

	"fgtrace/tracer/plan"
)

// Learning adds to a graph what was seen to be called in its trees, and no code
// tells: calls through pointers, and where the kernel has no way of attaching to
// many functions at once, all of them. Its methods are called by whoever drains
// the session; what takes long runs beside them.
type Learning struct {
	callees found
	open    func() (watcher, error)    // begins to watch
	attach  func([]*plan.Target) error // to functions that were found
	now     func() time.Time
	isMass  bool
	watcher watcher // nil: not watching
	state   learningState
	since   time.Time     // when watching began, or went on
	watched time.Duration // before that
	rounds  int

	news      int // what was new since the last extension
	quiet     int // root calls in a row that taught nothing
	lastNews  time.Time
	calls     int // root calls that were watched
	functions int // that were added

	early []earlyCall // that were seen before the watcher was ready

	work  chan work     // what is under way beside; nil: nothing
	grown chan struct{} // the output knows what was found; closed: it never will
	err   error         // why nothing could be learned
}

type earlyCall struct {
	number uint64
	depth  int
}

// found is where what was seen goes, and targets come from: Callees.
type found interface {
	sawPointed(number uint64, depth int) bool
	settle()
	Next() ([]*plan.Target, error)
}

// watcher sees functions be called that are not traced.
type watcher interface {
	// poll takes what was seen.
	poll()
	// root takes a call of a root that has returned, and tells how much was new
	// that it called; seen: it was watched at all.
	root(tid uint32, cpu int, entry, exit uint64) (news int, seen bool)
	close() error
}

type learningState uint8

const (
	learningWaits learningState = iota // until Begin
	learningOpens                      // the watcher is made
	learningOn                         // calls are watched
	learningAdds                       // functions are attached
	learningIsOver
)

// work is what came of something that ran beside.
type work struct {
	watcher watcher
	targets []*plan.Target // found: the output is to know them
	done    bool
	err     error
}

const (
	// learningQuiet is how many root calls teach nothing, one after the other,
	// before learning ends, and for how long.
	learningQuiet     = 8
	learningQuietTime = 2 * time.Second
	// learningBatch is how long nothing is new before functions are attached.
	learningBatch = 300 * time.Millisecond
	// learningStill is how long nothing is new before that is done although no call
	// of a root was seen whole: to begin anew costs seconds, and may be done but a few
	// times.
	learningStill = 10 * time.Second
	// learningLimit bounds the time in which functions are watched that are not
	// traced.
	learningLimit = time.Minute
	// learningRounds bounds how often that begins where it has to end before
	// functions can be attached.
	learningRounds = 4
)

// NewLearning prepares to learn. Where the kernel attaches to many functions at
// once, calls through pointers are all that is to be learned.
func NewLearning(s *Session, c *Callees, isMass bool) *Learning {
	open := func() (watcher, error) {
		if isMass {
			return newPointedWatcher(s, c)
		}
		return newCallWatcher(c)
	}
	attach := s.Extend
	if isMass {
		attach = s.extendMass
	}
	return &Learning{callees: c, open: open, attach: attach, now: time.Now, isMass: isMass}
}

// Begin begins to watch. It is over at once where the kernel can't.
func (l *Learning) Begin() {
	l.rounds++
	l.turn(learningOpens)
	l.lastNews, l.quiet = l.now(), 0
	l.beside(func(out chan<- work) {
		watcher, err := l.open()
		out <- work{done: true, watcher: watcher, err: err}
	})
}

func (l *Learning) beside(run func(out chan<- work)) {
	out := make(chan work, 1)
	l.work = out
	go run(out)
}

// Waits tells whether learning has not begun.
func (l *Learning) Waits() bool { return l.state == learningWaits }

// Count returns how many root calls were watched, and how many functions were
// added.
func (l *Learning) Count() (calls, functions int) { return l.calls, l.functions }

// Root takes a call of a root that has returned: its task, CPU, and times in ns,
// CLOCK_MONOTONIC.
func (l *Learning) Root(tid uint32, cpu int, entry, exit uint64) {
	if l.state != learningOn {
		return
	}
	news, seen := l.watcher.root(tid, cpu, entry, exit)
	if !seen {
		return
	}
	l.calls++
	l.quiet++
	l.add(news)
}

// Seen takes a watched function that was called with so many nodes under way.
func (l *Learning) Seen(number uint64, depth int) {
	if l.state == learningOpens {
		l.early = append(l.early, earlyCall{number, depth})
		return
	}
	if l.callees.sawPointed(number, depth) {
		l.add(1)
	}
}

func (l *Learning) add(news int) {
	if news > 0 {
		l.news += news
		l.quiet, l.lastNews = 0, l.now()
	}
}

// Poll goes on. The output has to know the targets that it returns, before Go.
func (l *Learning) Poll() (targets []*plan.Target, err error) {
	if l.state == learningOn {
		l.watcher.poll()
	}
	if l.work != nil {
		select {
		case w := <-l.work:
			if !w.done {
				return w.targets, nil
			}
			l.work = nil
			return nil, l.finish(w)
		default:
			return nil, nil
		}
	}
	if l.state != learningOn {
		return nil, nil
	}
	still := l.now().Sub(l.lastNews)
	switch {
	case l.news > 0 && (l.isLate() || still >= learningStill || still >= learningBatch && (l.isMass || l.quiet > 0)):
		l.extend()
	case l.isLate(), l.news == 0 && l.quiet >= learningQuiet && still >= learningQuietTime:
		l.end()
	}
	return nil, nil
}

// isLate tells whether calls were watched for long enough. What it takes to get
// ready, and to attach to what was found, does not count.
func (l *Learning) isLate() bool {
	watched := l.watched
	if l.state == learningOn {
		watched += l.now().Sub(l.since)
	}
	return watched > learningLimit
}

func (l *Learning) turn(state learningState) {
	now := l.now()
	if l.state == learningOn {
		l.watched += now.Sub(l.since)
	}
	l.state, l.since = state, now
}

// extend attaches to what has become known. Where every function is watched that
// is ten times slower than otherwise, so watching ends before.
func (l *Learning) extend() {
	l.news = 0
	l.callees.settle()
	l.grown = make(chan struct{})
	l.turn(learningAdds)
	watching := l.watcher
	if !l.isMass {
		l.watcher = nil
	}
	l.beside(func(out chan<- work) {
		var err error
		if !l.isMass {
			err = watching.close()
		}
		targets, nextErr := l.callees.Next()
		if err = errors.Join(err, nextErr); err == nil && len(targets) > 0 {
			out <- work{targets: targets}
			if _, known := <-l.grown; known {
				err = l.attach(targets)
			} else {
				targets = nil
			}
		}
		out <- work{done: true, err: err, targets: targets}
	})
}

// Go lets functions be attached that Poll returned.
func (l *Learning) Go() { l.grown <- struct{}{} }

func (l *Learning) finish(w work) error {
	switch l.state {
	case learningOpens:
		if w.err != nil {
			l.turn(learningIsOver)
			l.err = w.err
			return nil
		}
		l.watcher = w.watcher
		l.turn(learningOn)
		l.lastNews = l.now()
		for _, e := range l.early {
			l.Seen(e.number, e.depth)
		}
		l.early = nil
	case learningAdds:
		if w.err == nil {
			l.functions += len(w.targets)
		}
		l.turn(learningOn)
		l.lastNews = l.now()
		switch {
		case l.watcher != nil && l.isLate():
			l.end()
		case l.watcher != nil:
		case len(w.targets) > 0 && l.rounds < learningRounds && !l.isLate():
			l.Begin()
		default:
			l.turn(learningIsOver)
		}
	}
	return w.err
}

// end stops watching.
func (l *Learning) end() {
	l.turn(learningIsOver)
	watching := l.watcher
	l.watcher = nil
	l.beside(func(out chan<- work) { out <- work{done: true, err: watching.close()} })
}

// Close ends learning, and waits for what is under way.
func (l *Learning) Close() error {
	var errs []error
	for l.work != nil {
		w := <-l.work
		if !w.done { // it is too late for these
			close(l.grown)
			continue
		}
		l.work = nil
		l.rounds = learningRounds
		errs = append(errs, l.finish(w))
	}
	if l.watcher != nil {
		errs = append(errs, l.watcher.close())
		l.watcher = nil
	}
	l.turn(learningIsOver)
	return errors.Join(errs...)
}

// Err tells why nothing could be learned.
func (l *Learning) Err() error {
	if l.err == nil {
		return nil
	}
	return fmt.Errorf("watch calls: %w", l.err)
}
