package flow

import (
	"hash/maphash"
	"slices"
	"unsafe"

	"fgtrace/tracer/calls"
	"fgtrace/tracer/plan"
	"fgtrace/tracer/render"
	"fgtrace/tracer/stack"
)

// Stacks says how chains are built.
type Stacks struct {
	Symbols   Symbols
	Limit     int // frames of the longest stack
	PatchSpan uint64
	Raw       bool // show the frames as the kernel gave them, too
}

// Symbols names addresses, those of generated code as of now.
type Symbols interface {
	stack.Symbols
	// Generation changes when the names of generated code may have.
	Generation() uint64
}

// chains remembers the chains of the stacks that were seen. Most calls of a
// function come through few of them.
type chains struct {
	stacks     *Stacks
	seed       maphash.Seed
	known      map[uint64]*knownChain
	generation uint64
}

type knownChain struct {
	target *plan.Target
	errno  int
	frames []uint64
	chain  *render.Chain
}

// maxChains bounds the memory of chains; beyond it all are forgotten.
const maxChains = 1 << 14

func newChains(s *Stacks) *chains {
	return &chains{stacks: s, seed: maphash.MakeSeed(), known: make(map[uint64]*knownChain)}
}

func (c *chains) of(call *calls.Call, target *plan.Target) *render.Chain {
	hash := c.hash(call)
	if c.generation == c.stacks.Symbols.Generation() {
		if k := c.known[hash]; k != nil && k.target == target && k.errno == call.StackErr && slices.Equal(k.frames, call.Frames) {
			return k.chain
		}
	}
	chain := c.build(call, target)
	if generation := c.stacks.Symbols.Generation(); generation != c.generation || len(c.known) >= maxChains {
		clear(c.known)
		c.generation = generation
	}
	c.known[hash] = &knownChain{target, call.StackErr, slices.Clone(call.Frames), chain}
	return chain
}

func (c *chains) hash(call *calls.Call) uint64 {
	if len(call.Frames) == 0 {
		return uint64(call.Target)
	}
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(&call.Frames[0])), 8*len(call.Frames))
	return maphash.Bytes(c.seed, bytes) + uint64(call.Target)
}

func (c *chains) build(call *calls.Call, t *plan.Target) *render.Chain {
	chain := &render.Chain{Errno: call.StackErr}
	if call.StackErr != 0 {
		return chain
	}
	tracee := stack.Tracee{Func: t.Func, Module: t.Module, Addr: t.Addr, PatchSpan: c.stacks.PatchSpan}
	chain.Chain = stack.Build(call.Frames, tracee, c.stacks.Symbols, c.stacks.Limit)
	if c.stacks.Raw {
		for _, addr := range call.Frames {
			sym, _ := c.stacks.Symbols.Symbol(addr)
			chain.Raw.Frames = append(chain.Raw.Frames, stack.Frame{Addr: addr, Symbol: sym})
		}
	}
	return chain
}
