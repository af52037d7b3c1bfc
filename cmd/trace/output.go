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
}

func openOutput(o *options, stdout io.Writer) (*output, error) {
	if o.output == "" || o.output == "-" {
		return &output{w: stdout}, nil
	}
	f, err := os.Create(o.output)
	if err != nil {
		return nil, fmt.Errorf("open output: %w", err)
	}
	return &output{w: f, file: f}, nil
}

func (o *output) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if _, err := o.w.Write(b); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
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
