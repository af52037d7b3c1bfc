package matrix

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// capabilities are what tracing needs, and what names they have in messages.
var capabilities = map[uintptr]string{
	unix.CAP_BPF:     "CAP_BPF",
	unix.CAP_PERFMON: "CAP_PERFMON",
	unix.CAP_SYSLOG:  "CAP_SYSLOG",
}

// enough are the capabilities that tracing takes here.
func enough() []uintptr {
	caps := []uintptr{unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYSLOG}
	if !kernelFrom(5, 11) {
		// Maps count against RLIMIT_MEMLOCK, which must be raised: d5299b67dd59
		// and the commits around it ended that.
		caps = append(caps, unix.CAP_SYS_RESOURCE)
	}
	return caps
}

// unprivileged returns attributes of a process of nobody with capabilities.
func unprivileged(caps ...uintptr) *syscall.SysProcAttr {
	const nobody = 65534
	return &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: nobody, Gid: nobody},
		AmbientCaps: caps,
	}
}

// TestGuestWithoutPrivileges checks that the message names what is missing.
func TestGuestWithoutPrivileges(t *testing.T) {
	inGuest(t)
	for name, have := range map[string][]uintptr{
		"none":           nil,
		"no CAP_BPF":     slices.DeleteFunc(enough(), func(c uintptr) bool { return c == unix.CAP_BPF }),
		"no CAP_PERFMON": slices.DeleteFunc(enough(), func(c uintptr) bool { return c == unix.CAP_PERFMON }),
		"no CAP_SYSLOG":  slices.DeleteFunc(enough(), func(c uintptr) bool { return c == unix.CAP_SYSLOG }),
	} {
		t.Run(name, func(t *testing.T) {
			cmd := traceCommand("-k", "icmp_rcv", "--output-stack", "--json", "--", "true")
			cmd.SysProcAttr = unprivileged(have...)
			res := startCommand(t, cmd).wait()
			if res.Status != 1 || res.Stdout != "" {
				t.Errorf("status %d, stdout %q", res.Status, res.Stdout)
			}
			for c, name := range capabilities {
				if missing := !slices.Contains(have, c); missing != strings.Contains(res.Stderr, name) {
					t.Errorf("%s is missing: %v, stderr: %s", name, missing, res.Stderr)
				}
			}
		})
	}
}

// TestGuestCapabilities checks that these capabilities are enough.
func TestGuestCapabilities(t *testing.T) {
	inGuest(t)
	warmUp(t)
	set := chainSetOf(truthOf(t, echo(t, 2), "icmp_rcv"))
	cmd := traceCommand("-k", "icmp_rcv", "--output-stack", "--json")
	cmd.SysProcAttr = unprivileged(enough()...)
	checkTraces(t, set, cmd)
}

// TestGuestGraphCapabilities checks that they are enough for a graph, too, and that
// what they don't show is told.
func TestGuestGraphCapabilities(t *testing.T) {
	inGuest(t)
	cmd := traceCommand("-k", "icmp_rcv", "-g", "--fgraph-max-depth", "1", "--no-learn", "--json")
	cmd.SysProcAttr = unprivileged(enough()...)
	r := startCommand(t, cmd)
	r.mode = modeOf(cmd.Args[1:])
	r.ready()
	echo(t, 3)()
	o := r.stop()
	inside := 0
	for _, e := range o.of("call", "") {
		inside += e.Depth
	}
	if inside == 0 {
		t.Errorf("no call in %d of icmp_rcv; %+v", len(o.of("call", "icmp_rcv")), o.End)
	}
	if !slices.ContainsFunc(o.End.Skipped, func(s skip) bool { return s.Module == "bpf" && strings.Contains(s.Reason, "CAP_SYS_ADMIN") }) {
		t.Errorf("not told that BPF programs are hidden: %+v", o.End.Skipped)
	}
}

// TestGuestHiddenAddresses checks what happens where the kernel tells nobody its
// addresses.
func TestGuestHiddenAddresses(t *testing.T) {
	inGuest(t)
	const file = "/proc/sys/kernel/kptr_restrict"
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	symbols() // while they can be read
	if err := os.WriteFile(file, []byte("2"), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(file, old, 0); err != nil {
			t.Error(err)
		}
	})
	res := run(t, "-k", "icmp_rcv", "--output-stack", "--", "true")
	if res.Status != 1 || !strings.Contains(res.Stderr, "kptr_restrict") {
		t.Errorf("status %d, stderr %s", res.Status, res.Stderr)
	}
	o := traceDuring(t, echo(t, 2), "-k", "icmp_rcv")
	if n := len(o.of("call", "icmp_rcv")); n != icmpPerEcho*2 {
		t.Errorf("without stacks: %d calls", n)
	}
}
