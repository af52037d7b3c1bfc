package matrix

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What tests have the kernel do. Calls come from one thread with a name of its
// own, so that they can be told from those of the rest of the process.

const workerName = "worker"

// onWorker runs a work on a thread that has workerName, and returns its number.
func onWorker(work func()) (tid int) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlock: the thread ends with its name
		tid = unix.Gettid()
		if err := nameThread(workerName); err != nil {
			panic(err)
		}
		work()
	}()
	<-done
	return tid
}

func nameThread(name string) error {
	b, err := unix.BytePtrFromString(name)
	if err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(b)), 0, 0, 0)
}

// echoes sends ICMP echo requests to this machine and waits for each reply. Each
// makes two calls of icmp_rcv, in the context of the sender.
type echoes struct {
	fd  int
	seq uint16
}

const icmpPerEcho = 2

func openEchoes() (*echoes, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		return nil, fmt.Errorf("open ICMP socket: %w", err)
	}
	timeout := unix.NsecToTimeval(int64(10 * time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return nil, fmt.Errorf("open ICMP socket: %w", err)
	}
	return &echoes{fd: fd}, nil
}

func (e *echoes) close() { unix.Close(e.fd) }

// Types of ICMP messages.
const (
	icmpEchoReply = 0
	icmpEcho      = 8
)

func (e *echoes) send(n int) error {
	buf := make([]byte, 128)
	for range n {
		e.seq++
		packet := make([]byte, 8+56)
		packet[0] = icmpEcho
		binary.BigEndian.PutUint16(packet[4:], uint16(os.Getpid()))
		binary.BigEndian.PutUint16(packet[6:], e.seq)
		binary.BigEndian.PutUint16(packet[2:], checksum(packet))
		if err := unix.Sendto(e.fd, packet, 0, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			return fmt.Errorf("send echo request: %w", err)
		}
		for {
			n, _, err := unix.Recvfrom(e.fd, buf, 0)
			if err != nil {
				return fmt.Errorf("wait for echo reply: %w", err)
			}
			if m := buf[:n]; n >= 28 && m[20] == icmpEchoReply && binary.BigEndian.Uint16(m[26:]) == e.seq &&
				binary.BigEndian.Uint16(m[24:]) == uint16(os.Getpid()) {
				break
			}
		}
	}
	return nil
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// echo is a work: so many echo requests.
func echo(t *testing.T, n int) func() {
	return func() {
		t.Helper()
		onWorker(func() {
			e, err := openEchoes()
			if err == nil {
				err = e.send(n)
				e.close()
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// warmUp has done once what takes another way the first time: the neighbour of
// the loopback device is made then.
func warmUp(t *testing.T) {
	t.Helper()
	echo(t, 2)()
}

// setReuse is a work: setsockopt(2) with a value in user space.
func setReuse(t *testing.T, n int) func() {
	return func() {
		onWorker(func() {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer unix.Close(fd)
			for range n {
				if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// napTime is how long a nap is.
const napTime = 50 * time.Millisecond

// nap is a work: clock_nanosleep(2).
func nap(t *testing.T, n int) func() {
	return func() {
		onWorker(func() {
			for range n {
				request := unix.NsecToTimespec(napTime.Nanoseconds())
				if err := unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &request, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// pollNothing is a work: poll(2) until its time is up. Nothing in Go calls it.
func pollNothing(t *testing.T, n int) func() {
	return func() {
		onWorker(func() {
			for range n {
				if _, err := unix.Poll(nil, 10); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// seek is a work: lseek(2) to offset first, then to the n-1 offsets behind it.
// Each returns its argument.
func seek(t *testing.T, first int64, n int) func() {
	return func() {
		onWorker(func() {
			fd, err := unix.Open("/tmp", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
			if err != nil {
				t.Error(err)
				return
			}
			defer unix.Close(fd)
			for i := range int64(n) {
				if got, err := unix.Seek(fd, first+i, 0); err != nil || got != first+i {
					t.Errorf("seek to %d: %d, %v", first+i, got, err)
					return
				}
			}
		})
	}
}

// doWork does what the test binary does as a command of trace: "echo 5".
func doWork(text string) error {
	name, rest, _ := strings.Cut(text, " ")
	n := 0
	if _, err := fmt.Sscan(rest, &n); err != nil {
		return fmt.Errorf("read work %q: %w", text, err)
	}
	switch name {
	case "echo":
		if err := nameThread(workerName); err != nil {
			return err
		}
		e, err := openEchoes()
		if err != nil {
			return err
		}
		return e.send(n)
	}
	return fmt.Errorf("read work %q: there is no such work", text)
}

// pace is how often echoes are sent all the time: the events of more would fill
// the guest's memory.
const pace = 10 * time.Millisecond

// echoing sends echo requests all the time, from the worker.
type echoing struct {
	sent atomic.Int64
	stop chan struct{}
	done chan struct{}
}

func startEchoing(t *testing.T) *echoing {
	e := &echoing{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(e.done)
		onWorker(func() {
			c, err := openEchoes()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.close()
			tick := time.NewTicker(pace)
			defer tick.Stop()
			for {
				select {
				case <-e.stop:
					return
				case <-tick.C:
				}
				if err := c.send(1); err != nil {
					t.Error(err)
					return
				}
				e.sent.Add(1)
			}
		})
	}()
	return e
}

// more waits for so many more echoes.
func (e *echoing) more(t *testing.T, n int64) {
	t.Helper()
	until := e.sent.Load() + n
	eventually(t, "echo requests", func() bool { return e.sent.Load() >= until })
}

func (e *echoing) end() (sent int) {
	close(e.stop)
	<-e.done
	return int(e.sent.Load())
}
