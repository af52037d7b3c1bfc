// Package bpfsys makes the few bpf(2) calls that github.com/cilium/ebpf has no
// way to express: loading a tracing program for a BTF type ID that is already
// known, and attaching it (the library resolves a function by name, for which it
// decodes the kernel's whole BTF), and attaching one program to many functions
// by ways that the library doesn't know yet. It can go when the library does.
package bpfsys

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// Commands of bpf(2), include/uapi/linux/bpf.h.
const (
	cmdProgLoad          = 5
	cmdProgTestRun       = 10
	cmdObjGetInfoByFd    = 15
	cmdRawTracepointOpen = 17
	cmdLinkCreate        = 28
)

// Program says what to load.
type Program struct {
	Name       string // at most 15 bytes reach the kernel
	Type       ebpf.ProgramType
	AttachType ebpf.AttachType
	Insns      asm.Instructions // maps associated
	AttachID   uint32           // BTF type ID of the function; 0: none
	AttachTo   int              // fd of the module's BTF, or of the BPF program; 0: vmlinux

	// BTF is the fd of types that Functions are of, the main one and those behind it. With
	// none functions are static: the verifier looks at them for each call.
	BTF       int
	Functions []Function
}

// Function is struct bpf_func_info.
type Function struct {
	Offset uint32 // of the first instruction
	Type   uint32 // its ID
}

// progLoadAttr is the head of union bpf_attr for BPF_PROG_LOAD; what follows is
// zero to the kernel.
type progLoadAttr struct {
	progType           uint32
	insnCnt            uint32
	insns              unsafe.Pointer
	license            unsafe.Pointer
	logLevel           uint32
	logSize            uint32
	logBuf             unsafe.Pointer
	kernVersion        uint32
	progFlags          uint32
	progName           [16]byte
	progIfindex        uint32
	expectedAttachType uint32
	progBTFFd          uint32
	funcInfoRecSize    uint32
	funcInfo           unsafe.Pointer
	funcInfoCnt        uint32
	lineInfoRecSize    uint32
	lineInfo           uint64
	lineInfoCnt        uint32
	attachBTFID        uint32
	attachBTFObjFd     uint32
	_                  uint32
}

// VerifierError is the verifier's refusal. Its message is the log's last line
// that says something; Log is the whole.
type VerifierError struct {
	Err error
	Log string
}

func (e *VerifierError) Error() string {
	lines := strings.Split(strings.TrimSpace(e.Log), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		line := strings.TrimSpace(lines[i])
		// Statistics end a log; they explain nothing.
		if line == "" || strings.HasPrefix(line, "processed ") || strings.HasPrefix(line, "verification time") ||
			strings.HasPrefix(line, "stack depth") {
			continue
		}
		return fmt.Sprintf("%v: %s", e.Err, line)
	}
	return e.Err.Error()
}

func (e *VerifierError) Unwrap() error { return e.Err }

// Load loads p and returns its descriptor. A refusal with something in the log
// is a *VerifierError.
func Load(p Program) (int, error) {
	var code bytes.Buffer
	if err := p.Insns.Marshal(&code, binary.LittleEndian); err != nil {
		return -1, fmt.Errorf("marshal program %s: %w", p.Name, err)
	}
	insns := code.Bytes()
	license := []byte("GPL\x00")
	attr := progLoadAttr{
		progType:           uint32(p.Type),
		insnCnt:            uint32(len(insns) / asm.InstructionSize),
		insns:              pointer(insns),
		license:            pointer(license),
		expectedAttachType: uint32(p.AttachType),
		attachBTFID:        p.AttachID,
		attachBTFObjFd:     uint32(p.AttachTo),
	}
	if len(p.Functions) > 0 {
		attr.progBTFFd = uint32(p.BTF)
		attr.funcInfo, attr.funcInfoCnt = unsafe.Pointer(unsafe.SliceData(p.Functions)), uint32(len(p.Functions))
		attr.funcInfoRecSize = uint32(unsafe.Sizeof(p.Functions[0]))
	}
	copy(attr.progName[:15], p.Name)
	fd, err := call(cmdProgLoad, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	if err != nil {
		// Only a failure pays for the log.
		log := make([]byte, 1<<20)
		attr.logLevel, attr.logSize, attr.logBuf = 1, uint32(len(log)), pointer(log)
		var again error
		fd, again = call(cmdProgLoad, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
		if again != nil {
			if end := bytes.IndexByte(log, 0); end > 0 {
				err = &VerifierError{Err: err, Log: string(log[:end])}
			}
		} else {
			err = nil
		}
	}
	if err != nil {
		return -1, err
	}
	return fd, nil
}

// AttachTracing attaches a loaded fentry or fexit program to the function that
// it was loaded for, and returns the link's descriptor; closing it detaches.
// BPF_RAW_TRACEPOINT_OPEN does this on every kernel with trampolines
// (bpf_raw_tracepoint_open in kernel/bpf/syscall.c), BPF_LINK_CREATE from 5.15.
func AttachTracing(prog int) (int, error) {
	return rawTracepointOpen(prog, nil)
}

// AttachRawTracepoint attaches a loaded raw tracepoint program.
func AttachRawTracepoint(prog int, name string) (int, error) {
	return rawTracepointOpen(prog, append([]byte(name), 0))
}

func rawTracepointOpen(prog int, name []byte) (int, error) {
	attr := struct {
		name   unsafe.Pointer
		progFd uint32
		_      uint32
	}{progFd: uint32(prog)}
	if name != nil {
		attr.name = pointer(name)
	}
	return call(cmdRawTracepointOpen, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
}

func pointer(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }

// call repeats a call that a signal broke off in the verifier (EAGAIN).
func call(cmd uintptr, attr unsafe.Pointer, size uintptr) (int, error) {
	for {
		fd, _, errno := unix.Syscall(unix.SYS_BPF, cmd, uintptr(attr), size)
		switch {
		case errno == 0:
			return int(fd), nil
		case errors.Is(errno, unix.EAGAIN), errors.Is(errno, unix.EINTR):
			continue
		default:
			return -1, errno
		}
	}
}

// Attach types of include/uapi/linux/bpf.h that the library has no names for.
const (
	AttachFentryMulti   ebpf.AttachType = 59 // BPF_TRACE_FENTRY_MULTI
	AttachFsessionMulti ebpf.AttachType = 61 // BPF_TRACE_FSESSION_MULTI
)

// AttachTracingMulti attaches a program to functions of vmlinux by their BTF type
// IDs, each with a cookie: to all of them, or to none. Linux 7.2.
func AttachTracingMulti(prog int, at ebpf.AttachType, ids []uint32, cookies []uint64) (int, error) {
	attr := struct {
		prog, target, attachType, flags uint32
		ids                             unsafe.Pointer
		cookies                         unsafe.Pointer
		count                           uint32
		_                               uint32
	}{
		prog: uint32(prog), attachType: uint32(at), ids: unsafe.Pointer(unsafe.SliceData(ids)),
		cookies: unsafe.Pointer(unsafe.SliceData(cookies)), count: uint32(len(ids)),
	}
	return call(cmdLinkCreate, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
}

// AttachKprobeMulti attaches a program to functions by their addresses, each with
// a cookie: to all of them, or to none. Linux 5.18; sessions 6.10.
func AttachKprobeMulti(prog int, at ebpf.AttachType, addrs, cookies []uint64) (int, error) {
	attr := struct {
		prog, target, attachType, flags uint32
		probeFlags, count               uint32
		symbols                         unsafe.Pointer
		addrs                           unsafe.Pointer
		cookies                         unsafe.Pointer
	}{
		prog: uint32(prog), attachType: uint32(at), count: uint32(len(addrs)),
		addrs: unsafe.Pointer(unsafe.SliceData(addrs)), cookies: unsafe.Pointer(unsafe.SliceData(cookies)),
	}
	return call(cmdLinkCreate, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
}

// RunRawTracepoint runs a raw tracepoint program once in this task, and returns
// what it returns. args are what ctx holds, twelve words at most. Linux 5.10.
func RunRawTracepoint(prog int, args ...uint64) (uint32, error) {
	attr := struct {
		progFd, retval            uint32
		dataIn, dataOut           uint32
		_                         [2]uint64
		repeat, duration          uint32
		contextSize, contextSize2 uint32
		context                   unsafe.Pointer
		_                         [24]byte
	}{progFd: uint32(prog), contextSize: uint32(8 * len(args)), context: unsafe.Pointer(unsafe.SliceData(args))}
	if _, err := call(cmdProgTestRun, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err != nil {
		return 0, err
	}
	return attr.retval, nil
}

// recursionMissesEnd is the size of struct bpf_prog_info up to and with
// recursion_misses (include/uapi/linux/bpf.h).
const recursionMissesEnd = 216

// CountsRecursion tells whether the kernel counts how often it kept a program
// from interrupting itself, that is whether it does keep it: both came with
// Linux 5.12 (ca06f55b9002, 9ed9e9ba2337).
func CountsRecursion(prog int) (bool, error) {
	var info [256]byte
	attr := struct {
		fd, len uint32
		info    unsafe.Pointer
	}{uint32(prog), uint32(len(info)), unsafe.Pointer(&info)}
	if _, err := call(cmdObjGetInfoByFd, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err != nil {
		return false, err
	}
	// The kernel says how much of it it knows.
	return attr.len >= recursionMissesEnd, nil
}

// KprobeMissed returns how many calls a link of AttachKprobeMulti missed that its
// program knows nothing of: before fprobe was put on top of function graph tracing
// (Linux 6.14, 4346ba160409), for want of room to remember their returns. 0 where
// the kernel doesn't say (before 6.7, e2b2cd592adf).
func KprobeMissed(link int) (uint64, error) {
	var info struct {
		_      [4]uint32
		addrs  uint64
		_      [2]uint32
		missed uint64
		_      [8]uint64
	}
	attr := struct {
		fd, len uint32
		info    unsafe.Pointer
	}{uint32(link), uint32(unsafe.Sizeof(info)), unsafe.Pointer(&info)}
	if _, err := call(cmdObjGetInfoByFd, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err != nil {
		return 0, err
	}
	return info.missed, nil
}

// BTF returns the types of a descriptor of BTF, as they are in a file.
func BTF(fd int) ([]byte, error) {
	info := struct {
		btf          unsafe.Pointer
		size, id     uint32
		name         uint64
		nameLen, own uint32
	}{}
	attr := struct {
		fd, len uint32
		info    unsafe.Pointer
	}{uint32(fd), uint32(unsafe.Sizeof(info)), unsafe.Pointer(&info)}
	if _, err := call(cmdObjGetInfoByFd, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err != nil {
		return nil, err
	}
	raw := make([]byte, info.size)
	info.btf, info.name, info.nameLen = pointer(raw), 0, 0
	attr.len = uint32(unsafe.Sizeof(info))
	if _, err := call(cmdObjGetInfoByFd, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err != nil {
		return nil, err
	}
	return raw[:min(len(raw), int(info.size))], nil
}
