package tracer

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fgtrace/tracer/plan"
)

// fakeWatcher is a watcher whose roots teach what the test says.
type fakeWatcher struct {
	news    []int // by root call; none: not watched
	polls   int
	closed  int
	failing error // of close
}

func (w *fakeWatcher) poll() { w.polls++ }

func (w *fakeWatcher) root(uint32, int, uint64, uint64) (news int, seen bool) {
	if len(w.news) == 0 {
		return 0, false
	}
	news, w.news = w.news[0], w.news[1:]
	return news, true
}

func (w *fakeWatcher) close() error { w.closed++; return w.failing }

// fakeFound is what the functions are that a test lets be found.
type fakeFound struct {
	pointed []string // that were seen
	settled int
	next    [][]*plan.Target // by call
	failing error
}

func (f *fakeFound) sawPointed(number uint64, depth int) bool {
	call := fmt.Sprintf("%d/%d", number, depth)
	if slices.Contains(f.pointed, call) {
		return false
	}
	f.pointed = append(f.pointed, call)
	return true
}

func (f *fakeFound) settle() { f.settled++ }

func (f *fakeFound) Next() ([]*plan.Target, error) {
	if len(f.next) == 0 || f.failing != nil {
		return nil, f.failing
	}
	targets := f.next[0]
	f.next = f.next[1:]
	return targets, nil
}

// lesson is Learning with fakes all around, and a clock that the test sets.
type lesson struct {
	t *testing.T
	*Learning
	found     *fakeFound
	watchers  []*fakeWatcher // that were opened
	watched   [][]int        // the news of watchers to come
	openErr   error
	attached  []string
	extendErr error
	clock     time.Time
}

func newLesson(t *testing.T, isMass bool) *lesson {
	l := &lesson{t: t, found: &fakeFound{}, clock: time.Unix(1000, 0)}
	l.Learning = &Learning{
		callees: l.found, isMass: isMass, now: func() time.Time { return l.clock },
		open: func() (watcher, error) {
			if l.openErr != nil {
				return nil, l.openErr
			}
			w := &fakeWatcher{}
			if len(l.watched) > 0 {
				w.news, l.watched = l.watched[0], l.watched[1:]
			}
			l.watchers = append(l.watchers, w)
			return w, nil
		},
		attach: func(targets []*plan.Target) error {
			for _, target := range targets {
				l.attached = append(l.attached, target.Func)
			}
			return l.extendErr
		},
	}
	return l
}

// begin begins, and waits until calls are watched.
func (l *lesson) begin() {
	l.t.Helper()
	l.Begin()
	l.rest()
}

// rest polls until nothing is under way, as whoever drains does, and returns the
// targets that the output had to know.
func (l *lesson) rest() []*plan.Target {
	l.t.Helper()
	var found []*plan.Target
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		targets, err := l.Poll()
		if err != nil {
			l.t.Fatal(err)
		}
		if len(targets) > 0 {
			found = append(found, targets...)
			l.Go()
		}
		if l.work == nil {
			return found
		}
		if time.Now().After(deadline) {
			l.t.Fatal("it doesn't come to an end")
		}
	}
}

// after lets time pass, and goes on.
func (l *lesson) after(d time.Duration) []*plan.Target {
	l.t.Helper()
	l.clock = l.clock.Add(d)
	return l.rest()
}

func (l *lesson) roots(n int) {
	for range n {
		l.Root(1, 0, 10, 20)
	}
}

func (l *lesson) is(want learningState) {
	l.t.Helper()
	if l.state != want {
		l.t.Errorf("state %d, want %d", l.state, want)
	}
}

// ends closes, and checks that all watchers are, once.
func (l *lesson) ends() {
	l.t.Helper()
	if err := l.Close(); err != nil {
		l.t.Error(err)
	}
	l.is(learningIsOver)
	for i, w := range l.watchers {
		if w.closed != 1 {
			l.t.Errorf("watcher %d was closed %d times", i, w.closed)
		}
	}
}

func fns(names ...string) []*plan.Target {
	var targets []*plan.Target
	for _, name := range names {
		targets = append(targets, &plan.Target{Func: name})
	}
	return targets
}

// TestLearningMass: functions are added while others are watched, until nothing is
// new for some calls, and for some time.
func TestLearningMass(t *testing.T) {
	l := newLesson(t, true)
	l.watched = [][]int{make([]int, 100)}
	l.found.next = [][]*plan.Target{fns("f", "g"), nil}
	if !l.Waits() {
		t.Error("it has begun")
	}
	l.roots(1)
	l.begin()
	l.is(learningOn)
	if l.Waits() {
		t.Error("it has not begun")
	}
	l.Seen(3, 1)
	l.Seen(3, 1)
	l.roots(2)
	if got := l.after(learningBatch - 1); got != nil || l.found.settled != 0 {
		t.Errorf("%d targets, settled %d times", len(got), l.found.settled)
	}
	if got := l.after(1); len(got) != 2 {
		t.Errorf("%d targets", len(got))
	}
	l.is(learningOn)
	l.Seen(4, 1) // which brings nothing
	l.after(learningBatch)
	if calls, functions := l.Count(); calls != 2 || functions != 2 {
		t.Errorf("%d calls, %d functions", calls, functions)
	}
	l.roots(learningQuiet - 1)
	l.after(learningQuietTime)
	l.is(learningOn)
	l.roots(1)
	l.after(0)
	l.is(learningIsOver)
	if diff := cmp.Diff([]string{"f", "g"}, l.attached); diff != "" {
		t.Errorf("attached (-want +got)\n%s", diff)
	}
	if len(l.watchers) != 1 || l.watchers[0].polls == 0 || l.found.settled != 2 {
		t.Errorf("%d watchers, %d polls, settled %d times", len(l.watchers), l.watchers[0].polls, l.found.settled)
	}
	l.roots(1)
	l.after(time.Hour)
	l.is(learningIsOver)
	l.ends()
}

// TestLearningRounds: where watching ends before functions are added, it begins
// again, until a round brings none.
func TestLearningRounds(t *testing.T) {
	for name, test := range map[string]struct {
		next     [][]*plan.Target
		rounds   int
		attached []string
	}{
		"nothing":        {nil, 1, nil},
		"one round":      {[][]*plan.Target{fns("f")}, 2, []string{"f"}},
		"as many rounds": {[][]*plan.Target{fns("f"), fns("g"), fns("h"), fns("i"), fns("j")}, learningRounds, []string{"f", "g", "h", "i"}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLesson(t, false)
			for range test.rounds {
				l.watched = append(l.watched, []int{3, 0})
			}
			l.found.next = test.next
			l.begin()
			for range test.rounds {
				l.is(learningOn)
				l.roots(1) // which is new
				l.after(learningBatch)
				l.is(learningOn)
				l.roots(1) // which is not
				l.roots(1) // which isn't watched
				l.after(0)
				for l.work != nil {
					l.rest()
				}
			}
			l.is(learningIsOver)
			if len(l.watchers) != test.rounds {
				t.Errorf("%d rounds, want %d", len(l.watchers), test.rounds)
			}
			if diff := cmp.Diff(test.attached, l.attached); diff != "" {
				t.Errorf("attached (-want +got)\n%s", diff)
			}
			if calls, functions := l.Count(); calls != 2*test.rounds || functions != len(test.attached) {
				t.Errorf("%d calls, %d functions", calls, functions)
			}
			l.ends()
		})
	}
}

// TestLearningEarly: what is seen before the watcher is ready counts.
func TestLearningEarly(t *testing.T) {
	l := newLesson(t, true)
	l.Begin()
	l.Seen(1, 2)
	l.Seen(5, 6)
	if l.found.pointed != nil {
		t.Error("passed on while functions are listed")
	}
	l.rest()
	if diff := cmp.Diff([]string{"1/2", "5/6"}, l.found.pointed); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	l.found.next = [][]*plan.Target{fns("f")}
	if got := l.after(learningBatch); len(got) != 1 {
		t.Errorf("%d targets", len(got))
	}
	l.ends()
}

func TestLearningUnable(t *testing.T) {
	l := newLesson(t, true)
	l.openErr = errors.New("the kernel refuses it")
	l.begin()
	if l.state != learningIsOver || l.Err() == nil || l.Err().Error() != "watch calls: the kernel refuses it" {
		t.Errorf("state %v: %v", l.state, l.Err())
	}
	l.roots(1)
	l.after(time.Hour)
	l.ends()
}

// TestLearningLimit: watching takes no longer than it may, and what is new at its
// end is added.
func TestLearningLimit(t *testing.T) {
	for _, isMass := range []bool{true, false} {
		for _, news := range []int{0, 1} {
			l := newLesson(t, isMass)
			l.watched = [][]int{slices.Repeat([]int{news}, 1000)}
			l.found.next = [][]*plan.Target{fns("f")}
			l.begin()
			for range 600 { // something comes each time before it is quiet for long enough
				l.roots(news)
				l.after(learningLimit / 600)
				l.is(learningOn)
			}
			if len(l.attached) != 0 {
				t.Errorf("mass %v, news %d: attached %v", isMass, news, l.attached)
			}
			l.roots(news)
			l.after(1)
			l.is(learningIsOver)
			if len(l.attached) != news {
				t.Errorf("mass %v, news %d: attached %v", isMass, news, l.attached)
			}
			l.ends()
		}
	}
}

// TestLearningClosed ends in the middle of each state.
func TestLearningClosed(t *testing.T) {
	for name, run := range map[string]func(*lesson){
		"waits":    func(*lesson) {},
		"opens":    func(l *lesson) { l.Begin() },
		"on":       func(l *lesson) { l.begin() },
		"is over":  func(l *lesson) { l.openErr = errors.New("no"); l.begin() },
		"has news": func(l *lesson) { l.begin(); l.Seen(1, 1); l.roots(2) },
		"found": func(l *lesson) { // and the output was not told
			l.begin()
			l.Seen(1, 1)
			l.roots(2)
			l.clock = l.clock.Add(learningBatch)
			if targets, err := l.Poll(); targets != nil || err != nil {
				l.t.Errorf("%v, %v", targets, err)
			}
		},
	} {
		for _, isMass := range []bool{true, false} {
			t.Run(fmt.Sprint(name, " mass=", isMass), func(t *testing.T) {
				l := newLesson(t, isMass)
				l.watched = [][]int{{1, 0}}
				l.found.next = [][]*plan.Target{fns("f")}
				run(l)
				l.ends()
				if l.attached != nil {
					t.Errorf("attached %v, which the output doesn't know", l.attached)
				}
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestLearningFails: what fails beside comes out of Poll, or of Close.
func TestLearningFails(t *testing.T) {
	fails := errors.New("it fails")
	for name, set := range map[string]func(*lesson){
		"finding":   func(l *lesson) { l.found.failing = fails },
		"attaching": func(l *lesson) { l.extendErr = fails },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLesson(t, true)
			l.found.next = [][]*plan.Target{fns("f")}
			set(l)
			l.begin()
			l.Seen(1, 1)
			l.clock = l.clock.Add(learningBatch)
			var err error
			for deadline := time.Now().Add(10 * time.Second); err == nil && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
				var targets []*plan.Target
				if targets, err = l.Poll(); len(targets) > 0 {
					l.Go()
				}
			}
			if !errors.Is(err, fails) {
				t.Errorf("%v", err)
			}
			if _, functions := l.Count(); functions != 0 {
				t.Errorf("%d functions were added", functions)
			}
			l.ends()
		})
	}
	t.Run("closing", func(t *testing.T) {
		l := newLesson(t, true)
		l.begin()
		l.watchers[0].failing = fails
		if err := l.Close(); !errors.Is(err, fails) {
			t.Errorf("%v", err)
		}
	})
}
