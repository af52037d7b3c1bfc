package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// ftrace's own ways are what a user has without installing anything.

const tracefs = "/sys/kernel/tracing"

type ftraceWay struct {
	name string
	run  func(n int) error
}

func ftraceWays() []ftraceWay {
	return []ftraceWay{
		{"ftrace: kprobe and kretprobe events, read", withKprobeEvents},
		{"ftrace: function_graph of it alone, read", withFunctionGraph},
	}
}

// withKprobeEvents traces the function's arguments and result by two events.
func withKprobeEvents(n int) error {
	probes := fmt.Sprintf("p:bench/in %s pid=%%di:s32 mask=%%si:x64\nr:bench/out %s ret=$retval:s64\n", function, function)
	return underFtrace(ftraceRun{
		begin: []setting{
			{"buffer_size_kb", "65536"},
			{"kprobe_events", probes},
			{"events/bench/enable", "1"},
		},
		end: []setting{
			{"events/bench/enable", "0"},
			{"kprobe_events", ""},
		},
		load:  func() error { return callFunction(n) },
		lines: n, seen: function,
	})
}

func withFunctionGraph(n int) error {
	return underFtrace(ftraceRun{
		begin: []setting{
			{"buffer_size_kb", "65536"},
			{"set_ftrace_filter", function},
			{"current_tracer", "function_graph"},
		},
		end: []setting{
			{"current_tracer", "nop"},
			{"set_ftrace_filter", ""},
		},
		load:  func() error { return callFunction(n) },
		lines: n, seen: function,
	})
}

type setting struct{ file, value string }

func apply(settings []setting) error {
	for _, s := range settings {
		if err := os.WriteFile(filepath.Join(tracefs, s.file), []byte(s.value), 0); err != nil {
			return fmt.Errorf("set %s: %w", s.file, err)
		}
	}
	return nil
}

// ftraceRun is a load under ftrace, which writes so many lines that name a
// function.
type ftraceRun struct {
	begin, end []setting
	load       func() error
	lines      int
	seen       string
}

// underFtrace makes calls and reads what ftrace writes of them into a file.
func underFtrace(r ftraceRun) error {
	if err := apply(r.begin); err != nil {
		return err
	}
	pipe, err := os.Open(filepath.Join(tracefs, "trace_pipe"))
	if err != nil {
		return err
	}
	out, err := os.Create(outputFile)
	if err != nil {
		return err
	}
	defer os.Remove(outputFile)
	defer out.Close()
	read := make(chan error, 1)
	go func() { read <- r.copyLines(out, pipe) }()
	if err = r.load(); err == nil {
		err = waitFor(read)
	}
	pipe.Close() // an open pipe keeps the tracer
	if endErr := apply(r.end); err == nil {
		err = endErr
	}
	return err
}

func waitFor(read <-chan error) error {
	select {
	case err := <-read:
		return err
	case <-time.After(time.Minute):
		return fmt.Errorf("read trace_pipe: too few lines in a minute")
	}
}

// copyLines copies until it has seen so many lines of the function.
func (r ftraceRun) copyLines(out *os.File, pipe *os.File) error {
	lines := bufio.NewScanner(pipe)
	w := bufio.NewWriterSize(out, 64<<10)
	for seen := 0; seen < r.lines && lines.Scan(); {
		if strings.Contains(lines.Text(), r.seen) {
			seen++
		}
		w.Write(lines.Bytes())
		w.WriteByte('\n')
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return w.Flush()
}
