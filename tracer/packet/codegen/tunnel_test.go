package codegen

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"golang.org/x/net/bpf"

	"fgtrace/tracer/packet"
)

// ports are those that tests have.
func ports() *packet.Tunnel {
	return &packet.Tunnel{VXLAN: []uint16{4789, 8472}, Geneve: []uint16{6081}}
}

// tunnelled puts a packet into a tunnel, and returns where it is in it and how it begins;
// ok is false for what is no tunnel.
func tunnelled(r *rand.Rand, isEthernet bool) (bytes []byte, inner int, link packet.Link, ok bool) {
	u16 := func(v int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(v)) }
	link = packet.Link(r.IntN(2))
	inside := randomPacket(r, link == packet.Ethernet)
	ethertype := map[packet.Link]int{packet.Ethernet: 0x6558, packet.Raw: 0x0800}[link]
	if link == packet.Raw && r.IntN(2) == 0 {
		ethertype = 0x86dd
	}
	var proto byte
	var header []byte
	ok = true
	switch r.IntN(7) {
	case 0: // IP in IP
		proto, link = [...]byte{4, 41}[r.IntN(2)], packet.Raw
		inside = randomPacket(r, false)
	case 1: // GRE
		proto = 47
		flags := r.IntN(16) << 12 &^ 0x4000
		header = append(u16(flags), u16(ethertype)...)
		for _, flag := range []int{0x8000, 0x2000, 0x1000} {
			if flags&flag != 0 {
				header = append(header, 1, 2, 3, 4)
			}
		}
	case 2: // VXLAN
		proto, link = 17, packet.Ethernet
		inside = randomPacket(r, true)
		header = append(u16(1234), u16([...]int{4789, 8472}[r.IntN(2)])...)
		header = append(header, make([]byte, 12)...)
	case 3: // Geneve
		proto = 17
		options := r.IntN(5)
		header = append(append(u16(1234), u16(6081)...), 0, 0, 0, 0, byte(options)|byte(r.IntN(4)<<6), 0)
		header = append(append(header, u16(ethertype)...), make([]byte, 4+4*options)...)
	case 4: // GRE of another version, with routing, or with something else inside
		proto, ok = 47, false
		header = append(append(u16([...]int{1, 0x4000, 0}[r.IntN(3)]), u16(0x880b)...), 0, 0, 0, 0)
	case 5: // UDP to another port
		proto, ok = 17, false
		header = append(append(u16(4789), u16(53)...), make([]byte, 12)...)
	case 6: // another protocol
		proto, ok = 6, false
	}
	ip := make([]byte, 20)
	kind := 0x0800
	switch r.IntN(4) {
	case 0:
		kind = 0x86dd
		ip = make([]byte, 40)
		ip[0], ip[6] = 0x60, proto
	case 1: // with options
		ip = make([]byte, 20+4*r.IntN(11))
		fallthrough
	default:
		ip[0], ip[9] = 0x40|byte(len(ip)/4), proto
		switch r.IntN(8) {
		case 0: // a fragment
			ip[7], ok = 1, false
		case 1: // don't fragment
			ip[6] = 0x40
		}
	}
	if isEthernet {
		bytes = make([]byte, 12)
		for range r.IntN(4) {
			bytes = append(append(bytes, u16([...]int{0x8100, 0x88a8}[r.IntN(2)])...), 0, 7)
		}
		ok = ok && len(bytes) <= 12+4*packet.MaxVLANs
		bytes = append(bytes, u16(kind)...)
	}
	bytes = append(append(bytes, ip...), header...)
	return append(bytes, inside...), len(bytes), link, ok
}

// TestTunnels: filters for what is inside of packets, compared with an interpreter over
// that alone.
func TestTunnels(t *testing.T) {
	forms := kernelTypes(t, tagBit)
	all, err := filters()
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(9, 10))
	answers := map[int]int{}
	for i := 0; i < len(all); i += 3 {
		f := all[i]
		f.Tunnel = ports()
		var sources [2][]bpf.Instruction
		sources[packet.Ethernet], _ = bpf.Disassemble(f.Ethernet)
		sources[packet.Raw], _ = bpf.Disassemble(f.Raw)
		matchers, code := map[string]*packet.Matcher{}, map[string][2]compiled{}
		for form := range packet.FormFields {
			m, err := f.Of(forms[form])
			if err != nil {
				t.Fatalf("%s: %v", f.Text, err)
			}
			matchers[form], code[form] = m, [2]compiled{compile(t, m, false), compile(t, m, true)}
		}
		for range 400 {
			p := placings[r.IntN(len(placings))]
			bytes, inner, link, ok := tunnelled(r, p.link == packet.Ethernet)
			m := matchers[p.form]
			want := ok && m.Programs[link] != nil && interpret(sources[link], bytes[inner:], packet.Tag{})
			linear := len(bytes)
			isCut := r.IntN(4) == 0 && p.form == "sk_buff"
			if isCut {
				linear = p.pulled + r.IntN(len(bytes)-p.pulled+1)
			}
			memory := p.place(r, bytes, linear)
			byEval, evalErr := m.Match(memoryAddr+structAt, memory.read)
			for _, c := range code[p.form] {
				got, err := c.run(memory)
				switch {
				case err != nil:
					t.Fatalf("%s, %s: %v", f.Text, p.name, err)
				case got == answerUnread && !isCut, got != answerUnread && (got == 1) != want:
					t.Fatalf("%s, %s, direct %v: %d, want %v; %d of %d bytes, inside from %d: % x", f.Text, p.name, c.direct, got, want, linear, len(bytes), inner, bytes)
				}
				answers[got]++
			}
			if evalErr == nil && byEval != want || evalErr != nil && (!isCut || !errors.Is(evalErr, packet.ErrUnread)) {
				t.Fatalf("%s, %s: %v, %v, want %v; %d of %d bytes, inside from %d: % x", f.Text, p.name, byEval, evalErr, want, linear, len(bytes), inner, bytes)
			}
		}
	}
	for answer := range 3 {
		if answers[answer] < 100 {
			t.Errorf("answer %d came %d times", answer, answers[answer])
		}
	}
}

// TestTunnelEnds: packets that end in a tunnel's headers have nothing inside.
func TestTunnelEnds(t *testing.T) {
	forms := kernelTypes(t, tagBit)
	yes := []bpf.RawInstruction{{Op: 0x6, K: 1}}
	m, err := (&packet.Filter{Ethernet: yes, Raw: yes, Tunnel: ports()}).Of(forms["sk_buff"])
	if err != nil {
		t.Fatal(err)
	}
	code := compile(t, m, false)
	r := rand.New(rand.NewPCG(11, 12))
	sent := placings[6] // without an Ethernet header
	for range 300 {
		bytes, inner, _, ok := tunnelled(r, false)
		for length := range inner + 1 {
			got, err := code.run(sent.place(r, bytes[:length], length))
			// The last bytes of some headers are not looked at.
			if err != nil || got == 1 && !ok || got == answerUnread || length == inner && (got == 1) != ok {
				t.Fatalf("%d of %d bytes: %d, %v: % x", length, inner, got, err, bytes)
			}
		}
	}
}
