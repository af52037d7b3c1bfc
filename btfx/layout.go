package btfx

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"sort"
	"strings"
)

// ValueKind says how the bytes of a value are read and printed.
type ValueKind uint8

const (
	Void ValueKind = iota
	Int
	Bool
	Char // char, but not signed char and unsigned char, which the kernel counts with
	Float
	Enum
	Pointer
	String      // a pointer to char
	FuncPointer // a pointer to a function
	Struct
	Union
	Array
	Register // a word of which nothing else is known
)

// String returns the kind in lower case, such as "int".
func (k ValueKind) String() string {
	names := [...]string{"void", "int", "bool", "char", "float", "enum", "pointer", "string", "func pointer",
		"struct", "union", "array", "register"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("value kind %d", uint8(k))
}

// Layout tells how the bytes of a value of one C type are read and printed.
// Typedefs and qualifiers are resolved, and kept in its spelling only. It
// doesn't follow pointers. Layouts are shared: don't change them.
type Layout struct {
	Type string // in C, as TypeName has it
	Kind ValueKind
	Size int // in bytes

	Signed bool // of Int, Char and Enum

	Members []Member // of Struct and Union

	Elem *Layout // of Array
	Len  int     // of Array, in elements; 0 for a flexible one

	Values []EnumValue // of Enum, sorted by value; of equal ones, BTF's first is the first
	Flags  bool        // of Enum: the values are single bits, and print as "A|B"

	Elided bool // of Struct and Union: the members are not shown, see Limited

	// cost is the number of scalars that printing a value reads, so that
	// malformed types can't make it endless.
	cost int
}

// Member is a member of a struct or union. Offset is in bits from the start of
// the struct, Bits the width of a bitfield or 0. An anonymous struct or union
// has no name.
type Member struct {
	Name   string
	Offset int
	Bits   int
	Layout *Layout
}

// EnumValue is an enumerator. Value has the bits of an int64 where the enum is
// signed, those of a uint64 otherwise.
type EnumValue struct {
	Name  string
	Value uint64
}

const (
	// maxNesting is how deep structs and arrays may lie in one another.
	maxNesting = 64
	// maxCost is the number of scalars that are printed of one value. What is
	// larger than a record of an event has no use for more, and the empty
	// structs of malformed types may be many without being large.
	maxCost = 1 << 16
)

// Layout returns the layout of a type. It is made once. Incomplete types,
// functions and malformed types give errors.
func (t *Types) Layout(id ID) (*Layout, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l, err := t.layout(id, 0)
	if err != nil {
		return nil, fmt.Errorf("lay out %s: %w", t.TypeName(id), err)
	}
	return l, nil
}

// layout makes a layout, or finds it made. t.mu is held.
func (t *Types) layout(id ID, depth int) (*Layout, error) {
	if id != 0 && id < t.firstID {
		return t.base.Layout(id)
	}
	if l := t.layouts[id]; l != nil {
		return l, nil
	}
	if depth > maxNesting {
		return nil, fmt.Errorf("more than %d types in one another", maxNesting)
	}
	rid, r, err := t.resolve(id)
	if err != nil {
		return nil, err
	}
	l := &Layout{Size: int(r.word), cost: 1}
	switch r.kind {
	case KindVoid:
		l.Kind, l.Size = Void, 0
	case KindInt:
		err = l.setInt(t, &r)
	case KindFloat:
		l.Kind = Float
	case KindPtr:
		l.Kind, l.Size = t.pointerKind(r.ref()), pointerSize
	case KindEnum, KindEnum64:
		err = l.setEnum(t, &r)
	case KindArray:
		err = l.setArray(t, &r, depth)
	case KindStruct, KindUnion:
		err = l.setMembers(t, &r, depth)
	case KindFwd:
		err = fmt.Errorf("%s is incomplete", t.TypeName(rid))
	default:
		err = fmt.Errorf("a %s is no value", r.kind)
	}
	if err != nil {
		return nil, err
	}
	l.Type = t.TypeName(id)
	t.layouts[id] = l
	return l, nil
}

func (l *Layout) setInt(t *Types, r *record) error {
	if l.Size < 1 || l.Size > 16 {
		return fmt.Errorf("integer of %d bytes", l.Size)
	}
	// BTF_INT_ENCODING and its bits.
	const signed, char, boolean = 1, 2, 4
	enc := r.u32(0) >> 24 & 0xf
	l.Signed = enc&signed != 0
	switch {
	case enc&boolean != 0:
		l.Kind = Bool
	case l.Size == 1 && (enc&char != 0 || string(t.stringBytes(r.name)) == "char"):
		// No compiler sets the bit for char; clang once set it for both
		// unsigned char and char.
		l.Kind = Char
	default:
		l.Kind = Int
	}
	return nil
}

// pointerKind tells which kind of pointer points to a type.
func (t *Types) pointerKind(id ID) ValueKind {
	_, r, err := t.resolve(id)
	switch {
	case err != nil:
	case r.kind == KindFuncProto:
		return FuncPointer
	case r.kind == KindInt && r.word == 1 && string(t.stringBytes(r.name)) == "char":
		return String
	}
	return Pointer
}

func (l *Layout) setEnum(t *Types, r *record) error {
	switch l.Size {
	case 1, 2, 4, 8:
	default:
		return fmt.Errorf("enum of %d bytes", l.Size)
	}
	l.Kind = Enum
	l.Signed = t.isSigned(r)
	l.Values = make([]EnumValue, r.len)
	for i := range l.Values {
		name, value := r.enumerator(i)
		if l.Signed && r.kind == KindEnum {
			value = uint64(int32(value))
		}
		l.Values[i] = EnumValue{Name: t.string(name), Value: value}
	}
	for _, v := range l.Values {
		if !isWord(v.Name) {
			return fmt.Errorf("enumerator named %q", v.Name)
		}
	}
	l.Flags = areFlags(l.Values, l.Size)
	slices.SortStableFunc(l.Values, func(a, b EnumValue) int {
		if a.Value < b.Value {
			return -1
		}
		if a.Value > b.Value {
			return 1
		}
		return 0
	})
	return nil
}

// isWord reports whether a name can be printed without quotes or escapes. The
// kernel refuses BTF in which an enumerator's isn't an identifier
// (btf_enum_check_meta in kernel/bpf/btf.c).
func isWord(name string) bool {
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return name != ""
}

// areFlags reports whether the values of an enum are meant to be combined: all
// of them are single bits or zero, and one is larger than 2, as 0, 1, 2 may
// just be counted. The sign of 1<<31 in an enum of size 4 is no other bit.
func areFlags(values []EnumValue, size int) bool {
	large := false
	for _, v := range values {
		if bits.OnesCount64(v.Value<<(64-8*size)) > 1 {
			return false
		}
		large = large || v.Value > 2
	}
	return large
}

func (l *Layout) setArray(t *Types, r *record, depth int) error {
	// struct btf_array: type, index_type, nelems.
	elem, err := t.layout(ID(r.u32(0)), depth+1)
	if err != nil {
		return err
	}
	n := uint64(r.u32(2))
	if elem.Size != 0 && n > math.MaxUint32/uint64(elem.Size) {
		return fmt.Errorf("array of %d elements of %d bytes", n, elem.Size)
	}
	l.Kind = Array
	l.Elem, l.Len = elem, int(n)
	l.Size = l.Len * elem.Size
	if elem.Kind == Char || l.byteArray() {
		return nil // printed as one
	}
	l.addCost(l.Len * elem.cost)
	return nil
}

func (l *Layout) setMembers(t *Types, r *record, depth int) error {
	l.Kind = Struct
	if r.kind == KindUnion {
		l.Kind = Union
	}
	l.Members = make([]Member, 0, r.len)
	for i := range r.len {
		f := t.field(r, i)
		m, err := t.layout(f.Type, depth+1)
		if err != nil {
			return fmt.Errorf("member %q: %w", f.Name, err)
		}
		if f.Bits == 0 && f.Offset%8 != 0 {
			return fmt.Errorf("member %q: at bit %d, but no bitfield", f.Name, f.Offset)
		}
		if f.Bits != 0 && (f.Bits > 64 || !m.scalar() || m.Size > 8) {
			return fmt.Errorf("member %q: bitfield of %d bits of type %s", f.Name, f.Bits, m.Type)
		}
		if f.Name == "" && m.Kind != Struct && m.Kind != Union {
			continue // padding, as in "int : 3"
		}
		l.Members = append(l.Members, Member{Name: f.Name, Offset: f.Offset, Bits: f.Bits, Layout: m})
		l.addCost(m.cost)
	}
	return nil
}

// addCost adds the cost of a part. A part that is too large to be printed
// costs as much as the mark that is printed instead.
func (l *Layout) addCost(n int) {
	if n < 0 || n > maxCost {
		n = maxCost + 1
	}
	l.cost = min(l.cost+n, maxCost+1)
}

// scalar reports whether a value is one word.
func (l *Layout) scalar() bool {
	return l.Kind != Struct && l.Kind != Union && l.Kind != Array && l.Kind != Void
}

// Limited returns a layout that shows members of structs within one another, as many
// levels of them; what is below prints as {...}, and is null in JSON. 0: all of them.
func (l *Layout) Limited(levels int) *Layout {
	if levels <= 0 {
		return l
	}
	return l.limited(levels)
}

func (l *Layout) limited(levels int) *Layout {
	switch l.Kind {
	case Array:
		elem := l.Elem.limited(levels)
		if elem == l.Elem {
			return l
		}
		limited := *l
		limited.Elem = elem
		return &limited
	case Struct, Union:
	default:
		return l
	}
	limited := *l
	if levels == 0 {
		limited.Elided, limited.Members = true, nil
		return &limited
	}
	limited.Members = slices.Clone(l.Members)
	for i := range limited.Members {
		m := &limited.Members[i]
		below := levels - 1
		if m.Name == "" { // its members are those of the struct around it
			below = levels
		}
		m.Layout = m.Layout.limited(below)
	}
	return &limited
}

// ArrayOf returns the layout of an array of so many of these.
func (l *Layout) ArrayOf(n int) *Layout {
	name, inner, ok := strings.Cut(l.Type, "[")
	if ok {
		inner = "[" + inner
	}
	return &Layout{Type: fmt.Sprintf("%s[%d]%s", name, n, inner), Kind: Array, Size: n * l.Size, Elem: l, Len: n, cost: 1 + n*max(l.cost, 1)}
}

// EnumName returns the name of an enumerator by its value.
func (l *Layout) EnumName(v uint64) (string, bool) {
	i := sort.Search(len(l.Values), func(i int) bool { return l.Values[i].Value >= v })
	if i < len(l.Values) && l.Values[i].Value == v {
		return l.Values[i].Name, true
	}
	return "", false
}

// EnumNumber returns the value of an enumerator by its name.
func (l *Layout) EnumNumber(name string) (uint64, bool) {
	for _, v := range l.Values {
		if v.Name == name {
			return v.Value, true
		}
	}
	return 0, false
}
