// Package btfx reads BTF, the kernel's type information: it finds functions
// and types by name, spells them in C and prints values of them.
//
// Parse makes one cheap pass over the headers of the types; everything else is
// decoded when it is asked for, because a tracer needs a few dozen of a
// kernel's hundred thousand types and has to start quickly. A Types is safe
// for use by several goroutines.
//
// BTF comes from outside, so nothing here trusts it: what is malformed gives
// an error, or is spelled "<bad type>" where a C type is spelled.
//
// The format is described by Documentation/bpf/btf.rst and
// include/uapi/linux/btf.h of the Linux kernel. Only little-endian BTF is
// read, which is what amd64 and arm64 have.
package btfx
