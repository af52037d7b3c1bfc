package render

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"

	"fgtrace/internal/btftest"
	"fgtrace/internal/golden"
	"fgtrace/internal/wiretest"
	"fgtrace/tracer/calls"
	"fgtrace/tracer/plan"
	"fgtrace/tracer/spec"
	"fgtrace/tracer/stack"
)

const (
	errnoNoEnt = ^uint64(1)                 // -2
	fnAddr     = uint64(0xffffffff81001000) // of icmp_rcv, to names
	pointer    = uint64(0xffff888003a1b700)
	rust       = "_RNvCs15kBYyAo9fc_7mycrate7example"
)

// names is a kernel of one function.
type names struct{}

func (names) Symbol(addr uint64) (string, uint64, bool) {
	if addr < fnAddr || addr >= fnAddr+0x100 {
		return "", 0, false
	}
	return "icmp_rcv", addr - fnAddr, true
}

// targets returns the targets of a kernel made for the tests, by name.
func targets(tb testing.TB) map[string]*plan.Target {
	tb.Helper()
	verdict := &btf.Enum{Name: "verdict", Size: 4, Values: []btf.EnumValue{{Name: "NF_DROP", Value: 0}, {Name: "NF_ACCEPT", Value: 1}}}
	skb := &btf.Pointer{Target: &btf.Fwd{Name: "sk_buff", Kind: btf.FwdStruct}}
	pair := btftest.Struct("pair", "addr", btftest.VoidP, 8, "is_kernel", btftest.Bool, 1, "tag", &btf.Array{Type: btftest.Char, Index: btftest.U32, Nelems: 7}, 7)
	callback := &btf.Pointer{Target: &btf.FuncProto{Return: btftest.Int}}
	types := btftest.Types(tb,
		btftest.Func("icmp_rcv", btftest.Int, "skb", skb),
		btftest.Func("schedule", nil),
		btftest.Func("open_file", btftest.Int, "name", btftest.CharP, "mode", btftest.U32),
		btftest.Func("two_names", nil, "a", btftest.CharP, "n", btftest.Int, "b", btftest.CharP),
		btftest.Func("set_option", btftest.Int, "level", btftest.Int, "value", pair, "len", btftest.U32),
		btftest.Func("hook", verdict, "v", verdict, "last", btftest.Bool, "fn", callback),
		btftest.Func("lookup", skb, "key", btftest.U64),
		btftest.Func("name_of", btftest.CharP),
		btftest.Func("is_set", btftest.Bool, "bits", btftest.U64),
		btftest.Func("size_of", btftest.U64, "delta", btftest.Long),
		btftest.Func(rust, btftest.Int, "n", btftest.Int),
	)
	modules := func() ([]plan.Module, error) { return nil, nil }
	asked, err := spec.ParseTargets([]string{"*"})
	if err != nil {
		tb.Fatal(err)
	}
	p, err := plan.Resolve(asked, &plan.Kernel{Types: types, Modules: modules})
	if err != nil {
		tb.Fatal(err)
	}
	if len(p.Skipped) > 0 {
		tb.Fatalf("skipped: %v", p.Skipped)
	}
	byName := make(map[string]*plan.Target)
	for _, t := range p.Targets {
		byName[t.Func] = t
	}
	byName["icmp_rcv"].Module = "icmp"
	return byName
}

// values returns targets in the plan's order.
func values(targets map[string]*plan.Target) []*plan.Target {
	var list []*plan.Target
	for _, name := range slices.Sorted(maps.Keys(targets)) {
		list = append(list, targets[name])
	}
	return list
}

// index returns a target's index in the plan.
func index(all map[string]*plan.Target, name string) int {
	return slices.Index(slices.Sorted(maps.Keys(all)), name)
}

// shown is an event in short; the zero values are a call of 100ns.
type shown struct {
	kind     Kind // entryKind, Exit; 0: Call
	fn       string
	words    []uint64
	strings  []wiretest.String
	ret      uint64
	duration uint64
	comm     string
	thread   bool // of another thread than the first
	noEntry  bool
	chain    *Chain
}

func words(w ...uint64) []uint64                   { return w }
func texts(s ...wiretest.String) []wiretest.String { return s }

func frames(fs ...stack.Frame) []stack.Frame { return fs }

func frame(addr uint64, fn, module string, offset uint64) stack.Frame {
	return stack.Frame{Addr: addr, Symbol: stack.Symbol{Func: fn, Module: module, Offset: offset}}
}

// entryKind stands for Entry, which is zero.
const entryKind Kind = 0xff

// comm of the events that have no other.
const comm = "ping"

// events are the cases, in the order of the golden files.
var events = []struct {
	name string
	shown
}{
	{"call", shown{fn: "icmp_rcv", words: words(pointer)}},
	{"entry", shown{kind: entryKind, fn: "icmp_rcv", words: words(pointer)}},
	{"exit", shown{kind: Exit, fn: "icmp_rcv", words: words(pointer), ret: 1}},
	{"exit of unknown entry", shown{kind: Exit, fn: "icmp_rcv", noEntry: true, ret: 1}},
	{"NULL", shown{fn: "icmp_rcv", words: words(0)}},
	{"no arguments, void", shown{fn: "schedule", ret: errnoNoEnt}},
	{"void entry", shown{kind: entryKind, fn: "schedule"}},
	{"another thread", shown{fn: "schedule", thread: true}},

	{"string", shown{fn: "open_file", words: words(pointer, 0o644), strings: texts(wiretest.Text("/etc/passwd")), ret: 3}},
	{"string, odd", shown{fn: "open_file", words: words(pointer, 0), strings: texts(wiretest.Text("a\"b\\\n\x01\xff\u00e9<"))}},
	{"string, empty", shown{fn: "open_file", words: words(pointer, 0), strings: texts(wiretest.Text(""))}},
	{"string, cut", shown{fn: "open_file", words: words(pointer, 0), strings: texts(wiretest.Text(strings.Repeat("long", 40)))}},
	{"string, NULL", shown{fn: "open_file", words: words(0, 0), strings: texts(wiretest.String{Len: -14}), ret: errnoNoEnt}},
	{"string, unreadable", shown{fn: "open_file", words: words(pointer, 0), strings: texts(wiretest.String{Len: -14})}},
	{"two strings", shown{fn: "two_names", words: words(pointer, 5, pointer), strings: texts(wiretest.Text("one"), wiretest.Text("two"))}},

	{"struct by value", shown{fn: "set_option", words: words(1, pointer, 0x66666f_01, 4)}},
	{"enum", shown{fn: "hook", words: words(1, 1, fnAddr), ret: 0}},
	{"enum without a name", shown{fn: "hook", words: words(7, 0, fnAddr+0x10), ret: 9}},
	{"function unknown", shown{fn: "hook", words: words(0, 0xff00, 0), ret: 1}},
	{"pointer", shown{fn: "lookup", words: words(1<<64 - 1), ret: pointer}},
	{"pointer, NULL", shown{fn: "lookup", words: words(0), ret: 0}},
	{"pointer, error", shown{fn: "lookup", words: words(0), ret: errnoNoEnt}},
	{"pointer, no error", shown{fn: "lookup", words: words(0), ret: ^uint64(4095)}},
	{"string returned", shown{fn: "name_of", ret: pointer}},
	{"string returned, error", shown{fn: "name_of", ret: errnoNoEnt}},
	{"bool returned", shown{fn: "is_set", words: words(5), ret: 0xff01}},
	{"unsigned is no error", shown{fn: "size_of", words: words(1 << 63), ret: errnoNoEnt}},
	{"upper half is not int's", shown{fn: "open_file", words: words(pointer, 1<<32|7), strings: texts(wiretest.Text("x")), ret: 0xdead_0000_ffff_fffe}},
	{"error without a name", shown{fn: "icmp_rcv", words: words(0), ret: ^uint64(40)}},
	{"kernel's own error", shown{fn: "icmp_rcv", words: words(0), ret: ^uint64(511)}},
	{"below the errors", shown{fn: "icmp_rcv", words: words(0), ret: ^uint64(4095)}},
	{"Rust", shown{fn: rust, words: words(3), ret: 4}},

	{"comm, odd", shown{fn: "schedule", comm: "a\"b\\\x1b[1m\xff\xc3\xa9<"}},
	{"comm, no NUL", shown{fn: "schedule", comm: "sixteen_bytes_xx"}},
	{"comm, empty", shown{fn: "schedule", comm: "\x00left behind"}},

	{"0ns", shown{fn: "schedule", duration: 1}},
	{"999ns", shown{fn: "schedule", duration: 999}},
	{"1us", shown{fn: "schedule", duration: 1000}},
	{"1ms", shown{fn: "schedule", duration: 1000999}},
	{"1s", shown{fn: "schedule", duration: 1999999999}},
	{"1h", shown{fn: "schedule", duration: 3600e9}},

	{"stack", shown{fn: "schedule", chain: &Chain{Chain: stack.Chain{Frames: frames(
		frame(0xffffffff81000000, "schedule", "", 0),
		frame(0xffffffff81000142, "do_nanosleep", "", 0x42),
		frame(0xffffffffc0001010, "nft_do_chain", "nf_tables", 0x10),
		frame(0xffffffffc0002010, rust+".cold", "", 0x1),
		frame(0xffffffffdeadbeef, "", "", 0),
	)}}}},
	{"stack, truncated", shown{kind: entryKind, fn: "schedule", chain: &Chain{Chain: stack.Chain{
		Frames: frames(frame(0, "schedule", "", 0)), Truncated: true,
	}}}},
	{"stack, error", shown{fn: "schedule", chain: &Chain{Errno: 14}}},
	{"stack, error without a name", shown{fn: "schedule", chain: &Chain{Errno: 4000}}},
	{"stack, raw", shown{fn: "schedule", chain: &Chain{
		Chain: stack.Chain{Frames: frames(frame(0xffffffff81000000, "schedule", "", 0))},
		Raw: stack.Chain{Frames: frames(
			frame(0xffffffffc0003010, "bpf_prog_6deef7357e7b4530_on_entry", "bpf", 0x90),
			frame(0xffffffff81000009, "schedule", "", 9),
		)},
	}}},
}

func (s shown) event(all map[string]*plan.Target) *Event {
	c := &calls.Call{
		ID: 7, Target: index(all, s.fn), Pid: 4242, Tid: 4242, CPU: 3, ExitCPU: 3, Entered: !s.noEntry, Entry: 1000000000, Exit: 1000000100,
	}
	if s.duration != 0 {
		c.Exit = c.Entry + s.duration
	}
	if s.thread {
		c.Tid++
	}
	binary.LittleEndian.PutUint64(c.Retval[:], s.ret)
	if s.noEntry {
		c.Entry = 0
	} else {
		copy(c.Comm[:], comm)
		if s.comm != "" {
			c.Comm = [16]byte{}
			copy(c.Comm[:], s.comm)
		}
		raw := wiretest.Entry{Words: s.words, Strings: s.strings}.Bytes()[56:]
		c.Words, c.Strings = raw[:8*len(s.words)], raw[8*len(s.words):]
	}
	chain := s.chain
	if chain != nil {
		copied := *chain // a chain keeps its spelling
		chain = &copied
	}
	kind := Call
	switch s.kind {
	case entryKind:
		kind = Entry
	case Exit:
		kind = Exit
	}
	return &Event{Kind: kind, Call: c, Target: all[s.fn], Chain: chain}
}

var start = &Start{
	Kernel: "6.12.0", Arch: "amd64", Version: "0.1.0", Argv: []string{"trace", "-k", "a\"<b\xff"}, Targets: 2, RealtimeOffset: 1700000000123456789,
}

func end(all map[string]*plan.Target) *End {
	return &End{
		Events: 10, Lost: 3, RecursionMisses: 4, Self: 5, NoEntry: 6, NoExit: 7, Running: 8,
		Skipped: []plan.Skip{
			{Func: "_printk", Prototype: "int _printk(const char *fmt, ...)", Reason: plan.ReasonVariadic},
			{Func: "helper", Module: "nf_tables", Reason: plan.ReasonNoPrototype},
		},
		PerTarget: []Loss{{Target: all["schedule"], LostEntries: 1, LostExits: 2, RecursionMisses: 4}},
	}
}

func TestText(t *testing.T) {
	for name, opts := range map[string]TextOptions{
		"text.golden":  {Location: time.UTC},
		"color.golden": {Location: time.FixedZone("", 3600), Color: true},
	} {
		t.Run(name, func(t *testing.T) {
			all := targets(t)
			r := NewText(values(all), names{}, opts)
			out := r.AppendStart(nil, start)
			for _, e := range events {
				out = append(out, "# "+e.name+"\n"...)
				out = r.AppendEvent(out, e.event(all))
			}
			out = r.AppendEnd(out, end(all))
			golden.Check(t, name, string(out))
		})
	}
}

// TestTextClock goes from second to second, and back.
func TestTextClock(t *testing.T) {
	all := targets(t)
	r := NewText(values(all), nil, TextOptions{Location: time.UTC})
	r.AppendStart(nil, &Start{RealtimeOffset: 86400e9})
	var got []string
	for _, ns := range []uint64{0, 999999999, 1e9, 3600e9 + 5, 999} {
		e := shown{fn: "schedule"}.event(all)
		e.Call.Entry = ns
		got = append(got, string(bytes.Fields(r.AppendEvent(nil, e))[0]))
	}
	want := []string{"00:00:00.000000000", "00:00:00.999999999", "00:00:01.000000000", "01:00:00.000000005", "00:00:00.000000999"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestJSON(t *testing.T) {
	all := targets(t)
	r := NewJSON(values(all), names{})
	out := r.AppendStart(nil, start)
	for _, e := range events {
		out = r.AppendEvent(out, e.event(all))
	}
	out = r.AppendEnd(out, end(all))
	for line := range bytes.Lines(out) {
		decode(t, line)
	}
	golden.Check(t, "json.golden", string(out))
}

// decode reads one line as the object that it has to be.
func decode(t *testing.T, line []byte) map[string]any {
	t.Helper()
	if i := bytes.IndexByte(line, '\n'); i != len(line)-1 {
		t.Fatalf("not one line: %q", line)
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	object := make(map[string]any)
	if err := d.Decode(&object); err != nil {
		t.Fatalf("%v\n%s", err, line)
	}
	if _, err := d.Token(); err != io.EOF {
		t.Fatalf("more than an object: %s", line)
	}
	return object
}

// documented are the names of each object. Programs that read them rely on
// these: none may go, and what is new is to be documented.
var documented = map[string]struct{ always, maybe string }{
	"start": {always: "event kernel arch version argv targets realtime_offset_ns"},
	"end":   {always: "event events lost recursion_misses self no_entry no_exit running targets skipped", maybe: "exit_lost roots_left_out too_deep packets_unread packets_lost packets_unknown packets_followed packets_not_freed packets_not_followed late"},
	"entry": {"event id func module args time_ns cpu pid tid comm", "demangled packet values stack truncated stack_error"},
	"exit":  {"event id func module retval time_ns cpu pid tid", "demangled args duration_ns comm packet values stack truncated stack_error"},
	"call":  {"event id func module args retval duration_ns time_ns cpu pid tid comm", "demangled packet values stack truncated stack_error parent depth context own_ns end"},

	"arg":     {"name type value", "addr cut"},
	"retval":  {"type value", "error"},
	"frame":   {"func offset addr module", "demangled"},
	"skipped": {always: "func module reason"},
	"loss":    {"func module lost_entries lost_exits recursion_misses undecoded", "lost_packets"},
}

func TestJSONNames(t *testing.T) {
	all := targets(t)
	r := NewJSON(values(all), names{})
	check := func(what string, object any) {
		t.Helper()
		var got []string
		for name := range object.(map[string]any) {
			got = append(got, name)
		}
		always, maybe := strings.Fields(documented[what].always), strings.Fields(documented[what].maybe)
		for _, name := range always {
			if !slices.Contains(got, name) {
				t.Errorf("%s has no %s: %v", what, name, object)
			}
		}
		for _, name := range got {
			if !slices.Contains(always, name) && !slices.Contains(maybe, name) {
				t.Errorf("%s has %s: %v", what, name, object)
			}
		}
	}
	list := func(what string, objects any) {
		t.Helper()
		if objects == nil {
			return
		}
		for _, object := range objects.([]any) {
			check(what, object)
		}
	}
	check("start", decode(t, r.AppendStart(nil, start)))
	for _, e := range events {
		object := decode(t, r.AppendEvent(nil, e.event(all)))
		check(object["event"].(string), object)
		list("arg", object["args"])
		list("frame", object["stack"])
		if object["retval"] != nil {
			check("retval", object["retval"])
		}
	}
	last := decode(t, r.AppendEnd(nil, end(all)))
	check("end", last)
	list("skipped", last["skipped"])
	list("loss", last["targets"])

	// Lists are lists where they are empty.
	for name, value := range decode(t, r.AppendEnd(nil, &End{})) {
		if value == nil {
			t.Errorf("%s of an empty end is null", name)
		}
	}
}

// FuzzJSON gives calls any bytes that a record can hold.
func FuzzJSON(f *testing.F) {
	f.Add([]byte("\x00\xff\"\\\n"), "icmp_rcv", []byte("ping"), uint8(2), 14)
	f.Add(make([]byte, 400), "set_option", []byte("a\xff\"\x00b"), uint8(1), 0)
	for _, fn := range []string{"open_file", "two_names", "hook", "lookup", "name_of", "is_set", "size_of", rust} {
		f.Add([]byte(strings.Repeat("\xff\xfe\x01", 200)), fn, []byte(fn), uint8(0), -1)
	}
	all := targets(f)
	r := NewJSON(values(all), names{})
	text := NewText(values(all), names{}, TextOptions{Location: time.UTC})
	f.Fuzz(func(t *testing.T, data []byte, fn string, comm []byte, kind uint8, errno int) {
		target := all[fn]
		if target == nil {
			return
		}
		c := &calls.Call{ID: 1, Target: index(all, fn), Entered: kind&4 == 0 || Kind(kind%3) != Exit, Entry: 5, Exit: 6}
		copy(c.Comm[:], comm)
		copy(c.Retval[:], data)
		shape := target.Shape(false)
		raw := make([]byte, shape.EntrySize()-56)
		copy(raw, data)
		c.Words, c.Strings = raw[:8*shape.Words], raw[8*shape.Words:]
		e := &Event{Kind: Kind(kind % 3), Call: c, Target: target}
		if errno != 0 {
			e.Chain = &Chain{Errno: errno, Chain: stack.Chain{Frames: frames(frame(1, string(comm), string(data), 3))}}
		}
		object := decode(t, r.AppendEvent(nil, e))
		if object["func"] != fn {
			t.Errorf("func %v", object["func"])
		}
		e.Chain = nil
		for _, b := range text.AppendEvent(nil, e) {
			if b < ' ' && b != '\n' || b == 0x7f {
				t.Errorf("byte %#x in text", b)
			}
		}
	})
}

func TestNoAllocation(t *testing.T) {
	all := targets(t)
	for name, r := range map[string]Renderer{
		"text": NewText(values(all), names{}, TextOptions{Location: time.UTC, Color: true}),
		"json": NewJSON(values(all), names{}),
	} {
		t.Run(name, func(t *testing.T) {
			var out []byte
			for _, e := range events {
				event := e.event(all)
				out = r.AppendEvent(out[:0], event)
				if n := testing.AllocsPerRun(100, func() { out = r.AppendEvent(out[:0], event) }); n != 0 {
					t.Errorf("%s: %v allocations", e.name, n)
				}
			}
		})
	}
}
