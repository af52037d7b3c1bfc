package lab

import (
	"fmt"
	"io"
	"strings"
)

// File types of an inode's mode, as in stat(2).
const (
	modeDir     = 0o040000
	modeRegular = 0o100000
	modeSymlink = 0o120000
)

// cpioWriter writes a cpio archive in the "newc" format, the one that the
// kernel unpacks as initramfs (Documentation/driver-api/early-userspace/
// buffer-format.rst). All inodes belong to root and are from 1970, so that the
// same files make the same archive.
type cpioWriter struct {
	w    io.Writer
	n    int64
	ino  int
	have map[string]bool // directories that are in it
}

func newCpioWriter(w io.Writer) *cpioWriter {
	return &cpioWriter{w: w, have: map[string]bool{"": true}}
}

// dir adds a directory and those above it, once each.
func (c *cpioWriter) dir(name string, perm uint32) error {
	name = strings.Trim(name, "/")
	if c.have[name] {
		return nil
	}
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		if err := c.dir(name[:i], 0o755); err != nil {
			return err
		}
	}
	c.have[name] = true
	return c.entry(name, modeDir|perm&0o7777, nil, 0)
}

// file adds a file of size bytes from r. A later file of the same name wins.
func (c *cpioWriter) file(name string, perm uint32, r io.Reader, size int64) error {
	return c.leaf(name, modeRegular|perm&0o7777, r, size)
}

// symlink adds a symbolic link to target.
func (c *cpioWriter) symlink(name, target string) error {
	return c.leaf(name, modeSymlink|0o777, strings.NewReader(target), int64(len(target)))
}

func (c *cpioWriter) leaf(name string, mode uint32, r io.Reader, size int64) error {
	name = strings.Trim(name, "/")
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		if err := c.dir(name[:i], 0o755); err != nil {
			return err
		}
	}
	return c.entry(name, mode, r, size)
}

// close ends the archive.
func (c *cpioWriter) close() error {
	return c.entry("TRAILER!!!", 0, nil, 0)
}

func (c *cpioWriter) entry(name string, mode uint32, r io.Reader, size int64) error {
	if size > 0xffffffff {
		return fmt.Errorf("add %s to initramfs: %d bytes are more than a cpio archive can hold", name, size)
	}
	c.ino++
	// magic, ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor,
	// rdevmajor, rdevminor, namesize, check
	head := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		c.ino, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, len(name)+1, 0, name)
	if err := c.write(strings.NewReader(head), int64(len(head))); err != nil {
		return fmt.Errorf("add %s to initramfs: %w", name, err)
	}
	if size > 0 {
		if err := c.write(r, size); err != nil {
			return fmt.Errorf("add %s to initramfs: %w", name, err)
		}
	}
	return nil
}

// write copies exactly size bytes and pads to a multiple of four.
func (c *cpioWriter) write(r io.Reader, size int64) error {
	n, err := io.Copy(c.w, io.LimitReader(r, size))
	c.n += n
	if err != nil {
		return err
	}
	if n != size {
		return fmt.Errorf("%d of %d bytes: %w", n, size, io.ErrUnexpectedEOF)
	}
	if pad := -c.n & 3; pad > 0 {
		c.n += pad
		if _, err := io.WriteString(c.w, "\x00\x00\x00"[:pad]); err != nil {
			return err
		}
	}
	return nil
}
