package expr

import "fmt"

// Node is a part of an expression as it is written.
type Node interface {
	// Pos is where it is in the text, in bytes: of an operation, its operator.
	Pos() int
}

type (
	// Number is an integer or a character.
	Number struct {
		At    int
		Value uint64
		Long  bool // 64 bits, else 32
		Unsig bool
	}
	// String is a string.
	String struct {
		At   int
		Text string
	}
	// Name is a parameter, an enumerator, a variable, or NULL.
	Name struct {
		At   int
		Name string
	}
	// Unary is one of + - ~ ! * &.
	Unary struct {
		At int
		Op string
		X  Node
	}
	// Binary is an operation of two operands.
	Binary struct {
		At   int
		Op   string
		X, Y Node
	}
	// Cond is X ? Y : Z.
	Cond struct {
		At      int
		X, Y, Z Node
	}
	// Member is X.Name or X->Name.
	Member struct {
		At    int // of the name
		X     Node
		Name  string
		Arrow bool
	}
	// Index is X[Y].
	Index struct {
		At   int
		X, Y Node
	}
	// Cast is (Type)X.
	Cast struct {
		At   int
		Type TypeName
		X    Node
	}
	// Sizeof is sizeof X, or sizeof(Type) if X is nil.
	Sizeof struct {
		At   int
		Type TypeName
		X    Node
	}
	// Call is Func(Args).
	Call struct {
		At   int
		Func string
		Args []Node
	}
)

func (n *Number) Pos() int { return n.At }
func (n *String) Pos() int { return n.At }
func (n *Name) Pos() int   { return n.At }
func (n *Unary) Pos() int  { return n.At }
func (n *Binary) Pos() int { return n.At }
func (n *Cond) Pos() int   { return n.At }
func (n *Member) Pos() int { return n.At }
func (n *Index) Pos() int  { return n.At }
func (n *Cast) Pos() int   { return n.At }
func (n *Sizeof) Pos() int { return n.At }
func (n *Call) Pos() int   { return n.At }

// TypeName is a type in a cast or sizeof.
type TypeName struct {
	At    int
	Tag   string // struct, union or enum; "": a typedef or one of C's own
	Name  string // of C's own: "unsigned long"
	Basic bool   // one of C's own
	Stars int    // pointers to it
}

const (
	// MaxText is the longest expression, in bytes.
	MaxText = 1 << 16
	// maxNesting is how deep an expression may be.
	maxNesting = 200
)

// Parse reads an expression. isType tells the names of typedefs. Errors are *Error.
func Parse(text string, isType func(name string) bool) (Node, error) {
	p := &parser{text: text, isType: isType}
	if len(text) > MaxText {
		p.text = text[:MaxText]
		return nil, p.errorf(MaxText, "%d bytes, and an expression has at most %d", len(text), MaxText)
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	if p.tok.kind == endToken {
		return nil, p.errorf(p.tok.pos, "an empty expression")
	}
	n, err := p.expression()
	if err != nil {
		return nil, err
	}
	if p.tok.kind != endToken {
		return nil, p.errorf(p.tok.pos, "%s is not expected here", p.tok.describe())
	}
	return n, nil
}

// parser has one token in hand, and knows where the next begins.
type parser struct {
	text   string
	isType func(string) bool
	tok    token
	at     int // behind tok
	depth  int
}

func (p *parser) advance() error {
	tok, at, err := p.next(p.at)
	if err != nil {
		return err
	}
	p.tok, p.at = tok, at
	return nil
}

// peek returns the token behind the one in hand, and the one behind that from at.
func (p *parser) peek(at int) (token, int) {
	tok, end, err := p.next(at)
	if err != nil {
		return token{kind: endToken, pos: at}, at
	}
	return tok, end
}

func (p *parser) expect(punct, what string) error {
	if !p.tok.is(punct) {
		return p.errorf(p.tok.pos, "%s where %s is expected%s", p.tok.describe(), punct, what)
	}
	return p.advance()
}

// enter bounds how deep the parser calls itself.
func (p *parser) enter() error {
	if p.depth++; p.depth > maxNesting {
		return p.errorf(p.tok.pos, "more than %d parts in one another", maxNesting)
	}
	return nil
}

func (p *parser) leave() { p.depth-- }

// expression is one with ?:, which binds least.
func (p *parser) expression() (Node, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	x, err := p.binary(1)
	if err != nil || !p.tok.is("?") {
		return x, err
	}
	c := &Cond{At: p.tok.pos, X: x}
	if err := p.advance(); err != nil {
		return nil, err
	}
	if c.Y, err = p.expression(); err != nil {
		return nil, err
	}
	if err := p.expect(":", " for the ? before it"); err != nil {
		return nil, err
	}
	if c.Z, err = p.expression(); err != nil {
		return nil, err
	}
	return c, nil
}

// precedence returns how strong an operator binds; 0: it is none.
func precedence(op string) int {
	switch op {
	case "||":
		return 1
	case "&&":
		return 2
	case "|":
		return 3
	case "^":
		return 4
	case "&":
		return 5
	case "==", "!=":
		return 6
	case "<", ">", "<=", ">=":
		return 7
	case "<<", ">>":
		return 8
	case "+", "-":
		return 9
	case "*", "/", "%":
		return 10
	}
	return 0
}

func (p *parser) binary(least int) (Node, error) {
	x, err := p.unary()
	if err != nil {
		return nil, err
	}
	for p.tok.kind == punctToken {
		prec := precedence(p.tok.text)
		if prec < least || prec == 0 {
			break
		}
		b := &Binary{At: p.tok.pos, Op: p.tok.text, X: x}
		if err := p.advance(); err != nil {
			return nil, err
		}
		if b.Y, err = p.binary(prec + 1); err != nil {
			return nil, err
		}
		x = b
	}
	return x, nil
}

func (p *parser) unary() (Node, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	at := p.tok.pos
	switch {
	case p.tok.kind == punctToken:
		switch op := p.tok.text; op {
		case "+", "-", "~", "!", "*", "&":
			if err := p.advance(); err != nil {
				return nil, err
			}
			x, err := p.unary()
			return &Unary{At: at, Op: op, X: x}, err
		case "&&": // the address of an address is none
			return nil, p.errorf(at, "&& has nothing before it")
		case "(":
			if tok, _ := p.peek(p.at); p.beginsType(tok) {
				return p.cast()
			}
			if err := p.unknownType(); err != nil {
				return nil, err
			}
		}
	case p.tok.kind == nameToken && p.tok.text == "sizeof":
		return p.sizeof()
	}
	return p.postfix()
}

func (p *parser) cast() (Node, error) {
	c := &Cast{At: p.tok.pos}
	var err error
	if c.Type, err = p.parenthesizedType(); err != nil {
		return nil, err
	}
	c.X, err = p.unary()
	return c, err
}

func (p *parser) parenthesizedType() (TypeName, error) {
	if err := p.advance(); err != nil { // (
		return TypeName{}, err
	}
	t, err := p.typeName()
	if err != nil {
		return t, err
	}
	return t, p.expect(")", " behind a type")
}

// unknownType tells of what would be a cast, was its name that of a type.
func (p *parser) unknownType() error {
	name, at := p.peek(p.at)
	if name.kind != nameToken {
		return nil
	}
	tok, at := p.peek(at)
	for tok.is("*") {
		tok, at = p.peek(at)
	}
	if !tok.is(")") {
		return nil
	}
	switch tok, _ = p.peek(at); {
	case tok.kind == nameToken, tok.kind == numberToken, tok.kind == stringToken, tok.is("("):
		return p.errorf(name.pos, "there is no type %s", name.text)
	}
	return nil
}

func (p *parser) sizeof() (Node, error) {
	s := &Sizeof{At: p.tok.pos}
	if err := p.advance(); err != nil {
		return nil, err
	}
	var err error
	if p.tok.is("(") {
		if tok, _ := p.peek(p.at); p.beginsType(tok) {
			s.Type, err = p.parenthesizedType()
			return s, err
		}
	}
	s.X, err = p.unary()
	return s, err
}

// postfix is a primary with what follows it.
func (p *parser) postfix() (Node, error) {
	x, err := p.primary()
	if err != nil {
		return nil, err
	}
	for n := 0; p.tok.kind == punctToken; n++ {
		if n == maxNesting {
			return nil, p.errorf(p.tok.pos, "more than %d members in a row", maxNesting)
		}
		at := p.tok.pos
		switch op := p.tok.text; op {
		case ".", "->":
			if err := p.advance(); err != nil {
				return nil, err
			}
			if p.tok.kind != nameToken {
				return nil, p.errorf(p.tok.pos, "%s where the name of a member is expected", p.tok.describe())
			}
			x = &Member{At: p.tok.pos, X: x, Name: p.tok.text, Arrow: op == "->"}
			if err := p.advance(); err != nil {
				return nil, err
			}
		case "[":
			if err := p.advance(); err != nil {
				return nil, err
			}
			y, err := p.expression()
			if err != nil {
				return nil, err
			}
			x = &Index{At: at, X: x, Y: y}
			if err := p.expect("]", ""); err != nil {
				return nil, err
			}
		default:
			return x, nil
		}
	}
	return x, nil
}

func (p *parser) primary() (Node, error) {
	tok := p.tok
	switch {
	case tok.kind == numberToken:
		return &Number{At: tok.pos, Value: tok.num.value, Long: tok.num.size == 8, Unsig: tok.num.unsigned}, p.advance()
	case tok.kind == stringToken:
		return &String{At: tok.pos, Text: tok.text}, p.advance()
	case tok.kind == nameToken:
		if isKeyword(tok.text) {
			return nil, p.errorf(tok.pos, "%s is not expected here", tok.text)
		}
		if err := p.advance(); err != nil {
			return nil, err
		}
		if p.tok.is("(") {
			return p.call(tok)
		}
		return &Name{At: tok.pos, Name: tok.text}, nil
	case tok.is("("):
		if err := p.advance(); err != nil {
			return nil, err
		}
		x, err := p.expression()
		if err != nil {
			return nil, err
		}
		return x, p.expect(")", "")
	}
	return nil, p.errorf(tok.pos, "%s where a value is expected", tok.describe())
}

func (p *parser) call(name token) (Node, error) {
	c := &Call{At: name.pos, Func: name.text}
	if err := p.advance(); err != nil {
		return nil, err
	}
	for !p.tok.is(")") {
		if len(c.Args) > 0 {
			if err := p.expect(",", ""); err != nil {
				return nil, err
			}
		}
		x, err := p.expression()
		if err != nil {
			return nil, err
		}
		c.Args = append(c.Args, x)
	}
	return c, p.advance()
}

func isKeyword(name string) bool {
	switch name {
	case "struct", "union", "enum", "sizeof", "const", "volatile":
		return true
	}
	return isBasic(name)
}

// isBasic tells the words that C's own types are made of.
func isBasic(name string) bool {
	switch name {
	case "void", "char", "short", "int", "long", "signed", "unsigned", "_Bool":
		return true
	}
	return false
}

func (p *parser) beginsType(tok token) bool {
	if tok.kind != nameToken || tok.text == "sizeof" {
		return false
	}
	return isKeyword(tok.text) || p.isType(tok.text)
}

// typeName reads a type: qualifiers, a name, and stars.
func (p *parser) typeName() (TypeName, error) {
	t := TypeName{At: p.tok.pos}
	words := map[string]int{}
	for p.tok.kind == nameToken {
		switch name := p.tok.text; {
		case name == "const" || name == "volatile":
		case isBasic(name) && t.Name == "" && t.Tag == "":
			words[name]++
		case len(words) == 0 && t.Name == "" && (name == "struct" || name == "union" || name == "enum"):
			t.Tag = name
			if err := p.advance(); err != nil {
				return t, err
			}
			if p.tok.kind != nameToken || isKeyword(p.tok.text) {
				return t, p.errorf(p.tok.pos, "%s where the name of a %s is expected", p.tok.describe(), t.Tag)
			}
			t.Name = p.tok.text
		case len(words) == 0 && t.Name == "" && p.isType(name):
			t.Name = name
		default:
			return t, p.errorf(p.tok.pos, "%s is not expected in a type", name)
		}
		if err := p.advance(); err != nil {
			return t, err
		}
	}
	if t.Name == "" {
		t.Basic = true
		if t.Name = basicName(words); t.Name == "" {
			return t, p.errorf(t.At, "this is no type")
		}
	}
	for p.tok.is("*") || p.tok.kind == nameToken && (p.tok.text == "const" || p.tok.text == "volatile") {
		if p.tok.is("*") {
			t.Stars++
		}
		if err := p.advance(); err != nil {
			return t, err
		}
	}
	return t, nil
}

// basicName spells one of C's own types in one way (C11 6.7.2); "": there is none of
// these words.
func basicName(words map[string]int) string {
	count := func(names ...string) (n int) {
		for _, name := range names {
			n += words[name]
		}
		return n
	}
	all := count("void", "char", "short", "int", "long", "signed", "unsigned", "_Bool")
	sign := count("signed", "unsigned")
	long, short := words["long"], words["short"]
	if all == 0 || sign > 1 || long > 2 || words["int"] > 1 || short > 1 {
		return ""
	}
	unsigned := ""
	if words["unsigned"] > 0 {
		unsigned = "unsigned "
	}
	switch {
	case words["void"] == 1 && all == 1:
		return "void"
	case words["_Bool"] == 1 && all == 1:
		return "_Bool"
	case words["char"] == 1 && all == 1+sign:
		if words["signed"] > 0 {
			return "signed char"
		}
		return unsigned + "char"
	case short == 1 && all == 1+sign+words["int"]:
		return unsigned + "short"
	case long > 0 && all == long+sign+words["int"]:
		return unsigned + "long"
	case long+short == 0 && all == sign+words["int"]:
		return unsigned + "int"
	}
	return ""
}

// String spells a type as C does.
func (t TypeName) String() string {
	s := t.Name
	if t.Tag != "" {
		s = t.Tag + " " + s
	}
	if t.Stars > 0 {
		s += " "
	}
	for range t.Stars {
		s += "*"
	}
	return s
}

var _ fmt.Stringer = TypeName{}
