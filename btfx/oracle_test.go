package btfx

import (
	"bytes"
	"testing"

	"github.com/cilium/ebpf/btf"
)

// kindOf returns the kind of a type as the other reader has it.
func kindOf(typ btf.Type) Kind {
	switch typ := typ.(type) {
	case *btf.Void:
		return KindVoid
	case *btf.Int:
		return KindInt
	case *btf.Pointer:
		return KindPtr
	case *btf.Array:
		return KindArray
	case *btf.Struct:
		return KindStruct
	case *btf.Union:
		return KindUnion
	case *btf.Enum:
		if typ != nil && typ.Size == 8 {
			return KindEnum64
		}
		return KindEnum
	case *btf.Fwd:
		return KindFwd
	case *btf.Typedef:
		return KindTypedef
	case *btf.Volatile:
		return KindVolatile
	case *btf.Const:
		return KindConst
	case *btf.Restrict:
		return KindRestrict
	case *btf.Func:
		return KindFunc
	case *btf.FuncProto:
		return KindFuncProto
	case *btf.Var:
		return KindVar
	case *btf.Datasec:
		return KindDatasec
	case *btf.Float:
		return KindFloat
	case *btf.TypeTag:
		return KindTypeTag
	}
	return 255
}

// TestOracle compares everything with what cilium/ebpf reads.
func TestOracle(t *testing.T) {
	t.Run("fixture", func(t *testing.T) { compare(t, fixtureBTF(t)) })
	t.Run("running kernel", func(t *testing.T) { compare(t, hostBTF(t)) })
}

func compare(t *testing.T, raw []byte) {
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	types, err := Parse(raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	o := oracle{t, spec, types}
	first, end := types.IDs()
	checked := 0
	for id := first; id < end; id++ {
		if types.Kind(id) == KindDeclTag {
			continue // has no type of its own there
		}
		typ, err := spec.TypeByID(btf.TypeID(id))
		if err != nil {
			t.Fatalf("type %d: %v", id, err)
		}
		o.compare(id, typ)
		checked++
		if t.Failed() {
			t.Fatalf("type %d: %v", id, typ)
		}
	}
	funcs := 0
	for id, name := range types.Funcs {
		funcs++
		if name != types.Name(id) {
			t.Fatalf("function %d: %q instead of %q", id, name, types.Name(id))
		}
		// Looking up one after another takes time, so not all are.
		if funcs%97 == 0 || end < 5000 {
			o.compareFind(id, name)
		}
	}
	t.Logf("%d types, %d of them functions", checked, funcs)
}

type oracle struct {
	*testing.T
	spec  *btf.Spec
	types *Types
}

func (o *oracle) id(typ btf.Type) ID {
	if _, ok := typ.(*btf.Void); ok {
		return 0
	}
	id, err := o.spec.TypeID(typ)
	if err != nil {
		o.Fatal(err)
	}
	return ID(id)
}

func (o *oracle) equal(what string, got, want any) {
	o.Helper()
	if got != want {
		o.Errorf("%s: %v instead of %v", what, got, want)
	}
}

func (o *oracle) compare(id ID, typ btf.Type) {
	o.Helper()
	kind := o.types.Kind(id)
	if e, ok := typ.(*btf.Enum); !ok || e.Size == 8 {
		o.equal("kind", kind, kindOf(typ))
	}
	if tag, ok := typ.(*btf.TypeTag); ok {
		o.equal("name", o.types.Name(id), tag.Value)
	} else {
		o.equal("name", o.types.Name(id), typ.TypeName())
	}
	o.compareSize(id, typ)

	switch typ := typ.(type) {
	case *btf.Struct:
		o.compareMembers(id, typ.Members)
	case *btf.Union:
		o.compareMembers(id, typ.Members)
	case *btf.Func:
		o.compareProto(id, typ.Type.(*btf.FuncProto))
	case *btf.FuncProto:
		o.compareProto(id, typ)
	case *btf.Enum:
		o.compareEnum(id, typ)
	case *btf.Array:
		n, err := o.types.ArrayLen(id)
		o.equal("array error", err, nil)
		o.equal("array", n, int(typ.Nelems))
		o.compareRef(id, typ.Type)
	case *btf.Pointer:
		o.compareRef(id, typ.Target)
	case *btf.Typedef:
		o.compareRef(id, typ.Type)
	case *btf.Const:
		o.compareRef(id, typ.Type)
	case *btf.Volatile:
		o.compareRef(id, typ.Type)
	case *btf.Restrict:
		o.compareRef(id, typ.Type)
	case *btf.TypeTag:
		o.compareRef(id, typ.Type)
	case *btf.Var:
		o.compareRef(id, typ.Type)
	case *btf.Datasec:
		for _, v := range typ.Vars {
			got, ok := o.types.FindVar(v.Type.TypeName())
			o.equal("variable found", ok, true)
			o.equal("variable", got, Var{ID: o.id(v.Type), Type: o.id(v.Type.(*btf.Var).Type),
				Section: typ.Name, Offset: v.Offset, Size: v.Size})
		}
	}
}

func (o *oracle) compareRef(id ID, want btf.Type) {
	o.Helper()
	got, err := o.types.Ref(id)
	o.equal("error", err, nil)
	o.equal("refers to", got, o.id(want))
}

func (o *oracle) compareSize(id ID, typ btf.Type) {
	o.Helper()
	kind := o.types.Kind(id)
	got, err := o.types.Size(id)
	switch kind {
	case KindFunc, KindFuncProto, KindDatasec, KindVar:
		return // sizes differ by definition
	}
	want, wantErr := btf.Sizeof(typ)
	switch u := btf.UnderlyingType(typ).(type) {
	case *btf.Fwd, *btf.Void, *btf.FuncProto:
		// Here they have no size, there 0.
		o.equal("size fails", err != nil, true)
		return
	case *btf.Float:
		want, wantErr = int(u.Size), nil
	}
	o.equal("size error", err, wantErr)
	o.equal("size", got, want)
	if err != nil {
		return
	}
	l, err := o.types.Layout(id)
	if err != nil {
		o.Errorf("layout: %v", err)
		return
	}
	o.equal("size of layout", l.Size, want)
}

func (o *oracle) compareMembers(id ID, want []btf.Member) {
	o.Helper()
	got, err := o.types.Fields(id)
	o.equal("error", err, nil)
	o.equal("members", len(got), len(want))
	if o.Failed() {
		return
	}
	for i, m := range want {
		o.equal("member", got[i], Field{Name: m.Name, Type: o.id(m.Type), Offset: int(m.Offset), Bits: int(m.BitfieldSize)})
		if m.Name != "" {
			f, err := o.types.Member(id, m.Name)
			o.equal("error of member", err, nil)
			o.equal("member by name", f, got[i])
		}
	}
}

func (o *oracle) compareProto(id ID, want *btf.FuncProto) {
	o.Helper()
	got, err := o.types.Proto(id)
	o.equal("error", err, nil)
	o.equal("returns", got.Ret, o.id(want.Return))
	params := want.Params
	if n := len(params); n > 0 && params[n-1].Name == "" {
		if _, ok := params[n-1].Type.(*btf.Void); ok {
			params = params[:n-1]
			o.equal("variadic", got.Variadic, true)
		}
	}
	o.equal("parameters", len(got.Params), len(params))
	if o.Failed() {
		return
	}
	for i, p := range params {
		o.equal("parameter", got.Params[i], Param{Name: p.Name, Type: o.id(p.Type)})
	}
}

func (o *oracle) compareEnum(id ID, want *btf.Enum) {
	o.Helper()
	l, err := o.types.Layout(id)
	if err != nil {
		o.Errorf("layout: %v", err)
		return
	}
	o.equal("signed", l.Signed, want.Signed)
	o.equal("enumerators", len(l.Values), len(want.Values))
	for _, v := range want.Values {
		got, ok := l.EnumNumber(v.Name)
		o.equal("has "+v.Name, ok, true)
		o.equal(v.Name, got, v.Value)
		_, ok = l.EnumName(v.Value)
		o.equal("has the value of "+v.Name, ok, true)
	}
}

func (o *oracle) compareFind(id ID, name string) {
	o.Helper()
	var want []ID
	all, err := o.spec.AnyTypesByName(name)
	o.equal("error", err, nil)
	for _, typ := range all {
		if _, ok := typ.(*btf.Func); ok {
			want = append(want, o.id(typ))
		}
	}
	got := o.types.FindFuncs(name)
	o.equal("functions named "+name, len(got), len(want))
	found := false
	for _, g := range got {
		found = found || g == id
	}
	o.equal("finds itself", found, true)
	one, ok := o.types.FindFunc(name)
	o.equal("finds one", ok && one == got[0], true)
}
