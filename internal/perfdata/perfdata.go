// Package perfdata reads records out of the ring buffer that the kernel shares
// of a perf event: include/uapi/linux/perf_event.h, and kernel/events/
// ring_buffer.c for how it is filled.
package perfdata

import "encoding/binary"

// Types of records that somebody here asks for.
const (
	RecordLost    = 2
	RecordSample  = 9
	RecordKsymbol = 17
)

// headerSize is that of struct perf_event_header: u32 type, u16 misc, u16 size.
const headerSize = 8

// Ring is what has been read of a ring's data, whose length is a power of two.
type Ring struct {
	Data  []byte
	split []byte // a record that wraps around
}

// Walk calls fn for each record from tail to head with its type and what follows
// its header, which is valid during the call. It returns the position behind the
// last whole record: head, unless what is there are no records.
//
// A record's body lies in the ring itself unless it wraps around: nothing is
// copied or allocated for it.
func (r *Ring) Walk(tail, head uint64, fn func(kind uint32, body []byte)) uint64 {
	return r.WalkSome(tail, head, head-tail, fn)
}

// WalkSome is Walk, but stops once it has read so many bytes or more.
func (r *Ring) WalkSome(tail, head, bytes uint64, fn func(kind uint32, body []byte)) uint64 {
	length := uint64(len(r.Data))
	if length < headerSize || head-tail > length {
		return tail
	}
	mask := length - 1
	for start := tail; head-tail >= headerSize && tail-start < bytes; {
		// A header is aligned to 8 bytes and so never wraps around.
		at := tail & mask
		if at+headerSize > length {
			break
		}
		header := binary.LittleEndian.Uint64(r.Data[at:])
		size := header >> 48
		if size < headerSize || size > head-tail {
			break
		}
		end := at + size
		if end <= length {
			fn(uint32(header), r.Data[at+headerSize:end:end])
		} else {
			r.split = append(r.split[:0], r.Data[at+headerSize:]...)
			r.split = append(r.split, r.Data[:end-length]...)
			fn(uint32(header), r.split)
		}
		tail += size
	}
	return tail
}

// Lost returns how many records a PERF_RECORD_LOST stands for: u64 id, u64 lost.
func Lost(body []byte) uint64 {
	if len(body) < 16 {
		return 0
	}
	return binary.LittleEndian.Uint64(body[8:])
}
