package spec

import (
	"errors"
	"math/rand/v2"
	"path"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// Where path.Match and globs for symbols mean the same they must agree.
func TestMatchAgreesWithPath(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	elements := []string{"a", "b", "ß", "*", "*", "?", "[ab]", "[^a]", "[a-bß]", `\a`, "ab"}
	letters := []string{"a", "b", "c", "ß"}
	matches := 0
	for range 200_000 {
		pattern := pick(r, elements, 1+r.IntN(7))
		name := pick(r, letters, r.IntN(9))
		want, err := path.Match(pattern, name)
		if err != nil {
			t.Fatal(err)
		}
		if want {
			matches++
		}
		if got := parseOne(t, pattern).Match(name); got != want {
			t.Fatalf("%q on %q: got %v, path.Match %v", pattern, name, got, want)
		}
	}
	if matches < 10_000 {
		t.Errorf("only %d matches: nothing was compared", matches)
	}
}

func pick(r *rand.Rand, from []string, n int) string {
	var b strings.Builder
	for range n {
		b.WriteString(from[r.IntN(len(from))])
	}
	return b.String()
}

func TestMatchDoesNotBacktrack(t *testing.T) {
	start := time.Now()
	for _, pattern := range []string{
		strings.Repeat("*a", 200) + "*b",
		strings.Repeat("*?a", 200) + "*b",
		strings.Repeat("*[ab]", 200) + "*c",
	} {
		if parseOne(t, pattern).Match(strings.Repeat("a", 2000)) {
			t.Errorf("%s matches", pattern)
		}
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("took %v", d)
	}
}

func FuzzParseTargets(f *testing.F) {
	for _, s := range []string{"icmp_rcv", "tcp_*,udp_?", "a[b-d]", "a[!b", `a\`, "f{x}", "größe", "a\xff*", ",", "*[^a]?"} {
		f.Add(s, "tcp_sendmsg")
	}
	f.Fuzz(func(t *testing.T, arg, name string) {
		targets, err := ParseTargets([]string{arg})
		if err != nil {
			var syntax *SyntaxError
			if !errors.As(err, &syntax) {
				t.Fatalf("%v is no *SyntaxError", err)
			}
			if syntax.Text != arg || syntax.Offset < 0 || syntax.Offset > len(arg) {
				t.Fatalf("offset %d in %q", syntax.Offset, syntax.Text)
			}
			if strings.Count(syntax.Caret(), "\n") != 1 || strings.Contains(err.Error(), "\n") {
				t.Fatalf("line breaks in %q, %q", syntax.Caret(), err)
			}
			return
		}
		for _, target := range targets {
			got := target.Match(name)
			// path.Match spells negation ^ only, and stops a star at a slash.
			pattern := strings.ReplaceAll(target.Text, "[!", "[^")
			if strings.Contains(name, "/") || !utf8.ValidString(name) {
				continue
			}
			want, err := path.Match(pattern, name)
			if err != nil {
				t.Fatalf("%q is accepted, path.Match has %v", target.Text, err)
			}
			if got != want {
				t.Fatalf("%q on %q: got %v, path.Match %v", target.Text, name, got, want)
			}
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	names := symbolNames()
	for _, pattern := range []string{"tcp_*", "*_rcv", "*send*", "tcp_v[46]_*", "*a*a*a*b"} {
		b.Run(pattern, func(b *testing.B) {
			target := parseOne(b, pattern)
			for b.Loop() {
				for _, name := range names {
					target.Match(name)
				}
			}
		})
	}
}

// symbolNames gives 60,000 names such as a kernel's.
func symbolNames() []string {
	r := rand.New(rand.NewPCG(3, 4))
	words := strings.Fields(`tcp udp icmp ip ip6 sock skb net dev alloc free get put
		send recv sendmsg recvmsg queue lock unlock init exit register unregister
		page folio inode dentry file read write open release ext4 xfs btrfs nft
		bpf prog map lookup elem update delete sched task rcu irq work timer cpu`)
	names := make([]string, 60_000)
	for i := range names {
		parts := make([]string, 2+r.IntN(4))
		for j := range parts {
			parts[j] = words[r.IntN(len(words))]
		}
		names[i] = strings.Join(parts, "_")
	}
	return names
}
