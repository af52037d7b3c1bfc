// Package caret shows a place in text that was typed.
package caret

import (
	"strings"
	"unicode"
)

// Mark returns text, and below it a caret under the byte at an offset, from 0 to
// len(text):
//
//	icmp_[rs
//	     ^
//
// The lines are not indented and do not end in a newline. Of long text it has a part.
func Mark(text string, offset int) string {
	const before, after = 60, 40 // bytes
	offset = min(max(offset, 0), len(text))
	from, to := 0, len(text)
	head, tail := "", ""
	if offset > before+len(dots) {
		from, head = boundary(text, offset-before), dots
	}
	if to > offset+after+len(dots) {
		to, tail = boundary(text, offset+after), dots
	}
	// A tab or newline in the text would move the caret away.
	line := func(part string) string {
		return strings.Map(func(r rune) rune {
			if unicode.IsControl(r) {
				return ' '
			}
			return r
		}, part)
	}
	column := len([]rune(head + text[from:offset]))
	return head + line(text[from:to]) + tail + "\n" + strings.Repeat(" ", column) + "^"
}

const dots = "..."

// boundary returns where the character begins that a byte is in.
func boundary(text string, at int) int {
	for at > 0 && text[at]&0xc0 == 0x80 {
		at--
	}
	return at
}
