package lab

import (
	"fmt"
	"strings"
)

// machine is what differs between the architectures of guests. An architecture
// is a value: all of them work on every host.
type machine struct {
	name    string // as Go and Debian name it
	qemu    string // program
	pkg     string // the Debian package of qemu
	machine []string
	console string   // the kernel's name of the first serial line
	cpus    string   // -cpu
	params  []string // of the kernel
}

func machines() []machine {
	return []machine{
		{
			name: "amd64", qemu: "qemu-system-x86_64", pkg: "qemu-system-x86",
			console: "ttyS0", cpus: "max",
			// There is neither a keyboard nor a mouse, and waiting for
			// them takes time; nor need the clock be measured.
			params: []string{"i8042.noaux", "i8042.nokbd", "tsc=reliable"},
		},
		{
			name: "arm64", qemu: "qemu-system-aarch64", pkg: "qemu-system-arm",
			machine: []string{"-machine", "virt,gic-version=3"},
			// The architected algorithm of pointer authentication
			// costs more to emulate than all the rest.
			console: "ttyAMA0", cpus: "max,pauth-impdef=on",
		},
	}
}

// Arches are the architectures that guests can have.
func Arches() []string {
	var names []string
	for _, m := range machines() {
		names = append(names, m.name)
	}
	return names
}

func machineFor(arch string) (machine, error) {
	for _, m := range machines() {
		if m.name == arch {
			return m, nil
		}
	}
	return machine{}, fmt.Errorf("find machine for architecture %q: there are %s", arch, strings.Join(Arches(), ", "))
}
