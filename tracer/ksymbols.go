package tracer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"fgtrace/internal/kallsyms"
	"fgtrace/internal/perfdata"
	"fgtrace/tracer/stack"
)

// watched names generated code by what the kernel tells of it as it comes and
// goes (PERF_RECORD_KSYMBOL: perf_event_ksymbol in kernel/events/core.c, Linux
// 5.1). So code is named that is gone before anybody could have read
// /proc/kallsyms: every attach to a function gives its trampoline a new place.
type watched struct {
	rings   []*perfRing
	images  []image // in the order in which they came
	changes uint64  // of images
	lost    bool    // the kernel could not tell of some
}

// image is one piece of code. It keeps its name after it is gone, until its
// place is used again: stacks are read a little later than they were taken.
type image struct {
	addr, size uint64
	name       string
	gone       bool
}

// watchGenerated begins to watch. It must be done before the programs are
// loaded whose names matter.
func watchGenerated() (*watched, error) {
	cpus, err := onlineCPUs()
	if err != nil {
		return nil, err
	}
	g := &watched{}
	for _, cpu := range cpus {
		r, err := openKsymbols(cpu)
		if err != nil {
			g.close()
			return nil, fmt.Errorf("watch generated code on CPU %d: %w", cpu, err)
		}
		g.rings = append(g.rings, r)
	}
	return g, nil
}

// symbol names an address, or finds nothing.
func (g *watched) symbol(addr uint64) (stack.Symbol, bool) {
	g.update()
	// A trampoline is told of as a whole page, which it may share with programs
	// behind it: the nearest start counts. Of images at one place it is the
	// youngest, which has taken the place of the others.
	var nearest *image
	for i := len(g.images) - 1; i >= 0; i-- {
		if m := &g.images[i]; addr-m.addr < m.size && (nearest == nil || m.better(nearest)) {
			nearest = m
		}
	}
	if nearest == nil {
		return stack.Symbol{}, false
	}
	return stack.Symbol{Func: nearest.name, Module: kallsyms.ModuleBPF, Offset: addr - nearest.addr}, true
}

// better tells which of two images that cover an address it belongs to: one that
// is there goes before one that is gone.
func (m *image) better(other *image) bool {
	if m.gone != other.gone {
		return other.gone
	}
	return m.addr > other.addr
}

// maxImages bounds the images that are remembered, gone ones included.
const maxImages = 1 << 14

// update takes what the kernel has told meanwhile.
func (g *watched) update() {
	for _, r := range g.rings {
		r.drain(func(kind uint32, body []byte) {
			switch kind {
			case perfdata.RecordKsymbol:
				if m, ok := parseKsymbol(body); ok {
					g.take(m)
				}
			case perfdata.RecordLost:
				g.lost = true
			}
		})
	}
	if len(g.images) > maxImages {
		g.images = append(g.images[:0], g.images[len(g.images)-maxImages/2:]...)
	}
}

// take notes an image that came, or went.
func (g *watched) take(m image) {
	g.changes++
	if !m.gone {
		g.images = append(g.images, m)
		return
	}
	for i := range g.images {
		if have := &g.images[i]; have.addr == m.addr && have.name == m.name {
			have.gone = true
		}
	}
}

// parseKsymbol parses the body of a PERF_RECORD_KSYMBOL (include/uapi/linux/
// perf_event.h): u64 addr, u32 len, u16 ksym_type, u16 flags, name. It returns
// false for what is no such record.
func parseKsymbol(body []byte) (image, bool) {
	const nameAt = 16
	if len(body) <= nameAt {
		return image{}, false
	}
	return image{
		addr: binary.LittleEndian.Uint64(body),
		size: uint64(binary.LittleEndian.Uint32(body[8:])),
		name: unix.ByteSliceToString(body[nameAt:]),
		gone: binary.LittleEndian.Uint16(body[14:])&unix.PERF_RECORD_KSYMBOL_FLAGS_UNREGISTER != 0,
	}, true
}

func (g *watched) generation() uint64 { return g.changes }

func (g *watched) cut() bool { return g.lost }

func (g *watched) close() {
	for _, r := range g.rings {
		r.close()
	}
}

const ksymbolPages = 8 // a power of two: some hundred records

// ksymbolBit is ksymbol in struct perf_event_attr's bit field.
const ksymbolBit = 1 << 29

func openKsymbols(cpu int) (*perfRing, error) {
	return openPerfRing(&unix.PerfEventAttr{
		Type:   unix.PERF_TYPE_SOFTWARE,
		Config: unix.PERF_COUNT_SW_DUMMY,
		Bits:   ksymbolBit,
	}, cpu, ksymbolPages)
}

// onlineCPUs returns the numbers of the CPUs that run.
func onlineCPUs() ([]int, error) {
	raw, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		return nil, fmt.Errorf("list CPUs: %w", err)
	}
	cpus, err := parseCPUs(strings.TrimSpace(string(raw)))
	if err != nil {
		return nil, fmt.Errorf("list CPUs: %w", err)
	}
	return cpus, nil
}

// parseCPUs parses a list such as "0-3,8".
func parseCPUs(list string) ([]int, error) {
	var cpus []int
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		lo, err := strconv.Atoi(first)
		hi := lo
		if err == nil && isRange {
			hi, err = strconv.Atoi(last)
		}
		if err != nil || hi < lo {
			return nil, errors.Join(fmt.Errorf("parse CPU list %q", list), err)
		}
		for cpu := lo; cpu <= hi; cpu++ {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}
