package expr_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/ebpf/asm"

	"fgtrace/btfx/expr"
	"fgtrace/btfx/expr/codegen"
	"fgtrace/internal/bpfvm"
)

// outputs are what is shown of the fixture: a number or a struct as its layout has it,
// other bytes in hexadecimal, a string with quotes.
var outputs = []struct{ text, typ, want string }{
	{"n", "int", "-5"},
	{"u + 1", "unsigned int", "4000000001"},
	{"p->len", "u32", "1500"},
	{"p->dev->name", "char[16]", `"eth0"`},
	{"&p->dev->name[1]", "char *", `"th0"`},
	{"p->dev->alias", "const char *", `"an alias"`},
	{"(void *)p->dev->alias == p->dev->alias", "int", "1"},
	{"text", "const char *", `"an alias"`},
	{"(char *)ptr", "char *", `"an alias"`},
	{"p->state", "enum state", "BUSY"},
	{"p->yes", "_Bool", "true"},
	{"p->one", "u32", "1"},
	{"p->sthree", "s32", "-2"},
	{"p->nested", "struct {...}", "{.depth=3, .in={.deeper=-4}}"},
	{"p->nested.in.deeper", "int", "-4"},
	{"*p->dev->next", "struct device", `{.ifindex=-7, .name="a-name-of-15-by", .next=0x10000400, .alias=NULL, .addr=[00 00 00 00 00 00]}`},
	{"p->grid[1]", "int[4]", "[16, -25, 36, -49]"},
	{"slice(p->grid[1], 1, 2)", "int[2]", "[-25, 36]"},
	{"slice(p->head, 2)", "unsigned char[2]", "[61 6e]"},
	{"buf(p->head, 3)", "", "[61 6e 20]"},
	{"buf(p->head, 1, 3)", "", "[6e 20 61]"},
	{"hex(p->head, 1, 3)", "", "6e2061"},
	{"str(p->head, 4)", "", `"an "...`},
	{"str(text)", "", `"an alias"`},
	{"u8(p->head)", "unsigned char", "97"},
	{"u16(p->head, 1)", "unsigned short", fmt.Sprint(0x206e)},
	{"be16(p->head, 1)", "unsigned short", fmt.Sprint(0x6e20)},
	{"le32(p->head)", "unsigned int", fmt.Sprint(0x61206e61)},
	{"be32(p->head)", "unsigned int", fmt.Sprint(0x616e2061)},
	{"be64(p->head) >> 32 == be32(p->head) && s8(p->head) == 'a'", "int", "1"},
	{"s8(&p->sb)", "signed char", "-100"},
	{"eth(p->head)", "", "616e20616c69"},
	{"ip4(p->head, 2)", "", "20616c69"},
	{"port2(p->head)", "", "616e2061"},
	{"hist(n)", "int", "-5"},
	{"tdigest(p->len / 2)", "unsigned int", "750"},
	{"pkt(p->head, 2, ip)", "", "616e"},
	{"p->none", "struct packet *", "NULL"},
	{"p->none->len", "u32", "null"},
	{"p->none->dev->name", "char[16]", "null"},
	{"*p->none", "struct packet", "null"},
	{"(char *)0", "char *", "null"},
	{"hex((char *)8, 4)", "", "fault"},
	{"str((char *)8)", "", "fault"},
	{"hex((char *)0x30000000, 3)", "", "757365"},
	{"str((char *)0x30000000)", "", `"user"`},
	{"*(long *)0x30000000", "long", "fault"}, // numbers are the kernel's
	{"*(int *)8", "int", "fault"},
	{`p->none->dev->name == "x"`, "int", "null"},
	{"p->len + p->none->len", "unsigned int", "null"},
}

// TestOutputs: what is taken, by code that finds arguments in each of the ways.
func TestOutputs(t *testing.T) {
	f := newFixture(t)
	var pieces []codegen.Piece
	offset := 0
	for _, test := range outputs {
		o, err := expr.NewOutput(test.text, f.scope)
		if err != nil {
			t.Errorf("%s: %v", test.text, err)
			continue
		}
		if o.Text != test.text || o.Type != test.typ {
			t.Errorf("%s: %q of type %q, want %q", test.text, o.Text, o.Type, test.typ)
		}
		pieces = append(pieces, codegen.Piece{Output: o, Offset: offset})
		offset += codegen.StatusSize + (o.Size+7)&^7
	}
	for _, frame := range []codegen.Frame{{}, {Pointers: true}, {Pointers: true, Direct: true}} {
		const args, to = -144, -152
		frame.Args, frame.Top = args, to
		code, err := codegen.CompileOutputs(pieces, frame, to)
		if err != nil {
			t.Fatal(err)
		}
		user := func(addr uint64, buf []byte) error {
			text := []byte("user\x00")
			if addr < 0x30000000 || addr+uint64(len(buf)) > 0x30000000+uint64(len(text)) {
				return errFault
			}
			copy(buf, text[addr-0x30000000:])
			return nil
		}
		vm := bpfvm.VM{Read: f.read, ReadUser: user, Loads: frame.Direct, Out: bytes.Repeat([]byte{0xee}, offset)}
		for i, word := range f.world.Args {
			vm.SetStack(args+8*i, word)
		}
		vm.SetStack(to, bpfvm.OutAddr)
		if _, err := vm.Run(append(code.Insns, asm.Mov.Imm(asm.R0, 0), asm.Return())); err != nil {
			t.Fatalf("%v\n%v", err, code.Insns)
		}
		if vm.Lowest() < int(code.Bottom) {
			t.Errorf("wrote to %d, and told of %d", vm.Lowest(), code.Bottom)
		}
		for i, p := range pieces {
			if got := spellPiece(p, vm.Out); got != outputs[i].want {
				t.Errorf("%s: %s, want %s (%+v)", p.Output.Text, got, outputs[i].want, frame)
			}
		}
	}
}

// spellPiece spells what code took.
func spellPiece(p codegen.Piece, memory []byte) string {
	o := p.Output
	status := int64(binary.LittleEndian.Uint64(memory[p.Offset:]))
	switch {
	case status == 0:
		return "null"
	case status == -14:
		return "fault"
	case status < 0 || status > int64(o.Size):
		return fmt.Sprint("status ", status)
	}
	value := memory[p.Offset+codegen.StatusSize:][:status]
	switch {
	case o.Take == expr.TakeText:
		cut := ""
		if len(value) == o.Size {
			cut = "..."
		}
		return fmt.Sprintf("%q%s", value[:len(value)-1], cut)
	case o.Format != expr.Plain && o.Layout == nil || o.Format == expr.Hex:
		return fmt.Sprintf("%x", value)
	case o.Take == expr.TakeNumber:
		return string(o.Layout.AppendTextWord(nil, binary.LittleEndian.Uint64(value), nil))
	}
	return string(o.Layout.AppendText(nil, value, nil))
}

// TestOutputErrors: what can't be shown, and where it says so.
func TestOutputErrors(t *testing.T) {
	f := newFixture(t)
	for _, test := range []struct {
		text string
		pos  int
		msg  string
	}{
		{"", 0, "an empty expression"},
		{"nothing", 0, "there is no nothing here"},
		{"*ptr", 0, "void has no value"},
		{"buf(p)", 0, "write buf(POINTER, [OFFSET,] SIZE)"},
		{"buf(n, 4)", 4, "a int is no pointer: write buf(POINTER, [OFFSET,] SIZE)"},
		{"buf(p, n)", 7, "this number must be known before tracing"},
		{"hex(p, 0)", 7, "0 is not within 1 and 16384"},
		{"str(text, 16385)", 10, "16385 is not within 1 and 16384"},
		{"slice(p, 1000)", 0, "320000 bytes, and 16384 are shown at most"},
		{"slice(p, 16777216, 1)", 0, "5368709120 bytes from the pointer are too far away"},
		{"pkt(p, 64, arp)", 11, "a packet begins with eth or ip, not arp"},
		{"hist(p)", 5, "a struct packet * is no number"},
		{"tdigest(n, u)", 0, "write tdigest(NUMBER)"},
		{"hist(n) + 1", 0, "hist is no number: it can only be shown, by itself"},
		{"foo(p)", 0, "there is no function foo"},
		{"retval", 0, "there is no result"},
	} {
		_, err := expr.NewOutput(test.text, f.scope)
		var e *expr.Error
		if !errors.As(err, &e) {
			t.Errorf("%s: %v, want %q", test.text, err, test.msg)
			continue
		}
		if !strings.HasPrefix(e.Msg, test.msg) || e.Pos != test.pos {
			t.Errorf("%s: %d %q, want %d %q", test.text, e.Pos, e.Msg, test.pos, test.msg)
		}
	}
}
