package frame

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const token = "0123456789abcdef"

// decode splits a console in pieces of n bytes and says what it saw.
func decode(console []byte, n int) (seen []string, lost uint64) {
	d := NewDecoder(token)
	d.Frame = func(kind Kind, payload []byte) { seen = append(seen, fmt.Sprintf("%c %q", kind, payload)) }
	d.Text = func(line []byte) { seen = append(seen, fmt.Sprintf("text %q", line)) }
	for len(console) > 0 {
		m := min(n, len(console))
		d.Write(console[:m])
		console = console[m:]
	}
	d.Close()
	return seen, d.Lost()
}

func TestDecoder(t *testing.T) {
	frames := func(texts ...string) []string {
		var out []string
		for i := range texts {
			var b bytes.Buffer
			w := NewWriter(&b, token)
			w.seq = uint64(i)
			if err := w.Write(Stdout, []byte(texts[i])); err != nil {
				t.Fatal(err)
			}
			out = append(out, b.String())
		}
		return out
	}
	f := frames("hello", "", "\x00\n\xff\x01")
	for name, test := range map[string]struct {
		console string
		want    []string
		lost    uint64
	}{
		"nothing":         {"", nil, 0},
		"text":            {"one\r\ntwo", []string{`text "one"`, `text "two"`}, 0},
		"frames":          {f[0] + f[1] + f[2], []string{`o "hello"`, `o ""`, `o "\x00\n\xff\x01"`}, 0},
		"between text":    {"a\r\n" + f[0] + "b\r\n" + f[1], []string{`text "a"`, `o "hello"`, `text "b"`, `o ""`}, 0},
		"after a prompt":  {"[ 1.0] half a line" + f[0], []string{`text "[ 1.0] half a line"`, `o "hello"`}, 0},
		"one lost":        {f[0] + f[2], []string{`o "hello"`, `o "\x00\n\xff\x01"`}, 1},
		"broken":          {strings.Replace(f[0], "aGV", "aG[ 9.9] BUG\r\nV", 1) + f[1], []string{`text "` + strings.TrimSuffix(fmt.Sprintf("%q", f[0][:strings.Index(f[0], "aGV")])[1:], `"`) + `aG[ 9.9] BUG"`, `text "VsbG8="`, `o ""`}, 1},
		"another token":   {strings.Replace(f[0], token, "fedcba9876543210", 1), []string{fmt.Sprintf("text %q", strings.TrimSpace(strings.Replace(f[0], token, "fedcba9876543210", 1)))}, 0},
		"changed kind":    {strings.Replace(f[0], " o ", " e ", 1), []string{fmt.Sprintf("text %q", strings.TrimSuffix(strings.Replace(f[0], " o ", " e ", 1), "\n"))}, 0},
		"end of the line": {strings.TrimSuffix(f[0], "\n"), []string{`o "hello"`}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			for _, n := range []int{1, 7, 1 << 20} {
				if name == "another token" {
					// The leading \x01 is text then.
					test.want = []string{fmt.Sprintf("text %q", strings.TrimSuffix(test.console, "\n"))}
				}
				seen, lost := decode([]byte(test.console), n)
				if diff := cmp.Diff(test.want, seen); diff != "" {
					t.Errorf("in pieces of %d (-want +got):\n%s", n, diff)
				}
				if lost != test.lost {
					t.Errorf("lost %d frames, want %d", lost, test.lost)
				}
			}
		})
	}
}

func TestWriterCutsLargePayloads(t *testing.T) {
	payload := bytes.Repeat([]byte{0, 1, 2, '\n', 255}, MaxPayload)
	var b bytes.Buffer
	if err := NewWriter(&b, token).Write(Data, payload); err != nil {
		t.Fatal(err)
	}
	var got []byte
	d := NewDecoder(token)
	d.Frame = func(kind Kind, p []byte) {
		if kind != Data || len(p) > MaxPayload {
			t.Errorf("frame %c of %d bytes", kind, len(p))
		}
		got = append(got, p...)
	}
	d.Write(b.Bytes())
	if !bytes.Equal(got, payload) || d.Lost() != 0 {
		t.Errorf("%d bytes came back of %d, %d frames lost", len(got), len(payload), d.Lost())
	}
}

// FuzzDecoder feeds anything, and holds that a frame that is written behind it
// on a line of its own arrives.
func FuzzDecoder(f *testing.F) {
	f.Add([]byte("text\r\n"), 3)
	f.Add([]byte("\x01"+token+" o 0 0 \n"), 1)
	f.Add([]byte("\x01"+token+" o 99999999999999999999 zz ====\n\x01"), 1)
	f.Fuzz(func(t *testing.T, junk []byte, n int) {
		if n < 1 || n > 1<<16 {
			n = 1
		}
		var b bytes.Buffer
		b.Write(junk)
		b.WriteByte('\n')
		w := NewWriter(&b, token)
		w.seq = 1 << 62
		if err := w.Write(Exit, []byte("payload")); err != nil {
			t.Fatal(err)
		}
		seen, _ := decode(b.Bytes(), n)
		if len(seen) == 0 || seen[len(seen)-1] != `x "payload"` {
			t.Errorf("saw %q", seen)
		}
	})
}
