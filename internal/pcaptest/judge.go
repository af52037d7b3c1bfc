package pcaptest

import (
	"context"
	_ "embed"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"golang.org/x/net/bpf"
)

//go:embed bpf_filter.wasm
var module []byte

// judge runs libpcap's bpf_filter over packets that it has in its memory.
type judge struct {
	ctx      context.Context
	runtime  wazero.Runtime
	instance api.Module

	packets, lengths, results, filter uint32 // addresses
	count                             int
}

// maxFilter is how many bytes there are for a filter's code.
const maxFilter = 1 << 20

func newJudge(ctx context.Context) (*judge, error) {
	runtime := wazero.NewRuntime(ctx)
	instance, err := runtime.InstantiateWithConfig(ctx, module, wazero.NewModuleConfig().WithStartFunctions("_initialize"))
	if err != nil {
		runtime.Close(ctx)
		return nil, fmt.Errorf("start bpf_filter: %w", err)
	}
	j := &judge{ctx: ctx, runtime: runtime, instance: instance}
	if j.filter, err = j.room(maxFilter); err != nil {
		j.close()
		return nil, err
	}
	return j, nil
}

func (j *judge) close() { j.runtime.Close(context.WithoutCancel(j.ctx)) }

func (j *judge) room(bytes int) (uint32, error) {
	res, err := j.instance.ExportedFunction("room").Call(j.ctx, uint64(bytes))
	if err == nil && res[0] == 0 {
		err = fmt.Errorf("no memory for %d bytes", bytes)
	}
	if err != nil {
		return 0, fmt.Errorf("run bpf_filter: %w", err)
	}
	return uint32(res[0]), nil
}

func (j *judge) write(to *uint32, raw []byte) (err error) {
	if *to, err = j.room(len(raw) + 1); err != nil {
		return err
	}
	j.instance.Memory().Write(*to, raw)
	return nil
}

// load gives it packets in place of those that it had.
func (j *judge) load(packets [][]byte) error {
	var all, lengths []byte
	for _, p := range packets {
		all = append(all, p...)
		lengths = binary.LittleEndian.AppendUint32(lengths, uint32(len(p)))
	}
	j.count = len(packets)
	if err := j.write(&j.packets, all); err != nil {
		return err
	}
	if err := j.write(&j.lengths, lengths); err != nil {
		return err
	}
	return j.write(&j.results, make([]byte, 4*j.count))
}

// run returns which of the packets match.
func (j *judge) run(code []bpf.RawInstruction) ([]Verdict, error) {
	var raw []byte
	code, goesBack := unrolled(code)
	for _, ins := range code {
		ins = untagged(ins)
		raw = binary.LittleEndian.AppendUint16(raw, ins.Op)
		raw = append(raw, ins.Jt, ins.Jf)
		raw = binary.LittleEndian.AppendUint32(raw, ins.K)
	}
	if len(raw) > maxFilter {
		return nil, fmt.Errorf("%d instructions", len(code))
	}
	j.instance.Memory().Write(j.filter, raw)
	_, err := j.instance.ExportedFunction("judge").Call(j.ctx, uint64(j.filter), uint64(j.packets), uint64(j.lengths), uint64(j.count), uint64(j.results))
	if err != nil {
		return nil, err
	}
	results, _ := j.instance.Memory().Read(j.results, uint32(4*j.count))
	verdicts := make([]Verdict, j.count)
	for i := range verdicts {
		switch result := binary.LittleEndian.Uint32(results[4*i:]); {
		case result == endless && goesBack:
			verdicts[i] = Endless
		case result != 0:
			verdicts[i] = Yes
		}
	}
	return verdicts, nil
}

// untagged returns what an instruction does where no packet has a VLAN's tag beside it,
// which bpf_filter does not know of.
func untagged(ins bpf.RawInstruction) bpf.RawInstruction {
	if e, ok := ins.Disassemble().(bpf.LoadExtension); ok && (e.Num == bpf.ExtVLANTag || e.Num == bpf.ExtVLANTagPresent) {
		return bpf.RawInstruction{} // load 0
	}
	return ins
}

const (
	// rounds is how often code may go back. What goes back more often does not end:
	// libpcap's protochain stays at an authentication header for ever.
	rounds = 128
	// endless is what it then returns.
	endless = 1<<32 - 1
)

// unrolled returns code that does the same and ends.
func unrolled(code []bpf.RawInstruction) (all []bpf.RawInstruction, goesBack bool) {
	if !GoesBack(code) {
		return code, false
	}
	for round := range rounds {
		for _, ins := range code {
			if isBack(ins) {
				ins.K += uint32(len(code)) // the same place in the next round
				if round == rounds-1 {
					ins = bpf.RawInstruction{Op: opRet, K: endless}
				}
			}
			all = append(all, ins)
		}
	}
	return all, true
}

// GoesBack tells whether code has loops: protochain's has.
func GoesBack(code []bpf.RawInstruction) bool { return slices.ContainsFunc(code, isBack) }

func isBack(ins bpf.RawInstruction) bool { return ins.Op == opJmp && int32(ins.K) < 0 }
