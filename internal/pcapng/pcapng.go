// Package pcapng appends the blocks of capture files in the pcapng format.
//
// A file is one section: AppendSection comes first, AppendInterface before the
// first packet of that interface, AppendPacket for each packet, AppendStatistics
// at the end. Whole blocks can be read as soon as they are written.
//
// Sections (§) are those of draft-ietf-opsawg-pcapng. All numbers are little-endian.
//
// Wireshark reads interfaces of several link types and snapshot lengths. libpcap,
// and so tcpdump, reads up to the first interface whose link type or snapshot length
// is not that of interface 0; for LinkRaw that is already the second one of them,
// since it compares its LINKTYPE_ value with the DLT_ value of interface 0
// (pcap_ng_next_packet in sf-pcapng.c, up to libpcap 1.10.6 at least). A file for it
// has LinkEthernet and one snapshot length.
package pcapng

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"
)

// Link types (https://www.tcpdump.org/linktypes.html).
const (
	LinkEthernet = 1   // LINKTYPE_ETHERNET
	LinkRaw      = 101 // LINKTYPE_RAW: begins with an IPv4 or IPv6 header
)

// MaxSnapLen is the most bytes of a packet that AppendPacket takes. The rest of what a
// block can have, 64 KiB, is for comments.
const MaxSnapLen = maxBlock - 1<<16

// Flags of a packet (§4.3.1).
const (
	Inbound  = 1
	Outbound = 2
)

// Unknown is a count that is left out.
const Unknown = 1<<64 - 1

// Section describes where a file comes from (§4.1). Empty strings are left out.
type Section struct {
	Hardware    string // of the machine
	OS          string
	Application string
	Comment     string // lines
}

// Interface is where packets come from (§4.2). Empty strings are left out.
type Interface struct {
	Name        string
	Description string
	Filter      string // what packets were chosen by, as a pcap filter
	LinkType    uint16 // how packets begin
	SnapLen     uint32 // most bytes of a packet that are in the file; 0: no limit is told
}

// Packet is a packet of an interface (§4.3).
type Packet struct {
	Interface int    // how many AppendInterface were before its own
	Time      uint64 // ns since 1970
	Data      []byte // its first bytes: at most SnapLen, or libpcap stops here
	Length    int    // of the whole packet, in bytes; less than len(Data) is len(Data)
	Flags     uint32 // Inbound, Outbound; 0: unknown
	Comment   []byte // lines: each that is not empty becomes a comment of its own
}

// Statistics counts the packets of an interface since the start (§4.6). Wireshark shows
// the drops of interfaces that have it once (summary_fill_in in ui/summary.c).
type Statistics struct {
	Interface  int    // as in Packet
	Time       uint64 // when they were counted, in ns since 1970
	Start, End uint64 // of the capture, in ns since 1970; 0: left out

	Received  uint64 // isb_ifrecv: the interface saw; Unknown: left out, as are the others
	Dropped   uint64 // isb_ifdrop: lost for lack of resources: the drops that Wireshark shows
	Accepted  uint64 // isb_filteraccept: the filter let through
	OSDropped uint64 // isb_osdrop: the operating system lost
	Delivered uint64 // isb_usrdeliv: reached the file
}

// Types of blocks (§4).
const (
	blockInterface  = 1
	blockStatistics = 5
	blockPacket     = 6
	blockSection    = 0x0a0d0d0a
)

// Codes of options: those of all blocks (§3.5), then those of each.
const (
	optEnd     = 0
	optComment = 1

	shbHardware = 2
	shbOS       = 3
	shbUserAppl = 4

	ifName        = 2
	ifDescription = 3
	ifTsResol     = 9
	ifFilter      = 11

	epbFlags = 2

	isbStartTime    = 2
	isbEndTime      = 3
	isbIfRecv       = 4
	isbIfDrop       = 5
	isbFilterAccept = 6
	isbOSDrop       = 7
	isbUsrDeliv     = 8
)

// Most bytes of a block for dumpcap, by which Wireshark reads pipes: it stops at longer
// ones ("Frame 1 too long"), and a longer section breaks its heap (cap_pipe_max_pkt_size
// and cap_pipe_databuf in dumpcap.c, 4.0 at least). Wireshark and libpcap read no longer
// packets from files either.
const (
	maxBlock   = 262144
	maxSection = 2048
)

// maxOption is the most bytes that the 16-bit length of an option tells (§3.5).
const maxOption = 1<<16 - 1

// tail is the room for what may follow the strings of a block: if_tsresol or epb_flags,
// the end of the options, the block's length.
const tail = 8 + 4 + 4

// cut ends a text that was too long.
const cut = "..."

// AppendSection appends a Section Header Block (§4.1), in which the section's length is
// unknown. Its strings have 2000 bytes: what is too long is cut, the comment first.
func AppendSection(dst []byte, s Section) []byte {
	start := len(dst)
	dst = appendHeader(dst, blockSection)
	dst = binary.LittleEndian.AppendUint32(dst, 0x1a2b3c4d) // byte-order magic
	dst = binary.LittleEndian.AppendUint16(dst, 1)          // version 1.0
	dst = binary.LittleEndian.AppendUint16(dst, 0)
	dst = binary.LittleEndian.AppendUint64(dst, 1<<64-1) // -1: until the end of the file
	options := len(dst)
	dst = appendText(dst, start+maxSection, shbHardware, []byte(s.Hardware))
	dst = appendText(dst, start+maxSection, shbOS, []byte(s.OS))
	dst = appendText(dst, start+maxSection, shbUserAppl, []byte(s.Application))
	dst = appendText(dst, start+maxSection, optComment, []byte(s.Comment))
	return appendEnd(dst, start, options)
}

// AppendInterface appends an Interface Description Block (§4.2): the first one has ID
// 0, the next one 1.
func AppendInterface(dst []byte, i Interface) []byte {
	start := len(dst)
	dst = appendHeader(dst, blockInterface)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(i.LinkType)) // 16 bits are reserved
	dst = binary.LittleEndian.AppendUint32(dst, i.SnapLen)
	options := len(dst)
	dst = appendText(dst, start+maxBlock, ifName, []byte(i.Name))
	dst = appendText(dst, start+maxBlock, ifDescription, []byte(i.Description))
	dst = appendOption(dst, ifTsResol, 1)
	dst = append(dst, 9, 0, 0, 0) // 10^-9 s, padded
	dst = appendText(dst, start+maxBlock, ifFilter, []byte(i.Filter))
	return appendEnd(dst, start, options)
}

// AppendPacket appends an Enhanced Packet Block (§4.3). It allocates nothing but dst.
// It leaves out data after MaxSnapLen bytes, and comments that the block has no room for.
func AppendPacket(dst []byte, p Packet) []byte {
	start := len(dst)
	dst = appendHeader(dst, blockPacket)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(p.Interface))
	dst = appendTime(dst, p.Time)
	data := p.Data[:min(len(p.Data), MaxSnapLen)]
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(data)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(max(p.Length, len(p.Data))))
	dst = append(dst, data...)
	dst = appendPadding(dst, len(data))
	options := len(dst)
	for line, rest := []byte(nil), p.Comment; len(rest) > 0; {
		line, rest, _ = bytes.Cut(rest, []byte{'\n'})
		dst = appendText(dst, start+maxBlock, optComment, line)
	}
	if p.Flags != 0 {
		dst = appendOption(dst, epbFlags, 4)
		dst = binary.LittleEndian.AppendUint32(dst, p.Flags)
	}
	return appendEnd(dst, start, options)
}

// AppendStatistics appends an Interface Statistics Block (§4.6).
func AppendStatistics(dst []byte, s Statistics) []byte {
	start := len(dst)
	dst = appendHeader(dst, blockStatistics)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(s.Interface))
	dst = appendTime(dst, s.Time)
	options := len(dst)
	if s.Start != 0 {
		dst = appendTime(appendOption(dst, isbStartTime, 8), s.Start)
	}
	if s.End != 0 {
		dst = appendTime(appendOption(dst, isbEndTime, 8), s.End)
	}
	dst = appendCount(dst, isbIfRecv, s.Received)
	dst = appendCount(dst, isbIfDrop, s.Dropped)
	dst = appendCount(dst, isbFilterAccept, s.Accepted)
	dst = appendCount(dst, isbOSDrop, s.OSDropped)
	dst = appendCount(dst, isbUsrDeliv, s.Delivered)
	return appendEnd(dst, start, options)
}

// appendHeader begins a block (§3.1), whose length appendEnd tells.
func appendHeader(dst []byte, kind uint32) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, kind)
	return binary.LittleEndian.AppendUint32(dst, 0)
}

// appendEnd ends the options of the block at start, if there are any, and the block.
func appendEnd(dst []byte, start, options int) []byte {
	if len(dst) > options {
		dst = appendOption(dst, optEnd, 0)
	}
	length := uint32(len(dst) - start + 4)
	binary.LittleEndian.PutUint32(dst[start+4:], length)
	return binary.LittleEndian.AppendUint32(dst, length)
}

// appendOption begins an option of n bytes (§3.5).
func appendOption(dst []byte, code, n uint16) []byte {
	dst = binary.LittleEndian.AppendUint16(dst, code)
	return binary.LittleEndian.AppendUint16(dst, n)
}

// appendText appends a string option to a block that may reach up to end, unless text is
// empty. It is cut to what the option and the block hold. Strings are UTF-8 (§3.6.3), and
// readers end them at a zero (§3.5): a byte that does not fit that becomes U+FFFD.
func appendText(dst []byte, end int, code uint16, text []byte) []byte {
	room := end - tail - len(dst) - 4 // 4: the option's header
	if len(text) == 0 || room < 8 {
		return dst
	}
	dst = appendOption(dst, code, 0)
	value := len(dst)
	if code == ifFilter {
		dst = append(dst, 0) // it is a string, not BPF code (§4.2)
	}
	if utf8.Valid(text) && bytes.IndexByte(text, 0) < 0 {
		dst = append(dst, text...)
	} else {
		for len(text) > 0 {
			r, n := utf8.DecodeRune(text)
			if r == 0 {
				r = utf8.RuneError
			}
			dst = utf8.AppendRune(dst, r)
			text = text[n:]
		}
	}
	if most := min(maxOption, room); len(dst)-value > most {
		at := value + most - len(cut)
		for !utf8.RuneStart(dst[at]) {
			at--
		}
		dst = append(dst[:at], cut...)
	}
	n := len(dst) - value
	binary.LittleEndian.PutUint16(dst[value-2:], uint16(n))
	return appendPadding(dst, n)
}

// appendCount appends an option with a count, unless it is Unknown.
func appendCount(dst []byte, code uint16, n uint64) []byte {
	if n == Unknown {
		return dst
	}
	return binary.LittleEndian.AppendUint64(appendOption(dst, code, 8), n)
}

// appendTime appends a time in ns since 1970, its upper half first (§4.3).
func appendTime(dst []byte, t uint64) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(t>>32))
	return binary.LittleEndian.AppendUint32(dst, uint32(t))
}

// appendPadding appends the zeros after n bytes, up to the next word (§3.6.2).
func appendPadding(dst []byte, n int) []byte {
	return append(dst, "\x00\x00\x00"[:-n&3]...)
}
