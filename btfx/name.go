package btfx

import (
	"strconv"
	"strings"
)

const badType = "<bad type>"

// TypeName spells a type in C: "struct sk_buff *", "unsigned int", "u8[16]",
// "int (*)(struct sock *, int)". Names of typedefs are kept, a struct without
// a name is "struct {...}", and type tags such as __user aren't spelled. Integer
// types are named as in "unsigned long", whatever the compiler called them.
func (t *Types) TypeName(id ID) string { return t.DeclName(id, "") }

// DeclName spells the declaration of a variable, member or parameter in C:
// "char buf[16]", "int (*fn)(void *)".
func (t *Types) DeclName(id ID, name string) string {
	s := speller{t: t, steps: maxSteps}
	decl := s.declare(id, name)
	if s.bad {
		return strings.TrimSuffix(badType+" "+name, " ")
	}
	return decl
}

// Prototype spells a function in C: "int icmp_rcv(struct sk_buff *skb)". Of
// the function's parameters, those without a name have only their type.
func (t *Types) Prototype(fn ID) string {
	r, err := t.record(fn)
	if err != nil || r.kind != KindFunc {
		return badType
	}
	return t.DeclName(r.ref(), t.string(r.name))
}

// maxSteps bounds the work of spelling one type: malformed BTF may refer to
// itself at will. Of all types of Linux 6.18, the prototype of a function with
// 18 parameters takes the most: 40.
const maxSteps = 512

type speller struct {
	t     *Types
	steps int
	bad   bool // a malformed type was found
}

// declare spells a type around the declarator decl: C declarators grow from
// the inside out, so each pointer, array and function is added to what was
// declared so far, and the name of the innermost type comes in front.
func (s *speller) declare(id ID, decl string) string {
	quals := "" // those that belong to the next pointer or to the base type
	for s.steps > 0 && !s.bad {
		s.steps--
		r, err := s.t.record(id)
		if err != nil {
			break
		}
		switch r.kind {
		case KindConst:
			quals = addQualifier(quals, "const")
			id = r.ref()
		case KindVolatile:
			quals = addQualifier(quals, "volatile")
			id = r.ref()
		case KindRestrict:
			quals = addQualifier(quals, "restrict")
			id = r.ref()
		case KindTypeTag:
			id = r.ref()
		case KindPtr:
			if quals != "" && decl != "" {
				quals += " "
			}
			decl = "*" + quals + decl
			quals = ""
			id = r.ref()
		case KindArray:
			decl = group(decl) + "[" + strconv.FormatUint(uint64(r.u32(2)), 10) + "]"
			id = ID(r.u32(0))
		case KindFuncProto:
			decl = group(decl) + s.params(&r)
			quals = ""
			id = r.ref()
		default:
			base := s.base(&r)
			if base == "" {
				s.bad = true
				return ""
			}
			if quals != "" {
				base = quals + " " + base
			}
			if decl == "" || decl[0] == '[' {
				return base + decl
			}
			return base + " " + decl
		}
	}
	s.bad = true
	return ""
}

// group puts a pointer's declarator in parentheses: what is added behind binds
// more tightly than its "*".
func group(decl string) string {
	if strings.HasPrefix(decl, "*") {
		return "(" + decl + ")"
	}
	return decl
}

// addQualifier adds a qualifier once: BTF has "const" twice where an array of
// const elements is const.
func addQualifier(quals, q string) string {
	switch {
	case quals == "":
		return q
	case strings.Contains(quals, q):
		return quals
	}
	return quals + " " + q
}

// params spells the parameters of a function in parentheses.
func (s *speller) params(r *record) string {
	if r.len == 0 {
		return "(void)"
	}
	var b strings.Builder
	sep := "("
	for i := range r.len {
		name, typ := r.u32(2*i), ID(r.u32(2*i+1))
		b.WriteString(sep)
		if i == r.len-1 && name == 0 && typ == 0 {
			b.WriteString("...")
		} else {
			b.WriteString(s.declare(typ, s.t.string(name)))
		}
		if s.bad {
			return ""
		}
		sep = ", "
	}
	b.WriteByte(')')
	return b.String()
}

// base spells a type that isn't made of others, and gives "" for what is no
// type of a value.
func (s *speller) base(r *record) string {
	name := s.t.string(r.name)
	switch r.kind {
	case KindVoid:
		return "void"
	case KindInt:
		return intName(name)
	case KindFloat, KindTypedef:
		return name
	case KindStruct:
		return tagged("struct", name)
	case KindUnion:
		return tagged("union", name)
	case KindEnum, KindEnum64:
		return tagged("enum", name)
	case KindFwd:
		if r.flag {
			return tagged("union", name)
		}
		return tagged("struct", name)
	}
	return ""
}

// intName spells an integer type as clang and the kernel's sources do. GCC has
// other names for some, and BTF those of the compiler.
func intName(name string) string {
	switch name {
	case "short int":
		return "short"
	case "short unsigned int":
		return "unsigned short"
	case "long int":
		return "long"
	case "long unsigned int":
		return "unsigned long"
	case "long long int":
		return "long long"
	case "long long unsigned int":
		return "unsigned long long"
	case "__int128 unsigned":
		return "unsigned __int128"
	}
	return name
}

func tagged(keyword, name string) string {
	if name == "" {
		return keyword + " {...}"
	}
	return keyword + " " + name
}
