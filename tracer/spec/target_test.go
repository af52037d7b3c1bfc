package spec

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseTargets(t *testing.T) {
	// Arguments are separated by spaces here, which no target has.
	for in, want := range map[string][]Target{
		"":                     nil,
		"icmp_rcv":             {{Text: "icmp_rcv"}},
		"icmp_rcv,tcp_*":       {{Text: "icmp_rcv"}, {Text: "tcp_*", Glob: true, Pos: Pos{0, 9}}},
		"a,b c":                {{Text: "a"}, {Text: "b", Pos: Pos{0, 2}}, {Text: "c", Pos: Pos{1, 0}}},
		"icmp_rcv.constprop.0": {{Text: "icmp_rcv.constprop.0"}},
		"_RNvCs1_6kernel$x":    {{Text: "_RNvCs1_6kernel$x"}},
		"größe":                {{Text: "größe"}},
		`icmp\_rcv`:            {{Text: "icmp_rcv"}},
		`icmp\_*`:              {{Text: `icmp\_*`, Glob: true}},
		"tcp_v[46]_rcv":        {{Text: "tcp_v[46]_rcv", Glob: true}},
		"a?":                   {{Text: "a?", Glob: true}},
		"*":                    {{Text: "*", Glob: true}},

		`a{x>1}`:                {{Text: "a", Filter: "x>1"}},
		`a{f(x,y)},b*{z},c`:     {{Text: "a", Filter: "f(x,y)"}, {Text: "b*", Glob: true, Filter: "z", Pos: Pos{0, 10}}, {Text: "c", Pos: Pos{0, 16}}},
		`a{s=="},\"}"&&c=='}'}`: {{Text: "a", Filter: `s=="},\"}"&&c=='}'`}},
	} {
		t.Run(in, func(t *testing.T) {
			got, err := ParseFiltered(strings.Fields(in))
			if err != nil {
				t.Fatal(err)
			}
			if plain, err := ParseTargets(strings.Fields(in)); (err != nil) != strings.Contains(in, "{") || err == nil && !cmp.Equal(plain, got) {
				t.Errorf("without expressions: %v, %v", plain, err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseTargetsErrors(t *testing.T) {
	for in, want := range map[string]string{
		"": `
			.
			.^
			empty name`,
		"a{": `
			.a{
			. ^
			unclosed {`,
		"b,a{x == \"}\"": `
			.b,a{x == "}"
			.   ^
			unclosed {`,
		"a{ },b": `
			.a{ },b
			.  ^
			empty expression`,
		"a{x}b": `
			.a{x}b
			.    ^
			a comma goes behind }`,
		"c,a{x}": `
			.c,a{x}
			.   ^
			only what is traced by -k has an expression`,
		"{x}": `
			.{x}
			.^
			empty name`,
		"a,,b": `
			.a,,b
			.  ^
			empty name`,
		"a,": `
			.a,
			.  ^
			empty name`,
		"ok,icmp_[rs": `
			.ok,icmp_[rs
			.        ^
			unclosed bracket`,
		"a[": `
			.a[
			. ^
			unclosed bracket`,
		"a[!": `
			.a[!
			. ^
			unclosed bracket`,
		"a[b-": `
			.a[b-
			. ^
			unclosed bracket`,
		"a[]": `
			.a[]
			. ^
			empty bracket`,
		"a[z-b]": `
			.a[z-b]
			.  ^
			range ends before it starts`,
		"a[b-]": `
			.a[b-]
			.  ^
			range without an end`,
		"a[-b]": `
			.a[-b]
			.  ^
			'-' is never in a symbol's name`,
		`a\`: `
			.a\
			. ^
			backslash at the end`,
		`a\*`: `
			.a\*
			.  ^
			'*' is never in a symbol's name`,
		"a]": `
			.a]
			. ^
			']' is never in a symbol's name`,
		"a b": `
			.a b
			. ^
			' ' is never in a symbol's name`,
		"a\tb(": `
			.a b(
			. ^
			'\t' is never in a symbol's name`,
		"größe,f(x)": `
			.größe,f(x)
			.       ^
			'(' is never in a symbol's name`,
		"a:skb": `
			.a:skb
			. ^
			':' is never in a symbol's name`,
		"tcp_*{skb->len}": `
			.tcp_*{skb->len}
			.     ^
			only what is traced by -k has an expression`,
		"a[}]": `
			.a[}]
			.  ^
			'}' is never in a symbol's name`,
		"a\xff": `
			.a�
			. ^
			invalid UTF-8`,
	} {
		t.Run(in, func(t *testing.T) {
			_, err := ParseTargets([]string{"fine", in})
			if got := describe(t, err); got != unindent(want) {
				t.Errorf("got\n%s\nwant\n%s", got, unindent(want))
			}
			if !strings.HasPrefix(err.Error(), "parse target: ") || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q", err)
			}
		})
	}
}

// describe gives a caret and its message, with dots where lines start.
func describe(t *testing.T, err error) string {
	t.Helper()
	var syntax *SyntaxError
	if !errors.As(err, &syntax) {
		t.Fatalf("got %v, want a *SyntaxError", err)
	}
	caret := strings.ReplaceAll(syntax.Caret(), "\n", "\n.")
	return fmt.Sprintf(".%s\n%s", caret, syntax.Msg)
}

func unindent(s string) string {
	return strings.ReplaceAll(strings.TrimPrefix(s, "\n"), "\t", "")
}

func TestMatch(t *testing.T) {
	for pattern, names := range map[string]string{
		// Names behind a minus do not match.
		"icmp_rcv":      "icmp_rcv -icmp_rcv.cold -icmp_rc",
		"tcp_*":         "tcp_ tcp_sendmsg -tcp -mptcp_x",
		"*_rcv":         "_rcv icmp_rcv -icmp_rcv.cold -rcv",
		"*":             "a größe",
		"**":            "a größe",
		"*send*":        "send tcp_sendmsg resend -sen_d",
		"*a*a*":         "aa baab -a -bab",
		"a*a":           "aa aba -a",
		"tcp_v?_rcv":    "tcp_v4_rcv tcp_vß_rcv -tcp_v_rcv -tcp_v46_rcv",
		"tcp_v[46]_rcv": "tcp_v4_rcv tcp_v6_rcv -tcp_v5_rcv",
		"[a-c]x":        "ax bx cx -dx -x",
		"[!a-c]x":       "dx äx -ax -x",
		"[^a-c]x":       "dx -ax",
		"[ä-ü]":         "ö -a",
		"*[0-9]":        "a1 1 -a1a",
		"*?":            "a ab ß",
		"?*?":           "ab -a -ß",
		"*[ab]?*c":      "axc aac bbbc -ac -abd",
		`\a*`:           "ab -b",
	} {
		for name := range strings.FieldsSeq(names) {
			name, not := strings.CutPrefix(name, "-")
			t.Run(pattern+" "+name, func(t *testing.T) {
				if got := parseOne(t, pattern).Match(name); got == not {
					t.Errorf("got %v", got)
				}
			})
		}
	}
}

func TestMatchZeroTarget(t *testing.T) {
	if (Target{Text: "a*", Glob: true}).Match("a*") {
		t.Error("a target that was not parsed matches")
	}
	if !(Target{Text: "a"}).Match("a") {
		t.Error("a name does not match itself")
	}
}

func parseOne(t testing.TB, text string) Target {
	t.Helper()
	targets, err := ParseTargets([]string{text})
	if err != nil {
		t.Fatal(err)
	}
	if len(targets) != 1 {
		t.Fatalf("got %d targets", len(targets))
	}
	return targets[0]
}
