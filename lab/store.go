package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"
)

// Options say where a Store is and where it gets kernels from.
type Options struct {
	// CacheDir is the store's directory; empty means trace/kernels in the
	// user's cache directory.
	CacheDir string
	// Mirror is the URI of a Debian mirror (the directory that has dists/
	// and pool/); empty means the one of the machine's apt sources.
	Mirror string
	// Progress, if not nil, is told what takes time.
	Progress func(string)
}

// Store is a directory of kernels. Several processes may use one.
type Store struct {
	dir      string
	mirror   mirror
	noMirror error // why mirror is not known
	progress func(string)
	now      func() time.Time
	fetcher  fetcher
}

// fetcher reads a suite's index and fetches its packages.
type fetcher interface {
	update(ctx context.Context, s suite, arch string) ([]pkg, error)
	download(ctx context.Context, s suite, arch string, p pkg, dir string) error
}

// maxAge is how old what is known of the archive may be.
const maxAge = 24 * time.Hour

// minAge is how old it must be to be asked for again because something was not
// found.
const minAge = 10 * time.Minute

// Open opens a store, and makes its directory if needed. It is not an error
// yet if no mirror is known: what is in the store can be used without.
func Open(o Options) (*Store, error) {
	s := &Store{dir: o.CacheDir, progress: o.Progress, now: time.Now}
	if s.dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("find cache directory: %w; give one with --cache DIR", err)
		}
		s.dir = filepath.Join(cache, "trace", "kernels")
	}
	dir, err := filepath.Abs(s.dir)
	if err != nil {
		return nil, fmt.Errorf("find cache directory: %w", err)
	}
	s.dir = dir
	if strings.ContainsAny(s.dir, " \t\n\"[]") {
		// apt's files have no quotes for all of these.
		return nil, fmt.Errorf("open cache %q: apt can't use a path with spaces, quotes or brackets; give another with --cache DIR", s.dir)
	}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make cache directory: %w", err)
	}
	if s.progress == nil {
		s.progress = func(string) {}
	}
	if o.Mirror != "" {
		if strings.ContainsAny(o.Mirror, " \t\n[]") || !strings.Contains(o.Mirror, ":") {
			return nil, fmt.Errorf("use mirror %q: not a URI", o.Mirror)
		}
		main := strings.TrimRight(o.Mirror, "/")
		s.mirror = mirror{main: main, security: securityOf(main)}
	} else {
		s.mirror, s.noMirror = machineMirror("/etc/apt")
	}
	s.fetcher = aptFetcher{dir: filepath.Join(s.dir, "apt"), mirror: s.mirror}
	return s, nil
}

// Dir is the store's directory.
func (s *Store) Dir() string { return s.dir }

// aptFetcher fetches with apt.
type aptFetcher struct {
	dir    string
	mirror mirror
}

func (f aptFetcher) apt(s suite, arch string) aptSuite {
	return aptSuite{dir: filepath.Join(f.dir, arch, s.name), suite: s, uri: f.mirror.uri(s), arch: arch}
}

func (f aptFetcher) update(ctx context.Context, s suite, arch string) ([]pkg, error) {
	return f.apt(s, arch).update(ctx)
}

func (f aptFetcher) download(ctx context.Context, s suite, arch string, p pkg, dir string) error {
	return f.apt(s, arch).download(ctx, p, dir)
}

// index is what is known of the archive, for one architecture.
type index struct {
	Time     time.Time
	Mirror   string
	Packages []pkg
	Failed   map[string]string // suite -> why it could not be read
}

func (s *Store) indexPath(arch string) string { return filepath.Join(s.dir, "index-"+arch+".json") }

func (s *Store) readIndex(arch string) (index, bool) {
	data, err := os.ReadFile(s.indexPath(arch))
	if err != nil {
		return index{}, false
	}
	var ix index
	if json.Unmarshal(data, &ix) != nil || ix.Mirror != s.mirror.main {
		return index{}, false
	}
	return ix, true
}

// index returns what is known of the archive, refreshed if it is older than
// notBefore. s is locked.
func (s *Store) index(ctx context.Context, arch string, notBefore time.Time) (index, error) {
	ix, ok := s.readIndex(arch)
	if ok && ix.Time.After(notBefore) {
		return ix, nil
	}
	if s.noMirror != nil {
		return index{}, s.noMirror
	}
	old := ix
	s.progress(fmt.Sprintf("reading the archive's index for %s", arch))
	ix = index{Time: s.now(), Mirror: s.mirror.main, Failed: map[string]string{}}
	all := suites()
	found := make([][]pkg, len(all))
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	slots := make(chan struct{}, 4)
	for i, su := range all {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			found[i], errs[i] = s.fetcher.update(ctx, su, arch)
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return index{}, err
	}
	for i, su := range all {
		if err := errs[i]; err != nil {
			var missing *MissingProgramError
			if errors.As(err, &missing) {
				return index{}, missing
			}
			ix.Failed[su.name] = err.Error()
			s.progress((&SuiteError{Suite: su.name, Err: err}).Error())
			// What was there a day ago most likely still is.
			for _, p := range old.Packages {
				if p.Suite == su.name {
					found[i] = append(found[i], p)
				}
			}
		}
		ix.Packages = append(ix.Packages, found[i]...)
	}
	if len(ix.Failed) == len(all) {
		first := all[0].name
		return index{}, fmt.Errorf("read archive %s: no suite could be read: %w", s.mirror.main, &SuiteError{Suite: first, Err: errors.New(ix.Failed[first])})
	}
	if err := writeJSON(s.indexPath(arch), ix); err != nil {
		return index{}, err
	}
	return ix, nil
}

func (ix index) failed() []*SuiteError {
	var out []*SuiteError
	for _, su := range suites() {
		if why, ok := ix.Failed[su.name]; ok {
			out = append(out, &SuiteError{Suite: su.name, Err: errors.New(why)})
		}
	}
	return out
}

// writeJSON replaces a file in one step.
func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(path), err)
	}
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.WriteFile(tmp, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}

func (s *Store) lock(ctx context.Context) (func(), error) {
	return lockFile(ctx, filepath.Join(s.dir, "lock"), func() {
		s.progress("waiting for another process that uses " + s.dir)
	})
}

// SeriesInfo is what is known of one series of kernels.
type SeriesInfo struct {
	Series string
	// Newest is the version of the archive's newest kernel of the series,
	// empty if it has none (any more).
	Newest  string
	Release string
	Package string
	Suite   string
	// Cached are the store's kernels of the series, oldest first.
	Cached []Kernel
}

// List lists the series of kernels that the archive or the store has for an
// architecture, oldest first. If the archive can't be read at all, the store's
// series are returned with the error; single suites that can't be read are no
// error, see [Store.FailedSuites].
func (s *Store) List(ctx context.Context, arch string) ([]SeriesInfo, error) {
	if _, err := machineFor(arch); err != nil {
		return nil, err
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	byName := map[string]*SeriesInfo{}
	get := func(name string) *SeriesInfo {
		if byName[name] == nil {
			byName[name] = &SeriesInfo{Series: name}
		}
		return byName[name]
	}
	kernels, err := s.cached(arch)
	if err != nil {
		return nil, err
	}
	for _, k := range kernels {
		si := get(k.Series)
		si.Cached = append(si.Cached, k)
	}
	ix, err := s.index(ctx, arch, s.now().Add(-maxAge))
	if err == nil {
		for _, c := range candidates(ix.Packages, arch) {
			si := get(c.series)
			si.Newest, si.Release, si.Package, si.Suite = upstreamVersion(c.version), c.release, c.image.String(), c.image.Suite
		}
	}
	var series []SeriesInfo
	for _, si := range byName {
		series = append(series, *si)
	}
	sort.Slice(series, func(i, j int) bool { return compareSeries(series[i].Series, series[j].Series) < 0 })
	return series, err
}

// FailedSuites are the suites of the archive that could not be read when it was
// last asked about an architecture.
func (s *Store) FailedSuites(arch string) []*SuiteError {
	ix, _ := s.readIndex(arch)
	return ix.failed()
}

// Kernel returns the newest kernel of a series, from the store or fetched.
// Where the archive can't be read, or has none of the series any more, a kernel
// that is in the store does; where there is none, the error is a
// [*SeriesGoneError] in the latter case.
func (s *Store) Kernel(ctx context.Context, series, arch string) (Kernel, error) {
	if _, err := machineFor(arch); err != nil {
		return Kernel{}, err
	}
	if !IsSeries(series) {
		return Kernel{}, fmt.Errorf("find kernel %q: not a series like 6.12", series)
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return Kernel{}, err
	}
	defer unlock()
	have, err := s.newestCached(series, arch)
	if err != nil {
		return Kernel{}, err
	}
	now := s.now()
	k, err := s.newest(ctx, series, arch, have, now.Add(-maxAge))
	if err != nil && ctx.Err() == nil {
		var gone *SeriesGoneError
		if ix, ok := s.readIndex(arch); ok && ix.Time.Before(now.Add(-minAge)) && (have.Image == "" || !errors.As(err, &gone)) {
			// The series may have come since, or its newest kernel may
			// have been replaced by a newer one.
			k, err = s.newest(ctx, series, arch, have, now)
		}
	}
	if err != nil && have.Image != "" && ctx.Err() == nil {
		s.progress(fmt.Sprintf("using %s, which was fetched before: %v", have.Name(), err))
		return have, nil
	}
	return k, err
}

// newest returns the archive's newest kernel of a series, which is have or
// fetched. What is known of the archive is refreshed if it is from before
// notBefore.
func (s *Store) newest(ctx context.Context, series, arch string, have Kernel, notBefore time.Time) (Kernel, error) {
	all, err := s.find(ctx, series, arch, notBefore)
	if err != nil {
		return Kernel{}, err
	}
	// An index may name a package that is not there (any more), then the one
	// before it does.
	var errs []error
	for i := len(all) - 1; i >= 0 && len(errs) < maxTries; i-- {
		c := all[i]
		// Suites differ in how soon they get a kernel: never go back.
		if have.Image != "" && comparePackages(have.Package, c.image.String()) >= 0 {
			return have, nil
		}
		k, err := s.fetch(ctx, c, arch)
		if err == nil {
			return k, nil
		}
		if ctx.Err() != nil {
			return Kernel{}, err
		}
		errs = append(errs, err)
	}
	return Kernel{}, errors.Join(errs...)
}

// maxTries is how many kernels of a series are tried where the newest can't be
// fetched.
const maxTries = 3

// find finds the kernels of a series in the archive, oldest first.
func (s *Store) find(ctx context.Context, series, arch string, notBefore time.Time) ([]candidate, error) {
	ix, err := s.index(ctx, arch, notBefore)
	if err != nil {
		return nil, err
	}
	var found []candidate
	gone := &SeriesGoneError{Series: series, Arch: arch, Failed: ix.failed()}
	for _, c := range candidates(ix.Packages, arch) {
		if c.series == series {
			found = append(found, c)
		}
		if n := len(gone.Available); n == 0 || gone.Available[n-1] != c.series {
			gone.Available = append(gone.Available, c.series)
		}
	}
	if len(found) == 0 {
		return nil, gone
	}
	return found, nil
}

func suiteNamed(name string) (suite, error) {
	for _, s := range suites() {
		if s.name == name {
			return s, nil
		}
	}
	return suite{}, fmt.Errorf("find suite %q: not known", name)
}

// download fetches a package into dir.
func (s *Store) download(ctx context.Context, p pkg, arch, dir string) error {
	if s.noMirror != nil {
		return s.noMirror
	}
	su, err := suiteNamed(p.Suite)
	if err != nil {
		return err
	}
	s.progress("fetching " + p.String() + " from " + p.Suite)
	if err := s.fetcher.download(ctx, su, arch, p, dir); err != nil {
		return fmt.Errorf("fetch %s: %w", p, err)
	}
	return nil
}

// stored is a kernel's file in the store. Paths are relative to it.
type stored struct {
	Kernel
	ModulesPackage pkg
}

const storedName = "kernel.json"

// fetch fetches a kernel. s is locked.
func (s *Store) fetch(ctx context.Context, c candidate, arch string) (Kernel, error) {
	final := filepath.Join(s.dir, arch, c.release)
	tmp, err := s.scratch(arch)
	if err != nil {
		return Kernel{}, err
	}
	defer os.RemoveAll(tmp)
	if err := s.download(ctx, c.image, arch, tmp); err != nil {
		return Kernel{}, err
	}
	image, err := findImage(tmp)
	if err != nil {
		return Kernel{}, fmt.Errorf("unpack %s: %w", c.image, err)
	}
	st := stored{ModulesPackage: c.modules, Kernel: Kernel{
		Series: c.series, Release: c.release, Version: upstreamVersion(c.version), Arch: arch,
		Package: c.image.String(), Suite: c.image.Suite,
	}}
	if st.Image, err = filepath.Rel(tmp, image); err != nil {
		return Kernel{}, fmt.Errorf("unpack %s: %w", c.image, err)
	}
	if dir := findModules(tmp, c.release); dir != "" {
		if st.Modules, err = filepath.Rel(tmp, dir); err != nil {
			return Kernel{}, fmt.Errorf("unpack %s: %w", c.image, err)
		}
	}
	// Documentation and such.
	if err := os.RemoveAll(filepath.Join(tmp, "usr", "share")); err != nil {
		return Kernel{}, fmt.Errorf("unpack %s: %w", c.image, err)
	}
	if err := writeJSON(filepath.Join(tmp, storedName), st); err != nil {
		return Kernel{}, err
	}
	if err := os.RemoveAll(final); err != nil {
		return Kernel{}, fmt.Errorf("store kernel: %w", err)
	}
	if err := os.Rename(tmp, final); err != nil {
		return Kernel{}, fmt.Errorf("store kernel: %w", err)
	}
	return st.at(final), nil
}

// scratch makes a directory next to where a kernel will be.
func (s *Store) scratch(arch string) (string, error) {
	dir := filepath.Join(s.dir, arch)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make cache directory: %w", err)
	}
	tmp, err := os.MkdirTemp(dir, ".new-")
	if err != nil {
		return "", fmt.Errorf("make cache directory: %w", err)
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", fmt.Errorf("make cache directory: %w", err)
	}
	return tmp, nil
}

func (st stored) at(dir string) Kernel {
	k := st.Kernel
	k.Image = filepath.Join(dir, k.Image)
	if k.Modules != "" {
		k.Modules = filepath.Join(dir, k.Modules)
	}
	return k
}

// FetchModules returns the kernel with its Modules, which it fetches if they
// are not there. The kernel must be from this store.
func (s *Store) FetchModules(ctx context.Context, k Kernel) (Kernel, error) {
	if k.Modules != "" {
		return k, nil
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return Kernel{}, err
	}
	defer unlock()
	dir := filepath.Join(s.dir, k.Arch, k.Release)
	st, err := readStored(dir)
	if err != nil {
		return Kernel{}, fmt.Errorf("fetch modules of kernel %s: it is not from this store: %w", k.Name(), err)
	}
	if st.Modules != "" {
		return st.at(dir), nil
	}
	if st.ModulesPackage.Name == "" {
		return Kernel{}, fmt.Errorf("fetch modules of kernel %s: the archive had none for it", k.Name())
	}
	tmp, err := s.scratch(k.Arch)
	if err != nil {
		return Kernel{}, err
	}
	defer os.RemoveAll(tmp)
	if err := s.download(ctx, st.ModulesPackage, k.Arch, tmp); err != nil {
		return Kernel{}, err
	}
	found := findModules(tmp, k.Release)
	if found == "" {
		return Kernel{}, fmt.Errorf("unpack %s: no modules of %s in it", st.ModulesPackage, k.Release)
	}
	// Not into the image's lib/modules: that may be there already.
	st.Modules = filepath.Join("modules", k.Release)
	target := filepath.Join(dir, st.Modules)
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return Kernel{}, fmt.Errorf("store modules: %w", err)
	}
	if err := os.RemoveAll(target); err != nil {
		return Kernel{}, fmt.Errorf("store modules: %w", err)
	}
	if err := os.Rename(found, target); err != nil {
		return Kernel{}, fmt.Errorf("store modules: %w", err)
	}
	if err := writeJSON(filepath.Join(dir, storedName), st); err != nil {
		return Kernel{}, err
	}
	return st.at(dir), nil
}

func readStored(dir string) (stored, error) {
	data, err := os.ReadFile(filepath.Join(dir, storedName))
	if err != nil {
		return stored{}, fmt.Errorf("read stored kernel: %w", err)
	}
	var st stored
	if err := json.Unmarshal(data, &st); err != nil {
		return stored{}, fmt.Errorf("read stored kernel %s: %w", dir, err)
	}
	return st, nil
}

// cached are the store's kernels for an architecture, oldest first.
func (s *Store) cached(arch string) ([]Kernel, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, arch))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read cache: %w", err)
	}
	var out []Kernel
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		dir := filepath.Join(s.dir, arch, e.Name())
		st, err := readStored(dir)
		if err != nil {
			continue // busybox, or something of another's
		}
		k := st.at(dir)
		if _, err := os.Stat(k.Image); err != nil {
			continue
		}
		out = append(out, k)
	}
	sort.Slice(out, func(i, j int) bool {
		if d := compareSeries(out[i].Series, out[j].Series); d != 0 {
			return d < 0
		}
		return comparePackages(out[i].Package, out[j].Package) < 0
	})
	return out, nil
}

func comparePackages(a, b string) int {
	_, av, _ := strings.Cut(a, "=")
	_, bv, _ := strings.Cut(b, "=")
	return compareVersions(av, bv)
}

func (s *Store) newestCached(series, arch string) (Kernel, error) {
	kernels, err := s.cached(arch)
	if err != nil {
		return Kernel{}, err
	}
	var newest Kernel
	for _, k := range kernels {
		if k.Series == series {
			newest = k
		}
	}
	return newest, nil
}

const busyboxPackage = "busybox-static"

// Busybox returns the path of a static busybox for an architecture: the host's
// own if that does, otherwise one of the store's, fetched if it is not there.
func (s *Store) Busybox(ctx context.Context, arch string) (string, error) {
	if arch == hostArch() {
		if path := hostBusybox(); path != "" {
			return path, nil
		}
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	final := filepath.Join(s.dir, arch, "busybox")
	if b, err := readBinary(final); err == nil && b.arch == arch && b.static {
		return final, nil
	}
	ix, err := s.index(ctx, arch, s.now().Add(-maxAge))
	if err != nil {
		return "", err
	}
	var errs []error
	for _, p := range busyboxes(ix.Packages) {
		err := s.fetchBusybox(ctx, p, arch, final)
		if err == nil {
			return final, nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return "", fmt.Errorf("find %s for %s: the archive has none", busyboxPackage, arch)
	}
	return "", errors.Join(errs...)
}

// busyboxes are the packages to try, best first: those of released suites, the
// newest of them first.
func busyboxes(pkgs []pkg) []pkg {
	var out []pkg
	for _, p := range pkgs {
		if p.Name == busyboxPackage {
			out = append(out, p)
		}
	}
	sort.SliceStable(out, func(i, j int) bool {
		if a, b := unreleased(out[i].Suite), unreleased(out[j].Suite); a != b {
			return b
		}
		return compareVersions(out[i].Version, out[j].Version) > 0
	})
	return out
}

func unreleased(suite string) bool { return suite == "sid" || suite == "experimental" }

func (s *Store) fetchBusybox(ctx context.Context, p pkg, arch, final string) error {
	tmp, err := s.scratch(arch)
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := s.download(ctx, p, arch, tmp); err != nil {
		return err
	}
	for _, path := range []string{"bin/busybox", "usr/bin/busybox"} {
		path = filepath.Join(tmp, path)
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if err := os.Rename(path, final); err != nil {
			return fmt.Errorf("store busybox: %w", err)
		}
		return nil
	}
	return fmt.Errorf("unpack %s: no busybox in it", p)
}
