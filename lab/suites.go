package lab

// suite is a part of the archive that has kernels.
type suite struct {
	name     string
	security bool // it is in the security archive
}

// suites are where Debian's cloud kernels are. One that a mirror does not have
// (any more) is named and left out.
func suites() []suite {
	return []suite{
		{"bullseye-security", true}, // 5.10, 6.1
		{"bookworm", false},         // 6.1
		{"bookworm-security", true}, // 6.1, 6.12
		{"trixie", false},           // 6.12
		{"trixie-security", true},   // 6.12
		{"trixie-backports", false}, // 6.16 and later
		{"sid", false},              // the newest release
		{"experimental", false},     // the next one
	}
}

func (m mirror) uri(s suite) string {
	if s.security {
		return m.security
	}
	return m.main
}
