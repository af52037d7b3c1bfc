package matrix

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"fgtrace/internal/guesttest"
	"fgtrace/internal/pcaptest"
	"fgtrace/lab"
)

// Variables that say what TestKernels does.
const (
	vmEnv     = "TRACE_VM_TESTS" // run at all
	matrixEnv = "TRACE_MATRIX"   // amd64:6.12,7.2;arm64:7.2
	runEnv    = "TRACE_RUN"      // the guest's -test.run
	vmsEnv    = "TRACE_VMS"      // VMs at a time
	soakEnv   = "TRACE_SOAK"     // the long form: each test many times
)

// guestTests is the guest's tests' prefix.
const guestTests = "TestGuest"

// kernels are what the matrix boots.
var kernels = []series{
	{"amd64", "5.10"}, {"amd64", "6.1"}, {"amd64", "6.12"}, {"amd64", "6.18"}, {"amd64", "6.19"}, {"amd64", "7.0"}, {"amd64", "7.2"},
	{"arm64", "6.12"}, {"arm64", "7.2"},
}

// There must be so many kernels of amd64, one of them from leastNew on: only
// those take a tracee's frame away.
const (
	leastKernels = 6
	leastNew     = "6.19"
)

type series struct{ arch, name string }

func (s series) String() string { return s.arch + "-" + s.name }

// shares is how many kernels of an architecture there are for each that has a case: arm64
// has but two, so that a third of the cases is on none of them.
const shares = 3

// share is what guesttest.InShare gets: of an architecture's kernels every third has a case.
// The oldest has all of them.
func (s series) share() string {
	if os.Getenv(soakEnv) != "" || os.Getenv(runEnv) != "" || s == kernels[0] {
		return ""
	}
	number := 0
	for _, k := range kernels[:slices.Index(kernels, s)] {
		if k.arch == s.arch {
			number++
		}
	}
	return fmt.Sprintf("%d/%d", number, shares)
}

// insides are the packages with tests that see what the package does not export, and
// run in guests too. There they have their testdata in a directory of that name in /.
var insides = []inside{
	{name: "tracer"},
	{name: "btfx/expr", testdata: []string{"types.btf", "memory.bin", "expressions.txt"}},
	{name: "tracer/packet/codegen"}, // with filterSets
}

type inside struct {
	name     string
	testdata []string
}

// path is where a guest has the tests.
func (i inside) path() string { return "/" + strings.ReplaceAll(i.name, "/", "-") + ".test" }

// guestTimeout bounds one kernel. It takes 8 to 15 minutes beside another one.
const guestTimeout = 25 * time.Minute

// soakCount is how often the long form runs each test.
const soakCount = 15

// TestKernels runs the guest's tests on all kernels.
func TestKernels(t *testing.T) {
	if os.Getenv(vmEnv) == "" {
		t.Skipf("boots VMs: %s=1 go test -timeout 30m ./matrix", vmEnv)
	}
	wanted, err := parseMatrix(os.Getenv(matrixEnv))
	if err != nil {
		t.Fatal(err)
	}
	vms, err := strconv.Atoi(cmp.Or(os.Getenv(vmsEnv), "2"))
	if err != nil || vms < 1 {
		t.Fatalf("read %s: %q is no number of VMs", vmsEnv, os.Getenv(vmsEnv))
	}
	store, err := lab.Open(lab.Options{Mirror: os.Getenv("MIRROR"), Progress: func(text string) { t.Log(text) }})
	if err != nil {
		t.Fatal(err)
	}
	m := &matrix{store: store, slots: make(chan struct{}, vms), statuses: map[string][]string{}}
	m.fetch(t, wanted)
	m.build(t)
	began := time.Now()
	// The group ends when all its parallel tests have.
	t.Run("on", func(t *testing.T) {
		for _, g := range m.guests {
			t.Run(g.series.String(), func(t *testing.T) {
				t.Parallel()
				m.boot(t, g)
			})
		}
	})
	if narrowed := os.Getenv(matrixEnv) != "" || os.Getenv(runEnv) != ""; !narrowed {
		m.checkKernels(t)
		m.checkSkips(t)
	}
	fmt.Printf("%d kernels in %v\n", len(m.guests), time.Since(began).Round(time.Second))
}

// parseMatrix parses "amd64:6.12,7.2;arm64:7.2"; empty means all.
func parseMatrix(text string) ([]series, error) {
	if text == "" {
		return kernels, nil
	}
	var all []series
	for part := range strings.SplitSeq(text, ";") {
		arch, list, ok := strings.Cut(part, ":")
		if !ok || !slices.Contains(lab.Arches(), arch) {
			return nil, fmt.Errorf("read %s: %q is not like amd64:6.12,7.2", matrixEnv, part)
		}
		for name := range strings.SplitSeq(list, ",") {
			if !lab.IsSeries(name) {
				return nil, fmt.Errorf("read %s: %q is not a series like 6.12", matrixEnv, name)
			}
			all = append(all, series{arch, name})
		}
	}
	return all, nil
}

// matrix is one run over all kernels.
type matrix struct {
	store  *lab.Store
	slots  chan struct{}
	guests []guestKernel
	trace  map[string]string // by architecture
	test   map[string]string
	inside map[string]map[string]string // what guests have of insides: paths there and here

	mu       sync.Mutex
	statuses map[string][]string // of each of the guests' tests, over the kernels
}

type guestKernel struct {
	series  series
	kernel  lab.Kernel
	busybox string
	modules []string
}

// guestModules are loaded in every guest whose modules are to be had.
var guestModules = []string{"dummy", "veth", "8021q", "ipip"}

// fetch gets the kernels, and names those that are not to be had.
func (m *matrix) fetch(t *testing.T, wanted []series) {
	t.Helper()
	for _, s := range wanted {
		g := guestKernel{series: s, modules: guestModules}
		var err error
		if g.kernel, err = m.store.Kernel(t.Context(), s.name, s.arch); err == nil {
			g.busybox, err = m.store.Busybox(t.Context(), s.arch)
		}
		if err != nil {
			fmt.Printf("kernel %s is missing: %v\n", s, err)
			if os.Getenv(matrixEnv) != "" {
				t.Errorf("kernel %s was asked for", s)
			}
			continue
		}
		// The archive drops modules before images.
		if k, err := m.store.FetchModules(t.Context(), g.kernel); err == nil {
			g.kernel = k
		} else {
			fmt.Printf("modules of kernel %s are missing: %v\n", s, err)
			g.modules = nil
		}
		m.guests = append(m.guests, g)
	}
}

// checkKernels checks that enough kernels were there to say something.
func (m *matrix) checkKernels(t *testing.T) {
	t.Helper()
	count, isNew := 0, false
	for _, g := range m.guests {
		if g.series.arch != "amd64" {
			continue
		}
		count++
		isNew = isNew || slices.IndexFunc(kernels, func(s series) bool { return s == g.series }) >=
			slices.IndexFunc(kernels, func(s series) bool { return s == series{"amd64", leastNew} })
	}
	if count < leastKernels || !isNew {
		t.Errorf("%d kernels of amd64, one from %s on: %v; want %d and true", count, leastNew, isNew, leastKernels)
	}
}

// checkSkips finds tests that every kernel skipped: they test nothing.
func (m *matrix) checkSkips(t *testing.T) {
	t.Helper()
	for name, statuses := range m.statuses {
		if !slices.ContainsFunc(statuses, func(s string) bool { return s != statusSkip }) {
			t.Errorf("%s was skipped on all %d kernels that have it", name, len(statuses))
		}
	}
}

// build builds trace and this package's tests for the guests.
func (m *matrix) build(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	m.trace, m.test, m.inside = map[string]string{}, map[string]string{}, map[string]map[string]string{}
	sets := filterSets(t, dir)
	for _, g := range m.guests {
		arch := g.series.arch
		if m.trace[arch] != "" {
			continue
		}
		m.trace[arch] = filepath.Join(dir, "trace-"+arch)
		m.test[arch] = filepath.Join(dir, "matrix-"+arch+".test")
		m.inside[arch] = maps.Clone(sets)
		m.inside[arch][recipesFile] = filepath.Join("..", "docs", "recipes.md")
		builds := [][]string{
			{"build", "-o", m.trace[arch], "fgtrace/cmd/trace"},
			{"test", "-c", "-o", m.test[arch], "fgtrace/matrix"},
		}
		for _, i := range insides {
			binary := filepath.Join(dir, arch+i.path())
			m.inside[arch][i.path()] = binary
			builds = append(builds, []string{"test", "-c", "-ldflags=-s -w", "-o", binary, "fgtrace/" + i.name})
			for _, name := range i.testdata {
				m.inside[arch]["/testdata/"+name] = filepath.Join("..", i.name, "testdata", name)
			}
		}
		for _, args := range builds {
			cmd := exec.CommandContext(t.Context(), "go", args...)
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("go %s for %s: %v\n%s", strings.Join(args, " "), arch, err, out)
			}
		}
	}
}

// filterSets writes what packet filters are compared by, and returns where it is: paths
// in a guest and here.
func filterSets(t *testing.T, dir string) map[string]string {
	t.Helper()
	const packets, random = 10000, 100
	seed := uint64(1)
	if os.Getenv(soakEnv) != "" {
		seed = rand.Uint64()
		fmt.Printf("packets and random filters are of seed %d\n", seed)
	}
	known, err := pcaptest.Known(t.Context(), seed, packets)
	if err != nil {
		t.Fatal(err)
	}
	others, err := pcaptest.Random(t.Context(), seed, random, 500)
	if err != nil {
		t.Fatal(err)
	}
	paths := map[string]string{}
	for name, set := range map[string]*pcaptest.Set{"known.set": known, "random.set": others} {
		raw, err := set.Encode()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		paths["/testdata/"+name] = path
	}
	return paths
}

// boot boots one kernel, runs the guest's tests, and reports each as one here.
func (m *matrix) boot(t *testing.T, g guestKernel) {
	m.slots <- struct{}{}
	defer func() { <-m.slots }()
	count := 1
	if os.Getenv(soakEnv) != "" {
		count = soakCount
	}
	timeout := time.Duration(count) * guestTimeout
	vm := lab.VM{
		Kernel: g.kernel, Busybox: g.busybox, Timeout: timeout,
		Binary: m.trace[g.series.arch], Init: m.test[g.series.arch],
		Modules: g.modules, MemoryMB: 2048, // for the graphs of function_graph, all in one process
		Files: m.inside[g.series.arch],
	}
	if g.series.arch != runtime.GOARCH {
		vm.BootTimeout = 2 * lab.DefaultBootTimeout
	}
	began := time.Now()
	out := &guestLog{prefix: g.series.String()}
	// The first binary is PID 1's, too.
	binaries := []string{"/init"}
	for _, i := range insides {
		binaries = append(binaries, i.path())
	}
	var jobs []lab.Job
	for _, binary := range binaries {
		jobs = append(jobs, lab.Job{
			Argv: []string{binary, "-test.v", "-test.run", cmp.Or(os.Getenv(runEnv), guestTests),
				"-test.count", strconv.Itoa(count), "-test.timeout", (timeout - time.Minute).String()},
			Env: []string{
				guesttest.Env + "=1", modulesEnv + "=" + strings.Join(g.modules, ","), soakEnv + "=" + os.Getenv(soakEnv),
				guesttest.ShareEnv + "=" + g.series.share(),
			},
			Stdout: out, Stderr: out, Collect: []string{captureFile, vlanFile},
		})
	}
	results, err := vm.Run(t.Context(), jobs...)
	if p := (*lab.GuestPanicError)(nil); errors.As(err, &p) && p.Emulator() {
		fmt.Printf("%-12s the emulator failed, and all tests run again: %v\n", g.series, err)
		out.text.Reset()
		results, err = vm.Run(t.Context(), jobs...)
	}
	tests := parseTests(out.text.String())
	line := fmt.Sprintf("%-12s %-32s %4d tests in %v", g.series, g.kernel.Release, len(tests), time.Since(began).Round(time.Second))
	fmt.Printf("%s; longest: %s\n", line, longest(tests))
	m.mu.Lock()
	for _, test := range tests {
		m.statuses[test.name] = append(m.statuses[test.name], test.status)
	}
	m.mu.Unlock()

	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.report(t) })
	}
	passed := func(name string) bool {
		return len(results) > 0 && slices.ContainsFunc(tests, func(test guestTest) bool { return test.name == name && test.status == statusPass })
	}
	if passed("TestGuestCapture") {
		t.Run("Capture", func(t *testing.T) { checkCapture(t, results[0].Files[captureFile]) })
	}
	if passed("TestGuestVLAN/shown") {
		t.Run("VLAN", func(t *testing.T) { checkVLAN(t, results[0].Files[vlanFile]) })
	}
	failed := slices.IndexFunc(results, func(r lab.Result) bool { return !r.OK() })
	switch {
	case err != nil:
		t.Errorf("%v", err)
	case failed >= 0 && !slices.ContainsFunc(tests, func(g guestTest) bool { return g.status == statusFail }):
		t.Errorf("the guest's tests ended with %+v\n%s", results[failed], tail(out.text.String()))
	case len(tests) == 0:
		t.Errorf("the guest ran no test\n%s", tail(out.text.String()))
	}
}

// guestLog keeps what a guest's tests print, and shows it as it comes with -v.
type guestLog struct {
	prefix string
	mu     sync.Mutex
	text   strings.Builder
	line   string // unfinished
}

func (l *guestLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	if !testing.Verbose() {
		return len(p), nil
	}
	lines := strings.Split(l.line+string(p), "\n")
	for _, line := range lines[:len(lines)-1] {
		fmt.Printf("%s| %s\n", l.prefix, line)
	}
	l.line = lines[len(lines)-1]
	return len(p), nil
}

const (
	statusPass = "PASS"
	statusFail = "FAIL"
	statusSkip = "SKIP"
	statusNone = "NONE" // it began and never ended
)

// guestTest is a test that ran in a guest, with what it printed itself.
type guestTest struct {
	name   string
	status string
	took   time.Duration
	log    string
}

func (g guestTest) report(t *testing.T) {
	switch g.status {
	case statusFail:
		t.Errorf("failed in the guest\n%s", g.log)
	case statusNone:
		t.Errorf("did not end in the guest\n%s", tail(g.log))
	case statusSkip:
		t.Skip(strings.TrimSpace(g.log))
	}
}

// longest names the tests that took most of the time.
func longest(tests []guestTest) string {
	const most = 5
	whole := slices.DeleteFunc(slices.Clone(tests), func(t guestTest) bool { return strings.Contains(t.name, "/") })
	slices.SortFunc(whole, func(a, b guestTest) int { return cmp.Compare(b.took, a.took) })
	var names []string
	for _, t := range whole[:min(most, len(whole))] {
		names = append(names, fmt.Sprintf("%s %v", strings.TrimPrefix(t.name, guestTests), t.took.Round(time.Second)))
	}
	return strings.Join(names, ", ")
}

// parseTests parses the output of a test binary with -test.v. Tests come in the
// order in which they began, and as often as they ran.
func parseTests(text string) []guestTest {
	var tests []guestTest
	index := map[string]int{}
	current := -1
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		if fields := strings.Fields(trimmed); len(fields) == 3 && fields[0] == "===" {
			name := fields[2]
			if i, ok := index[name]; !ok || tests[i].status != statusNone {
				index[name] = len(tests)
				tests = append(tests, guestTest{name: name, status: statusNone})
			}
			current = index[name]
			continue
		}
		if rest, ok := strings.CutPrefix(trimmed, "--- "); ok {
			status, rest, _ := strings.Cut(rest, ": ")
			name, took, _ := strings.Cut(rest, " (")
			if i, ok := index[name]; ok {
				tests[i].status = status
				tests[i].took, _ = time.ParseDuration(strings.TrimSuffix(took, ")")) // or 0
				current = i
				continue
			}
		}
		if current >= 0 {
			tests[current].log += line
		}
	}
	return tests
}

func TestParseTests(t *testing.T) {
	const text = `=== RUN   TestGuestA
=== RUN   TestGuestA/x_y
    a_test.go:5: wrong
        more
=== RUN   TestGuestA/z
=== NAME  TestGuestA
    a_test.go:9: late
--- FAIL: TestGuestA (0.10s)
    --- FAIL: TestGuestA/x_y (0.00s)
    --- PASS: TestGuestA/z (0.00s)
=== RUN   TestGuestB
    b_test.go:1: not here
--- SKIP: TestGuestB (0.00s)
=== RUN   TestGuestC
--- PASS: TestGuestC (0.00s)
=== RUN   TestGuestC
panic: oh
`
	want := []guestTest{
		{"TestGuestA", statusFail, 100 * time.Millisecond, "    a_test.go:9: late\n"},
		{"TestGuestA/x_y", statusFail, 0, "    a_test.go:5: wrong\n        more\n"},
		{"TestGuestA/z", statusPass, 0, ""},
		{"TestGuestB", statusSkip, 0, "    b_test.go:1: not here\n"},
		{"TestGuestC", statusPass, 0, ""},
		{"TestGuestC", statusNone, 0, "panic: oh\n"},
	}
	got := parseTests(text)
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if text := longest(got); text != "A 0s, B 0s, C 0s, C 0s" {
		t.Errorf("longest: %q", text)
	}
}

func TestParseMatrix(t *testing.T) {
	got, err := parseMatrix("amd64:6.12,7.2;arm64:7.2")
	if want := []series{{"amd64", "6.12"}, {"amd64", "7.2"}, {"arm64", "7.2"}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"6.12", "amd64:", "amd64", "riscv:6.12"} {
		if _, err := parseMatrix(bad); err == nil {
			t.Errorf("%q: %v", bad, errors.New("no error"))
		}
	}
}
