package tracer

import (
	"errors"
	"fmt"

	"fgtrace/btfx"
	"fgtrace/btfx/expr"
	"fgtrace/internal/kallsyms"
	"fgtrace/tracer/plan"
)

// Variables finds the kernel's global variables, for expressions. Its method must not
// run at the same time as itself.
type Variables struct {
	kernel *plan.Kernel
	found  map[string]foundVariable
}

type foundVariable struct {
	variable expr.Variable
	ok       bool
	err      error
}

// NewVariables looks for nothing yet.
func NewVariables(k *plan.Kernel) *Variables {
	return &Variables{kernel: k, found: make(map[string]foundVariable)}
}

// perCPUSection is where BTF has per-CPU variables; it has hardly any others.
const perCPUSection = ".data..percpu"

// knownVariables are types of variables as include/linux declares them.
var knownVariables = map[string]struct {
	kind btfx.Kind
	name string
}{
	"init_net":     {btfx.KindStruct, "net"},
	"init_task":    {btfx.KindStruct, "task_struct"},
	"jiffies":      {btfx.KindInt, "long unsigned int"},
	"jiffies_64":   {btfx.KindTypedef, "u64"},
	"nr_cpu_ids":   {btfx.KindInt, "unsigned int"},
	"system_state": {btfx.KindEnum, "system_states"},
}

// Find is expr.Scope's Variable. It reads all symbols for each new name.
func (v *Variables) Find(name string) (expr.Variable, bool, error) {
	f, ok := v.found[name]
	if !ok {
		f.variable, f.ok, f.err = v.find(name)
		v.found[name] = f
	}
	return f.variable, f.ok, f.err
}

func (v *Variables) find(name string) (found expr.Variable, ok bool, err error) {
	r, err := kallsyms.Open()
	if err != nil {
		return found, false, err
	}
	defer r.Close()
	symbols, err := kallsyms.Lookup(r, []string{name, symPerCPUOffset})
	if err != nil {
		return found, false, err
	}
	// The type of a symbol does not tell: some kernels have variables as text.
	types := v.kernel.Types
	entries := symbols[name]
	if _, isFunc := types.FindFunc(name); isFunc || len(entries) == 0 {
		return found, false, nil
	}
	if len(entries) > 1 {
		return found, false, fmt.Errorf("there are %d variables called %s", len(entries), name)
	}
	found.Addr = entries[0].Addr
	if known, ok := knownVariables[name]; ok {
		found.Type, _ = types.FindType(known.kind, known.name)
	}
	isPerCPU := found.Addr != 0 && found.Addr>>63 == 0 // an offset
	if variable, ok := types.FindVar(name); ok {
		found.Type = variable.Type
		isPerCPU = variable.Section == perCPUSection
	}
	if isPerCPU {
		// Its symbol is that of the first copy, or before Linux 6.15 an offset: both go with
		// what __per_cpu_offset has.
		if at := symbols[symPerCPUOffset]; len(at) == 1 {
			found.PerCPU = at[0].Addr
		}
		if found.PerCPU == 0 {
			return found, false, errHiddenVariables
		}
		return found, true, nil
	}
	if found.Addr == 0 {
		return found, false, errHiddenVariables
	}
	return found, true, nil
}

var errHiddenVariables = errors.New("/proc/kallsyms hides where variables are: CAP_SYSLOG is needed, or kernel.kptr_restrict=0")
