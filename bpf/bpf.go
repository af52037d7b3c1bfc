// Package bpf holds the BPF programs: their C sources, the object built from
// them, and in package wire the Go side of what they send.
package bpf

import (
	"bytes"
	_ "embed"
	"fmt"

	"github.com/cilium/ebpf"
)

//go:generate go run ./gen

//go:embed trace.bpf.o
var object []byte

// Names of the programs, functions and maps in the object.
const (
	ProgEntry   = "on_entry"
	ProgExit    = "on_exit"
	ProgSession = "on_session"
	ProgProbe   = "on_probe"
	ProgFork    = "on_fork"
	ProgFree    = "on_free"
	ProgSeen    = "on_seen"

	ProgFreedSKB = "on_freed_skb"
	ProgNewSKB   = "on_new_skb"

	ProgKprobe    = "on_kprobe"
	ProgKretprobe = "on_kretprobe"
	ProgWhoami    = "whoami"
	ProgPeek      = "peek"

	// FuncPacketBytes is no program, but a function of those that have packet filters.
	FuncPacketBytes = "packet_bytes"

	MapEvents   = "events"
	MapCounts   = "counts"
	MapPids     = "pids"
	MapCgroups  = "cgroups"
	MapLost     = "lost_frames"
	MapAlone    = "alone"
	MapTrees    = "trees"
	MapFollowed = "followed"
	MapControl  = ".bss"
)

// Spec parses the object. The programs hold unset constants (wire.ConfigMark)
// and can't be loaded as they are.
func Spec() (*ebpf.CollectionSpec, error) {
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		return nil, fmt.Errorf("read BPF object: %w", err)
	}
	return spec, nil
}
