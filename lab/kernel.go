package lab

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Kernel is a kernel that can be booted.
type Kernel struct {
	Series  string // "6.12"
	Release string // what uname -r prints: "6.12.117+deb13-cloud-amd64"
	Version string // the upstream version: "6.12.117"; may be empty
	Arch    string // as Go and Debian name it: "amd64", "arm64"
	Image   string // path of the kernel image
	// Modules is the directory with this release's modules
	// (.../lib/modules/RELEASE), empty if they were not fetched, see
	// [Store.FetchModules].
	Modules string
	Package string // the package it comes from, with its version: "NAME=VERSION"
	Suite   string // the suite of the archive it comes from
}

// Name is the kernel's name for people: "6.12.117 (amd64)".
func (k Kernel) Name() string {
	name := k.Version
	if name == "" {
		name = k.Release
	}
	if name == "" {
		name = k.Image
	}
	return fmt.Sprintf("%s (%s)", name, k.Arch)
}

// seriesPattern is what a series looks like.
var seriesPattern = regexp.MustCompile(`^\d+\.\d+$`)

// IsSeries says whether s is the name of a series of kernels, like "6.12".
func IsSeries(s string) bool { return seriesPattern.MatchString(s) }

// seriesOf is the series of a release or version, "" if it has none.
func seriesOf(release string) string {
	major, rest, ok := strings.Cut(release, ".")
	if !ok {
		return ""
	}
	i := 0
	for i < len(rest) && rest[i] >= '0' && rest[i] <= '9' {
		i++
	}
	if _, err := strconv.Atoi(major); err != nil || i == 0 {
		return ""
	}
	return major + "." + rest[:i]
}

// compareSeries orders series by age; it returns a number below, equal to or
// above 0. What is no series sorts first.
func compareSeries(a, b string) int {
	aMajor, aMinor := splitSeries(a)
	bMajor, bMinor := splitSeries(b)
	if aMajor != bMajor {
		return aMajor - bMajor
	}
	return aMinor - bMinor
}

func splitSeries(s string) (major, minor int) {
	a, b, _ := strings.Cut(s, ".")
	major, err := strconv.Atoi(a)
	if err != nil {
		return -1, -1
	}
	minor, err = strconv.Atoi(b)
	if err != nil {
		return major, -1
	}
	return major, minor
}
