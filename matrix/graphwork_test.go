package matrix

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// graphWork makes calls of a function in rounds, each the same.
type graphWork struct {
	root  string
	kinds int
	// any tells that the calls may be in any task: packets are received in
	// whichever one has just been interrupted. Nothing else makes such calls.
	any bool
	// open returns what makes a round, and what ends it.
	open func() (round func() error, end func(), err error)
}

var graphWorks = []graphWork{
	{root: "icmp_rcv", kinds: icmpPerEcho, any: true, open: openEchoRounds},
	{root: "vfs_read", kinds: 3, open: openReadRounds},
	{root: "tcp_sendmsg", kinds: 2, open: openTCPRounds},
	{root: "do_sys_openat2", kinds: 3, open: openOpenRounds},
}

func openEchoRounds() (round func() error, end func(), err error) {
	e, err := openEchoes()
	if err != nil {
		return nil, nil, err
	}
	return func() error { return e.send(1) }, e.close, nil
}

// files closes what was opened.
type files []int

func (f files) close() {
	for _, fd := range f {
		unix.Close(fd)
	}
}

// openReadRounds reads a file in memory, one that the kernel generates, and a
// pipe that has something only after a while.
func openReadRounds() (round func() error, end func(), err error) {
	var fds files
	open := func(path string, flags int) (fd int) {
		if err == nil {
			if fd, err = unix.Open(path, flags|unix.O_CLOEXEC, 0o600); err == nil {
				fds = append(fds, fd)
			}
		}
		return fd
	}
	file := open("/tmp", unix.O_TMPFILE|unix.O_RDWR)
	stat := open("/proc/self/stat", unix.O_RDONLY)
	var ends [2]int
	if err == nil {
		if err = unix.Pipe2(ends[:], unix.O_CLOEXEC); err == nil {
			fds = append(fds, ends[:]...)
			_, err = unix.Pwrite(file, make([]byte, 64), 0)
		}
	}
	if err != nil {
		fds.close()
		return nil, nil, fmt.Errorf("open what is to be read: %w", err)
	}
	ask := make(chan struct{})
	go func() {
		for range ask {
			time.Sleep(5 * time.Millisecond)
			_, _ = unix.Write(ends[1], []byte("x")) // the reader misses it
		}
	}()
	buf := make([]byte, 512)
	round = func() error {
		for _, fd := range []int{file, stat} {
			if n, err := unix.Pread(fd, buf, 0); err != nil || n == 0 {
				return fmt.Errorf("read: %d, %w", n, err)
			}
		}
		ask <- struct{}{}
		if n, err := unix.Read(ends[0], buf); err != nil || n != 1 {
			return fmt.Errorf("read pipe: %d, %w", n, err)
		}
		return nil
	}
	return round, func() { close(ask); fds.close() }, nil
}

// openTCPRounds sends a few bytes there and back.
func openTCPRounds() (round func() error, end func(), err error) {
	there, back, err := connectTCP()
	if err != nil {
		return nil, nil, fmt.Errorf("connect: %w", err)
	}
	buf := make([]byte, 64)
	round = func() error {
		for _, way := range [][2]int{{there, back}, {back, there}} {
			if _, err := unix.Write(way[0], buf); err != nil {
				return fmt.Errorf("send: %w", err)
			}
			if n, err := unix.Read(way[1], buf); err != nil || n != len(buf) {
				return fmt.Errorf("receive: %d bytes, %w", n, err)
			}
		}
		return nil
	}
	return round, files{there, back}.close, nil
}

// connectTCP returns the ends of a connection over the loopback device.
func connectTCP() (client, server int, err error) {
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, 0, err
	}
	defer unix.Close(listener)
	client, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, 0, err
	}
	err = unix.Bind(listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	if err == nil {
		err = unix.Listen(listener, 1)
	}
	var addr unix.Sockaddr
	if err == nil {
		addr, err = unix.Getsockname(listener)
	}
	if err == nil {
		err = unix.Connect(client, addr)
	}
	if err == nil {
		server, _, err = unix.Accept4(listener, unix.SOCK_CLOEXEC)
	}
	if err != nil {
		unix.Close(client)
	}
	return client, server, err
}

// openOpenRounds opens a file in memory, one that the kernel generates, and one
// that does not exist.
func openOpenRounds() (round func() error, end func(), err error) {
	const path = "/tmp/graph-open"
	// Not by opening it: that would be a call more than the rounds make.
	if err := unix.Mknod(path, unix.S_IFREG|0o600, 0); err != nil {
		return nil, nil, fmt.Errorf("make what is to be opened: %w", err)
	}
	round = func() error {
		for _, path := range []string{path, "/proc/self/stat"} {
			fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("open %s: %w", path, err)
			}
			unix.Close(fd)
		}
		if _, err := unix.Open("/tmp/graph-none", unix.O_RDONLY|unix.O_CLOEXEC, 0); !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("open what does not exist: %v", err)
		}
		return nil
	}
	return round, func() { _ = unix.Unlink(path) }, nil
}

// graphPace is the time from a round to the next: less than what makes a TCP
// connection start anew.
const graphPace = 50 * time.Millisecond

// rounds makes a work's rounds, from a thread called worker.
type rounds struct {
	tid  int
	made int64
	want chan int64    // how many more
	have chan struct{} // they were made
	stop chan struct{}
	done chan struct{}
}

// startRounds returns when the worker is ready, and has made the rounds of a
// warm-up: what is there for the first time takes other ways.
func startRounds(t *testing.T, w graphWork) *rounds {
	t.Helper()
	const warmUps = 3
	r := &rounds{want: make(chan int64), have: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(r.done)
		onWorker(func() {
			r.tid = unix.Gettid()
			if err := r.work(w); err != nil {
				t.Error(err)
			}
		})
	}()
	r.more(t, warmUps)
	t.Cleanup(r.end)
	return r
}

func (r *rounds) work(w graphWork) error {
	round, end, err := w.open()
	if err != nil {
		return err
	}
	defer end()
	for {
		select {
		case <-r.stop:
			return nil
		case n := <-r.want:
			for range n {
				time.Sleep(graphPace)
				if err := round(); err != nil {
					return fmt.Errorf("call %s: %w", w.root, err)
				}
				r.made++
			}
			r.have <- struct{}{}
		}
	}
}

// more makes so many rounds more. Nothing polls for their end: while all calls of
// the kernel are watched, that would be what they are.
func (r *rounds) more(t *testing.T, n int64) {
	t.Helper()
	select {
	case r.want <- n:
	case <-r.done:
		t.Fatal("the worker ended")
	}
	select {
	case <-r.have:
	case <-r.done:
		t.Fatal("the worker ended")
	case <-time.After(patience):
		t.Fatalf("%d rounds: not after %v", n, patience)
	}
}

// end ends the work; more than once does no harm.
func (r *rounds) end() {
	select {
	case <-r.stop:
	default:
		close(r.stop)
	}
	<-r.done
}
