package matrix

import (
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
)

// xdpName is longer than the name that the kernel keeps of a program.
const xdpName = "xdp_that_lets_all_pass"

// xdpRoot is a function that packets of the loopback device pass through, and in
// which the kernel runs its XDP program.
const xdpRoot = "process_backlog"

// attachXDP attaches a program with BTF to the loopback device.
func attachXDP(t *testing.T, insns asm.Instructions) {
	t.Helper()
	ctx := &btf.Struct{Name: "xdp_md", Size: 4, Members: []btf.Member{{Name: "data", Type: &btf.Int{Name: "__u32", Size: 4}}}}
	fn := &btf.Func{
		Name:    xdpName,
		Linkage: btf.GlobalFunc,
		Type: &btf.FuncProto{
			Return: &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed},
			Params: []btf.FuncParam{{Name: "ctx", Type: &btf.Pointer{Target: ctx}}},
		},
	}
	insns[0] = btf.WithFuncMetadata(insns[0].WithSymbol(xdpName), fn)
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: xdpName, Type: ebpf.XDP, License: "GPL", Instructions: insns})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	l, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: lo.Index, Flags: link.XDPGenericMode})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}

// TestGuestGraphPrograms: a BPF program that runs in a graph is a node by its
// name, with what it returned.
func TestGuestGraphPrograms(t *testing.T) {
	inGuest(t)
	const pass = 2 // XDP_PASS
	attachXDP(t, asm.Instructions{asm.Mov.Imm(asm.R0, pass), asm.Return()})
	o := traceDuring(t, echo(t, 5), "-k", xdpRoot, "-g", "--fgraph-max-depth", "8", "--fgraph-include", "*xdp*")
	byID := map[uint64]event{}
	for _, e := range o.of("call", "") {
		byID[e.ID] = e
	}
	found := 0
	for _, e := range o.of("call", xdpName) {
		found++
		outer := byID[e.Parent]
		for outer.Depth > 0 {
			outer = byID[outer.Parent]
		}
		if e.Module != "bpf" || e.Depth == 0 || outer.Func != xdpRoot || outer.TID != e.TID || len(e.Args) != 1 {
			t.Errorf("%+v in %+v", e, outer)
		}
		if verdict, err := e.Retval.integer(); err != nil || verdict != pass {
			t.Errorf("it returned %v: %v", verdict, err)
		}
		if e.Time < outer.Time || e.Time+e.Duration > outer.Time+outer.Duration {
			t.Errorf("%d ns from %d on, of %d from %d on", e.Duration, e.Time, outer.Duration, outer.Time)
		}
	}
	// A request and a reply each; what was left out was counted.
	if found > 10 || found == 0 || uint64(10-found) > o.End.RecursionMisses {
		t.Errorf("%d calls of the program in %d of %s, want 10; %+v", found, len(o.of("call", xdpRoot)), xdpRoot, o.End)
	}
}

// TestGuestGraphTailCalls: a program with a prog array is left alone, and named.
func TestGuestGraphTailCalls(t *testing.T) {
	inGuest(t)
	array, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer array.Close()
	attachXDP(t, asm.Instructions{
		asm.LoadMapPtr(asm.R2, array.FD()),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnTailCall.Call(),
		asm.Mov.Imm(asm.R0, 2),
		asm.Return(),
	})
	o := traceDuring(t, echo(t, 1), "-k", xdpRoot, "-g", "--fgraph-max-depth", "1", "--fgraph-include", "*xdp*", "--no-learn")
	if n := len(o.of("", xdpName)); n > 0 {
		t.Errorf("%d calls of it", n)
	}
	if !slices.ContainsFunc(o.End.Skipped, func(s skip) bool {
		return s.Func == xdpName && s.Module == "bpf" && strings.Contains(s.Reason, "tail calls")
	}) {
		t.Errorf("not told of: %+v", o.End.Skipped)
	}
}

// TestGuestGraphNoReturn: a call that does not return, as its task ends in it, ends
// with the task, and so do the calls around it.
func TestGuestGraphNoReturn(t *testing.T) {
	inGuest(t)
	const root = "do_group_exit"
	child := func() {
		self, err := os.Executable()
		if err != nil {
			t.Error(err)
			return
		}
		if err := exec.Command(self, "-test.run", "^$").Run(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second) // its task goes when nobody can look at it any more
	}
	o := traceDuring(t, child, "-k", root, "-g", "--fgraph-max-depth", "1", "--no-learn", "--fgraph-include", "do_exit")
	ended := map[string]int{}
	for _, e := range o.of("call", "") {
		if e.End == "exit lost" && !e.has("own_ns") {
			ended[e.Func]++
		}
	}
	// One that was left out was counted.
	left := ended[root] - ended["do_exit"]
	if ended["do_exit"] == 0 || left < 0 || uint64(left) > o.End.RecursionMisses {
		t.Errorf("%v ended with their tasks; %+v", ended, o.End)
	}
}

// TestGuestDispatcher: up to 6.0 the kernel patches a function that XDP programs are
// called by, and to trace it then breaks all tracing. Neither what names it nor
// what watches all functions does.
func TestGuestDispatcher(t *testing.T) {
	inGuest(t)
	attachXDP(t, asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()})
	for _, args := range [][]string{
		{"-k", "bpf_dispatcher_xdp_func"},
		{"-k", "bpf_dispatcher_*"},
		{"-k", "icmp_rcv", "-g", "--fgraph-max-depth", "1", "--fgraph-include", "icmp_*"},
	} {
		if res := run(t, append(args, "--", "sleep", "1")...); res.Status > 1 && !strings.Contains(res.Stderr, "no kernel function") {
			t.Errorf("%v: status %d\n%s", args, res.Status, tail(res.Stderr))
		}
		o := traceDuring(t, echo(t, 1), "-k", "icmp_rcv")
		if n := len(o.of("call", "icmp_rcv")); n != 2 {
			t.Fatalf("after %v: %d calls of icmp_rcv, want 2; %+v", args, n, o.End)
		}
	}
}
