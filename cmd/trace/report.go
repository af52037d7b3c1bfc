package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"fgtrace/tracer"
	"fgtrace/tracer/plan"
	"fgtrace/tracer/render"
)

// reportSkipped lists what isn't traced, by reason.
func reportSkipped(w io.Writer, skipped []plan.Skip) {
	byReason := make(map[string][]string)
	var reasons []string
	for _, s := range skipped {
		if byReason[s.Reason] == nil {
			reasons = append(reasons, s.Reason)
		}
		byReason[s.Reason] = append(byReason[s.Reason], qualified(s.Func, s.Module))
	}
	slices.Sort(reasons)
	for _, reason := range reasons {
		names := byReason[reason]
		fmt.Fprintf(w, "trace: not traced: %s: %s\n", strings.Join(names, ", "), reason)
	}
}

func qualified(name, module string) string {
	if module == "" {
		return name
	}
	return name + " [" + module + "]"
}

// reportAttached lists what is traced, and how.
func reportAttached(w io.Writer, attached []tracer.Attachment, kernel *plan.Kernel) {
	for _, a := range attached {
		t := a.Target
		fmt.Fprintf(w, "trace: tracing %s at 0x%x by %s: %s\n", qualified(t.Func, t.Module), t.Addr, a.Backend, t.Prototype())
	}
	fmt.Fprintf(w, "trace: Linux %s, %s\n", kernel.Release, kernel.Arch.Name)
}

// reportEnd says what was shown and what is missing, of a graph or of calls.
func reportEnd(w io.Writer, e *render.End, graph bool) {
	missed := "missed by recursion"
	if graph {
		// The kernel counts the calls of tasks that have no root open, too.
		missed += ", of all calls of these functions by any task"
	}
	parts := []string{fmt.Sprintf("%d events", e.Events), fmt.Sprintf("%d lost", e.Lost)}
	for _, c := range []struct {
		n    uint64
		text string
	}{
		{e.RecursionMisses, missed},
		{e.Self, "of trace itself left out (--self shows them)"},
		{e.NoEntry, "returned whose beginning was not seen"},
		{e.NoExit, "whose return was not seen"},
		{e.Running, "still running"},
		{e.ExitLost, "whose return was not seen in time"},
		{e.NoTree, "roots left out: too many tasks had one"},
		{e.TooDeep, "nested too deep, left out"},
		{e.LostPackets, "packets lost, or cut off at a fragment"},
		{e.NoPacket, "without a packet: it could not be told where it is, or be read"},
		{e.Unread, "left out: it could not be read whether their packets match"},
		{e.Followed, "packets followed"},
		{e.NotFreed, "of them not freed"},
		{e.NotFollowed, "packets that may not have been followed"},
		{e.LostOpens, "shown at their end only: the buffer was full at their first call"},
	} {
		if c.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c.n, c.text))
		}
	}
	fmt.Fprintf(w, "trace: %s\n", strings.Join(parts, ", "))
	for _, l := range e.PerTarget {
		packets := ""
		if l.LostPackets > 0 {
			packets = fmt.Sprintf(", %d packets lost", l.LostPackets)
		}
		fmt.Fprintf(w, "trace:   %s: %d entries and %d exits lost%s, %d missed by recursion, %d not decoded\n",
			qualified(l.Target.Func, l.Target.Module), l.LostEntries, l.LostExits, packets, l.RecursionMisses, l.Undecoded)
	}
	if e.Lost > 0 {
		fmt.Fprintln(w, "trace: a larger --buffer-size, or a filter, loses less")
	}
}

// dryRun prints the plan.
func dryRun(kernel *plan.Kernel, p *plan.Plan, symbols func() (*tracer.Symbols, error), stdout, stderr io.Writer) error {
	syms, err := symbols()
	if err != nil {
		return err
	}
	if err := syms.Check(p); err != nil {
		return err
	}
	if err := tracer.CheckPatchable(p); err != nil {
		return err
	}
	if err := tracer.Probe(kernel, p); err != nil {
		fmt.Fprintf(stderr, "trace: not verified on this kernel: %v\n", err)
	}
	for _, t := range p.Targets {
		fmt.Fprintf(stdout, "%s: %s\n", qualified(t.Func, t.Module), t.Prototype())
	}
	reportSkipped(stderr, p.Skipped)
	fmt.Fprintf(stderr, "trace: would trace %d functions, %d not\n", len(p.Targets), len(p.Skipped))
	return nil
}
