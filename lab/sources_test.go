package lab

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMachineMirror(t *testing.T) {
	for name, test := range map[string]struct {
		files          map[string]string
		main, security string
	}{
		"one-line": {map[string]string{"sources.list": `# a comment
deb-src http://src.example/debian bookworm main
deb cdrom:[Debian 12]/ bookworm main
deb [arch=amd64 signed-by=/k.gpg] http://m.example/debian bookworm main # more
deb http://s.example/debian-security bookworm-security main
`}, "http://m.example/debian", "http://s.example/debian-security"},
		"deb822": {map[string]string{"sources.list.d/debian.sources": `# Comment: in front
Types: deb deb-src
URIs: https://m.example/debian/
Suites: trixie trixie-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .

Types: deb
URIs: https://m.example/debian-security/
Suites: trixie-security
Components: main
`}, "https://m.example/debian/", "https://m.example/debian-security/"},
		"derived": {map[string]string{"sources.list": "deb http://m.example/pub/debian/ stable main\n"},
			"http://m.example/pub/debian/", "http://m.example/pub/debian-security"},
		"derived, other name": {map[string]string{"sources.list": "deb http://deb.example/apt sid main\n"},
			"http://deb.example/apt", "http://deb.example/apt-security"},
		"mirror list": {map[string]string{"sources.list": "deb mirror+file:/etc/apt/mirrors/debian.list bookworm main\n"},
			"mirror+file:/etc/apt/mirrors/debian.list", "mirror+file:/etc/apt/mirrors/debian-security.list"},
		"only security": {map[string]string{"sources.list": "deb http://m.example/debian-security bookworm-security main\n"},
			"http://m.example/debian", "http://m.example/debian-security"},
		"disabled": {map[string]string{"sources.list.d/a.sources": "Enabled: no\nTypes: deb\nURIs: http://m.example/debian\nSuites: sid\n"}, "", ""},
		"others":   {map[string]string{"sources.list": "deb http://o.example/ubuntu noble main\ndeb http://o.example/node nodistro main\n"}, "", ""},
		"nothing":  {nil, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for path, text := range test.files {
				path = filepath.Join(dir, path)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			m, err := machineMirror(dir)
			var none *NoMirrorError
			if (test.main == "") != errors.As(err, &none) {
				t.Fatalf("error %v", err)
			}
			if diff := cmp.Diff([]string{test.main, test.security}, []string{m.main, m.security}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Packages are only taken with a signature of the archive.
func TestConfigRefusesUnsigned(t *testing.T) {
	a := aptSuite{dir: t.TempDir(), suite: suite{"sid", false}, uri: "http://m.example/debian", arch: "arm64"}
	if err := a.configure(); err != nil {
		t.Skip(err)
	}
	sources, err := os.ReadFile(a.path("sources.list"))
	if err != nil {
		t.Fatal(err)
	}
	want := "deb [signed-by=" + keyringOf(string(sources)) + " arch=arm64 target=Packages] http://m.example/debian sid main\n"
	if diff := cmp.Diff(want, string(sources)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func keyringOf(sources string) string {
	for _, k := range keyrings() {
		if len(sources) > 16+len(k) && sources[15:15+len(k)] == k {
			return k
		}
	}
	return ""
}
