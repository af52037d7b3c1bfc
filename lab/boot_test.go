package lab

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestArguments(t *testing.T) {
	for name, test := range map[string]struct {
		vm   VM
		want string
	}{
		"amd64": {
			VM{Kernel: Kernel{Arch: "amd64", Image: "K"}, CPUs: 2, MemoryMB: 512},
			"-cpu max -accel tcg,thread=multi -smp 2 -m 512 -nodefaults -no-user-config -nic none -display none -monitor none -no-reboot" +
				" -chardev stdio,id=console,signal=off -serial chardev:console -add-fd fd=3,set=1 -device virtio-serial-pci" +
				" -chardev file,id=port,path=/dev/fdset/1,append=on -device virtserialport,chardev=port,name=lab -kernel K -initrd I" +
				" -append console=ttyS0 quiet panic=-1 oops=panic fgtrace_guest=T i8042.noaux i8042.nokbd tsc=reliable fgtrace_port=lab",
		},
		"arm64, counted": {
			VM{Kernel: Kernel{Arch: "arm64", Image: "K"}, CPUs: 1, MemoryMB: 512, ICount: true, Append: "nokaslr"},
			"-machine virt,gic-version=3 -cpu max,pauth-impdef=on -accel tcg,thread=single -icount shift=0,sleep=off -seed 1 -rtc base=2030-01-01T00:00:00,clock=vm -smp 1 -m 512" +
				" -nodefaults -no-user-config -nic none -display none -monitor none -no-reboot" +
				" -chardev stdio,id=console,signal=off -serial chardev:console -kernel K -initrd I" +
				" -append console=ttyAMA0 quiet panic=-1 oops=panic fgtrace_guest=T nokaslr",
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := machineFor(test.vm.Kernel.Arch)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, strings.Join(test.vm.arguments(m, "I", "T"), " ")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if _, err := machineFor("s390x"); err == nil {
		t.Error("no error for an architecture that there is not")
	}
}
