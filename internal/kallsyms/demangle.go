package kallsyms

import (
	"strings"

	"github.com/ianlancetaylor/demangle"
)

// maxDemangled is the binary logarithm of the longest name that Demangle
// writes: a mangled name of a few bytes can describe gigabytes.
const maxDemangled = 12

// Demangle gives the source form of a Rust or C++ symbol, and false for the
// name of a C function. A suffix that a compiler added (.cold, .llvm.4711)
// stays behind it.
func Demangle(name string) (string, bool) {
	if !strings.HasPrefix(name, "_R") && !strings.HasPrefix(name, "_Z") {
		return "", false
	}
	mangled, suffix := cutSuffix(name)
	plain, err := demangle.ToString(mangled, demangle.MaxLength(maxDemangled))
	if err != nil || plain == "" { // some malformed names come out empty
		return "", false
	}
	return plain + suffix, true
}

// cutSuffix cuts a mangled name where the compiler's suffix begins.
func cutSuffix(name string) (mangled, suffix string) {
	// Only Rust's older scheme has dots inside a name, and that ends in a hash.
	end := max(legacyRustEnd(name), 0)
	if dot := strings.IndexByte(name[end:], '.'); dot >= 0 {
		return name[:end+dot], name[end+dot:]
	}
	return name, ""
}

// legacyRustEnd gives the length of the _ZN...17h<16 hexadecimal digits>E that
// name starts with, or -1.
func legacyRustEnd(name string) int {
	const mark, digits = "17h", 16
	if !strings.HasPrefix(name, "_ZN") {
		return -1
	}
	for at := 0; ; at++ {
		i := strings.Index(name[at:], mark)
		if i < 0 {
			return -1
		}
		at += i
		e := at + len(mark) + digits
		if e < len(name) && name[e] == 'E' && strings.Trim(name[at+len(mark):e], "0123456789abcdef") == "" {
			return e + 1
		}
	}
}
