package matrix

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// withZero has a worker use /dev/zero, once it is called.
func withZero(t *testing.T, use func(fd int)) func() {
	return func() {
		onWorker(func() {
			fd, err := unix.Open("/dev/zero", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer unix.Close(fd)
			use(fd)
		})
	}
}

// readZero makes calls of vfs_read for so many bytes, in rounds.
func readZero(t *testing.T, rounds int, sizes []int) func() {
	return withZero(t, func(fd int) {
		buf := make([]byte, slices.Max(sizes))
		for range rounds {
			for _, n := range sizes {
				if _, err := unix.Read(fd, buf[:n]); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

// readSizes returns what calls of vfs_read were made for.
func readSizes(t *testing.T, events []event) []int64 {
	t.Helper()
	sizes := []int64{}
	for _, e := range events {
		count, ok := e.arg("count")
		number, isNumber := count.Value.(json.Number)
		if !ok || !isNumber {
			t.Fatalf("%+v has no count", e)
		}
		n, err := number.Int64()
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, n)
	}
	return sizes
}

// TestGuestFilterArg: those calls are shown for which expressions hold, and no
// others, by each way of attaching and in each mode.
func TestGuestFilterArg(t *testing.T) {
	inGuest(t)
	const rounds = 3
	sizes := []int{16, 100, 101, 200, 4096}
	isZero := `file->f_path.dentry->d_name.name == "zero"`
	type filter struct {
		exprs []string
		want  func(size int) bool
	}
	large := filter{[]string{isZero, "buf && count % 100 == 0"}, func(n int) bool { return n%100 == 0 }}
	check := func(t *testing.T, f filter, args ...string) {
		t.Helper()
		args = append([]string{"-k", "vfs_read", "--filter-comm", workerName}, args...)
		for _, e := range f.exprs {
			args = append(args, "--filter-arg", e)
		}
		o := traceDuring(t, readZero(t, rounds, sizes), args...)
		want := []int64{}
		for range rounds {
			for _, n := range sizes {
				if f.want(n) {
					want = append(want, int64(n))
				}
			}
		}
		kinds := eventsOf(modeOf(args))
		for _, kind := range kinds {
			if got := readSizes(t, o.of(kind, "vfs_read")); !slices.Equal(got, want) {
				t.Errorf("%s events of %v bytes, want %v; %+v", kind, got, want, o.End)
			}
		}
		if len(o.Events) != len(kinds)*len(want) || o.End.Lost > 0 {
			t.Errorf("%d events, want %d of each of %v; %+v", len(o.Events), len(want), kinds, o.End)
		}
	}
	for i, f := range []filter{
		{[]string{"count > 100"}, func(n int) bool { return n > 100 }},
		{[]string{"count > 100", "count < 4096"}, func(n int) bool { return n > 100 && n < 4096 }},
		{[]string{"file->f_inode->i_rdev == (1 << 20 | 5) && count == 16"}, func(n int) bool { return n == 16 }},
		{[]string{"!file->f_inode->i_rdev"}, func(int) bool { return false }},
		{[]string{"((struct file *)((char *)file + (count - count)))->f_inode == file->f_inode"}, func(int) bool { return true }},
		{[]string{"(long)file < 0 && file != NULL && (unsigned)(long)file == ((long)file & 0xffffffff)"}, func(int) bool { return true }},
		{[]string{"((struct file *)8)->f_inode || 1"}, func(int) bool { return false }}, // it can't be read
		large,
	} {
		if !inShare(t, i) {
			continue
		}
		t.Run(strings.Join(f.exprs, ", "), func(t *testing.T) { check(t, f) })
	}
	t.Run("of one function", func(t *testing.T) {
		o := traceDuring(t, readZero(t, rounds, sizes), "-k", `rw_verify_area,vfs_read{count == 200 && file->f_path.dentry->d_name.name == "zero"}`, "--filter-comm", workerName)
		if got := readSizes(t, o.of("call", "vfs_read")); fmt.Sprint(got) != "[200 200 200]" {
			t.Errorf("calls of %v bytes; %+v", got, o.End)
		}
		if got := len(o.of("call", "rw_verify_area")); got != rounds*len(sizes) {
			t.Errorf("%d calls of the other, want %d; %+v", got, rounds*len(sizes), o.End)
		}
	})
	for _, mode := range []string{"entry", "exit", "entry,exit"} {
		t.Run(mode, func(t *testing.T) { check(t, large, "-m", mode) })
	}
	for backend, have := range backends() {
		if have {
			t.Run(backend, func(t *testing.T) { check(t, large, "--backend", backend) })
		}
	}
}

// TestGuestFilterVariables: conditions over global and per-CPU variables.
func TestGuestFilterVariables(t *testing.T) {
	inGuest(t)
	var own unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &own); err != nil {
		t.Fatal(err)
	}
	const calls = 4
	for filter, want := range ofShare(t, map[string]int{
		fmt.Sprint(`jiffies && init_task.pid == 0 && init_task.comm == "swapper/0" && (long)&init_net < 0 && *(unsigned *)&nr_threads > 1 && init_net.ns.inum == `, own.Ino): calls,
		fmt.Sprint("jiffies && init_net.ns.inum == ", own.Ino+1):                                               0,
		`((struct rq *)&runqueues)->cpu == 0 && ((struct rq *)&runqueues)->curr->comm == "` + workerName + `"`: calls, // the guest has one CPU
		`((struct rq *)&runqueues)->curr->comm == "nobody"`:                                                    0,
	}) {
		o := traceDuring(t, readZero(t, calls, []int{5}), "-k", "vfs_read", "--filter-comm", workerName, "--filter-arg", filter)
		if len(o.Events) != want || o.End.Lost > 0 {
			t.Errorf("%s: %d calls, want %d; %+v", filter, len(o.Events), want, o.End)
		}
	}
	for filter, want := range ofShare(t, map[string]string{
		"nr_threads > 1":    "at offset 0: BTF does not have the type of nr_threads: write *(TYPE *)&nr_threads",
		"vfs_write == 1":    "at offset 0: there is no vfs_write here",
		"init_nett.ns.inum": "at offset 0: there is no init_nett here",
	}) {
		refuses(t, want, "-k", "vfs_read", "--filter-arg", filter, "--", "true")
	}
}

// TestGuestFilterStack: conditions over arguments that are passed on the stack, and
// over a string of a user's.
func TestGuestFilterStack(t *testing.T) {
	inGuest(t)
	const calls = 6 // every other one is to be seen
	send := func() {
		onWorker(func() {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
			if err != nil {
				t.Error(err)
				return
			}
			defer unix.Close(fd)
			for i := range calls {
				reply := make([]byte, 8+i) // of type 0: nobody answers
				flags := map[bool]int{true: unix.MSG_DONTWAIT}[i%2 == 1]
				if err := unix.Sendto(fd, reply, flags, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	open := func() {
		onWorker(func() {
			for i := range calls {
				if fd, err := unix.Open([]string{"/dev/zero", "/dev/null"}[i%2], unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
					unix.Close(fd)
				}
			}
		})
	}
	stack := func(t *testing.T, args ...string) {
		t.Helper()
		o := traceDuring(t, send, append([]string{"-k", "ip_append_data", "--filter-comm", workerName, "--filter-arg", "flags & 0x40 && length"}, args...)...)
		got := []string{}
		for _, e := range o.of("call", "ip_append_data") {
			length, _ := e.arg("length")
			got = append(got, fmt.Sprint(length.Value))
		}
		if fmt.Sprint(got) != "[9 11 13]" || o.End.Lost > 0 {
			t.Errorf("calls for %v bytes; %+v", got, o.End)
		}
	}
	check := func(t *testing.T, args ...string) {
		t.Helper()
		o := traceDuring(t, open, append([]string{"-k", "do_sys_openat2", "--filter-comm", workerName, "--filter-arg", `filename == "/dev/null"`}, args...)...)
		for _, e := range o.of("call", "do_sys_openat2") {
			checkArg(t, e, "filename", "const char *", "/dev/null")
		}
		if len(o.Events) != calls/2 || o.End.Lost > 0 {
			t.Errorf("%d calls, want %d; %+v", len(o.Events), calls/2, o.End)
		}
	}
	t.Run("links", func(t *testing.T) {
		check(t)
		if res := run(t, "-k", "ip_append_data", "--", "true"); res.Status == 0 {
			stack(t)
		} else if !strings.Contains(res.Stderr, "argument words, more than the") { // up to 6.10: kernels' trampolines took 6
			t.Errorf("%+v", res)
		}
	})
	for backend, have := range backends() {
		if have {
			t.Run(backend, func(t *testing.T) {
				check(t, "--backend", backend)
				stack(t, "--backend", backend)
			})
		}
	}
	graph := []string{"-g", "--fgraph-max-depth", "1", "--fgraph-include", "none", "--no-learn"}
	t.Run("roots", func(t *testing.T) {
		check(t, graph...)
		stack(t, graph...)
	})
}

// TestGuestFilterNoReturn: a root that never returns has its way of attaching, and its
// filter.
func TestGuestFilterNoReturn(t *testing.T) {
	inGuest(t)
	exits := func() {
		for _, status := range []string{"0", "3", "4", "3"} {
			if res := startCommand(t, guestCommand("sh", "-c", "exit "+status)).wait(); fmt.Sprint(res.Status) != status {
				t.Errorf("%+v, want status %s", res, status)
			}
		}
		time.Sleep(time.Second) // a task goes when nobody can look at it any more
	}
	o := traceDuring(t, exits, "-k", "do_group_exit", "-g", "--fgraph-max-depth", "1", "--no-learn", "--fgraph-include", "do_exit",
		"--filter-arg", "exit_code == 0x300")
	got := []string{}
	for _, e := range o.of("call", "do_group_exit") {
		code, _ := e.arg("exit_code")
		got = append(got, fmt.Sprint(code.Value))
	}
	if fmt.Sprint(got) != "[768 768]" {
		t.Errorf("exits of %v, want two of 768; %+v", got, o.End)
	}
}

// TestGuestFilterRoots: expressions select the roots of a graph, which are then
// whole.
func TestGuestFilterRoots(t *testing.T) {
	inGuest(t)
	sizes := []int{16, 200}
	args := []string{"-k", "vfs_read", "-g", "--fgraph-max-depth", "1", "--fgraph-include", "rw_verify_area", "--no-learn", "--filter-comm", workerName}
	all := traceDuring(t, readZero(t, 4, sizes), args...)
	some := traceDuring(t, readZero(t, 4, sizes), append(args, "--filter-arg", "count == 200")...)
	if got, want := readSizes(t, some.of("call", "vfs_read")), []int64{200, 200, 200, 200}; !slices.Equal(got, want) {
		t.Errorf("roots of %v bytes, want %v; %+v", got, want, some.End)
	}
	if got, want := len(some.of("call", "rw_verify_area")), len(all.of("call", "rw_verify_area"))/2; got != want || want == 0 {
		t.Errorf("%d nodes below them, want %d; %+v", got, want, some.End)
	}
}

// TestGuestFilterNode: below the roots those calls are shown for which expressions hold,
// and functions that they do not apply to are left out.
func TestGuestFilterNode(t *testing.T) {
	inGuest(t)
	sizes := []int{16, 200}
	args := []string{"-k", "vfs_read", "-g", "--fgraph-max-depth", "1", "--no-learn", "--filter-comm", workerName, "--filter-node", "count == 200"}
	check := func(t *testing.T, args ...string) {
		t.Helper()
		o := traceDuring(t, readZero(t, 4, sizes), args...)
		if got := len(o.of("call", "vfs_read")); got != 8 {
			t.Errorf("%d roots, want 8; %+v", got, o.End)
		}
		below := 0
		for _, e := range o.Events {
			count, ok := e.arg("count")
			if e.Depth > 0 && (!ok || fmt.Sprint(count.Value) != "200") {
				t.Errorf("a node that was not asked for: %+v", e)
			}
			if e.Func == "rw_verify_area" {
				below++
			}
		}
		if below != 4 {
			t.Errorf("%d nodes, want 4; %+v", below, o.End)
		}
		if !slices.ContainsFunc(o.End.Skipped, func(s skip) bool { return s.Reason == "the filter does not apply: there is no count here" }) {
			t.Errorf("nothing is told of functions that have no count: %+v", o.End.Skipped)
		}
	}
	t.Run("chosen", func(t *testing.T) { check(t, args...) })
	for backend, have := range backends() {
		if have {
			t.Run(backend, func(t *testing.T) { check(t, append(args, "--backend", backend)...) })
		}
	}
}

// TestGuestLongNodes: with a threshold a graph has what took so long, and text opens what
// that was called in.
func TestGuestLongNodes(t *testing.T) {
	inGuest(t)
	const least = 30 * time.Millisecond
	wait := func() {
		onWorker(func() {
			for range 3 {
				if err := unix.Nanosleep(&unix.Timespec{Nsec: int64(2 * least)}, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	args := []string{
		"-k", "hrtimer_nanosleep", "-g", "--fgraph-max-depth", "3", "--no-learn", "--fgraph-include", "do_nanosleep,hrtimer_start_range_ns,schedule,hrtimer_*",
		"--filter-comm", workerName, "--duration-threshold", least.String(),
	}
	o := traceDuring(t, wait, args...)
	roots := o.of("call", "hrtimer_nanosleep")
	sleeps := o.of("call", "do_nanosleep")
	if len(roots) != 3 || len(sleeps) != 3 {
		t.Fatalf("%d roots and %d nodes, want 3 of each; %+v", len(roots), len(sleeps), o.End)
	}
	for _, e := range o.Events {
		if e.Duration < uint64(least) && e.End == "" {
			t.Errorf("%s took %d ns, less than %v", e.Func, e.Duration, least)
		}
	}
	for i, e := range sleeps {
		if e.Parent != roots[i].ID || e.Depth != 1 {
			t.Errorf("node %d at %d below %d, want %d", e.ID, e.Depth, e.Parent, roots[i].ID)
		}
	}
	text := slices.Replace(slices.Clone(args), slices.Index(args, workerName), slices.Index(args, workerName)+1, "sleep")
	res := run(t, append(text, "--", "sleep", "0.1")...)
	lines := strings.Split(res.Stdout, "\n")
	if i := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, " do_nanosleep(") }); res.Status != 0 || i < 1 ||
		!strings.Contains(lines[i-1], " hrtimer_nanosleep(") || !strings.HasSuffix(lines[i-1], " {") {
		t.Errorf("status %d\n%s", res.Status, res.Stdout)
	}
}

// TestGuestFilterRet: calls are shown by what they returned, with and without strings,
// and in each mode that has exits.
func TestGuestFilterRet(t *testing.T) {
	inGuest(t)
	open := func() {
		onWorker(func() {
			for i := range 6 {
				path := "/dev/null"
				if i%3 == 0 {
					path = "/none"
				}
				if fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
					unix.Close(fd)
				}
			}
		})
	}
	for _, mode := range []string{"", "exit", "entry,exit"} {
		t.Run("strings "+mode, func(t *testing.T) {
			args := []string{"-k", "do_sys_openat2", "--filter-comm", workerName, "--filter-ret", "retval == -2"}
			if mode != "" {
				args = append(args, "-m", mode)
			}
			o := traceDuring(t, open, args...)
			failed, entries := 0, len(o.of("entry", ""))
			for _, e := range o.Events {
				if e.Event != "entry" && e.Retval.Error == "-ENOENT" {
					failed++
				}
			}
			want := map[bool]int{true: 6}[mode == "entry,exit"] // entries are shown before anybody knows
			if failed != 2 || entries != want || len(o.Events) != failed+entries {
				t.Errorf("%d calls that failed, want 2, and %d entries, want %d, of %d; %+v", failed, entries, want, len(o.Events), o.End)
			}
		})
	}
	sizes := []int{16, 200, 300}
	for backend, have := range backends() {
		if have {
			t.Run(backend, func(t *testing.T) {
				o := traceDuring(t, readZero(t, 3, sizes), "-k", "vfs_read", "--filter-comm", workerName, "--backend", backend,
					"--filter-ret", "retval > 100", "--filter-ret", "retval < 300", "--filter-arg", "count != 300 || !buf")
				if got := readSizes(t, o.Events); fmt.Sprint(got) != "[200 200 200]" {
					t.Errorf("calls of %v bytes; %+v", got, o.End)
				}
			})
		}
	}
	o := traceDuring(t, readZero(t, 3, sizes), "-k", "vfs_read", "--filter-comm", workerName, "--filter-ret", "retval / 100 == 2")
	if got := readSizes(t, o.Events); fmt.Sprint(got) != "[200 200 200]" {
		t.Errorf("calls of %v bytes; %+v", got, o.End)
	}
}

// TestGuestDurationThreshold: calls that took less are not shown.
func TestGuestDurationThreshold(t *testing.T) {
	inGuest(t)
	const slow = 50 * time.Millisecond
	work := func() {
		var ends [2]int
		if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
			t.Error(err)
			return
		}
		defer files(ends[:]).close()
		onWorker(func() {
			buf := make([]byte, 9)
			for i := range 6 {
				size, delay := 1, time.Duration(0)
				if i%3 == 0 {
					size, delay = 7, slow
				}
				written := make(chan error)
				go func() {
					time.Sleep(delay)
					_, err := unix.Write(ends[1], buf[:size])
					written <- err
				}()
				if delay == 0 {
					if err := <-written; err != nil {
						t.Error(err)
					}
				}
				if n, err := unix.Read(ends[0], buf[:size]); n != size || err != nil {
					t.Errorf("read %d, %v", n, err)
				}
				if delay > 0 {
					if err := <-written; err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	for _, mode := range []string{"", "exit"} {
		args := []string{"-k", "vfs_read", "--filter-comm", workerName, "--filter-arg", "count < 9", "--duration-threshold", (slow / 2).String()}
		if mode != "" {
			args = append(args, "-m", mode)
		}
		o := traceDuring(t, work, args...)
		if got := len(o.Events); got != 2 {
			t.Errorf("mode %q: %d calls, want 2; %+v %+v", mode, got, o.Events, o.End)
		}
		for _, e := range o.Events {
			if time.Duration(e.Duration) < slow/2 || fmt.Sprint(e.Retval.Value) != "7" {
				t.Errorf("%+v", e)
			}
		}
	}
}

// refuses runs trace with what it should find wrong, before it attaches anything.
func refuses(t *testing.T, want string, args ...string) {
	t.Helper()
	if res := run(t, args...); res.Status != 2 || !strings.Contains(res.Stderr, want) || res.Stdout != "" {
		t.Errorf("%q: %+v, want %q", args, res, want)
	}
}

// TestGuestFilterErrors: an expression that does not apply is an error of a name,
// before anything is attached, and leaves out functions of a glob.
func TestGuestFilterErrors(t *testing.T) {
	inGuest(t)
	for expression, want := range ofShare(t, map[string]string{
		"counts > 1":    "trace: filter calls of vfs_read: at offset 0: there is no counts here: count?; parameters are file, buf, count, pos\ncounts > 1\n^\n",
		"count >":       "trace: filter calls of vfs_read: at offset 7: the end where a value is expected\ncount >\n       ^\n",
		"file->f_ino":   "at offset 6: struct file has no member f_ino",
		"skb->len":      "there is no skb here",
		"retval < 0":    "there is no result",
		"file == \"x\"": "a string is compared with",
	}) {
		refuses(t, want, "-k", "vfs_read", "--filter-arg", expression, "--", "true")
	}
	o := traceDuring(t, readZero(t, 3, []int{7}), "-k", "vfs_read,vfs_fsync*", "--filter-comm", workerName, "--filter-arg", "count == 7")
	if got := readSizes(t, o.Events); fmt.Sprint(got) != "[7 7 7]" {
		t.Errorf("calls of %v bytes", got)
	}
	if reason, ok := o.End.skipped("vfs_fsync"); !ok || !strings.Contains(reason, "there is no count here") {
		t.Errorf("vfs_fsync is not told of: %q; %+v", reason, o.End)
	}
	for args, want := range ofShare(t, map[string]string{
		"--filter-ret retvall<0":             "there is no retvall here, only retval",
		"--filter-ret count>0":               "there is no count here, only retval",
		"-m entry --filter-ret retval<0":     "parse --filter-ret: entries alone have no exits",
		"-m entry --duration-threshold 1s":   "parse --duration-threshold: entries alone have no exits",
		"-g --filter-ret retval<0":           "it doesn't go with -g",
		"-g --filter-node count+":            "filter nodes: at offset 6: the end where a value is expected",
		"--duration-threshold -1ms":          "-1ms is negative",
		"-k consume_skb --filter-ret retval": "filter calls of consume_skb: at offset 0: there is no result",
	}) {
		refuses(t, want, append([]string{"-k", "vfs_read"}, strings.Fields(args)...)...)
	}
	if res := run(t, "-k", "vfs_fsync*", "--filter-arg", "count == 7", "--", "true"); res.Status == 0 || !strings.Contains(res.Stderr, "can be traced") {
		t.Errorf("status %d: %s", res.Status, res.Stderr)
	}
}
