package btfx

import (
	"encoding/json"
	"testing"
)

// FuzzParse walks everything there is in malformed BTF. What it finds is a
// panic, or a hang. It gets further with -fuzzminimizetime 10x.
func FuzzParse(f *testing.F) {
	types, _ := valueTypes(f)
	b := newBlob(nil)
	self := b.next
	b.composite(KindUnion, "u", 0, blobMember{name: "", typ: self}, blobMember{name: "", typ: self})
	self = b.next + 1
	b.ptr(self)
	b.proto(0, "a", self, "b", self)
	b.array(b.next, 1<<31)
	f.Add(b.bytes())
	f.Add(newBlob(nil).bytes())
	seed := newBlob(nil)
	seed.types, seed.strs = types.types, types.strs
	f.Add(seed.bytes())
	f.Fuzz(func(t *testing.T, raw []byte) {
		types, err := Parse(raw, nil)
		if err != nil {
			return
		}
		walk(t, types)
		if split, err := Parse(raw, types); err == nil {
			walk(t, split)
		}
	})
}

// walk calls everything for every type.
func walk(t *testing.T, types *Types) {
	value := make([]byte, 64)
	buf := make([]byte, 0, 4096)
	for id, name := range types.Funcs {
		types.Prototype(id)
		_, found := types.FindFunc(name)
		if !found && name != "" {
			t.Fatalf("function %d, %q, not found", id, name)
		}
	}
	_, end := types.IDs()
	for id := range end + 1 {
		types.TypeName(id)
		types.DeclName(id, "x")
		types.Size(id)
		types.Proto(id)
		types.ArgWords(id)
		types.Ref(id)
		types.ArrayLen(id)
		types.FindVar(types.Name(id))
		types.FindType(types.Kind(id), types.Name(id))
		types.Member(id, "a.b")
		if fields, err := types.Fields(id); err == nil && len(fields) > 0 {
			types.Member(id, fields[0].Name)
		}
		l, err := types.Layout(id)
		if err != nil {
			continue
		}
		for _, n := range []int{0, 1, 7, 16, len(value)} {
			buf = l.AppendText(buf[:0], value[:n], nil)
			buf = l.AppendJSON(buf[:0], value[:n], nil)
			if !json.Valid(buf) {
				t.Fatalf("%s: no JSON: %s", l.Type, buf)
			}
		}
	}
}
