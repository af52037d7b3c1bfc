package main

import (
	"fmt"
	"io"
	"os"
)

// output is where the events go.
type output struct {
	w    io.Writer
	file *os.File // nil: not ours to close
	size int64    // bytes that were written
}

func openOutput(o *options, stdout io.Writer) (*output, error) {
	if o.output == "" && o.pcap == "-" {
		return &output{w: io.Discard}, nil
	}
	return openFile(o.output, stdout)
}

// openCapture opens where packets go.
func openCapture(o *options, stdout io.Writer) (*output, error) {
	if o.pcap == "" {
		return &output{w: io.Discard}, nil
	}
	return openFile(o.pcap, stdout)
}

func openFile(name string, stdout io.Writer) (*output, error) {
	if name == "" || name == "-" {
		return &output{w: stdout}, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, fmt.Errorf("open output: %w", err)
	}
	return &output{w: f, file: f}, nil
}

func (o *output) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	n, err := o.w.Write(b)
	if err != nil {
		if o.file != nil && n > 0 {
			// What is there ends with a whole line, or block. It is as good as it gets.
			_ = o.file.Truncate(o.size)
		}
		return fmt.Errorf("write output: %w", err)
	}
	o.size += int64(n)
	return nil
}

// Close closes the file; some file systems report a failed write only now.
func (o *output) Close() error {
	if o.file == nil {
		return nil
	}
	if err := o.file.Close(); err != nil {
		return fmt.Errorf("close output: %w", err)
	}
	return nil
}
