package btfx

import (
	"fmt"
	"math"
	"strings"
)

const pointerSize = 8 // amd64 and arm64

// Kind returns the kind of a type: KindVoid for 0 and for what isn't there.
func (t *Types) Kind(id ID) Kind {
	r, _ := t.record(id)
	return r.kind
}

// Name returns the name of a type as BTF has it, without "struct" or the like;
// it is empty for pointers, arrays and whatever else has none.
func (t *Types) Name(id ID) string {
	r, err := t.record(id)
	if err != nil {
		return ""
	}
	return t.string(r.name)
}

// Underlying strips typedefs, qualifiers and type tags.
func (t *Types) Underlying(id ID) (ID, error) {
	id, _, err := t.resolve(id)
	return id, err
}

// Ref returns the type that a type is made of: what a pointer points to, the
// element of an array, what a typedef or qualifier stands for, the type of a
// variable, the prototype of a function and what a prototype returns.
func (t *Types) Ref(id ID) (ID, error) {
	r, err := t.record(id)
	switch {
	case err != nil:
		return 0, err
	case r.kind == KindArray:
		return ID(r.u32(0)), nil
	case r.kind.refers():
		return r.ref(), nil
	}
	return 0, fmt.Errorf("type %d, a %s, refers to no other", id, r.kind)
}

// ArrayLen returns the number of elements of an array, 0 for a flexible one.
func (t *Types) ArrayLen(id ID) (int, error) {
	_, r, err := t.resolve(id)
	if err != nil {
		return 0, err
	}
	if r.kind != KindArray {
		return 0, fmt.Errorf("type %d, a %s, is no array", id, r.kind)
	}
	return int(r.u32(2)), nil
}

// Size returns the size of a value of a type, in bytes.
func (t *Types) Size(id ID) (int, error) {
	n := uint64(1)
	for range maxChain {
		i, r, err := t.resolve(id)
		if err != nil {
			return 0, fmt.Errorf("size type: %w", err)
		}
		switch r.kind {
		case KindArray:
			id = ID(r.u32(0))
			n *= uint64(r.u32(2))
			if n > math.MaxUint32 {
				return 0, fmt.Errorf("size type: array of more than %d elements", uint32(math.MaxUint32))
			}
			continue
		case KindPtr:
			n *= pointerSize
		case KindInt, KindStruct, KindUnion, KindEnum, KindEnum64, KindFloat, KindDatasec:
			n *= uint64(r.word)
		case KindVar:
			id = r.ref()
			continue
		default:
			return 0, fmt.Errorf("size type: type %d, a %s, has no size", i, r.kind)
		}
		if n > math.MaxInt {
			return 0, fmt.Errorf("size type: %d bytes", n)
		}
		return int(n), nil
	}
	return 0, fmt.Errorf("size type: more than %d arrays in a row", maxChain)
}

// Field is a member of a struct or union. Offset is in bits from the start of
// the struct; Bits is the width of a bitfield and 0 for everything else.
// Bitfields count their bits from the least significant.
type Field struct {
	Name   string
	Type   ID
	Offset int
	Bits   int
}

// Fields returns the members of a struct or union, in BTF's order. Those
// without a name are structs or unions whose members are used as the outer
// struct's.
func (t *Types) Fields(id ID) ([]Field, error) {
	_, r, err := t.resolve(id)
	if err != nil {
		return nil, fmt.Errorf("read members: %w", err)
	}
	if r.kind != KindStruct && r.kind != KindUnion {
		return nil, fmt.Errorf("read members: type %d, a %s, has none", id, r.kind)
	}
	fields := make([]Field, r.len)
	for i := range fields {
		fields[i] = t.field(&r, i)
	}
	return fields, nil
}

// field decodes the struct btf_member with an index.
func (t *Types) field(r *record, i int) Field {
	off := r.u32(3*i + 2)
	f := Field{Name: t.string(r.u32(3 * i)), Type: ID(r.u32(3*i + 1)), Offset: int(off)}
	if r.flag {
		// BTF_MEMBER_BITFIELD_SIZE and BTF_MEMBER_BIT_OFFSET.
		f.Bits, f.Offset = int(off>>24), int(off&0xffffff)
		return f
	}
	// Old BTF has a bitfield as an integer of fewer bits than its size holds:
	// BTF_INT_BITS and BTF_INT_OFFSET.
	if _, m, err := t.resolve(f.Type); err == nil && m.kind == KindInt {
		if bits := int(m.u32(0) & 0xff); bits != 0 && bits != 8*int(m.word) {
			f.Bits = bits
			f.Offset += int(m.u32(0) >> 16 & 0xff)
		}
	}
	return f
}

// Member returns a member of a struct or union by its path, such as
// "thread_info.preempt_count". Members of anonymous structs and unions are
// found as those of the struct around them, as in C. Offset of the result
// counts from the start of the outermost struct.
func (t *Types) Member(id ID, path string) (Field, error) {
	f := Field{Type: id}
	steps := maxSearch
	for name := range strings.SplitSeq(path, ".") {
		g, err := t.member(f.Type, name, &steps)
		if err != nil {
			return Field{}, fmt.Errorf("find member %s of %s: %w", path, t.TypeName(id), err)
		}
		g.Offset += f.Offset
		f = g
	}
	return f, nil
}

// memberNotFound is distinct from the errors of malformed types, which end a
// search. It is spelled only when it is read.
type memberNotFound struct {
	t    *Types
	id   ID
	name string
}

func (e *memberNotFound) Error() string {
	return fmt.Sprintf("%s has no member %s", e.t.TypeName(e.id), e.name)
}

// maxSearch bounds the members that the search for one looks at, as those of
// malformed types may have no end. A struct of Linux 6.18 has at most 272, not
// counting those of anonymous structs in it.
const maxSearch = 1 << 13

func (t *Types) member(id ID, name string, steps *int) (Field, error) {
	id, r, err := t.resolve(id)
	if err != nil {
		return Field{}, err
	}
	if r.kind != KindStruct && r.kind != KindUnion || name == "" {
		return Field{}, &memberNotFound{t, id, name}
	}
	for i := range r.len {
		if *steps--; *steps < 0 {
			return Field{}, fmt.Errorf("more than %d members", maxSearch)
		}
		nameOff := r.u32(3 * i)
		if nameOff != 0 {
			if string(t.stringBytes(nameOff)) == name {
				return t.field(&r, i), nil
			}
			continue
		}
		f := t.field(&r, i)
		in, err := t.member(f.Type, name, steps)
		if err == nil {
			in.Offset += f.Offset
			return in, nil
		}
		if _, ok := err.(*memberNotFound); !ok {
			return Field{}, err
		}
	}
	return Field{}, &memberNotFound{t, id, name}
}
