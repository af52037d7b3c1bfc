package flow

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"

	"fgtrace/btfx/expr"
	"fgtrace/internal/btftest"
	"fgtrace/internal/wiretest"
	"fgtrace/tracer/event"
	"fgtrace/tracer/plan"
	"fgtrace/tracer/render"
	"fgtrace/tracer/spec"
	"fgtrace/tracer/stack"
)

// targets are f0(long n) and f1(const char *name).
func targets(tb testing.TB) []*plan.Target {
	tb.Helper()
	types := btftest.Types(tb,
		btftest.Func("f0", btftest.Int, "n", btftest.Long),
		btftest.Func("f1", btftest.Int, "name", btftest.CharP),
		btftest.Func("icmp_rcv", btftest.Int, "skb", &btf.Pointer{Target: &btf.Fwd{Name: "sk_buff", Kind: btf.FwdStruct}}),
	)
	asked, err := spec.ParseTargets([]string{"*"})
	if err != nil {
		tb.Fatal(err)
	}
	p, err := plan.Resolve(asked, &plan.Kernel{Types: types, Modules: func() ([]plan.Module, error) { return nil, nil }})
	if err != nil {
		tb.Fatal(err)
	}
	return p.Targets
}

// brief renders an event as "call f0#1 [f0 caller]".
type brief struct{}

func (brief) Grow([]*plan.Target) {}

func (brief) AppendStart(dst []byte, s *render.Start) []byte { return append(dst, "start\n"...) }

func (brief) AppendEvent(dst []byte, e *render.Event) []byte {
	known := ""
	if !e.Call.Entered {
		known = " ?"
	}
	dst = fmt.Appendf(dst, "%s %s#%d%s", e.Kind, e.Target.Func, e.Call.ID, known)
	if e.Chain != nil {
		var names []string
		for _, f := range e.Chain.Frames {
			names = append(names, f.Func)
		}
		for _, f := range e.Chain.Raw.Frames {
			names = append(names, "raw "+f.Func)
		}
		if e.Chain.Errno != 0 {
			names = append(names, fmt.Sprint("errno ", e.Chain.Errno))
		}
		dst = fmt.Appendf(dst, " %v", names)
	}
	return append(dst, '\n')
}

func (brief) AppendEnd(dst []byte, e *render.End) []byte {
	return fmt.Appendf(dst, "end events=%d noentry=%d noexit=%d running=%d\n", e.Events, e.NoEntry, e.NoExit, e.Running)
}

func options(tb testing.TB, mode spec.Mode) Options {
	o := Options{Mode: mode, Targets: targets(tb), Renderer: brief{}}
	for _, t := range o.Targets {
		o.Shapes = append(o.Shapes, t.Shape(false))
	}
	return o
}

// record makes one of "entry 0 f1", "exit 0 f1", "call 0 f1", "packet 0 f1 abc": kind,
// target, frame, and an optional "lost" or "unwanted" of an exit, "packet" of an entry
// that has one, or what is in a packet: one of kind raw has no Ethernet header, and
// "more" is what comes next in one, "packet 0 f2/1 abc" that of a node at depth 1.
func record(tb testing.TB, text string) []byte {
	tb.Helper()
	var kind, lost string
	var target uint32
	var frame uint64
	var depth int64
	plain := text
	if at := strings.IndexByte(text, '/'); at >= 0 {
		before, rest := text[:at], text[at+1:]
		number, behind, _ := strings.Cut(rest, " ")
		if _, err := fmt.Sscan(number, &depth); err != nil {
			tb.Fatalf("%q: %v", text, err)
		}
		plain = before + " " + behind
	}
	if _, err := fmt.Sscanf(plain+" .", "%s %d f%d %s", &kind, &target, &frame, &lost); err != nil {
		tb.Fatalf("%q: %v", text, err)
	}
	switch kind {
	case "packet", "raw", "more":
		return wiretest.Packet{Frame: frame, Target: target, Raw: kind == "raw", More: kind == "more", Depth: depth, Length: 100, Data: []byte(lost)}.Bytes()
	case "exit":
		return wiretest.Exit{Time: 20, Frame: frame, Target: target, EntryLost: lost == "lost", Unwanted: lost == "unwanted"}.Bytes()
	}
	e := wiretest.Entry{Time: 10, Frame: frame, Target: target, Words: []uint64{1}, HasPacket: lost == "packet"}
	if target == 1 {
		e.Strings = []wiretest.String{wiretest.Text("lo")}
	}
	if kind == "call" {
		return wiretest.Call{Entry: e, ExitTime: 20}.Bytes()
	}
	return e.Bytes()
}

func run(tb testing.TB, f *Flow, records string) string {
	tb.Helper()
	for text := range strings.SplitSeq(records, ";") {
		more := f.Record(record(tb, strings.TrimSpace(text)))
		if full := f.limit != 0 && f.Events() >= f.limit; more == full {
			tb.Errorf("%s: more is %v at %d events", text, more, f.Events())
		}
	}
	f.Finish(&render.End{})
	return string(f.Take())
}

// TestUnwanted: calls whose results are not asked for, and those that took less than
// asked, leave nothing behind.
func TestUnwanted(t *testing.T) {
	const records = "entry 0 f1; exit 0 f1 unwanted; entry 0 f2; exit 0 f2; exit 0 f3 unwanted; exit 0 f4"
	for _, test := range []struct {
		mode  spec.Mode
		least uint64
		want  string
	}{
		{spec.Call, 0, "call f0#2\nend events=1 noentry=2 noexit=0 running=0\n"},
		{spec.Call, 10, "call f0#2\nend events=1 noentry=2 noexit=0 running=0\n"},
		{spec.Call, 11, "end events=0 noentry=2 noexit=0 running=0\n"},
		{spec.Exit, 0, "exit f0#2\nexit f0#4 ?\nend events=2 noentry=2 noexit=0 running=0\n"},
		{spec.Exit, 11, "end events=0 noentry=2 noexit=0 running=0\n"},
		{spec.Entry | spec.Exit, 11, "entry f0#1\nentry f0#2\nend events=2 noentry=2 noexit=0 running=0\n"},
	} {
		o := options(t, test.mode)
		o.Least = test.least
		if diff := cmp.Diff(test.want, run(t, New(o), records)); diff != "" {
			t.Errorf("mode %v, %d ns (-want +got)\n%s", test.mode, test.least, diff)
		}
	}
}

// TestWholeCalls mixes calls of one record with those of two.
func TestWholeCalls(t *testing.T) {
	const records = "call 0 f1; entry 0 f1; call 0 f2; exit 0 f1; call 0 f1; entry 0 f3; call 0 f3"
	const want = `
call f0#1
call f0#3
call f0#2
call f0#4
call f0#6
end events=5 noentry=0 noexit=1 running=0
`
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), run(t, New(options(t, spec.Call)), records)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestMissedWholeCall covers a call that may be two: its entry of one and its
// exit of another.
func TestMissedWholeCall(t *testing.T) {
	o := options(t, spec.Call)
	o.Missed = func(target int, since uint64) bool { return target == 0 && since == 10 }
	f := New(o)
	short := wiretest.Call{Entry: wiretest.Entry{Time: 10, Frame: 1, Words: []uint64{1}}, ExitTime: 10_009}
	long := short
	long.ExitTime = 10_010
	f.Record(long.Bytes())
	f.Record(short.Bytes())
	f.Finish(&render.End{NoEntry: 10, Running: 20})
	const want = "call f0#2\nend events=1 noentry=11 noexit=1 running=20\n"
	if diff := cmp.Diff(want, string(f.Take())); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestModes(t *testing.T) {
	const records = "exit 0 f9; entry 0 f1; entry 1 f2; exit 1 f2; entry 0 f3; exit 0 f1; exit 0 f3 lost; entry 0 f4"
	for mode, want := range map[spec.Mode]string{
		spec.Call: `
call f1#3
call f0#2
end events=2 noentry=2 noexit=1 running=1
`,
		spec.Exit: `
exit f0#1 ?
exit f1#3
exit f0#2
exit f0#5 ?
end events=4 noentry=2 noexit=1 running=1
`,
		spec.Entry | spec.Exit: `
exit f0#1 ?
entry f0#2
entry f1#3
exit f1#3
entry f0#4
exit f0#2
exit f0#5 ?
entry f0#6
end events=8 noentry=2 noexit=1 running=1
`,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			if diff := cmp.Diff(want, "\n"+run(t, New(options(t, mode)), records)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	t.Run("entry", func(t *testing.T) {
		want := "entry f0#1\nentry f0#2\nentry f1#3\nend events=3 noentry=0 noexit=0 running=0\n"
		if diff := cmp.Diff(want, run(t, New(options(t, spec.Entry)), "entry 0 f1; entry 0 f1; entry 1 f2")); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})
}

func TestLimit(t *testing.T) {
	const records = "entry 0 f1; exit 0 f1; entry 0 f1; exit 0 f1; entry 1 f2; exit 1 f2"
	for _, mode := range []spec.Mode{spec.Call, spec.Exit, spec.Entry | spec.Exit, spec.Entry} {
		for limit := range uint64(4) {
			o := options(t, mode)
			o.Limit = limit
			f := New(o)
			out := run(t, f, records)
			want := limit
			if limit == 0 {
				want = map[spec.Mode]uint64{spec.Call: 3, spec.Exit: 3, spec.Entry: 3, spec.Entry | spec.Exit: 6}[mode]
			}
			if got := uint64(strings.Count(out, "#")); got != want || f.Events() != want {
				t.Errorf("%s, limit %d: %d events, says %d", mode, limit, got, f.Events())
			}
		}
	}
}

func TestUndecoded(t *testing.T) {
	f := New(options(t, spec.Call))
	for _, raw := range [][]byte{
		nil,
		make([]byte, 20),
		wiretest.Exit{Target: 3}.Bytes(),
		record(t, "entry 1 f1")[:80],
		record(t, "entry 0 f1")[:63],
		record(t, "entry 0 f1")[:60],
		record(t, "exit 0 f1")[:60],
		make([]byte, 64), // kind 0 of target 0
		record(t, "entry 0 f1"),
	} {
		if !f.Record(raw) {
			t.Fatal("no limit, but reached")
		}
	}
	if diff := cmp.Diff([]uint64{4, 1, 0, 3}, f.Undecoded()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if f.Events() != 0 {
		t.Errorf("%d events", f.Events())
	}
}

// symbols is a kernel that changes: fn(i) is at 0x1000*i.
type symbols struct {
	names      map[uint64]stack.Symbol
	generation uint64
	asked      int
}

func (s *symbols) Symbol(addr uint64) (stack.Symbol, bool) {
	s.asked++
	sym, ok := s.names[addr&^0xfff]
	sym.Offset = addr & 0xfff
	return sym, ok
}

func (s *symbols) Generation() uint64 { return s.generation }

func newSymbols() *symbols {
	return &symbols{names: map[uint64]stack.Symbol{
		0x1000: {Func: "f0"}, 0x2000: {Func: "caller"}, 0x3000: {Func: "bpf_prog_x_on_entry", Module: "bpf"},
		0x4000: {Func: "bpf_trampoline_1", Module: "bpf"}, 0x5000: {Func: "other"},
	}}
}

func stacked(tb testing.TB, s *Stacks) *Flow {
	o := options(tb, spec.Entry)
	o.Stacks = s
	o.Targets[0].Addr = 0x1000
	for i, t := range o.Targets {
		o.Shapes[i] = t.Shape(true)
	}
	return New(o)
}

func TestStacks(t *testing.T) {
	entry := func(errno int64, frames ...uint64) []byte {
		return wiretest.Entry{Words: []uint64{1}, Stack: true, Frames: frames, StackErr: errno}.Bytes()
	}
	for name, test := range map[string]struct {
		raw  bool
		in   []byte
		want string
	}{
		"call":  {false, entry(0, 0x1009, 0x2020), "entry f0#1 [f0 caller]\n"},
		"jmp":   {false, entry(0, 0x2020), "entry f0#1 [f0 caller]\n"},
		"error": {false, entry(14), "entry f0#1 [errno 14]\n"},
		"raw": {true, entry(0, 0x3010, 0x4010, 0x1009, 0x2020),
			"entry f0#1 [f0 caller raw bpf_prog_x_on_entry raw bpf_trampoline_1 raw f0 raw caller]\n"},
	} {
		t.Run(name, func(t *testing.T) {
			f := stacked(t, &Stacks{Symbols: newSymbols(), Limit: 125, PatchSpan: 9, Raw: test.raw})
			f.Record(test.in)
			if diff := cmp.Diff(test.want, string(f.Take())); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestChainsRemembered names the stacks that come again only once, until the
// names of generated code change.
func TestChainsRemembered(t *testing.T) {
	syms := newSymbols()
	f := stacked(t, &Stacks{Symbols: syms, Limit: 125, PatchSpan: 9})
	show := func(frames ...uint64) string {
		f.Record(wiretest.Entry{Words: []uint64{1}, Stack: true, Frames: frames}.Bytes())
		out := string(f.Take())
		return out[strings.IndexByte(out, '['):]
	}
	show(0x1009, 0x2020)
	show(0x1009, 0x5020)
	asked := syms.asked
	for _, test := range []struct {
		frames []uint64
		want   string
	}{
		{[]uint64{0x1009, 0x2020}, "[f0 caller]\n"},
		{[]uint64{0x1009, 0x5020}, "[f0 other]\n"},
	} {
		if got := show(test.frames...); got != test.want {
			t.Errorf("%#x: %s", test.frames, got)
		}
	}
	if syms.asked != asked {
		t.Errorf("%d more questions", syms.asked-asked)
	}
	syms.names[0x5000] = stack.Symbol{Func: "new"}
	syms.generation++
	if got := show(0x1009, 0x5020); got != "[f0 new]\n" {
		t.Error(got)
	}
}

func FuzzRecord(f *testing.F) {
	for _, text := range []string{"entry 0 f1", "exit 0 f1", "entry 1 f2", "exit 1 f2 lost"} {
		f.Add(record(f, text), record(f, text), uint8(spec.Call))
		f.Add(record(f, text), []byte{1}, uint8(spec.Entry))
	}
	all := targets(f)
	// icmp_rcv has two values and a packet.
	icmp := all[2]
	icmp.Packet = &plan.PacketParam{}
	icmp.Outputs = []plan.Output{
		{Output: &expr.Output{Text: "n", Size: 8, Layout: all[0].Params[0].Layout}},
		{Output: &expr.Output{Text: "str(s)", Take: expr.TakeText, Size: 5, Format: expr.Quoted}, Offset: event.OutputSize(8)},
	}
	for _, status := range []int64{5, 0, -14, 1 << 40} {
		e := wiretest.Entry{Frame: 1, Target: 2, Words: []uint64{1}, HasPacket: true}
		e.Outputs = append(wiretest.Output(8, make([]byte, 8)), wiretest.Output(status, []byte("text\x00"))...)
		f.Add(record(f, "packet 2 f1 abc"), e.Bytes(), uint8(spec.Entry))
		f.Add(e.Bytes(), record(f, "raw 2 f1 E"), uint8(spec.Entry|spec.Exit))
	}
	f.Add(record(f, "packet 0 f1 abc"), record(f, "more 0 f1 def"), uint8(spec.Call))
	f.Add(record(f, "packet 0 f1 abc")[:98], record(f, "packet 3 f1 abc"), uint8(spec.Call))
	f.Fuzz(func(t *testing.T, first, second []byte, mode uint8) {
		for _, withStack := range []bool{false, true} {
			o := Options{Mode: spec.Mode(mode%4 + 1), Targets: all, Renderer: render.NewJSON(all, nil), Capture: render.NewPcap(all, nil, render.PcapOptions{Snaplen: 1000})}
			if withStack {
				o.Stacks = &Stacks{Symbols: newSymbols(), Limit: 125, PatchSpan: 9}
			}
			for _, target := range all {
				o.Shapes = append(o.Shapes, target.Shape(withStack))
			}
			fl := New(o)
			given := uint64(0)
			for _, raw := range [][]byte{first, second, first} {
				given++
				if !fl.Record(raw) {
					t.Fatal("no limit, but reached")
				}
			}
			undecoded := uint64(0)
			for _, n := range fl.Undecoded() {
				undecoded += n
			}
			if fl.Events()+undecoded > given {
				t.Fatalf("%d events and %d undecoded of %d records", fl.Events(), undecoded, given)
			}
			var end render.End
			fl.Finish(&end)
			fl.Take()
			fl.TakeCapture()
		}
	})
}

// pair is a call of icmp_rcv: its entry and exit.
func pair(o Options, frames int) (entry, exit, call []byte) {
	target := uint32(0)
	for i, t := range o.Targets {
		if t.Func == "icmp_rcv" {
			target = uint32(i)
		}
	}
	e := wiretest.Entry{
		Time: 1e9, Frame: 0xffffc90000123e48, Pid: 492, Tid: 492, Target: target, Comm: "ping",
		Words: []uint64{0xffff888003a1b700}, Stack: frames > 0,
	}
	for i := range frames {
		e.Frames = append(e.Frames, uint64(0x2000+i))
	}
	return e.Bytes(), wiretest.Exit{
		Time: 1e9 + 2174, Frame: e.Frame, Pid: 492, Tid: 492, Target: target,
	}.Bytes(), wiretest.Call{Entry: e, ExitTime: 1e9 + 2174}.Bytes()
}

// output is a flow as cmd/trace makes it, and the records of a call: one of all of
// it, or one of its entry and one of its exit.
func output(tb testing.TB, format string, frames int, whole bool) (f *Flow, records [][]byte) {
	tb.Helper()
	o := options(tb, spec.Call)
	if format == "json" {
		o.Renderer = render.NewJSON(o.Targets, nil)
	} else {
		o.Renderer = render.NewText(o.Targets, nil, render.TextOptions{Location: time.UTC})
	}
	if frames > 0 {
		o.Stacks = &Stacks{Symbols: newSymbols(), Limit: 125, PatchSpan: 9}
	}
	for i, t := range o.Targets {
		o.Shapes[i] = t.Shape(frames > 0)
	}
	entry, exit, call := pair(o, frames)
	if whole {
		return New(o), [][]byte{call}
	}
	return New(o), [][]byte{entry, exit}
}

var outputs = []struct {
	name, format string
	frames       int
	whole        bool
}{
	{"text", "text", 0, true},
	{"json", "json", 0, true},
	{"text_stack20", "text", 20, true},
	{"json_stack20", "json", 20, true},
	{"text_two", "text", 0, false},
	{"text_two_stack20", "text", 20, false},
}

func TestNoAllocation(t *testing.T) {
	for _, test := range outputs {
		t.Run(test.name, func(t *testing.T) {
			f, records := output(t, test.format, test.frames, test.whole)
			call := func() {
				for _, r := range records {
					f.Record(r)
				}
				if len(f.Take()) == 0 {
					t.Fatal("nothing shown")
				}
			}
			call()
			if n := testing.AllocsPerRun(1000, call); n != 0 {
				t.Errorf("%v allocations a call", n)
			}
		})
	}
}

func BenchmarkRecord(b *testing.B) {
	for _, test := range outputs {
		b.Run(test.name, func(b *testing.B) {
			f, records := output(b, test.format, test.frames, test.whole)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				for _, r := range records {
					f.Record(r)
				}
				if i%1000 == 0 {
					f.Take()
				}
			}
		})
	}
}
