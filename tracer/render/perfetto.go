package render

import (
	"fmt"
	"time"

	"fgtrace/btfx"
	"fgtrace/internal/digits"
	"fgtrace/tracer/calls"
	"fgtrace/tracer/plan"
)

// Perfetto writes the JSON trace events that ui.perfetto.dev opens: each call
// on the track of its task. docs/formats.md describes them.
//
// It is the format's array of events, not its object: of that one only can the
// end be missing, as it is when the tracer was killed.
type Perfetto struct {
	targets []perfettoTarget    // by index in the plan
	text    *Text               // spells values
	tracks  map[track]trackName // those that have been named
	last    uint64              // ns, the latest time so far
	value   []byte
}

// perfettoTarget holds the parts of a target's events that are always the same.
type perfettoTarget struct {
	name   []byte // `{"name":...,"cat":"`
	module []byte // `,"module":...`
	params [][]byte
}

// track is a row of the timeline. Events of one must nest, or readers drop
// them: those of a task do.
type track struct{ pid, tid uint32 }

// trackName is the name that a task had when it was seen last.
type trackName [16]byte

// idleTrack is the thread of the track that the idle task of CPU 0 has, and
// those of the others follow. All idle tasks are thread 0, and would overlap. No
// thread's number is as high: the kernel's PID_MAX_LIMIT is 4194304.
const idleTrack = 10_000_000

// maxTracks is how many tracks are remembered. Naming one again does no harm.
const maxTracks = 1 << 16

func trackOf(c *calls.Call) track {
	if c.Tid == 0 {
		return track{tid: idleTrack + uint32(c.CPU)}
	}
	return track{c.Pid, c.Tid}
}

// NewPerfetto returns a renderer for the targets of a plan.
func NewPerfetto(targets []*plan.Target, syms btfx.Symbols) *Perfetto {
	p := &Perfetto{
		text:   NewText(targets, syms, TextOptions{Location: time.UTC}),
		tracks: make(map[track]trackName),
	}
	p.grow(targets)
	return p
}

// Grow implements Renderer.
func (p *Perfetto) Grow(targets []*plan.Target) {
	p.text.Grow(targets)
	p.grow(targets)
}

func (p *Perfetto) grow(targets []*plan.Target) {
	for _, t := range targets {
		pt := perfettoTarget{
			name:   append(btfx.AppendJSONString([]byte(`{"name":`), displayName(t.Func)), `,"cat":"`...),
			module: btfx.AppendJSONString([]byte(`,"module":`), moduleName(t.Module)),
		}
		for i, param := range t.Params {
			key := []byte{','}
			if i == 0 {
				key = nil
			}
			pt.params = append(pt.params, append(btfx.AppendJSONString(key, param.Name), ':'))
		}
		p.targets = append(p.targets, pt)
	}
}

// AppendStart implements Renderer.
func (p *Perfetto) AppendStart(dst []byte, s *Start) []byte {
	dst = append(dst, `[{"name":"trace_start","ph":"M","pid":0,"args":`...)
	dst = appendObject(dst, struct {
		Kernel         string   `json:"kernel"`
		Arch           string   `json:"arch"`
		Version        string   `json:"version"`
		Argv           []string `json:"argv"`
		Clock          string   `json:"clock"`
		RealtimeOffset int64    `json:"realtime_offset_ns"`
	}{s.Kernel, s.Arch, s.Version, s.Argv, "CLOCK_MONOTONIC", s.RealtimeOffset})
	return append(dst[:len(dst)-1], '}')
}

// AppendEnd implements Renderer.
func (p *Perfetto) AppendEnd(dst []byte, e *End) []byte {
	skipped, losses := []string{}, []string{}
	for _, s := range e.Skipped {
		skipped = append(skipped, s.Func+" ["+moduleName(s.Module)+"]: "+s.Reason)
	}
	for _, l := range e.PerTarget {
		losses = append(losses, fmt.Sprintf("%s [%s]: %d entries, %d exits lost, %d recursion misses, %d undecoded",
			l.Target.Func, moduleName(l.Target.Module), l.LostEntries, l.LostExits, l.RecursionMisses, l.Undecoded))
	}
	dst = append(dst, ",\n"...)
	dst = append(dst, `{"name":"trace_end","cat":"trace","ph":"i","s":"g","ts":`...)
	dst = appendMicroseconds(dst, p.last)
	dst = append(dst, `,"pid":0,"tid":0,"args":`...)
	dst = appendObject(dst, struct {
		counts
		Targets []string `json:"targets"`
		Skipped []string `json:"skipped"`
	}{countsOf(e), losses, skipped})
	return append(dst[:len(dst)-1], "}\n]\n"...)
}

// AppendEvent implements Renderer.
func (p *Perfetto) AppendEvent(dst []byte, e *Event) []byte {
	if !e.isNode() {
		return dst
	}
	c := e.Call
	at := trackOf(c)
	if name, ok := p.tracks[at]; !ok || name != c.Comm {
		if len(p.tracks) >= maxTracks {
			clear(p.tracks)
		}
		p.tracks[at] = c.Comm
		dst = p.appendTrack(dst, at, c)
	}
	t := &p.targets[c.Target]
	end := endOf(c)
	p.last = max(p.last, end)

	dst = append(dst, ",\n"...)
	dst = append(dst, t.name...)
	dst = append(dst, c.Node.Context.String()...)
	dst = append(dst, `","ph":"X","ts":`...)
	dst = appendMicroseconds(dst, c.Entry)
	dst = append(dst, `,"dur":`...)
	dst = appendMicroseconds(dst, end-c.Entry)
	dst = appendTrackID(dst, at)
	dst = append(dst, `,"args":{"args":{`...)
	if c.Entered {
		dst = p.appendArgs(dst, t, c)
	}
	dst = append(dst, '}')
	if c.Node.End == calls.Returned {
		dst = append(dst, `,"retval":`...)
		p.text.line.begin(p.value[:0])
		p.text.result(&p.text.targets[c.Target].result, c)
		dst = p.appendValue(dst)
		dst = appendNumber(dst, `,"own_ns":`, c.Own())
	}
	dst = append(dst, perfettoEnds[c.Node.End]...)
	dst = append(dst, `,"context":"`...)
	dst = append(dst, c.Node.Context.String()...)
	dst = appendNumber(dst, `","cpu":`, uint64(c.CPU))
	dst = append(dst, t.module...)
	dst = appendNumber(dst, `,"id":`, c.ID)
	dst = appendNumber(dst, `,"parent":`, c.Node.Parent)
	return append(dst, "}}"...)
}

// perfettoEnds is what an event says of a node's end, by that.
var perfettoEnds = [...]string{calls.Returned: "", calls.ExitLost: `,"end":"exit lost"`, calls.Running: `,"end":"running"`}

// roundingError is by how many ns readers can move an end: those that multiply
// floating-point microseconds by 1000 and truncate, as Perfetto does, make some
// durations a ns too short.
const roundingError = 1

// endOf returns where an event ends. Nodes that have not returned end at once
// when that is found out, and so far apart that no reader sees them overlap.
func endOf(c *calls.Call) uint64 {
	if c.Node.End == calls.Returned {
		return max(c.Entry, c.Exit)
	}
	return max(c.Entry, c.Exit-min(c.Exit, roundingError*uint64(c.Node.Depth)))
}

// appendArgs appends the arguments as text has them.
func (p *Perfetto) appendArgs(dst []byte, t *perfettoTarget, c *calls.Call) []byte {
	params := p.text.targets[c.Target].params
	for i := range params {
		param := &params[i].param
		dst = append(dst, t.params[i]...)
		p.text.line.begin(p.value[:0])
		if param.form == asLong {
			p.text.longArg(param, c)
		} else {
			p.text.word(param.form, param.layout, param.word(c))
		}
		dst = p.appendValue(dst)
	}
	return dst
}

// appendValue appends what text has spelled, as a string.
func (p *Perfetto) appendValue(dst []byte) []byte {
	p.value = p.text.line.end()
	return btfx.AppendJSONString(dst, p.value)
}

// appendTrack appends the events that name a track and its process.
func (p *Perfetto) appendTrack(dst []byte, at track, c *calls.Call) []byte {
	comm := appendPrintable(nil, untilNUL(c.Comm[:]))
	switch c.Tid {
	case 0:
		dst = appendName(dst, `{"name":"process_name"`, at, []byte("idle"))
	case c.Pid:
		dst = appendName(dst, `{"name":"process_name"`, at, comm)
	}
	name := digits.AppendUint(append(comm, '/'), uint64(c.Tid))
	if c.Tid == 0 {
		name = digits.AppendUint(append(name, " CPU "...), uint64(c.CPU))
	}
	return appendName(dst, `{"name":"thread_name"`, at, name)
}

func appendName(dst []byte, what string, at track, name []byte) []byte {
	dst = append(dst, ",\n"...)
	dst = append(dst, what...)
	dst = append(dst, `,"ph":"M"`...)
	dst = appendTrackID(dst, at)
	dst = append(dst, `,"args":{"name":`...)
	dst = btfx.AppendJSONString(dst, name)
	return append(dst, "}}"...)
}

func appendTrackID(dst []byte, at track) []byte {
	dst = appendNumber(dst, `,"pid":`, uint64(at.pid))
	return appendNumber(dst, `,"tid":`, uint64(at.tid))
}

func appendNumber(dst []byte, name string, v uint64) []byte {
	return digits.AppendUint(append(dst, name...), v)
}

// appendMicroseconds appends ns as the format has times.
func appendMicroseconds(dst []byte, ns uint64) []byte {
	dst = digits.AppendUint(dst, ns/1000)
	return append(dst, '.', byte('0'+ns/100%10), byte('0'+ns/10%10), byte('0'+ns%10))
}
