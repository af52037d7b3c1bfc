package render

import (
	"encoding/binary"
	"net/netip"

	"fgtrace/btfx"
	"fgtrace/btfx/expr"
	"fgtrace/internal/digits"
	"fgtrace/tracer/calls"
	"fgtrace/tracer/event"
	"fgtrace/tracer/packet"
	"fgtrace/tracer/packet/dissect"
	"fgtrace/tracer/plan"
)

// output is a value that is shown with a target's calls.
type output struct {
	plan.Output
	name []byte // what is in front of the value
}

// Why there is no value.
const (
	noneNull  = "null"  // a NULL pointer was in the way
	noneFault = "fault" // memory that could not be read
	noneLost  = "lost"  // the record that had it found no room
)

// take returns the bytes of a value, or why there are none.
func (o *output) take(c *calls.Call) (value []byte, cut bool, none string) {
	if len(c.Outputs) < o.Offset+event.OutputSize(o.Size) {
		return nil, false, noneLost
	}
	value, status := event.Output(c.Outputs, o.Offset, o.Size)
	switch {
	case status == 0:
		return nil, false, noneNull
	case status < 0 || o.Take != expr.TakeText && status < o.Size:
		return nil, false, noneFault
	case o.Take == expr.TakeText:
		return value[:len(value)-1], len(value) == o.Size, ""
	}
	return value, false, ""
}

// appendOutputs appends the values of a call in one line: "skb->len=64, str(name)="lo"".
func appendOutputs(dst []byte, outputs []output, c *calls.Call, syms btfx.Symbols) []byte {
	for i := range outputs {
		o := &outputs[i]
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = append(dst, o.name...)
		value, cut, none := o.take(c)
		if none != "" {
			dst = append(append(append(dst, '<'), none...), '>')
			continue
		}
		switch o.Format {
		case expr.Quoted:
			dst = btfx.AppendQuoted(dst, value)
			if cut {
				dst = append(dst, "..."...)
			}
		case expr.Packet:
			dst = dissect.AppendText(dst, o.link(), value, len(value))
		case expr.Hex:
			dst = appendHexBytes(dst, value)
		case expr.Plain, expr.Histogram, expr.Digest:
			if o.Take == expr.TakeNumber {
				dst = o.Layout.AppendTextWord(dst, binary.LittleEndian.Uint64(value), syms)
			} else {
				dst = o.Layout.AppendText(dst, value, syms)
			}
		default:
			n := o.width()
			for at := 0; at+n <= len(value); at += n {
				if at > 0 {
					dst = append(dst, " > "...)
				}
				dst = o.appendAddress(dst, value[at:at+n])
			}
		}
	}
	return dst
}

// appendJSONOutputs appends the values of a call as an array of objects.
func appendJSONOutputs(dst []byte, outputs []output, c *calls.Call, syms btfx.Symbols) []byte {
	dst = append(dst, '[')
	for i := range outputs {
		o := &outputs[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, o.name...)
		value, cut, none := o.take(c)
		if none != "" {
			dst = append(append(append(dst, `null,"error":"`...), none...), `"}`...)
			continue
		}
		switch o.Format {
		case expr.Quoted:
			dst = btfx.AppendJSONString(dst, value)
			if cut {
				dst = append(dst, `,"cut":true`...)
			}
		case expr.Packet:
			dst = dissect.AppendJSON(dst, o.link(), value, len(value))
		case expr.Hex:
			dst = append(appendHexBytes(append(dst, '"'), value), '"')
		case expr.Plain, expr.Histogram, expr.Digest:
			if o.Take == expr.TakeNumber {
				dst = o.Layout.AppendJSONWord(dst, binary.LittleEndian.Uint64(value))
			} else {
				dst = o.Layout.AppendJSON(dst, value, syms)
			}
		default:
			dst = o.appendJSONAddresses(dst, value)
		}
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

// link tells how a packet begins.
func (o *output) link() packet.Link {
	if o.Proto == "ip" {
		return packet.Raw
	}
	return packet.Ethernet
}

// width returns how many bytes an address has.
func (o *output) width() int {
	switch o.Format {
	case expr.MAC:
		return 6
	case expr.IPv4:
		return 4
	case expr.IPv6:
		return 16
	}
	return 2
}

// appendAddress appends an address or a port, of as many bytes as it has.
func (o *output) appendAddress(dst, raw []byte) []byte {
	switch o.Format {
	case expr.MAC:
		for i, b := range raw {
			if i > 0 {
				dst = append(dst, ':')
			}
			dst = appendHexBytes(dst, []byte{b})
		}
		return dst
	case expr.IPv4, expr.IPv6:
		addr, _ := netip.AddrFromSlice(raw)
		return addr.AppendTo(dst)
	}
	return digits.AppendUint(dst, uint64(binary.BigEndian.Uint16(raw)))
}

// appendJSONAddresses appends one, or an array of several. Ports are numbers.
func (o *output) appendJSONAddresses(dst, value []byte) []byte {
	n := o.width()
	many := len(value) > n
	if many {
		dst = append(dst, '[')
	}
	for at := 0; at+n <= len(value); at += n {
		if at > 0 {
			dst = append(dst, ',')
		}
		if o.Format == expr.Ports {
			dst = o.appendAddress(dst, value[at:at+n])
		} else {
			dst = append(o.appendAddress(append(dst, '"'), value[at:at+n]), '"')
		}
	}
	if many {
		dst = append(dst, ']')
	}
	return dst
}

func appendHexBytes(dst, raw []byte) []byte {
	const hex = "0123456789abcdef"
	for _, b := range raw {
		dst = append(dst, hex[b>>4], hex[b&15])
	}
	return dst
}
