package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// fakeArchive is an archive in memory.
type fakeArchive struct {
	pkgs    map[string][]pkg // by suite
	broken  map[string]bool  // suites, or packages
	updates int              // of sid
	fetched []string
}

func (f *fakeArchive) update(_ context.Context, s suite, _ string) ([]pkg, error) {
	if s.name == "sid" {
		f.updates++
	}
	if f.broken[s.name] {
		return nil, errors.New("broken")
	}
	return f.pkgs[s.name], nil
}

func (f *fakeArchive) download(_ context.Context, _ suite, _ string, p pkg, dir string) error {
	if f.broken[p.Name] {
		return errors.New("404")
	}
	f.fetched = append(f.fetched, p.String())
	kind, release, _ := kernelPackage(p.Name, "-cloud-amd64")
	path := filepath.Join(dir, "boot", "vmlinuz-"+release)
	switch kind {
	case "binary":
		path = filepath.Join(dir, "usr/lib/modules", release, "vmlinuz")
	case "modules":
		path = filepath.Join(dir, "usr/lib/modules", release, "kernel/drivers/net/veth.ko")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(p.String()), 0o644)
}

func (f *fakeArchive) add(suite, name, version string) {
	f.pkgs[suite] = append(f.pkgs[suite], pkg{Name: name, Version: version, Suite: suite})
}

func testStore(t *testing.T, f *fakeArchive, now *time.Time) *Store {
	t.Helper()
	s, err := Open(Options{CacheDir: t.TempDir(), Mirror: "http://m.example/debian", Progress: func(text string) { t.Log(text) }})
	if err != nil {
		t.Fatal(err)
	}
	s.fetcher = f
	s.now = func() time.Time { return *now }
	return s
}

func TestStore(t *testing.T) {
	f := &fakeArchive{pkgs: map[string][]pkg{}, broken: map[string]bool{"experimental": true}}
	f.add("trixie", "linux-image-6.12.1-cloud-amd64", "6.12.1-1")
	f.add("sid", "linux-binary-7.2.1-cloud-amd64", "7.2.1-1")
	f.add("sid", "linux-modules-7.2.1-cloud-amd64", "7.2.1-1")
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	s := testStore(t, f, &now)
	ctx := t.Context()

	kernel := func(series, wantVersion string, wantUpdates int) Kernel {
		t.Helper()
		k, err := s.Kernel(ctx, series, "amd64")
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(k.Image)
		if err != nil {
			t.Fatal(err)
		}
		if k.Version != wantVersion || k.Package != string(data) || f.updates != wantUpdates {
			t.Errorf("kernel %+v with image of %s after %d updates, want version %s after %d", k, data, f.updates, wantVersion, wantUpdates)
		}
		return k
	}
	kernel("6.12", "6.12.1", 1)
	kernel("6.12", "6.12.1", 1)
	if len(f.fetched) != 1 {
		t.Errorf("fetched %q", f.fetched)
	}

	// Modules come when they are asked for.
	k := kernel("7.2", "7.2.1", 1)
	if k.Modules != "" {
		t.Errorf("modules %s", k.Modules)
	}
	k, err := s.FetchModules(ctx, k)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(k.Modules, "kernel/drivers/net/veth.ko")); err != nil {
		t.Error(err)
	}
	if again := kernel("7.2", "7.2.1", 1); again.Modules != k.Modules {
		t.Errorf("modules %q the second time, %q the first", again.Modules, k.Modules)
	}

	// A series that is not there says what is, and which suite could not be asked.
	_, err = s.Kernel(ctx, "6.13", "amd64")
	var gone *SeriesGoneError
	if !errors.As(err, &gone) {
		t.Fatalf("error %v", err)
	}
	if len(gone.Available) != 2 || len(gone.Failed) != 1 || gone.Failed[0].Suite != "experimental" {
		t.Errorf("error %+v", gone)
	}

	// Older than a day: the newer one is fetched.
	f.add("trixie-security", "linux-image-6.12.2-cloud-amd64", "6.12.2-1")
	kernel("6.12", "6.12.1", 1)
	now = now.Add(25 * time.Hour)
	kernel("6.12", "6.12.2", 2)

	// One that can't be fetched: the one before it, or what is there.
	f.add("trixie-security", "linux-image-6.12.3-cloud-amd64", "6.12.3-1")
	f.broken["linux-image-6.12.3-cloud-amd64"] = true
	now = now.Add(25 * time.Hour)
	kernel("6.12", "6.12.2", 3)

	// Gone from the archive, but in the store.
	f.pkgs = map[string][]pkg{"sid": f.pkgs["sid"]}
	now = now.Add(25 * time.Hour)
	kernel("6.12", "6.12.2", 4)

	// No archive at all.
	for _, su := range suites() {
		f.broken[su.name] = true
	}
	now = now.Add(25 * time.Hour)
	if k, err := s.Kernel(ctx, "7.2", "amd64"); err != nil || k.Version != "7.2.1" {
		t.Errorf("kernel %+v, error %v", k, err)
	}
	if _, err := s.Kernel(ctx, "7.3", "amd64"); err == nil {
		t.Error("no error without an archive")
	}
	series, err := s.List(ctx, "amd64")
	if err == nil || len(series) != 2 || len(series[0].Cached) != 2 {
		t.Errorf("list %+v, error %v", series, err)
	}
}

func TestStoreWithoutMirror(t *testing.T) {
	s, err := Open(Options{CacheDir: t.TempDir(), Mirror: "http://m.example/debian"})
	if err != nil {
		t.Fatal(err)
	}
	s.noMirror = &NoMirrorError{}
	_, err = s.Kernel(t.Context(), "6.12", "amd64")
	var none *NoMirrorError
	if !errors.As(err, &none) {
		t.Errorf("error %v", err)
	}
}

func TestLockFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lockFile(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	waited := 0
	if _, err := lockFile(ctx, path, func() { waited++ }); !errors.Is(err, context.DeadlineExceeded) || waited != 1 {
		t.Errorf("second lock: error %v, waited %d", err, waited)
	}
	unlock()
	unlock, err = lockFile(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}
