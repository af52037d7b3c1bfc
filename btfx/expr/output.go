package expr

import (
	"fmt"
	"strings"

	"fgtrace/btfx"
)

// Output is a value that is shown, and how it is had.
type Output struct {
	Text string // as it was written
	Take Take
	Tree *Tree // the number; or the address of what is taken
	Disp int64 // bytes from the address
	// Size is how many bytes are taken: 8 of a number, and of a string at most so many,
	// with its NUL.
	Size   int
	Format Format
	Type   string       // in C; "" where the format has none
	Layout *btfx.Layout // of Plain, and of what is counted
	Proto  string       // of Packet: eth or ip
}

// Take says what is taken.
type Take uint8

const (
	TakeNumber Take = iota
	TakeBytes
	TakeText // a string
)

// Format says how what was taken is shown.
type Format uint8

const (
	Plain     Format = iota // by its layout
	Quoted                  // a string
	Hex                     // bytes, two digits each
	MAC                     // addresses, of which there may be several one after the other
	IPv4                    // likewise
	IPv6                    // likewise
	Ports                   // numbers of 16 bits in the network's order
	Packet                  // a line as tcpdump has it
	Histogram               // counted by powers of two
	Digest                  // quantiles
)

// IsCounted tells whether values are added up, and shown at the end.
func (f Format) IsCounted() bool { return f == Histogram || f == Digest }

// Counts tells whether a text asks for an output whose values are added up.
func Counts(text string) bool {
	name, _, ok := strings.Cut(text, "(")
	name = strings.TrimSpace(name)
	return ok && (name == "hist" || name == "tdigest")
}

const (
	// MaxOutput is how many bytes one output takes at most.
	MaxOutput = 1 << 14
	// textSize is how many bytes of a string are taken if nothing is said of it.
	textSize = 128
)

// NewOutput parses and checks an expression whose value is shown: a number, a struct or
// an array, a string, or what one of the functions that read memory makes of it. Errors
// are *Error.
func NewOutput(text string, scope Scope) (*Output, error) {
	n, err := Parse(text, scope.isType)
	if err != nil {
		return nil, err
	}
	c := &checker{text: text, scope: scope}
	o, err := c.output(n)
	if err != nil {
		return nil, err
	}
	o.Text = strings.TrimSpace(text)
	if o.Size > MaxOutput {
		return nil, c.errorf(n.Pos(), "%d bytes, and %d are shown at most", o.Size, MaxOutput)
	}
	if o.Disp > maxDisp || o.Disp < -maxDisp {
		return nil, c.errorf(n.Pos(), "%d bytes from the pointer are too far away", o.Disp)
	}
	return o, nil
}

func (c *checker) output(n Node) (*Output, error) {
	if call, ok := n.(*Call); ok {
		if read := reader(call.Func); read != nil {
			return read(c, call)
		}
	}
	switch n.(type) {
	case *Name, *Member, *Index, *Unary:
		if p, err := c.place(n); err == nil && p.addr != nil && (p.typ.Kind == Struct || p.typ.Kind == Array) {
			return c.memory(n, p)
		}
	}
	x, err := c.value(n)
	if err != nil {
		return nil, err
	}
	return c.number(n, x)
}

// memory shows a struct or an array.
func (c *checker) memory(n Node, p place) (*Output, error) {
	l, err := c.layout(p.typ)
	if err != nil {
		return nil, c.at(n, err)
	}
	if l.Size == 0 {
		return nil, c.errorf(n.Pos(), "%s has no size here: slice(%s, N) shows N elements", c.spell(p.typ), c.text)
	}
	return &Output{Take: TakeBytes, Tree: p.addr, Disp: p.disp, Size: l.Size, Type: l.Type, Layout: l}, nil
}

// number shows a number, or the string that it points to.
func (c *checker) number(n Node, x *Tree) (*Output, error) {
	l, err := c.layout(x.Type)
	if err != nil {
		return nil, c.at(n, err)
	}
	if l.Kind == btfx.String {
		addr, disp := displaced(x)
		return &Output{Take: TakeText, Tree: addr, Disp: disp, Size: textSize, Format: Quoted, Type: l.Type}, nil
	}
	return &Output{Take: TakeNumber, Tree: x, Size: 8, Type: l.Type, Layout: l}, nil
}

// layout returns how a type is printed, also of one that BTF does not have.
func (c *checker) layout(t Type) (*btfx.Layout, error) {
	if t.ID != 0 {
		return c.scope.Types.Layout(t.ID)
	}
	l := &btfx.Layout{Type: c.spell(t), Size: t.Size, Signed: t.Signed}
	switch t.Kind {
	case Int:
		l.Kind = btfx.Int
	case Bool:
		l.Kind = btfx.Bool
	case Pointer:
		l.Kind = btfx.Pointer
		if elem, err := c.elem(t); err == nil && elem.Kind == Int && elem.Size == 1 && c.spell(elem) == "char" {
			l.Kind = btfx.String
		}
	case Array:
		elem, err := c.elem(t)
		if err != nil {
			return nil, err
		}
		of, err := c.layout(elem)
		if err != nil {
			return nil, err
		}
		return of.ArrayOf(t.Len), nil
	default:
		return nil, fmt.Errorf("a %s is nothing to show", c.spell(t))
	}
	return l, nil
}

// How functions that read memory are called.
const (
	usageBytes  = "POINTER, [OFFSET,] SIZE"
	usageSlice  = "POINTER, [FIRST,] COUNT"
	usageText   = "POINTER[, SIZE]"
	usagePacket = "POINTER, [OFFSET,] SIZE[, eth or ip]"
	usageAt     = "POINTER[, OFFSET]"
	usageNumber = "NUMBER"
)

// reader returns how a function's call becomes what is shown; nil if there is no such
// function.
func reader(name string) func(c *checker, n *Call) (*Output, error) {
	switch name {
	case "buf", "hex":
		return (*checker).buf
	case "slice":
		return (*checker).slice
	case "str":
		return (*checker).str
	case "pkt":
		return (*checker).packet
	case "eth", "eth2", "ip4", "ip42", "ip6", "ip62", "port", "port2":
		return (*checker).addresses
	case "hist", "tdigest":
		return (*checker).counted
	}
	return nil
}

func (c *checker) buf(n *Call) (*Output, error) {
	o, at, err := c.region(n, usageBytes)
	if err != nil {
		return nil, err
	}
	o.Disp, o.Size = o.Disp+at.first, int(at.count)
	o.Layout = byteLayout().ArrayOf(o.Size)
	if n.Func == "hex" {
		o.Format = Hex
	}
	return o, nil
}

func (c *checker) str(n *Call) (*Output, error) {
	p, numbers, err := c.arguments(n, usageText, 0, 1)
	if err != nil {
		return nil, err
	}
	o := outputAt(p, 0)
	o.Take, o.Format, o.Size = TakeText, Quoted, textSize
	if len(numbers) > 0 {
		o.Size = int(numbers[0])
	}
	return o, c.checkSize(n, o.Size)
}

// addresses shows what protocols have in memory.
func (c *checker) addresses(n *Call) (*Output, error) {
	p, numbers, err := c.arguments(n, usageAt, 0, 1)
	if err != nil {
		return nil, err
	}
	o := outputAt(p, 0)
	if len(numbers) > 0 {
		o.Disp += numbers[0]
	}
	switch strings.TrimSuffix(n.Func, "2") {
	case "eth":
		o.Format, o.Size = MAC, 6
	case "ip4":
		o.Format, o.Size = IPv4, 4
	case "ip6":
		o.Format, o.Size = IPv6, 16
	case "port":
		o.Format, o.Size = Ports, 2
	}
	if strings.HasSuffix(n.Func, "2") { // one after the other
		o.Size *= 2
	}
	return o, nil
}

func (c *checker) counted(n *Call) (*Output, error) {
	if len(n.Args) != 1 {
		return nil, c.misused(n, usageNumber)
	}
	x, err := c.value(n.Args[0])
	if err != nil {
		return nil, err
	}
	if !x.Type.isInteger() {
		return nil, c.errorf(n.Args[0].Pos(), "a %s is no number", c.spell(x.Type))
	}
	l, err := c.layout(x.Type)
	if err != nil {
		return nil, c.at(n, err)
	}
	o := &Output{Tree: x, Size: 8, Format: Histogram, Layout: l, Type: l.Type}
	if n.Func == "tdigest" {
		o.Format = Digest
	}
	return o, nil
}

// outputAt takes bytes from an address on.
func outputAt(p *Tree, offset int64) *Output {
	o := &Output{Take: TakeBytes}
	o.Tree, o.Disp = displaced(p)
	o.Disp += offset
	return o
}

func (c *checker) misused(n *Call, usage string) error {
	return c.errorf(n.At, "write %s(%s)", n.Func, usage)
}

// arguments returns the pointer that a function was given, and the numbers behind it.
func (c *checker) arguments(n *Call, usage string, least, most int) (p *Tree, numbers []int64, err error) {
	if len(n.Args) < 1+least || len(n.Args) > 1+most {
		return nil, nil, c.misused(n, usage)
	}
	if p, err = c.value(n.Args[0]); err != nil {
		return nil, nil, err
	}
	if p.Type.Kind != Pointer {
		return nil, nil, c.errorf(n.Args[0].Pos(), "a %s is no pointer: write %s(%s)", c.spell(p.Type), n.Func, usage)
	}
	for _, arg := range n.Args[1:] {
		x, err := c.value(arg)
		if err != nil {
			return nil, nil, err
		}
		if x.Op != Const || !x.Type.isInteger() {
			return nil, nil, c.errorf(arg.Pos(), "this number must be known before tracing: write %s(%s)", n.Func, usage)
		}
		if v := int64(x.Value); v < -maxOffset || v > maxOffset {
			return nil, nil, c.errorf(arg.Pos(), "%d is too far away", v)
		}
		numbers = append(numbers, int64(x.Value))
	}
	return p, numbers, nil
}

// maxOffset is how far from a pointer is read.
const maxOffset = 1 << 24

// part is some of what a pointer points to.
type part struct{ first, count int64 }

// region returns what functions show that are given how much.
func (c *checker) region(n *Call, usage string) (*Output, part, error) {
	p, numbers, err := c.arguments(n, usage, 1, 2)
	if err != nil {
		return nil, part{}, err
	}
	at := part{count: numbers[len(numbers)-1]}
	if len(numbers) == 2 {
		at.first = numbers[0]
	}
	return outputAt(p, 0), at, c.checkSize(n, int(at.count))
}

func (c *checker) checkSize(n *Call, size int) error {
	if size < 1 || size > MaxOutput {
		return c.errorf(n.Args[len(n.Args)-1].Pos(), "%d is not within 1 and %d", size, MaxOutput)
	}
	return nil
}

func (c *checker) slice(n *Call) (*Output, error) {
	o, at, err := c.region(n, usageSlice)
	if err != nil {
		return nil, err
	}
	p, err := c.value(n.Args[0])
	if err != nil {
		return nil, err
	}
	elem, err := c.elem(p.Type)
	if err != nil {
		return nil, c.at(n, err)
	}
	l := byteLayout()
	if elem.Kind != Void {
		if l, err = c.layout(elem); err != nil {
			return nil, c.at(n, err)
		}
	}
	if l.Size == 0 {
		return nil, c.errorf(n.Args[0].Pos(), "the size of %s is not known here", c.spell(elem))
	}
	o.Disp += at.first * int64(l.Size)
	o.Layout = l.ArrayOf(int(at.count))
	o.Size, o.Type = o.Layout.Size, o.Layout.Type
	return o, nil
}

func (c *checker) packet(n *Call) (*Output, error) {
	proto := "eth"
	call := *n
	if last := len(n.Args) - 1; last > 0 {
		if name, ok := n.Args[last].(*Name); ok {
			switch name.Name {
			case "eth":
			case "ip", "ip4", "ip6":
				proto = "ip"
			default:
				return nil, c.errorf(name.At, "a packet begins with eth or ip, not %s", name.Name)
			}
			call.Args = n.Args[:last]
		}
	}
	o, at, err := c.region(&call, usagePacket)
	if err != nil {
		return nil, err
	}
	o.Disp, o.Size = o.Disp+at.first, int(at.count)
	o.Format, o.Proto = Packet, proto
	return o, nil
}

// byteLayout is that of unsigned char.
func byteLayout() *btfx.Layout {
	return &btfx.Layout{Type: "unsigned char", Kind: btfx.Int, Size: 1}
}

// integers are functions that read one integer, in the byte order of the machine
// (which is little-endian) or in the other one.
var integers = map[string]struct {
	typ Type
	big bool
}{
	"u8": {Type{Kind: Int, Size: 1, name: "unsigned char"}, false}, "s8": {Type{Kind: Int, Size: 1, Signed: true, name: "signed char"}, false},
	"u16": {shortType, false}, "s16": {Type{Kind: Int, Size: 2, Signed: true, name: "short"}, false},
	"u32": {uintType, false}, "s32": {intType, false}, "u64": {ulongType, false}, "s64": {longType, false},
	"le16": {shortType, false}, "le32": {uintType, false}, "le64": {ulongType, false},
	"be16": {shortType, true}, "be32": {uintType, true}, "be64": {ulongType, true},
}

var shortType = Type{Kind: Int, Size: 2, name: "unsigned short"}

// integer is the value of a function that reads one.
func (c *checker) integer(n *Call) (*Tree, error) {
	f, ok := integers[n.Func]
	if !ok {
		if reader(n.Func) != nil {
			return nil, c.errorf(n.At, "%s is no number: it can only be shown, by itself", n.Func)
		}
		return nil, c.errorf(n.At, "there is no function %s", n.Func)
	}
	p, numbers, err := c.arguments(n, usageAt, 0, 1)
	if err != nil {
		return nil, err
	}
	addr, disp := displaced(p)
	if len(numbers) > 0 {
		disp += numbers[0]
	}
	t := &Tree{Op: Load, Type: f.typ, X: addr, Disp: disp}
	if f.big {
		t = &Tree{Op: Swap, Type: f.typ, X: t}
	}
	return t, nil
}
