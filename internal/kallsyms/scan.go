package kallsyms

import (
	"bytes"
	"fmt"
	"io"
)

const (
	// bufferSize bounds the length of a line too. The kernel's longest is below
	// 700 bytes: KSYM_NAME_LEN is 512 and MODULE_NAME_LEN 56 or so.
	bufferSize = 256 << 10

	// maxEmptyReads is what bufio allows a reader before it gives up on it.
	maxEmptyReads = 100
)

// Scan calls fn for each symbol, in the order of the list, until fn returns
// false. module is empty for vmlinux. name and module are valid during the call
// only. Nothing is allocated per line.
//
// The error is a *SyntaxError for a line that does not parse, or ErrHidden when
// no symbol had an address; fn has then seen zeros.
func Scan(r io.Reader, fn func(addr uint64, typ byte, name, module []byte) bool) error {
	var (
		buf     = make([]byte, bufferSize)
		fill    int  // buf[:fill] is read and not yet parsed
		line    int  // lines parsed
		empty   int  // reads in a row without data
		shown   bool // some address was not zero
		stopped bool // fn has had enough
		p       = newParser()
	)
	for {
		n, err := r.Read(buf[fill:])
		fill += n
		atEOF := err == io.EOF
		switch {
		case atEOF:
		case err != nil:
			return fmt.Errorf("read symbols: %w", err)
		case n > 0:
			empty = 0
		default:
			if empty++; empty >= maxEmptyReads {
				return fmt.Errorf("read symbols: %w", io.ErrNoProgress)
			}
		}

		rest := buf[:fill]
		for len(rest) > 0 {
			end := bytes.IndexByte(rest, '\n')
			var text []byte
			switch {
			case end >= 0:
				text, rest = rest[:end], rest[end+1:]
			case atEOF:
				text, rest = rest, nil
			}
			if text == nil && rest != nil {
				break // the end of the line is still to be read
			}
			line++
			s, msg := p.parse(text)
			if msg != "" {
				return newSyntaxError(line, text, msg)
			}
			shown = shown || s.addr != 0
			if !stopped {
				stopped = !fn(s.addr, s.typ, s.name, s.module)
			}
			// A caller that stopped at a zero must still learn whether that
			// was the symbol's value, so go on to the first address.
			if stopped && shown {
				return nil
			}
		}
		fill = copy(buf, rest)

		if atEOF {
			break
		}
		if fill == len(buf) {
			return newSyntaxError(line+1, buf, "line is too long")
		}
	}
	if line > 0 && !shown {
		return ErrHidden
	}
	return nil
}

func newSyntaxError(line int, text []byte, msg string) *SyntaxError {
	return &SyntaxError{Line: line, Text: string(text[:min(len(text), maxQuoted)]), Msg: msg}
}

// symbol is one line. The slices point into the reader's buffer.
type symbol struct {
	addr         uint64
	typ          byte
	name, module []byte
}

// parser holds a table in place of branches on the digits of an address, which
// no predictor can guess: it is a third of the time that parsing takes.
type parser struct {
	digit [256]uint8 // value of a hexadecimal digit, or notDigit
}

const notDigit = 0xff

func newParser() *parser {
	p := new(parser)
	for i := range p.digit {
		p.digit[i] = notDigit
	}
	for i := range uint8(10) {
		p.digit['0'+i] = i
	}
	for i := range uint8(6) {
		p.digit['a'+i] = 10 + i
		p.digit['A'+i] = 10 + i
	}
	return p
}

// parse splits a line without its newline. A msg that is not empty says what is
// wrong with it.
func (p *parser) parse(line []byte) (s symbol, msg string) {
	n := 0
	for n < len(line) {
		d := p.digit[line[n]]
		if d == notDigit {
			break
		}
		s.addr = s.addr<<4 | uint64(d)
		n++
	}
	switch {
	case n == 0:
		return s, "no address"
	case n > 16:
		return s, "address does not fit 64 bits"
	case len(line) < n+4 || line[n] != ' ' || line[n+2] != ' ':
		return s, "no type and name after the address"
	}
	s.typ, s.name = line[n+1], line[n+3:]

	// Only vmlinux's names are searched for a tab in vain; testing the last
	// byte first spares them that.
	if last := len(s.name) - 1; s.name[last] == ']' {
		if tab := bytes.IndexByte(s.name, '\t'); tab >= 0 && s.name[tab+1] == '[' {
			s.name, s.module = s.name[:tab], s.name[tab+2:last]
		}
	}
	if len(s.name) == 0 {
		return s, "no name" // s_show skips those itself
	}
	return s, ""
}

// IsPart tells the symbols of a function's parts from those of functions: what
// the compiler moved away as unlikely, and the padding in front (objtool's).
func IsPart(name []byte) bool {
	return bytes.HasPrefix(name, []byte("__pfx_")) || bytes.Contains(name, []byte(".cold"))
}
