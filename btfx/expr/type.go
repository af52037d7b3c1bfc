package expr

import (
	"fmt"

	"fgtrace/btfx"
)

// Type is the C type of a value.
type Type struct {
	Kind   Kind
	Size   int     // in bytes; of Void and Func 1, as GNU C has it
	Signed bool    // of Int
	ID     btfx.ID // of Struct, and of what BTF has; 0: derived
	Len    int     // of Array, in elements
	Bits   int     // of Int: a bitfield's width; else 0

	elem *Type // of Pointer and Array without an ID
	name string
}

// Kind is what can be done with a type's values.
type Kind uint8

const (
	Void Kind = iota
	Int       // with char and enum
	Bool
	Pointer
	Array
	Struct // or union
	Func
)

var (
	intType   = Type{Kind: Int, Size: 4, Signed: true, name: "int"}
	uintType  = Type{Kind: Int, Size: 4, name: "unsigned int"}
	longType  = Type{Kind: Int, Size: 8, Signed: true, name: "long"}
	ulongType = Type{Kind: Int, Size: 8, name: "unsigned long"}
	voidType  = Type{Kind: Void, Size: 1, name: "void"}
)

// basicType returns one of C's own types by the name that the parser gives it.
func basicType(name string) Type {
	t := Type{Kind: Int, Signed: true, name: name}
	if len(name) > 9 && name[:9] == "unsigned " {
		t.Signed, name = false, name[9:]
	}
	switch name {
	case "void":
		return voidType
	case "_Bool":
		return Type{Kind: Bool, Size: 1, name: name}
	case "char", "signed char":
		t.Size = 1
	case "short":
		t.Size = 2
	case "int":
		t.Size = 4
	case "long":
		t.Size = 8
	}
	return t
}

func pointerTo(t Type) Type { return Type{Kind: Pointer, Size: 8, elem: &t} }

// IsScalar tells whether a value is one number.
func (t Type) IsScalar() bool { return t.Kind == Int || t.Kind == Bool || t.Kind == Pointer }

func (t Type) isInteger() bool { return t.Kind == Int || t.Kind == Bool }

// typeOf returns a type of BTF.
func (c *checker) typeOf(id btfx.ID) (Type, error) {
	types := c.scope.Types
	under, err := types.Underlying(id)
	if err != nil {
		return Type{}, err
	}
	t := Type{ID: id}
	switch kind := types.Kind(under); kind {
	case btfx.KindVoid:
		t.Kind, t.Size = Void, 1
	case btfx.KindFunc, btfx.KindFuncProto:
		t.Kind, t.Size = Func, 1
	case btfx.KindPtr:
		t.Kind, t.Size = Pointer, 8
	case btfx.KindArray:
		t.Kind = Array
		if t.Size, err = types.Size(under); err != nil {
			return t, err
		}
		t.Len, err = types.ArrayLen(under)
	case btfx.KindStruct, btfx.KindUnion:
		t.Kind = Struct
		t.Size, err = types.Size(under)
	case btfx.KindFwd:
		return Type{Kind: Struct, ID: id}, nil
	case btfx.KindInt, btfx.KindEnum, btfx.KindEnum64:
		var l *btfx.Layout
		if l, err = types.Layout(under); err != nil {
			return t, err
		}
		if l.Size > 8 {
			return t, fmt.Errorf("%s has %d bytes: numbers have at most 8", l.Type, l.Size)
		}
		t.Kind, t.Size, t.Signed = Int, l.Size, l.Signed
		if l.Kind == btfx.Bool {
			t.Kind = Bool
		}
	default:
		return t, fmt.Errorf("%s is nothing to calculate with", types.TypeName(id))
	}
	return t, err
}

// elem returns what a pointer points to, or an array has.
func (c *checker) elem(t Type) (Type, error) {
	if t.elem != nil {
		return *t.elem, nil
	}
	under, err := c.scope.Types.Underlying(t.ID)
	if err != nil {
		return Type{}, err
	}
	ref, err := c.scope.Types.Ref(under)
	if err != nil {
		return Type{}, err
	}
	return c.typeOf(ref)
}

// spell returns a type in C.
func (c *checker) spell(t Type) string {
	switch {
	case t.name != "":
		return t.name
	case t.elem != nil && t.Kind == Array:
		return fmt.Sprintf("%s[%d]", c.spell(*t.elem), t.Len)
	case t.elem != nil:
		s := c.spell(*t.elem)
		if s[len(s)-1] != '*' {
			s += " "
		}
		return s + "*"
	}
	return c.scope.Types.TypeName(t.ID)
}

// promoted returns what an integer becomes where it is calculated with (C11
// 6.3.1.1): int, if that has all its values.
func promoted(t Type) Type {
	switch {
	case t.Kind == Bool, t.Size < 4, t.Bits > 0 && (t.Bits < 32 || t.Bits == 32 && t.Signed):
		return intType
	case t.Bits > 0 && t.Bits <= 32:
		return uintType
	case t.Size == 4 && t.Signed:
		return intType
	case t.Size == 4:
		return uintType
	case t.Signed:
		return longType
	}
	return ulongType
}

// common returns the type that two integers are calculated in (C11 6.3.1.8).
func common(a, b Type) Type {
	a, b = promoted(a), promoted(b)
	if a.Size < b.Size {
		a, b = b, a
	}
	if a.Size == b.Size && !b.Signed {
		return b
	}
	return a
}
