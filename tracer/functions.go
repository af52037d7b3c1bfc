package tracer

import (
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"fgtrace/bpf"
	"fgtrace/internal/bpfsys"
	"fgtrace/tracer/build"
	"fgtrace/tracer/packet"
)

// packetBytes is the function that programs call for what packet filters look for in
// fragments, and the types of all functions: one is global only if it has one, and so has
// the program that calls it.
type packetBytes struct {
	insns asm.Instructions
	types *btf.Handle
	ids   map[*btf.Func]btf.TypeID
}

// newPacketBytes makes it for a kernel that has fragments there.
func newPacketBytes(c collection, f packet.Fragments) (p packetBytes, err error) {
	template, ok := c.spec.Programs[bpf.FuncPacketBytes]
	if !ok {
		return p, fmt.Errorf("load function %s: it is not in the object", bpf.FuncPacketBytes)
	}
	if p.insns, err = build.PacketBytes(template.Instructions, f); err != nil {
		return p, err
	}
	builder, err := btf.NewBuilder(nil, nil)
	if err != nil {
		return p, fmt.Errorf("make types of functions: %w", err)
	}
	p.ids = make(map[*btf.Func]btf.TypeID)
	for _, name := range slices.Sorted(maps.Keys(c.spec.Programs)) {
		function := btf.FuncMetadata(&c.spec.Programs[name].Instructions[0])
		if p.ids[function], err = builder.Add(function); err != nil {
			return p, fmt.Errorf("make types of functions: %w", err)
		}
	}
	if p.types, err = btf.NewHandle(builder); err != nil {
		return p, fmt.Errorf("load types of functions: %w", err)
	}
	return p, nil
}

// describe tells the types of a program's functions, if it has more than one.
func (p packetBytes) describe(to *bpfsys.Program) {
	if p.types == nil {
		return
	}
	var functions []bpfsys.Function
	iter := to.Insns.Iterate()
	for iter.Next() {
		if function := btf.FuncMetadata(iter.Ins); function != nil {
			functions = append(functions, bpfsys.Function{Offset: uint32(iter.Offset), Type: uint32(p.ids[function])})
		}
	}
	if len(functions) > 1 {
		to.BTF, to.Functions = p.types.FD(), functions
	}
}

func (p packetBytes) close() {
	if p.types != nil {
		p.types.Close()
	}
}
