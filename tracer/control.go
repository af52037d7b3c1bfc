package tracer

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"fgtrace/bpf/wire"
)

// Where the words of struct control are.
const (
	controlGate          = unsafe.Offsetof(wire.Control{}.Gate)
	controlPercpuBase    = unsafe.Offsetof(wire.Control{}.PercpuBase)
	controlPreemptCount  = unsafe.Offsetof(wire.Control{}.PreemptCount)
	controlInterruptMask = unsafe.Offsetof(wire.Control{}.InterruptMask)
	controlSoftirqMask   = unsafe.Offsetof(wire.Control{}.SoftirqMask)
	controlHardirqMask   = unsafe.Offsetof(wire.Control{}.HardirqMask)
	controlNMIMask       = unsafe.Offsetof(wire.Control{}.NmiMask)
	controlPages         = unsafe.Offsetof(wire.Control{}.Pages)
	controlPageBase      = unsafe.Offsetof(wire.Control{}.PageBase)
	controlLostOpens     = unsafe.Offsetof(wire.Control{}.LostOpens)
	controlArmFork       = unsafe.Offsetof(wire.Control{}.ArmFork)
	controlLostPids      = unsafe.Offsetof(wire.Control{}.LostPids)
	controlFollowing     = unsafe.Offsetof(wire.Control{}.Following)
	controlFollowed      = unsafe.Offsetof(wire.Control{}.Followed)
	controlUnfollowed    = unsafe.Offsetof(wire.Control{}.Unfollowed)
)

func (s *Session) setControl(offset uintptr, value uint64) error {
	var word [8]byte
	binary.LittleEndian.PutUint64(word[:], value)
	if _, err := s.control.WriteAt(word[:], s.bases.control+int64(offset)); err != nil {
		return fmt.Errorf("write control word: %w", err)
	}
	return nil
}

func (s *Session) getControl(offset uintptr) (uint64, error) {
	var word [8]byte
	if _, err := s.control.ReadAt(word[:], s.bases.control+int64(offset)); err != nil {
		return 0, fmt.Errorf("read control word: %w", err)
	}
	return binary.LittleEndian.Uint64(word[:]), nil
}
