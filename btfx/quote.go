package btfx

import (
	"bytes"
	"unicode"
	"unicode/utf8"
)

// untilNUL cuts a string off at its first NUL.
func untilNUL(s []byte) []byte {
	if i := bytes.IndexByte(s, 0); i >= 0 {
		return s[:i]
	}
	return s
}

// text returns raw up to its first NUL, and reports whether that is text: valid
// UTF-8 of which everything can be printed, or is white space.
func text(raw []byte) ([]byte, bool) {
	raw = untilNUL(raw)
	for i := 0; i < len(raw); {
		c := raw[i]
		if c < utf8.RuneSelf {
			if c < ' ' && (c < '\t' || c > '\r') || c == 0x7f {
				return raw, false
			}
			i++
			continue
		}
		r, n := utf8.DecodeRune(raw[i:])
		if r == utf8.RuneError && n <= 1 || !unicode.IsPrint(r) {
			return raw, false
		}
		i += n
	}
	return raw, true
}

const hexDigits = "0123456789abcdef"

// AppendQuoted appends a string in double quotes, with the escapes of C: \n,
// \t, \" and the like, and \x1b for other bytes that can't be printed or aren't
// UTF-8.
func AppendQuoted[T []byte | string](dst []byte, s T) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := decodeRune(s, i)
			if r == utf8.RuneError && n == 1 || !unicode.IsPrint(r) {
				for ; n > 0; n-- {
					dst = append(dst, '\\', 'x', hexDigits[s[i]>>4], hexDigits[s[i]&15])
					i++
				}
				continue
			}
			dst = append(dst, s[i:i+n]...)
			i += n
			continue
		}
		i++
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c >= ' ' && c != 0x7f:
			dst = append(dst, c)
		case c >= '\a' && c <= '\r':
			dst = append(dst, '\\', "abtnvfr"[c-'\a'])
		default:
			dst = append(dst, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(dst, '"')
}

// AppendJSONString appends a string as JSON has it. Bytes that aren't UTF-8
// become U+FFFD, as in encoding/json.
func AppendJSONString[T []byte | string](dst []byte, s T) []byte {
	dst = append(dst, '"')
	start := 0 // of what is to be copied as it is
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := decodeRune(s, i)
			if r == utf8.RuneError && n == 1 {
				dst = append(dst, s[start:i]...)
				dst = append(dst, "\ufffd"...)
				start = i + n
			}
			i += n
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// decodeRune decodes the rune at an index. A copy of its bytes is made, as
// neither DecodeRune nor DecodeRuneInString takes both types.
func decodeRune[T []byte | string](s T, i int) (rune, int) {
	var b [utf8.UTFMax]byte
	return utf8.DecodeRune(b[:copy(b[:], s[i:])])
}
