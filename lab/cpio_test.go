package lab

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// readCpio lists an archive, read by the description of the format alone.
func readCpio(t *testing.T, data []byte) []string {
	t.Helper()
	var out []string
	for {
		if len(data) < 110 || string(data[:6]) != "070701" {
			t.Fatalf("no header at %d bytes before the end", len(data))
		}
		field := func(i int) int {
			n, err := strconv.ParseUint(string(data[6+8*i:14+8*i]), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			return int(n)
		}
		mode, size, nameSize := field(1), field(6), field(11)
		name := string(data[110 : 110+nameSize-1])
		at := (110 + nameSize + 3) &^ 3
		if name == "TRAILER!!!" {
			if at != len(data) {
				t.Errorf("%d bytes after the end", len(data)-at)
			}
			return out
		}
		out = append(out, fmt.Sprintf("%06o %s %q", mode, name, data[at:at+size]))
		data = data[(at+size+3)&^3:]
	}
}

func TestCpio(t *testing.T) {
	root := t.TempDir()
	for path, text := range map[string]string{"a/b/script.sh": "#!/bin/sh\n", "empty": ""} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, path), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(root, "a/b/script.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("b/script.sh", filepath.Join(root, "a/link")); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	c := newCpioWriter(&b)
	for _, err := range []error{
		c.dir("/tmp", 0o1777),
		c.file("/x/y/z", 0o600, strings.NewReader("12345"), 5),
		c.tree(root),
		c.close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		`041777 tmp ""`,
		`040755 x ""`,
		`040755 x/y ""`,
		`100600 x/y/z "12345"`,
		`040755 a ""`,
		`040755 a/b ""`,
		`100755 a/b/script.sh "#!/bin/sh\n"`,
		`120777 a/link "b/script.sh"`,
		`100644 empty ""`,
	}
	if diff := cmp.Diff(want, readCpio(t, b.Bytes())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := c.file("short", 0o600, strings.NewReader("1"), 2); err == nil {
		t.Error("no error for a file that ends early")
	}
}
