package lab

import (
	"bytes"
	"fmt"
	"io"
)

// held are jobs whose output is kept until it is known to count.
type held struct {
	jobs []Job
	out  []bytes.Buffer
	err  []bytes.Buffer
}

func hold(jobs []Job) *held {
	h := &held{jobs: make([]Job, len(jobs)), out: make([]bytes.Buffer, len(jobs)), err: make([]bytes.Buffer, len(jobs))}
	copy(h.jobs, jobs)
	for i := range h.jobs {
		h.jobs[i].Stdout, h.jobs[i].Stderr = &h.out[i], &h.err[i]
	}
	return h
}

// release writes the output to the jobs' own writers.
func (h *held) release(jobs []Job) error {
	for i, j := range jobs {
		for _, s := range []struct {
			w io.Writer
			b *bytes.Buffer
		}{{j.Stdout, &h.out[i]}, {j.Stderr, &h.err[i]}} {
			if s.w == nil {
				continue
			}
			if _, err := s.b.WriteTo(s.w); err != nil {
				return fmt.Errorf("write output of job %d: %w", i, err)
			}
		}
	}
	return nil
}
