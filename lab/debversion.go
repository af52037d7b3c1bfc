package lab

import "strings"

// compareVersions compares two versions of Debian packages, as deb-version(7)
// says. It returns a number below, equal to or above 0.
func compareVersions(a, b string) int {
	aEpoch, a := splitEpoch(a)
	bEpoch, b := splitEpoch(b)
	if c := comparePart(aEpoch, bEpoch); c != 0 {
		return c
	}
	aUp, aRev := splitRevision(a)
	bUp, bRev := splitRevision(b)
	if c := comparePart(aUp, bUp); c != 0 {
		return c
	}
	return comparePart(aRev, bRev)
}

func splitEpoch(v string) (epoch, rest string) {
	if e, r, ok := strings.Cut(v, ":"); ok {
		return e, r
	}
	return "0", v
}

func splitRevision(v string) (upstream, revision string) {
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		return v[:i], v[i+1:]
	}
	return v, ""
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// weight orders characters outside numbers: "~" before the end, the end before
// letters, letters before everything else.
func weight(s string, i int) int {
	switch {
	case i >= len(s) || isDigit(s[i]):
		return 0
	case s[i] == '~':
		return -1
	case s[i]|0x20 >= 'a' && s[i]|0x20 <= 'z':
		return int(s[i])
	}
	return int(s[i]) + 256
}

func comparePart(a, b string) int {
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		for i < len(a) && !isDigit(a[i]) || j < len(b) && !isDigit(b[j]) {
			if d := weight(a, i) - weight(b, j); d != 0 {
				return d
			}
			i++
			j++
		}
		for i < len(a) && a[i] == '0' {
			i++
		}
		for j < len(b) && b[j] == '0' {
			j++
		}
		first := 0
		for i < len(a) && j < len(b) && isDigit(a[i]) && isDigit(b[j]) {
			if first == 0 {
				first = int(a[i]) - int(b[j])
			}
			i++
			j++
		}
		switch {
		case i < len(a) && isDigit(a[i]):
			return 1
		case j < len(b) && isDigit(b[j]):
			return -1
		case first != 0:
			return first
		}
	}
	return 0
}

// upstreamVersion is the kernel's version in the version of its package:
// "7.3~rc4" for "7.3~rc4-1~exp1".
func upstreamVersion(v string) string {
	_, v = splitEpoch(v)
	v, _ = splitRevision(v)
	return v
}
