package caret

import (
	"strings"
	"testing"
)

func TestMark(t *testing.T) {
	long := strings.Repeat("n && ", 30) + "é\t&& x + n" + strings.Repeat(" && n", 30)
	for _, test := range []struct {
		text   string
		offset int
		want   string
	}{
		{"icmp_[rs", 5, "icmp_[rs\n     ^"},
		{"a\tb", 2, "a b\n  ^"},
		{"größe[", 7, "größe[\n     ^"},
		{"n +", 3, "n +\n   ^"},
		{"", 0, "\n^"},
		{"x", 9, "x\n ^"},
		{"x", -1, "x\n^"},
		{strings.Repeat("a", 63) + "b", 63, strings.Repeat("a", 63) + "b\n" + strings.Repeat(" ", 63) + "^"},
		{strings.Repeat("é", 100), 200, "..." + strings.Repeat("é", 30) + "\n" + strings.Repeat(" ", 33) + "^"},
		{long, strings.Index(long, "x"), "... && n && n && n && n && n && n && n && n && n && n && é && x + n && n && n && n && n && n && n && n...\n" +
			strings.Repeat(" ", 62) + "^"},
	} {
		if got := Mark(test.text, test.offset); got != test.want {
			t.Errorf("%q at %d:\n%q\nwant\n%q", test.text, test.offset, got, test.want)
		}
	}
}

func FuzzMark(f *testing.F) {
	f.Add("größe[", 7)
	f.Add(strings.Repeat("é\n", 200), 301)
	f.Fuzz(func(t *testing.T, text string, offset int) {
		line, mark, ok := strings.Cut(Mark(text, offset), "\n")
		if !ok || strings.Contains(mark, "\n") || !strings.HasSuffix(mark, "^") || len([]rune(mark)) > len([]rune(line))+1 {
			t.Errorf("%q\n%q", line, mark)
		}
	})
}
