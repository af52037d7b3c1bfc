package spec

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// glob is a compiled pattern: runs of characters with a star between each two.
// One run means no star: the name is matched whole.
//
// The first run is matched at the start of a name and the last one at its end;
// what lies between is taken at the leftmost place that fits. A star never has
// to be tried again, so the cost is that of a substring search per run, and a
// prefix such as tcp_* is one comparison.
type glob struct {
	runs []run
}

// run is a stretch without stars.
type run struct {
	text  string // all of it, if it has no ? and no brackets
	chars []char // otherwise: one for each rune to match
}

// char matches one rune: one that is in a range, or with not, one that is in
// none of them. A ? is what is not in nothing.
type char struct {
	not    bool
	ranges []runeRange
}

type runeRange struct{ lo, hi rune }

// literal gives the only name that g matches, if it has no wildcards.
func (g glob) literal() (string, bool) {
	if len(g.runs) == 1 && g.runs[0].chars == nil {
		return g.runs[0].text, true
	}
	return "", false
}

func (g glob) match(name string) bool {
	if len(g.runs) == 0 {
		return false // the zero value matches nothing
	}
	first, rest := g.runs[0], g.runs[1:]
	n := first.prefix(name)
	if n < 0 {
		return false
	}
	name = name[n:]
	if len(rest) == 0 {
		return name == ""
	}

	last, middle := rest[len(rest)-1], rest[:len(rest)-1]
	end := last.suffix(name)
	if end < 0 {
		return false
	}
	name = name[:end]
	for _, r := range middle {
		if n = r.find(name); n < 0 {
			return false
		}
		name = name[n:]
	}
	return true
}

// prefix gives how many bytes at the start of name match, or -1.
func (r run) prefix(name string) int {
	if r.chars == nil {
		if strings.HasPrefix(name, r.text) {
			return len(r.text)
		}
		return -1
	}
	n := 0
	for _, c := range r.chars {
		x, size := utf8.DecodeRuneInString(name[n:])
		if size == 0 || !c.match(x) {
			return -1
		}
		n += size
	}
	return n
}

// suffix gives where the match at the end of name starts, or -1.
func (r run) suffix(name string) int {
	if r.chars == nil {
		if strings.HasSuffix(name, r.text) {
			return len(name) - len(r.text)
		}
		return -1
	}
	start := len(name)
	for range r.chars {
		_, size := utf8.DecodeLastRuneInString(name[:start])
		start -= size
	}
	if r.prefix(name[start:]) != len(name)-start {
		return -1
	}
	return start
}

// find gives where the leftmost match in name ends, or -1.
func (r run) find(name string) int {
	if r.chars == nil {
		i := strings.Index(name, r.text)
		if i < 0 {
			return -1
		}
		return i + len(r.text)
	}
	for i := range name {
		if n := r.prefix(name[i:]); n >= 0 {
			return i + n
		}
	}
	return -1
}

func (c char) match(x rune) bool {
	for _, r := range c.ranges {
		if r.lo <= x && x <= r.hi {
			return !c.not
		}
	}
	return c.not
}

// compile parses a name or a glob, in which ? stands for one character, * for
// any number of them, [a-z_] for one of these, [!a-z_] or [^a-z_] for one of the
// others, and \c for c itself.
func compile(text string) (glob, *SyntaxError) {
	if text == "" {
		return glob{}, &SyntaxError{Msg: "empty name"}
	}
	p := globParser{text: text}
	for p.at < len(p.text) {
		if err := p.next(); err != nil {
			return glob{}, err
		}
	}
	p.endRun()
	return glob{runs: p.runs}, nil
}

type globParser struct {
	text string
	at   int

	runs  []run // finished
	chars []char
	wild  bool // chars holds more than plain characters
}

// next parses one element of the pattern.
func (p *globParser) next() *SyntaxError {
	switch p.text[p.at] {
	case '*':
		p.at++
		// Stars in a row are one: a run in the middle is never empty.
		if len(p.chars) > 0 || len(p.runs) == 0 {
			p.endRun()
		}
	case '?':
		p.at++
		p.add(char{not: true}, true)
	case '[':
		c, err := p.bracket()
		if err != nil {
			return err
		}
		p.add(c, true)
	default:
		x, err := p.plain()
		if err != nil {
			return err
		}
		p.add(char{ranges: []runeRange{{x, x}}}, false)
	}
	return nil
}

func (p *globParser) add(c char, wild bool) {
	p.chars = append(p.chars, c)
	p.wild = p.wild || wild
}

func (p *globParser) endRun() {
	r := run{chars: p.chars}
	if !p.wild {
		var b strings.Builder
		for _, c := range p.chars {
			b.WriteRune(c.ranges[0].lo)
		}
		r = run{text: b.String()}
	}
	p.runs = append(p.runs, r)
	p.chars, p.wild = nil, false
}

// bracket parses [...], of which p.at is at the start.
func (p *globParser) bracket() (char, *SyntaxError) {
	var c char
	open := p.at
	p.at++
	if p.at < len(p.text) && (p.text[p.at] == '!' || p.text[p.at] == '^') {
		c.not = true
		p.at++
	}
	for p.at < len(p.text) && p.text[p.at] != ']' {
		start := p.at
		lo, err := p.plain()
		if err != nil {
			return c, err
		}
		hi := lo
		if p.at < len(p.text) && p.text[p.at] == '-' {
			p.at++
			if p.at == len(p.text) {
				break
			}
			if p.text[p.at] == ']' {
				return c, p.errorf(start, "range without an end")
			}
			if hi, err = p.plain(); err != nil {
				return c, err
			}
			if hi < lo {
				return c, p.errorf(start, "range ends before it starts")
			}
		}
		c.ranges = append(c.ranges, runeRange{lo, hi})
	}
	if p.at == len(p.text) {
		return c, p.errorf(open, "unclosed bracket")
	}
	if len(c.ranges) == 0 {
		return c, p.errorf(open, "empty bracket")
	}
	p.at++
	return c, nil
}

// plain parses one character that stands for itself.
func (p *globParser) plain() (rune, *SyntaxError) {
	start := p.at
	if p.text[p.at] == '\\' {
		p.at++
		if p.at == len(p.text) {
			return 0, p.errorf(start, "backslash at the end")
		}
	}
	x, size := utf8.DecodeRuneInString(p.text[p.at:])
	switch {
	case x == utf8.RuneError && size <= 1:
		return 0, p.errorf(p.at, "invalid UTF-8")
	case !inSymbols(x):
		return 0, p.errorf(p.at, "%q is never in a symbol's name", x)
	}
	p.at += size
	return x, nil
}

// inSymbols reports whether a symbol's name can have this character. Compilers
// add dots and dollars to identifiers; beyond ASCII they take what they get.
func inSymbols(x rune) bool {
	switch {
	case 'a' <= x && x <= 'z', 'A' <= x && x <= 'Z', '0' <= x && x <= '9':
		return true
	case x == '_', x == '.', x == '$':
		return true
	}
	return x >= utf8.RuneSelf
}

func (p *globParser) errorf(offset int, format string, args ...any) *SyntaxError {
	return &SyntaxError{Text: p.text, Offset: offset, Msg: fmt.Sprintf(format, args...)}
}
