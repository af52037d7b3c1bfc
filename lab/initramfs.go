package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"fgtrace/lab/internal/frame"
)

// image is what an initramfs is made of.
type image struct {
	init    string            // host path of PID 1
	binary  string            // host path of /bin/trace, may be empty
	busybox string            // host path
	applets []string          // names that are links to busybox
	root    string            // host directory to lay over the root, may be empty
	files   map[string]string // guest path -> host path
	modules []moduleFile
	port    []moduleFile // what the virtio port needs
	plan    frame.Plan
}

// writeTo writes the initramfs as a cpio archive, not compressed: QEMU copies
// it into the guest's memory at once, while the emulated CPU would take seconds
// to unpack it.
func (im image) writeTo(w io.Writer) error {
	c := newCpioWriter(w)
	for _, d := range []string{"dev", "etc", "proc", "run", "sys", "sbin", "bin", "lib", "root", "var"} {
		if err := c.dir(d, 0o755); err != nil {
			return err
		}
	}
	if err := c.dir("tmp", 0o1777); err != nil {
		return err
	}
	for _, name := range []string{"etc/group", "etc/hosts", "etc/passwd"} {
		text := etc()[name]
		if err := c.file(name, 0o644, strings.NewReader(text), int64(len(text))); err != nil {
			return err
		}
	}
	if err := c.hostFile("init", im.init, 0o755); err != nil {
		return err
	}
	if im.binary == im.init {
		// The same bytes again would cost boot time.
		if err := c.symlink(frame.BinaryPath, "/init"); err != nil {
			return err
		}
	} else if im.binary != "" {
		if err := c.hostFile(frame.BinaryPath, im.binary, 0o755); err != nil {
			return err
		}
	}
	if im.busybox != "" {
		if err := c.hostFile("bin/busybox", im.busybox, 0o755); err != nil {
			return err
		}
		for _, name := range im.applets {
			if err := c.symlink("bin/"+name, "busybox"); err != nil {
				return err
			}
		}
	}
	for _, m := range append(im.port[:len(im.port):len(im.port)], im.modules...) {
		if err := c.file(m.guestPath, 0o644, bytes.NewReader(m.data), int64(len(m.data))); err != nil {
			return err
		}
	}
	if im.root != "" {
		if err := c.tree(im.root); err != nil {
			return err
		}
	}
	guestPaths := make([]string, 0, len(im.files))
	for p := range im.files {
		guestPaths = append(guestPaths, p)
	}
	sort.Strings(guestPaths)
	for _, p := range guestPaths {
		info, err := os.Stat(im.files[p])
		if err != nil {
			return fmt.Errorf("add %s to initramfs: %w", p, err)
		}
		if err := c.hostFile(p, im.files[p], uint32(info.Mode().Perm())); err != nil {
			return err
		}
	}
	plan, err := json.Marshal(im.plan)
	if err != nil {
		return fmt.Errorf("encode plan: %w", err)
	}
	if err := c.file(frame.PlanPath, 0o600, bytes.NewReader(plan), int64(len(plan))); err != nil {
		return err
	}
	return c.close()
}

// etc are the files that su, id and name lookups want.
func etc() map[string]string {
	return map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
		"etc/group":  "root:x:0:\nnogroup:x:65534:\n",
		"etc/hosts":  "127.0.0.1 localhost\n::1 localhost\n",
	}
}

// hostFile adds a file of the host.
func (c *cpioWriter) hostFile(name, path string, perm uint32) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("add %s to initramfs: %w", name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("add %s to initramfs: %w", name, err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("add %s to initramfs: %s is not a regular file", name, path)
	}
	return c.file(name, perm, f, info.Size())
}

// tree lays a directory of the host over the guest's root.
func (c *cpioWriter) tree(root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("read %s for initramfs: %w", path, err)
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return fmt.Errorf("read %s for initramfs: %w", path, err)
		}
		info, err := d.Info()
		if err != nil {
			return fmt.Errorf("read %s for initramfs: %w", path, err)
		}
		switch {
		case name == ".":
			if !d.IsDir() {
				return fmt.Errorf("read %s for initramfs: not a directory", path)
			}
			return nil
		case d.IsDir():
			return c.dir(name, uint32(info.Mode().Perm()))
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return fmt.Errorf("read %s for initramfs: %w", path, err)
			}
			return c.symlink(name, target)
		case d.Type().IsRegular():
			return c.hostFile(name, path, uint32(info.Mode().Perm()))
		}
		return fmt.Errorf("read %s for initramfs: neither a file nor a directory nor a link", path)
	})
}
