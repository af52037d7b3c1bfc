// Package btftest makes BTF for tests.
package btftest

import (
	"encoding/binary"
	"testing"

	"github.com/cilium/ebpf/btf"

	"fgtrace/btfx"
)

// Types of C.
var (
	Int   = &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	Long  = &btf.Int{Name: "long", Size: 8, Encoding: btf.Signed}
	U32   = &btf.Int{Name: "unsigned int", Size: 4}
	U64   = &btf.Int{Name: "unsigned long", Size: 8}
	Bool  = &btf.Int{Name: "_Bool", Size: 1, Encoding: btf.Bool}
	Char  = &btf.Int{Name: "char", Size: 1, Encoding: btf.Signed}
	CharP = &btf.Pointer{Target: &btf.Const{Type: Char}}
	VoidP = &btf.Pointer{Target: &btf.Void{}}
)

// Func returns a function: its name, what it returns (nil: nothing), then names
// and types of its parameters in turn.
func Func(name string, ret btf.Type, params ...any) *btf.Func {
	if ret == nil {
		ret = &btf.Void{}
	}
	proto := &btf.FuncProto{Return: ret}
	for i := 0; i < len(params); i += 2 {
		proto.Params = append(proto.Params, btf.FuncParam{Name: params[i].(string), Type: params[i+1].(btf.Type)})
	}
	return &btf.Func{Name: name, Type: proto, Linkage: btf.StaticFunc}
}

// Variadic makes a function take "..." behind its parameters.
func Variadic(f *btf.Func) *btf.Func {
	proto := f.Type.(*btf.FuncProto)
	proto.Params = append(proto.Params, btf.FuncParam{Type: &btf.Void{}})
	return f
}

// Struct returns a struct of members that follow one another without padding:
// names, types and sizes in bytes in turn.
func Struct(name string, members ...any) *btf.Struct {
	s := &btf.Struct{Name: name}
	for i := 0; i < len(members); i += 3 {
		s.Members = append(s.Members, btf.Member{
			Name: members[i].(string), Type: members[i+1].(btf.Type), Offset: btf.Bits(8 * s.Size),
		})
		s.Size += uint32(members[i+2].(int))
	}
	return s
}

// Raw returns BTF of these types and what they need.
func Raw(tb testing.TB, types ...btf.Type) []byte {
	tb.Helper()
	b, err := btf.NewBuilder(types, nil)
	if err != nil {
		tb.Fatal(err)
	}
	raw, err := b.Marshal(nil, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

// Types returns BTF of these types and what they need.
func Types(tb testing.TB, types ...btf.Type) *btfx.Types {
	tb.Helper()
	return Parse(tb, Raw(tb, types...), nil)
}

// Parse reads BTF.
func Parse(tb testing.TB, raw []byte, base *btfx.Types) *btfx.Types {
	tb.Helper()
	t, err := btfx.Parse(raw, base)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// Module returns BTF split from vmlinux's, as a module's: functions of these
// names that all have the prototype of one of vmlinux's.
func Module(tb testing.TB, vmlinux []byte, base *btfx.Types, like string, names ...string) *btfx.Types {
	tb.Helper()
	fn, ok := base.FindFunc(like)
	if !ok {
		tb.Fatalf("no function %s", like)
	}
	proto, err := base.Ref(fn)
	if err != nil {
		tb.Fatal(err)
	}
	firstStr := binary.LittleEndian.Uint32(vmlinux[20:]) // str_len: strings go on behind the base's
	var strs, types []byte
	for _, name := range names {
		types = binary.LittleEndian.AppendUint32(types, firstStr+uint32(len(strs)))
		types = binary.LittleEndian.AppendUint32(types, uint32(btfx.KindFunc)<<24)
		types = binary.LittleEndian.AppendUint32(types, uint32(proto))
		strs = append(append(strs, name...), 0)
	}
	raw := []byte{0x9f, 0xeb, 1, 0} // struct btf_header
	for _, v := range []int{24, 0, len(types), len(types), len(strs)} {
		raw = binary.LittleEndian.AppendUint32(raw, uint32(v))
	}
	return Parse(tb, append(append(raw, types...), strs...), base)
}
