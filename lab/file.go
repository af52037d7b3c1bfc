package lab

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
)

// KernelFile is a kernel from a file that is in no store: a bzImage of amd64
// (or its ELF-less EFI stub), an Image of arm64, perhaps packed with gzip. Its
// modules are looked for where distributions and "make modules_install" put
// them relative to it.
func KernelFile(path string) (Kernel, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return Kernel{}, fmt.Errorf("find kernel: %w", err)
	}
	data, err := os.ReadFile(abs)
	if err != nil {
		return Kernel{}, fmt.Errorf("read kernel: %w", err)
	}
	k, err := identifyKernel(data)
	if err != nil {
		return Kernel{}, fmt.Errorf("read kernel %s: %w", path, err)
	}
	k.Image = abs
	k.Series = seriesOf(k.Release)
	if k.Release != "" {
		dir := filepath.Dir(abs)
		for _, root := range []string{filepath.Dir(dir), dir} {
			if m := findModules(root, k.Release); m != "" {
				k.Modules = m
				break
			}
		}
		if info, err := os.Stat(filepath.Join(dir, "kernel")); k.Modules == "" && err == nil && info.IsDir() {
			k.Modules = dir
		}
	}
	return k, nil
}

// linuxBanner is what every kernel has in its data (linux_banner).
var linuxBanner = regexp.MustCompile(`Linux version (\d+\.[\x21-\x7e]+) \(`)

// identifyKernel reads a kernel's architecture and release from its image.
func identifyKernel(data []byte) (Kernel, error) {
	if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return Kernel{}, fmt.Errorf("unpack: %w", err)
		}
		// A kernel is some tens of megabytes.
		if data, err = io.ReadAll(io.LimitReader(z, 256<<20)); err != nil {
			return Kernel{}, fmt.Errorf("unpack: %w", err)
		}
	}
	switch {
	case len(data) > 0x210 && string(data[0x202:0x206]) == "HdrS":
		// Documentation/arch/x86/boot.rst: kernel_version is an offset
		// from 0x200 of a string that begins with the release.
		at := int(binary.LittleEndian.Uint16(data[0x20e:])) + 0x200
		if at >= len(data) {
			return Kernel{Arch: "amd64"}, nil
		}
		text := data[at:min(len(data), at+256)]
		if i := bytes.IndexAny(text, " \x00"); i >= 0 {
			text = text[:i]
		}
		return Kernel{Arch: "amd64", Release: string(text)}, nil
	case len(data) > 0x40 && string(data[0x38:0x3c]) == "ARM\x64":
		// Documentation/arch/arm64/booting.rst
		k := Kernel{Arch: "arm64"}
		if m := linuxBanner.FindSubmatch(data); m != nil {
			k.Release = string(m[1])
		}
		return k, nil
	}
	return Kernel{}, fmt.Errorf("neither a bzImage of amd64 nor an Image of arm64")
}
