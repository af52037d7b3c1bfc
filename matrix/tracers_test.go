package matrix

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestGuestSecondTracer checks a trace while other traces of the same function
// come and go: each attach makes a new trampoline, and from 6.19 the first exit
// makes one that leaves no trace of the function on the stack, for all.
func TestGuestSecondTracer(t *testing.T) {
	inGuest(t)
	warmUp(t)
	set := chainSetOf(truthOf(t, echo(t, 10), "icmp_rcv"))
	for i, mode := range modes {
		if !inShare(t, i) {
			continue
		}
		t.Run(modeName(mode), func(t *testing.T) {
			first := startTrace(t, modeArgs(mode, "-k", "icmp_rcv", "--output-stack", "--buffer-size", "64M")...)
			e := startEchoing(t)
			e.more(t, 15)
			for _, second := range []string{"entry,exit", "entry"} {
				other := startTrace(t, "-k", "icmp_rcv", "--output-stack", "-m", second)
				e.more(t, 15)
				o := other.stop()
				e.more(t, 15)
				for _, kind := range eventsOf(second) {
					set.compareAll(t, o.of(kind, "icmp_rcv"), icmpPerEcho*14)
				}
			}
			sent := e.end()
			o := first.stop()
			for _, kind := range eventsOf(mode) {
				events := o.of(kind, "icmp_rcv")
				if want := icmpPerEcho * sent; len(events) != want || o.End.Lost != 0 {
					t.Errorf("%d %s events of %d calls; %+v", len(events), kind, want, o.End)
				}
				set.compareAll(t, events, icmpPerEcho*70)
			}
		})
	}
}

// onePath are functions that an echo request passes through, innermost first.
func onePath(t *testing.T) []string {
	var have []string
	for _, name := range []string{"icmp_rcv", "ip_protocol_deliver_rcu", "ip_local_deliver_finish", "__netif_receive_skb_one_core", "process_backlog"} {
		if len(functions("^"+name+"$")) == 1 {
			have = append(have, name)
		}
	}
	if len(have) < 3 {
		t.Fatalf("the kernel has only %v", have)
	}
	return have
}

const echoesPerPath = 5

// TestGuestPath traces several functions of one chain at once.
func TestGuestPath(t *testing.T) {
	inGuest(t)
	warmUp(t)
	path := onePath(t)
	set := chainSetOf(truthOf(t, echo(t, echoesPerPath), path...))
	for _, mode := range modes {
		t.Run(modeName(mode), func(t *testing.T) {
			o := traceDuring(t, echo(t, echoesPerPath), modeArgs(mode, "-k", strings.Join(path, ","), "--output-stack")...)
			if o.Start.Targets != len(path) {
				t.Errorf("%d targets of %d; %+v", o.Start.Targets, len(path), o.End.Skipped)
			}
			for _, kind := range eventsOf(mode) {
				for _, name := range path {
					// One call of process_backlog may serve both packets.
					set.compareAll(t, o.of(kind, name), echoesPerPath)
				}
			}
		})
	}
}

// returnHooks are where chains end that the kernel cut: at what stands for a
// return address that a tracer has replaced.
var returnHooks = regexp.MustCompile(`^(return_to_handler|arch_rethook_trampoline|__kretprobe_trampoline|kretprobe_trampoline)(\+0x[0-9a-f]+)?$`)

// compareCut is compare where the kernel may have cut chains: those are marked,
// and are true as far as they go.
func (set chainSet) compareCut(t *testing.T, events []event) (compared, cut int) {
	t.Helper()
	var whole []event
	for _, e := range events {
		chain := e.chain()
		if last := len(chain) - 1; e.Comm != workerName || last < 0 || !returnHooks.MatchString(chain[last]) {
			whole = append(whole, e)
			continue
		}
		cut++
		known := chain[:len(chain)-1]
		if !e.Truncated || !slices.ContainsFunc(set[e.Func+" in "+e.Comm], func(h hit) bool { return slices.Equal(h.Chain[:len(known)], known) }) {
			t.Errorf("%s %d of %s is cut, truncated %v, and shows %v", e.Event, e.ID, e.Func, e.Truncated, chain)
		}
	}
	return set.compare(t, whole), cut
}

// TestGuestOtherTracers has the kernel's own tracers on the function that is
// traced, first before and then after trace attaches.
func TestGuestOtherTracers(t *testing.T) {
	inGuest(t)
	warmUp(t)
	set := chainSetOf(truthOf(t, echo(t, 10), "icmp_rcv"))
	graph := func(t *testing.T) (on, off func()) {
		set := func(file, text string) {
			if err := os.WriteFile(filepath.Join(tracefs, file), []byte(text+"\n"), 0); err != nil {
				t.Error(err)
			}
		}
		// Without a filter each switch patches all functions: 4 s, emulated.
		return func() {
				set("set_ftrace_filter", strings.Join(onePath(t), "\n"))
				set("current_tracer", "function_graph")
			},
			func() { set("current_tracer", "nop"); set("set_ftrace_filter", "") }
	}
	probe := func(kind string) func(t *testing.T) (on, off func()) {
		return func(t *testing.T) (on, off func()) {
			var p probes
			return func() { p = addProbes(t, "matrix", kind, "icmp_rcv"); p.enable("1") },
				func() { p.enable("0"); p.remove() }
		}
	}
	kretprobe, kprobe := probe("r"), probe("p")
	for i, test := range []struct {
		name    string
		tracers []func(t *testing.T) (on, off func())
	}{
		{"function_graph", []func(t *testing.T) (on, off func()){graph}},
		{"kretprobe", []func(t *testing.T) (on, off func()){kretprobe}},
		{"kprobe", []func(t *testing.T) (on, off func()){kprobe}},
		{"both", []func(t *testing.T) (on, off func()){graph, kretprobe}},
	} {
		tracers := test.tracers
		if !inShare(t, i) {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			// The modes with exits differ in what they print.
			for _, mode := range []string{"entry,exit", "entry"} {
				t.Run(modeName(mode), func(t *testing.T) {
					var on, off []func()
					for _, tracer := range tracers {
						n, f := tracer(t)
						on, off = append(on, n), append([]func(){f}, off...)
					}
					all := func(steps []func()) {
						for _, step := range steps {
							step()
						}
					}
					all(on)
					r := startTrace(t, modeArgs(mode, "-k", "icmp_rcv", "--output-stack")...)
					echo(t, 5)()
					all(off)
					echo(t, 5)()
					all(on)
					echo(t, 5)()
					o := r.stop()
					all(off)
					for _, kind := range eventsOf(mode) {
						events := o.of(kind, "icmp_rcv")
						compared, cut := set.compareCut(t, events)
						const calls = icmpPerEcho * 15
						if len(events) < calls || compared+cut < calls-elsewhere(calls) {
							t.Errorf("%d whole and %d cut chains of %d %s events; %+v", compared, cut, len(events), kind, o.End)
						}
						if compared < icmpPerEcho*5-elsewhere(icmpPerEcho*5) {
							t.Errorf("%d chains are whole, also without another tracer they were %d", compared, icmpPerEcho*5)
						}
						if cut > 0 {
							t.Logf("%s: %d chains are whole, %d cut by the kernel", kind, compared, cut)
						}
					}
				})
			}
		})
	}
}
