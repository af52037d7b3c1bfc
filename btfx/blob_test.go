package btfx

import (
	"encoding/binary"
	"testing"
)

// blob makes BTF by hand: what no compiler makes, too.
type blob struct {
	base  *Types
	types []byte
	strs  []byte
	next  ID
}

func newBlob(base *Types) *blob {
	b := &blob{base: base, next: 1, strs: []byte{0}}
	if base != nil {
		b.next = base.endID()
	}
	return b
}

// str adds a string.
func (b *blob) str(s string) uint32 {
	if s == "" {
		return 0
	}
	off := uint32(len(b.strs))
	if b.base != nil {
		off += b.base.endStr()
	}
	b.strs = append(append(b.strs, s...), 0)
	return off
}

// add adds a type with info's vlen and kind_flag, and what follows its record.
func (b *blob) add(kind Kind, flag bool, vlen int, name string, word uint32, tail ...uint32) ID {
	info := uint32(kind)<<24 | uint32(vlen)
	if flag {
		info |= 1 << 31
	}
	le := binary.LittleEndian
	for _, w := range append([]uint32{b.str(name), info, word}, tail...) {
		b.types = le.AppendUint32(b.types, w)
	}
	b.next++
	return b.next - 1
}

const encSigned, encChar, encBool = 1 << 24, 2 << 24, 4 << 24

func (b *blob) int(name string, size, encoding uint32) ID {
	return b.add(KindInt, false, 0, name, size, encoding|8*size)
}

func (b *blob) ptr(to ID) ID { return b.add(KindPtr, false, 0, "", uint32(to)) }

func (b *blob) array(elem ID, n uint32) ID {
	return b.add(KindArray, false, 0, "", 0, uint32(elem), 0, n)
}

func (b *blob) refer(kind Kind, name string, to ID) ID {
	return b.add(kind, false, 0, name, uint32(to))
}

type blobMember struct {
	name   string
	typ    ID
	offset uint32 // in bits
	bits   uint32
}

func (b *blob) composite(kind Kind, name string, size uint32, members ...blobMember) ID {
	var tail []uint32
	for _, m := range members {
		tail = append(tail, b.str(m.name), uint32(m.typ), m.offset|m.bits<<24)
	}
	return b.add(kind, true, len(members), name, size, tail...)
}

type blobValue struct {
	name  string
	value uint32
}

func (b *blob) enum(name string, signed bool, values ...blobValue) ID {
	var tail []uint32
	for _, v := range values {
		tail = append(tail, b.str(v.name), v.value)
	}
	return b.add(KindEnum, signed, len(values), name, 4, tail...)
}

// proto adds a prototype; parameters are pairs of a name and a type.
func (b *blob) proto(ret ID, params ...any) ID {
	var tail []uint32
	for i := 0; i < len(params); i += 2 {
		tail = append(tail, b.str(params[i].(string)), uint32(params[i+1].(ID)))
	}
	return b.add(KindFuncProto, false, len(params)/2, "", uint32(ret), tail...)
}

func (b *blob) bytes() []byte {
	le := binary.LittleEndian
	var raw []byte
	raw = le.AppendUint16(raw, magic)
	raw = append(raw, 1, 0)
	for _, w := range []int{headerSize, 0, len(b.types), len(b.types), len(b.strs)} {
		raw = le.AppendUint32(raw, uint32(w))
	}
	return append(append(raw, b.types...), b.strs...)
}

func (b *blob) parse(tb testing.TB) *Types {
	tb.Helper()
	t, err := Parse(b.bytes(), b.base)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}
