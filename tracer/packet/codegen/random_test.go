package codegen

import (
	"encoding/binary"
	"math/rand/v2"

	"fgtrace/tracer/packet"
)

// randomPacket makes a packet of what networks carry, some of them cut off or damaged.
func randomPacket(r *rand.Rand, withEthernet bool) []byte {
	var p []byte
	if withEthernet {
		p = randomEthernet(r)
	} else {
		p, _ = randomNetwork(r)
	}
	for len(p) < 64 {
		p = append(p, byte(r.Uint32()))
	}
	switch r.IntN(8) {
	case 0:
		p = p[:r.IntN(len(p)+1)]
	case 1:
		for range 1 + r.IntN(3) {
			p[r.IntN(len(p))] = byte(r.Uint32())
		}
	}
	return p
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func be16(v int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(v)) }

// randomTag makes a tag beside a packet, or none.
func randomTag(r *rand.Rand) packet.Tag {
	if r.IntN(3) > 0 {
		return packet.Tag{}
	}
	return packet.Tag{
		Proto: uint16(pick(r, packet.EtherVLAN, packet.EtherQinQ)),
		TCI:   uint16(pick(r, 0, 5, 7, 10, 100, r.IntN(4096)) | pick(r, 0, 0x1000, 0xe000)),
	}
}

func randomEthernet(r *rand.Rand) []byte {
	mac := func() []byte {
		return pick(r, []byte{0, 0x11, 0x22, 0x33, 0x44, 0x55}, []byte{255, 255, 255, 255, 255, 255}, []byte{1, 0, 0x5e, 0, 0, 1}, []byte{2, 0, 0, 0, 0, byte(r.IntN(4))})
	}
	p := append(mac(), mac()...)
	for range pick(r, 0, 0, 0, 1, 2) {
		p = append(p, be16(pick(r, 0x8100, 0x88a8, 0x9100))...)
		p = append(p, be16(r.IntN(8)<<13|pick(r, 100, 200, 5, r.IntN(4096)))...)
	}
	if r.IntN(12) == 0 {
		p = append(p, be16(0x8847)...) // MPLS
		p = append(p, 0, 1, byte(pick(r, 0x00, 0x01)), 64, 0, 1, 1, 64)
	}
	network, protocol := randomNetwork(r)
	if r.IntN(12) == 0 {
		p = append(p, be16(0x8864)...) // PPPoE
		return append(append(p, 0x11, 0, 0, 1, 0, 40, 0, pick(r, byte(0x21), 0x57)), network...)
	}
	return append(append(p, be16(protocol)...), network...)
}

func randomNetwork(r *rand.Rand) (bytes []byte, protocol int) {
	switch r.IntN(8) {
	case 0:
		arp := append(be16(1), be16(0x0800)...)
		arp = append(arp, 6, 4, 0, byte(1+r.IntN(2)))
		arp = append(append(arp, make([]byte, 6)...), address4(r)...)
		arp = append(append(arp, make([]byte, 6)...), address4(r)...)
		return arp, pick(r, 0x0806, 0x0806, 0x8035)
	case 1, 2:
		return randomIPv6(r), 0x86dd
	case 3:
		return []byte{0xaa, 0xaa, 3, 0, 0, 0, 8, 0}, pick(r, 40, 0x88cc, 0x80f3, 0x809b, 0x6003)
	}
	return randomIPv4(r), 0x0800
}

func address4(r *rand.Rand) []byte {
	return pick(r, []byte{127, 0, 0, 1}, []byte{10, 0, 0, 1}, []byte{10, 0, 0, 2}, []byte{192, 168, 1, byte(r.IntN(256))},
		[]byte{172, 16, 3, 4}, []byte{224, 0, 0, 1}, []byte{255, 255, 255, 255}, []byte{8, 8, 8, byte(r.IntN(256))})
}

func address6(r *rand.Rand) []byte {
	a := make([]byte, 16)
	switch r.IntN(4) {
	case 0:
		a[15] = 1
	case 1:
		a[0], a[1], a[15] = 0xfe, 0x80, 1
	case 2:
		copy(a, []byte{0x20, 0x01, 0x0d, 0xb8})
		a[15] = byte(1 + r.IntN(2))
	case 3:
		a[0], a[1], a[15] = 0xff, 2, 1
	}
	return a
}

func randomIPv4(r *rand.Rand) []byte {
	body, protocol := randomTransport(r)
	options := 4 * pick(r, 0, 0, 0, 1, 10)
	fragment := pick(r, 0, 0, 0x4000, 0x2000, 0x00b9)
	p := append([]byte{byte(0x45 + options/4), byte(r.IntN(256))}, be16(20+options+len(body))...)
	p = append(append(p, be16(r.IntN(65536))...), be16(fragment)...)
	p = append(p, byte(1+r.IntN(128)), byte(protocol), 0, 0)
	p = append(append(p, address4(r)...), address4(r)...)
	return append(append(p, make([]byte, options)...), body...)
}

func randomIPv6(r *rand.Rand) []byte {
	body, protocol := randomTransport(r)
	if protocol == 1 {
		protocol = 58
	}
	next := []int{protocol}
	for range pick(r, 0, 0, 1, 2) {
		kind := pick(r, 0, 43, 44, 60)
		body = append(append([]byte{byte(next[0]), 0}, 0, 0, 0, 0, 0, byte(r.IntN(2))), body...)
		next = append([]int{kind}, next...)
	}
	p := append([]byte{0x60, 0, 0, byte(r.IntN(256))}, be16(len(body))...)
	p = append(p, byte(next[0]), 64)
	return append(append(append(p, address6(r)...), address6(r)...), body...)
}

func randomTransport(r *rand.Rand) (body []byte, protocol int) {
	port := func() []byte {
		return be16(pick(r, 80, 443, 22, 53, 1024, 65535, 36412, 6000+r.IntN(20), 80+r.IntN(12), 4789, r.IntN(65536)))
	}
	ports := append(port(), port()...)
	switch r.IntN(9) {
	case 0, 1, 2:
		tcp := append(ports, 0, 0, 0, 1, 0, 0, 0, 2, byte(pick(r, 5, 6, 10)<<4), byte(r.IntN(256)), 0xff, 0xff, 0, 0, 0, 0)
		return append(tcp, "GET / HTTP/1.1\r\n\r\n\r\n\r\n"...), 6
	case 3, 4:
		return append(append(ports, 0, 40, 0, 0), "queries and the like, of some length"...), 17
	case 5, 6:
		return append([]byte{byte(pick(r, 0, 8, 3, 11, 128, 129, 135)), byte(r.IntN(4)), 0, 0}, "pings and pongs"...), 1
	case 7:
		return append(ports, make([]byte, 12)...), 132
	}
	return make([]byte, 24), pick(r, 2, 47, 50, 51, 103, 112, 89, 41, 4, 255)
}
