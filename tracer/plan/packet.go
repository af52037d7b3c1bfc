package plan

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"fgtrace/btfx/expr"
	"fgtrace/internal/kallsyms"
	"fgtrace/tracer/packet"
)

// Packets are filters for the first parameter that has a packet. All must hold.
type Packets struct {
	Filter *packet.Filter // nil: any
	Device string         // the name of the network device; "": any
	Mark   *Mark          // nil: any
	NetNS  uint64         // the inode of the network namespace; 0: any
}

// Mark is the value that the bits of a mask have in a packet's mark.
type Mark struct{ Value, Mask uint32 }

// isEmpty tells that there is no filter.
func (p Packets) isEmpty() bool {
	return p.Filter == nil && p.Device == "" && p.Mark == nil && p.NetNS == 0
}

// errNoPacket tells why filters for packets do not apply.
var errNoPacket = errors.New("no parameter is a pointer to a struct sk_buff, xdp_buff or xdp_frame")

// errNoSKB tells why a packet is not followed.
var errNoSKB = errors.New("no parameter is a pointer to a struct sk_buff, whose packet would be followed")

// members spells what filters need of each struct that has a packet, %s, in C; "": it
// has none. What is sent has no device before its way is known, and then that of the
// way. What has been received loses its device in TCP (tcp_v4_rcv): then it is not
// known, as the way is that to this machine.
var members = map[string]struct{ device, net, mark string }{
	"sk_buff": {
		device: "(%[1]s->dev ? %[1]s->dev : %[1]s->skb_iif ? (struct net_device *)0 : ((struct dst_entry *)(%[1]s->_skb_refdst & ~1UL))->dev)",
		net: "(%[1]s->dev ? %[1]s->dev->nd_net.net : %[1]s->_skb_refdst & ~1UL ? " +
			"((struct dst_entry *)(%[1]s->_skb_refdst & ~1UL))->dev->nd_net.net : %[1]s->sk->__sk_common.skc_net.net)",
		mark: "%[1]s->mark",
	},
	"xdp_buff": {device: "%[1]s->rxq->dev", net: "%[1]s->rxq->dev->nd_net.net"},
}

// packet returns the first parameter that has a packet.
func (t *Target) packet() (*PacketParam, error) {
	return t.packetIn(func(*packet.Form) bool { return true }, errNoPacket)
}

// skb returns the first parameter that is a struct sk_buff.
func (t *Target) skb() (*PacketParam, error) {
	return t.packetIn((*packet.Form).IsSKB, errNoSKB)
}

func (t *Target) packetIn(is func(*packet.Form) bool, none error) (*PacketParam, error) {
	for _, param := range t.Params {
		form, err := packet.FormOf(t.Types, param.Type)
		switch {
		case errors.Is(err, packet.ErrNoPacket), err == nil && (!is(form) || form.Alias && t.Module == kallsyms.ModuleBPF):
			continue // a BPF program's own types don't tell what the kernel's are
		case err != nil:
			return nil, err
		}
		return &PacketParam{form, param.Word}, nil
	}
	return nil, none
}

// condition returns whether a target's packet is one of these.
func (p Packets) condition(t *Target, entry expr.Scope) (*expr.Tree, error) {
	found, err := t.packet()
	if err != nil {
		return nil, err
	}
	form := found.Form
	param := t.Params[slices.IndexFunc(t.Params, func(p Param) bool { return p.Word == found.Word })]
	member, pointer := members[form.Name], param.Name
	if form.Alias {
		pointer = fmt.Sprintf("((struct %s *)%s)", form.Name, pointer)
	}
	var texts []string
	ask := func(what, member, format string, args ...any) error {
		if member == "" {
			return fmt.Errorf("a struct %s has no %s", form.Name, what)
		}
		texts = append(texts, fmt.Sprintf(format, append([]any{fmt.Sprintf(member, pointer)}, args...)...))
		return nil
	}
	var errs []error
	if p.NetNS != 0 {
		errs = append(errs, ask("network namespace", member.net, "%s->ns.inum == %d", p.NetNS))
	}
	if p.Device != "" {
		errs = append(errs, ask("device", member.device, "%s->name == %s", strconv.Quote(p.Device)))
	}
	if p.Mark != nil {
		errs = append(errs, ask("mark", member.mark, "(%s & %#x) == %#x", p.Mark.Mask, p.Mark.Value))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	all, err := allOf(texts, entry)
	if err != nil {
		return nil, err
	}
	if all != nil {
		all = expr.Tell(all)
	}
	if p.Filter == nil {
		return all, nil
	}
	matcher, err := p.Filter.Of(form)
	if err != nil {
		return nil, err
	}
	return expr.And(all, expr.Matches(matcher, expr.Param{Word: param.Word})), nil
}
