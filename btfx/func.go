package btfx

import "fmt"

// Proto is what a function takes and returns.
type Proto struct {
	Params   []Param
	Ret      ID // 0 for void
	Variadic bool
}

// Param is a parameter of a function. Name is empty where BTF has none, as in
// the types of function pointers.
type Param struct {
	Name string
	Type ID
}

// Proto returns the prototype of a BTF_KIND_FUNC, or of a BTF_KIND_FUNC_PROTO.
func (t *Types) Proto(fn ID) (Proto, error) {
	r, err := t.record(fn)
	if err == nil && r.kind == KindFunc {
		r, err = t.record(r.ref())
	}
	if err != nil {
		return Proto{}, fmt.Errorf("read prototype of %d: %w", fn, err)
	}
	if r.kind != KindFuncProto {
		return Proto{}, fmt.Errorf("read prototype of %d: a %s is no function", fn, r.kind)
	}
	p := Proto{Ret: r.ref(), Params: make([]Param, 0, r.len)}
	for i := range r.len {
		// struct btf_param: name_off, type. One without both, the last, is
		// the "..." of a variadic function.
		name, typ := r.u32(2*i), ID(r.u32(2*i+1))
		if i == r.len-1 && name == 0 && typ == 0 {
			p.Variadic = true
			break
		}
		p.Params = append(p.Params, Param{Name: t.string(name), Type: typ})
	}
	return p, nil
}

// maxArgSize is the size of the largest argument that a BPF trampoline saves,
// in bytes: btf_distill_func_proto in kernel/bpf/btf.c.
const maxArgSize = 16

// UnsupportedArgError tells that a BPF trampoline can't save an argument, so
// that no fentry or fexit program can be attached to its function.
type UnsupportedArgError struct {
	Type string // in C
	Size int    // in bytes; 0 if it isn't the reason
}

func (e *UnsupportedArgError) Error() string {
	if e.Size > maxArgSize {
		return fmt.Sprintf("argument of type %s has %d bytes, more than the %d that a BPF trampoline saves",
			e.Type, e.Size, maxArgSize)
	}
	return fmt.Sprintf("argument of type %s isn't supported by BPF trampolines", e.Type)
}

// ArgWords returns the number of 8-byte words that an argument of a type takes
// in the context of a BPF trampoline: 1, or 2 for a struct, a union or an
// integer of 9 to 16 bytes. What trampolines refuse is an *UnsupportedArgError.
//
// This follows __get_type_size and btf_distill_func_proto in kernel/bpf/btf.c.
// Kernels before 6.18 refuse unions passed by value, too, and those before 6.1
// structs.
func (t *Types) ArgWords(id ID) (int, error) {
	_, r, err := t.resolve(id)
	if err != nil {
		return 0, fmt.Errorf("count words of argument: %w", err)
	}
	size := 0
	switch r.kind {
	case KindPtr:
		size = pointerSize
	case KindInt, KindEnum, KindEnum64, KindStruct, KindUnion:
		size = int(r.word)
	}
	if size == 0 || size > maxArgSize {
		return 0, &UnsupportedArgError{Type: t.TypeName(id), Size: size}
	}
	return (size + 7) / 8, nil
}
