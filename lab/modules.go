package lab

import (
	"bytes"
	"compress/gzip"
	"context"
	"debug/elf"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// moduleFile is a module, unpacked.
type moduleFile struct {
	name      string
	guestPath string
	data      []byte
}

// resolveModules finds and unpacks the named modules and all they depend on,
// in an order in which they can be loaded. What is built into the kernel needs
// no loading.
func resolveModules(ctx context.Context, k Kernel, names []string) ([]moduleFile, error) {
	if len(names) == 0 {
		return nil, nil
	}
	if k.Modules == "" {
		return nil, fmt.Errorf("find modules of kernel %s: they were not fetched", k.Name())
	}
	index, err := indexModules(k.Modules)
	if err != nil {
		return nil, err
	}
	r := moduleResolver{
		index: index, release: filepath.Base(k.Modules), seen: map[string]bool{},
		read: func(path string) ([]byte, error) { return readModule(ctx, path) },
	}
	for _, name := range names {
		if err := r.add(moduleName(name)); err != nil {
			return nil, err
		}
	}
	return r.order, nil
}

// portModules are the modules that the virtio port needs in a kernel that does
// not have them built in. Where they are not to be had, the guest does without
// the port.
func portModules(ctx context.Context, k Kernel) ([]moduleFile, error) {
	if k.Modules == "" {
		return nil, nil
	}
	index, err := indexModules(k.Modules)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, name := range []string{"virtio_pci", "virtio_console"} {
		if path, ok := index[name]; ok && path != builtin {
			names = append(names, name)
		}
	}
	return resolveModules(ctx, k, names)
}

// builtin stands in an index for the path of a module that is in the kernel.
const builtin = ""

// moduleName is a module's name as the kernel prints it.
func moduleName(name string) string {
	name = filepath.Base(name)
	if i := strings.Index(name, ".ko"); i >= 0 {
		name = name[:i]
	}
	return strings.ReplaceAll(name, "-", "_")
}

// indexModules maps the names of a release's modules to their files. There is
// no modules.dep to ask: depmod writes it on installation, and nothing is
// installed here.
func indexModules(dir string) (map[string]string, error) {
	index := map[string]string{}
	if data, err := os.ReadFile(filepath.Join(dir, "modules.builtin")); err == nil {
		for _, line := range strings.Fields(string(data)) {
			index[moduleName(line)] = builtin
		}
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Type().IsRegular() && strings.Contains(d.Name(), ".ko") {
			index[moduleName(d.Name())] = path
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read modules: %w", err)
	}
	return index, nil
}

type moduleResolver struct {
	index   map[string]string
	release string
	read    func(path string) ([]byte, error)
	seen    map[string]bool
	order   []moduleFile
}

func (r *moduleResolver) add(name string) error {
	if r.seen[name] {
		return nil
	}
	r.seen[name] = true
	path, ok := r.index[name]
	if !ok {
		return fmt.Errorf("find module %s: kernel %s has none", name, r.release)
	}
	if path == builtin {
		return nil
	}
	data, err := r.read(path)
	if err != nil {
		return err
	}
	depends, err := moduleDepends(data)
	if err != nil {
		return fmt.Errorf("read module %s: %w", name, err)
	}
	for _, d := range depends {
		if err := r.add(moduleName(d)); err != nil {
			return fmt.Errorf("find what module %s depends on: %w", name, err)
		}
	}
	r.order = append(r.order, moduleFile{name: name, guestPath: "/lib/modules/" + r.release + "/" + name + ".ko", data: data})
	return nil
}

// moduleDepends reads the names of what a module depends on from the module.
func moduleDepends(data []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, fmt.Errorf("no section .modinfo")
	}
	info, err := s.Data()
	if err != nil {
		return nil, err
	}
	return parseDepends(info), nil
}

// parseDepends reads "depends=A,B" from the NUL-terminated strings of a
// module's .modinfo section.
func parseDepends(info []byte) []string {
	for _, field := range bytes.Split(info, []byte{0}) {
		list, ok := bytes.CutPrefix(field, []byte("depends="))
		if !ok {
			continue
		}
		return strings.FieldsFunc(string(list), func(r rune) bool { return r == ',' })
	}
	return nil
}

// readModule reads a module's file and unpacks it.
func readModule(ctx context.Context, path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read module: %w", err)
	}
	switch filepath.Ext(path) {
	case ".gz":
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("unpack %s: %w", path, err)
		}
		out, err := io.ReadAll(z)
		if err != nil {
			return nil, fmt.Errorf("unpack %s: %w", path, err)
		}
		return out, nil
	case ".xz":
		return unpack(ctx, path, data, "xz", "xz-utils")
	case ".zst":
		return unpack(ctx, path, data, "zstd", "zstd")
	}
	return data, nil
}

func unpack(ctx context.Context, path string, data []byte, program, pkg string) ([]byte, error) {
	bin, err := exec.LookPath(program)
	if err != nil {
		return nil, &MissingProgramError{Program: program, Package: pkg}
	}
	cmd := exec.CommandContext(ctx, bin, "-dc")
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("unpack %s with %s: %w", path, program, err)
	}
	return out, nil
}
