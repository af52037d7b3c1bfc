package dissect

import "fgtrace/tracer/packet"

// jsonWriter writes the layers of a dissection as JSON.
type jsonWriter struct {
	dissection
	writer
}

func (w *jsonWriter) packet() {
	link := "raw"
	if w.link == packet.Ethernet {
		link = "ethernet"
	}
	w.str(`{"length":`).num(int64(w.length)).str(`,"captured":`).num(int64(w.captured))
	w.str(`,"link":"`, link, `","layers":`)
	w.list(w.outer(), w.quoted())
	w.str("}")
}

// list writes layers, of which the last one quotes others.
func (w *jsonWriter) list(layers, quoted []layer) {
	w.str("[")
	for i := range layers {
		if i > 0 {
			w.str(",")
		}
		w.layer(&layers[i])
		if i == len(layers)-1 && len(quoted) > 0 {
			w.str(`,"quoted":`)
			w.list(quoted, nil)
		}
		w.str("}")
	}
	w.str("]")
}

// layer writes the object of a layer, without its last brace.
func (w *jsonWriter) layer(l *layer) {
	w.str(`{"type":"`, l.form.name, `"`)
	w.members(l, ",")
	if l.form == &tooDeep {
		w.str(`,"too_deep":true`)
	}
	if l.missing > 0 {
		w.str(`,"missing":`).num(int64(l.missing))
	}
	if l.truncated {
		w.str(`,"truncated":true`)
	}
	if l.malformed {
		w.str(`,"malformed":true`)
	}
}

// members writes the fields of a layer, the first one behind a separator.
func (w *jsonWriter) members(l *layer, separator string) {
	for i, fields := range l.fields() {
		rare := i == 2
		for _, f := range fields {
			if l.has(f) && !((rare || f.as == flag || f.as == rest) && l.zero(f)) {
				w.str(separator, `"`, f.name, `":`)
				w.value(l, f)
				separator = ","
			}
		}
	}
}

// value writes a field.
func (w *jsonWriter) value(l *layer, f field) {
	switch f.as {
	case flag:
		w.str("true")
	case mac:
		w.str(`"`).bytes(l.bytes(f), ":").str(`"`)
	case addr4, addr16:
		w.str(`"`).addr(l.bytes(f)).str(`"`)
	case rest:
		w.str(`"`).bytes(l.bytes(f), "").str(`"`)
	case tcpFlags:
		w.str("[")
		separator := ""
		for i, name := range tcpFlagNames {
			if l.num(f)>>i&1 != 0 {
				w.str(separator, `"`, name[1], `"`)
				separator = ","
			}
		}
		w.str("]")
	case addresses:
		w.str("[")
		separator := ""
		for hops := l.hops(f); len(hops) > 0; hops = hops[16:] {
			w.str(separator, `"`).addr(hops[:16]).str(`"`)
			separator = ","
		}
		w.str("]")
	case ipOptions:
		w.options(l.bytes(f), ipOptionVariants)
	case tcpOptions:
		w.options(l.bytes(f), tcpOptionVariants)
	case blocks:
		w.str("[")
		separator := ""
		for b := l.bytes(f); len(b) >= 8; b = b[8:] {
			w.str(separator, "[").num(int64(be32(b))).str(",").num(int64(be32(b[4:]))).str("]")
			separator = ","
		}
		w.str("]")
	case chunks:
		w.chunks(l.bytes(f))
	default:
		w.num(l.num(f))
	}
}

// options writes those of an IPv4 or TCP header.
func (w *jsonWriter) options(options []byte, variants []variant) {
	w.str("[")
	separator := ""
	for {
		o, behind, ok := nextOption(options, variants)
		if !ok {
			break
		}
		w.str(separator, "{")
		w.members(&o, "")
		w.str("}")
		options, separator = behind, ","
	}
	w.str("]")
}

// chunks writes the types of SCTP's chunks.
func (w *jsonWriter) chunks(rest []byte) {
	w.str("[")
	separator := ""
	for {
		kind, behind, ok := nextChunk(rest)
		if !ok {
			break
		}
		w.str(separator).num(int64(kind))
		rest, separator = behind, ","
	}
	w.str("]")
}
