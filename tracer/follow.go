package tracer

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"fgtrace/bpf"
	"fgtrace/btfx"
	"fgtrace/internal/bpfsys"
	"fgtrace/tracer/build"
	"fgtrace/tracer/plan"
)

// skbHook is a function of the kernel (net/core/skbuff.c, if nothing else is said) that
// frees or returns a struct sk_buff.
type skbHook struct {
	name string
	// frees tells that it frees its first argument, and ifStolen that it does so if its second
	// one holds. Else it returns a new one: see build.NewSKBConstants.
	frees    bool
	ifStolen bool
	copyOf   int
	segments bool // several, in a list
	// needed tells that nothing is followed without it: a packet would be taken for the one
	// that had its memory before.
	needed bool
}

const copyOfNone = -1

// skbHooks returns the functions that end what is followed, and those that make more of it:
// not every kernel has all of them. What is freed in another way, such as by
// kfree_skb_list, is forgotten when one of these gives its memory to a new packet.
func skbHooks() []skbHook {
	return []skbHook{
		{name: "kfree_skbmem", frees: true, needed: true},
		{name: "napi_skb_cache_put", frees: true}, // from 5.12 on
		{name: "kfree_skb_partial", frees: true, ifStolen: true},

		{name: "__alloc_skb", copyOf: copyOfNone, needed: true},
		{name: "build_skb", copyOf: copyOfNone},
		{name: "__build_skb", copyOf: copyOfNone},
		{name: "slab_build_skb", copyOf: copyOfNone}, // from 6.2 on
		{name: "napi_build_skb", copyOf: copyOfNone}, // from 5.12 on
		{name: "__netdev_alloc_skb", copyOf: copyOfNone},
		{name: "__napi_alloc_skb", copyOf: copyOfNone},           // up to 6.9
		{name: "napi_alloc_skb", copyOf: copyOfNone},             // from 6.10 on
		{name: "__xdp_build_skb_from_frame", copyOf: copyOfNone}, // net/core/xdp.c

		{name: "skb_clone", needed: true},
		{name: "skb_copy"},
		{name: "skb_copy_expand"},
		{name: "__pskb_copy_fclone"},
		{name: "alloc_skb_for_msg"},
		{name: "skb_morph", copyOf: 1},
		{name: "skb_segment", segments: true},
		{name: "skb_segment_list", segments: true},
		{name: "ip_frag_next"},  // net/ipv4/ip_output.c
		{name: "ip6_frag_next"}, // net/ipv6/ip6_output.c
	}
}

// followPackets attaches what follows packets through their copies, until they are freed.
// It goes first: programs that are attached to a function later run before it, and so
// show the call that frees a packet.
func (s *Session) followPackets() error {
	next, err := skbNext(s.kernel.Types)
	if err != nil {
		return err
	}
	for _, h := range skbHooks() {
		id, ok := s.kernel.Types.FindFunc(h.name)
		if !ok {
			if h.needed {
				return fmt.Errorf("follow packets: this kernel has no %s", h.name)
			}
			s.absentSKBs = append(s.absentSKBs, h.name)
			continue
		}
		err := s.hookSKB(h, id, next)
		if err == nil {
			continue
		}
		if h.needed || !isRefusal(err) {
			return explain(fmt.Errorf("follow packets through %s: %w", h.name, err))
		}
		s.unwatchedSKBs = append(s.unwatchedSKBs, h.name)
	}
	return nil
}

func (s *Session) hookSKB(h skbHook, id btfx.ID, next int) error {
	t, err := plan.NewTarget("", s.kernel.Types, h.name, id)
	if err != nil {
		return fmt.Errorf("read prototype: %w", err)
	}
	name, at, constants := bpf.ProgFreedSKB, ebpf.AttachTraceFEntry, build.FreedSKBConstants(h.ifStolen)
	switch {
	case h.segments:
		name, at, constants = bpf.ProgNewSKB, ebpf.AttachTraceFExit, build.NewSKBConstants(t.Words, h.copyOf, next)
	case !h.frees:
		name, at, constants = bpf.ProgNewSKB, ebpf.AttachTraceFExit, build.NewSKBConstants(t.Words, h.copyOf, -1)
	}
	prog, err := s.loadTracing(t, name, at, constants)
	if err != nil {
		return err
	}
	s.skbHooks = append(s.skbHooks, hookedSKB{h, prog})
	link, err := bpfsys.AttachTracing(prog.FD())
	if err != nil {
		return err
	}
	s.others = append(s.others, link)
	return nil
}

// hookedSKB is a hook with its program.
type hookedSKB struct {
	skbHook
	prog *ebpf.Program
}

// skbNext returns the offset of the next struct sk_buff in a list, in bytes.
func skbNext(types *btfx.Types) (int, error) {
	id, ok := types.FindType(btfx.KindStruct, "sk_buff")
	if !ok {
		return 0, errors.New("follow packets: struct sk_buff is not in BTF")
	}
	next, err := types.Member(id, "next")
	if err != nil {
		return 0, fmt.Errorf("follow packets: %w", err)
	}
	return next.Offset / 8, nil
}

// Followed is what became of packets that were followed.
type Followed struct {
	Packets uint64 // with their copies
	Left    uint64 // not freed, as far as is known
	// Lost is how often a packet may not have been followed, or another one in its place: at
	// least so many copies found no room, or the kernel left out the run of a program.
	Lost uint64
}

// Followed returns what became of packets that were followed.
func (s *Session) Followed() (f Followed, err error) {
	for _, word := range []struct {
		offset uintptr
		to     *uint64
	}{{controlFollowed, &f.Packets}, {controlFollowing, &f.Left}, {controlUnfollowed, &f.Lost}} {
		var failed error
		*word.to, failed = s.getControl(word.offset)
		err = errors.Join(err, failed)
	}
	for _, h := range s.skbHooks {
		stats, failed := h.prog.Stats()
		if errors.Is(failed, ebpf.ErrNotSupported) {
			break // it leaves out none
		}
		err = errors.Join(err, failed)
		if failed == nil {
			f.Lost += stats.RecursionMisses
		}
	}
	return f, err
}

// UnwatchedSKBs returns the functions that make or free packets and that this kernel does
// not let be traced, and those that it does not have.
func (s *Session) UnwatchedSKBs() (refused, absent []string) { return s.unwatchedSKBs, s.absentSKBs }
