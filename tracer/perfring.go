package tracer

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"fgtrace/internal/perfdata"
)

// perfRing is a perf event of one CPU with its ring buffer.
type perfRing struct {
	fd   int
	cpu  int
	mem  []byte // a page for struct perf_event_mmap_page, then the data
	ring perfdata.Ring
}

// errMapPerf tells that an event is there, but its ring can't be had.
var errMapPerf = errors.New("map perf event")

// openPerfRing opens an event on a CPU for all tasks, with so many pages of data,
// a power of two. It sets the attribute's size.
func openPerfRing(attr *unix.PerfEventAttr, cpu, pages int) (*perfRing, error) {
	attr.Size = uint32(unsafe.Sizeof(*attr))
	fd, err := unix.PerfEventOpen(attr, -1, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open perf event: %w", err)
	}
	r := &perfRing{fd: fd, cpu: cpu}
	if err := r.mapData(pages); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return r, nil
}

func (r *perfRing) mapData(pages int) error {
	page := unix.Getpagesize()
	mem, err := unix.Mmap(r.fd, 0, (1+pages)*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("%w: %w", errMapPerf, err)
	}
	r.mem, r.ring.Data = mem, mem[page:]
	return nil
}

// drain calls fn for each record with its type and what follows its header, which
// is valid during the call.
func (r *perfRing) drain(fn func(kind uint32, body []byte)) {
	meta := (*unix.PerfEventMmapPage)(unsafe.Pointer(&r.mem[0]))
	// Room is given back in steps, so that a busy kernel gets it before the end.
	const step = 1 << 18 // bytes
	head := atomic.LoadUint64(&meta.Data_head)
	for tail := meta.Data_tail; tail != head; {
		next := r.ring.WalkSome(tail, head, step, fn)
		if next == tail {
			next = head // these are no records: go on behind them
		}
		atomic.StoreUint64(&meta.Data_tail, next)
		tail = next
	}
}

// do makes a call of PERF_EVENT_IOC_ENABLE's kind.
func (r *perfRing) do(request uint, arg int, what string) error {
	if err := unix.IoctlSetInt(r.fd, request, arg); err != nil {
		return fmt.Errorf("%s perf event of CPU %d: %w", what, r.cpu, err)
	}
	return nil
}

// setPeriod says at which events there are samples: all, or each of some.
func (r *perfRing) setPeriod(period uint64) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(r.fd), unix.PERF_EVENT_IOC_PERIOD, uintptr(unsafe.Pointer(&period))); errno != 0 {
		return fmt.Errorf("set period of perf event of CPU %d: %w", r.cpu, errno)
	}
	return nil
}

func (r *perfRing) close() {
	if r.mem != nil {
		unix.Munmap(r.mem)
	}
	unix.Close(r.fd)
}
