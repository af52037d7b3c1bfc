package matrix

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// output is what a run printed as JSON.
type output struct {
	Start  start
	Events []event
	End    end

	Counted []string // objects of values that were added up
}

type start struct {
	Kernel         string   `json:"kernel"`
	Arch           string   `json:"arch"`
	Version        string   `json:"version"`
	Argv           []string `json:"argv"`
	Targets        int      `json:"targets"`
	RealtimeOffset int64    `json:"realtime_offset_ns"`
}

type event struct {
	Event     string  `json:"event"`
	ID        uint64  `json:"id"`
	Func      string  `json:"func"`
	Module    string  `json:"module"`
	Args      []value `json:"args"`
	Retval    value   `json:"retval"`
	Duration  uint64  `json:"duration_ns"`
	Time      uint64  `json:"time_ns"`
	CPU       int     `json:"cpu"`
	PID       int     `json:"pid"`
	TID       int     `json:"tid"`
	Comm      string  `json:"comm"`
	Stack     []frame `json:"stack"`
	Truncated bool    `json:"truncated"`
	Values    []value `json:"values"`
	Packet    *packet `json:"packet"`

	// Of a function graph.
	Parent  uint64 `json:"parent"`
	Depth   int    `json:"depth"`
	Context string `json:"context"`
	Own     uint64 `json:"own_ns"`
	End     string `json:"end"`

	keys map[string]json.RawMessage // what is there
}

// value is an argument, or a result, which has no name. Numbers in Value are
// json.Number.
type value struct {
	Name  string `json:"name"`
	Expr  string `json:"expr"`
	Type  string `json:"type"`
	Value any    `json:"value"`
	Addr  string `json:"addr"`
	Error string `json:"error"`
}

// packet is a packet at an entry.
type packet struct {
	Length   int              `json:"length"`
	Captured int              `json:"captured"`
	Link     string           `json:"link"`
	Layers   []map[string]any `json:"layers"`
}

type frame struct {
	Func   string `json:"func"`
	Offset uint64 `json:"offset"`
	Addr   string `json:"addr"`
	Module string `json:"module"`
}

type end struct {
	Events          uint64 `json:"events"`
	Lost            uint64 `json:"lost"`
	RecursionMisses uint64 `json:"recursion_misses"`
	Self            uint64 `json:"self"`
	NoEntry         uint64 `json:"no_entry"`
	NoExit          uint64 `json:"no_exit"`
	Running         uint64 `json:"running"`
	Unread          uint64 `json:"packets_unread"`
	LostPackets     uint64 `json:"packets_lost"`
	Unknown         uint64 `json:"packets_unknown"`
	Followed        uint64 `json:"packets_followed"`
	NotFreed        uint64 `json:"packets_not_freed"`
	NotFollowed     uint64 `json:"packets_not_followed"`
	Targets         []loss `json:"targets"`
	Skipped         []skip `json:"skipped"`
}

type loss struct {
	Func            string `json:"func"`
	LostEntries     uint64 `json:"lost_entries"`
	LostExits       uint64 `json:"lost_exits"`
	LostPackets     uint64 `json:"lost_packets"`
	RecursionMisses uint64 `json:"recursion_misses"`
	Undecoded       uint64 `json:"undecoded"`
}

type skip struct {
	Func   string `json:"func"`
	Module string `json:"module"`
	Reason string `json:"reason"`
}

// skipped returns the reason why a function was not traced.
func (e end) skipped(function string) (reason string, ok bool) {
	for _, s := range e.Skipped {
		if s.Func == function {
			return s.Reason, true
		}
	}
	return "", false
}

// of returns the events of a kind ("" for all) of a function ("" for all).
func (o *output) of(kind, function string) []event {
	var found []event
	for _, e := range o.Events {
		if (kind == "" || e.Event == kind) && (function == "" || e.Func == function) {
			found = append(found, e)
		}
	}
	return found
}

// arg returns the value of an argument.
func (e event) arg(name string) (value, bool) {
	for _, a := range e.Args {
		if a.Name == name {
			return a, true
		}
	}
	return value{}, false
}

// integer returns a value that is a number.
func (v value) integer() (int64, error) {
	n, ok := v.Value.(json.Number)
	if !ok {
		return 0, fmt.Errorf("value %v of %s: not a number", v.Value, v.Name)
	}
	return n.Int64()
}

// parseOutput parses what a run in a mode printed, and holds it to the contract
// that the JSON is for others to build on.
func parseOutput(raw []byte, mode string) (*output, error) {
	lines := strings.SplitAfter(string(raw), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return nil, fmt.Errorf("parse output: the last line has no end: %q", last)
	}
	lines = lines[:len(lines)-1]
	if len(lines) < 2 {
		return nil, fmt.Errorf("parse output: %d lines, want a start and an end", len(lines))
	}
	o := &output{}
	for i, line := range lines {
		var err error
		switch {
		case i == 0:
			err = parseLine(line, &o.Start, nil, "start", startKeys)
		case i == len(lines)-1:
			err = parseLine(line, &o.End, nil, "end", endKeys)
		default:
			if strings.HasPrefix(line, `{"event":"values",`) {
				o.Counted = append(o.Counted, line)
				continue
			}
			e := event{}
			if err = parseLine(line, &e, &e.keys, "", eventKeys); err == nil {
				err = e.check(mode)
			}
			o.Events = append(o.Events, e)
		}
		if err != nil {
			return nil, fmt.Errorf("parse line %d of %d: %w\n%s", i+1, len(lines), err, line)
		}
	}
	return o, o.check(mode)
}

// Names that an object must have, and those that it may have too.
type keys struct{ required, optional []string }

var (
	startKeys = keys{required: []string{"event", "kernel", "arch", "version", "argv", "targets", "realtime_offset_ns"}}
	endKeys   = keys{
		required: []string{"event", "events", "lost", "recursion_misses", "skipped"},
		optional: []string{"self", "no_entry", "no_exit", "running", "exit_lost", "roots_left_out", "too_deep", "packets_unread", "packets_lost", "packets_unknown", "packets_followed", "packets_not_freed", "packets_not_followed", "late", "targets"},
	}
	eventKeys = keys{
		required: []string{"event", "id", "func", "module", "time_ns", "cpu", "pid", "tid"},
		optional: []string{"demangled", "args", "retval", "duration_ns", "comm", "packet", "values", "stack", "stack_error", "truncated", "own_ns", "end", "parent", "depth", "context"},
	}
)

func parseLine(line string, into any, have *map[string]json.RawMessage, kind string, want keys) error {
	var object map[string]json.RawMessage
	if err := decode(line, &object); err != nil {
		return err
	}
	if have != nil {
		*have = object
	}
	for _, key := range want.required {
		if _, ok := object[key]; !ok {
			return fmt.Errorf("no %q", key)
		}
	}
	for key := range object {
		if !slices.Contains(want.required, key) && !slices.Contains(want.optional, key) {
			return fmt.Errorf("%q is not in the contract", key)
		}
	}
	var name string
	if err := json.Unmarshal(object["event"], &name); err != nil || kind != "" && name != kind {
		return fmt.Errorf("event is %s, want %q", object["event"], kind)
	}
	var plain any
	if err := decode(line, &plain); err != nil {
		return err
	}
	if err := checkNumbers(plain); err != nil {
		return err
	}
	return decode(line, into)
}

// decode decodes one object and nothing behind it, numbers as they are written.
func decode(line string, into any) error {
	d := json.NewDecoder(strings.NewReader(line))
	d.UseNumber()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one object")
	}
	return nil
}

var (
	integerPattern = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)
	hexPattern     = regexp.MustCompile(`^0x(0|[1-9a-f][0-9a-f]*)$`)
)

// checkNumbers finds numbers that are not exact.
func checkNumbers(v any) error {
	switch v := v.(type) {
	case json.Number:
		if !integerPattern.MatchString(v.String()) {
			return fmt.Errorf("number %s is no plain integer", v)
		}
	case []any:
		for _, e := range v {
			if err := checkNumbers(e); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, e := range v {
			if err := checkNumbers(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// eventsOf are the kinds of events that a mode prints.
func eventsOf(mode string) []string {
	if mode == "" {
		return []string{"call"}
	}
	return strings.Split(mode, ",")
}

func (e *event) has(key string) bool {
	_, ok := e.keys[key]
	return ok
}

// check checks one event on its own.
func (e *event) check(mode string) error {
	if !slices.Contains(eventsOf(mode), e.Event) {
		return fmt.Errorf("event %q in mode %q", e.Event, mode)
	}
	if e.Func == "" || e.Module == "" || e.ID == 0 {
		return errors.New("func, module or id is empty")
	}
	entered := e.has("args")
	if entered != e.has("comm") {
		return errors.New("args and comm are known by the same record, and one is missing")
	}
	if e.Event != "exit" && !entered {
		return errors.New("no args")
	}
	if err := e.checkNode(); err != nil {
		return err
	}
	if e.has("retval") != (e.Event != "entry" && !e.has("end")) {
		return errors.New("a result belongs to exits, and to nothing else")
	}
	if e.has("duration_ns") != (e.Event != "entry" && entered && !e.has("end")) {
		return errors.New("a duration belongs to returns whose entry is known, and to nothing else")
	}
	if e.has("stack") != e.has("truncated") {
		return errors.New("stack and truncated go together")
	}
	values := slices.Clone(e.Args)
	if e.has("retval") {
		if e.Retval.Type == "void" && e.Retval.Value != nil {
			return errors.New("void has a value")
		}
		values = append(values, e.Retval)
	}
	for _, v := range values {
		if err := v.check(); err != nil {
			return err
		}
	}
	for i, f := range e.Stack {
		if !hexPattern.MatchString(f.Addr) {
			return fmt.Errorf("frame %d has the address %q", i, f.Addr)
		}
	}
	if len(e.Stack) > 0 && e.Stack[0].Func != e.Func {
		return fmt.Errorf("the stack begins with %s, not with the function", e.Stack[0].Func)
	}
	return nil
}

func (v value) check() error {
	if v.Type == "" {
		return fmt.Errorf("value %q has no type", v.Name)
	}
	if s, ok := v.Value.(string); ok && v.Addr == "" && strings.HasSuffix(v.Type, "*") && !hexPattern.MatchString(s) {
		return fmt.Errorf("pointer %q is %q", v.Name, s)
	}
	if _, ok := v.Value.(json.Number); ok && strings.HasSuffix(v.Type, "*") {
		return fmt.Errorf("pointer %q is a number", v.Name)
	}
	if v.Addr != "" && !hexPattern.MatchString(v.Addr) {
		return fmt.Errorf("address of string %q is %q", v.Name, v.Addr)
	}
	return nil
}

// check checks what the lines say about each other.
func (o *output) check(mode string) error {
	if o.Start.Version == "" || o.Start.Targets == 0 || len(o.Start.Argv) == 0 {
		return fmt.Errorf("start %+v is not complete", o.Start)
	}
	if o.End.Events != uint64(len(o.Events)) {
		return fmt.Errorf("end counts %d events of %d", o.End.Events, len(o.Events))
	}
	if o.End.Skipped == nil {
		return errors.New("end has no list of what was skipped")
	}
	for _, s := range o.End.Skipped {
		if s.Func == "" || s.Module == "" || s.Reason == "" {
			return fmt.Errorf("skipped %+v is not complete", s)
		}
	}
	var lost uint64
	for _, l := range o.End.Targets {
		lost += l.LostEntries + l.LostExits + l.Undecoded
	}
	if lost != o.End.Lost {
		return fmt.Errorf("%d lost, and %d over the targets", o.End.Lost, lost)
	}
	seen := map[string]bool{}
	entries := map[uint64]event{}
	for _, e := range o.Events {
		name := fmt.Sprint(e.Event, e.ID)
		if seen[name] {
			return fmt.Errorf("two events %s with the id %d", e.Event, e.ID)
		}
		seen[name] = true
		if e.Event == "entry" {
			entries[e.ID] = e
		}
		if e.Event != "exit" || mode == "exit" || !e.has("duration_ns") {
			continue
		}
		entry, ok := entries[e.ID]
		if !ok {
			return fmt.Errorf("exit %d has no entry before it", e.ID)
		}
		if e.Func != entry.Func || e.TID != entry.TID || e.Time-entry.Time != e.Duration {
			return fmt.Errorf("exit %+v is not of entry %+v", e, entry)
		}
		if !bytes.Equal(e.keys["args"], entry.keys["args"]) || !bytes.Equal(e.keys["stack"], entry.keys["stack"]) {
			return fmt.Errorf("exit %d has other arguments, or another stack, than its entry", e.ID)
		}
	}
	return nil
}

const (
	goodStart = `{"event":"start","kernel":"7.2","arch":"amd64","version":"1","argv":["trace"],"targets":1,"realtime_offset_ns":-5}` + "\n"
	goodEnd   = `{"event":"end","events":1,"lost":0,"recursion_misses":0,"skipped":[]}` + "\n"
	goodEntry = `{"event":"entry","id":1,"func":"f","module":"vmlinux","args":[{"name":"p","type":"char *","value":"0x1"}],"time_ns":18446744073709551615,"cpu":0,"pid":1,"tid":1,"comm":"c"}` + "\n"
)

// TestContract checks that the contract's keeper finds what is wrong.
func TestContract(t *testing.T) {
	good := goodStart + goodEntry + goodEnd
	o, err := parseOutput([]byte(good), "entry")
	if err != nil {
		t.Fatal(err)
	}
	if got := o.Events[0].Time; got != 1<<64-1 {
		t.Errorf("time %d", got)
	}
	for name, bad := range map[string][2]string{
		"no such name":   {`"cpu":0`, `"cpus":0`},
		"more":           {`"cpu":0`, `"cpu":0,"x":0`},
		"float":          {`"cpu":0`, `"cpu":0.0`},
		"exponent":       {`"time_ns":18446744073709551615`, `"time_ns":1e3`},
		"mode":           {`"event":"entry"`, `"event":"call"`},
		"pointer":        {`"0x1"`, `1`},
		"count":          {`"events":1`, `"events":2`},
		"no list":        {`"skipped":[]`, `"skipped":null`},
		"not first":      {goodStart, goodEntry + goodStart},
		"not last":       {goodEnd, goodEnd + goodEntry},
		"cut":            {"[]}\n", "[]}"},
		"not alone":      {"[]}\n", "[]} 1\n"},
		"nothing behind": {goodEnd, ""},
		"more counts":    {`"lost":0`, `"lost":0,"lots":1`},
	} {
		if _, err := parseOutput([]byte(strings.Replace(good, bad[0], bad[1], 1)), "entry"); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
