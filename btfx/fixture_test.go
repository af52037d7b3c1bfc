package btfx

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/cilium/ebpf/btf"
)

var (
	update        = flag.Bool("update", false, "write golden files")
	updateFixture = flag.Bool("update-fixture", false, "make the BTF in testdata from the running kernel's")
)

const fixtureFile = "testdata/vmlinux.btf"

// fixtureBTF returns a trimmed vmlinux BTF: see TestUpdateFixture.
func fixtureBTF(tb testing.TB) []byte {
	tb.Helper()
	raw, err := os.ReadFile(fixtureFile)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

func fixtureTypes(tb testing.TB) *Types {
	tb.Helper()
	t, err := Parse(fixtureBTF(tb), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// TestUpdateFixture makes the fixture from the running kernel's BTF: some
// functions, variables and enums, and the types that they need. Pointers to
// structs that aren't listed become pointers to forward declarations.
func TestUpdateFixture(t *testing.T) {
	if !*updateFixture {
		t.Skip("no -update-fixture")
	}
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(hostBTF(t)))
	if err != nil {
		t.Fatal(err)
	}
	trim := trimmer{done: make(map[btf.Type]btf.Type), keep: make(map[string]bool)}
	for _, name := range []string{
		"sk_buff", "sock", "file", "kiocb", "iov_iter", "path", "qstr", "list_head", "nf_hook_state", "tcphdr",
		"iphdr", "bpf_prog", "msghdr", "open_how", "dentry", "rcu_head", "work_struct", "hrtimer", "xa_state",
		"kmem_cache_order_objects", "thread_info", "packet_type", "iovec", "socket", "proto_ops", "in6_addr",
	} {
		trim.keep[name] = true
	}

	var types []btf.Type
	add := func(name string, typ btf.Type) {
		all, err := spec.AnyTypesByName(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, found := range all {
			if kindOf(found) == kindOf(typ) {
				types = append(types, trim.cut(found))
			}
		}
	}
	for _, name := range []string{
		"icmp_rcv", "tcp_v4_rcv", "vfs_read", "vfs_write", "ip_rcv", "tcp_sendmsg", "udp_sendmsg", "ip_local_deliver",
		"_printk", "seq_printf", "snprintf", "__x64_sys_read", "do_sys_openat2", "do_unlinkat", "filp_close",
		"handle_mm_fault", "hrtimer_start_range_ns", "kfree", "kmem_cache_alloc_noprof", "__kmalloc_noprof",
		"mmap_region", "nf_conntrack_in", "nf_hook_slow", "schedule", "security_file_open", "skb_copy_bits",
		"smp_call_function_single", "try_to_wake_up", "wake_up_process", "work_on_cpu_key", "xas_find",
		"xdp_do_redirect", "bpf_map_new_fd", "sock_recvmsg", "tcp_v4_do_rcv", "consume_skb", "get_page_from_freelist",
		"bpf_probe_read_kernel_str", "tcp_setsockopt", "ZSTD_adjustCParams", "ZSTD_compress_advanced",
		"HUF_compress_internal", "do_dentry_open", "from_kuid", "make_kuid", "set_pte", "bpf_task_acquire",
		"fl_create", "param_get_int", "notify_change",
	} {
		add(name, (*btf.Func)(nil))
	}
	for _, name := range []string{"sk_buff", "sock", "iov_iter", "tcphdr", "bpf_prog", "thread_info", "proto_ops", "in6_addr"} {
		add(name, (*btf.Struct)(nil))
	}
	for _, name := range []string{"bpf_attach_type", "nf_inet_hooks", "pid_type", "cpuhp_state", "fault_flag"} {
		add(name, (*btf.Enum)(nil))
	}
	enum64 := 0
	for typ, err := range spec.All() {
		if err != nil {
			t.Fatal(err)
		}
		switch typ := typ.(type) {
		case *btf.Datasec:
			types = append(types, trim.datasec(typ, "current_task", "__preempt_count", "cpu_number", "this_cpu_off"))
		case *btf.Enum:
			if typ.Size == 8 && enum64 < 4 {
				enum64++
				types = append(types, typ)
			}
		case *btf.Float:
			types = append(types, typ)
		case *btf.TypeTag:
			types = append(types, trim.cut(&btf.Pointer{Target: typ}))
		}
	}

	b, err := btf.NewBuilder(types, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := b.Marshal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(fixtureFile, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", len(raw))
}

// trimmer copies types without what lies behind pointers.
type trimmer struct {
	keep map[string]bool // structs that are kept behind pointers
	done map[btf.Type]btf.Type
}

func (c *trimmer) cut(typ btf.Type) btf.Type {
	if d := c.done[typ]; d != nil {
		return d
	}
	switch typ := typ.(type) {
	case *btf.Struct:
		d := &btf.Struct{Name: typ.Name, Size: typ.Size}
		c.done[typ] = d
		d.Members = c.members(typ.Members)
		return d
	case *btf.Union:
		d := &btf.Union{Name: typ.Name, Size: typ.Size}
		c.done[typ] = d
		d.Members = c.members(typ.Members)
		return d
	case *btf.Pointer:
		d := &btf.Pointer{}
		c.done[typ] = d
		d.Target = c.target(typ.Target)
		return d
	case *btf.Array:
		d := &btf.Array{Nelems: typ.Nelems}
		c.done[typ] = d
		d.Type, d.Index = c.cut(typ.Type), c.cut(typ.Index)
		return d
	case *btf.Typedef:
		d := &btf.Typedef{Name: typ.Name, Tags: typ.Tags}
		c.done[typ] = d
		d.Type = c.cut(typ.Type)
		return d
	case *btf.Const:
		return &btf.Const{Type: c.cut(typ.Type)}
	case *btf.Volatile:
		return &btf.Volatile{Type: c.cut(typ.Type)}
	case *btf.Restrict:
		return &btf.Restrict{Type: c.cut(typ.Type)}
	case *btf.TypeTag:
		return &btf.TypeTag{Value: typ.Value, Type: c.cut(typ.Type)}
	case *btf.FuncProto:
		d := &btf.FuncProto{}
		c.done[typ] = d
		d.Return = c.cut(typ.Return)
		for _, p := range typ.Params {
			d.Params = append(d.Params, btf.FuncParam{Name: p.Name, Type: c.cut(p.Type)})
		}
		return d
	case *btf.Func:
		d := &btf.Func{Name: typ.Name, Linkage: typ.Linkage, Tags: typ.Tags}
		c.done[typ] = d
		d.Type = c.cut(typ.Type)
		return d
	case *btf.Var:
		d := &btf.Var{Name: typ.Name, Linkage: typ.Linkage}
		c.done[typ] = d
		d.Type = c.cut(typ.Type)
		return d
	}
	return typ
}

// target cuts what a pointer points to.
func (c *trimmer) target(typ btf.Type) btf.Type {
	switch typ := typ.(type) {
	case *btf.Struct:
		if typ.Name != "" && !c.keep[typ.Name] {
			return c.forward(typ.Name, btf.FwdStruct)
		}
	case *btf.Union:
		if typ.Name != "" && !c.keep[typ.Name] {
			return c.forward(typ.Name, btf.FwdUnion)
		}
	case *btf.Const:
		return &btf.Const{Type: c.target(typ.Type)}
	case *btf.Volatile:
		return &btf.Volatile{Type: c.target(typ.Type)}
	}
	return c.cut(typ)
}

// forward returns a forward declaration in place of a struct, which may be
// needed as a whole elsewhere.
func (c *trimmer) forward(name string, kind btf.FwdKind) btf.Type {
	key := &btf.Fwd{Name: name, Kind: kind}
	for t, d := range c.done {
		if f, ok := t.(*btf.Fwd); ok && *f == *key {
			return d
		}
	}
	c.done[key] = key
	return key
}

func (c *trimmer) members(members []btf.Member) []btf.Member {
	var out []btf.Member
	for _, m := range members {
		m.Type = c.cut(m.Type)
		m.Tags = nil
		out = append(out, m)
	}
	return out
}

func (c *trimmer) datasec(sec *btf.Datasec, names ...string) *btf.Datasec {
	d := &btf.Datasec{Name: sec.Name, Size: sec.Size}
	for _, v := range sec.Vars {
		for _, name := range names {
			if v.Type.TypeName() == name {
				v.Type = c.cut(v.Type)
				d.Vars = append(d.Vars, v)
			}
		}
	}
	return d
}
