package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// keyrings are where debian-archive-keyring puts its keys; the name depends on
// its release.
func keyrings() []string {
	return []string{
		"/usr/share/keyrings/debian-archive-keyring.gpg",
		"/usr/share/keyrings/debian-archive-keyring.pgp",
	}
}

// aptHelper is apt's program that unpacks an index.
const aptHelper = "/usr/lib/apt/apt-helper"

// aptSuite is apt with a configuration of its own for one suite and one
// architecture, in a directory of its own: the machine's packages, sources and
// lists stay as they are, and a suite that fails does not stop another.
type aptSuite struct {
	dir   string
	suite suite
	uri   string
	arch  string
}

func (a aptSuite) path(name string) string { return filepath.Join(a.dir, name) }

// configure writes the private configuration.
func (a aptSuite) configure() error {
	keyring := ""
	for _, k := range keyrings() {
		if _, err := os.Stat(k); err == nil {
			keyring = k
			break
		}
	}
	if keyring == "" {
		return &MissingProgramError{Program: keyrings()[0], Package: "debian-archive-keyring"}
	}
	for _, d := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(a.path(d), 0o755); err != nil {
			return fmt.Errorf("make directory for apt: %w", err)
		}
	}
	files := map[string]string{
		"status":       "",
		"sources.list": fmt.Sprintf("deb [signed-by=%s arch=%s target=Packages] %s %s main\n", keyring, a.arch, a.uri, a.suite.name),
		"apt.conf":     a.config(),
	}
	for name, text := range files {
		if err := os.WriteFile(a.path(name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write configuration for apt: %w", err)
		}
	}
	return nil
}

// config is read after the machine's own configuration, which may name a proxy
// and stays in force where this does not say otherwise.
func (a aptSuite) config() string {
	var b strings.Builder
	set := func(name, value string) { fmt.Fprintf(&b, "%s %q;\n", name, value) }
	set("Dir::Etc::sourcelist", a.path("sources.list"))
	set("Dir::Etc::sourceparts", "/dev/null")
	set("Dir::Etc::preferences", "/dev/null")
	set("Dir::Etc::preferencesparts", "/dev/null")
	set("Dir::State", a.dir)
	set("Dir::State::lists", a.path("lists"))
	set("Dir::State::status", a.path("status"))
	set("Dir::Cache", a.path("cache"))
	set("Dir::Cache::archives", a.path("cache/archives"))
	// They are larger than the lists, and made again in half a second.
	set("Dir::Cache::pkgcache", "")
	set("Dir::Cache::srcpkgcache", "")
	set("Dir::Log", a.dir)
	// The machine's hooks are for the machine's packages.
	for _, list := range []string{
		"APT::Architectures", "APT::Update::Pre-Invoke", "APT::Update::Post-Invoke",
		"APT::Update::Post-Invoke-Success", "DPkg::Pre-Invoke", "DPkg::Post-Invoke",
	} {
		fmt.Fprintf(&b, "#clear %s;\n", list)
	}
	set("APT::Architecture", a.arch)
	set("APT::Architectures::", a.arch)
	// Never without a signature, whatever the machine allows itself.
	set("APT::Get::AllowUnauthenticated", "false")
	set("Acquire::AllowInsecureRepositories", "false")
	set("Acquire::AllowDowngradeToInsecureRepositories", "false")
	// The signature of a release that gets no more updates stays good, but
	// its date of expiry passes.
	set("Acquire::Check-Valid-Until", "false")
	set("Acquire::Languages", "none")
	set("Acquire::PDiffs", "false")
	set("Acquire::GzipIndexes", "true")
	set("Acquire::Retries", "2")
	// Root's cache directory can't be read by apt's own user.
	set("APT::Sandbox::User", "root")
	return b.String()
}

// update reads the suite's index, with its signature checked.
func (a aptSuite) update(ctx context.Context) ([]pkg, error) {
	if err := a.configure(); err != nil {
		return nil, err
	}
	// Without Error-Mode=any, old lists would do for apt where it gets no new
	// ones (apt 2.1 and later; others ignore it).
	if _, err := a.run(ctx, "", "apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "update"); err != nil {
		return nil, err
	}
	indexes, err := filepath.Glob(a.path("lists/*_Packages*"))
	if err != nil {
		return nil, fmt.Errorf("find index of packages: %w", err)
	}
	if len(indexes) == 0 {
		return nil, fmt.Errorf("find index of packages: apt stored none")
	}
	var all []pkg
	for _, path := range indexes {
		text, err := a.run(ctx, "", aptHelper, "cat-file", path)
		if err != nil {
			return nil, err
		}
		pkgs, err := parsePackages(bytes.NewReader(text), a.suite.name)
		if err != nil {
			return nil, err
		}
		all = append(all, pkgs...)
	}
	return all, nil
}

// download downloads a package and unpacks it into dir.
func (a aptSuite) download(ctx context.Context, p pkg, dir string) error {
	debs, err := os.MkdirTemp(a.dir, "deb-")
	if err != nil {
		return fmt.Errorf("make directory for package: %w", err)
	}
	defer os.RemoveAll(debs)
	if _, err := a.run(ctx, debs, "apt-get", "-q", "download", p.Name+":"+a.arch+"="+p.Version); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(debs, "*.deb"))
	if err != nil || len(files) != 1 {
		return fmt.Errorf("download %s: apt left %d files", p, len(files))
	}
	_, err = a.run(ctx, "", "dpkg-deb", "-x", files[0], dir)
	return err
}

// run runs one of apt's programs with the private configuration.
func (a aptSuite) run(ctx context.Context, dir, program string, args ...string) ([]byte, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		pkg := "apt"
		if strings.HasPrefix(program, "dpkg") {
			pkg = "dpkg"
		}
		return nil, &MissingProgramError{Program: program, Package: pkg}
	}
	if !strings.HasPrefix(program, "dpkg") {
		args = append([]string{"-c", a.path("apt.conf")}, args...)
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, &stdout, &stderr
	// apt ends its helpers itself when it is asked to end.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, aptError(filepath.Base(program), stderr.String(), err)
	}
	return stdout.Bytes(), nil
}

// aptError is what a program said itself when it failed.
func aptError(program, stderr string, err error) error {
	var lines []string
	for line := range strings.Lines(stderr) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "E: ") || strings.HasPrefix(line, "W: ") || strings.HasPrefix(line, "dpkg") {
			lines = append(lines, strings.TrimPrefix(strings.TrimPrefix(line, "E: "), "W: "))
		}
	}
	if len(lines) == 0 {
		lines = append(lines, strings.TrimSpace(stderr))
	}
	text := strings.Join(lines, "; ")
	if text == "" {
		return fmt.Errorf("run %s: %w", program, err)
	}
	return errors.New(program + ": " + text)
}
