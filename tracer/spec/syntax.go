package spec

import (
	"fmt"

	"fgtrace/internal/caret"
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

// Caret gives the text, and below it a caret under the mistake.
func (e *SyntaxError) Caret() string { return caret.Mark(e.Text, e.Offset) }
