// Package expr has the expressions that filters and outputs are written in: C
// over a function's parameters, as BTF types them.
//
// Parse reads the text, Check finds the names and types, and gives a Tree of
// values. A tree is evaluated by Eval, over any memory, or compiled to BPF by package
// codegen: both give the same.
//
// Integers are promoted, converted and compared as C does it for amd64 and arm64
// Linux, where int has 32 bits and long 64. What C leaves open is that of BPF:
// x / 0 is 0, x % 0 is x, shifts take the low 5 or 6 bits of their count, and signed
// numbers wrap around. Memory that can't be read makes an expression fail, unless
// && or || or ?: did not come to it.
package expr
