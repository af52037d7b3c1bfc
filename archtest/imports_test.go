// Package archtest holds the direction of imports: what parses, plans, builds,
// decodes and prints can be tested anywhere only as long as it reaches nothing
// that needs a kernel.
package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "fgtrace"

// levels orders the packages of this module: one may import those of lower
// levels only. A name ending in / stands for all below it; the longest counts.
var levels = map[string]int{
	"cmd/":         9,
	"bpf/gen":      9, // a command
	"archtest":     9,
	"bench":        9,
	"matrix":       9,
	"tracer":       8,
	"lab":          8,
	"lab/":         8,
	"lab/guest":    7,
	"tracer/":      0, // to be listed here
	"tracer/flow":  6,
	"tracer/build": 5,

	"tracer/render":         5,
	"tracer/calls":          4,
	"tracer/plan":           4,
	"tracer/event":          3,
	"tracer/learn":          3,
	"tracer/packet":         3,
	"tracer/packet/codegen": 4,
	"tracer/packet/dissect": 4,
	"tracer/reach":          4,
	"tracer/spec":           3,
	"tracer/stack":          3,

	"btfx":              2,
	"btfx/expr":         3,
	"btfx/expr/codegen": 4,
	"arch":              2,
	"arch/code":         3,
	"bpf":               2,
	"internal/":         2,
	"lab/internal/":     2,
	"bpf/wire":          1,

	"internal/caret":  1,
	"internal/digits": 1,

	"internal/btftest":  3, // makes btfx.Types for tests
	"internal/pcaptest": 3, // compiles filters for tests
}

// impure packages may use the kernel, other programs, files.
var impure = []string{"tracer", "internal/bpfsys", "lab", "lab/", "cmd/", "bpf/gen", "archtest", "bench", "matrix"}

// kernelPackages are what pure packages never reach.
var kernelPackages = []string{
	"github.com/cilium/ebpf/link",
	"github.com/cilium/ebpf/perf",
	"github.com/cilium/ebpf/ringbuf",
	"golang.org/x/sys/unix",
	"os/exec",
	"syscall",
}

// fileless packages work on what they are given: they open no files.
var fileless = []string{"arch/code", "tracer/calls", "tracer/event", "tracer/flow", "tracer/learn", "tracer/reach", "tracer/render", "tracer/stack"}

func TestLevels(t *testing.T) {
	packages := list(t)
	for _, path := range sorted(packages) {
		from, ok := level(path)
		if !ok || from == 0 {
			t.Errorf("%s: give it a level", path)
			continue
		}
		for _, imported := range packages[path] {
			if to, _ := level(imported); isOurs(imported) && to >= from {
				t.Errorf("%s (level %d) imports %s (level %d)", path, from, imported, to)
			}
		}
	}
}

func TestPure(t *testing.T) {
	packages := list(t)
	for _, path := range sorted(packages) {
		if matches(impure, path) {
			continue
		}
		if way := reach(packages, path, func(imported string) bool { return slices.Contains(kernelPackages, imported) }); way != nil {
			t.Errorf("pure, but reaches the kernel: %s", strings.Join(way, " -> "))
		}
	}
}

func TestRenderKnowsNoPrograms(t *testing.T) {
	packages := list(t)
	render := module + "/tracer/render"
	for _, imported := range packages[render] {
		if imported == module+"/bpf" || strings.HasPrefix(imported, module+"/bpf/") {
			t.Errorf("%s imports %s", render, imported)
		}
	}
	programs := func(imported string) bool {
		return imported == module+"/bpf" || strings.HasPrefix(imported, "github.com/cilium/ebpf")
	}
	if way := reach(packages, render, programs); way != nil {
		t.Errorf("knows programs: %s", strings.Join(way, " -> "))
	}
}

func TestFileless(t *testing.T) {
	packages := list(t)
	for _, path := range fileless {
		imports, ok := packages[module+"/"+path]
		if !ok {
			t.Errorf("%s: no such package", path)
		}
		for _, imported := range imports {
			if imported == "os" || imported == "io/ioutil" || imported == "net" {
				t.Errorf("%s imports %s", path, imported)
			}
		}
	}
}

// list returns the packages of this module with what they import; tests aside.
func list(t *testing.T) map[string][]string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", module+"/...")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	packages := make(map[string][]string)
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages[p.ImportPath] = p.Imports
	}
	if len(packages) < 10 {
		t.Fatalf("only %d packages", len(packages))
	}
	return packages
}

func sorted(packages map[string][]string) []string {
	var paths []string
	for path := range packages {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	return paths
}

func isOurs(path string) bool { return strings.HasPrefix(path, module+"/") }

func level(path string) (int, bool) {
	path = strings.TrimPrefix(path, module+"/")
	best := ""
	for pattern := range levels {
		if len(pattern) > len(best) && (path == pattern || covers(pattern, path)) {
			best = pattern
		}
	}
	n, ok := levels[best]
	return n, ok
}

func matches(patterns []string, path string) bool {
	path = strings.TrimPrefix(path, module+"/")
	return slices.ContainsFunc(patterns, func(p string) bool { return path == p || covers(p, path) })
}

// covers tells whether a pattern that ends in / has a path below it.
func covers(pattern, path string) bool {
	return strings.HasSuffix(pattern, "/") && strings.HasPrefix(path, pattern)
}

// reach returns the way through packages of this module from one to an import
// that is wanted, the shortest, or nil.
func reach(packages map[string][]string, from string, wanted func(string) bool) []string {
	seen := map[string]bool{from: true}
	for ways := [][]string{{from}}; len(ways) > 0; ways = ways[1:] {
		way := ways[0]
		for _, imported := range packages[way[len(way)-1]] {
			next := append(slices.Clone(way), imported)
			if wanted(imported) {
				return next
			}
			if isOurs(imported) && !seen[imported] {
				seen[imported] = true
				ways = append(ways, next)
			}
		}
	}
	return nil
}

// TestReach checks the checker.
func TestReach(t *testing.T) {
	packages := map[string][]string{
		"fgtrace/a": {"fgtrace/b", "os"},
		"fgtrace/b": {"fgtrace/a", "fgtrace/c", "example.com/x"},
		"fgtrace/c": {"os/exec"},
	}
	way := reach(packages, "fgtrace/a", func(p string) bool { return p == "os/exec" })
	if got, want := strings.Join(way, " "), "fgtrace/a fgtrace/b fgtrace/c os/exec"; got != want {
		t.Errorf("%q instead of %q", got, want)
	}
	if way := reach(packages, "fgtrace/c", func(p string) bool { return p == "os" }); way != nil {
		t.Errorf("reached %v", way)
	}
}
