package matrix

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// TestGuestBadInput checks messages and statuses, where nothing is traced.
func TestGuestBadInput(t *testing.T) {
	inGuest(t)
	for name, test := range ofShare(t, map[string]struct {
		args   []string
		status int
		stderr string
	}{
		"unknown function": {[]string{"-k", "icmp_recv"}, 1, `no kernel function is called "icmp_recv"; the nearest are .*\bicmp_rcv\b`},
		"unknown glob":     {[]string{"-k", "no_such_*"}, 1, `no kernel function matches "no_such_\*"`},
		"denied":           {[]string{"-k", "kernel_text_address"}, 1, `not traced: kernel_text_address: on the deny list: `},
		"too many":         {[]string{"-k", "*"}, 2, `"\*" names \d{5} functions; --yes traces more than \d+`},
		"unwritable":       {[]string{"-k", "icmp_rcv", "-o", "/no/such/file"}, 1, `open output: open /no/such/file: no such file or directory`},
		"no command":       {[]string{"-k", "icmp_rcv", "--", "no-such-command"}, 1, `find command: .*no-such-command`},
		"bad glob":         {[]string{"-k", "icmp_[rs"}, 2, `unclosed bracket`},
		"bad mode":         {[]string{"-k", "icmp_rcv", "-m", "x"}, 2, `no mode "x"`},
	}) {
		t.Run(name, func(t *testing.T) {
			res := run(t, append([]string{"--json"}, test.args...)...)
			if res.Status != test.status || !regexp.MustCompile(test.stderr).MatchString(res.Stderr) {
				t.Errorf("status %d, want %d; stderr %s, want %s", res.Status, test.status, res.Stderr, test.stderr)
			}
			if res.Stdout != "" {
				t.Errorf("stdout %q", res.Stdout)
			}
		})
	}
}

// TestGuestGlob checks that each function that a glob names is traced, or listed
// with a reason.
func TestGuestGlob(t *testing.T) {
	inGuest(t)
	want := map[string]bool{}
	for _, s := range functions(`^icmp_`) {
		want[s.Name] = true
	}
	o, res := runJSON(t, 0, "-v", "-k", "icmp_*", "--", "ping", "-c", "1", "127.0.0.1")
	got := map[string]bool{}
	add := func(name, why string) {
		if got[name] {
			t.Errorf("%s is listed twice, at last as %s", name, why)
		}
		got[name] = true
	}
	traced := regexp.MustCompile(`(?m)^trace: tracing (\S+) (\[\S+\] )?at `).FindAllStringSubmatch(res.Stderr, -1)
	for _, m := range traced {
		add(m[1], "traced")
	}
	if len(traced) != o.Start.Targets || o.Start.Targets < 5 {
		t.Errorf("%d functions are traced, the start has %d", len(traced), o.Start.Targets)
	}
	for _, s := range o.End.Skipped {
		add(s.Func, "skipped: "+s.Reason)
		if !want[s.Func] && strings.Contains(s.Reason, "no symbol") {
			// The types know functions that are no symbols: all their calls
			// are inlined, or go to a copy (.constprop).
			want[s.Func] = true
		}
	}
	if diff := diffOf(want, got); diff != "" {
		t.Errorf("functions (-kallsyms +shown)\n%s", diff)
	}
	if len(o.of("call", "icmp_rcv")) != icmpPerEcho {
		t.Errorf("%d calls of icmp_rcv", len(o.of("call", "icmp_rcv")))
	}
}

// TestGuestWithoutTracefs checks that nothing needs tracefs.
func TestGuestWithoutTracefs(t *testing.T) {
	inGuest(t)
	warmUp(t)
	set := chainSetOf(truthOf(t, echo(t, 2), "icmp_rcv"))
	const script = `umount -l /sys/kernel/tracing && umount -l /sys/kernel/debug && ! test -e /sys/kernel/tracing/README && exec "$@"`
	cmd := guestCommand("sh", "-c", script, "sh", tracePath, "--json", "-k", "icmp_rcv", "--output-stack")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	checkTraces(t, set, cmd)
}

// checkTraces checks that a trace of icmp_rcv that a command runs goes well.
func checkTraces(t *testing.T, set chainSet, cmd *exec.Cmd) {
	t.Helper()
	r := startCommand(t, cmd)
	r.ready()
	echo(t, 3)()
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if res := r.wait(); res.Status != 0 {
		t.Fatalf("status %d: %s", res.Status, r.describe())
	}
	o, err := parseOutput([]byte(r.stdout.String()), "")
	if err != nil {
		t.Fatal(err)
	}
	set.compareAll(t, o.of("call", "icmp_rcv"), icmpPerEcho*3)
}

// TestGuestDryRun checks that --dry-run prints the plan and traces nothing.
func TestGuestDryRun(t *testing.T) {
	inGuest(t)
	printk := firstFunction(t, "_printk", "printk")
	before := kernelObjects(t)
	res := run(t, "-k", "icmp_rcv,"+printk, "--dry-run", "--", "touch", "/tmp/dry")
	if res.Status != 0 || res.Stdout != "icmp_rcv: int icmp_rcv(struct sk_buff *skb)\n" {
		t.Errorf("status %d, stdout %q", res.Status, res.Stdout)
	}
	if !strings.Contains(res.Stderr, printk) {
		t.Errorf("stderr does not say that %s isn't traced: %s", printk, res.Stderr)
	}
	if _, err := os.Stat("/tmp/dry"); err == nil {
		t.Error("the command ran")
	}
	if left := newObjects(t, before); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

var (
	textCall  = regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d\.\d+ \[0\] ping/\d+ icmp_rcv\(struct sk_buff \*skb=0x[0-9a-f]+\) = [01] .*\d(ns|us|ms|s)$`)
	textFrame = regexp.MustCompile(`(?m)^ +ip_protocol_deliver_rcu\+0x[0-9a-f]+$`)
	escape    = regexp.MustCompile(`\x1b\[`)
)

// TestGuestText checks the text for people.
func TestGuestText(t *testing.T) {
	inGuest(t)
	for _, color := range []string{"auto", "always"} {
		res := run(t, "-k", "icmp_rcv", "--output-stack", "--color", color, "--", "ping", "-q", "-c", "1", "127.0.0.1")
		if res.Status != 0 {
			t.Fatalf("status %d: %s", res.Status, res.Stderr)
		}
		if colored := escape.MatchString(res.Stdout); colored != (color == "always") {
			t.Errorf("colours: %v with --color %s", colored, color)
		}
		plain := regexp.MustCompile(`\x1b\[[0-9;]*m`).ReplaceAllString(res.Stdout, "")
		if n := len(textCall.FindAllString(plain, -1)); n != icmpPerEcho {
			t.Errorf("%d calls in\n%s", n, plain)
		}
		if n := len(textFrame.FindAllString(plain, -1)); n != icmpPerEcho {
			t.Errorf("%d callers in\n%s", n, plain)
		}
		if !strings.Contains(res.Stderr, "trace: 2 events, 0 lost") {
			t.Errorf("stderr: %s", res.Stderr)
		}
	}
}
