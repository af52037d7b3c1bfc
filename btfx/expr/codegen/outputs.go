package codegen

import (
	"fmt"

	"github.com/cilium/ebpf/asm"

	"fgtrace/btfx/expr"
	"fgtrace/internal/bpfasm"
)

// Piece is an output, and where it goes.
type Piece struct {
	Output *expr.Output
	// Offset is behind the address that the code writes to: of 8 bytes that say what
	// comes behind them. More than 0: so many bytes; 0: there was a NULL pointer; less: a
	// negative errno.
	Offset int
}

// StatusSize is how many bytes of a piece are in front of its value.
const StatusSize = 8

// fault is -EFAULT.
const fault = -14

// CompileOutputs makes code that takes values, and writes them to memory whose address
// is at the offset to from the frame pointer. Of values that can't be read, it is said
// why.
func CompileOutputs(pieces []Piece, f Frame, to int16) (Code, error) {
	e := &emitter{frame: f, top: f.Top, bottom: f.Top, to: to, tellsNull: true}
	for _, p := range pieces {
		if err := e.piece(p); err != nil {
			return Code{}, fmt.Errorf("compile %s: %w", p.Output.Text, err)
		}
	}
	return e.code()
}

// piece leaves what it says of a value in R2.
func (e *emitter) piece(p Piece) error {
	o := p.Output
	e.fault, e.null = e.Label(), e.Label()
	done := e.Label()
	at := p.Offset + StatusSize
	if o.Take == expr.TakeNumber {
		if err := e.value(o.Tree); err != nil {
			return err
		}
		e.Add(
			asm.LoadMem(asm.R1, asm.RFP, e.to, asm.DWord),
			asm.StoreMem(asm.R1, int16(at), asm.R0, asm.DWord),
			asm.Mov.Imm(asm.R2, int32(o.Size)),
		)
		e.Jump(done)
	} else {
		if err := e.address(o.Tree); err != nil {
			return err
		}
		e.checkNull()
		e.take(o, at, done)
	}
	for _, other := range []struct {
		label  bpfasm.Label
		status int32
	}{{e.null, 0}, {e.fault, fault}} {
		if e.Used(other.label) {
			e.Place(other.label)
			e.Add(asm.Mov.Imm(asm.R2, other.status))
			e.Jump(done)
		}
	}
	e.Place(done)
	e.Add(
		asm.LoadMem(asm.R1, asm.RFP, e.to, asm.DWord),
		asm.StoreMem(asm.R1, int16(p.Offset), asm.R2, asm.DWord),
	)
	return nil
}

// take copies what is at the address in R0.
func (e *emitter) take(o *expr.Output, at int, done bpfasm.Label) {
	copyBy := func(fn asm.BuiltinFunc) {
		e.Add(asm.Mov.Reg(asm.R3, asm.R0))
		if o.Disp != 0 {
			e.Add(asm.Add.Imm(asm.R3, int32(o.Disp)))
		}
		e.Add(
			asm.LoadMem(asm.R1, asm.RFP, e.to, asm.DWord),
			asm.Add.Imm(asm.R1, int32(at)),
			asm.Mov.Imm(asm.R2, int32(o.Size)),
			fn.Call(),
		)
	}
	// It may be in user space.
	kept := e.push(8)
	e.Add(asm.StoreMem(asm.RFP, kept, asm.R0, asm.DWord))
	if o.Take == expr.TakeBytes {
		have := e.Label()
		copyBy(asm.FnProbeReadKernel)
		e.JumpIf(asm.JEq, asm.R0, 0, have)
		e.Add(asm.LoadMem(asm.R0, asm.RFP, kept, asm.DWord))
		copyBy(asm.FnProbeReadUser)
		e.JumpIf(asm.JNE, asm.R0, 0, e.fault)
		e.Place(have)
		e.Add(asm.Mov.Imm(asm.R2, int32(o.Size)))
		e.Jump(done)
		e.pop(8)
		return
	}
	copyBy(asm.FnProbeReadKernelStr)
	e.Add(asm.Mov.Reg(asm.R2, asm.R0))
	e.JumpIf(asm.JSGT, asm.R0, 0, done)
	e.Add(asm.LoadMem(asm.R0, asm.RFP, kept, asm.DWord))
	copyBy(asm.FnProbeReadUserStr)
	e.Add(asm.Mov.Reg(asm.R2, asm.R0))
	e.JumpIf(asm.JSGT, asm.R0, 0, done)
	e.Jump(e.fault)
	e.pop(8)
}

// checkNull tells a NULL pointer in R0 from other addresses that can't be read.
func (e *emitter) checkNull() {
	if e.tellsNull {
		e.JumpIf(asm.JEq, asm.R0, 0, e.null)
	}
}
