// Package wire is the Go side of bpf/src/wire.h: the layout of the ring buffer's
// records, of the counters and of the control word, generated from the
// object's BTF.
package wire
