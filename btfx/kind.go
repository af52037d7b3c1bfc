package btfx

import "strconv"

// Kind is the kind of a BTF type: BTF_KIND_* of include/uapi/linux/btf.h.
type Kind uint8

const (
	KindVoid Kind = iota // the type with ID 0, which has no record
	KindInt
	KindPtr
	KindArray
	KindStruct
	KindUnion
	KindEnum
	KindFwd
	KindTypedef
	KindVolatile
	KindConst
	KindRestrict
	KindFunc
	KindFuncProto
	KindVar
	KindDatasec
	KindFloat
	KindDeclTag
	KindTypeTag
	KindEnum64

	numKinds
)

// String returns the kind as BTF tools write it, such as "STRUCT".
func (k Kind) String() string {
	names := [numKinds]string{"VOID", "INT", "PTR", "ARRAY", "STRUCT", "UNION", "ENUM", "FWD", "TYPEDEF",
		"VOLATILE", "CONST", "RESTRICT", "FUNC", "FUNC_PROTO", "VAR", "DATASEC", "FLOAT", "DECL_TAG",
		"TYPE_TAG", "ENUM64"}
	if k < numKinds {
		return names[k]
	}
	return "kind " + strconv.Itoa(int(k))
}

// transparent reports whether a type of this kind is only another name, or a
// qualifier, for the type it refers to.
func (k Kind) transparent() bool {
	return k == KindTypedef || k.qualifier()
}

// qualifier reports whether the kind is const, volatile or restrict, or a tag,
// which is a qualifier without a spelling.
func (k Kind) qualifier() bool {
	switch k {
	case KindVolatile, KindConst, KindRestrict, KindTypeTag:
		return true
	}
	return false
}

// refers reports whether the third word of the type's record is the ID of
// another type instead of a size.
func (k Kind) refers() bool {
	switch k {
	case KindPtr, KindTypedef, KindVolatile, KindConst, KindRestrict, KindFunc, KindFuncProto, KindVar,
		KindDeclTag, KindTypeTag:
		return true
	}
	return false
}

// tailSize returns the number of bytes that follow the twelve bytes that every
// type's record begins with: a fixed number, and one for each of the vlen
// entries. ok is false for kinds that this package doesn't know.
func (k Kind) tailSize() (fixed, entry int, ok bool) {
	switch k {
	case KindPtr, KindFwd, KindTypedef, KindVolatile, KindConst, KindRestrict, KindFunc, KindFloat, KindTypeTag:
		return 0, 0, true
	case KindInt, KindVar, KindDeclTag:
		return 4, 0, true
	case KindArray:
		return 12, 0, true
	case KindStruct, KindUnion, KindDatasec, KindEnum64:
		return 0, 12, true
	case KindEnum, KindFuncProto:
		return 0, 8, true
	}
	return 0, 0, false
}
