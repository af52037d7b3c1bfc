package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"fgtrace/btfx"
	"fgtrace/internal/bpfsys"
	"fgtrace/internal/kallsyms"
)

// Two runs that differ by so many calls are compared, so that starting, waiting
// for the reader and ending do not count.
const (
	fewCalls  = 20_000
	manyCalls = 420_000
	// Stacks are large, and the ring buffer must hold those of all calls.
	manyStacks = 120_000
)

const outputFile = "/tmp/bench.out"

// costs prints what a call costs under each tracer, above what it costs alone.
func costs(w io.Writer) error {
	time.Sleep(3 * time.Second) // the kernel's own work after boot
	alone, err := perCall(manyCalls, callFunction)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "instructions a call of %s, above %d without tracing:\n", function, alone)
	print := func(name string, cost int64, note string) {
		fmt.Fprintf(w, "  %-44s %7d%s\n", name, cost-alone, note)
	}
	for _, e := range []struct {
		name  string
		types []ebpf.AttachType
	}{
		{"empty fentry", []ebpf.AttachType{ebpf.AttachTraceFEntry}},
		{"empty fexit", []ebpf.AttachType{ebpf.AttachTraceFExit}},
		{"empty fentry and fexit", []ebpf.AttachType{ebpf.AttachTraceFEntry, ebpf.AttachTraceFExit}},
	} {
		var cost int64
		err := withEmpty(function, e.types, func() (err error) {
			cost, err = perCall(manyCalls, callFunction)
			return err
		})
		if err != nil {
			return fmt.Errorf("measure %s: %w", e.name, err)
		}
		print(e.name, cost, "")
	}
	have := make(map[string]bool)
	for _, e := range emptySessions() {
		cost, err := e.measure()
		if err != nil {
			fmt.Fprintf(w, "  %-44s       -  %v\n", "empty "+e.name, err)
			continue
		}
		have[e.name] = true
		print("empty "+e.name, cost, "")
	}
	for _, args := range [][]string{
		{"-m", "entry"},
		{},
		{"--json"},
		{"--output-stack"},
		{"--output-stack", "--json"},
		{"--backend", "fsession.multi"},
		{"--backend", "kprobe.session"},
		{"--backend", "kprobe.session", "--output-stack"},
	} {
		if i := slices.Index(args, "--backend"); i >= 0 && !have[args[i+1]] {
			continue
		}
		name := strings.Join(append([]string{"trace"}, args...), " ")
		lost := ""
		many := manyCalls
		if slices.Contains(args, "--output-stack") {
			many = manyStacks
		}
		cost, err := perCall(many, func(n int) error {
			missing, err := withTrace(args, n)
			if missing != "" {
				lost = "  " + missing
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("measure %s: %w", name, err)
		}
		print(name, cost, lost)
	}
	for _, f := range ftraceWays() {
		cost, err := perCall(manyStacks, f.run)
		if err != nil {
			return fmt.Errorf("measure %s: %w", f.name, err)
		}
		print(f.name, cost, "")
	}
	return nil
}

// perCall returns what each of many calls costs.
func perCall(many int, run func(n int) error) (int64, error) {
	return perCallFrom(fewCalls, many, run)
}

// perCallFrom returns what each call costs by which two runs differ.
func perCallFrom(few, many int, run func(n int) error) (int64, error) {
	base, err := elapsed(func() error { return run(few) })
	if err != nil {
		return 0, err
	}
	all, err := elapsed(func() error { return run(many) })
	return (all - base) / int64(many-few), err
}

var nothing = asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}

// withEmpty measures with programs attached to a function that do nothing.
func withEmpty(function string, attach []ebpf.AttachType, measure func() error) error {
	id, err := functionID(function)
	if err != nil {
		return err
	}
	for _, at := range attach {
		prog, err := bpfsys.Load(bpfsys.Program{
			Name: "empty", Type: ebpf.Tracing, AttachType: at, AttachID: uint32(id),
			Insns: nothing,
		})
		if err != nil {
			return err
		}
		defer unix.Close(prog)
		link, err := bpfsys.AttachTracing(prog)
		if err != nil {
			return err
		}
		defer unix.Close(link)
	}
	return measure()
}

// emptySession is a way of attaching one program to many functions, with a
// program that does nothing, at entries and returns.
type emptySession struct {
	name   string
	typ    ebpf.ProgramType
	at     ebpf.AttachType
	attach func(prog int) (int, error)
}

func emptySessions() []emptySession {
	cookie := []uint64{1}
	return []emptySession{
		{"fsession.multi", ebpf.Tracing, bpfsys.AttachFsessionMulti, func(prog int) (int, error) {
			id, err := functionID(function)
			if err != nil {
				return 0, err
			}
			return bpfsys.AttachTracingMulti(prog, bpfsys.AttachFsessionMulti, []uint32{uint32(id)}, cookie)
		}},
		{"kprobe.session", ebpf.Kprobe, ebpf.AttachTraceKprobeSession, func(prog int) (int, error) {
			addr, err := functionAddress()
			if err != nil {
				return 0, err
			}
			return bpfsys.AttachKprobeMulti(prog, ebpf.AttachTraceKprobeSession, []uint64{addr}, cookie)
		}},
	}
}

func (e emptySession) measure() (int64, error) {
	prog, err := bpfsys.Load(bpfsys.Program{Name: "empty", Type: e.typ, AttachType: e.at, Insns: nothing})
	if err != nil {
		return 0, fmt.Errorf("load: %w", err)
	}
	defer unix.Close(prog)
	link, err := e.attach(prog)
	if err != nil {
		return 0, fmt.Errorf("attach: %w", err)
	}
	defer unix.Close(link)
	return perCall(manyCalls, callFunction)
}

func functionID(name string) (btfx.ID, error) {
	raw, err := os.ReadFile("/sys/kernel/btf/vmlinux")
	if err != nil {
		return 0, err
	}
	types, err := btfx.Parse(raw, nil)
	if err != nil {
		return 0, err
	}
	id, ok := types.FindFunc(name)
	if !ok {
		return 0, fmt.Errorf("find %s: not in BTF", name)
	}
	return id, nil
}

func functionAddress() (uint64, error) {
	f, err := kallsyms.Open()
	if err != nil {
		return 0, err
	}
	defer f.Close()
	found, err := kallsyms.Lookup(f, []string{function})
	if err != nil {
		return 0, err
	}
	if len(found[function]) == 0 {
		return 0, fmt.Errorf("find %s: no symbol", function)
	}
	return found[function][0].Addr, nil
}

// withTrace makes calls under trace, and returns what trace says is missing.
func withTrace(args []string, n int) (missing string, err error) {
	return runTrace(append([]string{"-k", function}, args...), guestLoad, strconv.Itoa(n))
}

// runTrace has trace run a load of this binary, and returns what trace says is
// missing. The ring buffer takes all, since reader and load share one CPU.
func runTrace(args []string, load ...string) (missing string, err error) {
	missing, _, err = runTraceOutput(args, load...)
	return missing, err
}

// runTraceOutput returns what load prints, too.
func runTraceOutput(args []string, load ...string) (missing, out string, err error) {
	defer os.Remove(outputFile)
	args = append([]string{"--buffer-size", "256M", "-o", outputFile}, args...)
	args = append(args, "--", "bench")
	cmd := exec.Command("trace", append(args, load...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", "", fmt.Errorf("run trace: %w\n%s", err, &stderr)
	}
	for line := range strings.Lines(stderr.String()) {
		if strings.Contains(line, " lost") && (!strings.Contains(line, " 0 lost") || strings.Contains(line, "missed")) {
			return strings.TrimSpace(line), stdout.String(), nil
		}
	}
	return "", stdout.String(), nil
}
