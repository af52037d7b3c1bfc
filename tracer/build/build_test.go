package build

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/google/go-cmp/cmp"

	"fgtrace/bpf"
	"fgtrace/bpf/wire"
	"fgtrace/internal/btftest"
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
	"target", "record_size", "words", "strings", "stack_at", "slots", "copy_ctx", "retval", "self", "pids", "comm",
	"comm_lo", "comm_hi", "guard", "task_tgid",
}

// spell gives the constants that aren't zero, as "words=5 strings=0x14".
func spell(t *testing.T, c Constants) string {
	t.Helper()
	if len(c) != len(configNames) {
		t.Errorf("%d constants of %d", len(c), len(configNames))
	}
	var parts []string
	for id, name := range configNames {
		if value := c[uint32(id)]; value != 0 {
			parts = append(parts, fmt.Sprintf("%s=%#x", name, value))
		}
	}
	return strings.Join(parts, " ")
}

func TestConstants(t *testing.T) {
	for name, test := range map[string]struct {
		options     Options
		target      int
		entry, exit string
	}{
		"plain": {
			entry: "record_size=0x160 words=0x5 strings=0x14 retval=0x1", // 56 + 5*8 + 2*128 = 352
			exit:  "record_size=0x170 words=0x5 strings=0x14 retval=0x1", // 16 more: struct result
		},
		"void of nothing": {target: 1, entry: "target=0x1 record_size=0x38", exit: "target=0x1 record_size=0x48"},
		"slots": {
			options: Options{Slots: true},
			target:  1,
			entry:   "target=0x1 record_size=0x38 slots=0x1",
			exit:    "target=0x1 record_size=0x48 slots=0x1",
		},
		"strings are not kept": {
			options: Options{Slots: true},
			entry:   "record_size=0x160 words=0x5 strings=0x14 retval=0x1",
			exit:    "record_size=0x170 words=0x5 strings=0x14 retval=0x1",
		},
		"stack": {
			options: Options{Stack: true},
			target:  1,
			entry:   "target=0x1 record_size=0x430 stack_at=0x38",
			exit:    "target=0x1 record_size=0x440 stack_at=0x48",
		},
		"all": {
			options: Options{Stack: true, Self: 77, Pids: true, Comm: "ping", Guard: true, TaskTgid: 2468},
			entry: "record_size=0x558 words=0x5 strings=0x14 stack_at=0x160 retval=0x1 self=0x4d pids=0x1 comm=0x1 " +
				"comm_lo=0x676e6970 guard=0x1 task_tgid=0x9a4",
			exit: "record_size=0x568 words=0x5 strings=0x14 stack_at=0x170 retval=0x1 self=0x4d pids=0x1 comm=0x1 " +
				"comm_lo=0x676e6970 guard=0x1 task_tgid=0x9a4",
		},
	} {
		t.Run(name, func(t *testing.T) {
			entry, exit := test.options.Constants(test.target, targets(t)[test.target])
			if diff := cmp.Diff([]string{test.entry, test.exit}, []string{spell(t, entry), spell(t, exit)}); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
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
		if ins.OpCode.IsDWordLoad() && uint64(ins.Constant)>>32 == wire.ConfigMark>>32 {
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
			bpf.ProgFork:  {wire.ConfigSelf: 1, wire.ConfigTaskTgid: 2},
		} {
			template := object(t).Programs[name].Instructions
			if marks(template) == 0 {
				t.Errorf("%s has no constants", name)
			}
			before := fmt.Sprint(template)
			insns, err := Program(template, constants)
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
	maps := []string{bpf.MapEvents, bpf.MapCounts, bpf.MapPids, bpf.MapLost, bpf.MapControl}
	for _, name := range []string{bpf.ProgEntry, bpf.ProgExit, bpf.ProgFork, bpf.ProgWhoami} {
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
			if marks(asm.Instructions{ins}) == 1 && uint32(ins.Constant) > wire.ConfigTaskTgid {
				t.Errorf("%s: instruction %d: constant %d", name, i, uint32(ins.Constant))
			}
			if ins.IsBuiltinCall() && helperFunc(asm.BuiltinFunc(ins.Constant)) == "" {
				t.Errorf("%s: instruction %d calls %s", name, i, asm.BuiltinFunc(ins.Constant))
			}
		}
	}
	if len(s.Programs) != 4 {
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
		asm.FnRingbufReserve, asm.FnRingbufSubmit:
		return strings.TrimPrefix(f.String(), "Fn")
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
			map[string]uint32{bpf.MapEvents: 1 << 23, bpf.MapCounts: 1, bpf.MapPids: 1, bpf.MapLost: 1, bpf.MapControl: 1},
		},
		"all": {
			Options{BufferSize: 4096, Exits: true, Pids: true}, 120,
			map[string]uint32{bpf.MapEvents: 4096, bpf.MapCounts: 120, bpf.MapPids: 32768, bpf.MapLost: 16384, bpf.MapControl: 1},
		},
		"no targets": {
			Options{BufferSize: 4096}, 0,
			map[string]uint32{bpf.MapEvents: 4096, bpf.MapCounts: 1, bpf.MapPids: 1, bpf.MapLost: 1, bpf.MapControl: 1},
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
