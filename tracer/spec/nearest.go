package spec

import (
	"cmp"
	"math/bits"
	"slices"
	"strings"
)

// Nearest collects, of many names, those that the user may have meant. Names
// are offered one by one, so that no list of them has to be held.
//
// A name is near when a few slips of the keyboard lead to it, or to some of its
// leading or trailing words: tcp_sendmesage is near to tcp_sendmsg and to
// tcp_sendmsg_locked, sendmsg to sock_sendmsg. It is also near when one of the
// two contains the other.
type Nearest struct {
	want     string
	letters  uint64
	max      int
	slips    int // more of these make a name another name
	best     []candidate
	distance distance
}

// candidate is a name and what it is ranked by, in this order.
type candidate struct {
	slips  int // between want and the part of the name that it resembles
	shared int // length of the prefix in common
	extra  int // bytes of the name outside that part
	name   string
}

func (c candidate) compare(d candidate) int {
	return cmp.Or(
		cmp.Compare(c.slips, d.slips),
		cmp.Compare(d.shared, c.shared), // more is better
		cmp.Compare(c.extra, d.extra),
		cmp.Compare(c.name, d.name),
	)
}

const (
	maxSlips = 4

	// minContained is the length from which a name inside another one says
	// something: "tcp" is inside of a thousand.
	minContained = 4
)

// NewNearest looks for at most max names near want.
func NewNearest(want string, max int) *Nearest {
	return &Nearest{
		want:    want,
		letters: letters(want),
		max:     max,
		// One in five, rounded: 1 from 3 letters on, 2 from 8, 3 from 13.
		slips:    min((len(want)+2)/5, maxSlips),
		distance: newDistance(want),
	}
}

// Names gives the names found so far, the nearest first.
func (n *Nearest) Names() []string {
	names := make([]string, len(n.best))
	for i, c := range n.best {
		names[i] = c.name
	}
	return names
}

// Offer considers a name. Being offered twice makes no difference to it.
func (n *Nearest) Offer(name string) {
	limit := n.slips
	if len(n.best) == n.max {
		if n.max == 0 {
			return
		}
		limit = n.best[n.max-1].slips
	}
	c, ok := n.rank(name, limit)
	if !ok {
		return
	}
	at, found := slices.BinarySearchFunc(n.best, c, candidate.compare)
	if found || at == n.max {
		return
	}
	if len(n.best) == n.max {
		n.best = n.best[:n.max-1]
	}
	c.name = strings.Clone(name) // the caller's may be part of something large
	n.best = slices.Insert(n.best, at, c)
}

// rank compares name with want, and reports false when there are more than
// limit slips between them.
func (n *Nearest) rank(name string, limit int) (candidate, bool) {
	if name == n.want || name == "" {
		return candidate{}, false
	}
	c := candidate{slips: limit + 1, name: name}

	// A name that want continues by a word or a suffix is as far away as a name
	// can be, because much of what was typed is ignored.
	if rest, ok := strings.CutPrefix(n.want, name); ok && len(name) >= minContained && endsWord(rest[0]) {
		c.slips = n.slips
	}
	// Each letter of want that the name does not have is a slip. This turns
	// nine names of ten away.
	if bits.OnesCount64(n.letters&^letters(name)) <= limit {
		n.compareParts(name, limit, &c)
	}
	if c.slips > limit {
		return candidate{}, false
	}
	c.shared = sharedPrefix(n.want, name)
	return c, true
}

// compareParts compares want with the name, its leading and its trailing words.
func (n *Nearest) compareParts(name string, limit int, c *candidate) {
	try := func(part string) {
		slips := n.distance.between(part, min(limit, c.slips))
		extra := len(name) - len(part)
		if slips < c.slips || slips == c.slips && extra < c.extra {
			c.slips, c.extra = slips, extra
		}
	}
	try(name)
	for i := 1; i < len(name)-1; i++ {
		if endsWord(name[i]) {
			try(name[:i])
			try(name[i+1:])
		}
	}
	// What stands inside a word was typed without a slip, but is less alike
	// than whole words are.
	if c.slips > 1 && limit >= 1 && len(n.want) >= minContained && strings.Contains(name, n.want) {
		c.slips, c.extra = 1, len(name)-len(n.want)
	}
}

func endsWord(c byte) bool { return c == '_' || c == '.' }

// letters is the set of a name's bytes, folded: a bit may stand for several.
func letters(name string) uint64 {
	var set uint64
	for i := range len(name) {
		set |= 1 << (name[i] % 64)
	}
	return set
}

func sharedPrefix(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
