package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// hostArch is the architecture that this program runs on.
func hostArch() string { return runtime.GOARCH }

// findImage finds the kernel in an unpacked package: in /boot, or, from 6.19
// on, next to the modules.
func findImage(dir string) (string, error) {
	for _, pattern := range []string{
		"boot/vmlinu[xz]-*", "usr/lib/modules/*/vmlinu[xz]", "lib/modules/*/vmlinu[xz]",
		// How linux-binary-unsigned-* names it.
		"usr/lib/modules/*/vmlinu[xz].unsigned",
	} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err == nil && len(found) > 0 {
			return found[0], nil
		}
	}
	return "", fmt.Errorf("find kernel image: none in the package")
}

// findModules finds a release's modules in an unpacked package, "" if there are
// none.
func findModules(dir, release string) string {
	for _, base := range []string{"usr/lib/modules", "lib/modules"} {
		path := filepath.Join(dir, base, release)
		if info, err := os.Stat(filepath.Join(path, "kernel")); err == nil && info.IsDir() {
			return path
		}
	}
	return ""
}
