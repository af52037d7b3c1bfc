// Command bench measures, in virtual machines, what a traced call costs and how
// long trace takes to start. Run it as `make bench`, or
//
//	CGO_ENABLED=0 go run ./bench [-K 6.12,7.2] [-run starts,costs,filters,graphs,rate,packets] [-mirror URL]
//
// Costs are instructions: the guest runs with QEMU's -icount, where one guest
// nanosecond is one instruction, so that two runs print the same digits. They
// are the whole machine's, from the call to the line in the file: program,
// reader, formatting and write(2). Starts are seconds in an emulated guest with
// one CPU, for comparison and not for quoting.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"fgtrace/lab"
	"fgtrace/lab/guest"
)

func main() {
	if guest.Main() {
		return
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	kernels := flag.String("K", "6.12,7.2", "series of kernels, separated by commas")
	mirror := flag.String("mirror", os.Getenv("MIRROR"), "URL of a Debian mirror")
	only := flag.String("run", "", "of starts, costs, filters, graphs, rate and packets only these, separated by commas")
	flag.Parse()
	switch flag.Arg(0) {
	case "":
		return host(strings.Split(*kernels, ","), strings.FieldsFunc(*only, func(r rune) bool { return r == ',' }), *mirror)
	case guestCosts:
		return costs(os.Stdout)
	case guestStarts:
		return starts(os.Stdout)
	case guestFilters:
		return filters(os.Stdout)
	case guestGraphs:
		return graphs(os.Stdout)
	case guestRate:
		return rate(os.Stdout)
	case guestLoad:
		return load(flag.Arg(1), callFunction)
	case guestSends:
		return load(flag.Arg(1), send)
	case guestTimedSends:
		return printSends(flag.Arg(1))
	case guestPolls:
		return load(flag.Arg(1), poll)
	case guestPackets:
		return packets(os.Stdout)
	case guestDatagrams:
		return datagrams(flag.Arg(1))
	case guestPace:
		return pace(flag.Arg(1))
	case guestNow:
		return now()
	}
	return fmt.Errorf("parse arguments: unexpected %q", flag.Arg(0))
}

// What this binary is asked to do in the guest.
const (
	guestCosts      = "costs"       // print the costs
	guestStarts     = "starts"      // print the times of starts
	guestFilters    = "filters"     // print what filters cost
	guestSends      = "sends"       // send packets
	guestTimedSends = "timed-sends" // and print what that takes
	guestGraphs     = "graphs"      // print the costs of graphs
	guestRate       = "rate"        // print how much a trace takes for a while
	guestLoad       = "load"        // make calls
	guestPolls      = "polls"       // make calls of a graph's root
	guestPace       = "pace"        // the same, so many a minute
	guestNow        = "now"         // print the time

	guestPackets   = "packets"   // print how many packets are captured
	guestDatagrams = "datagrams" // send them
)

// measurement is one boot of a guest.
type measurement struct {
	what   string
	icount bool
	cpus   int
}

func measurements() []measurement {
	return []measurement{
		{what: guestStarts, cpus: 1},
		{what: guestCosts, cpus: 1, icount: true},
		{what: guestFilters, cpus: 1, icount: true},
		{what: guestGraphs, cpus: 1, icount: true},
		{what: guestRate, cpus: 2},
		{what: guestPackets, cpus: 2},
	}
}

// run boots a guest for one measurement.
func (m measurement) run(ctx context.Context, vm lab.VM) error {
	job := lab.Job{Argv: []string{"bench", m.what}, Stdout: os.Stdout, Stderr: os.Stderr}
	results, err := vm.Run(ctx, job)
	if err != nil {
		return err
	}
	if results[0].Retried {
		fmt.Println("  (by a second boot: the first guest panicked, as emulated ones with two CPUs do)")
	}
	if !results[0].OK() {
		return fmt.Errorf("measure %s on %s: exit status %d", m.what, vm.Kernel.Name(), results[0].ExitCode)
	}
	return nil
}

// host runs the measurements, or only some of them, on each kernel.
func host(kernels, only []string, mirror string) error {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "fgtrace-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	traceBinary := filepath.Join(dir, "trace")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", traceBinary, "./cmd/trace")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build trace: %w\n%s", err, out)
	}
	info, err := os.Stat(traceBinary)
	if err != nil {
		return err
	}
	fmt.Printf("binary: %.1f MB\n", float64(info.Size())/1e6)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	store, err := lab.Open(lab.Options{Mirror: mirror, Progress: func(s string) { fmt.Fprintln(os.Stderr, "bench:", s) }})
	if err != nil {
		return err
	}
	var errs []error
	for _, series := range kernels {
		kernel, err := store.Kernel(ctx, series, "amd64")
		if err != nil {
			return err
		}
		fmt.Printf("\n== %s\n", kernel.Name())
		for _, m := range measurements() {
			if len(only) > 0 && !slices.Contains(only, m.what) {
				continue
			}
			vm := lab.VM{
				Kernel: kernel, Binary: traceBinary, Init: self, MemoryMB: 2048, Timeout: 15 * time.Minute,
				Files: map[string]string{"/bin/bench": self}, ICount: m.icount, CPUs: m.cpus,
			}
			errs = append(errs, m.run(ctx, vm))
		}
	}
	return errors.Join(errs...)
}
