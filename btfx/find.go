package btfx

import "encoding/binary"

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

// FindType returns the first type of a kind with a name, in this object or
// else in its base.
func (t *Types) FindType(kind Kind, name string) (ID, bool) {
	if id, ok := t.findOwn(kind, name); ok {
		return id, true
	}
	if t.base == nil {
		return 0, false
	}
	return t.base.FindType(kind, name)
}

// findOwn returns the first of the object's own types of a kind with a name.
func (t *Types) findOwn(kind Kind, name string) (ID, bool) {
	m := t.matcher(name)
	le := binary.LittleEndian
	for i, off := range t.offsets {
		r := t.types[off : off+recordSize]
		if infoKind(le.Uint32(r[4:])) == kind && m.match(le.Uint32(r)) {
			return t.firstID + ID(i), true
		}
	}
	return 0, false
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
	id, ok := t.findOwn(KindVar, name)
	if !ok {
		return Var{}, false
	}
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

// Enumerator returns the value of the first enumerator with a name, in this object or
// else in its base: with the bits of an int64 if its enum is signed.
func (t *Types) Enumerator(name string) (value uint64, signed, ok bool) {
	m := t.matcher(name)
	for i := range t.offsets {
		r, err := t.record(t.firstID + ID(i))
		if err != nil || r.kind != KindEnum && r.kind != KindEnum64 {
			continue
		}
		for j := range r.len {
			switch r.kind {
			case KindEnum: // struct btf_enum: name_off, val
				if m.match(r.u32(2 * j)) {
					if v := r.u32(2*j + 1); r.flag {
						return uint64(int64(int32(v))), true, true
					} else {
						return uint64(v), false, true
					}
				}
			case KindEnum64: // struct btf_enum64: name_off, val_lo32, val_hi32
				if m.match(r.u32(3 * j)) {
					return uint64(r.u32(3*j+1)) | uint64(r.u32(3*j+2))<<32, r.flag, true
				}
			}
		}
	}
	if t.base == nil {
		return 0, false, false
	}
	return t.base.Enumerator(name)
}
