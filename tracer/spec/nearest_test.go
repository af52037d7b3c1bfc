package spec

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNearest(t *testing.T) {
	offered := strings.Fields(`
		icmp_rcv icmpv6_rcv icmp_send icmp_reply icmp_unreach icmp_rcv icmp_err
		tcp_sendmsg tcp_sendmsg_locked tcp_sendpage tcp_recvmsg tcp_v4_rcv tcp_v6_rcv
		udp_sendmsg udpv6_sendmsg sock_sendmsg unix_stream_sendmsg ip_rcv ip6_rcv
		do_sys_openat2 __x64_sys_openat nf_hook_slow skb_copy.isra.0 kfree_skb_reason
		vfs_read vfs_write schedule x`)
	for want, names := range map[string]string{
		"icmp_recv":             "icmp_rcv",
		"icmp_rvc":              "icmp_rcv",
		"imcp_rcv":              "icmp_rcv ip_rcv",
		"tcp_sendmesage":        "tcp_sendmsg tcp_sendmsg_locked tcp_sendpage",
		"sendmsg":               "sock_sendmsg tcp_sendmsg udp_sendmsg",
		"tcp_v5_rcv":            "tcp_v4_rcv tcp_v6_rcv",
		"tcp_recv":              "tcp_recvmsg",
		"openat2":               "do_sys_openat2 __x64_sys_openat",
		"skb_copy":              "skb_copy.isra.0",
		"kfree_skb":             "kfree_skb_reason",
		"nf_hook_slow_list":     "nf_hook_slow",
		"icmp_rcv.constprop.0":  "icmp_rcv",
		"vfs_raed":              "vfs_read",
		"schedule":              "", // itself is no suggestion
		"":                      "",
		"x":                     "",
		"ab":                    "",
		"xfs_file_buffered_foo": "",
		"größe":                 "",
	} {
		t.Run(want, func(t *testing.T) {
			n := NewNearest(want, 3)
			for _, name := range offered {
				n.Offer(name)
			}
			if diff := cmp.Diff(strings.Fields(names), n.Names()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What was offered first must not matter.
func TestNearestOrder(t *testing.T) {
	names := symbolNames()
	r := rand.New(rand.NewPCG(5, 6))
	var first []string
	for i := range 5 {
		n := NewNearest("tcp_sokc", 5)
		for _, name := range names {
			n.Offer(name)
		}
		if i == 0 {
			first = n.Names()
			if len(first) != 5 {
				t.Fatalf("got %d names", len(first))
			}
		}
		if diff := cmp.Diff(first, n.Names()); diff != "" {
			t.Fatal(diff)
		}
		r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	}
}

func TestNearestNone(t *testing.T) {
	n := NewNearest("icmp_recv", 0)
	n.Offer("icmp_rcv")
	if len(n.Names()) != 0 {
		t.Errorf("got %q", n.Names())
	}
}

// The band and the early exits must not change what the plain table gives.
func TestDistance(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	letters := []string{"a", "b", "c"}
	for range 50_000 {
		from, to := pick(r, letters, r.IntN(9)), pick(r, letters, r.IntN(9))
		d := newDistance(from)
		want := plainDistance(from, to)
		for limit := range 6 {
			got := d.between(to, limit)
			if want <= limit && got != want || want > limit && got <= limit {
				t.Fatalf("%q to %q, limit %d: got %d, want %d", from, to, limit, got, want)
			}
		}
	}
}

func plainDistance(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		for j := range d[i] {
			switch {
			case i == 0 || j == 0:
				d[i][j] = i + j
				continue
			case a[i-1] == b[j-1]:
				d[i][j] = d[i-1][j-1]
			default:
				d[i][j] = 1 + min(d[i-1][j-1], d[i-1][j], d[i][j-1])
			}
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], 1+d[i-2][j-2])
			}
		}
	}
	return d[len(a)][len(b)]
}

func FuzzNearest(f *testing.F) {
	f.Add("icmp_recv", "icmp_rcv")
	f.Add("tcp_sendmesage", "tcp_sendmsg_locked")
	f.Add("", "_")
	f.Fuzz(func(t *testing.T, want, name string) {
		n := NewNearest(want, 2)
		n.Offer(name)
		n.Offer(name)
		if got := n.Names(); len(got) > 1 || len(got) == 1 && got[0] != name {
			t.Fatalf("got %q", got)
		}
	})
}

func BenchmarkNearest(b *testing.B) {
	names := symbolNames()
	for _, want := range []string{"icmp_recv", "tcp_sendmesage", "net_dev_regsiter_init_work", "sock"} {
		b.Run(want, func(b *testing.B) {
			for b.Loop() {
				n := NewNearest(want, 3)
				for _, name := range names {
					n.Offer(name)
				}
			}
		})
	}
}
