package lab

import (
	"bufio"
	"fmt"
	"io"
	"sort"
	"strings"
)

// pkg is a package of the archive.
type pkg struct {
	Name    string
	Version string
	Suite   string
}

func (p pkg) String() string { return p.Name + "=" + p.Version }

// parsePackages reads an archive's index of packages and keeps those that a
// lab may want.
func parsePackages(r io.Reader, suite string) ([]pkg, error) {
	var out []pkg
	var p pkg
	flush := func() {
		if p.Name != "" && p.Version != "" && wanted(p.Name) {
			p.Suite = suite
			out = append(out, p)
		}
		p = pkg{}
	}
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 4<<20)
	for sc.Scan() {
		line := sc.Bytes()
		switch {
		case len(line) == 0:
			flush()
		case p.Name == "" && strings.HasPrefix(string(line[:min(len(line), 9)]), "Package: "):
			p.Name = string(line[9:])
		case p.Version == "" && strings.HasPrefix(string(line[:min(len(line), 9)]), "Version: "):
			p.Version = string(line[9:])
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("read index of packages: %w", err)
	}
	flush()
	return out, nil
}

func wanted(name string) bool {
	if name == busyboxPackage {
		return true
	}
	for _, kind := range []string{"linux-image-", "linux-binary-", "linux-modules-"} {
		if strings.HasPrefix(name, kind) {
			return strings.Contains(name, "-cloud-") && !strings.HasSuffix(name, "-dbg")
		}
	}
	return false
}

// candidate is a kernel that the archive has.
type candidate struct {
	series  string
	release string
	version string // of the package
	image   pkg
	modules pkg // the package with the modules, the zero value if the image has them
}

// candidates are the kernels among packages, for an architecture.
//
// To 6.18 linux-image-RELEASE has the image and the modules (with "-unsigned"
// behind the name where the signed one is not built yet); from 6.19 on it is
// empty, linux-binary-RELEASE has the image (linux-binary-unsigned-RELEASE
// where the signed one is not built yet) and linux-modules-RELEASE the modules.
func candidates(pkgs []pkg, arch string) []candidate {
	type key struct{ release, suite, version string }
	type found struct {
		image, binary, modules pkg
		imageRank, binaryRank  int
	}
	tail := "-cloud-" + arch
	all := map[key]*found{}
	for _, p := range pkgs {
		kind, release, rank := kernelPackage(p.Name, tail)
		if kind == "" {
			continue
		}
		// Image and modules must be of one build.
		k := key{release, p.Suite, p.Version}
		f := all[k]
		if f == nil {
			f = &found{}
			all[k] = f
		}
		switch kind {
		case "binary":
			if rank > f.binaryRank {
				f.binary, f.binaryRank = p, rank
			}
		case "image":
			if rank > f.imageRank {
				f.image, f.imageRank = p, rank
			}
		case "modules":
			f.modules = p
		}
	}
	var out []candidate
	for k, f := range all {
		c := candidate{series: seriesOf(k.release), release: k.release, version: k.version}
		switch {
		case c.series == "":
			continue
		case f.binaryRank > 0:
			c.image, c.modules = f.binary, f.modules
		case f.imageRank > 0 && f.modules.Name == "" && compareSeries(c.series, "6.19") < 0:
			c.image = f.image
		default:
			continue
		}
		out = append(out, c)
	}
	sort.Slice(out, func(i, j int) bool {
		a, b := out[i], out[j]
		if d := compareSeries(a.series, b.series); d != 0 {
			return d < 0
		}
		if d := compareVersions(a.version, b.version); d != 0 {
			return d < 0
		}
		// The same build in several suites: any will do, but always the same.
		if a.release != b.release {
			return a.release < b.release
		}
		return a.image.Suite < b.image.Suite
	})
	return out
}

// kernelPackage says what a kernel's package has: "image", "binary" or
// "modules", of which release, and how good it is: signed ones are better.
func kernelPackage(name, tail string) (kind, release string, rank int) {
	rank = 2
	name, ok := strings.CutPrefix(name, "linux-")
	if !ok {
		return "", "", 0
	}
	for _, k := range []string{"image", "binary", "modules"} {
		if rest, ok := strings.CutPrefix(name, k+"-"); ok {
			kind, release = k, rest
		}
	}
	if rest, ok := strings.CutPrefix(release, "unsigned-"); ok {
		release, rank = rest, 1
	}
	if rest, ok := strings.CutSuffix(release, "-unsigned"); ok {
		release, rank = rest, 1
	}
	// Names without a version, like linux-image-cloud-amd64, are of packages
	// that only depend on others; so is linux-image-6.12-cloud-amd64 when
	// there is no kernel of just that release.
	if kind == "" || !strings.HasSuffix(release, tail) || seriesOf(release) == "" {
		return "", "", 0
	}
	return kind, release, rank
}
