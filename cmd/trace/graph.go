package main

import (
	"fmt"
	"io"
	"os"

	"fgtrace/tracer"
	"fgtrace/tracer/plan"
)

func extendGraph(o *options, session *tracer.Session, syms *tracer.Symbols, progress *progress, stderr io.Writer) error {
	progress.phase("roots")
	callees := tracer.NewCallees(session, syms, plan.Selection{})
	targets, err := callees.Next()
	if err != nil {
		return err
	}
	progress.phase("callees")
	fmt.Fprintf(stderr, "trace: %d callees, %d skipped\n", len(targets), len(callees.Skipped()))
	if os.Getenv("DBG") != "" {
		for _, t := range targets {
			fmt.Fprintf(stderr, "%s raw=%v\n", t.Func, t.Raw)
		}
		if d := os.Getenv("DBGR"); d != "" {
			var a, b int
			fmt.Sscanf(d, "%d:%d", &a, &b)
			targets = targets[a:min(b, len(targets))]
		}
	}
	if err := session.Extend(targets); err != nil {
		return err
	}
	progress.phase("extend")
	return nil
}

// graphOptions returns what -g asks for; nil without.
func (o *options) graphOptions() *tracer.GraphOptions {
	if !o.graph {
		return nil
	}
	return &tracer.GraphOptions{Depth: o.graphDepth, Early: o.format == "text", NoIRQs: o.noIRQs}
}
