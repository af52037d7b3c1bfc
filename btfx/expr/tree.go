package expr

import (
	"fmt"
	"slices"
)

// Tree is a value, and how it comes about. All values are 64 bits: those of smaller
// types with their sign or zeros in front. A tree has been checked: its operands have
// the types that its operation needs.
type Tree struct {
	Op   Op
	Type Type // of the value
	X    *Tree
	Y    *Tree
	Z    *Tree // of Choose

	Value uint64 // of Const; of CPU: the address of what is added, by CPU
	Word  int    // of Arg: which argument word
	Disp  int64  // of Load and Same: bytes from X
	Shift int    // of Load: the bits below a bitfield of Type.Bits
	Text  string // of Same
	Exact bool   // of Same: the text fills an array, which has no zero behind it
	Free  bool   // of Convert: the number stays as it is
	Field bool   // of Load: a member of the struct that X points to by its own type

	Matcher Matcher // of Match
}

// Matcher decides about what an address points to.
type Matcher interface {
	// Match returns whether it matches. Memory that can't be read is an error.
	Match(addr uint64, read func(addr uint64, buf []byte) error) (bool, error)
	// String spells it in full: those that are spelled alike do the same.
	String() string
}

// Matches returns whether what a parameter points to matches.
func Matches(m Matcher, p Param) *Tree {
	return &Tree{Op: Match, Type: intType, Matcher: m, X: &Tree{Op: Arg, Type: pointerTo(voidType), Word: p.Word}}
}

// Op is an operation.
type Op uint8

const (
	Const   Op = iota
	Arg        // an argument word, as the type has it
	Retval     // what the function returns
	CPU        // the address of this CPU's copy of a variable, from that of the first
	Load       // of Type, at X + Disp
	Same       // whether the string at X + Disp is Text
	Convert    // X, to Type
	Negate
	Invert // ~
	Swap   // X, its bytes in the opposite order
	Add
	Sub
	Mul
	Div
	Mod
	BitAnd
	BitOr
	BitXor
	ShiftLeft
	ShiftRight
	Equal // these compare X and Y as the type of X has them
	NotEqual
	Less
	LessEqual
	Both   // X && Y
	Either // X || Y
	Choose // X ? Y : Z
	Match  // whether Matcher matches what X points to
	Told   // X, and where its memory can't be read, that is told of
)

// String returns the operation's name.
func (o Op) String() string {
	names := [...]string{"const", "arg", "retval", "cpu", "load", "same", "convert", "negate", "invert", "swap", "add", "sub", "mul", "div",
		"mod", "and", "or", "xor", "shl", "shr", "eq", "ne", "lt", "le", "both", "either", "choose", "match", "told"}
	if int(o) < len(names) {
		return names[o]
	}
	return "?"
}

// Words returns the argument words that a tree uses, in order.
func (t *Tree) Words() []int {
	var words []int
	t.walk(func(t *Tree) {
		if t.Op == Arg {
			words = append(words, t.Word)
		}
	})
	slices.Sort(words)
	return slices.Compact(words)
}

// HasRetval tells whether a tree uses the function's result.
func (t *Tree) HasRetval() bool {
	has := false
	t.walk(func(t *Tree) { has = has || t.Op == Retval })
	return has
}

func (t *Tree) walk(fn func(*Tree)) {
	fn(t)
	for _, x := range []*Tree{t.X, t.Y, t.Z} {
		if x != nil {
			x.walk(fn)
		}
	}
}

// And returns whether both of two conditions hold; nil is no condition.
func And(x, y *Tree) *Tree { return join(Both, x, y) }

// Tell returns a condition of which it is told where it can't be decided, as memory
// can't be read.
func Tell(x *Tree) *Tree { return &Tree{Op: Told, Type: x.Type, X: x} }

// Or returns whether one of two conditions holds; nil is no condition.
func Or(x, y *Tree) *Tree { return join(Either, x, y) }

func join(op Op, x, y *Tree) *Tree {
	switch {
	case x == nil:
		return y
	case y == nil:
		return x
	}
	return &Tree{Op: op, Type: intType, X: x, Y: y}
}

// String spells a tree in full: those that are spelled alike do the same.
func (t *Tree) String() string {
	s := t.Op.String()
	switch t.Op {
	case Const:
		s += fmt.Sprintf(" %#x", t.Value)
	case CPU:
		s += fmt.Sprintf(" %#x", t.Value)
	case Arg:
		s += fmt.Sprintf(" %d", t.Word)
	case Load:
		s += fmt.Sprintf(" %+d>>%d", t.Disp, t.Shift)
	case Same:
		s += fmt.Sprintf(" %+d %q %v", t.Disp, t.Text, t.Exact)
	case Match:
		s += " " + t.Matcher.String()
	}
	sign := 'u'
	switch {
	case t.Type.Kind == Bool:
		sign = 'b'
	case t.Type.Kind == Pointer:
		sign = 'p'
	case t.Type.Signed:
		sign = 's'
	}
	s += fmt.Sprintf(" %c%d", sign, 8*t.Type.Size)
	if t.Type.Bits > 0 {
		s += fmt.Sprintf(":%d", t.Type.Bits)
	}
	for _, x := range []*Tree{t.X, t.Y, t.Z} {
		if x != nil {
			s += " " + x.String()
		}
	}
	return "(" + s + ")"
}

func constant(v uint64, t Type) *Tree { return &Tree{Op: Const, Type: t, Value: wrap(v, t)} }

// Narrow returns the type as which what was read is taken first: of a bool, only its
// own bits tell.
func (t Type) Narrow() Type {
	if t.Kind == Bool {
		t.Kind, t.Signed = Int, false
	}
	return t
}

// wrap returns the value that the low bytes of a number have in a type. Of a bool all
// of the number counts.
func wrap(v uint64, t Type) uint64 {
	width := 8 * t.Size
	if t.Bits > 0 {
		width = t.Bits
	}
	switch {
	case t.Kind == Bool:
		if v != 0 {
			return 1
		}
		return 0
	case width >= 64:
		return v
	case t.Signed:
		return uint64(int64(v<<(64-width)) >> (64 - width))
	}
	return v & (1<<width - 1)
}

// convert returns a value in another type. Pointers are numbers of 64 bits.
func convert(x *Tree, t Type) *Tree {
	if x.Op == Const {
		return constant(x.Value, t)
	}
	from := x.Type
	if from.isInteger() && from.Kind == t.Kind && from.Size == t.Size && from.Signed == t.Signed && from.Bits == 0 {
		return x
	}
	fits := t.Size == 8 && t.Kind != Bool || from.Kind == Bool ||
		from.Size < t.Size && (!from.Signed || t.Signed) ||
		from.Size == t.Size && from.Signed == t.Signed && t.Kind != Bool
	return &Tree{Op: Convert, Type: t, X: x, Free: fits}
}

// fold calculates what is constant.
func fold(t *Tree) *Tree {
	if t.X == nil || t.X.Op != Const || t.Y == nil || t.Y.Op != Const {
		return t
	}
	switch t.Op {
	case Add, Sub, Mul, Div, Mod, BitAnd, BitOr, BitXor, ShiftLeft, ShiftRight, Equal, NotEqual, Less, LessEqual:
		return constant(calculate(t.Op, t.X.Type, t.X.Value, t.Y.Value), t.Type)
	}
	return t
}

// calculate is one operation on values of a type, whose result still has to be
// wrapped.
func calculate(op Op, t Type, x, y uint64) uint64 {
	truth := func(b bool) uint64 {
		if b {
			return 1
		}
		return 0
	}
	count := y & uint64(8*t.Size-1)
	switch op {
	case Add:
		return x + y
	case Sub:
		return x - y
	case Mul:
		return x * y
	case Div:
		switch {
		case y == 0:
			return 0
		case t.Signed && y == ^uint64(0):
			return -x
		case t.Signed:
			return uint64(int64(x) / int64(y))
		}
		return x / y
	case Mod:
		switch {
		case y == 0:
			return x
		case t.Signed && y == ^uint64(0):
			return 0
		case t.Signed:
			return uint64(int64(x) % int64(y))
		}
		return x % y
	case BitAnd:
		return x & y
	case BitOr:
		return x | y
	case BitXor:
		return x ^ y
	case ShiftLeft:
		return x << count
	case ShiftRight:
		if t.Signed {
			return uint64(int64(x) >> count)
		}
		return x >> count
	case Equal:
		return truth(x == y)
	case NotEqual:
		return truth(x != y)
	case Less:
		if t.Signed {
			return truth(int64(x) < int64(y))
		}
		return truth(x < y)
	case LessEqual:
		if t.Signed {
			return truth(int64(x) <= int64(y))
		}
		return truth(x <= y)
	}
	panic("not an operation of two numbers: " + op.String())
}
