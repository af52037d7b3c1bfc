package spec

import (
	"fmt"
	"strings"
	"unicode"
)

// SyntaxError is a mistake in text that the user typed.
type SyntaxError struct {
	Text   string // all of the text: an argument, or a flag's value
	Offset int    // in bytes, from 0 to len(Text)
	Msg    string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("%q: %s", e.Text, e.Msg)
}

// Caret gives the text, and below it a caret under the mistake:
//
//	icmp_[rs
//	     ^
//
// The lines are not indented and do not end in a newline.
func (e *SyntaxError) Caret() string {
	// A tab or newline in the text would move the caret away.
	line := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, e.Text)
	column := len([]rune(e.Text[:min(e.Offset, len(e.Text))]))
	return line + "\n" + strings.Repeat(" ", column) + "^"
}
