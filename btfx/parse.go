package btfx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
)

// ID names a BTF type. 0 is void. A split BTF object, such as a module's,
// continues the numbers of its base.
type ID uint32

// Types is one BTF object: vmlinux's, a module's on top of it, or a BPF
// program's. It is safe for use by several goroutines.
type Types struct {
	base *Types // nil, or what the object is split from

	types []byte // the section of types
	strs  []byte // the section of strings

	// firstID is the ID of the first own type and firstStr the offset of the
	// first own string: 1 and 0, or what follows the base's.
	firstID  ID
	firstStr uint32

	// offsets has the offset in types of the type with ID firstID+i.
	offsets []uint32
	// funcs has the ID of every BTF_KIND_FUNC: functions are what is looked
	// for most, by name and one after another.
	funcs []ID

	names func() string // the section of strings, converted once

	// tellsSigns tells whether the flags of enums tell that they are signed.
	tellsSigns func() bool

	mu          sync.Mutex
	layouts     map[ID]*Layout
	named       map[typeName][]ID
	enumerators map[string][]Enumerator
}

const (
	headerSize = 24     // struct btf_header as it was born; hdr_len tells more
	recordSize = 12     // struct btf_type
	magic      = 0xeb9f // BTF_MAGIC
)

// Parse reads a BTF object. base is nil, or what raw is split from: vmlinux's
// BTF for a module's.
//
// raw is kept, not copied: it must not be changed or unmapped afterwards. It
// may be a read-only mapping.
//
// A type of a kind that isn't known is an error, as the size of its record,
// and so the place of all that follow, isn't known either.
func Parse(raw []byte, base *Types) (*Types, error) {
	t := &Types{
		base:        base,
		firstID:     1,
		layouts:     make(map[ID]*Layout),
		named:       make(map[typeName][]ID),
		enumerators: make(map[string][]Enumerator),
	}
	if base != nil {
		t.firstID = base.endID()
		t.firstStr = base.endStr()
	}
	if err := t.sections(raw); err != nil {
		return nil, fmt.Errorf("parse btf: %w", err)
	}
	if err := t.index(); err != nil {
		return nil, fmt.Errorf("parse btf: %w", err)
	}
	t.names = sync.OnceValue(func() string { return string(t.strs) })
	t.tellsSigns = sync.OnceValue(func() bool {
		for _, r := range t.ownEnums {
			if r.flag {
				return true
			}
		}
		return t.base != nil && t.base.tellsSigns()
	})
	return t, nil
}

// sections checks struct btf_header and cuts raw into types and strings.
func (t *Types) sections(raw []byte) error {
	le := binary.LittleEndian
	if len(raw) < headerSize {
		return fmt.Errorf("%d bytes are no header", len(raw))
	}
	switch m := le.Uint16(raw); m {
	case magic:
	case magic>>8 | magic&0xff<<8:
		return errors.New("big-endian")
	default:
		return fmt.Errorf("magic %#x instead of %#x", m, magic)
	}
	if v := raw[2]; v != 1 {
		return fmt.Errorf("version %d instead of 1", v)
	}
	hdrLen := le.Uint32(raw[4:])
	if hdrLen < headerSize || uint64(hdrLen) > uint64(len(raw)) {
		return fmt.Errorf("header of %d bytes in %d", hdrLen, len(raw))
	}

	// Offsets count from the end of the header, which later versions of the
	// format may make longer.
	body := raw[hdrLen:]
	cut := func(what string, at int) ([]byte, error) {
		off, n := uint64(le.Uint32(raw[at:])), uint64(le.Uint32(raw[at+4:]))
		if off+n > uint64(len(body)) {
			return nil, fmt.Errorf("section of %s at %d of %d bytes lies outside the %d bytes after the header",
				what, off, n, len(body))
		}
		return body[off : off+n : off+n], nil
	}
	var err error
	if t.types, err = cut("types", 8); err != nil {
		return err
	}
	if t.strs, err = cut("strings", 16); err != nil {
		return err
	}
	if len(t.strs) > 0 && t.strs[len(t.strs)-1] != 0 {
		return errors.New("section of strings doesn't end in NUL")
	}
	if uint64(t.firstStr)+uint64(len(t.strs)) > 1<<32-1 {
		return errors.New("too many strings on top of the base's")
	}
	return nil
}

// index finds where each type begins.
func (t *Types) index() error {
	// A vmlinux has a type in 25 to 28 bytes and a function in five types;
	// guesses a bit above spare most copying of these tables.
	t.offsets = make([]uint32, 0, len(t.types)/24)
	t.funcs = make([]ID, 0, len(t.types)/128)

	le := binary.LittleEndian
	types := t.types
	for off := 0; off < len(types); {
		if len(types)-off < recordSize {
			return fmt.Errorf("type %d at offset %d: cut off", t.endID(), off)
		}
		info := le.Uint32(types[off+4:])
		size := recordSize
		switch k := infoKind(info); k {
		case KindFunc:
			t.funcs = append(t.funcs, t.endID())
		case KindPtr, KindConst, KindTypedef:
		default:
			fixed, entry, ok := k.tailSize()
			if !ok {
				return fmt.Errorf("type %d at offset %d: unknown kind %d", t.endID(), off, k)
			}
			size += fixed + entry*infoLen(info)
			if size > len(types)-off {
				return fmt.Errorf("type %d (%s) at offset %d: cut off", t.endID(), k, off)
			}
		}
		t.offsets = append(t.offsets, uint32(off))
		off += size
	}
	if uint64(t.firstID)+uint64(len(t.offsets)) > 1<<31 {
		return errors.New("too many types on top of the base's")
	}
	return nil
}

// infoKind returns the kind in the info word of struct btf_type. It had five
// bits at first, and newer kernels have seven; older ones refuse BTF in which
// the others aren't zero (BTF_INFO_MASK in kernel/bpf/btf.c).
func infoKind(info uint32) Kind { return Kind(info >> 24 & 0x7f) }

// infoLen returns the number of entries in the info word of struct btf_type:
// 16 bits at first, 24 in newer kernels.
func infoLen(info uint32) int { return int(info & 0xffffff) }

// endID returns the ID after that of the last type.
func (t *Types) endID() ID { return t.firstID + ID(len(t.offsets)) }

// endStr returns the offset after the last string's.
func (t *Types) endStr() uint32 { return t.firstStr + uint32(len(t.strs)) }

// Base returns the object that t is split from, or nil.
func (t *Types) Base() *Types { return t.base }

// IDs returns the first ID of the object's own types and the one after the
// last.
func (t *Types) IDs() (first, end ID) { return t.firstID, t.endID() }
