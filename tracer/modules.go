package tracer

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// moduleBTF holds the BTF objects of the modules that programs are loaded for.
// The zero value is ready.
type moduleBTF struct{ handles map[string]*btf.Handle }

// fd returns a descriptor of a module's BTF, which stays open until close.
func (m *moduleBTF) fd(module string) (int, error) {
	if h, ok := m.handles[module]; ok {
		return h.FD(), nil
	}
	h, err := btf.FindHandle(func(info *btf.HandleInfo) bool { return info.IsKernel && info.Name == module })
	if errors.Is(err, unix.EPERM) {
		return 0, fmt.Errorf("find BTF of module %s: %w (needs CAP_SYS_ADMIN)", module, err)
	}
	if err != nil {
		return 0, fmt.Errorf("find BTF of module %s: %w", module, err)
	}
	if m.handles == nil {
		m.handles = make(map[string]*btf.Handle)
	}
	m.handles[module] = h
	return h.FD(), nil
}

func (m *moduleBTF) close() {
	for _, h := range m.handles {
		h.Close()
	}
}
