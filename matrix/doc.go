// Package matrix has no code but tests: they run trace on real kernels, one VM a
// kernel, and compare what it shows with what the kernel itself shows.
//
// TestKernels (host_test.go) is the host's side: it builds trace and this
// package's test binary, boots the kernels and runs the latter in them. The
// tests called TestGuest... are the guest's side; anywhere else they skip.
//
//	TRACE_VM_TESTS=1 go test -timeout 30m ./matrix
//	TRACE_VM_TESTS=1 TRACE_MATRIX=amd64:6.12,7.2 go test -v -timeout 30m ./matrix
//
// TRACE_RUN narrows the guest's tests like -test.run, TRACE_VMS sets how many
// VMs run at once, TRACE_SOAK=1 runs each test many times. Where cases are many and
// alike, each is on the oldest kernel and on every third of the others (inShare); with
// TRACE_RUN or TRACE_SOAK all are on all of them.
package matrix
