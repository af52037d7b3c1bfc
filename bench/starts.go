package main

import (
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// starts prints how long trace takes from its exec until the command runs, and
// with it, how much memory it takes at most.
func starts(w io.Writer) error {
	for _, s := range []struct {
		name, asked string
		args        []string
	}{
		{"one function", "", []string{"-k", "icmp_rcv"}},
		{"one function, stacks", "", []string{"-k", "icmp_rcv", "--output-stack"}},
		{"tcp_v*,ip_*", "", []string{"-k", "tcp_v*,ip_*"}},
		{"icmp_rcv -g", "asked: ready after 3 s", []string{"-k", "icmp_rcv", "-g"}},
		{"icmp_rcv -g, level 6", "asked: 1,000 functions attached and detached in 1.5 s each", []string{"-k", "icmp_rcv", "-g", "--fgraph-max-depth", "6"}},
	} {
		var best start
		for range 3 {
			t, err := startOnce(s.args)
			if err != nil {
				return fmt.Errorf("start with %s: %w", s.name, err)
			}
			if best.ready == 0 || t.ready < best.ready {
				best = t
			}
		}
		fmt.Fprintf(w, "start, %-22s %4d functions ready after %.2f s, ended after %.2f s, %d MiB at most\n",
			s.name+":", best.functions, best.ready.Seconds(), best.total.Seconds(), best.memory>>20)
		if best.phases != "" {
			fmt.Fprintf(w, "  %s; gone %.2f s after the command  %s\n", best.phases, (best.total - best.ready).Seconds(), s.asked)
		}
	}
	return nil
}

type start struct {
	ready, total time.Duration
	functions    int
	memory       int64  // bytes
	phases       string // what trace says of it, for graphs
}

func startOnce(args []string) (start, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.Command("trace", append(args, "-v", "-o", "/tmp/bench.out", "--", "bench", guestNow)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var before unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &before); err != nil {
		return start{}, err
	}
	begin := time.Now()
	if err := cmd.Run(); err != nil {
		return start{}, fmt.Errorf("run trace: %w\n%s", err, &stderr)
	}
	s := start{total: time.Since(begin)}
	ready, err := strconv.ParseInt(strings.TrimSpace(stdout.String()), 10, 64)
	if err != nil {
		return start{}, fmt.Errorf("read time of command: %w", err)
	}
	s.ready = time.Duration(ready - before.Nano())
	s.memory = cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
	s.functions = strings.Count(stderr.String(), "trace: tracing ")
	for line := range strings.Lines(stderr.String()) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "trace: ready ") && slices.Contains(args, "-g") {
			s.phases = strings.TrimPrefix(line, "trace: ")
		}
	}
	return s, nil
}
