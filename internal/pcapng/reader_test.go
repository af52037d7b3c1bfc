package pcapng

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// file is what a file has.
type file struct {
	Section    Section
	Interfaces []Interface
	Packets    []packet
	Statistics []Statistics
}

// packet is a Packet with its comments told apart.
type packet struct {
	Interface int
	Time      uint64
	Data      []byte
	Length    int
	Flags     uint32
	Comments  []string
}

type option struct {
	code  uint16
	value []byte
}

// read takes a file apart. Whatever the format does not have, or this package should
// not write, is an error.
func read(b []byte) (*file, error) {
	f := &file{}
	for n := 0; len(b) > 0; n++ {
		if len(b) < 12 {
			return f, fmt.Errorf("block %d: %d bytes are left", n, len(b))
		}
		kind, length := u32(b), int(u32(b[4:]))
		if length < 12 || length%4 != 0 || length > len(b) || length > 262144 || n == 0 && length > 2048 {
			return f, fmt.Errorf("block %d: length %d of %d", n, length, len(b))
		}
		if end := int(u32(b[length-4:])); end != length {
			return f, fmt.Errorf("block %d: length %d, at its end %d", n, length, end)
		}
		if (n == 0) != (kind == 0x0a0d0d0a) {
			return f, fmt.Errorf("block %d has type %#x", n, kind)
		}
		var err error
		switch body := b[8 : length-4]; kind {
		case 0x0a0d0d0a:
			err = f.readSection(body)
		case 1:
			err = f.readInterface(body)
		case 5:
			err = f.readStatistics(body)
		case 6:
			err = f.readPacket(body)
		default:
			err = fmt.Errorf("type %#x", kind)
		}
		if err != nil {
			return f, fmt.Errorf("block %d: %w", n, err)
		}
		b = b[length:]
	}
	return f, nil
}

func (f *file) readSection(b []byte) error {
	const fixed = "\x4d\x3c\x2b\x1a\x01\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff"
	if len(b) < len(fixed) || string(b[:len(fixed)]) != fixed {
		return fmt.Errorf("section begins with %x", b)
	}
	options, err := readOptions(b[len(fixed):])
	if err != nil {
		return err
	}
	return readEach(options, map[uint16]any{
		1: &f.Section.Comment, 2: &f.Section.Hardware, 3: &f.Section.OS, 4: &f.Section.Application,
	})
}

func (f *file) readInterface(b []byte) error {
	if len(b) < 8 {
		return errors.New("interface is cut")
	}
	if b[2] != 0 || b[3] != 0 {
		return errors.New("reserved bits are set")
	}
	i := Interface{LinkType: binary.LittleEndian.Uint16(b), SnapLen: u32(b[4:])}
	options, err := readOptions(b[8:])
	if err != nil {
		return err
	}
	var resolution byte
	var filter string
	if err := readEach(options, map[uint16]any{2: &i.Name, 3: &i.Description, 9: &resolution, 11: &filter}); err != nil {
		return err
	}
	if resolution != 9 {
		return fmt.Errorf("resolution %d", resolution)
	}
	i.Filter = filter
	f.Interfaces = append(f.Interfaces, i)
	return nil
}

func (f *file) readPacket(b []byte) error {
	if len(b) < 20 {
		return errors.New("packet is cut")
	}
	p := packet{Interface: int(u32(b)), Time: readTime(b[4:]), Length: int(u32(b[16:]))}
	if p.Interface >= len(f.Interfaces) {
		return fmt.Errorf("there is no interface %d yet", p.Interface)
	}
	n := int(u32(b[12:]))
	data, rest, err := readPadded(b[20:], n)
	if err != nil {
		return err
	}
	if p.Length < n {
		return fmt.Errorf("%d bytes of %d are captured", n, p.Length)
	}
	p.Data = data
	options, err := readOptions(rest)
	if err != nil {
		return err
	}
	for len(options) > 0 && options[0].code == 1 {
		text, err := readText(options[0].value)
		if err != nil {
			return err
		}
		p.Comments = append(p.Comments, text)
		options = options[1:]
	}
	if err := readEach(options, map[uint16]any{2: &p.Flags}); err != nil {
		return err
	}
	f.Packets = append(f.Packets, p)
	return nil
}

func (f *file) readStatistics(b []byte) error {
	if len(b) < 12 {
		return errors.New("statistics are cut")
	}
	s := Statistics{Interface: int(u32(b)), Time: readTime(b[4:])}
	if s.Interface >= len(f.Interfaces) {
		return fmt.Errorf("there is no interface %d yet", s.Interface)
	}
	for _, count := range []*uint64{&s.Received, &s.Dropped, &s.Accepted, &s.OSDropped, &s.Delivered} {
		*count = Unknown
	}
	options, err := readOptions(b[12:])
	if err != nil {
		return err
	}
	for i, o := range options {
		if (o.code == 2 || o.code == 3) && len(o.value) == 8 { // times have their halves swapped
			options[i].value = slices.Concat(o.value[4:], o.value[:4])
		}
	}
	f.Statistics = append(f.Statistics, s)
	last := &f.Statistics[len(f.Statistics)-1]
	return readEach(options, map[uint16]any{
		2: &last.Start, 3: &last.End, 4: &last.Received, 5: &last.Dropped,
		6: &last.Accepted, 7: &last.OSDropped, 8: &last.Delivered,
	})
}

// readOptions reads options up to the end of their block.
func readOptions(b []byte) ([]option, error) {
	var options []option
	for i := 0; len(b) > 0; i++ {
		if len(b) < 4 {
			return nil, fmt.Errorf("option %d is cut", i)
		}
		code, n := binary.LittleEndian.Uint16(b), int(binary.LittleEndian.Uint16(b[2:]))
		if code == 0 {
			if n != 0 || len(b) != 4 || i == 0 {
				return nil, fmt.Errorf("the end of %d options has length %d, %d bytes follow", i, n, len(b)-4)
			}
			return options, nil
		}
		value, rest, err := readPadded(b[4:], n)
		if err != nil {
			return nil, fmt.Errorf("option %d: %w", i, err)
		}
		options = append(options, option{code, value})
		b = rest
	}
	if options != nil {
		return nil, errors.New("options have no end")
	}
	return nil, nil
}

// readEach reads options that may be there once, by their codes.
func readEach(options []option, to map[uint16]any) error {
	for _, o := range options {
		var err error
		switch v := to[o.code].(type) {
		case *string:
			text := o.value
			if o.code == 11 { // if_filter
				if len(text) < 2 || text[0] != 0 {
					return fmt.Errorf("filter is %q", text)
				}
				text = text[1:]
			}
			*v, err = readText(text)
		case *byte:
			if len(o.value) != 1 {
				return fmt.Errorf("option %d has %d bytes", o.code, len(o.value))
			}
			*v = o.value[0]
		case *uint32:
			if len(o.value) != 4 {
				return fmt.Errorf("option %d has %d bytes", o.code, len(o.value))
			}
			*v = u32(o.value)
		case *uint64:
			if len(o.value) != 8 {
				return fmt.Errorf("option %d has %d bytes", o.code, len(o.value))
			}
			*v = binary.LittleEndian.Uint64(o.value)
		default:
			err = fmt.Errorf("option %d is unknown, or there twice", o.code)
		}
		if err != nil {
			return err
		}
		delete(to, o.code)
	}
	return nil
}

// readText reads a string as readers do who end it at a zero, and want UTF-8.
func readText(b []byte) (string, error) {
	if len(b) == 0 || !utf8.Valid(b) || slices.Contains(b, 0) {
		return "", fmt.Errorf("string is %q", b)
	}
	return string(b), nil
}

// readPadded reads n bytes and the zeros after them.
func readPadded(b []byte, n int) (data, rest []byte, err error) {
	end := (n + 3) &^ 3
	if end > len(b) {
		return nil, nil, fmt.Errorf("%d of %d bytes are there", len(b), end)
	}
	for _, c := range b[n:end] {
		if c != 0 {
			return nil, nil, fmt.Errorf("padding is %x", b[n:end])
		}
	}
	return b[:n:n], b[end:], nil
}

func readTime(b []byte) uint64 { return uint64(u32(b))<<32 | uint64(u32(b[4:])) }

func u32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
