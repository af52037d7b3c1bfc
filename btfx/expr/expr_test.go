package expr_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"fgtrace/btfx"
	"fgtrace/btfx/expr"
	"fgtrace/btfx/expr/codegen"
	"fgtrace/internal/bpfvm"
	"fgtrace/internal/btftest"
	"fgtrace/internal/golden"
)

// The memory that expressions are made over: see testdata/oracle.c.
const (
	memoryAddr = 0x10000000
	paramsAt   = 0xc00
)

// askCompiler has a C compiler make testdata anew.
func askCompiler(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return string(out)
	}
	var inc strings.Builder
	for _, text := range expressions(t) {
		fmt.Fprintf(&inc, "VALUE(%s)\n", text)
	}
	if err := os.WriteFile(filepath.Join(dir, "expressions.inc"), []byte(inc.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	oracle := filepath.Join(dir, "oracle")
	run("clang-19", "-w", "-fwrapv", "-Itestdata", "-I"+dir, "-o", oracle, "testdata/oracle.c")
	values := run(oracle, "testdata/memory.bin")
	if err := os.WriteFile("testdata/values.golden", []byte(values), 0o644); err != nil {
		t.Fatal(err)
	}
	object := filepath.Join(dir, "types.o")
	run("clang-19", "-target", "bpf", "-O1", "-g", "-Itestdata", "-c", "-o", object, "testdata/types.c")
	run("llvm-objcopy-19", "--dump-section", ".BTF=testdata/types.btf", object)
}

func expressions(t testing.TB) []string { return golden.Lines(t, "expressions.txt") }

// fixture is a function with its arguments, and the memory they point to.
type fixture struct {
	scope  expr.Scope
	world  expr.World
	memory []byte
}

var errFault = errors.New("not mapped")

func newFixture(t testing.TB) *fixture {
	t.Helper()
	read := func(name string) []byte {
		raw, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	types, err := btfx.Parse(read("types.btf"), nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{scope: expr.Scope{Types: types}, memory: read("memory.bin")}
	params, ok := types.FindType(btfx.KindStruct, "params")
	if !ok {
		t.Fatal("no struct params")
	}
	fields, err := types.Fields(params)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range fields {
		f.scope.Params = append(f.scope.Params, expr.Param{Name: m.Name, Type: m.Type, Word: i})
		layout, err := types.Layout(m.Type)
		if err != nil {
			t.Fatal(err)
		}
		word, ok := layout.Uint(f.memory[paramsAt+m.Offset/8:][:layout.Size])
		if !ok {
			t.Fatalf("%s is no word", m.Name)
		}
		// A function finds anything in the unused part of a register.
		if layout.Size < 8 {
			word = word&(1<<(8*layout.Size)-1) | 0xdeadbeefcafef00d<<(8*layout.Size)
		}
		f.world.Args = append(f.world.Args, word)
	}
	f.world.Read = f.read
	return f
}

func (f *fixture) read(addr uint64, buf []byte) error {
	at := addr - memoryAddr
	if at > uint64(len(f.memory)) || uint64(len(buf)) > uint64(len(f.memory))-at {
		return errFault
	}
	copy(buf, f.memory[at:])
	return nil
}

const (
	perCPUOffsets = 0x5000
	perCPU        = 0x123456000 // of the VM's CPU
	perCPUBase    = 1<<64 + memoryAddr + 0x400 - perCPU
)

// run runs compiled code, and tells whether the expression holds.
func (f *fixture) run(t testing.TB, tree *expr.Tree) bool {
	t.Helper()
	holds := f.runIn(t, tree, codegen.Frame{})
	if f.runIn(t, tree, codegen.Frame{Pointers: true}) != holds {
		t.Errorf("%v: it depends on whether arguments are pointers", tree)
	}
	if f.runIn(t, tree, codegen.Frame{Pointers: true, Direct: true}) != holds {
		t.Errorf("%v: it depends on whether members are loaded", tree)
	}
	return holds
}

func (f *fixture) runIn(t testing.TB, tree *expr.Tree, frame codegen.Frame) bool {
	t.Helper()
	const args, retval = -144, -152
	frame.Args, frame.Retval, frame.Top = args, retval, retval
	code, err := codegen.Compile(tree, frame)
	if err != nil {
		t.Fatal(err)
	}
	vm := bpfvm.VM{Read: func(addr uint64, buf []byte) error {
		if addr == perCPUOffsets+8*3 { // the VM's CPU
			buf[0], buf[1], buf[2], buf[3], buf[4] = 0, 0x60, 0x45, 0x23, 1
			return nil
		}
		return f.read(addr, buf)
	}, CPU: 3, Loads: frame.Direct}
	for i, word := range f.world.Args {
		vm.SetStack(args+8*i, word)
	}
	vm.SetStack(retval, f.world.Retval)
	r0, err := vm.Run(append(code.Insns, asm.Return()))
	if err != nil {
		t.Fatalf("%v\n%v", err, code.Insns)
	}
	if vm.Lowest() < int(code.Bottom) {
		t.Fatalf("wrote to %d, and told of %d", vm.Lowest(), code.Bottom)
	}
	if r0 > 1 {
		t.Fatalf("it left %d", r0)
	}
	return r0 == 1
}

func (f *fixture) check(t testing.TB, text string) *expr.Tree {
	t.Helper()
	tree, err := expr.Condition(text, f.scope)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return tree
}

// equal is whether an expression has a value, as an expression's tree.
func equal(tree *expr.Tree, value uint64) *expr.Tree {
	return &expr.Tree{
		Op: expr.Equal, Type: expr.Type{Kind: expr.Int, Size: 4, Signed: true}, X: tree,
		Y: &expr.Tree{Op: expr.Const, Type: expr.Type{Kind: expr.Int, Size: 8}, Value: value},
	}
}

// TestExpressions compares expr.Eval and compiled code with what C makes of them.
func TestExpressions(t *testing.T) {
	if golden.Updating() {
		askCompiler(t)
	}
	f := newFixture(t)
	texts, values := expressions(t), golden.Lines(t, "values.golden")
	if len(texts) != len(values) {
		t.Fatalf("%d expressions and %d values: -update", len(texts), len(values))
	}
	for i, text := range texts {
		want, err := strconv.ParseUint(values[i], 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		f.expect(t, text, want)
	}
}

func (f *fixture) expect(t *testing.T, text string, want uint64) {
	t.Helper()
	tree, err := expr.Condition(text, f.scope)
	if err != nil {
		t.Errorf("%s: %v", text, err)
		return
	}
	if got, err := expr.Eval(tree, &f.world); err != nil || got != want {
		t.Errorf("%s: %#x, %v, want %#x", text, got, err, want)
	}
	if !f.run(t, equal(tree, want)) {
		t.Errorf("%s: compiled code does not give %#x", text, want)
	}
	if f.run(t, equal(tree, want^1)) || f.run(t, equal(tree, want^1<<63)) {
		t.Errorf("%s: compiled code gives all", text)
	}
}

// TestBeyondC is what C leaves open, or does not have.
func TestBeyondC(t *testing.T) {
	f := newFixture(t)
	long, ok := f.scope.Types.FindType(btfx.KindInt, "long")
	if !ok {
		t.Fatal("no long")
	}
	f.scope.Retval, f.world.Retval = &long, ^uint64(11)
	device, _ := f.scope.Types.FindType(btfx.KindStruct, "device")
	f.scope.Variable = func(name string) (expr.Variable, bool, error) {
		v, ok := map[string]expr.Variable{
			"global":   {Type: device, Addr: memoryAddr + 0x400},
			"untyped":  {Addr: memoryAddr + 0x400},
			"each_cpu": {Type: device, Addr: perCPUBase, PerCPU: perCPUOffsets},
		}[name]
		return v, ok, nil
	}
	f.world.PerCPU = perCPU
	for _, test := range []struct {
		text string
		want int64
	}{
		{"n / 0", 0}, {"n % 0", -5}, {"u / 0", 0}, {"u % 0", 4000000000}, {"l % 0", -9000000000},
		{"n / (n + 5)", 0}, {"n % (n + 5)", -5}, {"ul / p->no", 0}, {"-5 / 0", 0}, {"-5 % 0", -5}, {"7u % 0", 7},
		{"(int)0x80000000 / -1", -0x80000000}, {"(int)0x80000000 % -1", 0}, {"p->i / (n + 4)", 2000000000},
		{"(long)ul / -1", -1 << 63}, {"(long)ul % -1", 0}, {"(long)ul / (n + 4)", -1 << 63}, {"(long)ul % (n + 4)", 0},
		{"1 << 32", 1}, {"1 << 33", 2}, {"1ul << 64", 1}, {"1 << -1", -0x80000000}, {"n >> 32", -5}, {"u << p->b", 4000000000 << 8 & 0xffffffff},
		{"0x7fffffff + 1", -0x80000000}, {"p->i - 2000000000 < 0", 0},
		{"retval", -12}, {"retval < 0", 1}, {"retval == -12", 1}, {"(u8)retval", 0xf4},
		{"((struct device *)&untyped)->ifindex", 2}, {"*(int *)&untyped", 2}, {"&untyped == &global", 1},
		{"global.ifindex", 2}, {"global.next->ifindex", -7}, {"&global == p->dev", 1}, {"each_cpu.ifindex", 2}, {"each_cpu.name[1]", 't'},
		{"true + true", 2}, {"false", 0}, {"*(u8 *)(u - 4000000000 + 0x10000800u + -4 + 4)", 'a'},
		{`p->dev->name == "eth0"`, 1}, {`p->dev->name != "eth0"`, 0}, {`"eth0" == p->dev->name`, 1}, {`p->dev->name == "eth"`, 0},
		{`p->dev->name == "eth00"`, 0}, {`p->dev->name == "eth1"`, 0}, {`p->dev->name == ""`, 0}, {`p->devs[0].name == "a-name-of-15-by"`, 1},
		{`p->devs[0].name == "a-name-of-15-by1"`, 0}, {`p->dev->alias == "an alias"`, 1}, {`p->dev->alias != "an alia"`, 1}, {`text == "an alias"`, 1},
		{`bytes == "an alias"`, 1}, {`text + 3 == "alias"`, 1}, {`p->dev->next->name == "a-name-of-15-by" && p->len == 1500`, 1},
		{`global.name == "eth0"`, 1}, {`!(text == "an alias")`, 0}, {`(char *)ptr == "an alias"`, 1}, {`text == "a\x6e alias"`, 1},
	} {
		f.expect(t, test.text, uint64(test.want))
	}
}

// TestFaults reads memory that is not there.
func TestFaults(t *testing.T) {
	f := newFixture(t)
	for _, text := range []string{
		"p->none->len", "p->none->len == 0", "!p->none->len", "p->none->len + 1", "1 || p->none->len && 0 || 0", "p->none->dev->ifindex == 2",
		"*(int *)0", "((struct packet *)0xffff888000000000)->len", "p->none->dev->name[0] == 0", `p->none->dev->name == "eth0"`, `p->none->dev->name != "eth0"`,
		`(char *)8 == "x"`, "n && p->none->len == 0", "!n || p->none->one == 0", "p->none->len ? 1 : 1", "n ? p->none->len : 1", "p->none->sthree == -2",
		"*(u64 *)(0x10001000 - 4)",
	} {
		tree := f.check(t, text)
		if strings.HasPrefix(text, "1 ||") { // it does not come to that
			if v, err := expr.Eval(tree, &f.world); err != nil || v != 1 {
				t.Errorf("%s: %d, %v", text, v, err)
			}
			continue
		}
		if v, err := expr.Eval(tree, &f.world); err == nil {
			t.Errorf("%s: %d", text, v)
		}
		if f.run(t, tree) {
			t.Errorf("%s: compiled code says that it holds", text)
		}
	}
}

// TestErrors: what is wrong, and where.
func TestErrors(t *testing.T) {
	f := newFixture(t)
	f.scope.Variable = func(name string) (expr.Variable, bool, error) {
		switch name {
		case "untyped":
			return expr.Variable{Addr: memoryAddr}, true, nil
		case "hidden":
			return expr.Variable{}, false, errors.New("it is hidden")
		}
		return expr.Variable{}, false, nil
	}
	for _, test := range []struct {
		text string
		pos  int
		msg  string // the beginning
	}{
		{"", 0, "an empty expression"},
		{"  ", 2, "an empty expression"},
		{"p->lenn", 3, "struct packet has no member lenn: len?; it has len, data_len, b, "},
		{"p->dev->ifidx == 2", 8, "struct device has no member ifidx: ifindex?; it has ifindex, name, next, alias, addr"},
		{"p->hig", 3, "struct packet has no member hig: high?"},
		{"p.len", 2, "a pointer has no members: write -> in place of ."},
		{"n->len", 3, "-> needs a pointer, and this is a int"},
		{"n.len", 2, "a int has no members"},
		{"p->dev->addr->x", 14, "a u8 has no members"},
		{"devs->ifindex", 6, "-> needs a pointer to a struct, and this is a struct device **"},
		{"skb->len", 0, "there is no skb here; parameters are p, again, n, "},
		{"agan->len", 0, "there is no agan here: again?; parameters are"},
		{"retval < 0", 0, "there is no result"},
		{"n + untyped", 4, "BTF does not have the type of untyped: write *(TYPE *)&untyped"},
		{"untyped.x", 8, "BTF does not have the type of untyped: write ((struct TYPE *)&untyped)->x"},
		{"n + hidden", 4, "it is hidden"},
		{"LOSTT", 0, "there is no LOSTT here"},
		{"n +", 3, "the end where a value is expected"},
		{"n + * 2", 4, "a int points to nothing"},
		{"(n", 2, "the end where ) is expected"},
		{"n)", 1, ") is not expected here"},
		{"n n", 2, "n is not expected here"},
		{"n = 1", 2, `"=" is nothing that expressions have`},
		{"n # 1", 2, `"#" is nothing`},
		{"n == é", 5, `"é" is nothing`},
		{"n ? 1", 5, "the end where : is expected for the ? before it"},
		{"p->", 3, "the end where the name of a member is expected"},
		{"p->4", 3, "4 where the name of a member is expected"},
		{"p->list[", 8, "the end where a value"},
		{"p->list[1", 9, "the end where ] is expected"},
		{"(struct foo *)p", 1, "there is no type struct foo"},
		{"(struct iphd *)p->head", 1, "there is no type struct iphd"},
		{"(foo *)p", 1, "there is no type foo"},
		{"(u33)n", 1, "there is no type u33"},
		{"(struct packet)n", 0, "a cast to struct packet, which is no number: cast to a pointer to it"},
		{"(void)n", 0, "a cast to void"},
		{"(unsigned struct packet *)p", 10, "struct is not expected in a type"},
		{"(long char)n", 1, "this is no type"},
		{"(struct *)p", 8, "* where the name of a struct is expected"},
		{"sizeof(struct foo)", 7, "there is no type struct foo"},
		{"sizeof p->one", 0, "a bitfield has no size"},
		{"sizeof", 6, "the end where a value"},
		{"&n", 1, "n is in a register, and has no address"},
		{"&p->one", 4, "one is a bitfield, and has no address"},
		{"&1", 1, "this is a value, and is nowhere"},
		{"&(n + 1)", 4, "this is a value, and is nowhere"},
		{"*p", 0, "a struct packet is no number: its members are"},
		{"*p == 0", 0, "a struct packet is no number"},
		{"*ptr", 0, "void has no value"},
		{"p + p", 2, "+ of a struct packet * and a struct packet *"},
		{"p * 2", 2, "* of a struct packet * and a int"},
		{"2 - p", 2, "- of a int and a struct packet *"},
		{"~p", 0, "~ of a struct packet *"},
		{"-p", 0, "- of a struct packet *"},
		{"n ? p : 1", 2, "? gives a struct packet * or a int"},
		{`"eth0"`, 0, "a string can only be compared"},
		{`n == "eth0"`, 2, "a string is compared with an array of char, or a pointer to char"},
		{`p == "eth0"`, 2, "a string is compared with"},
		{`"a" == "a"`, 4, "two strings"},
		{`p->dev->name < "eth0"`, 15, "a string can only be compared"},
		{`p->dev->name == "12345678901234567"`, 16, "a string of 17 bytes: the array has 16"},
		{`text == "` + strings.Repeat("x", 64) + `"`, 8, "a string of 64 bytes: 63 can be compared"},
		{`text == "a`, 8, `" has no second one`},
		{`text == "\q"`, 9, `\q is no character`},
		{`text == "a\0b"`, 8, "a string with a zero in it"},
		{"c == 'ab'", 5, "a character has one byte, not 2"},
		{`c == '\xff'`, 5, "this character has a sign"},
		{"&*n", 1, "a int points to nothing"},
		{"c == ''", 5, "a character has one byte, not 0"},
		{"c == 'a", 5, "' has no second one"},
		{"n == 0x", 5, "0x is no number"},
		{"n == 09", 5, "09 is no number"},
		{"n == 12ab", 5, "12ab is no number"},
		{"n == 1.5", 5, "1.5 is no number"},
		{"n == 1lul", 5, "1lul is no number"},
		{"n == 18446744073709551616", 5, "18446744073709551616 has more than 64 bits"},
		{"bug(p, 4)", 0, "there is no function bug"},
		{"buf(p, 4)", 0, "buf is no number: it can only be shown"},
		{"u16(n)", 4, "a int is no pointer: write u16(POINTER[, OFFSET])"},
		{"u16(p, n)", 7, "this number must be known before tracing"},
		{"u16(p, 1 << 30)", 9, "1073741824 is too far away"},
		{"be32()", 0, "write be32(POINTER[, OFFSET])"},
		{"int", 0, "int is not expected here"},
		{"&& n", 0, "&& has nothing before it"},
		{"n @ 1", 2, `"@" is nothing`},
		{strings.Repeat("(", 300) + "n", 100, "more than 200 parts in one another"},
		{strings.Repeat("!", 300) + "n", 199, "more than 200 parts in one another"},
		{"p" + strings.Repeat("->again", 300), 0, "more than 200 members in a row"},
		{"n" + strings.Repeat(" + n", 3000), -1, "more than 2048 operations"},
		{strings.Repeat("n", 70000), expr.MaxText, "70000 bytes, and an expression has at most 65536"},
	} {
		_, err := expr.Condition(test.text, f.scope)
		var e *expr.Error
		if !errors.As(err, &e) {
			t.Errorf("%.60s: %v, want %q", test.text, err, test.msg)
			continue
		}
		long := len(test.text) > 250
		if !strings.HasPrefix(e.Msg+e.Hint, test.msg) || !long && e.Pos != test.pos {
			t.Errorf("%.60s: %d %q, want %d %q", test.text, e.Pos, e.Msg+e.Hint, test.pos, test.msg)
		}
	}
}

// What is taken gives the same by expr.Eval and compiled, and can be compiled.
func FuzzCondition(f *testing.F) {
	for _, text := range expressions(f) {
		f.Add(text)
	}
	f.Add(`p->dev->name == "eth0" && (text == "x" || bytes[3] % n)`)
	fix := newFixture(f)
	f.Fuzz(func(t *testing.T, text string) {
		tree, err := expr.Condition(text, fix.scope)
		if err != nil {
			var e *expr.Error
			if !errors.As(err, &e) || e.Pos < 0 || e.Pos > len(text) || e.Msg == "" {
				t.Fatalf("%q: %v", text, err)
			}
			_ = e.Caret()
			return
		}
		code, err := codegen.Compile(tree, codegen.Frame{Args: -144, Retval: -152, Top: -152, Pointers: true})
		if err != nil || code.Bottom < -512 {
			return // it takes too much of the stack
		}
		want, err := expr.Eval(tree, &fix.world)
		if holds := err == nil && want != 0; fix.run(t, tree) != holds {
			t.Fatalf("%q: expr.Eval gives %d, %v, and the code %v", text, want, err, !holds)
		}
	})
}

// TestSeveral: names that a kernel's files use for different things.
func TestSeveral(t *testing.T) {
	number := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	structs := func(name string, members ...string) *btf.Struct {
		s := &btf.Struct{Name: name, Size: uint32(4 * len(members))}
		for i, m := range members {
			s.Members = append(s.Members, btf.Member{Name: m, Type: number, Offset: btf.Bits(32 * i)})
		}
		return s
	}
	enum := func(name string, values ...btf.EnumValue) *btf.Enum {
		return &btf.Enum{Name: name, Size: 4, Values: values}
	}
	types := btftest.Types(t,
		structs("differs", "a", "b"), structs("alike", "a"), structs("differs", "b", "a"), structs("alike", "a"),
		&btf.Typedef{Name: "differs_t", Type: structs("x", "a")}, &btf.Typedef{Name: "differs_t", Type: number},
		&btf.Typedef{Name: "alike_t", Type: number}, &btf.Typedef{Name: "alike_t", Type: number},
		&btf.Fwd{Name: "alike"},
		enum("one", btf.EnumValue{Name: "SAME", Value: 3}, btf.EnumValue{Name: "LIMIT", Value: 1}),
		enum("two", btf.EnumValue{Name: "SAME", Value: 3}, btf.EnumValue{Name: "LIMIT", Value: 2}),
	)
	for text, want := range map[string]string{
		"sizeof(struct differs)":       "at offset 7: 2 types are called struct differs, and differ: nothing tells which is meant",
		"((struct differs *)0)->b":     "at offset 2: 2 types are called struct differs",
		"sizeof(differs_t)":            "at offset 7: 2 types are called differs_t",
		"LIMIT == 1":                   "at offset 0: LIMIT is 1 in one enum (enum one), and 2 in another (enum two): write the number",
		"sizeof(struct alike) == 4":    "",
		"sizeof(alike_t) + SAME == 7":  "",
		"&((struct alike *)4)->a == 4": "",
	} {
		tree, err := expr.Condition(text, expr.Scope{Types: types})
		if want != "" {
			if err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%s: %v, want %s", text, err, want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if value, err := expr.Eval(tree, &expr.World{}); value != 1 || err != nil {
			t.Errorf("%s: %d, %v", text, value, err)
		}
	}
}
