package kallsyms

import (
	"bytes"
	"io"
	"slices"
	"sync"
)

// Text is a symbol list as it was read. It names addresses without a table: the
// kernel lists vmlinux in order of addresses, so the lines can be searched as
// they are, and only the few lines behind it, of modules and of generated code,
// are made into a Table when one of them is asked for. For the price of its
// memory (8 MB) it is there as soon as the list has been read.
//
// Any number of goroutines may use it.
type Text struct {
	core []byte // lines of vmlinux, sorted by address
	rest func() (*Table, error)
	p    *parser
}

// textSize is the room made for a list. Pages that it does not need cost
// nothing.
const textSize = 32 << 20

// ReadText reads a list to its end, and calls fn for each symbol on the way as
// Scan does. Errors are those of Scan.
func ReadText(r io.Reader, fn func(addr uint64, typ byte, name, module []byte)) (*Text, error) {
	var (
		raw    = bytes.NewBuffer(make([]byte, 0, textSize))
		sorted = true
		last   uint64
	)
	err := Scan(io.TeeReader(r, raw), func(addr uint64, typ byte, name, module []byte) bool {
		if len(module) == 0 {
			sorted = sorted && addr >= last
			last = addr
		}
		fn(addr, typ, name, module)
		return true
	})
	if err != nil {
		return nil, err
	}
	t := &Text{p: newParser()}
	text := raw.Bytes()
	behind := text
	if sorted {
		end := vmlinuxEnd(text)
		t.core, behind = text[:end], text[end:]
	}
	t.rest = sync.OnceValues(func() (*Table, error) { return loadAll(bytes.NewReader(behind), 8<<10) })
	return t, nil
}

// vmlinuxEnd returns the offset of the first line that names a module. All that
// follow do.
func vmlinuxEnd(text []byte) int {
	end := len(text)
	for end > 0 {
		start := lineStart(text, end-1)
		if !bytes.HasSuffix(bytes.TrimSuffix(text[start:end], []byte{'\n'}), []byte{']'}) {
			break
		}
		end = start
	}
	return end
}

// lineStart returns the offset of the line that the byte at i is in; a newline
// is in the line that it ends.
func lineStart(text []byte, i int) int { return bytes.LastIndexByte(text[:i], '\n') + 1 }

// Symbol finds the code that addr lies in, as Table.Symbol does.
func (t *Text) Symbol(addr uint64) (Sym, bool) {
	if s, ok := t.vmlinux(addr); ok {
		return s, true
	}
	rest, err := t.rest()
	if err != nil {
		return Sym{}, false // the lines have been parsed before: there is no error
	}
	return rest.Symbol(addr)
}

func (t *Text) vmlinux(addr uint64) (Sym, bool) {
	p := t.p
	// The first line whose address is above.
	lo, hi := 0, len(t.core)
	for lo < hi {
		start := lineStart(t.core, (lo+hi)/2)
		if start < lo {
			start = lo
		}
		line, next := lineAt(t.core, start)
		if s, _ := p.parse(line); s.addr <= addr {
			lo = next
		} else {
			hi = start
		}
	}
	// The lines before it that share an address; the first that is code counts.
	var found Sym
	ok, at := false, uint64(0)
	for end := lo; end > 0; {
		start := lineStart(t.core, end-1)
		line, _ := lineAt(t.core, start)
		s, msg := p.parse(line)
		end = start
		if msg != "" || s.addr == 0 || isAbsolute(s.typ) || isMapping(s.name) {
			continue
		}
		if at != 0 && s.addr != at {
			break
		}
		at = s.addr
		if isCode(s.typ) && !isEnd(s.name) {
			found, ok = Sym{Name: string(s.name), Addr: s.addr, Offset: addr - s.addr}, true
		}
	}
	if !ok || found.Offset >= maxCode {
		return Sym{}, false
	}
	return found, true
}

// lineAt returns the line that starts at an offset, without its newline, and
// the offset of the next.
func lineAt(text []byte, start int) (line []byte, next int) {
	rest := text[start:]
	if end := bytes.IndexByte(rest, '\n'); end >= 0 {
		return rest[:end], start + end + 1
	}
	return slices.Clip(rest), len(text)
}
