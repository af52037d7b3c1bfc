package expr_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"

	"fgtrace/btfx/expr"
	"fgtrace/btfx/expr/codegen"
	"fgtrace/internal/guesttest"
)

// TestGuestExpressions runs compiled code in the kernel, over the memory of
// testdata in a map, and compares it with expr.Eval. It runs in the VMs of matrix's
// TestKernels, with testdata in /.
func TestGuestExpressions(t *testing.T) {
	guesttest.Only(t)
	t.Chdir("/")
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	f := newFixture(t)
	k := newKernelFixture(t, f)
	texts := expressions(t)
	for _, text := range texts {
		tree := f.check(t, text)
		want, err := expr.Eval(tree, &f.world)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if !k.run(t, equal(tree, want)) {
			t.Errorf("%s: not %#x in the kernel", text, want)
		}
		if k.run(t, equal(tree, want^1)) {
			t.Errorf("%s: %#x in the kernel", text, want^1)
		}
	}
	for _, text := range []string{
		"*(int *)0", "*(int *)8 == 0", "*(int *)8 != 0", "((struct packet *)0x8000000000000000)->len || 1", `(char *)8 == "x"`, `(char *)8 != "x"`,
		"n && *(long *)16 == 0", "*(long *)16 ? 1 : 1",
	} {
		if k.run(t, f.check(t, text)) {
			t.Errorf("%s: holds in the kernel", text)
		}
	}
	t.Logf("%d expressions", len(texts))
}

// kernelFixture has what a fixture has in the kernel's memory: two maps of one value.
type kernelFixture struct {
	words, memory *ebpf.Map
}

// newKernelFixture moves a fixture to where the kernel has it.
func newKernelFixture(t *testing.T, f *fixture) *kernelFixture {
	t.Helper()
	array := func(size int) *ebpf.Map {
		m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: uint32(size), MaxEntries: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.Close() })
		return m
	}
	k := &kernelFixture{words: array(8 * len(f.world.Args)), memory: array(len(f.memory))}
	// The address of the memory, left in the words.
	runProgram(t, asm.Instructions{
		asm.LoadMapValue(asm.R1, k.memory.FD(), 0),
		asm.LoadMapValue(asm.R2, k.words.FD(), 0),
		asm.StoreMem(asm.R2, 0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	})
	words := make([]uint64, len(f.world.Args))
	if err := k.words.Lookup(uint32(0), words); err != nil {
		t.Fatal(err)
	}
	base := words[0]
	if base>>63 == 0 {
		t.Fatalf("the kernel has a map at %#x", base)
	}
	moved := func(word uint64) uint64 {
		if word >= memoryAddr && word <= memoryAddr+uint64(len(f.memory)) {
			return word - memoryAddr + base
		}
		return word
	}
	for i, word := range f.world.Args {
		f.world.Args[i] = moved(word)
	}
	f.memory = bytes.Clone(f.memory)
	le := binary.LittleEndian
	for at := 0; at < len(f.memory); at += 8 {
		le.PutUint64(f.memory[at:], moved(le.Uint64(f.memory[at:])))
	}
	f.world.Read = func(addr uint64, buf []byte) error { return f.read(addr-base+memoryAddr, buf) }
	if err := k.words.Put(uint32(0), f.world.Args); err != nil {
		t.Fatal(err)
	}
	if err := k.memory.Put(uint32(0), f.memory); err != nil {
		t.Fatal(err)
	}
	return k
}

// run tells whether an expression holds.
func (k *kernelFixture) run(t *testing.T, tree *expr.Tree) bool {
	t.Helper()
	words := int16(k.words.ValueSize() / 8)
	code, err := codegen.Compile(tree, codegen.Frame{Args: -8 * words, Top: -8 * words})
	if err != nil {
		t.Fatal(err)
	}
	insns := asm.Instructions{asm.LoadMapValue(asm.R1, k.words.FD(), 0)}
	for i := range words {
		insns = append(insns, asm.LoadMem(asm.R2, asm.R1, 8*i, asm.DWord), asm.StoreMem(asm.RFP, 8*(i-words), asm.R2, asm.DWord))
	}
	return runProgram(t, append(append(insns, code.Insns...), asm.Return())) == 1
}

func runProgram(t *testing.T, insns asm.Instructions) uint32 {
	t.Helper()
	// Reads of the kernel's memory are for programs of this license.
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.RawTracepoint, Instructions: insns, License: "GPL"})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	defer prog.Close()
	got, err := prog.Run(&ebpf.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return got
}
