package matrix

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// node is a call in a function graph.
type node struct {
	Func     string
	Children []*node

	depth       int  // as the kernel counts it, from 0
	cut         bool // there may be more children, beyond the depth that is shown
	interrupted bool // something else ran in the middle of it
}

// size counts a node and all below it.
func (n *node) size() int {
	size := 1
	for _, c := range n.Children {
		size += c.size()
	}
	return size
}

// graphParser reads the text of the function_graph tracer, with the options of
// graphOptions: a task's calls are nested by their braces. (They are by depth,
// too, but the depth of what interrupts is that of a call which is about to be
// shown.)
type graphParser struct {
	open  map[int][]*node // by thread: calls that have not returned
	roots map[int][]*node
	order []*node
}

var (
	graphLine   = regexp.MustCompile(`^\s*(?:\d+\)\s+)?\S.*-(\d+)\s+\|  ?(.*)$`)
	graphCall   = regexp.MustCompile(`^ *([^\s(]+)(?: \[[^\]]+\])?\(.*\)( \{|;)(?: /\*.*\*/)?$`)
	graphReturn = regexp.MustCompile(`^ *\}(?: /\* ([^\s(]+).*\*/)?$`)
	graphNoise  = regexp.MustCompile(`^(#.*|\s*|\s*-+|\s*\d+\)\s+.+ => .+|.*\|\s+/\*.*\*/|.*(=+>|<=+) \|.*)$`)
)

// parseGraph returns the finished calls of no other call, in the order in which
// they began, and by thread. A line that it doesn't know is an error.
func parseGraph(raw []byte) (all []*node, byThread map[int][]*node, err error) {
	p := graphParser{open: map[int][]*node{}, roots: map[int][]*node{}}
	for line := range strings.Lines(string(raw)) {
		if err := p.line(strings.TrimRight(line, "\n")); err != nil {
			return nil, nil, fmt.Errorf("parse function_graph: %w: %q", err, line)
		}
	}
	running := map[*node]bool{}
	for _, open := range p.open {
		if len(open) > 0 {
			running[open[0]] = true
		}
	}
	for _, n := range p.order {
		if !running[n] {
			all = append(all, n)
		}
	}
	for thread, open := range p.open {
		if len(open) > 0 {
			p.roots[thread] = p.roots[thread][:len(p.roots[thread])-1]
		}
	}
	return all, p.roots, nil
}

func (p *graphParser) line(line string) error {
	if strings.Contains(line, "LOST") && strings.HasPrefix(line, "CPU:") {
		return fmt.Errorf("the kernel lost some")
	}
	if graphNoise.MatchString(line) {
		return nil
	}
	m := graphLine.FindStringSubmatch(line)
	if m == nil {
		return fmt.Errorf("no call")
	}
	thread, err := strconv.Atoi(m[1])
	if err != nil {
		return err
	}
	if call := graphCall.FindStringSubmatch(m[2]); call != nil {
		p.enter(thread, call[1], call[2] == ";")
		return nil
	}
	if ret := graphReturn.FindStringSubmatch(m[2]); ret != nil {
		return p.leave(thread, ret[1])
	}
	return fmt.Errorf("neither a call nor a return")
}

func (p *graphParser) enter(thread int, name string, leaf bool) {
	open := p.open[thread]
	n := &node{Func: name, depth: len(open)}
	if len(open) > 0 {
		parent := open[len(open)-1]
		parent.Children = append(parent.Children, n)
	} else {
		p.roots[thread] = append(p.roots[thread], n)
		p.order = append(p.order, n)
	}
	if !leaf {
		p.open[thread] = append(open, n)
	}
}

// leave is a return. That of a call which began before the trace is left out.
func (p *graphParser) leave(thread int, name string) error {
	open := p.open[thread]
	if len(open) == 0 {
		return nil
	}
	if last := open[len(open)-1]; name != "" && last.Func != name {
		return fmt.Errorf("a return from %s in %s", name, last.Func)
	}
	p.open[thread] = open[:len(open)-1]
	return nil
}

// spell spells trees for tests: "a(b c(d))".
func spell(trees ...*node) string {
	var words []string
	for _, n := range trees {
		word := n.Func
		if len(n.Children) > 0 {
			word += "(" + spell(n.Children...) + ")"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// TestParseGraph reads what real kernels printed. Beside each text is the trees'
// spelling, a line each.
func TestParseGraph(t *testing.T) {
	files, err := filepath.Glob("testdata/graph-*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(strings.TrimSuffix(file, ".txt") + ".golden")
			if err != nil {
				t.Fatal(err)
			}
			all, _, err := parseGraph(raw)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for _, n := range all {
				got.WriteString(spell(n) + "\n")
			}
			if diff := diffOf(string(want), got.String()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// Lines as the kernel may print them: what began before, a switch of tasks in
// the middle, an interrupt's marks, a module's function, arguments and results,
// and a call that does not end.
const graphText = `# tracer: function_graph
#
   cat-7       |       old();
   cat-7       |     } /* older */
   cat-7       | a.constprop.0() {
   ==========> |
   <========== |
   cat-7       |   b [mod](x=1, y={2, 3}) { /* c */
 ------------------------------------------
 0)    cat-7       =>     sh-8
 ------------------------------------------

    sh-8       | d() {
    sh-8       |   /* printed */
 0)  web-1 a-7     |   } /* b [mod] ret=0x0 */
 0)  web-1 a-7     | } /* a.constprop.0 */
  <...>-9      | e(); /* = 5 */
`

func TestParseGraphLines(t *testing.T) {
	all, byThread, err := parseGraph([]byte(graphText))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := spell(all...), "old a.constprop.0(b) e"; got != want {
		t.Errorf("all: %s, want %s", got, want)
	}
	if got, want := spell(byThread[7]...), "old a.constprop.0(b)"; got != want {
		t.Errorf("of 7: %s, want %s", got, want)
	}
	if got := spell(byThread[8]...); got != "" {
		t.Errorf("of 8, unfinished: %s", got)
	}
	for name, bad := range map[string]string{
		"lost":    "CPU:0 [LOST 5 EVENTS]\n",
		"no call": " what is this\n",
		"crossed": " a-1  | a() {\n a-1  |   b() {\n a-1  | } /* a */\n",
		"cut":     " a-1  | a(\n",
	} {
		if all, _, err := parseGraph([]byte(bad)); err == nil {
			t.Errorf("%s: no error, but %s", name, spell(all...))
		}
	}
}
