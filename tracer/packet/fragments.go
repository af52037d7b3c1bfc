package packet

import "encoding/binary"

// Fragments says where a struct skb_shared_info has what is not in a packet's first piece
// of memory. The zero value: nobody knows.
type Fragments struct {
	PageSize  uint64 // of a struct page, in bytes
	PageShift uint64 // bits of an offset in a page
	Count     uint64 // offset of nr_frags
	First     uint64 // and of frags
	Most      uint64 // fragments that there is room for
}

// Pages says where memory is: Base is the address of what the first struct page, at First,
// is about.
type Pages struct {
	Fragments
	FirstPage, Base uint64
}

// fragmentSize is that of a struct skb_frag: page, length, offset.
const fragmentSize = 16

// maxPacket is the length of a packet with most fragments, of a page of 64 KB each.
const maxPacket = 45 << 16

// load copies bytes at an offset in a packet.
func (v view) load(offset int64, buf []byte, pages *Pages, read func(addr uint64, buf []byte) error) error {
	if n := min(int64(len(buf)), v.linear-offset); n > 0 {
		if err := read(v.base+uint64(offset), buf[:n]); err != nil {
			return err
		}
		offset, buf = offset+n, buf[n:]
	}
	if len(buf) == 0 {
		return nil
	}
	if pages == nil || v.shared == 0 {
		return ErrUnread
	}
	return pages.load(v.shared, offset-v.linear, buf, read)
}

// load copies bytes at an offset in fragments.
func (p *Pages) load(shared uint64, offset int64, buf []byte, read func(addr uint64, buf []byte) error) error {
	var count [1]byte
	if err := read(shared+p.Count, count[:]); err != nil {
		return err
	}
	if uint64(count[0]) > p.Most {
		return ErrUnread // none that the kernel has written
	}
	for i := range uint64(count[0]) {
		var fragment [fragmentSize]byte
		if err := read(shared+p.First+i*fragmentSize, fragment[:]); err != nil {
			return err
		}
		page, length := binary.LittleEndian.Uint64(fragment[:]), int64(binary.LittleEndian.Uint32(fragment[8:]))
		if page&1 != 0 {
			return ErrUnread // memory of a device (struct net_iov)
		}
		if n := min(int64(len(buf)), length-offset); n > 0 {
			at := p.Base + (page-p.FirstPage)/p.PageSize<<p.PageShift + uint64(binary.LittleEndian.Uint32(fragment[12:]))
			if err := read(at+uint64(offset), buf[:n]); err != nil {
				return err
			}
			buf = buf[n:]
		}
		if len(buf) == 0 {
			return nil
		}
		offset = max(offset-length, 0)
	}
	return ErrUnread
}
