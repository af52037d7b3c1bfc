package matrix

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// needModule skips a test where the archive has no modules for this kernel. One
// that the guest was given and did not load is a failure.
func needModule(t *testing.T, name string) {
	t.Helper()
	if !slices.Contains(strings.Split(os.Getenv(modulesEnv), ","), name) {
		t.Skipf("the archive has no modules for this kernel")
	}
	if _, err := os.Stat("/sys/module/" + name); err != nil {
		t.Fatalf("module %s is not loaded: %v", name, err)
	}
}

// haveModuleBTF tells whether the kernel has types of its modules: from 5.11
// (36e68442d1af).
func haveModuleBTF() bool {
	_, err := os.Stat("/sys/kernel/btf/dummy")
	return err == nil
}

// sendOnDummy is a work that calls dummy_xmit: a datagram to where the dummy
// device leads.
func sendOnDummy(t *testing.T, n int) func() {
	t.Helper()
	for _, args := range [][]string{
		{"addr", "replace", "10.99.0.1/24", "dev", "dummy0"},
		{"link", "set", "dummy0", "up"},
	} {
		if res := startCommand(t, guestCommand("ip", args...)).wait(); res.Status != 0 {
			t.Fatalf("ip %v: %s", args, res.Stderr)
		}
	}
	work := func(n int) {
		onWorker(func() {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer unix.Close(fd)
			for range n {
				if err := unix.Sendto(fd, []byte("x"), 0, &unix.SockaddrInet4{Addr: [4]byte{10, 99, 0, 2}, Port: 9}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	work(1) // makes the neighbour
	return func() { work(n) }
}

// TestGuestModule traces a function of a module.
func TestGuestModule(t *testing.T) {
	inGuest(t)
	needModule(t, "dummy")
	work := sendOnDummy(t, 3)
	if !haveModuleBTF() {
		o := traceDuring(t, work, "-k", "dummy_xmit,icmp_rcv")
		if len(o.End.Skipped) != 1 || o.End.Skipped[0].Func != "dummy_xmit" || o.End.Skipped[0].Module != "dummy" || !strings.Contains(o.End.Skipped[0].Reason, "BTF") {
			t.Errorf("skipped %+v", o.End.Skipped)
		}
		return
	}
	set := chainSetOf(truthOf(t, work, "dummy_xmit"))
	for _, mode := range modes {
		t.Run(modeName(mode), func(t *testing.T) {
			o := traceDuring(t, work, modeArgs(mode, "-k", "dummy_xmit", "--output-stack")...)
			for _, kind := range eventsOf(mode) {
				events := o.of(kind, "dummy_xmit")
				set.compareAll(t, events, 3)
				for _, e := range events {
					if e.Module != "dummy" {
						t.Errorf("module %q", e.Module)
					}
					if a, _ := e.arg("skb"); a.Type != "struct sk_buff *" {
						t.Errorf("skb is %+v", a)
					}
				}
			}
		})
	}
}

// TestGuestListModule lists a module's functions.
func TestGuestListModule(t *testing.T) {
	inGuest(t)
	needModule(t, "veth")
	var want []string
	for _, s := range functions(`^veth_`) {
		want = append(want, s.Name)
	}
	slices.Sort(want)
	want = slices.Compact(want)
	if len(want) < 10 {
		t.Fatalf("the kernel has %v", want)
	}
	res := run(t, "list", "veth_*", "--json")
	if res.Status != 0 {
		t.Fatalf("status %d: %s", res.Status, res.Stderr)
	}
	var got []string
	traceable := 0
	for line := range strings.Lines(res.Stdout) {
		var f struct {
			Func, Module, Prototype, Reason string
			Traceable                       bool
		}
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if slices.Contains(want, f.Func) || f.Traceable {
			got = append(got, f.Func) // the types also know functions that were freed after the start
		}
		if f.Module != "veth" || f.Traceable != (f.Reason == "") || f.Traceable && !strings.Contains(f.Prototype, f.Func+"(") {
			t.Errorf("%s", line)
		}
		if f.Traceable {
			traceable++
		}
	}
	if diff := diffOf(want, got); diff != "" {
		t.Errorf("functions (-kallsyms +list)\n%s", diff)
	}
	if (traceable > 10) != haveModuleBTF() {
		t.Errorf("%d functions can be traced", traceable)
	}
}
