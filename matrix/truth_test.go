package matrix

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"fgtrace/internal/kallsyms"
)

// hit is a call as the kernel's own tracing shows it.
type hit struct {
	Func  string
	Comm  string
	PID   int           // the thread's
	Time  time.Duration // CLOCK_MONOTONIC
	Chain []string      // the function, then its callers as "func+0x1d", "func+0x1d [module]"
}

const tracefs = "/sys/kernel/tracing"

// truth takes the kernel's own stacks of functions, in a buffer of its own: by
// kprobes with the stacktrace trigger. Those of arm64 lack the caller, as the
// function has not saved its link register yet, so there it is the function
// tracer with func_stack_trace, which has it.
type truth struct {
	t      *testing.T
	dir    string
	funcs  []string
	probes probes
}

func watchTruth(t *testing.T, funcs ...string) *truth {
	t.Helper()
	w := &truth{t: t, dir: filepath.Join(tracefs, "instances", "truth"), funcs: funcs}
	if err := os.Mkdir(w.dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	w.set("options/sym-offset", "1")
	w.set("trace_clock", "mono")
	w.set("tracing_on", "1")
	w.set("trace", "")
	if runtime.GOARCH == "arm64" {
		w.set("set_ftrace_filter", strings.Join(funcs, "\n"))
		w.set("current_tracer", "function")
		w.set("options/func_stack_trace", "1")
	} else {
		w.probes = addProbes(t, "truth", "p", funcs...)
		for _, name := range w.probes.names {
			w.set("events/truth/"+name+"/trigger", "stacktrace")
		}
		w.set("events/truth/enable", "1")
	}
	t.Cleanup(w.close)
	return w
}

func (w *truth) set(file, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, file), []byte(text+"\n"), 0); err != nil {
		w.t.Fatal(err)
	}
}

// stop ends taking stacks; hits may be asked for after it.
func (w *truth) stop() {
	w.t.Helper()
	if w.funcs == nil {
		return
	}
	if runtime.GOARCH == "arm64" {
		w.set("options/func_stack_trace", "0")
		w.set("current_tracer", "nop")
	} else {
		w.set("events/truth/enable", "0")
		for _, name := range w.probes.names {
			w.set("events/truth/"+name+"/trigger", "!stacktrace")
		}
		w.probes.remove()
	}
	w.funcs = nil
}

func (w *truth) close() { w.stop() }

// hits returns the calls since the beginning. None is taken while they are read: the
// kernel may end the text of a buffer early that is written to meanwhile.
func (w *truth) hits() []hit {
	w.t.Helper()
	w.set("tracing_on", "0")
	defer w.set("tracing_on", "1")
	if err := checkOverrun(w.dir); err != nil {
		w.t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(w.dir, "trace"))
	if err != nil {
		w.t.Fatal(err)
	}
	hits, err := parseHits(raw, w.funcs)
	if err != nil {
		w.t.Fatal(err)
	}
	return hits
}

// truthOf returns the calls of functions during a work that nothing else traces.
func truthOf(t *testing.T, work func(), funcs ...string) []hit {
	t.Helper()
	w := watchTruth(t, funcs...)
	work()
	hits := w.hits()
	w.stop()
	for _, f := range funcs {
		if !slices.ContainsFunc(hits, func(h hit) bool { return h.Func == f }) {
			t.Fatalf("the kernel itself saw no call of %s", f)
		}
	}
	return hits
}

var (
	stackPattern = regexp.MustCompile(`^\s*(.*)-(\d+)\s+\[\d+\]\s+\S+\s+(\d+)\.(\d{6}): <stack trace>$`)
	framePattern = regexp.MustCompile(`^ => ([^\s+]+)\+0x([0-9a-f]+)/0x[0-9a-f]+( \[\S+\])?$`)
)

// parseHits parses the text of a trace file. A stack begins with what takes it;
// the first of the functions in it is the one that was called.
func parseHits(raw []byte, funcs []string) ([]hit, error) {
	var hits []hit
	inChain := false
	finish := func() error {
		if n := len(hits); n > 0 && len(hits[n-1].Chain) == 0 {
			return fmt.Errorf("parse stacks: none of %v is in one at %v", funcs, hits[n-1].Time)
		}
		return nil
	}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for lines.Scan() {
		line := lines.Text()
		if strings.Contains(line, "LOST") && strings.HasPrefix(line, "CPU:") {
			return nil, fmt.Errorf("parse stacks: the kernel lost some: %s", line)
		}
		if m := stackPattern.FindStringSubmatch(line); m != nil {
			if err := finish(); err != nil {
				return nil, err
			}
			pid, _ := strconv.Atoi(m[2])
			sec, _ := strconv.Atoi(m[3])
			usec, _ := strconv.Atoi(m[4])
			hits = append(hits, hit{Comm: m[1], PID: pid, Time: time.Duration(sec)*time.Second + time.Duration(usec)*time.Microsecond})
			inChain = false
			continue
		}
		if !strings.HasPrefix(line, " => ") || len(hits) == 0 {
			continue
		}
		h := &hits[len(hits)-1]
		m := framePattern.FindStringSubmatch(line)
		switch {
		case inChain && m == nil:
			h.Chain = append(h.Chain, strings.TrimPrefix(line, " => "))
		case inChain:
			h.Chain = append(h.Chain, m[1]+"+0x"+m[2]+m[3])
		case m != nil && slices.Contains(funcs, m[1]):
			h.Func, h.Chain, inChain = m[1], []string{m[1] + m[3]}, true
		}
	}
	return hits, errors.Join(lines.Err(), finish())
}

// chain spells a stack like the kernel.
func (e event) chain() []string { return e.chainLike(nil) }

// chainLike spells a stack like a chain of the kernel, which names an address when
// its trace is read: one of a trampoline that has gone meanwhile has no name then.
func (e event) chainLike(kernel []string) []string {
	var chain []string
	for i, f := range e.Stack {
		name := f.Func
		if i < len(kernel) && f.Module == kallsyms.ModuleFtrace && kernel[i] == f.Addr {
			chain = append(chain, f.Addr)
			continue
		}
		if name == "" {
			name = f.Addr
		}
		if i > 0 {
			name += fmt.Sprintf("+0x%x", f.Offset)
		}
		if f.Module != "vmlinux" {
			name += " [" + f.Module + "]"
		}
		chain = append(chain, name)
	}
	return chain
}

// probes are kprobe events.
type probes struct {
	t     *testing.T
	group string
	names []string
}

// addProbes makes kprobe events: at the entry ("p") or the return ("r") of
// functions. remove removes them.
func addProbes(t *testing.T, group, kind string, funcs ...string) probes {
	t.Helper()
	p := probes{t: t, group: group}
	for _, f := range funcs {
		name := strings.NewReplacer(".", "_").Replace(f)
		p.write(fmt.Sprintf("%s:%s/%s %s", kind, group, name, f))
		p.names = append(p.names, name)
	}
	return p
}

func (p probes) write(line string) {
	p.t.Helper()
	f, err := os.OpenFile(filepath.Join(tracefs, "kprobe_events"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(line + "\n"); err != nil {
		p.t.Fatalf("%s: %v", line, err)
	}
}

// enable switches the probes on or off in the main buffer.
func (p probes) enable(on string) {
	p.t.Helper()
	for _, name := range p.names {
		path := filepath.Join(tracefs, "events", p.group, name, "enable")
		if err := os.WriteFile(path, []byte(on), 0); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p probes) remove() {
	p.t.Helper()
	for _, name := range p.names {
		p.write("-:" + p.group + "/" + name)
	}
}

const trace5_10 = `# tracer: nop
#           TASK-PID     CPU#  ||||   TIMESTAMP  FUNCTION
#              | |         |   ||||      |         |
        web-1 a-1789     [000] .Ns1     2.892993: icmp: (icmp_rcv+0x0/0x3c0)
        web-1 a-1789     [000] .Ns1     2.894116: <stack trace>
 => kprobe_trace_func+0x1e7/0x2e0
 => icmp_rcv+0x5/0x3c0
 => ip_protocol_deliver_rcu+0x1d4/0x1f0
 => dummy_xmit+0x2/0x10 [dummy]
 => 0xffffffffc028606a
            ping-89      [000] .Ns1     2.896442: icmp: (icmp_rcv+0x0/0x3c0)
            ping-89      [000] .Ns1.   12.000462: <stack trace>
 => 0xffffffffc028606a
 => ip_protocol_deliver_rcu+0x5/0x1f0
 => icmp_rcv+0x7/0x3c0
`

func TestParseHits(t *testing.T) {
	hits, err := parseHits([]byte(trace5_10), []string{"icmp_rcv", "ip_protocol_deliver_rcu"})
	if err != nil {
		t.Fatal(err)
	}
	want := []hit{
		{"icmp_rcv", "web-1 a", 1789, 2894116 * time.Microsecond,
			[]string{"icmp_rcv", "ip_protocol_deliver_rcu+0x1d4", "dummy_xmit+0x2 [dummy]", "0xffffffffc028606a"}},
		{"ip_protocol_deliver_rcu", "ping", 89, 12000462 * time.Microsecond,
			[]string{"ip_protocol_deliver_rcu", "icmp_rcv+0x7"}},
	}
	if diff := diffOf(want, hits); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if _, err := parseHits([]byte(trace5_10), []string{"dummy_xmit"}); err == nil {
		t.Error("no error for a stack without the function")
	}
}
