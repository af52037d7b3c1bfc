// Package lab runs programs on many kernels: it finds and fetches kernels from
// a Debian archive, boots them in QEMU by software emulation, runs a binary
// there and brings back what it printed, its exit status and its files.
//
// A [Store] is a directory of kernels. A [VM] is one boot of one of them. PID 1
// of a guest is a binary that links fgtrace/lab/guest.
package lab
