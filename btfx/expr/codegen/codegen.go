// Package codegen makes BPF code of expressions.
package codegen

import (
	"fmt"

	"github.com/cilium/ebpf/asm"

	"fgtrace/btfx/expr"
	"fgtrace/internal/bpfasm"
)

// Frame is where compiled code finds what it works on: offsets from the frame
// pointer, in bytes, multiples of 8.
type Frame struct {
	// Args is where the argument words are, the first one lowest.
	Args int16
	// Pointers says that words of pointers are pointers to the verifier, too, which
	// it does not let programs calculate with.
	Pointers bool
	// Direct says that the verifier lets programs read members of the structs that
	// arguments point to by loads; with Pointers.
	Direct bool
	// Retval is where the result is.
	Retval int16
	// Top is the end of the memory that the code may use, downwards.
	Top int16
	// Match appends the code of a matcher, which finds an address in R0 and leaves Yes or
	// No there, or jumps to unread. It changes R0 to R5, and uses the stack from top down
	// to bottom. Nil: there is none.
	Match func(m expr.Matcher, to *bpfasm.Code, top int16, unread bpfasm.Label) (bottom int16, err error)
}

// Code is compiled.
type Code struct {
	// Insns leave in R0 whether the expression holds: No, Yes or Unread. They change R0
	// to R5, and run from the first to behind the last.
	Insns asm.Instructions
	// Bottom is the lowest offset of the stack that is used.
	Bottom int16
}

// Answers.
const (
	No  = 0
	Yes = 1
	// Unread: a Matcher, or what is to be told of, could not read memory.
	Unread = 2
)

// stackSize is what a BPF program has (MAX_BPF_STACK).
const stackSize = 512

// Compile makes code of a condition. Where memory can't be read, it does not hold.
func Compile(t *expr.Tree, f Frame) (Code, error) {
	e := &emitter{frame: f, top: f.Top, bottom: f.Top}
	e.fault, e.unread = e.Label(), e.Label()
	if err := e.value(t); err != nil {
		return Code{}, err
	}
	end := e.Label()
	e.JumpIf(asm.JEq, asm.R0, 0, end)
	e.Add(asm.Mov.Imm(asm.R0, Yes))
	for _, other := range []struct {
		label  bpfasm.Label
		answer int32
	}{{e.fault, No}, {e.unread, Unread}} {
		if e.Used(other.label) { // else the verifier finds code that is never reached
			e.Jump(end)
			e.Place(other.label)
			e.Add(asm.Mov.Imm(asm.R0, other.answer))
		}
	}
	e.Place(end)
	return e.code()
}

func (e *emitter) code() (Code, error) {
	if e.bottom < -stackSize {
		return Code{}, fmt.Errorf("compile expression: it takes %d bytes of the stack's %d", -int(e.bottom), stackSize)
	}
	insns, err := e.Instructions()
	if err != nil {
		return Code{}, fmt.Errorf("compile expression: %w", err)
	}
	return Code{Insns: insns, Bottom: e.bottom}, nil
}

// emitter writes code. A value is left in R0; what waits for it is on the stack.
type emitter struct {
	bpfasm.Code
	frame  Frame
	fault  bpfasm.Label // memory that can't be read: the expression does not hold
	unread bpfasm.Label
	top    int16
	bottom int16

	// Of outputs.
	to        int16 // where the address is that they are written to
	tellsNull bool  // a NULL pointer is told from other faults, by going to null
	null      bpfasm.Label
}

// push takes memory on the stack, until pop.
func (e *emitter) push(bytes int16) int16 {
	e.top -= bytes
	e.bottom = min(e.bottom, e.top)
	return e.top
}

func (e *emitter) pop(bytes int16) { e.top += bytes }

// value leaves a tree's value in R0.
func (e *emitter) value(t *expr.Tree) error {
	switch t.Op {
	case expr.Const:
		e.Set(asm.R0, t.Value)
		return nil
	case expr.Arg:
		e.given(t, e.wordAt(t))
		return nil
	case expr.Retval:
		e.given(t, e.frame.Retval)
		return nil
	case expr.Both, expr.Either:
		return e.logic(t)
	case expr.Choose:
		return e.choose(t)
	case expr.Told:
		fault := e.fault
		e.fault = e.unread
		defer func() { e.fault = fault }()
		return e.value(t.X)
	}
	// A pointer to a struct would be one to the verifier, too.
	if e.frame.Direct && t.Op == expr.Load && t.Type.Kind != expr.Pointer && e.isDirect(t) {
		return e.loadField(t)
	}
	operand := e.value
	if t.Op == expr.Load || t.Op == expr.Same || t.Op == expr.Match {
		operand = e.address
	}
	if err := operand(t.X); err != nil {
		return err
	}
	switch t.Op {
	case expr.CPU:
		e.thisCPU(t.Value)
	case expr.Load:
		e.load(t)
	case expr.Same:
		e.same(t)
	case expr.Match:
		return e.match(t)
	case expr.Convert:
		if !t.Free {
			e.wrap(asm.R0, t.Type)
		}
	case expr.Negate:
		e.Add(asm.Neg.Imm(asm.R0, 0))
		e.wrap(asm.R0, t.Type)
	case expr.Invert:
		e.Add(asm.Xor.Imm(asm.R0, -1))
		e.wrap(asm.R0, t.Type)
	case expr.Swap:
		e.Add(asm.HostTo(asm.BE, asm.R0, bpfasm.SizeOf(t.Type.Size)))
	default:
		return e.binary(t)
	}
	return nil
}

// address leaves what is only used as an address in R0.
func (e *emitter) address(t *expr.Tree) error {
	x := t
	for x.Op == expr.Convert && x.Free {
		x = x.X
	}
	if (x.Op == expr.Arg || x.Op == expr.Retval) && x.Type.Size == 8 {
		e.Add(asm.LoadMem(asm.R0, asm.RFP, e.wordAt(x), asm.DWord))
		return nil
	}
	return e.value(t)
}

// wordAt returns where an argument word, or the result, is.
func (e *emitter) wordAt(t *expr.Tree) int16 {
	if t.Op == expr.Retval {
		return e.frame.Retval
	}
	return e.frame.Args + int16(8*t.Word)
}

// given leaves a word of the stack in R0, with its type's value.
func (e *emitter) given(t *expr.Tree, from int16) {
	if !e.frame.Pointers || t.Type.Kind != expr.Pointer {
		e.Add(asm.LoadMem(asm.R0, asm.RFP, from, asm.DWord))
		e.narrow(t.Type)
		return
	}
	// What comes back from memory that the verifier doesn't follow is a number.
	to := e.push(8)
	e.Add(
		asm.Mov.Reg(asm.R1, asm.RFP),
		asm.Add.Imm(asm.R1, int32(to)),
		asm.Mov.Imm(asm.R2, 8),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, int32(from)),
		asm.FnProbeReadKernel.Call(),
		asm.LoadMem(asm.R0, asm.RFP, to, asm.DWord),
	)
	e.pop(8)
}

// wrap makes a register hold the value that its low bytes have in a type.
func (e *emitter) wrap(r asm.Register, t expr.Type) {
	width := 8 * t.Size
	if t.Bits > 0 {
		width = t.Bits
	}
	switch {
	case t.Kind == expr.Bool:
		zero := e.Label()
		e.JumpIf(asm.JEq, r, 0, zero)
		e.Add(asm.Mov.Imm(r, 1))
		e.Place(zero)
	case width >= 64:
	case t.Signed:
		e.Add(asm.LSh.Imm(r, int32(64-width)), asm.ArSh.Imm(r, int32(64-width)))
	case width == 32:
		e.Add(asm.Mov.Reg32(r, r))
	case width < 32:
		e.Add(asm.And.Imm(r, int32(1<<width-1)))
	default:
		e.Add(asm.LSh.Imm(r, int32(64-width)), asm.RSh.Imm(r, int32(64-width)))
	}
}

// read copies memory at R0 + disp to the stack.
func (e *emitter) read(fn asm.BuiltinFunc, disp int64, to int16, size int32) {
	e.Add(asm.Mov.Reg(asm.R3, asm.R0))
	if disp != 0 {
		e.Add(asm.Add.Imm(asm.R3, int32(disp)))
	}
	e.Add(
		asm.Mov.Reg(asm.R1, asm.RFP),
		asm.Add.Imm(asm.R1, int32(to)),
		asm.Mov.Imm(asm.R2, size),
		fn.Call(),
	)
}

// isDirect tells whether a chain of members can be read by loads.
func (e *emitter) isDirect(t *expr.Tree) bool {
	switch {
	case t.Op == expr.Arg:
		return t.Type.Kind == expr.Pointer
	case t.Op == expr.Load && t.Field && t.Type.Bits == 0 && t.Disp == int64(int16(t.Disp)):
		return t.X.Type.Kind == expr.Pointer && e.isDirect(t.X)
	}
	return false
}

// direct leaves what lies at the end of a chain of members in R0, or jumps where a
// pointer is none of the kernel's. Such loads are not for those: JITs of older kernels
// (before 4c5de127598e on x86, 5.13) let them go to the handler of page faults, which
// may wait for the lock of the task's memory.
func (e *emitter) direct(t *expr.Tree, elsewhere bpfasm.Label) {
	if t.Op == expr.Arg {
		e.Add(asm.LoadMem(asm.R0, asm.RFP, e.wordAt(t), asm.DWord))
		return
	}
	e.direct(t.X, elsewhere)
	e.JumpIf(asm.JSGE, asm.R0, 0, elsewhere)
	e.Add(asm.LoadMem(asm.R0, asm.R0, int16(t.Disp), bpfasm.SizeOf(t.Type.Size)))
}

// loadField leaves a member in R0. A load of what isn't there gives 0, so that a 0 is
// read again in the way that tells.
func (e *emitter) loadField(t *expr.Tree) error {
	known, again := e.Label(), e.Label()
	e.direct(t, again)
	e.JumpIf(asm.JNE, asm.R0, 0, known)
	e.Place(again)
	if err := e.address(t.X); err != nil {
		return err
	}
	e.checkNull()
	at := e.push(8)
	e.read(asm.FnProbeReadKernel, t.Disp, at, int32(t.Type.Size))
	e.JumpIf(asm.JNE, asm.R0, 0, e.fault)
	e.Add(asm.LoadMem(asm.R0, asm.RFP, at, bpfasm.SizeOf(t.Type.Size)))
	e.pop(8)
	e.Place(known)
	if t.Type.Signed || t.Type.Kind == expr.Bool {
		e.narrow(t.Type)
	}
	return nil
}

func (e *emitter) load(t *expr.Tree) {
	e.checkNull()
	at := e.push(8)
	e.read(asm.FnProbeReadKernel, t.Disp, at, int32(t.Type.Size))
	e.JumpIf(asm.JNE, asm.R0, 0, e.fault)
	e.Add(asm.LoadMem(asm.R0, asm.RFP, at, bpfasm.SizeOf(t.Type.Size)))
	e.pop(8)
	if t.Shift > 0 {
		e.Add(asm.RSh.Imm(asm.R0, int32(t.Shift)))
	}
	if t.Type.Bits > 0 || t.Type.Signed || t.Type.Kind == expr.Bool {
		e.narrow(t.Type)
	}
}

func (e *emitter) match(t *expr.Tree) error {
	if e.frame.Match == nil {
		return fmt.Errorf("compile expression: there is no code for %T", t.Matcher)
	}
	bottom, err := e.frame.Match(t.Matcher, &e.Code, e.top, e.unread)
	e.bottom = min(e.bottom, bottom)
	return err
}

// narrow makes R0 hold the value that is in its low bits.
func (e *emitter) narrow(t expr.Type) {
	if t.Kind == expr.Bool {
		e.wrap(asm.R0, t.Narrow())
	}
	e.wrap(asm.R0, t)
}

// thisCPU adds this CPU's offset to R0.
func (e *emitter) thisCPU(offsets uint64) {
	at := e.push(16)
	e.Add(
		asm.StoreMem(asm.RFP, at, asm.R0, asm.DWord),
		asm.FnGetSmpProcessorId.Call(),
		asm.LSh.Imm(asm.R0, 3),
	)
	e.Set(asm.R1, offsets)
	e.Add(asm.Add.Reg(asm.R0, asm.R1))
	e.read(asm.FnProbeReadKernel, 0, at+8, 8)
	e.JumpIf(asm.JNE, asm.R0, 0, e.fault)
	e.Add(
		asm.LoadMem(asm.R0, asm.RFP, at, asm.DWord),
		asm.LoadMem(asm.R1, asm.RFP, at+8, asm.DWord),
		asm.Add.Reg(asm.R0, asm.R1),
	)
	e.pop(16)
}

// same compares the string at R0 + Disp. It may be in user space.
func (e *emitter) same(t *expr.Tree) {
	text := []byte(t.Text)
	room := int16(len(text)+2+7) &^ 7
	e.checkNull()
	kept := e.push(8)
	at := e.push(room)
	differ, end := e.Label(), e.Label()
	if t.Exact {
		e.read(asm.FnProbeReadKernel, t.Disp, at, int32(len(text)))
		e.JumpIf(asm.JNE, asm.R0, 0, e.fault)
	} else {
		read := e.Label()
		text = append(text, 0)
		// A longer string shows in the length.
		e.Add(asm.StoreMem(asm.RFP, kept, asm.R0, asm.DWord))
		e.read(asm.FnProbeReadKernelStr, t.Disp, at, int32(len(text)+1))
		e.JumpIf(asm.JSGT, asm.R0, 0, read)
		e.Add(asm.LoadMem(asm.R0, asm.RFP, kept, asm.DWord))
		e.read(asm.FnProbeReadUserStr, t.Disp, at, int32(len(text)+1))
		e.JumpIf(asm.JSLE, asm.R0, 0, e.fault)
		e.Place(read)
		e.JumpIf(asm.JNE, asm.R0, int32(len(text)), differ)
	}
	for i := 0; i < len(text); {
		n := 8
		for n > len(text)-i {
			n /= 2
		}
		var want uint64
		for j := range n {
			want |= uint64(text[i+j]) << (8 * j)
		}
		e.Add(asm.LoadMem(asm.R0, asm.RFP, at+int16(i), bpfasm.SizeOf(n)))
		if n < 8 && want < 1<<31 {
			e.JumpIf(asm.JNE, asm.R0, int32(want), differ)
		} else {
			e.Set(asm.R1, want)
			e.JumpIfReg(asm.JNE, asm.R0, asm.R1, differ)
		}
		i += n
	}
	e.Add(asm.Mov.Imm(asm.R0, 1))
	e.Jump(end)
	e.Place(differ)
	e.Add(asm.Mov.Imm(asm.R0, 0))
	e.Place(end)
	e.pop(room)
	e.pop(8)
}

func (e *emitter) logic(t *expr.Tree) error {
	op, end, known := asm.JumpOp(asm.JEq), e.Label(), e.Label()
	if t.Op == expr.Either {
		op = asm.JNE
	}
	if err := e.value(t.X); err != nil {
		return err
	}
	e.JumpIf(op, asm.R0, 0, known)
	if err := e.value(t.Y); err != nil {
		return err
	}
	e.JumpIf(asm.JEq, asm.R0, 0, end)
	e.Place(known)
	if t.Op == expr.Either {
		e.Add(asm.Mov.Imm(asm.R0, 1))
		e.Place(end)
		return nil
	}
	// Both: X did not hold, and R0 is 0, or Y does.
	e.JumpIf(asm.JEq, asm.R0, 0, end)
	e.Add(asm.Mov.Imm(asm.R0, 1))
	e.Place(end)
	return nil
}

func (e *emitter) choose(t *expr.Tree) error {
	other, end := e.Label(), e.Label()
	if err := e.value(t.X); err != nil {
		return err
	}
	e.JumpIf(asm.JEq, asm.R0, 0, other)
	if err := e.value(t.Y); err != nil {
		return err
	}
	e.Jump(end)
	e.Place(other)
	if err := e.value(t.Z); err != nil {
		return err
	}
	e.Place(end)
	return nil
}

// binary calculates with X, which is in R0, and Y.
func (e *emitter) binary(t *expr.Tree) error {
	if v := t.Y.Value; t.Y.Op == expr.Const && int64(v) == int64(int32(v)) && !(t.X.Type.Signed && (t.Op == expr.Div || t.Op == expr.Mod)) {
		e.operateImm(t, int32(v))
		return nil
	}
	if e.isLeaf(t.Y) {
		e.Add(asm.Mov.Reg(asm.R2, asm.R0))
		if err := e.value(t.Y); err != nil {
			return err
		}
		e.Add(asm.Mov.Reg(asm.R1, asm.R0), asm.Mov.Reg(asm.R0, asm.R2))
	} else {
		at := e.push(8)
		e.Add(asm.StoreMem(asm.RFP, at, asm.R0, asm.DWord))
		if err := e.value(t.Y); err != nil {
			return err
		}
		e.Add(asm.Mov.Reg(asm.R1, asm.R0), asm.LoadMem(asm.R0, asm.RFP, at, asm.DWord))
		e.pop(8)
	}
	e.operate(t)
	return nil
}

// isLeaf tells values that take no more than R0.
func (e *emitter) isLeaf(t *expr.Tree) bool {
	return t.Op == expr.Const || (t.Op == expr.Arg || t.Op == expr.Retval) && !(e.frame.Pointers && t.Type.Kind == expr.Pointer)
}

var aluOps = map[expr.Op]asm.ALUOp{expr.Add: asm.Add, expr.Sub: asm.Sub, expr.Mul: asm.Mul, expr.Div: asm.Div, expr.Mod: asm.Mod, expr.BitAnd: asm.And, expr.BitOr: asm.Or, expr.BitXor: asm.Xor,
	expr.ShiftLeft: asm.LSh, expr.ShiftRight: asm.RSh}

func aluOp(t *expr.Tree) asm.ALUOp {
	if t.Op == expr.ShiftRight && t.X.Type.Signed {
		return asm.ArSh
	}
	return aluOps[t.Op]
}

// jumpOp returns the jump that is taken where a comparison holds.
func jumpOp(t *expr.Tree) (asm.JumpOp, bool) {
	signed := t.X.Type.Signed
	switch {
	case t.Op == expr.Equal:
		return asm.JEq, true
	case t.Op == expr.NotEqual:
		return asm.JNE, true
	case t.Op == expr.Less && signed:
		return asm.JSLT, true
	case t.Op == expr.Less:
		return asm.JLT, true
	case t.Op == expr.LessEqual && signed:
		return asm.JSLE, true
	case t.Op == expr.LessEqual:
		return asm.JLE, true
	}
	return 0, false
}

// truth turns a jump that is taken into 1, one that is not into 0.
func (e *emitter) truth(jump func(label bpfasm.Label)) {
	holds, end := e.Label(), e.Label()
	jump(holds)
	e.Add(asm.Mov.Imm(asm.R0, 0))
	e.Jump(end)
	e.Place(holds)
	e.Add(asm.Mov.Imm(asm.R0, 1))
	e.Place(end)
}

func (e *emitter) operateImm(t *expr.Tree, imm int32) {
	if op, ok := jumpOp(t); ok {
		e.truth(func(label bpfasm.Label) { e.JumpIf(op, asm.R0, imm, label) })
		return
	}
	switch {
	case t.Op == expr.ShiftLeft || t.Op == expr.ShiftRight:
		imm &= int32(8*t.Type.Size - 1)
	case imm == 0 && t.Op == expr.Div: // the verifier refuses it
		e.Add(asm.Mov.Imm(asm.R0, 0))
		return
	case imm == 0 && t.Op == expr.Mod:
		return
	}
	e.Add(aluOp(t).Imm(asm.R0, imm))
	e.wrap(asm.R0, t.Type)
}

func (e *emitter) operate(t *expr.Tree) {
	if op, ok := jumpOp(t); ok {
		e.truth(func(label bpfasm.Label) { e.JumpIfReg(op, asm.R0, asm.R1, label) })
		return
	}
	switch {
	case (t.Op == expr.Div || t.Op == expr.Mod) && t.X.Type.Signed:
		e.signedDivision(t.Op)
	case t.Op == expr.ShiftLeft || t.Op == expr.ShiftRight:
		e.Add(asm.And.Imm(asm.R1, int32(8*t.Type.Size-1)))
		e.Add(aluOp(t).Reg(asm.R0, asm.R1))
	default:
		e.Add(aluOp(t).Reg(asm.R0, asm.R1))
	}
	e.wrap(asm.R0, t.Type)
}

// signedDivision divides R0 by R1 without BPF's own instruction for that (Linux 6.6).
func (e *emitter) signedDivision(op expr.Op) {
	e.Add(asm.Mov.Reg(asm.R2, asm.R0)) // its sign bit is that of the result
	if op == expr.Div {
		e.Add(asm.Xor.Reg(asm.R2, asm.R1))
	}
	for _, r := range []asm.Register{asm.R0, asm.R1} {
		positive := e.Label()
		e.JumpIf(asm.JSGE, r, 0, positive)
		e.Add(asm.Neg.Imm(r, 0))
		e.Place(positive)
	}
	e.Add(aluOps[op].Reg(asm.R0, asm.R1))
	positive := e.Label()
	e.JumpIf(asm.JSGE, asm.R2, 0, positive)
	e.Add(asm.Neg.Imm(asm.R0, 0))
	e.Place(positive)
}
