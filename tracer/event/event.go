// Package event decodes the records that the BPF programs write. What comes out
// refers to the record's bytes: it is valid until they are released.
package event

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"fgtrace/bpf/wire"
)

// Shape is the layout of one target's records.
type Shape struct {
	Words   int // argument words of 8 bytes
	Outputs int // bytes of outputs
	Strings int // arguments that are read as strings
	Stack   bool
}

const wordSize = 8

// ExitSize is the size of every exit record in bytes.
const ExitSize = wire.RecordSize + wire.ResultSize

// EntrySize returns the size of an entry record in bytes.
func (s Shape) EntrySize() int { return wire.RecordSize + s.bodySize() }

// CallSize returns the size of a call's record in bytes. A shape with strings or
// outputs has none.
func (s Shape) CallSize() int { return ExitSize + s.bodySize() }

func (s *Shape) bodySize() int {
	size := s.framesAt()
	if s.Stack {
		size += wire.MaxFrames * wordSize
	}
	return size
}

// EntryStackAt returns the offset of the stack in an entry record, 0 if it has
// none.
func (s Shape) EntryStackAt() int {
	if !s.Stack {
		return 0
	}
	return wire.RecordSize + s.framesAt()
}

// CallStackAt returns the offset of the stack in a call's record, 0 if it has
// none.
func (s Shape) CallStackAt() int {
	if !s.Stack {
		return 0
	}
	return ExitSize + s.framesAt()
}

// outputsAt, stringsAt and framesAt are offsets behind what the kind of record begins
// with.
func (s *Shape) outputsAt() int { return s.Words * wordSize }
func (s *Shape) stringsAt() int { return s.outputsAt() + s.Outputs }
func (s *Shape) framesAt() int  { return s.stringsAt() + s.Strings*wire.StringSize }

// Kind tells an entry from an exit, and both from a whole call.
type Kind uint8

const (
	Entry Kind = wire.KindEntry
	Exit  Kind = wire.KindExit
	Call  Kind = wire.KindCall
)

// Record is a decoded entry or exit.
type Record struct {
	Kind      Kind
	EntryLost bool   // of an exit: its entry found no room in the ring buffer
	Unwanted  bool   // of an exit: the call is not to be shown
	HasPacket bool   // of an entry: its packet went before
	Target    int    // index in the plan
	Time      uint64 // ns, CLOCK_MONOTONIC, taken in the program
	Frame     uint64 // identity of the call while it lives
	Pid, Tid  uint32 // tgid and pid of the kernel
	CPU       uint16

	// Of an entry.
	Comm     [wire.CommSize]byte // up to a NUL
	Words    []byte              // argument words
	Outputs  []byte              // see Output
	Strings  []byte              // wire.StringSize bytes each: see String
	Frames   []byte              // 8 bytes a return address, innermost first
	StackErr int                 // errno of the stack that could not be had, or 0

	// Of an exit: the word that holds the return value.
	Retval []byte
	// Of an exit: entries were lost up to this time, in ns, and not of all of
	// them is it known whose they were. 0: it is.
	Unsure uint64
}

// KindOf returns the kind of a record, or 0 where there is none.
func KindOf(raw []byte) Kind {
	if len(raw) < wire.RecordSize {
		return 0
	}
	return (*header)(raw).kind()
}

// Decode reads an entry or exit into r. shapes has an element for each target. An
// error says that the record is not what a program of ours writes.
func Decode(raw []byte, shapes []Shape, r *Record) error {
	if len(raw) < wire.RecordSize {
		return fmt.Errorf("decode record: %d bytes, less than any", len(raw))
	}
	head := (*header)(raw)
	target := head.target()
	if uint64(target) >= uint64(len(shapes)) {
		return fmt.Errorf("decode record: target %d of %d", target, len(shapes))
	}
	r.Target = int(target)
	switch r.Kind = head.kind(); r.Kind {
	case Entry:
		if size := shapes[target].EntrySize(); len(raw) < size {
			return fmt.Errorf("decode entry: %d bytes of %d", len(raw), size)
		}
		r.decodeHeader(head)
		r.Retval = nil
		return r.decodeBody(raw[wire.RecordSize:], head, &shapes[target])
	case Exit:
		return r.decodeExit(raw, head)
	}
	return fmt.Errorf("decode record: kind %d", r.Kind)
}

// header is what all records begin with, struct record of wire.h. Its size is
// checked once; no part of it needs to be looked for behind the end.
type header [wire.RecordSize]byte

// at has the offsets of a header's parts.
var at *wire.Record

func (h *header) target() uint32 { return binary.LittleEndian.Uint32(h[unsafe.Offsetof(at.Target):]) }
func (h *header) kind() Kind     { return Kind(h[unsafe.Offsetof(at.Kind)]) }
func (h *header) unwanted() bool { return h[unsafe.Offsetof(at.Flags)]&wire.FlagUnwanted != 0 }
func (h *header) hasPacket() bool {
	return h[unsafe.Offsetof(at.Flags)]&wire.FlagPacket != 0
}

func (h *header) entryLost() bool { return h[unsafe.Offsetof(at.Flags)]&wire.FlagEntryLost != 0 }
func (h *header) time() uint64    { return binary.LittleEndian.Uint64(h[unsafe.Offsetof(at.Time):]) }
func (h *header) frame() uint64   { return binary.LittleEndian.Uint64(h[unsafe.Offsetof(at.Frame):]) }
func (h *header) pidTgid() uint64 { return binary.LittleEndian.Uint64(h[unsafe.Offsetof(at.PidTgid):]) }
func (h *header) cpu() uint16     { return binary.LittleEndian.Uint16(h[unsafe.Offsetof(at.Cpu):]) }
func (h *header) frames() int64 {
	return int64(binary.LittleEndian.Uint64(h[unsafe.Offsetof(at.Frames):]))
}

func (r *Record) decodeHeader(h *header) {
	r.EntryLost, r.Unwanted, r.HasPacket = h.entryLost(), h.unwanted(), h.hasPacket()
	r.Time, r.Frame, r.CPU = h.time(), h.frame(), h.cpu()
	pidTgid := h.pidTgid()
	r.Pid, r.Tid = uint32(pidTgid>>32), uint32(pidTgid)
}

// result is struct result of wire.h.
type result [wire.ResultSize]byte

// resultAt has the offsets of a result's parts.
var resultAt *wire.Result

func (r *result) retval() *[wordSize]byte {
	return (*[wordSize]byte)(r[unsafe.Offsetof(resultAt.Retval):])
}
func (r *result) time() uint64 {
	return binary.LittleEndian.Uint64(r[unsafe.Offsetof(resultAt.Time):])
}

func (r *Record) decodeExit(raw []byte, h *header) error {
	if len(raw) < ExitSize {
		return fmt.Errorf("decode exit: %d bytes of %d", len(raw), ExitSize)
	}
	r.decodeHeader(h)
	r.Retval = (*result)(raw[wire.RecordSize:]).retval()[:]
	r.Unsure = uint64(h.frames())
	r.Words, r.Outputs, r.Strings, r.Frames, r.StackErr = nil, nil, nil, nil, 0
	return nil
}

// decodeBody reads what an entry brings with it, which raw has in full.
func (r *Record) decodeBody(raw []byte, h *header, shape *Shape) error {
	r.Comm = [wire.CommSize]byte(h[unsafe.Offsetof(at.Comm):])
	outputsAt, stringsAt, framesAt := shape.outputsAt(), shape.stringsAt(), shape.framesAt()
	r.Words, r.Outputs, r.Strings = raw[:outputsAt], raw[outputsAt:stringsAt], raw[stringsAt:framesAt]
	r.Frames, r.StackErr, r.Unsure = nil, 0, 0
	if !shape.Stack {
		return nil
	}
	var err error
	r.Frames, r.StackErr, err = h.stack(raw[framesAt:])
	return err
}

// stack returns the part of frames that is filled, or the error number that is
// there instead of it.
func (h *header) stack(frames []byte) (filled []byte, errno int, err error) {
	n := h.frames()
	switch {
	case n > wire.MaxFrames:
		return nil, 0, fmt.Errorf("decode stack: %d frames", n)
	case n < 0:
		return nil, int(-n), nil
	}
	return frames[:n*wordSize], 0, nil
}

// Whole is the record of a whole call, which its methods read: every call pays
// for what is copied. View sets it.
type Whole struct {
	head   *wholeHeader
	body   []byte
	layout *Layout
}

// wholeHeader is what the record of a whole call begins with.
type wholeHeader [ExitSize]byte

func (h *wholeHeader) record() *header { return (*header)(h[:]) }
func (h *wholeHeader) result() *result { return (*result)(h[wire.RecordSize:]) }

// Layout is what View needs of a shape, computed once.
type Layout struct {
	size     int // of the record
	words    int // end of the argument words behind the header
	framesAt int // behind the header; -1: no stack
}

// Layouts returns the layouts of shapes.
func Layouts(shapes []Shape) []Layout {
	layouts := make([]Layout, len(shapes))
	for i := range shapes {
		s := &shapes[i]
		layouts[i] = Layout{size: s.CallSize(), words: s.outputsAt(), framesAt: -1}
		if s.Stack {
			layouts[i].framesAt = s.framesAt()
		}
	}
	return layouts
}

// View makes w the view of a record of a whole call. layouts has an element for
// each target. An error says that the record is not what a program of ours
// writes.
func (w *Whole) View(raw []byte, layouts []Layout) error {
	if len(raw) >= ExitSize {
		head := (*wholeHeader)(raw)
		if target := head.record().target(); uint64(target) < uint64(len(layouts)) {
			layout := &layouts[target]
			if len(raw) >= layout.size && (layout.framesAt < 0 || head.record().frames() <= wire.MaxFrames) {
				w.head, w.body, w.layout = head, raw[ExitSize:], layout
				return nil
			}
		}
	}
	return viewError(raw, layouts)
}

// viewError says what is wrong with a record.
func viewError(raw []byte, layouts []Layout) error {
	if len(raw) < ExitSize {
		return fmt.Errorf("decode call: %d bytes, less than any", len(raw))
	}
	h := (*header)(raw)
	if uint64(h.target()) >= uint64(len(layouts)) {
		return fmt.Errorf("decode call: target %d of %d", h.target(), len(layouts))
	}
	if size := layouts[h.target()].size; len(raw) < size {
		return fmt.Errorf("decode call: %d bytes of %d", len(raw), size)
	}
	return fmt.Errorf("decode call: %d frames", h.frames())
}

// Target returns the index in the plan.
func (w *Whole) Target() int { return int(w.head.record().target()) }

// Entry and Exit return the times of both in ns, CLOCK_MONOTONIC.
func (w *Whole) Entry() uint64 { return w.head.record().time() }
func (w *Whole) Exit() uint64  { return w.head.result().time() }

// Frame returns what was the identity of the call while it lived.
func (w *Whole) Frame() uint64 { return w.head.record().frame() }

// PidTgid returns the thread in the lower and the process in the upper half.
func (w *Whole) PidTgid() uint64 { return w.head.record().pidTgid() }

// CPU returns that of the entry.
func (w *Whole) CPU() uint16 { return w.head.record().cpu() }

// Comm returns the task's name at the entry, up to a NUL.
func (w *Whole) Comm() *[wire.CommSize]byte {
	return (*[wire.CommSize]byte)(w.head[unsafe.Offsetof(at.Comm):])
}

// Retval returns the word that holds the return value.
func (w *Whole) Retval() *[wordSize]byte { return w.head.result().retval() }

// Words returns the argument words.
func (w *Whole) Words() []byte { return w.body[:w.layout.words] }

// Stack returns the return addresses, 8 bytes each, innermost first, or the
// errno of a stack that could not be had.
func (w *Whole) Stack() (frames []byte, errno int) {
	if w.layout.framesAt < 0 {
		return nil, 0
	}
	frames, errno, _ = w.head.record().stack(w.body[w.layout.framesAt:])
	return frames, errno
}

// String returns the i-th of the strings that Record.Strings holds, without
// its NUL. cut says that it may go on in memory, errno that it could not be read.
func String(strings []byte, i int) (s []byte, cut bool, errno int) {
	raw := strings[i*wire.StringSize:][:wire.StringSize]
	n := int32(binary.LittleEndian.Uint32(raw))
	data := raw[wire.StringSize-wire.StringData:]
	switch {
	case n < 0:
		return nil, false, int(-n)
	case n == 0:
		return nil, false, 0
	case int(n) >= len(data):
		return data[:len(data)-1], true, 0
	}
	return data[:n-1], false, 0
}

// OutputSize returns how many bytes of a record the output of a value of so many bytes
// has.
func OutputSize(size int) int { return wire.OutputSize + (size+wordSize-1)&^(wordSize-1) }

// Output returns the output at an offset, of a value of at most size bytes. status is
// the number of bytes, 0 where a NULL pointer was in the way, or a negative error number.
func Output(outputs []byte, offset, size int) (value []byte, status int) {
	raw := outputs[offset:][:OutputSize(size)]
	n := int64(binary.LittleEndian.Uint64(raw))
	if n <= 0 {
		return nil, int(n)
	}
	n = min(n, int64(size))
	return raw[wire.OutputSize:][:n], int(n)
}
