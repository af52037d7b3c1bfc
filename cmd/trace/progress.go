package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// progress tells what takes so long, once it has taken more than a second.
type progress struct {
	w        io.Writer
	terminal bool
	began    time.Time
	last     time.Time
	shown    bool
	phases   []string // "load 12ms"
	lap      time.Time
}

const progressDelay = time.Second

func newProgress(w io.Writer) *progress {
	f, ok := w.(*os.File)
	now := time.Now()
	return &progress{w: w, terminal: ok && term.IsTerminal(int(f.Fd())), began: now, last: now, lap: now}
}

// step says how far a phase is.
func (p *progress) step(phase string, done, total int) {
	now := time.Now()
	if now.Sub(p.last) < progressDelay {
		return
	}
	p.last = now
	if p.terminal {
		fmt.Fprintf(p.w, "\r\x1b[Ktrace: %s %d/%d", phase, done, total)
		p.shown = true
		return
	}
	fmt.Fprintf(p.w, "trace: %s %d/%d\n", phase, done, total)
}

// done wipes what a terminal shows, and starts the second anew.
func (p *progress) done() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
	p.last = time.Now()
}

// phase ends a phase of the start.
func (p *progress) phase(name string) {
	now := time.Now()
	p.phases = append(p.phases, fmt.Sprintf("%s %v", name, now.Sub(p.lap).Round(100*time.Microsecond)))
	p.lap = now
}

// ready says how long the start took.
func (p *progress) ready() string {
	return fmt.Sprintf("ready after %v (%s)", time.Since(p.began).Round(100*time.Microsecond), strings.Join(p.phases, ", "))
}
