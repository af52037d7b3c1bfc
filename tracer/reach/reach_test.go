package reach

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// base is where the fake kernel's code begins, a page.
const base = uint64(0xffffffff81000000)

// fake is a kernel of a few functions and variables.
type fake struct {
	t       *testing.T
	symbols *Symbols
	at      map[string]uint64
	memory  map[uint64]byte
	torn    map[uint64]bool // pages of 4k that can't be read
	reads   int
	leaves  []string
}

// place is a symbol and its bytes: hexadecimal, in which "call NAME", "jmp NAME",
// "je NAME", "lea NAME", "mov NAME" and "ptr NAME" are spelled as amd64's instructions, or a
// pointer. "at OFFSET" puts it there. Each begins behind the one before.
type place struct{ name, bytes string }

// kernelOf assembles a kernel. A name with a capital is a variable.
func kernelOf(t *testing.T, places ...place) *fake {
	t.Helper()
	k := &fake{t: t, symbols: &Symbols{}, at: make(map[string]uint64), memory: make(map[uint64]byte), torn: make(map[uint64]bool)}
	at := base
	type patch struct {
		at   uint64 // of the 4 bytes, or of 8
		name string
	}
	var relative, absolute []patch
	for _, p := range places {
		fields := strings.Fields(p.bytes)
		if len(fields) > 1 && fields[0] == "at" {
			var offset uint64
			if _, err := fmt.Sscanf(fields[1], "%x", &offset); err != nil {
				t.Fatal(err)
			}
			at, fields = base+offset, fields[2:]
		}
		k.at[p.name] = at
		typ := byte('t')
		if p.name[0] >= 'A' && p.name[0] <= 'Z' {
			typ = 'd'
		}
		k.symbols.Add(at, typ, []byte(p.name), nil)
		for i := 0; i < len(fields); i++ {
			opcode, ok := map[string]string{"call": "e8", "jmp": "e9", "je": "0f84", "lea": "488d3d", "mov": "488b05", "ptr": ""}[fields[i]]
			if !ok {
				at = k.put(at, fields[i])
				continue
			}
			at = k.put(at, opcode)
			i++
			if opcode == "" {
				absolute = append(absolute, patch{at, fields[i]})
				at = k.put(at, "0000000000000000")
			} else {
				relative = append(relative, patch{at, fields[i]})
				at = k.put(at, "00000000")
			}
		}
	}
	k.symbols.Add(at, 't', []byte("end"), nil)
	k.symbols.Sort()
	for _, p := range relative {
		k.put(p.at, hex.EncodeToString(binary.LittleEndian.AppendUint32(nil, uint32(k.find(p.name)-p.at-4))))
	}
	for _, p := range absolute {
		k.put(p.at, hex.EncodeToString(binary.LittleEndian.AppendUint64(nil, k.find(p.name))))
	}
	return k
}

func (k *fake) put(at uint64, text string) uint64 {
	k.t.Helper()
	code, err := hex.DecodeString(text)
	if err != nil {
		k.t.Fatal(err)
	}
	for i, b := range code {
		k.memory[at+uint64(i)] = b
	}
	return at + uint64(len(code))
}

// find returns the address of "name" or of "name+2".
func (k *fake) find(text string) uint64 {
	k.t.Helper()
	name, offset, _ := strings.Cut(text, "+")
	addr, ok := k.at[name]
	if !ok {
		k.t.Fatalf("no %q", text)
	}
	if offset != "" {
		n, err := strconv.Atoi(offset)
		if err != nil {
			k.t.Fatal(err)
		}
		addr += uint64(n)
	}
	return addr
}

func (k *fake) name(addr uint64) string {
	for name, at := range k.at {
		if at == addr {
			return name
		}
	}
	return fmt.Sprintf("%#x", addr)
}

func (k *fake) read(addr uint64, p []byte) error {
	k.reads++
	for i := range p {
		if k.torn[(addr+uint64(i))&^0xfff] {
			return errors.New("bad address")
		}
		p[i] = k.memory[addr+uint64(i)]
	}
	return nil
}

func (k *fake) calls() *Calls {
	return New(Kernel{
		Arch: "amd64", Symbols: k.symbols, Read: k.read,
		Part: func(addr uint64) bool { return strings.Contains(k.name(addr), ".cold") },
		Leaf: func(addr uint64) bool { return slices.Contains(k.leaves, k.name(addr)) },
	})
}

func (k *fake) names(addrs []uint64) string {
	var names []string
	for _, a := range addrs {
		names = append(names, k.name(a))
	}
	return strings.Join(names, " ")
}

// within spells what is reached from a: "b/1 c/2".
func (k *fake) within(c *Calls, depth int, code bool) string {
	var names []string
	for _, r := range c.Within([]uint64{k.at["a"]}, depth, code) {
		names = append(names, fmt.Sprintf("%s/%d", k.name(r.Addr), r.Depth))
	}
	return strings.Join(names, " ")
}

const nopl = "0f1f440000 " // what ftrace patches

func TestReach(t *testing.T) {
	for name, test := range map[string]struct {
		places []place
		direct string // of a
		all    string // within 3 levels of it
	}{
		"nothing":      {[]place{{"a", nopl + "c3"}}, "", ""},
		"direct calls": {[]place{{"a", nopl + "call c call b call c c3"}, {"b", nopl + "c3"}, {"c", nopl + "c3"}}, "c b", "c/1 b/1"},
		"levels": {[]place{
			{"a", nopl + "call b c3"}, {"b", nopl + "call c c3"}, {"c", nopl + "call d c3"}, {"d", nopl + "call e c3"}, {"e", "c3"},
		}, "b", "b/1 c/2 d/3"},
		"the least level": {[]place{{"a", nopl + "call b call c c3"}, {"b", nopl + "call c c3"}, {"c", "c3"}}, "b c", "b/1 c/1"},
		"tail jumps":      {[]place{{"a", nopl + "je b jmp c"}, {"b", "c3"}, {"c", "c3"}}, "b c", "b/1 c/1"},
		"cycles": {[]place{{"a", nopl + "call b c3"}, {"b", nopl + "call a call b call c c3"}, {"c", nopl + "jmp b"}},
			"b", "b/1 a/2 c/2"},
		"cold part": {[]place{{"a", nopl + "je a.cold call c c3"}, {"b", "c3"}, {"c", "c3"}, {"a.cold", "call b jmp a+5"}},
			"c b", "c/1 b/1"},
		"part of a part": {[]place{{"a", nopl + "je a.cold c3"}, {"b", "c3"}, {"a.cold", "je a.cold.1 c3"}, {"a.cold.1", "call b c3"}},
			"b", "b/1"},
		"a part that is entered in its middle": {[]place{{"a", nopl + "je a.cold je a.cold+6 je a.cold+7 c3"}, {"b", "c3"}, {"c", "c3"}, {"d", "c3"},
			{"a.cold", "call b c3 90 call c c3 call d c3"}}, "b c", "b/1 c/1"},
		"code that only a part leads to": {[]place{{"a", nopl + "jmp a.cold call c c3"}, {"b", "c3"}, {"c", "c3"}, {"a.cold", "call b jmp a+10"}},
			"b c", "b/1 c/1"},
		"parts that jump to each other": {[]place{{"a", nopl + "jmp a.cold"}, {"a.cold", "jmp a.cold.1"}, {"a.cold.1", "jmp a.cold"}}, "", ""},
		"a call into the middle":        {[]place{{"a", nopl + "call b+2 je b+1 c3"}, {"b", "909090c3"}}, "", ""},
		"a call of data":                {[]place{{"a", nopl + "call Data c3"}, {"Data", "0000000000000000"}}, "", ""},
		"names": {[]place{{"a", nopl + "lea b lea b.cold lea c+1 c3"}, {"b", nopl + "call d c3"}, {"b.cold", "c3"}, {"c", "90c3"}, {"d", "c3"}},
			"", "b/1 d/2"},
		"tables": {[]place{{"a", nopl + "lea Ops c3"}, {"b", "c3"}, {"c", "c3"}, {"c.cold", "c3"},
			{"Ops", "at 100 ptr b 0000000000000000 ptr c ptr b ptr Ops ptr c.cold ptr c+1 0100000000000000"}},
			"", "b/1 c/1"},
		"the middle of a table":  {[]place{{"a", nopl + "lea Ops+8 c3"}, {"b", "c3"}, {"Ops", "at 100 ptr b 0000000000000000"}}, "", "b/1"},
		"one pointer of a table": {[]place{{"a", nopl + "mov Ops+8 c3"}, {"b", "c3"}, {"c", "c3"}, {"Ops", "at 100 ptr b ptr c"}}, "", "c/1"},
		"a pointer to no code":   {[]place{{"a", nopl + "mov Ops c3"}, {"b", "c3"}, {"Ops", "at 100 ptr More"}, {"More", "at 108 ptr b"}}, "", ""},
		"a pointer in code":      {[]place{{"a", nopl + "mov b c3"}, {"b", "at 100 ptr c"}, {"c", "c3"}}, "", ""},
		"half a pointer":         {[]place{{"a", nopl + "lea Ops c3"}, {"b", "c3"}, {"Ops", "at 100 0000000000000000 00000081"}}, "", ""},
		"a table that is askew":  {[]place{{"a", nopl + "lea Ops c3"}, {"b", "c3"}, {"Ops", "at 101 ptr b"}}, "", ""},
		"the largest table":      {[]place{{"a", nopl + "lea Ops c3"}, {"b", "c3"}, {"Ops", "at 100 ptr b"}, {"More", "at 1100 00"}}, "", "b/1"},
		"a table too large":      {[]place{{"a", nopl + "lea Ops c3"}, {"b", "c3"}, {"Ops", "at 100 ptr b"}, {"More", "at 1108 00"}}, "", ""},
		"the largest function":   {[]place{{"a", nopl + "call b c3"}, {"b", "at 10000 c3"}}, "b", "b/1"},
		"a function too large":   {[]place{{"a", nopl + "call b c3"}, {"b", "at 10001 c3"}}, "", ""},
		"the border of a page":   {[]place{{"x", "c3"}, {"a", "at 3ff8 " + nopl + "call b call c c3"}, {"b", "c3"}, {"c", "c3"}}, "b c", "b/1 c/1"},
		"several pages":          {[]place{{"x", "c3"}, {"a", "at 3ff8 " + nopl + "call b c3"}, {"b", "at c000 c3"}}, "b", "b/1"},
	} {
		t.Run(name, func(t *testing.T) {
			k := kernelOf(t, test.places...)
			c := k.calls()
			if diff := cmp.Diff(test.direct, k.names(c.Callees(k.at["a"]))); diff != "" {
				t.Errorf("direct (-want +got)\n%s", diff)
			}
			if diff := cmp.Diff(test.all, k.within(c, 3, true)); diff != "" {
				t.Errorf("all (-want +got)\n%s", diff)
			}
			reads := k.reads
			if k.within(c, 3, true); k.reads != reads {
				t.Errorf("%d more reads", k.reads-reads)
			}
			if got := k.within(c, 3, false); got != "" {
				t.Errorf("%s without code", got)
			}
		})
	}
}

// TestUnreadable has pages that can't be read beside ones that can.
func TestUnreadable(t *testing.T) {
	places := []place{
		{"a", nopl + "call b call c c3"}, {"b", "at 1000 " + nopl + "call d lea Ops c3"}, {"c", "at 2000 " + nopl + "call e c3"},
		{"d", "c3"}, {"e", "c3"}, {"Ops", "at 5000 ptr d"},
	}
	for name, test := range map[string]struct {
		torn []uint64
		want string
	}{
		"a page beside":         {[]uint64{0x3000}, "b/1 c/1 d/2 e/2"},
		"the page of a callee":  {[]uint64{0x2000}, "b/1 c/1 d/2"},
		"the page of the root":  {[]uint64{0}, ""},
		"all":                   {[]uint64{0, 0x1000, 0x2000, 0x3000}, ""},
		"the page of the table": {[]uint64{0x5000}, "b/1 c/1 d/2 e/2"},
	} {
		t.Run(name, func(t *testing.T) {
			k := kernelOf(t, places...)
			for _, page := range test.torn {
				k.torn[base+page] = true
			}
			if diff := cmp.Diff(test.want, k.within(k.calls(), 2, true)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestLeaf: what a leaf calls doesn't matter, unless it is the root.
func TestLeaf(t *testing.T) {
	k := kernelOf(t, place{"a", nopl + "call b c3"}, place{"b", nopl + "call c c3"}, place{"c", "c3"})
	for leaves, want := range map[string]string{"": "b/1 c/2", "a": "b/1 c/2", "b": "b/1", "c": "b/1 c/2"} {
		k.leaves = strings.Fields(leaves)
		if got := k.within(k.calls(), 3, true); got != want {
			t.Errorf("leaves %q: %s, want %s", leaves, got, want)
		}
	}
}

func TestRoots(t *testing.T) {
	k := kernelOf(t, place{"a", nopl + "call c c3"}, place{"b", nopl + "call a c3"}, place{"c", "c3"})
	c := k.calls()
	got := c.Within([]uint64{k.at["a"], k.at["b"], k.at["a"], 0, base - 1}, 2, true)
	want := []Reached{{Addr: k.at["c"], Depth: 1}, {Addr: k.at["a"], Depth: 1}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got := c.Within([]uint64{k.at["b"]}, 0, true); got != nil {
		t.Errorf("%v within no level", got)
	}
}

func TestSaw(t *testing.T) {
	k := kernelOf(t,
		place{"a", nopl + "call b c3"}, place{"b", nopl + "9090c3"}, place{"c", nopl + "9090c3"}, place{"c.cold", "c3"}, place{"Data", "00"},
	)
	for text, want := range map[string]struct {
		isNew      bool
		code, seen string
	}{
		"a b":      {true, "b/1", "b/1"}, // code tells it, too
		"a c":      {true, "b/1 c/1", "c/1"},
		"a+6 c+5":  {true, "b/1 c/1", "c/1"},
		"b c":      {true, "b/1 c/2", ""},
		"a c.cold": {false, "b/1", ""},
		"Data c":   {false, "b/1", ""},
		"a a":      {true, "b/1 a/1", "a/1"},
	} {
		c := k.calls()
		from, to, _ := strings.Cut(text, " ")
		if got := c.Saw(k.find(from), k.find(to)); got != want.isNew {
			t.Errorf("%s: new is %v", text, got)
		}
		if c.Saw(k.find(from), k.find(to)) {
			t.Errorf("%s: new again", text)
		}
		if got := k.within(c, 2, true); got != want.code {
			t.Errorf("%s, with code: %s, want %s", text, got, want.code)
		}
		if got := k.within(c, 2, false); got != want.seen {
			t.Errorf("%s, without code: %s, want %s", text, got, want.seen)
		}
	}
	c := k.calls()
	if c.Saw(0, k.at["b"]) || c.Saw(k.at["a"], 0) || c.Saw(k.at["a"], ^uint64(0)) {
		t.Error("a call of nowhere")
	}
}

func TestSawBelow(t *testing.T) {
	k := kernelOf(t,
		place{"a", nopl + "call b c3"}, place{"b", "c3"}, place{"c", nopl + "call d c3"}, place{"d", nopl + "call e c3"}, place{"e", "c3"},
		place{"f", "c3"}, place{"g", "c3"},
	)
	c := k.calls()
	c.SawBelow(k.at["c"], 2)
	c.SawBelow(k.at["c"], 3) // no deeper than known
	c.SawBelow(k.at["b"], 2) // code says 1
	for depth, want := range []string{"", "b/1", "b/1 c/2", "b/1 c/2 d/3", "b/1 c/2 d/3 e/4"} {
		if got := k.within(c, depth, true); got != want {
			t.Errorf("%d levels: %s, want %s", depth, got, want)
		}
	}
	c.SawBelow(k.at["c"], 1)
	if got, want := k.within(c, 3, true), "c/1 b/1 d/2 e/3"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	// Several at a level come in order.
	c.SawBelow(k.at["g"], 1)
	c.SawBelow(k.at["f"], 1)
	for range 20 {
		if got, want := k.within(c, 1, true), "c/1 f/1 g/1 b/1"; got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
}

func TestPointed(t *testing.T) {
	const endbr64 = "f30f1efa"
	rest := strings.Repeat("90", 12)
	k := kernelOf(t,
		place{"a", nopl + rest}, place{"b", endbr64 + rest}, place{"small", endbr64 + rest[2:]}, place{"Data", endbr64 + rest},
		place{"c", "at fff8 " + endbr64 + rest}, place{"d", "at 10ff8 " + endbr64 + rest}, place{"e", endbr64 + rest},
	)
	k.torn[base+0x11000] = true
	landsOn := func(code []byte) bool { return hex.EncodeToString(code[:4]) == endbr64 }
	if got, want := k.names(k.calls().Pointed(landsOn)), "b c"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestCode(t *testing.T) {
	k := kernelOf(t, place{"a", "at 3ffe 01020304"})
	c := k.calls()
	code, ok := c.Code(k.at["a"], 4)
	if !ok || hex.EncodeToString(code) != "01020304" {
		t.Errorf("% x, %v", code, ok)
	}
	if code, ok := c.Code(k.at["a"], 0); !ok || len(code) != 0 {
		t.Errorf("% x, %v", code, ok)
	}
	k.torn[base+0x4000] = true
	if _, ok := k.calls().Code(k.at["a"], 4); ok {
		t.Error("read what can't be read")
	}
}

func TestSymbols(t *testing.T) {
	var s Symbols
	for _, sym := range []struct {
		addr         uint64
		typ          byte
		name, module string
	}{
		{0, 'A', "fixed_percpu_data", ""}, {0x1000, 'D', "percpu", ""},
		{0xffffffff81000000, 'T', "_text", ""}, {0xffffffff81000000, 'T', "_stext", ""},
		{0xffffffff81000010, 't', "code", ""}, {0xffffffff81000020, 'W', "weak", ""},
		{0xffffffff81000030, 'T', "_etext", ""}, {0xffffffff81000040, 't', "rodata", ""},
		{0xffffffff81000050, 'T', "_sinittext", ""}, {0xffffffff81000060, 't', "init", ""},
		{0xffffffff81000070, 'T', "_einittext", ""}, {0xffffffff81000080, 'b', "bss", ""},
		{0xffffffff81000090, 'a', "number", ""},
		{0xffffffffc0000010, 'd', "alias", "xt_conn"}, {0xffffffffc0000010, 't', "module_fn", "xt_conn"},
		{0xffffffffc0000030, 't', "bpf_prog_6deef7357e7b4530_x", "bpf"}, {0xffffffffc0000040, 't', "ftrace_trampoline", "__builtin__ftrace"},
		{0xffffffffc0000050, 't', "kprobe_insn_page", "__builtin__kprobes"}, {0xffffffffc0000060, 't', "last", "xt_conn"},
		{0xffffffffc0000000, 't', "earlier", "xt_conn"}, {0xffffffffc0000020, 'r', "_stext", "xt_conn"},
	} {
		s.Add(sym.addr, sym.typ, []byte(sym.name), []byte(sym.module))
	}
	s.Sort()
	for addr, want := range map[uint64]string{
		0:                  "none",
		0x1000:             "1000-ffffffff81000000 data",
		0xffffffff81000000: "ffffffff81000000-ffffffff81000010 code",
		0xffffffff8100001f: "ffffffff81000010-ffffffff81000020 code",
		0xffffffff81000020: "ffffffff81000020-ffffffff81000030 code",
		0xffffffff81000031: "ffffffff81000030-ffffffff81000040 data",
		0xffffffff81000040: "ffffffff81000040-ffffffff81000050 data",
		0xffffffff81000060: "ffffffff81000060-ffffffff81000070 data", // it is gone
		0xffffffff81000090: "ffffffff81000080-ffffffffc0000000 data",
		0xffffffffc0000000: "ffffffffc0000000-ffffffffc0000010 code",
		0xffffffffc0000010: "ffffffffc0000010-ffffffffc0000020 code",
		0xffffffffc0000030: "ffffffffc0000030-ffffffffc0000040 data", // BPF programs are no functions
		0xffffffffc0000040: "ffffffffc0000040-ffffffffc0000050 data",
		0xffffffffc0000050: "ffffffffc0000050-ffffffffc0000060 data",
		0xffffffffc0000060: "none", // the last one's end isn't known
		1<<64 - 1:          "none",
	} {
		got := "none"
		if start, end, code := s.at(addr); start != 0 {
			got = fmt.Sprintf("%x-%x %s", start, end, map[bool]string{true: "code", false: "data"}[code])
		}
		if got != want {
			t.Errorf("%#x: %s, want %s", addr, got, want)
		}
	}
	if got := s.lowest(); got != 0xffffffff81000000 {
		t.Errorf("lowest %#x", got)
	}
	if got := (&Symbols{}).lowest(); got != 0 {
		t.Errorf("lowest of none %#x", got)
	}
}
