package kallsyms

import (
	"cmp"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
)

// Sym is the symbol that an address lies in.
type Sym struct {
	Name   string
	Module string // "" for vmlinux
	Addr   uint64 // where the symbol starts
	Offset uint64 // of the address asked for, from Addr
}

// Table finds the function that an address lies in. It costs 14 bytes a symbol
// and the names, and does not change once it is loaded, so any number of
// goroutines may use it.
type Table struct {
	// Three columns of one table, sorted by address, no address twice.
	addrs   []uint64
	names   []uint32 // offset into blob, or noName
	modules []uint16 // index into modnames

	blob     string // names, each with the newline that ended it
	modnames []string
}

// noName marks the start of something that is not code, and so the end of the
// code before it. It sorts behind every name.
const noName = math.MaxUint32

const (
	// maxCode is how far a symbol reaches when nothing follows it: no function
	// and no BPF program is larger, and the kernel does not publish sizes.
	maxCode = 1 << 20

	// maxImage bounds what is generated into a page of its own: BPF trampolines
	// (kernel/bpf/trampoline.c), dispatchers (kernel/bpf/dispatcher.c), ftrace
	// trampolines and kprobe instruction slots.
	maxImage = 4 << 10
)

// Load reads all code symbols.
func Load(r io.Reader) (*Table, error) { return loadAll(r, 192<<10) }

// loadAll reads all code symbols of a list that has about so many.
func loadAll(r io.Reader, symbols int) (*Table, error) {
	return load(r, newBuilder(symbols), func([]byte) bool { return true })
}

// LoadBPF reads code that is generated at run time only: BPF programs,
// trampolines and dispatchers, ftrace and kprobe trampolines. It is for reading
// again after programs came and went; vmlinux and modules stay what they were.
func LoadBPF(r io.Reader) (*Table, error) {
	return load(r, newBuilder(8<<10), func(module []byte) bool {
		switch string(module) {
		case ModuleBPF, ModuleFtrace, ModuleKprobes:
			return true
		}
		return false
	})
}

// load keeps code whose module is wanted by name, and all else as a boundary.
func load(r io.Reader, b *builder, wanted func(module []byte) bool) (*Table, error) {
	b.wanted = wanted(nil)
	err := Scan(r, func(addr uint64, typ byte, name, module []byte) bool {
		if isAbsolute(typ) || addr == 0 || isMapping(name) {
			return true
		}
		if string(module) != b.modnames[b.module] {
			b.module = b.intern(module)
			b.wanted = wanted(module)
		}
		// vmlinux is in one piece, with nothing generated inside: if it is not
		// wanted then one boundary at its start will do.
		if !b.wanted && len(module) == 0 && len(b.rows) > 0 {
			return true
		}
		b.add(addr, name, b.wanted && isCode(typ) && !isEnd(name))
		return b.fits()
	})
	if err != nil {
		return nil, err
	}
	if !b.fits() {
		return nil, errors.New("load symbols: list is too large")
	}
	return b.table(), nil
}

// Symbol finds the code that addr lies in. Of several symbols with one address
// it gives the first in the list, which is the kernel's own choice too
// (get_symbol_pos in kernel/kallsyms.c; scripts/kallsyms.c puts the best name
// first). It finds nothing in data, or so far behind the last symbol of a
// region that the address must belong to something without a name.
func (t *Table) Symbol(addr uint64) (Sym, bool) {
	i, exact := slices.BinarySearch(t.addrs, addr)
	if !exact {
		i--
	}
	if i < 0 || t.names[i] == noName {
		return Sym{}, false
	}
	s := Sym{
		Name:   t.name(i),
		Module: t.modnames[t.modules[i]],
		Addr:   t.addrs[i],
		Offset: addr - t.addrs[i],
	}
	if s.Offset >= maxSize(s.Name, s.Module) {
		return Sym{}, false
	}
	return s, true
}

// Len is the number of addresses that have a name.
func (t *Table) Len() int {
	n := 0
	for _, name := range t.names {
		if name != noName {
			n++
		}
	}
	return n
}

func (t *Table) name(i int) string {
	name := t.blob[t.names[i]:]
	return name[:strings.IndexByte(name, '\n')]
}

func maxSize(name, module string) uint64 {
	switch module {
	case ModuleFtrace, ModuleKprobes:
		return maxImage
	case ModuleBPF:
		// All but programs are images: bpf_trampoline_<key>,
		// bpf_dispatcher_<name>, and bpf__<type>_<member> of struct_ops
		// (kernel/bpf/bpf_struct_ops.c, from 6.13).
		if !strings.HasPrefix(name, "bpf_prog_") {
			return maxImage
		}
	}
	return maxCode
}

// isMapping reports whether a name is an assembler's mark inside a function,
// such as arm64's $x and $d, which modules keep. The rule is is_mapping_symbol's
// (include/linux/module_symbol.h).
func isMapping(name []byte) bool {
	return name[0] == '$' || len(name) >= 2 && (string(name[:2]) == ".L" || string(name[:2]) == "L0")
}

// isEnd reports whether a name is the linker script's mark behind the last
// function of a section: it has the type of code, and no code.
func isEnd(name []byte) bool {
	return string(name) == "_etext" || string(name) == "_einittext"
}

// builder collects rows in the order of the list.
type builder struct {
	rows     []row
	blob     strings.Builder
	modnames []string
	ids      map[string]uint16 // index of each in modnames

	// Lines of one module follow each other: the last one's answers.
	module uint16
	wanted bool
}

// newBuilder makes room for that many symbols. It may turn out too little, but
// to grow up to what a usual kernel has costs as much as parsing it.
func newBuilder(symbols int) *builder {
	b := &builder{
		rows:     make([]row, 0, symbols),
		modnames: []string{""},
		ids:      map[string]uint16{"": 0},
	}
	b.blob.Grow(16 * symbols)
	return b
}

type row struct {
	addr   uint64
	name   uint32
	module uint16
}

func (b *builder) add(addr uint64, name []byte, code bool) {
	r := row{addr: addr, name: noName, module: b.module}
	// vmlinux is sorted, so its aliases are met here, and need no room.
	last := len(b.rows) - 1
	alias := last >= 0 && b.rows[last].addr == addr && b.rows[last].name != noName
	if alias {
		return
	}
	if code {
		r.name = uint32(b.blob.Len())
		b.blob.Write(name)
		b.blob.WriteByte('\n')
	}
	b.rows = append(b.rows, r)
}

// intern gives the index of a module's name.
func (b *builder) intern(module []byte) uint16 {
	id, ok := b.ids[string(module)]
	if !ok {
		id = uint16(len(b.modnames))
		name := string(module)
		b.modnames = append(b.modnames, name)
		b.ids[name] = id
	}
	return id
}

// fits reports whether the next line's indices fit their columns.
func (b *builder) fits() bool {
	return len(b.modnames) < math.MaxUint16 && b.blob.Len() < math.MaxUint32-bufferSize
}

func (b *builder) table() *Table {
	slices.SortFunc(b.rows, compareRows)
	b.compact()
	t := &Table{
		addrs:    make([]uint64, len(b.rows)),
		names:    make([]uint32, len(b.rows)),
		modules:  make([]uint16, len(b.rows)),
		blob:     strings.Clone(b.blob.String()), // drops spare capacity
		modnames: b.modnames,
	}
	for i, r := range b.rows {
		t.addrs[i], t.names[i], t.modules[i] = r.addr, r.name, r.module
	}
	return t
}

// compareRows orders by address, and what shares one by its place in the list,
// with boundaries last.
func compareRows(x, y row) int {
	if c := cmp.Compare(x.addr, y.addr); c != 0 {
		return c
	}
	return cmp.Compare(x.name, y.name)
}

// compact drops aliases, and boundaries behind a boundary, from sorted rows.
func (b *builder) compact() {
	kept := b.rows[:0]
	for _, r := range b.rows {
		if len(kept) > 0 {
			last := kept[len(kept)-1]
			if r.addr == last.addr || r.name == noName && last.name == noName {
				continue
			}
		}
		kept = append(kept, r)
	}
	b.rows = kept
}
