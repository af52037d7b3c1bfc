package expr

import (
	"fmt"
	"strconv"
	"strings"

	"fgtrace/internal/caret"
)

// token is a part of the text.
type token struct {
	kind tokenKind
	pos  int    // in bytes
	text string // as it is written; of a string: what it stands for
	num  number // of numbers and characters
}

type tokenKind uint8

const (
	endToken tokenKind = iota
	nameToken
	numberToken
	stringToken
	punctToken
)

// describe spells a token for a message.
func (t token) describe() string {
	switch t.kind {
	case endToken:
		return "the end"
	case stringToken:
		return strconv.Quote(t.text)
	}
	return t.text
}

func (t token) is(punct string) bool { return t.kind == punctToken && t.text == punct }

// number is an integer with the type that C gives it.
type number struct {
	value    uint64
	size     int // in bytes: 4 or 8
	unsigned bool
}

// puncts are in the order in which they are tried.
var puncts = [...]string{
	"->", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||",
	"(", ")", "[", "]", ".", ",", "+", "-", "*", "/", "%", "&", "|", "^", "~", "!", "<", ">", "?", ":",
}

// next returns the token at an offset, and where it ends.
func (p *parser) next(at int) (token, int, error) {
	text := p.text
	for at < len(text) && strings.IndexByte(" \t\n\r", text[at]) >= 0 {
		at++
	}
	if at == len(text) {
		return token{kind: endToken, pos: at}, at, nil
	}
	switch c := text[at]; {
	case isNameByte(c) && !isDigit(c):
		end := at + 1
		for end < len(text) && isNameByte(text[end]) {
			end++
		}
		return token{kind: nameToken, pos: at, text: text[at:end]}, end, nil
	case isDigit(c):
		return p.number(at)
	case c == '\'' || c == '"':
		return p.quoted(at)
	}
	for _, punct := range puncts {
		if strings.HasPrefix(text[at:], punct) {
			return token{kind: punctToken, pos: at, text: punct}, at + len(punct), nil
		}
	}
	return token{}, 0, p.errorf(at, "%q is nothing that expressions have", firstRune(text[at:]))
}

func firstRune(s string) string {
	for _, r := range s {
		return string(r)
	}
	return ""
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isNameByte(c byte) bool {
	return c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' || isDigit(c)
}

// number reads an integer: decimal, 0x, 0b or octal, with C's suffixes.
func (p *parser) number(at int) (token, int, error) {
	end := at
	for end < len(p.text) && (isNameByte(p.text[end]) || p.text[end] == '.') {
		end++
	}
	text := p.text[at:end]
	digits := strings.TrimRight(text, "uUlL")
	suffix := strings.ToLower(text[len(digits):])
	base := 10
	switch {
	case len(digits) > 1 && digits[0] == '0' && digits[1]|0x20 == 'x':
		base = 16
	case len(digits) > 1 && digits[0] == '0' && digits[1]|0x20 == 'b':
		base = 2
	case len(digits) > 1 && digits[0] == '0':
		base = 8
	}
	body := digits
	if base == 16 || base == 2 {
		body = digits[2:]
	}
	value, err := strconv.ParseUint(body, base, 64)
	switch suffix {
	case "", "u", "l", "ul", "lu", "ll", "ull", "llu":
	default:
		err = strconv.ErrSyntax
	}
	if err != nil {
		reason := "is no number"
		if ne := (*strconv.NumError)(nil); asNumError(err, &ne) && ne.Err == strconv.ErrRange {
			reason = "has more than 64 bits"
		}
		return token{}, 0, p.errorf(at, "%s %s", text, reason)
	}
	n := number{value: value, size: 4, unsigned: strings.Contains(suffix, "u")}
	// C11 6.4.4.1: decimal numbers without u are signed, others may become unsigned.
	switch decimal := base == 10; {
	case strings.Contains(suffix, "l") || value > 1<<32-1 || value > 1<<31-1 && decimal && !n.unsigned:
		n.size = 8
		n.unsigned = n.unsigned || value > 1<<63-1
	case value > 1<<31-1:
		n.unsigned = true
	}
	return token{kind: numberToken, pos: at, text: text, num: n}, end, nil
}

func asNumError(err error, to **strconv.NumError) bool {
	ne, ok := err.(*strconv.NumError)
	*to = ne
	return ok
}

// quoted reads a character or a string.
func (p *parser) quoted(at int) (token, int, error) {
	quote := p.text[at]
	var b []byte
	for i := at + 1; i < len(p.text); {
		c := p.text[i]
		if c == quote {
			return p.literal(at, i+1, b)
		}
		i++
		if c == '\\' {
			var err error
			if c, i, err = p.escape(i); err != nil {
				return token{}, 0, err
			}
		}
		b = append(b, c)
	}
	return token{}, 0, p.errorf(at, "%c has no second one", quote)
}

func (p *parser) literal(at, end int, b []byte) (token, int, error) {
	if p.text[at] == '"' {
		if strings.IndexByte(string(b), 0) >= 0 {
			return token{}, 0, p.errorf(at, "a string with a zero in it")
		}
		return token{kind: stringToken, pos: at, text: string(b)}, end, nil
	}
	if len(b) == 1 && b[0] >= 0x80 {
		return token{}, 0, p.errorf(at, "this character has a sign on some machines: write its number")
	}
	if len(b) != 1 {
		return token{}, 0, p.errorf(at, "a character has one byte, not %d", len(b))
	}
	n := number{value: uint64(b[0]), size: 4}
	return token{kind: numberToken, pos: at, text: p.text[at:end], num: n}, end, nil
}

// escape reads what follows a backslash.
func (p *parser) escape(i int) (c byte, end int, err error) {
	if i == len(p.text) {
		return 0, 0, p.errorf(i-1, `\ has nothing behind it`)
	}
	const names, values = `abfnrtv\'"?`, "\a\b\f\n\r\t\v\\'\"?"
	if n := strings.IndexByte(names, p.text[i]); n >= 0 {
		return values[n], i + 1, nil
	}
	base, from, most := 8, i, 3
	if p.text[i] == 'x' {
		base, from, most = 16, i+1, 2
	}
	end = from
	for end < len(p.text) && end-from < most && digitOf(p.text[end]) < base {
		end++
	}
	v, parseErr := strconv.ParseUint(p.text[from:end], base, 8)
	if parseErr != nil {
		return 0, 0, p.errorf(i-1, `\%c is no character`, p.text[i])
	}
	return byte(v), end, nil
}

func digitOf(c byte) int {
	switch {
	case isDigit(c):
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return 99
}

// Error is what is wrong with an expression, and where.
type Error struct {
	Text string // the expression
	Pos  int    // in bytes
	Msg  string
	Hint string // what there is instead; may be long
}

func (e *Error) Error() string { return fmt.Sprintf("at offset %d: %s%s", e.Pos, e.Msg, e.Hint) }

// Caret gives the expression, and below it a caret under what is wrong.
func (e *Error) Caret() string { return caret.Mark(e.Text, e.Pos) }

func (p *parser) errorf(pos int, format string, args ...any) *Error {
	return &Error{Text: p.text, Pos: pos, Msg: fmt.Sprintf(format, args...)}
}
