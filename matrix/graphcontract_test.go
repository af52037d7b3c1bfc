package matrix

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// checkNode checks what only a graph's calls have.
func (e *event) checkNode() error {
	node := e.has("parent")
	if node != e.has("depth") || node != e.has("context") || node != (e.has("own_ns") || e.has("end")) || e.has("own_ns") && e.has("end") {
		return errors.New("a call of a graph has parent, depth, context, and own_ns or end; others have nothing of it")
	}
	if !node {
		return nil
	}
	if root := e.Parent == 0; root != (e.Depth == 0) || e.Parent == e.ID {
		return fmt.Errorf("parent %d at depth %d", e.Parent, e.Depth)
	}
	if !slices.Contains([]string{"task", "softirq", "hardirq", "nmi"}, e.Context) || e.has("end") && e.End != "exit lost" && e.End != "running" {
		return fmt.Errorf("context %q, end %q", e.Context, e.End)
	}
	if e.Own > e.Duration {
		return fmt.Errorf("its own time is %d of %d", e.Own, e.Duration)
	}
	return nil
}

// TestContractOfNodes does so for what only a graph's calls have.
func TestContractOfNodes(t *testing.T) {
	const node = `{"event":"call","id":2,"func":"f","module":"vmlinux","args":[],"retval":{"type":"int","value":0},"duration_ns":9,"time_ns":5,"cpu":0,"pid":1,"tid":1,"comm":"c",` +
		`"parent":3,"depth":1,"context":"softirq","own_ns":4}` + "\n"
	for name, change := range map[string][2]string{
		"":           {"", ""},
		"no parent":  {`"parent":3,`, ``},
		"no context": {`"context":"softirq",`, ``},
		"context":    {`"context":"softirq"`, `"context":"irq"`},
		"root":       {`"parent":3`, `"parent":0`},
		"itself":     {`"parent":3`, `"parent":2`},
		"own":        {`"own_ns":4`, `"own_ns":10`},
		"no end":     {`,"own_ns":4`, ``},
		"two ends":   {`"own_ns":4`, `"own_ns":4,"end":"running"`},
		"returned":   {`"own_ns":4`, `"end":"running"`},
	} {
		_, err := parseOutput([]byte(strings.Replace(goodStart+node+goodEnd, change[0], change[1], 1)), "")
		if (err != nil) != (name != "") {
			t.Errorf("%q: %v", name, err)
		}
	}
}
