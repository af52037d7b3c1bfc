package kallsyms

import "io"

// Entry is one symbol of a name that was looked up.
type Entry struct {
	Addr   uint64 // or the value of an absolute symbol, or a per-CPU offset
	Type   byte   // as nm(1) has it: t and T are text, d and D data, a and A absolute
	Module string // "" for vmlinux
}

// Code reports whether the symbol is a function. A name with two of those is
// ambiguous: the kernel attaches to neither, or to the first it finds.
func (e Entry) Code() bool { return isCode(e.Type) }

// Lookup finds every symbol that has one of the names, in one pass. A name's
// entries are in the order of the list; a name that is not in the list is not
// in the map. Errors are those of Scan.
func Lookup(r io.Reader, names []string) (map[string][]Entry, error) {
	wanted := make(map[string]struct{}, len(names))
	var shapes NameFilter
	for _, name := range names {
		wanted[name] = struct{}{}
		shapes.Add(name)
	}

	found := make(map[string][]Entry, len(names))
	lastModule := ""
	err := Scan(r, func(addr uint64, typ byte, name, module []byte) bool {
		if !shapes.Has(name) {
			return true
		}
		if _, ok := wanted[string(name)]; !ok {
			return true
		}
		if lastModule != string(module) {
			lastModule = string(module)
		}
		key := string(name)
		found[key] = append(found[key], Entry{Addr: addr, Type: typ, Module: lastModule})
		return true
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// NameFilter turns most names away before they are hashed whole, which is half
// of what looking names up costs. It goes by the length and two bytes of a name,
// not the first ones: names of kernel functions begin alike. The zero value
// turns all away.
type NameFilter [64]uint64

// Add lets a name pass.
func (s *NameFilter) Add(name string) {
	if len(name) > 0 {
		shape := shapeOf(len(name), name[len(name)/2], name[len(name)-1])
		s[shape/64] |= 1 << (shape % 64)
	}
}

// Has reports whether a name may have been added. Names of a list are never empty.
func (s *NameFilter) Has(name []byte) bool {
	shape := shapeOf(len(name), name[len(name)/2], name[len(name)-1])
	return s[shape/64]&(1<<(shape%64)) != 0
}

// shapeOf gives a number below 4096.
func shapeOf(length int, middle, last byte) uint {
	return (uint(length) + 61*uint(middle) + 509*uint(last)) % 4096
}
