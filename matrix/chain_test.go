package matrix

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// modes are all that -m takes, and its default.
var modes = []string{"", "entry", "exit", "entry,exit"}

func modeName(mode string) string {
	if mode == "" {
		return "call"
	}
	return mode
}

func modeArgs(mode string, args ...string) []string {
	if mode != "" {
		args = append([]string{"-m", mode}, args...) // in front of a command
	}
	return args
}

// chainSet are the kernel's own chains, by function and the name of the task: a
// call that the kernel put off to another task (ksoftirqd) has another chain.
type chainSet map[string][]hit

func chainSetOf(hits []hit) chainSet {
	set := chainSet{}
	for _, h := range hits {
		key := h.Func + " in " + h.Comm
		if !slices.ContainsFunc(set[key], func(have hit) bool { return slices.Equal(have.Chain, h.Chain) }) {
			set[key] = append(set[key], h)
		}
	}
	return set
}

// interruptEntry are the frames between what was interrupted and the interrupt.
var interruptEntry = regexp.MustCompile(`^(asm_sysvec_|asm_common_interrupt|el1h?_(64_)?irq)`)

// compare checks that the stack of each event in the worker's context is one of
// the kernel's own, and returns how many events that were. Now and then an
// interrupt finds that it can serve what the worker was about to: such chains
// are left out, and must be few.
func (set chainSet) compare(t *testing.T, events []event) (compared int) {
	t.Helper()
	bad, interrupted := 0, 0
	for _, e := range events {
		want := set[e.Func+" in "+workerName]
		if e.Comm != workerName {
			continue
		}
		compared++
		chain := e.chain()
		if slices.ContainsFunc(chain, interruptEntry.MatchString) {
			interrupted++
			continue
		}
		if e.Truncated || !slices.ContainsFunc(want, func(h hit) bool { return slices.Equal(h.Chain, chain) }) {
			bad++
			if bad == 1 && len(want) > 0 {
				t.Errorf("%s %d of %s, truncated %v, is none of %d true ones; to the first (-true +shown)\n%s",
					e.Event, e.ID, e.Func, e.Truncated, len(want), diffOf(want[0].Chain, chain))
			} else if bad == 1 {
				t.Errorf("%s %d of %s: the kernel itself saw no call: %v", e.Event, e.ID, e.Func, chain)
			}
		}
	}
	if bad > 1 {
		t.Errorf("%d of %d chains are wrong", bad, compared)
	}
	if interrupted > 2+compared/10 {
		t.Errorf("%d of %d chains go through an interrupt", interrupted, compared)
	}
	return compared
}

// compareAll also checks that there are at least so many events, and that nearly
// all of them could be compared.
func (set chainSet) compareAll(t *testing.T, events []event, atLeast int) {
	t.Helper()
	if n := set.compare(t, events); len(events) < atLeast || n < atLeast-elsewhere(atLeast) {
		t.Errorf("%d of %d events are the worker's, want %d at least", n, len(events), atLeast)
	}
}

// elsewhere is how many of so many calls may be in another task: one that an
// interrupt hit while the worker's packets waited, or ksoftirqd.
func elsewhere(calls int) int { return 1 + calls/10 }

// chainCase is functions of which none calls another, and a work that calls each
// so often.
type chainCase struct {
	functions []string
	work      func()
	calls     int
}

func chainCases(t *testing.T) map[string]chainCase {
	const calls = 6
	icmp, reuse, wait := echo(t, calls/icmpPerEcho), setReuse(t, calls), pollNothing(t, calls)
	return map[string]chainCase{
		"icmp_rcv and struct by value": {[]string{"icmp_rcv", structFunction(t)}, func() { icmp(); reuse() }, calls},
		"static and blocking":          {[]string{staticFunction(t), "do_sys_poll"}, func() { icmp(); wait() }, calls},
		"nine words":                   {[]string{"ip_append_data"}, icmp, calls},
	}
}

// TestGuestChains compares chains with the kernel's own, taken before.
func TestGuestChains(t *testing.T) {
	inGuest(t)
	warmUp(t)
	for name, c := range chainCases(t) {
		t.Run(name, func(t *testing.T) {
			set := chainSetOf(truthOf(t, c.work, c.functions...))
			for _, mode := range modes {
				t.Run(modeName(mode), func(t *testing.T) { testChains(t, c, set, mode) })
			}
		})
	}
}

func testChains(t *testing.T, c chainCase, set chainSet, mode string) {
	var traced []string
	for _, function := range c.functions {
		if !refused(t, function) {
			traced = append(traced, function)
		}
	}
	if len(traced) == 0 {
		return
	}
	o := traceDuring(t, c.work, modeArgs(mode, "-k", strings.Join(traced, ","), "--output-stack")...)
	if o.End.Lost+o.End.RecursionMisses > 0 || len(o.End.Skipped) > 0 {
		t.Errorf("lost some: %+v", o.End)
	}
	for _, kind := range eventsOf(mode) {
		for _, function := range traced {
			set.compareAll(t, o.of(kind, function), c.calls)
			checkAddresses(t, o.of(kind, function))
		}
	}
}

// limits are functions that trampolines don't take on every kernel.
type limit struct {
	what   string // about the function
	takes  bool   // this kernel's do
	reason string // why not
}

func limits(t *testing.T) map[string]limit {
	amd64 := runtime.GOARCH == "amd64"
	return map[string]limit{
		// 473e3150e30a for x86, 9014cf56f13d for arm64.
		"ip_append_data": {"nine words", amd64 && kernelFrom(6, 6) || !amd64 && kernelFrom(6, 16), `^9 argument words, more than the \d that this kernel's trampolines take`},
		// 720e6a435194 lets programs have functions with structs.
		structFunction(t): {"struct by value", kernelFrom(6, 1), `(?i)struct`},
	}
}

// refused tells whether this kernel has no trampoline for a function.
func refused(t *testing.T, function string) bool {
	l, ok := limits(t)[function]
	return ok && !l.takes
}

// TestGuestRefused checks that what this kernel does not take is listed, with
// the reason, and ends the run where nothing else was asked for.
func TestGuestRefused(t *testing.T) {
	inGuest(t)
	for function, l := range limits(t) {
		t.Run(l.what, func(t *testing.T) {
			o, _ := runJSON(t, 0, "-k", function+",icmp_rcv", "--", "true")
			reason, ok := o.End.skipped(function)
			if l.takes {
				if ok {
					t.Errorf("skipped: %s", reason)
				}
				return
			}
			if !ok || !regexp.MustCompile(l.reason).MatchString(reason) {
				t.Errorf("skipped %v, reason %q, want %s", ok, reason, l.reason)
			}
			res := run(t, "-k", function, "--json", "--", "true")
			if res.Status != 1 || !strings.Contains(res.Stderr, "not traced: "+function+": "+reason) {
				t.Errorf("alone: status %d, stderr %s", res.Status, res.Stderr)
			}
		})
	}
}

// checkAddresses checks that each frame's address is its offset behind its
// function.
func checkAddresses(t *testing.T, events []event) {
	t.Helper()
	for _, e := range events {
		for i, f := range e.Stack {
			var addr uint64
			if _, err := fmt.Sscanf(f.Addr, "0x%x", &addr); err != nil || !slices.Contains(addresses()[f.Func], addr-f.Offset) {
				t.Fatalf("frame %d of %s: %+v is not where %s is", i, e.Func, f, f.Func)
			}
		}
	}
}

// staticFunction returns a static function that echo requests pass through and
// that has no endbr: its patch site is at its first byte. Debian's kernels that
// don't list the sites yet (before 6.5) are built without endbr.
func staticFunction(t *testing.T) string {
	t.Helper()
	sites, haveSites := patchSites(t)
	for _, name := range []string{"__netif_receive_skb_one_core", "__napi_poll", "ip_finish_output2", "process_backlog", "__ip_append_data"} {
		found := functions("^" + name + "$")
		if len(found) != 1 || found[0].Type != 't' {
			continue
		}
		if !haveSites || runtime.GOARCH != "amd64" || slices.Contains(sites[name], found[0].Addr) {
			return name
		}
	}
	t.Fatal("the kernel has no static function without endbr on the way of an echo request")
	return ""
}

// patchSites returns where ftrace patches functions, by name, if the kernel tells.
func patchSites(t *testing.T) (map[string][]uint64, bool) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(tracefs, "available_filter_functions_addrs"))
	if os.IsNotExist(err) {
		return nil, false
	}
	if err != nil {
		t.Fatal(err)
	}
	sites := map[string][]uint64{}
	for line := range strings.Lines(string(raw)) {
		var addr uint64
		var name string
		if n, _ := fmt.Sscanf(line, "%x %s", &addr, &name); n == 2 {
			sites[name] = append(sites[name], addr)
		}
	}
	return sites, true
}

// structFunction returns a function on the way of setsockopt(2) that takes its
// sockptr_t by value.
func structFunction(t *testing.T) string {
	t.Helper()
	name := findStructFunction()
	if name == "" {
		t.Fatal("no function of setsockopt(2) takes a struct by value")
	}
	return name
}

var findStructFunction = sync.OnceValue(func() string {
	candidates := slices.DeleteFunc([]string{"sk_setsockopt", "do_sock_setsockopt", "sock_setsockopt", "ip_setsockopt"},
		func(name string) bool { return len(functions("^"+name+"$")) != 1 })
	list, err := exec.Command(tracePath, append([]string{"list"}, candidates...)...).Output()
	if err != nil {
		return ""
	}
	for _, name := range candidates {
		for line := range strings.Lines(string(list)) {
			if strings.Contains(line, " "+name+"(") && strings.Contains(line, " sockptr_t ") {
				return name
			}
		}
	}
	return ""
})

// TestGuestChainsMeanwhile compares each chain with the one that the kernel takes
// of the same call.
func TestGuestChainsMeanwhile(t *testing.T) {
	inGuest(t)
	warmUp(t)
	for _, mode := range modes {
		t.Run(modeName(mode), func(t *testing.T) {
			w := watchTruth(t, "icmp_rcv")
			o := traceDuring(t, echo(t, 20), modeArgs(mode, "-k", "icmp_rcv", "--output-stack")...)
			hits := w.hits()
			w.stop()
			for _, kind := range eventsOf(mode) {
				events := o.of(kind, "icmp_rcv")
				if len(events) != len(hits) || len(events) != icmpPerEcho*20 {
					t.Fatalf("%d %s events, the kernel saw %d calls, want %d", len(events), kind, len(hits), icmpPerEcho*20)
				}
				for i, e := range events {
					if diff := diffOf(hits[i].Chain, e.chainLike(hits[i].Chain)); diff != "" || e.TID != hits[i].PID {
						t.Fatalf("%s %d of %d in %d, the kernel's in %d (-true +shown)\n%s", kind, i, e.ID, e.TID, hits[i].PID, diff)
					}
				}
			}
		})
	}
}

// TestGuestVariadic checks that a function that can't be traced is listed.
func TestGuestVariadic(t *testing.T) {
	inGuest(t)
	name := firstFunction(t, "_printk", "printk")
	o := traceDuring(t, echo(t, 1), "-k", name+",icmp_rcv")
	reason, ok := o.End.skipped(name)
	if !ok || !strings.Contains(reason, "variadic") {
		t.Errorf("%s: skipped %v, reason %q", name, ok, reason)
	}
	if len(o.of("call", "icmp_rcv")) != icmpPerEcho {
		t.Errorf("%d calls of icmp_rcv", len(o.Events))
	}
}

// TestGuestRawStack checks that -v shows what the kernel gave: the program and
// its trampoline, which the chain has not.
func TestGuestRawStack(t *testing.T) {
	inGuest(t)
	r := startCommand(t, traceCommand("-k", "icmp_rcv", "--output-stack", "-v", "--", "ping", "-c", "1", "127.0.0.1"))
	res := r.wait()
	if res.Status != 0 {
		t.Fatalf("status %d: %s", res.Status, r.describe())
	}
	for _, want := range []string{"bpf_prog_", "bpf_trampoline_", "ip_protocol_deliver_rcu"} {
		if !bytes.Contains([]byte(res.Stdout), []byte(want)) {
			t.Errorf("no %s in\n%s", want, tail(res.Stdout))
		}
	}
}
