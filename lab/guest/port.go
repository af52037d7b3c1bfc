package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"fgtrace/lab/internal/frame"
)

// portWait is how long the port may take to appear: the driver asks the host
// about its ports in the background.
const portWait = 10 * time.Second

// portDriver is there when the kernel has the driver.
const portDriver = "/sys/bus/virtio/drivers/virtio_console"

// openPort opens the virtio port with this name. It returns nil if there is
// none to expect: the host named none, or the kernel has no driver for it.
func openPort(name string) (*os.File, error) {
	if name == "" {
		return nil, nil
	}
	// The driver is a module in kernels to 6.1.
	modules, err := filepath.Glob(frame.PortModules + "/*.ko")
	if err != nil {
		return nil, fmt.Errorf("find modules of virtio port: %w", err)
	}
	for _, path := range modules {
		if err := loadModule(path); err != nil {
			return nil, err
		}
	}
	if _, err := os.Stat(portDriver); err != nil {
		return nil, nil
	}
	for deadline := time.Now().Add(portWait); ; time.Sleep(10 * time.Millisecond) {
		names, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
		for _, path := range names {
			data, err := os.ReadFile(path)
			if err != nil || strings.TrimSpace(string(data)) != name {
				continue
			}
			f, err := os.OpenFile(filepath.Join("/dev", filepath.Base(filepath.Dir(path))), os.O_WRONLY, 0)
			if err != nil {
				return nil, fmt.Errorf("open virtio port: %w", err)
			}
			return f, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("find virtio port %s: none appeared in %v", name, portWait)
		}
	}
}
