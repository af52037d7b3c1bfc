package build

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/google/go-cmp/cmp"

	"fgtrace/arch"
	"fgtrace/bpf"
	"fgtrace/bpf/wire"
	"fgtrace/internal/btftest"
	"fgtrace/tracer/event"
	"fgtrace/tracer/plan"
	"fgtrace/tracer/spec"
)

func object(t *testing.T) *ebpf.CollectionSpec {
	t.Helper()
	s, err := bpf.Spec()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// targets are those of a kernel made for the test.
func targets(t *testing.T) []*plan.Target {
	t.Helper()
	pair := btftest.Struct("pair", "a", btftest.Long, 8, "b", btftest.Long, 8)
	k := &plan.Kernel{
		Types: btftest.Types(t,
			btftest.Func("f_mixed", btftest.Int, "p", pair, "s", btftest.CharP, "n", btftest.Int, "z", btftest.CharP),
			btftest.Func("f_void", nil),
		),
		Modules: func() ([]plan.Module, error) { return nil, nil },
	}
	asked, err := spec.ParseTargets([]string{"f_*"})
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.Resolve(asked, k)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Targets) != 2 {
		t.Fatalf("%d targets, skipped %v", len(p.Targets), p.Skipped)
	}
	return p.Targets
}

// configNames are enum config's, in its order.
var configNames = []string{
	"target", "record_size", "call_size", "words", "strings", "outputs", "page_size", "page_shift", "nr_frags", "frags", "most_frags", "snaplen", "stack_at", "call_stack_at", "slots", "copy_ctx", "retval",
	"self", "pids", "cgroup", "comm", "comm_lo", "comm_hi", "guard", "fork_tgid", "task", "frame_at", "session", "regs", "stack_args", "filter", "filter_result", "least_time", "follow", "if_stolen", "copy_of", "segments", "skb_next",
	"graph", "root", "nodes", "early", "no_irqs", "key_at", "no_interrupt", "not_from", "not_from_size", "by_target", "max_words", "open_size", "strings_size", "strings_room", "node_size", "filter_node",
}

// groupOnly are the constants that only programs with many targets have; those
// have none of linkOnly.
var (
	groupOnly = []string{"regs", "stack_args"}
	linkOnly  = []string{"target", "retval", "frame_at"}
	skbOnly   = []string{"if_stolen", "copy_of", "segments", "skb_next"} // of programs that follow packets
)

// spell gives the constants that aren't zero, as "words=5 strings=0x14".
func spell(t *testing.T, c Constants) string {
	t.Helper()
	_, isGroup := c[wire.ConfigRegs]
	for id, name := range configNames {
		_, ok := c[uint32(id)]
		want := isGroup && !slices.Contains(linkOnly, name) || !isGroup && !slices.Contains(groupOnly, name)
		if want = want && !slices.Contains(skbOnly, name); ok != want {
			t.Errorf("constant %s: %v", name, ok)
		}
	}
	var parts []string
	for id, name := range configNames {
		if value := c[uint32(id)]; value != 0 {
			parts = append(parts, fmt.Sprintf("%s=%#x", name, value))
		}
	}
	return strings.Join(parts, " ")
}

// TestFollowConstants: programs that follow packets choose among calls, whether or not a
// condition says which.
func TestFollowConstants(t *testing.T) {
	target := targets(t)[1]
	target.Follow = &plan.PacketParam{Word: 0}
	for exits, want := range map[bool]uint64{false: 1, true: 2} {
		c, _ := Options{Exits: exits}.Constants(1, target)
		if c[wire.ConfigFollow] != 1 || c[wire.ConfigFilter] != want {
			t.Errorf("exits %v: follow %d, filter %d", exits, c[wire.ConfigFollow], c[wire.ConfigFilter])
		}
	}
	for _, test := range []struct {
		copyOf, next int
		want         Constants
	}{
		{-1, -1, Constants{wire.ConfigWords: 2, wire.ConfigCopyOf: 0, wire.ConfigSegments: 0, wire.ConfigSkbNext: 0}},
		{1, -1, Constants{wire.ConfigWords: 2, wire.ConfigCopyOf: 2, wire.ConfigSegments: 0, wire.ConfigSkbNext: 0}},
		{0, 0, Constants{wire.ConfigWords: 2, wire.ConfigCopyOf: 1, wire.ConfigSegments: 1, wire.ConfigSkbNext: 0}},
	} {
		if diff := cmp.Diff(test.want, NewSKBConstants(2, test.copyOf, test.next)); diff != "" {
			t.Errorf("a copy of %d, next at %d (-want +got)\n%s", test.copyOf, test.next, diff)
		}
	}
}

func TestConstants(t *testing.T) {
	for name, test := range map[string]struct {
		options Options
		target  int
		want    string
	}{
		// 56 + 5*8 + 2*128 = 352; a call has 16 more for struct result.
		"plain":           {want: "record_size=0x160 call_size=0x170 words=0x5 strings=0x14 retval=0x1"},
		"void of nothing": {target: 1, want: "target=0x1 record_size=0x38 call_size=0x48"},
		"stack": {
			options: Options{Stack: true},
			target:  1,
			want:    "target=0x1 record_size=0x430 call_size=0x440 stack_at=0x38 call_stack_at=0x48",
		},
		"slots": {
			options: Options{Slots: true},
			target:  1,
			want:    "target=0x1 record_size=0x38 call_size=0x48 slots=0x1",
		},
		"strings are not kept": {
			options: Options{Slots: true},
			want:    "record_size=0x160 call_size=0x170 words=0x5 strings=0x14 retval=0x1",
		},
		// 56 + 24 = 80, and 6*8 words, 2*128 bytes of strings, or 16 of struct result
		// and the words. The key is 24 bytes behind the words.
		"graph": {
			options: Options{Graph: &Graph{Nodes: 6, Early: true, NoIRQs: true, MaxWords: 6, KeyAt: 24}},
			want: "record_size=0x160 call_size=0x170 words=0x5 strings=0x14 retval=0x1 graph=0x1 nodes=0x6 early=0x1 no_irqs=0x1 " +
				"key_at=0x18 max_words=0x6 open_size=0x80 strings_size=0x150 strings_room=0x2 node_size=0x90",
		},
		"all": {
			options: Options{Stack: true, Self: 77, Pids: true, Comm: "ping", Guard: true, Task: Task{Tgid: 2468}},
			want: "record_size=0x558 call_size=0x568 words=0x5 strings=0x14 stack_at=0x160 call_stack_at=0x170 retval=0x1 " +
				"self=0x4d pids=0x1 comm=0x1 comm_lo=0x676e6970 guard=0x1 fork_tgid=0x9a4",
		},
	} {
		t.Run(name, func(t *testing.T) {
			entry, exit := test.options.Constants(test.target, targets(t)[test.target])
			if diff := cmp.Diff([]string{test.want, test.want}, []string{spell(t, entry), spell(t, exit)}); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestGroups(t *testing.T) {
	types := btftest.Types(t,
		btftest.Func("f0", btftest.Int),
		btftest.Func("f1", btftest.Int, "name", btftest.CharP, "n", btftest.Int),
		btftest.Func("f2", nil, "a", btftest.Long, "b", btftest.Long, "c", btftest.Long),
		btftest.Func("f3", nil, "name", btftest.CharP),
		btftest.Func("f4", nil, "n", btftest.Int),
	)
	k := &plan.Kernel{Types: types, Modules: func() ([]plan.Module, error) { return nil, nil }}
	asked, err := spec.ParseTargets([]string{"f*"})
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.Resolve(asked, k)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Stack: true, Exits: true, Slots: true, Kfuncs: Kfuncs{IsReturn: 7, Cookie: 8}}
	groups := o.Groups(p.Targets, []int{0, 1, 2, 3}) // not the last one
	want := []Group{
		{Targets: []int{0, 2}, Shape: event.Shape{Words: 3, Stack: true}},
		{Targets: []int{1, 3}, Shape: event.Shape{Words: 2, Strings: 1, Stack: true}, Strings: 1},
	}
	if diff := cmp.Diff(want, groups); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got := Cookie(3, p.Targets[1]); got != 3|2<<32|1<<40 {
		t.Errorf("cookie %#x", got)
	}
	// In a graph strings are in records of their own.
	graph := Options{Exits: true, Graph: &Graph{Nodes: 6, MaxWords: 6}, Kfuncs: o.Kfuncs}
	p.Targets[4].Root = true
	nodes := graph.Groups(p.Targets, []int{0, 1, 2, 3, 4})
	want = []Group{
		{Targets: []int{0, 2}, Shape: event.Shape{Words: 3}},
		{Targets: []int{1, 3}, Shape: event.Shape{Words: 2, Strings: 1}, Room: 2},
		{Targets: []int{4}, Shape: event.Shape{Words: 1}, Root: true},
	}
	if diff := cmp.Diff(want, nodes); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if c := graph.GroupConstants(nodes[1], arch.AMD64().Regs); c[wire.ConfigStringsRoom] != 2 || c[wire.ConfigStringsSize] != 80+2*128 {
		t.Errorf("room %d, %d bytes", c[wire.ConfigStringsRoom], c[wire.ConfigStringsSize])
	}
	for strings, room := range []int{0, 2, 2, 12} {
		if got := roomFor(strings); got != room {
			t.Errorf("room for %d strings: %d", strings, got)
		}
	}
	c := o.GroupConstants(groups[0], arch.AMD64().Regs)
	const constants = "record_size=0x448 call_size=0x458 words=0x3 stack_at=0x50 call_stack_at=0x60 slots=0x1 session=0x1 regs=0x6 stack_args=0x8"
	if diff := cmp.Diff(constants, spell(t, c)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if c[wire.ConfigRegsArg] != 112 || c[wire.ConfigRegsArg+5] != 64 || c[wire.ConfigRegsSp] != 152 || c[wire.ConfigRegsRetval] != 80 {
		t.Errorf("registers %v", c)
	}
}

// TestComplete looks for what is written into instructions: loads of registers,
// and the calls of kfuncs.
func TestComplete(t *testing.T) {
	for name, test := range map[string]struct {
		kfuncs Kfuncs
		exits  bool
		calls  map[int64]bool
		err    error
	}{
		"session":        {Kfuncs{IsReturn: 7, Cookie: 8}, true, map[int64]bool{7: true, 8: true}, nil},
		"entries alone":  {Kfuncs{}, false, map[int64]bool{}, nil},
		"no such kernel": {Kfuncs{}, true, nil, ErrNoSessions},
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{Exits: test.exits, Kfuncs: test.kfuncs}
			for _, a := range []arch.Arch{arch.AMD64(), arch.ARM64()} {
				g := Group{Shape: event.Shape{Words: 9}}
				insns, err := Program(object(t).Programs[bpf.ProgProbe].Instructions, o.GroupConstants(g, a.Regs), Expressions{})
				if !errors.Is(err, test.err) {
					t.Fatalf("%s: %v, want %v", a.Name, err, test.err)
				}
				if err != nil {
					continue
				}
				calls := map[int64]bool{}
				for i, ins := range insns {
					if ins.IsKfuncCall() {
						calls[ins.Constant] = true
					}
					if ins.OpCode.Class() == asm.LdXClass && ins.Offset >= wordSize*wire.ConfigRegsArg {
						t.Errorf("%s: instruction %d: %v", a.Name, i, ins)
					}
				}
				if diff := cmp.Diff(test.calls, calls); diff != "" {
					t.Errorf("%s: (-want +got)\n%s", a.Name, diff)
				}
			}
		})
	}
}

func TestCommWords(t *testing.T) {
	for comm, want := range map[string][2]uint64{
		"":                 {0, 0},
		"a":                {0x61, 0},
		"12345678":         {0x3837363534333231, 0},
		"123456789":        {0x3837363534333231, 0x39},
		"fifteen_bytes_x":  {0x5f6e656574666966, 0x785f7365747962},
		"sixteen_bytes_xy": {0x5f6e656574786973, 0x785f7365747962}, // the kernel cuts names too
		"ü":                {0xbcc3, 0},
	} {
		if lo, hi := commWords(comm); [2]uint64{lo, hi} != want {
			t.Errorf("%q: %#x %#x, want %#x", comm, lo, hi, want)
		}
	}
}

// marks counts the constants of a program that have no value yet.
func marks(insns asm.Instructions) int {
	n := 0
	for _, ins := range insns {
		if isMark(&ins) && uint32(ins.Constant) < wire.ConfigCondition {
			n++
		}
	}
	return n
}

func TestProgram(t *testing.T) {
	for _, target := range targets(t) {
		entry, exit := Options{Stack: true, Comm: "ping", Self: 1}.Constants(0, target)
		for name, constants := range map[string]Constants{
			bpf.ProgEntry: entry,
			bpf.ProgExit:  exit,
			bpf.ProgFork:  {wire.ConfigSelf: 1, wire.ConfigForkTgid: 2},
		} {
			template := object(t).Programs[name].Instructions
			if marks(template) == 0 {
				t.Errorf("%s has no constants", name)
			}
			before := fmt.Sprint(template)
			insns, err := Program(template, constants, Expressions{})
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if n := marks(insns); n != 0 {
				t.Errorf("%s: %d constants are left", name, n)
			}
			if fmt.Sprint(template) != before {
				t.Errorf("%s: the template was changed", name)
			}
			if name != bpf.ProgFork && len(insns) >= len(template) {
				t.Errorf("%s: %d instructions of %d: nothing was ruled out", name, len(insns), len(template))
			}
		}
	}
}

// TestProgramValues follows the constants into the program.
func TestProgramValues(t *testing.T) {
	template := object(t).Programs[bpf.ProgEntry].Instructions
	constants := make(Constants)
	for id := range configNames {
		constants[uint32(id)] = 0xabc00 + uint64(id)
	}
	insns, err := fill(template, constants)
	if err != nil {
		t.Fatal(err)
	}
	changed := 0
	for i := range template {
		if template[i].Constant == insns[i].Constant {
			continue
		}
		changed++
		if id := uint64(template[i].Constant) - wire.ConfigMark; uint64(insns[i].Constant) != 0xabc00+id {
			t.Errorf("instruction %d: %#x instead of constant %d", i, insns[i].Constant, id)
		}
	}
	if changed != marks(template) {
		t.Errorf("%d instructions changed, %d marked", changed, marks(template))
	}
}

func TestUnknownConstant(t *testing.T) {
	mark := func(id int64) asm.Instructions {
		return asm.Instructions{asm.LoadImm(asm.R1, wire.ConfigMark+id, asm.DWord), asm.Return()}
	}
	for name, test := range map[string]struct {
		insns asm.Instructions
		want  string
	}{
		"known":       {mark(3), ""},
		"not given":   {mark(4), "build program: instruction 0: constant 4 has no value"},
		"no constant": {asm.Instructions{asm.LoadImm(asm.R1, 4, asm.DWord), asm.Mov.Imm(asm.R0, 0)}, ""},
	} {
		got := ""
		if _, err := fill(test.insns, Constants{3: 0}); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s: %q instead of %q", name, got, test.want)
		}
	}
}

// TestObject looks at what the committed object refers to: maps that the loader
// makes, constants that the wire has, helpers that are on the deny list where
// they are functions.
func TestObject(t *testing.T) {
	s := object(t)
	maps := []string{bpf.MapFollowed, bpf.MapEvents, bpf.MapCounts, bpf.MapPids, bpf.MapCgroups, bpf.MapLost, bpf.MapAlone, bpf.MapTrees, bpf.MapControl}
	programs := []string{
		bpf.ProgEntry, bpf.ProgExit, bpf.ProgSession, bpf.ProgProbe, bpf.ProgFork, bpf.ProgFree, bpf.ProgSeen, bpf.ProgKprobe, bpf.ProgKretprobe, bpf.ProgWhoami, bpf.ProgPeek,
		bpf.ProgFreedSKB, bpf.ProgNewSKB, bpf.FuncPacketBytes,
	}
	for _, name := range programs {
		prog, ok := s.Programs[name]
		if !ok {
			t.Errorf("no program %s", name)
			continue
		}
		for i, ins := range prog.Instructions {
			if ins.IsLoadFromMap() && !slices.Contains(maps, ins.Reference()) {
				t.Errorf("%s: instruction %d: map %q", name, i, ins.Reference())
			}
			if ins.IsFunctionReference() || ins.IsKfuncCall() {
				t.Errorf("%s: instruction %d calls %q", name, i, ins.Reference())
			}
			if marks(asm.Instructions{ins}) == 1 && int(uint32(ins.Constant)) >= len(configNames) {
				t.Errorf("%s: instruction %d: constant %d", name, i, uint32(ins.Constant))
			}
			if ins.IsBuiltinCall() && !isKfunc(ins.Constant) && helperFunc(asm.BuiltinFunc(ins.Constant)) == "" {
				t.Errorf("%s: instruction %d calls %s", name, i, asm.BuiltinFunc(ins.Constant))
			}
		}
	}
	if len(s.Programs) != len(programs) {
		t.Errorf("%d programs", len(s.Programs))
	}
}

// helperFunc returns the function behind a helper that the programs may call; ""
// for others. Each is on the deny list, or is made up of instructions.
func helperFunc(f asm.BuiltinFunc) string {
	switch f {
	case asm.FnMapLookupElem, asm.FnMapUpdateElem, asm.FnMapDeleteElem:
		return "map operations: see the deny list's htab_* and percpu_*"
	case asm.FnKtimeGetNs, asm.FnGetSmpProcessorId, asm.FnGetCurrentPidTgid, asm.FnGetCurrentComm, asm.FnGetCurrentTask,
		asm.FnGetStack, asm.FnProbeReadKernel, asm.FnProbeReadKernelStr, asm.FnProbeReadUserStr,
		asm.FnRingbufReserve, asm.FnRingbufSubmit, asm.FnGetAttachCookie, asm.FnGetFuncRet, asm.FnGetCurrentTaskBtf:
		return strings.TrimPrefix(f.String(), "Fn")
	case asm.FnCurrentTaskUnderCgroup:
		return "called only with --filter-cgroup: then calls of it by ourselves are missed, and counted"
	}
	return ""
}

// TestHelpersDenied holds the deny list against the helpers.
func TestHelpersDenied(t *testing.T) {
	denied := plan.DenyList()
	for _, name := range []string{
		"bpf_ktime_get_ns", "bpf_get_smp_processor_id", "bpf_get_current_pid_tgid", "bpf_get_current_comm", "bpf_get_current_task",
		"bpf_get_stack", "bpf_probe_read_kernel", "bpf_probe_read_kernel_str", "bpf_probe_read_user_str",
		"bpf_ringbuf_reserve", "bpf_ringbuf_submit", "htab_map_update_elem", "htab_map_delete_elem",
		"bpf_get_current_task_btf", "bpf_get_attach_cookie_kprobe_multi", "bpf_get_attach_cookie_tracing", "bpf_session_is_return", "bpf_session_cookie",
	} {
		if denied[name] == "" {
			t.Errorf("%s can be traced, and is called by every program", name)
		}
	}
}

func TestMaps(t *testing.T) {
	for name, test := range map[string]struct {
		options Options
		targets int
		want    map[string]uint32 // entries
	}{
		"entries alone": {
			Options{BufferSize: 1 << 23}, 1,
			map[string]uint32{bpf.MapEvents: 1 << 23, bpf.MapCounts: 1, bpf.MapPids: 1, bpf.MapCgroups: 1, bpf.MapLost: 1, bpf.MapAlone: 1, bpf.MapControl: 1},
		},
		"all": {
			Options{BufferSize: 4096, Exits: true, Pids: true}, 120,
			map[string]uint32{bpf.MapEvents: 4096, bpf.MapCounts: 120, bpf.MapPids: 32768, bpf.MapCgroups: 1, bpf.MapLost: 16384, bpf.MapAlone: 1, bpf.MapControl: 1},
		},
		"graph": {
			Options{BufferSize: 4096, Exits: true, Graph: &Graph{Nodes: 6}}, 3,
			map[string]uint32{
				bpf.MapEvents: 4096, bpf.MapCounts: 3, bpf.MapPids: 1, bpf.MapCgroups: 1, bpf.MapLost: 16384, bpf.MapAlone: 1, bpf.MapControl: 1, bpf.MapTrees: 1024,
			},
		},
		"filter": {
			Options{BufferSize: 4096, Exits: true, Filter: true}, 1,
			map[string]uint32{
				bpf.MapEvents: 4096, bpf.MapCounts: 1, bpf.MapPids: 1, bpf.MapCgroups: 1, bpf.MapLost: 16384, bpf.MapAlone: 16384, bpf.MapControl: 1,
			},
		},
		"filter of entries alone": {
			Options{BufferSize: 4096, Filter: true}, 1,
			map[string]uint32{bpf.MapEvents: 4096, bpf.MapCounts: 1, bpf.MapPids: 1, bpf.MapCgroups: 1, bpf.MapLost: 1, bpf.MapAlone: 1, bpf.MapControl: 1},
		},
		"no targets": {
			Options{BufferSize: 4096}, 0,
			map[string]uint32{bpf.MapEvents: 4096, bpf.MapCounts: 1, bpf.MapPids: 1, bpf.MapCgroups: 1, bpf.MapLost: 1, bpf.MapAlone: 1, bpf.MapControl: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := object(t)
			maps, err := test.options.Maps(s, test.targets)
			if err != nil {
				t.Fatal(err)
			}
			got := make(map[string]uint32)
			for name, m := range maps {
				got[name] = m.MaxEntries
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if m := maps[bpf.MapControl]; m.Flags&mmapable == 0 || m.Contents != nil {
				t.Errorf("control word: flags %#x, %d contents", m.Flags, len(m.Contents))
			}
			if v := maps[bpf.MapCounts].ValueSize; v != wire.CountersSize {
				t.Errorf("counters of %d bytes", v)
			}
			if trees, ok := maps[bpf.MapTrees]; ok && trees.ValueSize != wire.TreeSize-58*wire.NodeSize {
				t.Errorf("trees of %d bytes", trees.ValueSize)
			}
			if s.Maps[bpf.MapEvents] == maps[bpf.MapEvents] {
				t.Error("the object's maps are changed")
			}
		})
	}
	s := object(t)
	delete(s.Maps, bpf.MapLost)
	if _, err := (Options{}).Maps(s, 1); err == nil || err.Error() != "build maps: the object has no map lost_frames" {
		t.Error(err)
	}
}

// TestNoTrees checks that what only graphs need is no part of other programs: there
// is no map of trees then.
func TestNoTrees(t *testing.T) {
	s := object(t)
	o := Options{Exits: true, Slots: true, Kfuncs: Kfuncs{IsReturn: 7, Cookie: 8}}
	all := targets(t)
	group := o.GroupConstants(o.Groups(all, []int{0, 1})[0], arch.AMD64().Regs)
	entry, exit := o.Constants(0, all[0])
	for name, constants := range map[string]Constants{
		bpf.ProgEntry: entry, bpf.ProgExit: exit, bpf.ProgSession: group, bpf.ProgProbe: group,
	} {
		insns, err := Program(s.Programs[name].Instructions, constants, Expressions{})
		if err != nil {
			t.Fatal(err)
		}
		for i, ins := range insns {
			if ins.Reference() == bpf.MapTrees {
				t.Errorf("%s: instruction %d has a tree", name, i)
			}
		}
	}
}
