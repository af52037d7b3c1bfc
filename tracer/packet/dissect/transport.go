package dissect

// Ports of tunnels.
const (
	portVXLAN      = 4789 // RFC 7348
	portVXLANLinux = 8472 // where none is given: drivers/net/vxlan/vxlan_core.c
	portGeneve     = 6081 // RFC 8926
)

var (
	tcp = form{ // RFC 9293; the window is as sent, not scaled
		name: "tcp", short: "tcp", size: 20,
		fields: []field{
			{"src_port", 0, u16, 0}, {"dst_port", 2, u16, 0}, {"seq", 4, u32, 0}, {"ack", 8, u32, 0},
			{"flags", 13, tcpFlags, 0}, {"window", 14, u16, 0}, {"length", 0, length, 0}, {"payload", 0, payload, 0},
		},
		rare: []field{{"urgent", 18, u16, 0}, {"options", 20, tcpOptions, 0}},
	}
	udp = form{ // RFC 768
		name: "udp", short: "udp", size: 8,
		fields: []field{
			{"src_port", 0, u16, 0}, {"dst_port", 2, u16, 0}, {"length", 0, length, 0}, {"payload", 0, payload, 0},
		},
	}
	sctp = form{ // RFC 9260
		name: "sctp", short: "sctp", size: 12, text: "sctp{chunks}, length {length}",
		fields: []field{
			{"src_port", 0, u16, 0}, {"dst_port", 2, u16, 0}, {"tag", 4, u32, 0}, {"chunks", 12, chunks, 0},
			{"length", 0, length, 0},
		},
	}
)

// ports returns those of a layer. ok is false if it has none, or they were not captured.
func (l *layer) ports() (src, dst int, ok bool) {
	switch l.form {
	case &tcp, &udp, &sctp:
		if len(l.header) >= 4 {
			return be16(l.header), be16(l.header[2:]), true
		}
	}
	return 0, 0, false
}

// Flags of TCP.
const (
	tcpFIN = 1 << iota
	tcpSYN
	tcpRST
	tcpPSH
	tcpACK
	tcpURG
)

// tcpFlagNames are the names of TCP's flags in text and in JSON, from the lowest bit on.
var tcpFlagNames = [8][2]string{
	{"F", "fin"}, {"S", "syn"}, {"R", "rst"}, {"P", "psh"}, {".", "ack"}, {"U", "urg"}, {"E", "ece"}, {"W", "cwr"},
}

// tcpHeaderLength returns what a header tells of its length, in bytes.
func tcpHeaderLength(h []byte) int { return int(h[12]>>4) * 4 }

func (d *dissection) tcp(s span) {
	l := d.add(&tcp, s)
	if l == nil {
		return
	}
	if size := tcpHeaderLength(l.header); size < len(l.header) || size > s.length {
		l.malformed = true
	} else {
		l.extend(s, size)
	}
}

func (d *dissection) udp(s span) {
	l := d.add(&udp, s)
	if l == nil {
		return
	}
	size, total := len(l.header), be16(l.header[4:])
	if total == 0 && s.length > 0xffff {
		total = s.length // RFC 2675, 4
	}
	if total < size {
		l.malformed = true
		return
	}
	d.claim(l, total)
	if d.fragmented {
		l.missing = 0 // further fragments have it
	}
	s = s.first(min(total, s.length)).after(size)
	switch port := be16(l.header[2:]); {
	case port == portGeneve && s.length >= geneve.size:
		d.geneve(s)
	case (port == portVXLAN || port == portVXLANLinux) && s.length >= vxlan.size:
		d.vxlan(s)
	}
}

func (d *dissection) sctp(s span) {
	if l := d.add(&sctp, s); l != nil {
		l.header = s.data
	}
}

// chunkNames are the types of SCTP's chunks, in tcpdump's words.
var chunkNames = [...]string{
	"DATA", "INIT", "INIT ACK", "SACK", "HB REQ", "HB ACK", "ABORT", "SHUTDOWN", "SHUTDOWN ACK", "OP ERR",
	"COOKIE ECHO", "COOKIE ACK", "ECN ECHO", "ECN CWR", "SHUTDOWN COMPLETE",
}

// nextChunk splits SCTP's first chunk off, and returns its type. ok is false where there is none.
func nextChunk(chunks []byte) (kind int, behind []byte, ok bool) {
	if len(chunks) < 4 || be16(chunks[2:]) < 4 {
		return 0, nil, false
	}
	size := (be16(chunks[2:]) + 3) &^ 3
	return int(chunks[0]), chunks[min(size, len(chunks)):], true
}
