package spec

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// Mode is the set of events that a target gives.
type Mode uint8

const (
	Entry Mode = 1 << iota // one event as a call starts
	Exit                   // one event as it returns
	Call                   // one event a call, as it returns, with what both of them know
)

// ParseMode parses "entry", "exit", or both of them separated by a comma. The
// empty string is Call. The error is a *SyntaxError.
func ParseMode(s string) (Mode, error) {
	if s == "" {
		return Call, nil
	}
	var mode Mode
	offset := 0
	for word := range strings.SplitSeq(s, ",") {
		var m Mode
		switch word {
		case "entry":
			m = Entry
		case "exit":
			m = Exit
		}
		msg := ""
		switch {
		case m == 0:
			msg = fmt.Sprintf("no mode %q: there are entry, exit, and entry,exit", word)
		case mode&m != 0:
			msg = word + " is there twice"
		}
		if msg != "" {
			return 0, fmt.Errorf("parse mode: %w", &SyntaxError{Text: s, Offset: offset, Msg: msg})
		}
		mode |= m
		offset += len(word) + len(",")
	}
	return mode, nil
}

// String gives "entry", "exit", "entry,exit" or "call".
func (m Mode) String() string {
	var words []string
	for _, w := range []struct {
		bit  Mode
		word string
	}{{Entry, "entry"}, {Exit, "exit"}, {Call, "call"}} {
		if m&w.bit != 0 {
			words = append(words, w.word)
			m &^= w.bit
		}
	}
	if m != 0 || len(words) == 0 {
		words = append(words, fmt.Sprintf("Mode(%#x)", uint8(m)))
	}
	return strings.Join(words, ",")
}

// MaxSize is the largest size that ParseSize takes, in bytes: max_entries of a
// ring buffer has 32 bits and is a power of two, and its pages are mapped twice
// (kernel/bpf/ringbuf.c).
const MaxSize = 1 << 30

// ParseSize parses a number of bytes: "4096", "512K", "8M", "1GiB". The units
// are powers of 1024, in either case. The error is a *SyntaxError.
func ParseSize(s string) (bytes int, err error) {
	fail := func(offset int, msg string) (int, error) {
		return 0, fmt.Errorf("parse size: %w", &SyntaxError{Text: s, Offset: offset, Msg: msg})
	}
	digits := 0
	for digits < len(s) && '0' <= s[digits] && s[digits] <= '9' {
		digits++
	}
	if digits == 0 {
		return fail(0, "no number")
	}
	shift := 0
	switch strings.ToLower(s[digits:]) {
	case "":
	case "k", "kib":
		shift = 10
	case "m", "mib":
		shift = 20
	case "g", "gib":
		shift = 30
	default:
		return fail(digits, fmt.Sprintf("no unit %q: there are K, M and G", s[digits:]))
	}
	n, err := strconv.ParseUint(s[:digits], 10, 64)
	if err != nil || n > MaxSize>>shift {
		return fail(0, "larger than 1G")
	}
	if n == 0 {
		return fail(0, "size is zero")
	}
	return int(n) << shift, nil
}

// RoundRing gives the size of a ring buffer that holds n bytes: the next power
// of two, and a page at least. n is at most MaxSize, pageSize a power of two.
func RoundRing(n, pageSize int) int {
	if n <= pageSize {
		return pageSize
	}
	return 1 << bits.Len(uint(n-1))
}
