package flow

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"

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
	frames []byte
	chain  *render.Chain
}

// maxChains bounds the memory of chains; beyond it all are forgotten.
const maxChains = 1 << 14

func newChains(s *Stacks) *chains {
	return &chains{stacks: s, seed: maphash.MakeSeed(), known: make(map[uint64]*knownChain)}
}

// of returns the chain of a stack, or of the error that there is instead, of a
// target and its index.
func (c *chains) of(frames []byte, errno, index int, target *plan.Target) *render.Chain {
	hash := maphash.Bytes(c.seed, frames) + uint64(index)
	if c.generation == c.stacks.Symbols.Generation() {
		if k := c.known[hash]; k != nil && k.target == target && k.errno == errno && bytes.Equal(k.frames, frames) {
			return k.chain
		}
	}
	chain := c.build(frames, errno, target)
	if generation := c.stacks.Symbols.Generation(); generation != c.generation || len(c.known) >= maxChains {
		clear(c.known)
		c.generation = generation
	}
	c.known[hash] = &knownChain{target, errno, bytes.Clone(frames), chain}
	return chain
}

func (c *chains) build(raw []byte, errno int, t *plan.Target) *render.Chain {
	chain := &render.Chain{Errno: errno}
	if errno != 0 {
		return chain
	}
	frames := make([]uint64, len(raw)/8)
	for i := range frames {
		frames[i] = binary.LittleEndian.Uint64(raw[8*i:])
	}
	tracee := stack.Tracee{Func: t.Func, Module: t.Module, Addr: t.Addr, PatchSpan: c.stacks.PatchSpan}
	chain.Chain = stack.Build(frames, tracee, c.stacks.Symbols, c.stacks.Limit)
	if c.stacks.Raw {
		for _, addr := range frames {
			sym, _ := c.stacks.Symbols.Symbol(addr)
			chain.Raw.Frames = append(chain.Raw.Frames, stack.Frame{Addr: addr, Symbol: sym})
		}
	}
	return chain
}
