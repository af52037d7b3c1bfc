package tracer

import (
	"testing"

	"fgtrace/internal/guesttest"
	"fgtrace/tracer/plan"
	"fgtrace/tracer/spec"
)

// TestGuestExtend runs in the VMs of matrix's TestKernels: targets that are added to
// a graph keep their numbers, whether the kernel takes them or not.
func TestGuestExtend(t *testing.T) {
	guesttest.Only(t)
	k, err := Inspect()
	if err != nil {
		t.Fatal(err)
	}
	asked, err := spec.ParseTargets([]string{"icmp_rcv"})
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.Resolve(asked, k)
	if err != nil {
		t.Fatal(err)
	}
	p.Targets[0].Root = true
	symbols := NewSymbols(asked, p)
	symbols.ForGraph()
	if err := symbols.Read(); err != nil {
		t.Fatal(err)
	}
	if err := symbols.Check(p); err != nil {
		t.Fatal(err)
	}
	s, err := Load(k, p, Options{Exits: true, Calls: true, BufferSize: 1 << 20, Graph: &GraphOptions{Depth: 1}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Attach(p); err != nil {
		t.Fatal(err)
	}
	c := NewCallees(s, symbols, plan.Selection{})
	targets, err := c.Next()
	if err != nil || len(targets) == 0 {
		t.Fatalf("%d callees: %v", len(targets), err)
	}
	isMass, err := s.ExtendMass(targets)
	if err != nil {
		t.Fatal(err)
	}
	if has, err := s.hasMass(); has != isMass || err != nil {
		t.Errorf("attached to many: %v, tried: %v, %v", isMass, has, err)
	}
	many := 0
	for _, a := range s.Attached() {
		if a.Backend != "fentry and fexit links" {
			many++
		}
	}
	if isMass != (many > 0) {
		t.Errorf("attached to many: %v, but %d were", isMass, many)
	}
	before := len(s.Targets())
	if want := 1 + len(targets); isMass && before != want || !isMass && before != 1 {
		t.Fatalf("%d targets, want %d, or 1 without", before, want)
	}
	extend := s.Extend
	if isMass {
		extend = s.extendMass
	}
	// In the middle of a function there is nothing to patch.
	middle := *targets[0]
	middle.Func, middle.Addr, middle.Raw, middle.ID = "middle", p.Targets[0].Addr+32, true, 0
	if err := extend([]*plan.Target{&middle}); err != nil {
		t.Fatal(err)
	}
	if got := s.Targets(); len(got) != before+1 || got[before] != &middle || len(s.Shapes()) != len(got) {
		t.Errorf("%d targets, want %d; %d shapes", len(got), before+1, len(s.Shapes()))
	}
	attached := false
	for _, a := range s.Attached() {
		attached = attached || a.Target == &middle
	}
	if attached == (s.Refused()[&middle] != "") {
		t.Errorf("attached is %v, refused for %q", attached, s.Refused()[&middle])
	}
}
