package lab

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// mirror is where the archive is: the URIs of the main and of the security
// archive, as apt takes them.
type mirror struct {
	main     string
	security string
}

// aptSource is one URI of the machine's apt sources with one suite.
type aptSource struct {
	uri, suite string
}

// machineMirror finds the mirror in the machine's own apt sources.
func machineMirror(etcApt string) (mirror, error) {
	sources, err := readSources(etcApt)
	if err != nil {
		return mirror{}, err
	}
	m := mirrorOf(sources)
	if m.main == "" {
		return mirror{}, &NoMirrorError{}
	}
	return m, nil
}

// mirrorOf picks the mirror out of sources: other archives than Debian's have
// suites of other names.
func mirrorOf(sources []aptSource) mirror {
	var m mirror
	for _, s := range sources {
		name, security := debianSuite(s.suite)
		switch {
		case name == "":
		case security && m.security == "":
			m.security = s.uri
		case !security && m.main == "":
			m.main = s.uri
		}
	}
	if m.main == "" && m.security != "" {
		m.main = rebase(m.security, "debian-security", "debian")
	}
	if m.security == "" && m.main != "" {
		m.security = securityOf(m.main)
	}
	return m
}

// debianSuite is the release that one of Debian's suites belongs to, and
// whether it is of the security archive, which is a separate one.
func debianSuite(suite string) (name string, security bool) {
	name, pocket, _ := strings.Cut(strings.TrimSuffix(suite, "/"), "-")
	if old, rest, ok := strings.Cut(name, "/"); ok {
		// buster/updates: how the security suites were called to Debian 10.
		return old, rest == "updates"
	}
	switch name {
	case "oldoldstable", "oldstable", "stable", "testing", "unstable", "sid", "experimental",
		"buster", "bullseye", "bookworm", "trixie", "forky", "duke":
		return name, pocket == "security"
	}
	return "", false
}

// securityOf derives the URI of the security archive from that of the main
// one: mirrors keep it next to it, in "debian-security".
func securityOf(main string) string {
	return rebase(main, "debian", "debian-security")
}

// rebase replaces the beginning of a URI's last element, or adds an element
// where it begins otherwise.
func rebase(uri, from, to string) string {
	uri = strings.TrimRight(uri, "/")
	dir, base := "", uri
	if i := strings.LastIndexByte(uri, '/'); i >= 0 {
		dir, base = uri[:i+1], uri[i+1:]
	}
	if rest, ok := strings.CutPrefix(base, from); ok {
		return dir + to + rest
	}
	return uri + "-" + strings.TrimPrefix(to, "debian-")
}

// readSources reads all apt sources under a directory like /etc/apt.
func readSources(dir string) ([]aptSource, error) {
	paths := []string{filepath.Join(dir, "sources.list")}
	for _, pattern := range []string{"*.list", "*.sources"} {
		more, err := filepath.Glob(filepath.Join(dir, "sources.list.d", pattern))
		if err != nil {
			return nil, fmt.Errorf("list apt sources: %w", err)
		}
		sort.Strings(more)
		paths = append(paths, more...)
	}
	var all []aptSource
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read apt sources: %w", err)
		}
		if strings.HasSuffix(path, ".sources") {
			all = append(all, parseDeb822(string(data))...)
		} else {
			all = append(all, parseOneLine(string(data))...)
		}
	}
	return all, nil
}

// parseOneLine reads sources in the one-line format of sources.list(5).
func parseOneLine(text string) []aptSource {
	var out []aptSource
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		rest, ok := cutWord(line, "deb")
		if !ok {
			continue
		}
		if strings.HasPrefix(rest, "[") {
			_, rest, ok = strings.Cut(rest, "]")
			if !ok {
				continue
			}
		}
		words := strings.Fields(rest)
		if len(words) < 2 || !usableURI(words[0]) {
			continue
		}
		out = append(out, aptSource{uri: words[0], suite: words[1]})
	}
	return out
}

func cutWord(line, word string) (rest string, ok bool) {
	rest, ok = strings.CutPrefix(strings.TrimSpace(line), word)
	if !ok || rest == "" || rest[0] != ' ' && rest[0] != '\t' && rest[0] != '[' {
		return "", false
	}
	return strings.TrimSpace(rest), true
}

// usableURI says whether another configuration of apt can use a URI too.
func usableURI(uri string) bool {
	scheme, _, ok := strings.Cut(uri, ":")
	return ok && scheme != "cdrom"
}

// parseDeb822 reads sources in the stanza format of sources.list(5).
func parseDeb822(text string) []aptSource {
	var out []aptSource
	for _, stanza := range parseStanzas(strings.NewReader(text)) {
		if on := strings.ToLower(stanza["enabled"]); on == "no" || on == "false" || on == "0" {
			continue
		}
		if !contains(strings.Fields(stanza["types"]), "deb") {
			continue
		}
		for _, uri := range strings.Fields(stanza["uris"]) {
			if !usableURI(uri) {
				continue
			}
			for _, suite := range strings.Fields(stanza["suites"]) {
				out = append(out, aptSource{uri: uri, suite: suite})
			}
		}
	}
	return out
}

func contains(list []string, s string) bool {
	for _, have := range list {
		if have == s {
			return true
		}
	}
	return false
}

// parseStanzas reads stanzas of fields, as Debian's control files have them.
// Names of fields come out in lower case, continuation lines joined with '\n'.
func parseStanzas(r interface{ Read([]byte) (int, error) }) []map[string]string {
	var out []map[string]string
	var stanza map[string]string
	field := ""
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		line := sc.Text()
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.TrimSpace(line) == "":
			stanza, field = nil, ""
		case line[0] == ' ' || line[0] == '\t':
			if field != "" {
				stanza[field] += "\n" + strings.TrimSpace(line)
			}
		default:
			name, value, ok := strings.Cut(line, ":")
			if !ok {
				continue
			}
			if stanza == nil {
				stanza = map[string]string{}
				out = append(out, stanza)
			}
			field = strings.ToLower(name)
			stanza[field] = strings.TrimSpace(value)
		}
	}
	return out
}
