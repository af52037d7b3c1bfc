package render

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
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
	"fgtrace/tracer/event"
	"fgtrace/tracer/packet"
	"fgtrace/tracer/packet/dissect"
	"fgtrace/tracer/plan"
	"fgtrace/tracer/spec"
)

// receiver returns the target receive(struct thing *p, const char *name, int n, unsigned
// long big), of which these values are shown.
func receiver(tb testing.TB, depth int, outputs ...string) *plan.Target {
	tb.Helper()
	verdict := &btf.Enum{Name: "verdict", Size: 4, Values: []btf.EnumValue{{Name: "NF_DROP", Value: 0}, {Name: "NF_ACCEPT", Value: 1}}}
	byteType := &btf.Int{Name: "unsigned char", Size: 1}
	array := func(of btf.Type, n uint32) btf.Type { return &btf.Array{Type: of, Index: btftest.U32, Nelems: n} }
	deeper := btftest.Struct("deeper", "b", btftest.Int, 4)
	inner := btftest.Struct("inner", "a", btftest.Int, 4, "in", deeper, 4)
	thing := btftest.Struct("thing",
		"len", btftest.U32, 4, "verdict", verdict, 4, "inner", inner, 8, "grid", array(btftest.Int, 3), 12, "name", array(btftest.Char, 8), 8,
		"mac", array(byteType, 6), 6, "tag", btftest.Char, 1, "yes", btftest.Bool, 1, "fn", &btf.Pointer{Target: &btf.FuncProto{Return: btftest.Int}}, 8,
	)
	types := btftest.Types(tb, btftest.Func("receive", btftest.Int, "p", &btf.Pointer{Target: thing}, "name", btftest.CharP, "n", btftest.Int, "big", btftest.U64))
	named, err := spec.ParseTargets([]string{"receive"})
	if err != nil {
		tb.Fatal(err)
	}
	p, err := plan.Resolve(named, &plan.Kernel{Types: types, Modules: func() ([]plan.Module, error) { return nil, nil }})
	if err != nil {
		tb.Fatal(err)
	}
	if err := p.Filter(plan.Filters{Outputs: outputs, Depth: depth, Targets: named}); err != nil {
		tb.Fatal(err)
	}
	return p.Targets[0]
}

// received is a call of it: what its record had of values.
func received(outputs []byte) *calls.Call {
	c := &calls.Call{
		ID: 7, Pid: 4242, Tid: 4242, CPU: 3, ExitCPU: 3, Entered: true, Entry: 1000000000, Exit: 1000000100,
		Words: make([]byte, 4*8), Strings: wiretest.Strings{Strings: texts(wiretest.Text("lo"))}.Bytes()[80:], Outputs: outputs,
	}
	copy(c.Comm[:], comm)
	return c
}

// eight is a value of 8 bytes, and memory one of as many as there are.
func eight[T int | rune | uint64](v T) []byte {
	return wiretest.Output(8, binary.LittleEndian.AppendUint64(nil, uint64(v)))
}

func memory(b string) []byte { return wiretest.Output(int64(len(b)), []byte(b)) }

// str is a string with its NUL, of at most so many bytes.
func str(s string, room int) []byte {
	data := bytes.Repeat([]byte{0xee}, room)
	return wiretest.Output(int64(copy(data, s+"\x00")), data)
}

const (
	addresses4 = "\x0a\x00\x00\x01\x0a\x00\x00\x02"
	addresses6 = "\xfe\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x00\x00\x02"
	addresses2 = "\x02\x00\x5e\x10\x00\xff\xff\xff\xff\xff\xff\xff"
)

// outputTests are values, each by itself. In JSON it is what is behind the expression.
var outputTests = []struct {
	expr string
	raw  []byte
	text string
	json string
}{
	// Numbers, by their type. The upper half of a word is not an int's.
	{"n", eight(-5), "n=-5", `"type":"int","value":-5`},
	{"n", eight(0xdead_0000_0007), "n=7", `"type":"int","value":7`},
	{"big", eight(^uint64(0)), "big=18446744073709551615", `"type":"unsigned long","value":18446744073709551615`},
	{"p->len", eight(4000000000), "p->len=4000000000", `"type":"unsigned int","value":4000000000`},
	{"p->verdict", eight(1), "p->verdict=NF_ACCEPT", `"type":"enum verdict","value":{"name":"NF_ACCEPT","value":1}`},
	{"p->verdict", eight(7), "p->verdict=7", `"type":"enum verdict","value":{"value":7}`},
	{"p->tag", eight('a'), "p->tag='a'", `"type":"char","value":97`},
	{"p->yes", eight(1), "p->yes=true", `"type":"_Bool","value":true`},
	{"p", eight(pointer), "p=0xffff888003a1b700", `"type":"struct thing *","value":"0xffff888003a1b700"`},
	{"p", eight(0), "p=NULL", `"type":"struct thing *","value":"0x0"`},
	{"p->fn", eight(fnAddr + 16), "p->fn=icmp_rcv+0x10", `"type":"int (*)(void)","value":"0xffffffff81001010"`},
	{"n > 4 && big", eight(1), "n > 4 && big=1", `"type":"int","value":1`},
	{" n +\n\t 1 ", eight(4), "n + 1=4", `"type":"int","value":4`},
	{"hist(n)", eight(-5), "hist(n)=-5", `"type":"int","value":-5`},
	{"tdigest(p->len)", eight(5), "tdigest(p->len)=5", `"type":"unsigned int","value":5`},

	// Memory.
	{"p->grid", memory("\x01\x00\x00\x00\xfe\xff\xff\xff\x03\x00\x00\x00"), "p->grid=[1, -2, 3]", `"type":"int[3]","value":[1,-2,3]`},
	{"slice(p->grid, 1, 2)", memory("\xfe\xff\xff\xff\x03\x00\x00\x00"), "slice(p->grid, 1, 2)=[-2, 3]", `"type":"int[2]","value":[-2,3]`},
	{"p->inner", memory("\x01\x00\x00\x00\x02\x00\x00\x00"), "p->inner={.a=1, .in={.b=2}}", `"type":"struct inner","value":{"a":1,"in":{"b":2}}`},
	{"p->name", memory("lo\x00stale"), `p->name="lo"`, `"type":"char[8]","value":"lo"`},
	{"p->mac", memory(addresses2[:6]), "p->mac=[02 00 5e 10 00 ff]", `"type":"unsigned char[6]","value":[2,0,94,16,0,255]`},
	{"buf(p, 3)", memory("\x00a\xff"), "buf(p, 3)=[00 61 ff]", `"value":[0,97,255]`},
	{"hex(p, 3)", memory("\x00a\xff"), "hex(p, 3)=0061ff", `"value":"0061ff"`},
	{"hex(p, 9)", memory("\x01\x23\x45\x67\x89\xab\xcd\xef\x01"), "hex(p, 9)=0123456789abcdef01", `"value":"0123456789abcdef01"`},

	// Strings.
	{"name", str("eth0", 128), `name="eth0"`, `"type":"const char *","value":"eth0"`},
	{"str(name, 9)", str("eth0", 9), `str(name, 9)="eth0"`, `"value":"eth0"`},
	{"str(name, 9)", str("", 9), `str(name, 9)=""`, `"value":""`},
	{"str(name, 5)", str("eth0", 5), `str(name, 5)="eth0"...`, `"value":"eth0","cut":true`},
	{"str(name, 5)", str("eth", 5), `str(name, 5)="eth"`, `"value":"eth"`},
	{"str(name, 1)", str("", 1), `str(name, 1)=""...`, `"value":"","cut":true`},
	{"str(name, 9)", str("a\"\\\n\x1b\xff", 9), `str(name, 9)="a\"\\\n\x1b\xff"`, `"value":"a\"\\\n\u001b` + "\ufffd" + `"`},

	// Addresses and ports, one or two of them.
	{"eth(p)", memory(addresses2[:6]), "eth(p)=02:00:5e:10:00:ff", `"value":"02:00:5e:10:00:ff"`},
	{"eth2(p)", memory(addresses2), "eth2(p)=02:00:5e:10:00:ff > ff:ff:ff:ff:ff:ff", `"value":["02:00:5e:10:00:ff","ff:ff:ff:ff:ff:ff"]`},
	{"ip4(p)", memory(addresses4[:4]), "ip4(p)=10.0.0.1", `"value":"10.0.0.1"`},
	{"ip42(p, 12)", memory(addresses4), "ip42(p, 12)=10.0.0.1 > 10.0.0.2", `"value":["10.0.0.1","10.0.0.2"]`},
	{"ip6(p)", memory(addresses6[:16]), "ip6(p)=fe80::1", `"value":"fe80::1"`},
	{"ip62(p)", memory(addresses6), "ip62(p)=fe80::1 > ::ffff:10.0.0.2", `"value":["fe80::1","::ffff:10.0.0.2"]`},
	{"port(p)", memory("\x01\xbb"), "port(p)=443", `"value":443`},
	{"port2(p)", memory("\xff\xff\x00\x00"), "port2(p)=65535 > 0", `"value":[65535,0]`},

	// Packets.
	{"pkt(p, 28, ip)", memory(echo), "pkt(p, 28, ip)=" + line28(packet.Raw), `"value":` + object28(packet.Raw)},
	{"pkt(p, 28)", memory(echo), "pkt(p, 28)=" + line28(packet.Ethernet), `"value":` + object28(packet.Ethernet)},
	{"pkt(p, 28, eth)", memory(echo), "pkt(p, 28, eth)=" + line28(packet.Ethernet), `"value":` + object28(packet.Ethernet)},
}

// echo is an ICMP echo request.
const echo = "\x45\x00\x00\x1c\x00\x01\x00\x00\x40\x01\x7c\xde\x0a\x00\x00\x01\x0a\x00\x00\x02\x08\x00\xf7\xfd\x00\x01\x00\x01"

// line28 and object28 are what is in it if it begins so.
func line28(link packet.Link) string { return string(dissect.AppendText(nil, link, []byte(echo), 28)) }

func object28(link packet.Link) string {
	return string(dissect.AppendJSON(nil, link, []byte(echo), 28))
}

// below returns what text has below the line of an event.
func below(t *testing.T, all []*plan.Target, e *Event) string {
	t.Helper()
	text := string(NewText(all, names{}, TextOptions{Location: time.UTC}).AppendEvent(nil, e))
	_, text, ok := strings.Cut(text, "\n")
	if ok && text == "" {
		return ""
	}
	text, found := strings.CutPrefix(text, "    ")
	text, ended := strings.CutSuffix(text, "\n")
	if !ok || !found || !ended {
		t.Errorf("not a line below the event: %q", text)
	}
	return text
}

// inJSON returns the values of an event as JSON has them, without what is around them.
func inJSON(t *testing.T, all []*plan.Target, e *Event) string {
	t.Helper()
	raw := NewJSON(all, names{}).AppendEvent(nil, e)
	decode(t, raw)
	var object struct{ Values json.RawMessage }
	if err := json.Unmarshal(raw, &object); err != nil {
		t.Fatal(err)
	}
	return string(object.Values)
}

// shownBy returns an event that shows values, whatever they are.
func shownBy(target *plan.Target, outputs []byte) *Event {
	return &Event{Kind: Leaf, Call: received(outputs), Target: target}
}

func TestOutputs(t *testing.T) {
	for _, test := range outputTests {
		target := receiver(t, 0, test.expr)
		if n := target.OutputSize(); n != len(test.raw) {
			t.Errorf("%s: %d bytes in the test, %d in a record", test.expr, len(test.raw), n)
			continue
		}
		all := []*plan.Target{target}
		if got := below(t, all, shownBy(target, test.raw)); got != test.text {
			t.Errorf("%s: text is %s, want %s", test.expr, got, test.text)
		}
		quoted, err := json.Marshal(strings.TrimSpace(test.expr))
		if err != nil {
			t.Fatal(err)
		}
		quoted = bytes.ReplaceAll(bytes.ReplaceAll(quoted, []byte(`\u003e`), []byte(">")), []byte(`\u0026`), []byte("&"))
		want := `[{"expr":` + string(quoted) + `,` + test.json + `}]`
		if got := inJSON(t, all, shownBy(target, test.raw)); got != want {
			t.Errorf("%s: JSON is\n%s, want\n%s", test.expr, got, want)
		}
	}
}

// TestNoOutput: why there is no value, of each format.
func TestNoOutput(t *testing.T) {
	for why, status := range map[string]int64{"null": 0, "fault": -14, "lost": 1} {
		for _, test := range outputTests {
			target := receiver(t, 0, test.expr)
			all := []*plan.Target{target}
			raw := wiretest.Output(status, bytes.Repeat([]byte{0xee}, len(test.raw)-8))
			if why == "lost" {
				raw = nil
			}
			name, _, _ := strings.Cut(test.text, "=")
			if got, want := below(t, all, shownBy(target, raw)), name+"=<"+why+">"; got != want {
				t.Errorf("%s: text is %s, want %s", test.expr, got, want)
			}
			got := inJSON(t, all, shownBy(target, raw))
			if want := `"value":null,"error":"` + why + `"}]`; !strings.HasSuffix(got, want) {
				t.Errorf("%s: JSON is\n%s, want\n%s", test.expr, got, want)
			}
		}
	}
	// Any error is one of memory.
	target := receiver(t, 0, "n")
	for _, status := range []int64{-1, -22, -4095} {
		if got := below(t, []*plan.Target{target}, shownBy(target, wiretest.Output(status, make([]byte, 8)))); got != "n=<fault>" {
			t.Errorf("status %d: %s", status, got)
		}
	}
}

// TestOutputLine: values are in one line, or one list, in the order in which they were
// asked for.
func TestOutputLine(t *testing.T) {
	asked := []string{"n", "str(name, 5)", "p->inner.a", "ip42(p)", "n"}
	values := slices.Concat(eight(5), str("lo", 5), wiretest.Output(0, make([]byte, 8)), memory(addresses4), eight(6))
	for name, test := range map[string]struct {
		outputs    []byte
		text, json string
	}{
		"all": {values, `n=5, str(name, 5)="lo", p->inner.a=<null>, ip42(p)=10.0.0.1 > 10.0.0.2, n=6`,
			`[{"expr":"n","type":"int","value":5},{"expr":"str(name, 5)","value":"lo"},{"expr":"p->inner.a","type":"int","value":null,"error":"null"},` +
				`{"expr":"ip42(p)","value":["10.0.0.1","10.0.0.2"]},{"expr":"n","type":"int","value":6}]`},
		"lost": {nil, `n=<lost>, str(name, 5)=<lost>, p->inner.a=<lost>, ip42(p)=<lost>, n=<lost>`,
			`[{"expr":"n","type":"int","value":null,"error":"lost"},{"expr":"str(name, 5)","value":null,"error":"lost"},` +
				`{"expr":"p->inner.a","type":"int","value":null,"error":"lost"},{"expr":"ip42(p)","value":null,"error":"lost"},` +
				`{"expr":"n","type":"int","value":null,"error":"lost"}]`},
		"the last is cut off": {values[:len(values)-1], `n=5, str(name, 5)="lo", p->inner.a=<null>, ip42(p)=10.0.0.1 > 10.0.0.2, n=<lost>`,
			`[{"expr":"n","type":"int","value":5},{"expr":"str(name, 5)","value":"lo"},{"expr":"p->inner.a","type":"int","value":null,"error":"null"},` +
				`{"expr":"ip42(p)","value":["10.0.0.1","10.0.0.2"]},{"expr":"n","type":"int","value":null,"error":"lost"}]`},
	} {
		t.Run(name, func(t *testing.T) {
			target := receiver(t, 0, asked...)
			all := []*plan.Target{target}
			if diff := cmp.Diff(test.text, below(t, all, shownBy(target, test.outputs))); diff != "" {
				t.Errorf("text (-want +got)\n%s", diff)
			}
			if diff := cmp.Diff(test.json, inJSON(t, all, shownBy(target, test.outputs))); diff != "" {
				t.Errorf("JSON (-want +got)\n%s", diff)
			}
		})
	}
}

// TestOutputDepth: structs within one another are shown as deep as asked.
func TestOutputDepth(t *testing.T) {
	raw := memory("\x01\x00\x00\x00\x02\x00\x00\x00")
	for depth, want := range map[int][2]string{
		0: {"p->inner={.a=1, .in={.b=2}}", `{"a":1,"in":{"b":2}}`},
		1: {"p->inner={.a=1, .in={...}}", `{"a":1,"in":null}`},
		2: {"p->inner={.a=1, .in={.b=2}}", `{"a":1,"in":{"b":2}}`},
	} {
		target := receiver(t, depth, "p->inner")
		all := []*plan.Target{target}
		got := [2]string{below(t, all, shownBy(target, raw)), inJSON(t, all, shownBy(target, raw))}
		want[1] = `[{"expr":"p->inner","type":"struct inner","value":` + want[1] + `}]`
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("depth %d (-want +got)\n%s", depth, diff)
		}
	}
}

// both returns targets with values and a packet, with one of them, and with none.
func both(tb testing.TB) []*plan.Target {
	values, one, other, none := receiver(tb, 0, "n", "name"), receiver(tb, 0, "n"), receiver(tb, 0), receiver(tb, 0)
	values.Func, one.Func, other.Func, none.Func = "values_packet", "values", "packet", "neither"
	values.Packet, other.Packet = &plan.PacketParam{}, &plan.PacketParam{}
	return []*plan.Target{values, one, other, none}
}

var (
	rawPacket = &calls.Packet{Link: packet.Raw, Length: 28, Data: []byte(echo)}
	cutPacket = &calls.Packet{Link: packet.Ethernet, Length: 1514, Data: []byte("\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02\x08\x00" + echo[:20])}
)

// outputEvents are those of both, in the order of the golden files.
func outputEvents(all []*plan.Target) []struct {
	name string
	*Event
} {
	var list []struct {
		name string
		*Event
	}
	add := func(name string, kind Kind, target int, change func(*calls.Call)) {
		outputs := slices.Concat(eight(5), str("eth0", 128))
		c := received(outputs[:all[target].OutputSize()])
		c.Target, c.Packet = target, rawPacket
		if change != nil {
			change(c)
		}
		list = append(list, struct {
			name string
			*Event
		}{name, &Event{Kind: kind, Call: c, Target: all[target]}})
	}
	notEntered := func(c *calls.Call) {
		*c = calls.Call{ID: c.ID, Pid: c.Pid, Tid: c.Tid, Exit: c.Exit, Target: c.Target}
	}
	add("call", Call, 0, nil)
	add("entry", Entry, 0, nil)
	add("exit", Exit, 0, nil)
	add("exit of unknown entry", Exit, 0, notEntered)
	add("values alone", Call, 1, func(c *calls.Call) { c.Packet = nil })
	add("packet alone", Call, 2, nil)
	add("packet, cut", Call, 2, func(c *calls.Call) { c.Packet = cutPacket })
	add("packet, empty", Call, 2, func(c *calls.Call) { c.Packet = &calls.Packet{Length: 60} })
	add("packet, unknown", Call, 2, func(c *calls.Call) { c.Packet = nil })
	add("values, packet unknown", Call, 0, func(c *calls.Call) { c.Packet = nil })
	add("neither", Call, 3, func(c *calls.Call) { c.Packet = nil })
	list[len(list)-1].Chain = &Chain{Errno: 14}
	add("stack", Call, 0, nil)
	list[len(list)-1].Chain = &Chain{Errno: 14}

	at := func(depth int) func(*calls.Call) { return func(c *calls.Call) { c.Node.Depth = depth } }
	add("open", Open, 0, nil)
	add("leaf", Leaf, 0, at(1))
	add("deeper", Open, 2, at(1))
	add("deep leaf", Leaf, 1, func(c *calls.Call) { c.Node.Depth, c.Packet = 2, nil })
	add("values lost", Leaf, 0, func(c *calls.Call) { c.Node.Depth, c.Outputs, c.Packet = 2, nil, nil })
	add("close", Close, 2, at(1))
	add("running", Close, 0, func(c *calls.Call) { c.Node.End = calls.Running })
	return list
}

func TestTextOutputs(t *testing.T) {
	for name, opts := range map[string]TextOptions{
		"values_text.golden":  {Location: time.UTC},
		"values_color.golden": {Location: time.UTC, Color: true},
	} {
		t.Run(name, func(t *testing.T) {
			all := both(t)
			r := NewText(all[:2], names{}, opts)
			r.Grow(all[2:])
			var out []byte
			for _, e := range outputEvents(all) {
				out = append(out, "# "+e.name+"\n"...)
				out = r.AppendEvent(out, e.Event)
			}
			golden.Check(t, name, string(out))
		})
	}
}

func TestJSONOutputs(t *testing.T) {
	all := both(t)
	r := NewJSON(all[:2], names{})
	r.Grow(all[2:])
	var out []byte
	for _, e := range outputEvents(all) {
		out = r.AppendEvent(out, e.Event)
	}
	for raw := range bytes.Lines(out) {
		object := decode(t, raw)
		values, _ := object["values"].([]any)
		for _, v := range values {
			for name := range v.(map[string]any) {
				if !slices.Contains([]string{"expr", "type", "value", "error", "cut"}, name) {
					t.Errorf("a value has %s: %v", name, v)
				}
			}
		}
	}
	golden.Check(t, "values_json.golden", string(out))
}

func TestOutputNoAllocation(t *testing.T) {
	var exprs []string
	var raw []byte
	for _, test := range outputTests {
		exprs, raw = append(exprs, test.expr), append(raw, test.raw...)
	}
	target := receiver(t, 0, exprs...)
	target.Packet = &plan.PacketParam{}
	all := []*plan.Target{target}
	c := received(raw)
	c.Packet = rawPacket
	e := &Event{Kind: Leaf, Call: c, Target: target}
	for name, r := range map[string]Renderer{
		"text": NewText(all, names{}, TextOptions{Location: time.UTC, Color: true}), "json": NewJSON(all, names{}), "pcap": NewPcap(all, names{}, PcapOptions{Snaplen: 64}),
	} {
		t.Run(name, func(t *testing.T) {
			out := r.AppendEvent(nil, e)
			if n := testing.AllocsPerRun(100, func() { out = r.AppendEvent(out[:0], e) }); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

// FuzzOutputs gives values any bytes that a record can hold.
func FuzzOutputs(f *testing.F) {
	for i, test := range outputTests {
		f.Add(test.raw, uint8(i), []byte(echo), true)
		f.Add(wiretest.Output(-14, make([]byte, len(test.raw)-8)), uint8(i), []byte(echo[:10]), false)
		f.Add(test.raw[:8], uint8(i), []byte(nil), false)
	}
	var all []*plan.Target
	for i, test := range outputTests {
		target := receiver(f, 0, test.expr)
		target.Func, target.Packet = fmt.Sprint("receive", i), &plan.PacketParam{}
		all = append(all, target)
	}
	text, asJSON := NewText(all, names{}, TextOptions{Location: time.UTC}), NewJSON(all, names{})
	f.Fuzz(func(t *testing.T, outputs []byte, which uint8, data []byte, raw bool) {
		c := received(outputs)
		c.Target = int(which) % len(all)
		c.Packet = &calls.Packet{Length: len(data), Data: data}
		if raw {
			c.Packet.Link = packet.Raw
		}
		e := &Event{Kind: Leaf, Call: c, Target: all[c.Target]}
		object := decode(t, asJSON.AppendEvent(nil, e))
		values, _ := object["values"].([]any)
		if len(values) != 1 || values[0].(map[string]any)["expr"] != all[c.Target].Outputs[0].Text {
			t.Errorf("values %v", values)
		}
		if lost := len(outputs) < event.OutputSize(all[c.Target].Outputs[0].Size); lost != (values[0].(map[string]any)["error"] == "lost") {
			t.Errorf("%d bytes of outputs, and %v", len(outputs), values)
		}
		out := text.AppendEvent(nil, e)
		if n := bytes.Count(out, []byte("\n")); n != 3 {
			t.Errorf("%d lines, want the call, its packet, its value: %q", n, out)
		}
		for _, b := range out {
			if b < ' ' && b != '\n' || b == 0x7f {
				t.Errorf("byte %#x in text", b)
			}
		}
	})
}
