package tracer

import (
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/net/bpf"

	ourbpf "fgtrace/bpf"
	"fgtrace/internal/bpfsys"
	"fgtrace/internal/guesttest"
	"fgtrace/tracer/packet"
	"fgtrace/tracer/plan"
	"fgtrace/tracer/spec"
)

// TestGuestDirect: the kernel takes programs that load members of structs. Where one
// does not, loadTracing makes them without, and nothing shows it but the cost.
func TestGuestDirect(t *testing.T) {
	guesttest.Only(t)
	k, err := Inspect()
	if err != nil {
		t.Fatal(err)
	}
	first := []bpf.RawInstruction{{Op: 0x30}, {Op: 0x16}}                                                                 // whatever the first byte is but 0
	tag := []bpf.RawInstruction{{Op: 0x30, K: 0xfffff030}, {Op: 0x07}, {Op: 0x30, K: 0xfffff02c}, {Op: 0x0c}, {Op: 0x16}} // its presence and TCI, added
	for _, test := range []struct {
		function string
		filters  plan.Filters
	}{
		{"icmp_rcv", plan.Filters{Args: []string{"skb->len > 100 && skb->protocol != 8 && skb->mark == 1"}}},
		{"icmp_rcv", plan.Filters{Args: []string{"skb->dev->ifindex == 1"}}},
		{"icmp_rcv", plan.Filters{Packets: plan.Packets{Filter: &packet.Filter{Ethernet: first, Raw: first}}}},
		{"icmp_rcv", plan.Filters{Packets: plan.Packets{Filter: &packet.Filter{Ethernet: tag, Raw: tag}}}},
		{"vfs_fsync", plan.Filters{Args: []string{"file->f_inode->i_sb->s_flags && file->f_path.dentry->d_inode->i_size > 5"}}},
		{"icmp_rcv", plan.Filters{Outputs: []string{"skb->dev->ifindex", "skb->dev->name"}, Packet: true}},
		{"ip_rcv", plan.Filters{Packets: plan.Packets{Device: "lo", NetNS: 1, Mark: &plan.Mark{Value: 1, Mask: 1}}}},
	} {
		asked, err := spec.ParseFiltered([]string{test.function})
		if err != nil {
			t.Fatal(err)
		}
		p, err := plan.Resolve(asked, k)
		if err != nil {
			t.Fatal(err)
		}
		test.filters.Targets = asked
		if err := p.Filter(test.filters); err != nil {
			t.Fatal(err)
		}
		s, err := Load(k, p, Options{Exits: true, Calls: true, Snaplen: 256, Packets: true, BufferSize: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		target := p.Targets[0]
		constants, _ := s.build.Constants(0, target)
		prog, err := s.loadProgram(bpfsys.Program{
			Name: ourbpf.ProgEntry, Type: ebpf.Tracing, AttachType: ebpf.AttachTraceFEntry, AttachID: uint32(target.ID),
		}, constants, s.expressions(target.Expressions, loading))
		if err != nil {
			t.Errorf("%s %+v: %+v", test.function, test.filters, err)
		} else {
			prog.Close()
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
