package tracer

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ring reads a BPF ring buffer through its memory: kernel/bpf/ringbuf.c and
// Documentation/bpf/ringbuf.rst describe it. It is a reader of our own since it
// costs a third of the library's, which matters at one record an event.
type ring struct {
	consumer []byte // a page: the position that we have read to
	producer []byte // a page: the position that the kernel has written to, then the data, twice
	data     []byte
	mask     uint64
}

// Of a record's header, struct bpf_ringbuf_hdr.
const (
	ringBusy      = 1 << 31 // not submitted yet
	ringDiscard   = 1 << 30
	ringHeader    = 8
	ringAlignment = 8
)

// newRing maps a ring buffer of so many bytes.
func newRing(fd, size int) (*ring, error) {
	page := unix.Getpagesize()
	consumer, err := unix.Mmap(fd, 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map ring buffer: %w", err)
	}
	// The data is mapped twice in a row, so that no record is ever split.
	producer, err := unix.Mmap(fd, int64(page), page+2*size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		unix.Munmap(consumer)
		return nil, fmt.Errorf("map ring buffer: %w", err)
	}
	return &ring{consumer: consumer, producer: producer, data: producer[page:], mask: uint64(size - 1)}, nil
}

// drain calls fn for each record that is complete, in the order in which room
// was reserved for them, until there is none or fn says stop. The bytes are
// valid during the call.
func (r *ring) drain(fn func(raw []byte) bool) (records int) {
	consumed := (*uint64)(unsafe.Pointer(&r.consumer[0]))
	produced := (*uint64)(unsafe.Pointer(&r.producer[0]))
	// Room is given back in steps: a store that the kernel must see is not free.
	const step = 1 << 14 // bytes
	pos := atomic.LoadUint64(consumed)
	end := atomic.LoadUint64(produced)
	defer func() { atomic.StoreUint64(consumed, pos) }()
	for back := pos + step; pos < end; {
		at := pos & r.mask
		header := atomic.LoadUint32((*uint32)(unsafe.Pointer(&r.data[at])))
		if header&ringBusy != 0 {
			break
		}
		size := uint64(header &^ (ringBusy | ringDiscard))
		raw := r.data[at+ringHeader : at+ringHeader+size]
		pos += (ringHeader + size + ringAlignment - 1) &^ (ringAlignment - 1)
		if header&ringDiscard == 0 {
			records++
			if !fn(raw) {
				break
			}
		}
		if pos >= back {
			atomic.StoreUint64(consumed, pos)
			back = pos + step
		}
	}
	return records
}

func (r *ring) close() {
	unix.Munmap(r.consumer)
	unix.Munmap(r.producer)
}
