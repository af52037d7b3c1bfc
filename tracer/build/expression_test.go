package build

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	rawbpf "golang.org/x/net/bpf"

	"fgtrace/arch"
	"fgtrace/bpf"
	"fgtrace/bpf/wire"
	"fgtrace/btfx"
	"fgtrace/btfx/expr"
	"fgtrace/internal/bpfvm"
	"fgtrace/internal/btftest"
	"fgtrace/tracer/packet"
)

// mark is the load that stands for a condition.
var mark = asm.LoadImm(asm.R0, int64(wire.ConfigMark+wire.ConfigCondition), asm.DWord)

// condition makes one over words that are numbers.
func condition(t *testing.T, text string, words ...int) *expr.Tree {
	t.Helper()
	types := btftest.Types(t, btftest.Long)
	long, ok := types.FindType(btfx.KindInt, "long")
	if !ok {
		t.Fatal("no long")
	}
	scope := expr.Scope{Types: types}
	for i, word := range words {
		scope.Params = append(scope.Params, expr.Param{Name: string(rune('a' + i)), Type: long, Word: word})
	}
	tree, err := expr.Condition(text, scope)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// TestSplice: code around a condition goes where it went, and the stack that it uses
// is left alone.
func TestSplice(t *testing.T) {
	regs := arch.AMD64().Regs
	const ctx, stack = 0x1000, 0x9000
	memory := map[uint64]uint64{}
	for i := range uint64(12) {
		memory[ctx+8*i] = 100 + i // of a trampoline
	}
	read := func(addr uint64, buf []byte) error {
		for i := 0; i < len(buf); i += 8 {
			at := addr + uint64(i)
			v := memory[at]
			if at >= stack {
				v = 200 + (at-stack-uint64(regs.StackArgs))/8
			}
			for j := range 8 {
				buf[i+j] = byte(v >> (8 * j))
			}
		}
		return nil
	}
	for _, test := range []struct {
		name string
		from Expressions
		text string
		word int // of a
		want uint64
	}{
		{"none", Expressions{}, "", 0, 30},
		{"holds", Expressions{Copy: true}, "a == 102 && b == 104", 2, 30},
		{"does not", Expressions{Copy: true}, "a == 103", 2, 20},
		{"no arguments", Expressions{Copy: true}, "1", 2, 30},
		{"of the stack", Expressions{Regs: &regs}, "a == 201 && b == 203", 7, 30},
		{"not of the stack", Expressions{Regs: &regs}, "a == 200", 7, 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			insns := asm.Instructions{
				asm.Mov.Imm(asm.R6, ctx),
				asm.Mov.Imm(asm.R7, 5),
				asm.StoreMem(asm.RFP, -24, asm.R7, asm.DWord),
				jump(asm.JEq, asm.R7, 6, 6), // over the mark
				asm.Mov.Reg(asm.R1, asm.R6),
				mark,
				jump(asm.JEq, asm.R0, 0, 2),
				asm.Mov.Imm(asm.R8, 25),
				always(1),
				asm.Mov.Imm(asm.R8, 15),
				asm.LoadMem(asm.R0, asm.RFP, -24, asm.DWord),
				asm.Add.Reg(asm.R0, asm.R8),
				jump(asm.JGT, asm.R7, 5, -11), // back over it
				asm.Return(),
			}
			e := test.from
			if test.text != "" {
				e.Condition = condition(t, test.text, test.word, test.word+2)
			}
			code, err := splice(insns, e)
			if err != nil {
				t.Fatal(err)
			}
			if e.Regs != nil { // there is no such memory to load from
				for i := range code {
					if ins := &code[i]; ins.OpCode.Class() == asm.LdXClass && ins.Src == asm.R1 && int(ins.Offset) == regs.SP {
						*ins = asm.Mov.Imm(asm.R3, stack)
					}
				}
			}
			vm := bpfvm.VM{Read: read}
			if got, err := vm.Run(code); err != nil || got != test.want {
				t.Errorf("%d, %v, want %d\n%v", got, err, test.want, code)
			}
		})
	}
}

// TestSpliceLimits: numbers that look like marks are numbers, and what is too large is
// refused.
func TestSpliceLimits(t *testing.T) {
	insns := asm.Instructions{jump(asm.JEq, asm.R1, 0, 2), mark, asm.Return()}
	e := Expressions{Copy: true}
	e.Condition = condition(t, fmt.Sprintf("a == %d", uint64(wire.ConfigMark+wire.ConfigCondition)), 0)
	code, err := splice(insns, e)
	if err != nil || len(code) < 5 {
		t.Errorf("%v, %v", code, err)
	}
	var terms []string
	for i := range 60 {
		terms = append(terms, fmt.Sprintf("a * %d / (a + 1) %% (a + 2) == a ^ (a | %d)", i+1, i))
	}
	e.Condition = condition(t, strings.Join(terms, " || "), 0)
	const marks = 64
	over := asm.Instructions{jump(asm.JEq, asm.R1, 0, 2*marks)}
	for range marks {
		over = append(over, mark)
	}
	if _, err := splice(append(over, asm.Return()), e); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("a jump over %d times the code: %v", marks, err)
	}
}

// TestProgramsHaveMarks: the programs that run at entries ask and take, others don't.
func TestProgramsHaveMarks(t *testing.T) {
	for name, want := range map[string][6]int{
		bpf.ProgEntry: {2, 0, 1, 2, 2, 2}, bpf.ProgExit: {0, 2}, bpf.ProgSession: {2, 2, 1, 2, 2, 2}, bpf.ProgProbe: {2, 2, 1, 2, 2, 2}, bpf.ProgKprobe: {1, 0, 1, 1, 1, 1}, bpf.ProgFree: {},
	} {
		var n [6]int
		for _, ins := range object(t).Programs[name].Instructions {
			if isMark(&ins) && uint32(ins.Constant) >= wire.ConfigCondition {
				n[uint32(ins.Constant)-wire.ConfigCondition]++
			}
		}
		if n != want {
			t.Errorf("%s has %d places for expressions, want %d", name, n, want)
		}
	}
}

// TestPacketBytes: programs whose filters look into packets have the function that reads
// fragments, with its type, and no others have it.
func TestPacketBytes(t *testing.T) {
	function, err := PacketBytes(object(t).Programs[bpf.FuncPacketBytes].Instructions, packet.Fragments{PageSize: 64, PageShift: 12, Most: 17})
	if err != nil {
		t.Fatal(err)
	}
	first := []rawbpf.RawInstruction{{Op: 0x30}, {Op: 0x16}} // whatever the first byte is but 0
	form := &packet.Form{Name: "xdp_buff", Fields: map[string]packet.Field{"data": {Size: 8}, "data_end": {Offset: 8, Size: 8}}}
	matcher, err := (&packet.Filter{Ethernet: first}).Of(form)
	if err != nil {
		t.Fatal(err)
	}
	constants := make(Constants)
	for id := range configNames {
		constants[uint32(id)] = 0
	}
	for _, id := range []uint32{wire.ConfigTaskPid, wire.ConfigTaskTgid, wire.ConfigTaskComm, wire.ConfigTaskCommHi} {
		constants[id] = 8
	}
	constants[wire.ConfigFilter] = 1
	template := object(t).Programs[bpf.ProgEntry].Instructions
	for _, test := range []struct {
		name      string
		condition *expr.Tree
		function  asm.Instructions
		want      int // functions
	}{
		{"filter", expr.Matches(matcher, expr.Param{}), function, 2},
		{"filter, fragments not known", expr.Matches(matcher, expr.Param{}), nil, 1},
		{"expression", condition(t, "a == 1", 0), function, 1},
		{"nothing", nil, function, 1},
	} {
		e := Expressions{PacketBytes: test.function}
		e.Condition = test.condition
		insns, err := Program(template, constants, e)
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		var functions []*btf.Func
		for i := range insns {
			if f := btf.FuncMetadata(&insns[i]); f != nil {
				functions = append(functions, f)
			}
		}
		if len(functions) != test.want || test.want == 2 && functions[1].Linkage != btf.GlobalFunc {
			t.Errorf("%s: %v", test.name, functions)
		}
		if calls := len(insns.FunctionReferences()); calls != test.want-1 {
			t.Errorf("%s: it calls %d functions", test.name, calls)
		}
	}
}
