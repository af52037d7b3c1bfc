// Package pcapfilter compiles pcap-filter(7) expressions with libpcap's own compiler,
// which runs as WebAssembly: every expression that libpcap takes, with its messages,
// and no C library in the program. They are compiled as for a live capture on Linux, where a
// VLAN's tag may be beside the packet: code may load bpf.ExtVLANTagPresent and bpf.ExtVLANTag.
//
// libpcap.wasm is made by wasm/build.sh from Debian's source package; see
// wasm/README.md.
package pcapfilter

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"golang.org/x/net/bpf"
)

//go:embed libpcap.wasm
var module []byte

// Link types: what a packet begins with (LINKTYPE_ of tcpdump.org).
const (
	Ethernet = 1
	Raw      = 12 // DLT_RAW: an IPv4 or IPv6 header
)

// Options say what is compiled for.
type Options struct {
	LinkType int
	// Snaplen is what the filter returns for a packet that matches, in bytes.
	Snaplen int
	// Plain leaves the code as it is made, without libpcap's optimizer.
	Plain bool
	// MaxTime is how long libpcap may take; 0: 5 s.
	MaxTime time.Duration
	Names   Names
}

// Names looks up what expressions call by name. Nil functions know no names.
type Names struct {
	Addresses func(host string) []netip.Addr
	// Port returns that of a service; protocol is "tcp", "udp", or "" for any.
	Port     func(service, protocol string) (int, bool)
	Protocol func(name string) (int, bool)
	Network  func(name string) (uint32, bool)
}

// Error is libpcap's refusal of an expression.
type Error struct {
	Expression string
	Msg        string
	Limit      bool // of time or memory, not of the expression's meaning
}

func (e *Error) Error() string {
	return fmt.Sprintf("compile filter %q: %s", shorten(e.Expression), e.Msg)
}

// shorten leaves a message readable.
func shorten(text string) string {
	const most = 200
	if len(text) <= most {
		return text
	}
	return text[:most] + "..."
}

const (
	// MaxExpression is the longest expression, in bytes.
	MaxExpression = 1 << 16
	// maxTime is how long libpcap may take: its time grows with the cube of the
	// number of terms, and a thousand take it half a minute.
	maxTime = 5 * time.Second
	// maxPages bounds its memory, in units of 64 KB.
	maxPages = 1024
)

// Compile returns an expression's code. What libpcap refuses is an *Error.
func Compile(ctx context.Context, expression string, o Options) ([]bpf.RawInstruction, error) {
	if len(expression) > MaxExpression {
		return nil, &Error{Expression: expression, Msg: fmt.Sprintf("%d bytes, and a filter has at most %d", len(expression), MaxExpression)}
	}
	if strings.IndexByte(expression, 0) >= 0 {
		return nil, &Error{Expression: expression, Msg: "a zero in the text"}
	}
	limit := cmp.Or(o.MaxTime, maxTime)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	// To interpret is slower than to compile, but starts at once. It has a short stack.
	insns, err := run(ctx, wazero.NewRuntimeConfigInterpreter(), expression, o)
	if errors.Is(err, errTooDeep) && ctx.Err() == nil {
		insns, err = run(ctx, wazero.NewRuntimeConfig(), expression, o)
	}
	switch {
	case err == nil:
		return insns, nil
	case errors.Is(ctx.Err(), context.Canceled):
		return nil, fmt.Errorf("compile filter: %w", ctx.Err())
	case ctx.Err() != nil:
		return nil, &Error{Expression: expression, Msg: fmt.Sprintf("libpcap takes more than %v", limit), Limit: true}
	case errors.Is(err, errTooDeep):
		return nil, &Error{Expression: expression, Msg: "it is too large for libpcap", Limit: true}
	}
	return nil, err
}

// errTooDeep tells that the compiler calls itself too often.
var errTooDeep = errors.New("libpcap's stack is full")

func run(ctx context.Context, config wazero.RuntimeConfig, expression string, o Options) ([]bpf.RawInstruction, error) {
	runtime := wazero.NewRuntimeWithConfig(ctx, config.WithCloseOnContextDone(true).WithMemoryLimitPages(maxPages))
	defer runtime.Close(context.WithoutCancel(ctx))
	if err := addHost(ctx, runtime, o.Names); err != nil {
		return nil, err
	}
	instance, err := runtime.InstantiateWithConfig(ctx, module, wazero.NewModuleConfig().WithStartFunctions("_initialize"))
	if err != nil {
		return nil, fmt.Errorf("start libpcap: %w", err)
	}
	c := compiler{ctx: ctx, instance: instance, memory: instance.Memory()}
	return c.compile(expression, o)
}

type compiler struct {
	ctx      context.Context
	instance api.Module
	memory   api.Memory
}

func (c *compiler) call(name string, args ...uint64) (uint32, error) {
	res, err := c.instance.ExportedFunction(name).Call(c.ctx, args...)
	if err != nil || len(res) == 0 {
		return 0, err
	}
	return uint32(res[0]), nil
}

func (c *compiler) compile(expression string, o Options) ([]bpf.RawInstruction, error) {
	room, err := c.call("room", uint64(len(expression)+1))
	if err != nil {
		return nil, fmt.Errorf("run libpcap: %w", err)
	}
	if room == 0 || !c.memory.Write(room, append([]byte(expression), 0)) {
		return nil, errors.New("run libpcap: no memory for the filter's text")
	}
	optimize := uint64(1)
	if o.Plain {
		optimize = 0
	}
	const anyNetmask = 0xffffffff // PCAP_NETMASK_UNKNOWN
	n, callErr := c.call("compile", uint64(room), uint64(o.LinkType), uint64(o.Snaplen), optimize, anyNetmask)
	if callErr != nil || int32(n) < 0 {
		return nil, c.failure(expression, callErr)
	}
	at, err := c.call("instructions")
	if err != nil {
		return nil, fmt.Errorf("run libpcap: %w", err)
	}
	const size = 8 // of struct bpf_insn
	raw, ok := c.memory.Read(at, n*size)
	if !ok {
		return nil, fmt.Errorf("run libpcap: %d instructions at %#x are not there", n, at)
	}
	insns := make([]bpf.RawInstruction, n)
	for i := range insns {
		b := raw[i*size:]
		insns[i] = bpf.RawInstruction{Op: binary.LittleEndian.Uint16(b), Jt: b[2], Jf: b[3], K: binary.LittleEndian.Uint32(b[4:])}
	}
	return insns, nil
}

// failure returns libpcap's message, which is also there where what would be a jump out
// of the compiler has ended the call.
func (c *compiler) failure(expression string, callErr error) error {
	switch {
	case callErr == nil || errors.Is(callErr, errFailed):
	case strings.Contains(callErr.Error(), "stack overflow"): // wazero's error is internal
		return errTooDeep
	default:
		return &Error{Expression: expression, Msg: fmt.Sprintf("libpcap fails: %v", firstLine(callErr)), Limit: true}
	}
	at, err := c.call("message")
	if err != nil {
		return fmt.Errorf("run libpcap: %w", err)
	}
	const errbufSize = 256 // PCAP_ERRBUF_SIZE
	raw, ok := c.memory.Read(at, errbufSize)
	if !ok {
		return fmt.Errorf("run libpcap: its message is not at %#x", at)
	}
	text, _, _ := strings.Cut(string(raw), "\x00")
	return &Error{Expression: expression, Msg: text}
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// errFailed ends a call in the compiler.
var errFailed = errors.New("the expression is refused")

// addHost gives the compiler what it asks for.
func addHost(ctx context.Context, runtime wazero.Runtime, names Names) error {
	host := runtime.NewHostModuleBuilder("host")
	text := func(m api.Module, at, size uint32) string {
		raw, _ := m.Memory().Read(at, size)
		return string(raw)
	}
	number := func(v int, ok bool) int32 {
		if !ok {
			return -1
		}
		return int32(v)
	}
	host.NewFunctionBuilder().WithFunc(func() { panic(errFailed) }).Export("fail")
	host.NewFunctionBuilder().WithFunc(func(_ context.Context, m api.Module, at, size, to, most uint32) uint32 {
		if names.Addresses == nil {
			return 0
		}
		n := uint32(0)
		for _, a := range names.Addresses(text(m, at, size)) {
			const found = 20 // struct found
			if n == most {
				break
			}
			raw := a.Unmap().AsSlice()
			if !m.Memory().WriteUint32Le(to+n*found, uint32(len(raw))) || !m.Memory().Write(to+n*found+4, raw) {
				return 0
			}
			n++
		}
		return n
	}).Export("addresses")
	host.NewFunctionBuilder().WithFunc(func(_ context.Context, m api.Module, at, size uint32, protocol int32) int32 {
		if names.Port == nil {
			return -1
		}
		const tcp, udp = 6, 17
		return number(names.Port(text(m, at, size), map[int32]string{tcp: "tcp", udp: "udp"}[protocol]))
	}).Export("port")
	host.NewFunctionBuilder().WithFunc(func(_ context.Context, m api.Module, at, size uint32) int32 {
		if names.Protocol == nil {
			return -1
		}
		return number(names.Protocol(text(m, at, size)))
	}).Export("protocol")
	host.NewFunctionBuilder().WithFunc(func(_ context.Context, m api.Module, at, size uint32) int64 {
		if names.Network == nil {
			return -1
		}
		n, ok := names.Network(text(m, at, size))
		if !ok {
			return -1
		}
		return int64(n)
	}).Export("network")
	if _, err := host.Instantiate(ctx); err != nil {
		return fmt.Errorf("start libpcap: %w", err)
	}
	// It has no files, and nothing to print.
	const badf = 8 // WASI's errno
	wasi := runtime.NewHostModuleBuilder("wasi_snapshot_preview1")
	wasi.NewFunctionBuilder().WithFunc(func(uint32) uint32 { return badf }).Export("fd_close")
	wasi.NewFunctionBuilder().WithFunc(func(_, _ uint32) uint32 { return badf }).Export("fd_fdstat_get")
	wasi.NewFunctionBuilder().WithFunc(func(_, _, _, _ uint32) uint32 { return badf }).Export("fd_read")
	wasi.NewFunctionBuilder().WithFunc(func(uint32, uint64, uint32, uint32) uint32 { return badf }).Export("fd_seek")
	wasi.NewFunctionBuilder().WithFunc(func(_, _, _, _ uint32) uint32 { return badf }).Export("fd_write")
	wasi.NewFunctionBuilder().WithFunc(func(uint32) { panic(errFailed) }).Export("proc_exit")
	if _, err := wasi.Instantiate(ctx); err != nil {
		return fmt.Errorf("start libpcap: %w", err)
	}
	return nil
}
