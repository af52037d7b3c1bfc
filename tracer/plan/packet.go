package plan

import (
	"errors"
	"fmt"
	"strconv"

	"fgtrace/btfx/expr"
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

// members spells what filters need of each struct that has a packet, %s, in C. What is
// sent has no device before its way is known, and then that of the way.
var members = map[string]struct{ device, net, mark string }{
	"sk_buff": {
		device: "(%[1]s->dev ? %[1]s->dev : ((struct dst_entry *)(%[1]s->_skb_refdst & ~1UL))->dev)",
		net:    "(%[1]s->dev ? %[1]s->dev->nd_net.net : %[1]s->sk->__sk_common.skc_net.net)",
		mark:   "%[1]s->mark",
	},
	"xdp_buff":  {device: "%[1]s->rxq->dev", net: "%[1]s->rxq->dev->nd_net.net"},
	"xdp_frame": {device: "%[1]s->dev_rx", net: "%[1]s->dev_rx->nd_net.net"},
}

// condition returns whether a target's packet is one of these.
func (p Packets) condition(t *Target, entry expr.Scope) (*expr.Tree, error) {
	for _, param := range t.Params {
		form, err := packet.FormOf(t.Types, param.Type)
		switch {
		case errors.Is(err, packet.ErrNoPacket):
			continue
		case err != nil:
			return nil, err
		}
		return p.of(form, param, entry)
	}
	return nil, errNoPacket
}

func (p Packets) of(form *packet.Form, param Param, entry expr.Scope) (*expr.Tree, error) {
	var texts []string
	member := members[form.Name]
	is := func(member, format string, args ...any) {
		texts = append(texts, fmt.Sprintf(member, param.Name)+fmt.Sprintf(format, args...))
	}
	if p.NetNS != 0 {
		is(member.net, "->ns.inum == %d", p.NetNS)
	}
	if p.Device != "" {
		is(member.device, "->name == %s", strconv.Quote(p.Device))
	}
	if p.Mark != nil {
		if member.mark == "" {
			return nil, fmt.Errorf("a struct %s has no mark", form.Name)
		}
		texts = append(texts, fmt.Sprintf("(%s & %#x) == %#x", fmt.Sprintf(member.mark, param.Name), p.Mark.Mask, p.Mark.Value))
	}
	all, err := allOf(texts, entry)
	if err != nil || p.Filter == nil {
		return all, err
	}
	matcher, err := p.Filter.Of(form)
	if err != nil {
		return nil, err
	}
	return expr.And(all, expr.Matches(matcher, expr.Param{Word: param.Word})), nil
}
