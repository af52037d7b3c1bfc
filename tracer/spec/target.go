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
	var targets []Target
	for i, arg := range args {
		offset := 0
		for text := range strings.SplitSeq(arg, ",") {
			t, err := parseTarget(text)
			if err != nil {
				err.Text, err.Offset = arg, offset+err.Offset
				return nil, fmt.Errorf("parse target: %w", err)
			}
			t.Pos = Pos{Arg: i, Offset: offset}
			targets = append(targets, t)
			offset += len(text) + len(",")
		}
	}
	return targets, nil
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
