// Package spec parses what the user asked for. It knows nothing of the machine
// it runs on: that a name exists is for the plan to find out.
package spec

import (
	"fmt"
	"strings"
)

// Target names functions of the kernel: one element of a -k list.
type Target struct {
	Text string // the name with its escapes resolved, or the glob as it was typed
	Glob bool   // Text has a wildcard, and may match any number of names
	Pos  Pos

	// Filter is an expression that holds of the calls that are wanted; "": all are.
	Filter string

	glob glob
}

// Pos is where an element starts among the arguments it was parsed from.
type Pos struct {
	Arg    int // index of the argument
	Offset int // in that argument, in bytes
}

// ParseTargets parses arguments that each hold one target or several, separated
// by commas: "icmp_rcv", "tcp_*,udp_sendmsg". The error is a *SyntaxError about
// the argument.
func ParseTargets(args []string) ([]Target, error) {
	targets, err := ParseFiltered(args)
	if err != nil {
		return nil, err
	}
	for _, t := range targets {
		if t.Filter != "" {
			arg := args[t.Pos.Arg]
			at := t.Pos.Offset + strings.IndexByte(arg[t.Pos.Offset:], '{')
			return nil, fmt.Errorf("parse target: %w", &SyntaxError{Text: arg, Offset: at, Msg: "only what is traced by -k has an expression"})
		}
	}
	return targets, nil
}

// ParseFiltered parses arguments whose targets may have an expression each, in which
// commas are its own: "vfs_read{count > 1},tcp_*".
func ParseFiltered(args []string) ([]Target, error) {
	var targets []Target
	for i, arg := range args {
		for offset := 0; offset <= len(arg); {
			t, n, err := parseElement(arg[offset:])
			if err != nil {
				err.Text, err.Offset = arg, offset+err.Offset
				return nil, fmt.Errorf("parse target: %w", err)
			}
			t.Pos = Pos{Arg: i, Offset: offset}
			targets = append(targets, t)
			offset += n + len(",")
		}
	}
	return targets, nil
}

// parseElement parses the target that text begins with, and returns its length.
func parseElement(text string) (t Target, n int, err *SyntaxError) {
	name, _, _ := strings.Cut(text, ",")
	name, _, isFiltered := strings.Cut(name, "{")
	if t, err = parseTarget(name); err != nil || !isFiltered {
		return t, len(name), err
	}
	at := len(name) + len("{")
	end := closing(text[at:])
	if end < 0 {
		return t, 0, &SyntaxError{Offset: at - 1, Msg: "unclosed {"}
	}
	if t.Filter = strings.TrimSpace(text[at : at+end]); t.Filter == "" {
		return t, 0, &SyntaxError{Offset: at, Msg: "empty expression"}
	}
	n = at + end + len("}")
	if n < len(text) && text[n] != ',' {
		return t, 0, &SyntaxError{Offset: n, Msg: "a comma goes behind }"}
	}
	return t, n, nil
}

// closing returns where the } is that ends an expression, which is none in quotes;
// -1: nowhere.
func closing(text string) int {
	quote := byte(0)
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quote != 0 && c == '\\':
			i++
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case quote == 0 && c == '}':
			return i
		}
	}
	return -1
}

func parseTarget(text string) (Target, *SyntaxError) {
	g, err := compile(text)
	if err != nil {
		return Target{}, err
	}
	if name, ok := g.literal(); ok {
		return Target{Text: name, glob: g}, nil
	}
	return Target{Text: text, Glob: true, glob: g}, nil
}

// Match reports whether the target names this function. The name is the
// symbol's, with suffixes such as .constprop.0.
func (t Target) Match(name string) bool {
	if !t.Glob {
		return name == t.Text
	}
	return t.glob.match(name)
}

// Equal reports whether two targets were typed alike in the same place.
func (t Target) Equal(u Target) bool {
	return t.Text == u.Text && t.Glob == u.Glob && t.Pos == u.Pos
}
