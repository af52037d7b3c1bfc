package btfx

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// record is a struct btf_type and what follows it, undecoded.
type record struct {
	kind Kind
	flag bool   // kind_flag
	len  int    // vlen
	name uint32 // offset of the name
	word uint32 // size or type, as the kind has it
	tail []byte // the fixed part and the entries, exactly
}

// record returns the record of a type. Void has none: it comes as one of kind
// KindVoid.
func (t *Types) record(id ID) (record, error) {
	if id == 0 {
		return record{}, nil
	}
	for id < t.firstID {
		t = t.base
	}
	i := int(id - t.firstID)
	if i >= len(t.offsets) {
		return record{}, fmt.Errorf("no type %d", id)
	}
	end := len(t.types)
	if i+1 < len(t.offsets) {
		end = int(t.offsets[i+1])
	}
	raw := t.types[t.offsets[i]:end]
	le := binary.LittleEndian
	info := le.Uint32(raw[4:])
	return record{
		kind: infoKind(info),
		flag: info>>31 != 0,
		len:  infoLen(info),
		name: le.Uint32(raw),
		word: le.Uint32(raw[8:]),
		tail: raw[recordSize:],
	}, nil
}

// u32 returns a word of the tail.
func (r *record) u32(i int) uint32 { return binary.LittleEndian.Uint32(r.tail[4*i:]) }

// ref returns the type that a record of a kind that refers to one refers to.
func (r *record) ref() ID { return ID(r.word) }

// stringBytes returns the string at an offset, without its NUL. Offsets that
// lie outside give an empty string, as type 0 of an anonymous type does: names
// are for people, and nothing is found by an empty one.
func (t *Types) stringBytes(off uint32) []byte {
	for off < t.firstStr {
		t = t.base
	}
	off -= t.firstStr
	if int(off) >= len(t.strs) {
		return nil
	}
	s := t.strs[off:]
	return s[:bytes.IndexByte(s, 0)]
}

func (t *Types) string(off uint32) string { return string(t.stringBytes(off)) }

// maxChain is how many typedefs, qualifiers and arrays may follow one another.
// The kernel's MAX_RESOLVE_DEPTH is 32 (kernel/bpf/btf.c).
const maxChain = 64

// resolve strips typedefs, qualifiers and tags.
func (t *Types) resolve(id ID) (ID, record, error) {
	start := id
	for range maxChain {
		r, err := t.record(id)
		if err != nil || !r.kind.transparent() {
			return id, r, err
		}
		id = r.ref()
	}
	return 0, record{}, fmt.Errorf("type %d: more than %d typedefs and qualifiers in a row", start, maxChain)
}
