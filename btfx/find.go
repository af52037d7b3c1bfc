package btfx

import (
	"encoding/binary"
	"strings"
)

// Funcs yields the functions of this object, not those of its base, in the
// order of their IDs. The names share one string; it is made by the first
// call.
func (t *Types) Funcs(yield func(id ID, name string) bool) {
	names := t.names()
	for _, id := range t.funcs {
		off := t.nameOffset(id)
		name := ""
		if off >= t.firstStr && off < t.endStr() {
			off -= t.firstStr
			name = names[off : int(off)+len(t.stringBytes(off+t.firstStr))]
		} else {
			name = t.string(off) // a module's function that shares a name of vmlinux's
		}
		if !yield(id, name) {
			return
		}
	}
}

// FindFunc returns the first function with a name in this object, whether
// global or static; it doesn't look into the base. FindFuncs tells whether
// there are several.
func (t *Types) FindFunc(name string) (ID, bool) {
	m := t.matcher(name)
	for _, id := range t.funcs {
		if m.match(t.nameOffset(id)) {
			return id, true
		}
	}
	return 0, false
}

// FindFuncs returns every function with a name in this object. More than one
// are static functions of different files, or, rarely, of different types.
func (t *Types) FindFuncs(name string) []ID {
	m := t.matcher(name)
	var ids []ID
	for _, id := range t.funcs {
		if m.match(t.nameOffset(id)) {
			ids = append(ids, id)
		}
	}
	return ids
}

// FindType returns the first of FindTypes.
func (t *Types) FindType(kind Kind, name string) (ID, bool) {
	if ids := t.FindTypes(kind, name); len(ids) > 0 {
		return ids[0], true
	}
	return 0, false
}

// FindTypes returns every type of a kind with a name in this object or, if it has
// none, in its base. More than one are of different files of the kernel, or differ
// in how much those know of the types that they are made of. What was found is
// remembered: looking for it again costs nothing.
func (t *Types) FindTypes(kind Kind, name string) []ID {
	if ids := t.findOwn(kind, name); len(ids) > 0 || t.base == nil {
		return ids
	}
	return t.base.FindTypes(kind, name)
}

// typeName is what a type is found by.
type typeName struct {
	kind Kind
	name string
}

// findOwn returns the object's own types of a kind with a name.
func (t *Types) findOwn(kind Kind, name string) []ID {
	t.mu.Lock()
	defer t.mu.Unlock()
	ids, ok := t.named[typeName{kind, name}]
	if ok {
		return ids
	}
	m := t.matcher(name)
	le := binary.LittleEndian
	for i, off := range t.offsets {
		r := t.types[off : off+recordSize]
		if infoKind(le.Uint32(r[4:])) == kind && m.match(le.Uint32(r)) {
			ids = append(ids, t.firstID+ID(i))
		}
	}
	t.named[typeName{kind, strings.Clone(name)}] = ids
	return ids
}

// Var is a global variable.
type Var struct {
	ID   ID
	Type ID
	// Section is the section that has the variable, such as ".data..percpu",
	// or "" if BTF has none for it.
	Section string
	// Offset and Size are in bytes; Offset counts from the section's start. A
	// per-CPU variable of vmlinux is at the symbol __per_cpu_start + Offset,
	// plus __per_cpu_offset[cpu] for the copy of a CPU.
	Offset, Size uint32
}

// FindVar returns the first variable with a name in this object; it doesn't
// look into the base. BTF has the per-CPU variables of a kernel, and others
// only where pahole was asked for them.
func (t *Types) FindVar(name string) (Var, bool) {
	ids := t.findOwn(KindVar, name)
	if len(ids) == 0 {
		return Var{}, false
	}
	id := ids[0]
	r, err := t.record(id)
	if err != nil {
		return Var{}, false
	}
	v := Var{ID: id, Type: r.ref()}
	for i := range t.offsets {
		r, err := t.record(t.firstID + ID(i))
		if err != nil || r.kind != KindDatasec {
			continue
		}
		// struct btf_var_secinfo: type, offset, size.
		for j := range r.len {
			if ID(r.u32(3*j)) == id {
				v.Section = t.string(r.name)
				v.Offset = r.u32(3*j + 1)
				v.Size = r.u32(3*j + 2)
				return v, true
			}
		}
	}
	return v, true
}

// nameOffset returns the offset of the name of one of the object's own types.
func (t *Types) nameOffset(id ID) uint32 {
	return binary.LittleEndian.Uint32(t.types[t.offsets[id-t.firstID]:])
}

// A matcher compares the names of types with one name.
type matcher struct {
	t    *Types
	name string
}

func (t *Types) matcher(name string) matcher { return matcher{t, name} }

// match reports whether the string at an offset is the name. Most differ in
// length, which the byte where the NUL has to be tells at once: that is faster
// than searching the strings for the name first.
func (m *matcher) match(off uint32) bool {
	t := m.t
	if off < t.firstStr {
		b := matcher{t.base, m.name}
		return b.match(off)
	}
	start := int(off - t.firstStr)
	end := start + len(m.name)
	return end < len(t.strs) && t.strs[end] == 0 && string(t.strs[start:end]) == m.name && m.name != ""
}

// Enumerator is a name for a value.
type Enumerator struct {
	Enum   ID
	Value  uint64 // with the bits of an int64, if it is signed
	Signed bool
}

// Enumerators returns what a name stands for in the enums of this object or, if none
// has it, of its base. What was found is remembered.
func (t *Types) Enumerators(name string) []Enumerator {
	if found := t.ownEnumerators(name); len(found) > 0 || t.base == nil {
		return found
	}
	return t.base.Enumerators(name)
}

func (t *Types) ownEnumerators(name string) []Enumerator {
	t.mu.Lock()
	defer t.mu.Unlock()
	found, ok := t.enumerators[name]
	if ok {
		return found
	}
	m := t.matcher(name)
	for id, r := range t.ownEnums {
		for i := range r.len {
			if off, value := r.enumerator(i); m.match(off) {
				e := Enumerator{id, value, t.isSigned(&r)}
				if e.Signed && r.kind == KindEnum {
					e.Value = uint64(int32(value))
				}
				found = append(found, e)
			}
		}
	}
	t.enumerators[strings.Clone(name)] = found
	return found
}

// ownEnums yields the object's own enums.
func (t *Types) ownEnums(yield func(ID, record) bool) {
	for i := range t.offsets {
		id := t.firstID + ID(i)
		r, err := t.record(id)
		if err == nil && (r.kind == KindEnum || r.kind == KindEnum64) && !yield(id, r) {
			return
		}
	}
}

// enumerator returns the offset of an enumerator's name, and the bits of its value.
func (r *record) enumerator(i int) (name uint32, value uint64) {
	if r.kind == KindEnum64 { // struct btf_enum64: name_off, val_lo32, val_hi32
		return r.u32(3 * i), uint64(r.u32(3*i+1)) | uint64(r.u32(3*i+2))<<32
	}
	return r.u32(2 * i), uint64(r.u32(2*i + 1)) // struct btf_enum: name_off, val
}

// isSigned tells whether an enum has negative values. Before Linux 6.0 no enum's
// kind_flag tells (commit 6089fb325cf7): there, values from
// -4096 on are taken for negative, as long as no other is as large.
func (t *Types) isSigned(r *record) bool {
	if r.flag || r.kind == KindEnum64 || t.tellsSigns() {
		return r.flag
	}
	const lowest = -4096
	negative := false
	for i := range r.len {
		_, value := r.enumerator(i)
		switch v := int32(value); {
		case v < lowest:
			return false
		case v < 0:
			negative = true
		}
	}
	return negative
}
