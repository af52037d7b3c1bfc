package expr

import (
	"fmt"
	"slices"
	"strings"

	"fgtrace/btfx"
)

// Scope is what names mean in an expression.
type Scope struct {
	Types  *btfx.Types
	Params []Param
	// Retval is the type of the function's result, named retval; nil where there is
	// none yet, as at the entry.
	Retval *btfx.ID
	// Variable finds a global variable; nil: there are none.
	Variable func(name string) (v Variable, ok bool, err error)
}

// Param is a parameter. Its value begins with one of the function's argument
// words, as the context of a BPF trampoline has them.
type Param struct {
	Name string
	Type btfx.ID
	Word int
}

// Variable is a global variable.
type Variable struct {
	Type btfx.ID // 0: not known
	Addr uint64
	// PerCPU is the address of the offsets, one of 8 bytes a CPU, that are added to Addr;
	// 0: there is one variable for all.
	PerCPU uint64
}

// maxNodes is how many operations an expression has at most: the verifier looks at
// each of them.
const maxNodes = 2048

// Check finds the meaning of an expression's names and types: its value must be a
// number. Errors are *Error.
func Check(text string, n Node, scope Scope) (*Tree, error) {
	c := &checker{text: text, scope: scope}
	t, err := c.value(n)
	if err != nil {
		return nil, err
	}
	if !t.Type.IsScalar() {
		return nil, c.errorf(n.Pos(), "a %s is neither true nor false", c.spell(t.Type))
	}
	return t, nil
}

// Condition parses and checks an expression that is true or false.
func Condition(text string, scope Scope) (*Tree, error) {
	n, err := Parse(text, scope.isType)
	if err != nil {
		return nil, err
	}
	return Check(text, n, scope)
}

// isType tells whether a name is that of a typedef, and of no parameter.
func (s Scope) isType(name string) bool {
	if slices.ContainsFunc(s.Params, func(p Param) bool { return p.Name == name }) {
		return false
	}
	return name == "bool" || len(s.Types.FindTypes(btfx.KindTypedef, name)) > 0
}

type checker struct {
	text  string
	scope Scope
	nodes int
}

func (c *checker) errorf(pos int, format string, args ...any) *Error {
	return &Error{Text: c.text, Pos: pos, Msg: fmt.Sprintf(format, args...)}
}

// hinted adds what there is instead.
func (e *Error) hinted(hint string) *Error {
	e.Hint = hint
	return e
}

// place is where something is: in memory, or in the argument words.
type place struct {
	typ   Type
	addr  *Tree // nil: in words
	disp  int64 // bytes from addr, or from the beginning of the word
	word  int
	bit   int    // of a bitfield: its first bit, from disp on
	field bool   // a member of the struct that addr points to by its own type
	named string // for messages

	untyped bool // a variable of which BTF has no type
}

// count bounds the size of the tree.
func (c *checker) count(n Node) error {
	if c.nodes++; c.nodes > maxNodes {
		return c.errorf(n.Pos(), "more than %d operations", maxNodes)
	}
	return nil
}

// at gives an error a place in the text.
func (c *checker) at(n Node, err error) error {
	if _, ok := err.(*Error); ok || err == nil {
		return err
	}
	return c.errorf(n.Pos(), "%v", err)
}

// value returns what an expression is: a number, or for a struct its address. Arrays
// are addresses of their first elements.
func (c *checker) value(n Node) (*Tree, error) {
	if err := c.count(n); err != nil {
		return nil, err
	}
	switch n := n.(type) {
	case *Number:
		return constant(n.Value, Type{Kind: Int, Size: 4 << bit(n.Long), Signed: !n.Unsig, name: numberName(n)}), nil
	case *String:
		return nil, c.errorf(n.At, "a string can only be compared with == or !=")
	case *Unary:
		return c.unary(n)
	case *Binary:
		return c.binaryValue(n)
	case *Cond:
		return c.cond(n)
	case *Cast:
		return c.cast(n)
	case *Sizeof:
		return c.sizeof(n)
	case *Call:
		return c.integer(n)
	case *Name:
		if t, ok, err := c.constantName(n); ok || err != nil {
			return t, err
		}
	}
	p, err := c.place(n)
	if err != nil {
		return nil, err
	}
	return c.read(n, p)
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

func numberName(n *Number) string {
	t := [...]Type{intType, uintType, longType, ulongType}[2*bit(n.Long)+bit(n.Unsig)]
	return t.name
}

// read returns the value at a place.
func (c *checker) read(n Node, p place) (*Tree, error) {
	switch p.typ.Kind {
	case Array:
		elem, err := c.elem(p.typ)
		if err != nil {
			return nil, c.at(n, err)
		}
		return c.address(n, p, elem)
	case Func:
		return c.address(n, p, p.typ)
	case Void:
		if p.untyped {
			return nil, c.errorf(n.Pos(), "BTF does not have the type of %[1]s: write *(TYPE *)&%[1]s", p.named)
		}
		return nil, c.errorf(n.Pos(), "void has no value")
	case Struct:
		return nil, c.errorf(n.Pos(), "a %s is no number: its members are", c.spell(p.typ))
	}
	if p.addr != nil {
		return c.load(n, p)
	}
	bit := int(8*p.disp) + p.bit
	width := 8 * p.typ.Size
	if p.typ.Bits > 0 {
		width = p.typ.Bits
	}
	if bit%64+width > 64 {
		return nil, c.errorf(n.Pos(), "%s lies in two argument words", p.named)
	}
	arg := &Tree{Op: Arg, Type: p.typ, Word: p.word + bit/64}
	if bit%64 > 0 {
		arg.Type = ulongType
		arg = &Tree{Op: ShiftRight, Type: ulongType, X: arg, Y: constant(uint64(bit%64), intType)}
		return &Tree{Op: Convert, Type: p.typ, X: &Tree{Op: Convert, Type: p.typ.Narrow(), X: arg}}, nil
	}
	return arg, nil
}

// load reads memory.
func (c *checker) load(n Node, p place) (*Tree, error) {
	t := &Tree{Op: Load, Type: p.typ, X: p.addr, Disp: p.disp, Field: p.field}
	if p.typ.Bits == 0 {
		return t, nil
	}
	// The unit of the declared type that has all of it, or as many bytes as it takes.
	unit := 8 * p.typ.Size
	start := p.bit / unit * unit
	if p.bit+p.typ.Bits > start+unit {
		start = p.bit / 8 * 8
		for unit = 8; p.bit+p.typ.Bits > start+unit; unit *= 2 {
		}
		if unit > 64 {
			return nil, c.errorf(n.Pos(), "%s lies in 9 bytes", p.named)
		}
	}
	t.Disp += int64(start / 8)
	t.Shift = p.bit - start
	t.Type.Size = unit / 8
	return t, nil
}

// address returns the address of a place as a pointer to a type.
func (c *checker) address(n Node, p place, to Type) (*Tree, error) {
	if p.addr == nil {
		return nil, c.errorf(n.Pos(), "%s is in a register, and has no address", p.named)
	}
	if p.typ.Bits > 0 {
		return nil, c.errorf(n.Pos(), "%s is a bitfield, and has no address", p.named)
	}
	pointer := pointerTo(to)
	if p.disp == 0 {
		return convert(p.addr, pointer), nil
	}
	return fold(&Tree{Op: Add, Type: pointer, X: convert(p.addr, ulongType), Y: constant(uint64(p.disp), ulongType)}), nil
}

// place finds where a name, a member, an element, or what a pointer points to is.
func (c *checker) place(n Node) (place, error) {
	switch n := n.(type) {
	case *Name:
		return c.named(n)
	case *Member:
		return c.member(n)
	case *Index:
		sum, err := c.value(&Binary{At: n.At, Op: "+", X: n.X, Y: n.Y})
		if err != nil {
			return place{}, err
		}
		return c.pointed(n, sum, "an element")
	case *Unary:
		if n.Op == "*" {
			x, err := c.value(n.X)
			if err != nil {
				return place{}, err
			}
			return c.pointed(n, x, "it")
		}
	}
	return place{}, c.errorf(n.Pos(), "this is a value, and is nowhere")
}

// pointed is what an address points to.
func (c *checker) pointed(n Node, x *Tree, what string) (place, error) {
	if x.Type.Kind != Pointer {
		return place{}, c.errorf(n.Pos(), "a %s points to nothing", c.spell(x.Type))
	}
	elem, err := c.elem(x.Type)
	if err != nil {
		return place{}, c.at(n, err)
	}
	addr, disp := displaced(x)
	return place{typ: elem, addr: addr, disp: disp, named: what}, nil
}

// maxDisp is BPF_MAX_VAR_OFF (include/linux/bpf_verifier.h).
const maxDisp = 1<<29 - 1

// displaced splits a constant off an address.
func displaced(x *Tree) (addr *Tree, disp int64) {
	isSum := func(x *Tree) bool { return x.Op == Add && x.Type.Size == 8 && x.Y.Op == Const }
	for isSum(x) || x.Op == Convert && x.Free && x.Type.Kind == Pointer && isSum(x.X) {
		if x.Op == Convert {
			x = x.X
			continue
		}
		disp += int64(x.Y.Value)
		x = x.X
	}
	if disp > maxDisp || disp < -maxDisp {
		return fold(&Tree{Op: Add, Type: ulongType, X: convert(x, ulongType), Y: constant(uint64(disp), ulongType)}), 0
	}
	return x, disp
}

func (c *checker) named(n *Name) (place, error) {
	for _, p := range c.scope.Params {
		if p.Name != n.Name {
			continue
		}
		t, err := c.typeOf(p.Type)
		return place{typ: t, word: p.Word, named: n.Name}, c.at(n, err)
	}
	if c.scope.Variable != nil {
		v, ok, err := c.scope.Variable(n.Name)
		if err != nil {
			return place{}, c.at(n, err)
		}
		if ok {
			t, err := c.typeOf(v.Type)
			addr := constant(v.Addr, ulongType)
			if v.PerCPU != 0 {
				addr = &Tree{Op: CPU, Type: ulongType, X: addr, Value: v.PerCPU}
			}
			return place{typ: t, addr: addr, named: n.Name, untyped: v.Type == 0}, c.at(n, err)
		}
	}
	switch {
	case n.Name == "retval":
		return place{}, c.errorf(n.At, "there is no result: before a function returns, or of one that returns void")
	case c.scope.Retval != nil && len(c.scope.Params) == 0:
		return place{}, c.errorf(n.At, "there is no %s here, only retval", n.Name)
	}
	return place{}, c.errorf(n.At, "there is no %s here", n.Name).hinted(c.params(n.Name))
}

// params tells what parameters there are, the one first that may have been meant.
func (c *checker) params(name string) string {
	var names []string
	for _, p := range c.scope.Params {
		if p.Name != "" {
			names = append(names, p.Name)
		}
	}
	if len(names) == 0 {
		return ": the function has no parameters"
	}
	return nearest(name, names) + "; parameters are " + strings.Join(names, ", ")
}

// constantName returns the value of a name that stands for a number, or for the result.
func (c *checker) constantName(n *Name) (*Tree, bool, error) {
	if slices.ContainsFunc(c.scope.Params, func(p Param) bool { return p.Name == n.Name }) {
		return nil, false, nil
	}
	switch n.Name {
	case "NULL":
		return constant(0, pointerTo(voidType)), true, nil
	case "true":
		return constant(1, intType), true, nil
	case "false":
		return constant(0, intType), true, nil
	case "retval":
		if c.scope.Retval == nil {
			return nil, false, nil
		}
		t, err := c.typeOf(*c.scope.Retval)
		if err != nil || !t.IsScalar() {
			return nil, false, c.errorf(n.At, "the function returns a %s, which is no number", c.scope.Types.TypeName(*c.scope.Retval))
		}
		return &Tree{Op: Retval, Type: t}, true, nil
	}
	return c.enumerator(n)
}

func (c *checker) member(n *Member) (place, error) {
	if err := c.count(n); err != nil {
		return place{}, err
	}
	var p place
	if n.Arrow {
		x, err := c.value(n.X)
		if err != nil {
			return p, err
		}
		if x.Type.Kind != Pointer {
			return p, c.errorf(n.At, "-> needs a pointer, and this is a %s", c.spell(x.Type))
		}
		if p, err = c.pointed(n, x, n.Name); err != nil {
			return p, err
		}
		if p.typ.Kind == Pointer {
			return p, c.errorf(n.At, "-> needs a pointer to a struct, and this is a %s", c.spell(x.Type))
		}
	} else {
		var err error
		if p, err = c.place(n.X); err != nil {
			return p, err
		}
		if p.typ.Kind == Pointer {
			return p, c.errorf(n.At, "a pointer has no members: write -> in place of .")
		}
	}
	if p.untyped {
		return p, c.errorf(n.At, "BTF does not have the type of %[1]s: write ((struct TYPE *)&%[1]s)->%[2]s", p.named, n.Name)
	}
	if p.typ.Kind != Struct || p.typ.ID == 0 {
		return p, c.errorf(n.At, "a %s has no members", c.spell(p.typ))
	}
	f, err := c.scope.Types.Member(p.typ.ID, n.Name)
	if err != nil {
		return p, c.noMember(n, p.typ)
	}
	if p.typ, err = c.typeOf(f.Type); err != nil {
		return p, c.at(n, err)
	}
	p.named = n.Name
	// What was cast, or calculated, may be something else.
	p.field = p.addr != nil && (p.addr.Op == Arg || p.addr.Op == Load) && (n.Arrow && p.disp == 0 || p.field)
	if f.Bits > 0 {
		p.typ.Bits, p.bit = f.Bits, f.Offset
		return p, nil
	}
	p.disp += int64(f.Offset / 8)
	return p, nil
}

// noMember tells what members there are.
func (c *checker) noMember(n *Member, t Type) error {
	under, err := c.scope.Types.Underlying(t.ID)
	if err == nil && c.scope.Types.Kind(under) == btfx.KindFwd {
		return c.errorf(n.At, "%s is not known here: cast to what it is", c.spell(t))
	}
	names := c.memberNames(t.ID, 0)
	if len(names) == 0 {
		return c.errorf(n.At, "%s has no members", c.spell(t))
	}
	const most = 40
	list := strings.Join(names[:min(len(names), most)], ", ")
	if len(names) > most {
		list += fmt.Sprintf(", and %d more", len(names)-most)
	}
	return c.errorf(n.At, "%s has no member %s", c.spell(t), n.Name).hinted(nearest(n.Name, names) + "; it has " + list)
}

// memberNames returns the names of a struct's members, with those of anonymous ones
// in it.
func (c *checker) memberNames(id btfx.ID, depth int) (names []string) {
	fields, err := c.scope.Types.Fields(id)
	if err != nil || depth > 8 {
		return nil
	}
	for _, f := range fields {
		if f.Name != "" {
			names = append(names, f.Name)
			continue
		}
		names = append(names, c.memberNames(f.Type, depth+1)...)
	}
	return names
}

// nearest says which of some names may have been meant; "": none.
func nearest(name string, names []string) string {
	best, least := "", (len(name)+1)/3+1
	for _, n := range names {
		if d := distance(name, n); d < least {
			best, least = n, d
		}
	}
	if best == "" {
		return ""
	}
	return ": " + best + "?"
}

// distance is the number of letters to insert, remove or replace (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		left, diagonal := i+1, i
		for j := range len(b) {
			d := diagonal
			if a[i] != b[j] {
				d = 1 + min(diagonal, left, row[j+1])
			}
			diagonal, row[j+1], left = row[j+1], d, d
		}
		row[0] = i + 1
	}
	return row[len(b)]
}

func (c *checker) unary(n *Unary) (*Tree, error) {
	switch n.Op {
	case "&":
		if x, ok := n.X.(*Unary); ok && x.Op == "*" {
			v, err := c.value(x.X)
			if err == nil && v.Type.Kind != Pointer {
				err = c.errorf(x.At, "a %s points to nothing", c.spell(v.Type))
			}
			return v, err
		}
		p, err := c.place(n.X)
		if err != nil {
			return nil, err
		}
		return c.address(n.X, p, p.typ)
	case "*":
		p, err := c.place(n)
		if err != nil {
			return nil, err
		}
		return c.read(n, p)
	}
	x, err := c.value(n.X)
	if err != nil {
		return nil, err
	}
	if n.Op == "!" {
		if !x.Type.IsScalar() {
			return nil, c.errorf(n.At, "! of a %s", c.spell(x.Type))
		}
		return fold(&Tree{Op: Equal, Type: intType, X: x, Y: constant(0, x.Type)}), nil
	}
	if !x.Type.isInteger() {
		return nil, c.errorf(n.At, "%s of a %s", n.Op, c.spell(x.Type))
	}
	x = convert(x, promoted(x.Type))
	switch {
	case n.Op == "+":
		return x, nil
	case x.Op == Const && n.Op == "-":
		return constant(-x.Value, x.Type), nil
	case x.Op == Const:
		return constant(^x.Value, x.Type), nil
	case n.Op == "-":
		return &Tree{Op: Negate, Type: x.Type, X: x}, nil
	}
	return &Tree{Op: Invert, Type: x.Type, X: x}, nil
}

// operands returns what two of them are.
func operands(of func(Node) (*Tree, error), a, b Node) (x, y *Tree, err error) {
	if x, err = of(a); err == nil {
		y, err = of(b)
	}
	return x, y, err
}

// condition returns a value that is compared with zero.
func (c *checker) condition(n Node) (*Tree, error) {
	x, err := c.value(n)
	if err == nil && !x.Type.IsScalar() {
		err = c.errorf(n.Pos(), "a %s is neither true nor false", c.spell(x.Type))
	}
	return x, err
}

func (c *checker) cond(n *Cond) (*Tree, error) {
	x, err := c.condition(n.X)
	if err != nil {
		return nil, err
	}
	y, z, err := operands(c.value, n.Y, n.Z)
	if err != nil {
		return nil, err
	}
	t := Type{}
	switch {
	case y.Type.isInteger() && z.Type.isInteger():
		t = common(y.Type, z.Type)
	case z.Type.Kind == Pointer && isZero(y):
		t = z.Type
	case y.Type.Kind == Pointer && (z.Type.Kind == Pointer || isZero(z)):
		t = y.Type
	default:
		return nil, c.errorf(n.At, "? gives a %s or a %s", c.spell(y.Type), c.spell(z.Type))
	}
	return &Tree{Op: Choose, Type: t, X: x, Y: convert(y, t), Z: convert(z, t)}, nil
}

func isZero(t *Tree) bool { return t.Op == Const && t.Value == 0 }

func (c *checker) cast(n *Cast) (*Tree, error) {
	t, err := c.typeNamed(n.Type)
	if err != nil {
		return nil, err
	}
	x, err := c.value(n.X)
	if err != nil {
		return nil, err
	}
	if !t.IsScalar() {
		return nil, c.errorf(n.At, "a cast to %s, which is no number: cast to a pointer to it", c.spell(t))
	}
	if !x.Type.IsScalar() {
		return nil, c.errorf(n.At, "a cast of a %s", c.spell(x.Type))
	}
	return convert(x, t), nil
}

// typeNamed finds a type by its name.
func (c *checker) typeNamed(n TypeName) (Type, error) {
	var t Type
	var found bool
	var err error
	switch {
	case n.Basic && n.Name == "char":
		// From 6.2 on it has no sign (-funsigned-char), before as the architecture has it.
		t, found, err = c.typeCalled(n, btfx.KindInt)
	case n.Basic:
	case n.Tag == "struct":
		t, found, err = c.typeCalled(n, btfx.KindStruct, btfx.KindFwd)
	case n.Tag == "union":
		t, found, err = c.typeCalled(n, btfx.KindUnion, btfx.KindFwd)
	case n.Tag == "enum":
		t, found, err = c.typeCalled(n, btfx.KindEnum, btfx.KindEnum64)
	default:
		t, found, err = c.typeCalled(n, btfx.KindTypedef)
	}
	switch {
	case err != nil:
		return t, c.errorf(n.At, "%v", err)
	case found:
	case n.Basic:
		t = basicType(n.Name)
	case n.Tag == "" && n.Name == "bool":
		t = basicType("_Bool")
	default:
		return t, c.errorf(n.At, "there is no type %s", TypeName{Tag: n.Tag, Name: n.Name})
	}
	for range n.Stars {
		t = pointerTo(t)
	}
	return t, nil
}

func (c *checker) sizeof(n *Sizeof) (*Tree, error) {
	var t Type
	if n.X == nil {
		var err error
		if t, err = c.typeNamed(n.Type); err != nil {
			return nil, err
		}
	} else {
		p, err := c.place(n.X)
		if err != nil {
			x, valueErr := c.value(n.X)
			if valueErr != nil {
				return nil, valueErr
			}
			p.typ = x.Type
		}
		t = p.typ
	}
	if t.Bits > 0 {
		return nil, c.errorf(n.At, "a bitfield has no size")
	}
	if t.Kind == Struct && t.Size == 0 && t.ID != 0 {
		if under, err := c.scope.Types.Underlying(t.ID); err == nil && c.scope.Types.Kind(under) == btfx.KindFwd {
			return nil, c.errorf(n.At, "the size of %s is not known here", c.spell(t))
		}
	}
	return constant(uint64(t.Size), ulongType), nil
}

func (c *checker) binaryValue(n *Binary) (*Tree, error) {
	switch n.Op {
	case "&&", "||":
		return c.logic(n)
	case "==", "!=":
		if t, ok, err := c.sameString(n); ok || err != nil {
			return t, err
		}
	}
	x, y, err := operands(c.value, n.X, n.Y)
	if err != nil {
		return nil, err
	}
	if x.Type.Kind == Pointer || y.Type.Kind == Pointer {
		return c.pointers(n, x, y)
	}
	if !x.Type.isInteger() || !y.Type.isInteger() {
		return nil, c.errorf(n.At, "%s of a %s and a %s", n.Op, c.spell(x.Type), c.spell(y.Type))
	}
	switch n.Op {
	case "<<", ">>":
		t := promoted(x.Type)
		op := ShiftLeft
		if n.Op == ">>" {
			op = ShiftRight
		}
		return fold(&Tree{Op: op, Type: t, X: convert(x, t), Y: convert(y, promoted(y.Type))}), nil
	case "==", "!=", "<", ">", "<=", ">=":
		t := common(x.Type, y.Type)
		return compare(n.Op, convert(x, t), convert(y, t)), nil
	}
	t := common(x.Type, y.Type)
	op := map[string]Op{"+": Add, "-": Sub, "*": Mul, "/": Div, "%": Mod, "&": BitAnd, "|": BitOr, "^": BitXor}[n.Op]
	return fold(&Tree{Op: op, Type: t, X: convert(x, t), Y: convert(y, t)}), nil
}

func compare(op string, x, y *Tree) *Tree {
	t := &Tree{Type: intType, X: x, Y: y}
	switch op {
	case "==":
		t.Op = Equal
	case "!=":
		t.Op = NotEqual
	case "<":
		t.Op = Less
	case "<=":
		t.Op = LessEqual
	case ">":
		t.Op, t.X, t.Y = Less, y, x
	case ">=":
		t.Op, t.X, t.Y = LessEqual, y, x
	}
	return fold(t)
}

func (c *checker) logic(n *Binary) (*Tree, error) {
	x, y, err := operands(c.condition, n.X, n.Y)
	if err != nil {
		return nil, err
	}
	op := Both
	if n.Op == "||" {
		op = Either
	}
	if x.Op == Const {
		// What it does not come to is not read.
		if (x.Value != 0) == (op == Either) {
			return constant(uint64(bit(op == Either)), intType), nil
		}
		return fold(&Tree{Op: NotEqual, Type: intType, X: y, Y: constant(0, y.Type)}), nil
	}
	return &Tree{Op: op, Type: intType, X: x, Y: y}, nil
}

// pointers are calculated with and compared as in C, and compared with any number.
func (c *checker) pointers(n *Binary, x, y *Tree) (*Tree, error) {
	bad := func() error {
		return c.errorf(n.At, "%s of a %s and a %s", n.Op, c.spell(x.Type), c.spell(y.Type))
	}
	both := x.Type.Kind == Pointer && y.Type.Kind == Pointer
	switch n.Op {
	case "==", "!=", "<", ">", "<=", ">=":
		if !x.Type.IsScalar() || !y.Type.IsScalar() {
			return nil, bad()
		}
		return compare(n.Op, convert(x, ulongType), convert(y, ulongType)), nil
	case "+":
		if y.Type.Kind == Pointer {
			x, y = y, x
		}
		if both || !y.Type.isInteger() {
			return nil, bad()
		}
	case "-":
		if x.Type.Kind != Pointer || !both && !y.Type.isInteger() {
			return nil, bad()
		}
	default:
		return nil, bad()
	}
	elem, err := c.elem(x.Type)
	if err != nil {
		return nil, c.at(n, err)
	}
	if elem.Kind == Struct && elem.Size == 0 || elem.Kind == Array && elem.Size == 0 {
		return nil, c.errorf(n.At, "the size of %s is not known here", c.spell(elem))
	}
	size := constant(uint64(elem.Size), longType)
	if both {
		diff := fold(&Tree{Op: Sub, Type: longType, X: convert(x, longType), Y: convert(y, longType)})
		return fold(&Tree{Op: Div, Type: longType, X: diff, Y: size}), nil
	}
	op := Add
	if n.Op == "-" {
		op = Sub
	}
	step := fold(&Tree{Op: Mul, Type: longType, X: convert(convert(y, promoted(y.Type)), longType), Y: size})
	if op == Sub && step.Op == Const {
		op, step = Add, constant(-step.Value, longType)
	}
	return fold(&Tree{Op: op, Type: x.Type, X: convert(x, ulongType), Y: convert(step, ulongType)}), nil
}

// sameString compares a string in memory with a literal.
func (c *checker) sameString(n *Binary) (*Tree, bool, error) {
	text, isY := n.Y.(*String)
	other := n.X
	if !isY {
		var isX bool
		if text, isX = n.X.(*String); !isX {
			return nil, false, nil
		}
		other = n.Y
	}
	if err := c.count(n); err != nil {
		return nil, true, err
	}
	if _, ok := other.(*String); ok {
		return nil, true, c.errorf(n.At, "two strings: one of them should be the function's")
	}
	if len(text.Text) > MaxString {
		return nil, true, c.errorf(text.At, "a string of %d bytes: %d can be compared", len(text.Text), MaxString)
	}
	size := 0 // of an array
	if p, err := c.place(other); err == nil && p.typ.Kind == Array {
		size = p.typ.Len
	}
	x, err := c.value(other)
	if err != nil {
		return nil, true, err
	}
	if x.Type.Kind == Pointer {
		if elem, err := c.elem(x.Type); err != nil || !elem.isInteger() || elem.Size != 1 {
			x.Type.Kind = Void
		}
	}
	if x.Type.Kind != Pointer {
		return nil, true, c.errorf(n.At, "a string is compared with an array of char, or a pointer to char")
	}
	if size > 0 && len(text.Text) > size {
		return nil, true, c.errorf(text.At, "a string of %d bytes: the array has %d", len(text.Text), size)
	}
	t := &Tree{Op: Same, Type: intType, Text: text.Text, Exact: size > 0 && len(text.Text) == size}
	t.X, t.Disp = displaced(x)
	if n.Op == "!=" {
		return &Tree{Op: Equal, Type: intType, X: t, Y: constant(0, intType)}, true, nil
	}
	return t, true, nil
}

// MaxString is the longest string that can be compared, in bytes.
const MaxString = 63
