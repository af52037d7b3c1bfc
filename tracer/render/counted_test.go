package render

import (
	"strings"
	"testing"
	"time"

	"fgtrace/btfx"
	"fgtrace/btfx/expr"
	"fgtrace/internal/wiretest"
	"fgtrace/tracer/calls"
	"fgtrace/tracer/plan"
)

// countedTarget has a histogram and percentiles of one number.
func countedTarget(signed bool) *plan.Target {
	layout := &btfx.Layout{Type: "long", Kind: btfx.Int, Size: 8, Signed: signed}
	t := &plan.Target{Func: "f", Types: nil}
	t.Outputs = []plan.Output{
		{Output: &expr.Output{Text: "hist(n)", Size: 8, Format: expr.Histogram, Layout: layout}},
		{Output: &expr.Output{Text: "tdigest(n)", Size: 8, Format: expr.Digest, Layout: layout}, Offset: 16},
	}
	return t
}

// TestCounted: values are added up by sign and size, and shown at the end.
func TestCounted(t *testing.T) {
	number := func(n int64) []byte {
		var raw [8]byte
		for i := range raw {
			raw[i] = byte(uint64(n) >> (8 * i))
		}
		return wiretest.Output(8, raw[:])
	}
	for _, test := range []struct {
		name   string
		signed bool
		values []int64
		text   string
		json   string
	}{
		{"none", true, nil,
			"hist(n) of f: 0 values, 1 <null>, 1 <fault>\ntdigest(n) of f: 0 values, 1 <null>, 1 <fault>\n",
			`{"event":"values","func":"f","module":"vmlinux","expr":"hist(n)","count":0,"none":{"fault":1,"null":1}}`},
		{"one", true, []int64{0}, `hist(n) of f: 1 values, 1 <null>, 1 <fault>
    0        1  ########################################
tdigest(n) of f: 1 values, 1 <null>, 1 <fault>
    min 0  p25 0  p50 0  p75 0  p90 0  p95 0  p99 0  max 0
`, `"count":1,"none":{"fault":1,"null":1},"min":0,"max":0,"buckets":[{"from":0,"to":0,"calls":1}]}`},
		{"both signs", true, []int64{-9, -1, 0, 3, 3, 3, 2, 17}, `hist(n) of f: 8 values, 1 <null>, 1 <fault>
    -15..-8        1  ##########
     -7..-4        0
     -3..-2        0
         -1        1  ##########
          0        1  ##########
          1        0
       2..3        4  ########################################
       4..7        0
      8..15        0
     16..31        1  ##########
tdigest(n) of f: 8 values, 1 <null>, 1 <fault>
    min -9  p25 -1  p50 2  p75 3  p90 17  p95 17  p99 17  max 17
`, `"min":-9,"max":17,"buckets":[{"from":-15,"to":-8,"calls":1},`},
		{"all negative", true, []int64{-1 << 63, -2}, `hist(n) of f: 2 values, 1 <null>, 1 <fault>
`, `"min":-9223372036854775808,"max":-2,`},
		{"no sign", false, []int64{-1, 1}, `hist(n) of f: 2 values, 1 <null>, 1 <fault>
`, `"min":1,"max":18446744073709551615,`},
	} {
		t.Run(test.name, func(t *testing.T) {
			targets := []*plan.Target{countedTarget(test.signed)}
			text, json := NewText(targets, nil, TextOptions{Location: time.UTC}), NewJSON(targets, nil)
			var shown, objects []byte
			call := func(kind Kind, output []byte) {
				e := &Event{Kind: kind, Call: &calls.Call{Entered: true, Outputs: append(append([]byte(nil), output...), output...)}, Target: targets[0]}
				shown, objects = text.AppendEvent(shown, e), json.AppendEvent(objects, e)
			}
			call(Call, wiretest.Output(0, make([]byte, 8)))
			call(Call, wiretest.Output(-14, make([]byte, 8)))
			for _, n := range test.values {
				call(Call, number(n))
			}
			if len(shown) > 0 {
				t.Errorf("calls are shown: %s", shown)
			}
			if got := string(text.AppendEnd(nil, &End{})); !strings.HasPrefix(got, test.text) {
				t.Errorf("got\n%s\nwant\n%s", got, test.text)
			}
			if got := string(json.AppendEnd(nil, &End{})); !strings.Contains(got, test.json) {
				t.Errorf("got %s, want %s", got, test.json)
			}
			for line := range strings.Lines(string(json.AppendEnd(nil, &End{}))) {
				decode(t, []byte(line))
			}
		})
	}
}

// TestCountedOnce: where entries are shown, a call counts then and not at its exit.
func TestCountedOnce(t *testing.T) {
	targets := []*plan.Target{countedTarget(true)}
	output := wiretest.Output(8, make([]byte, 8))
	for want, kinds := range map[string][]Kind{
		"2 values": {Entry, Exit, Entry, Exit},
		"3 values": {Exit, Exit, Exit},
		"1 values": {Open, Close},
	} {
		text := NewText(targets, nil, TextOptions{Location: time.UTC})
		for _, kind := range kinds {
			text.AppendEvent(nil, &Event{Kind: kind, Call: &calls.Call{Entered: true, Outputs: append(append([]byte(nil), output...), output...)}, Target: targets[0]})
		}
		if got := string(text.AppendEnd(nil, &End{})); !strings.Contains(got, "hist(n) of f: "+want+"\n") {
			t.Errorf("%v: %s, want %s", kinds, got, want)
		}
	}
}
