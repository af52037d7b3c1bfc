package matrix

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// loadPace is the time between two rounds of a load: without one, the only CPU of
// a guest takes minutes for each attaching.
const loadPace = 5 * time.Millisecond

// loads are works that go on while trace comes and goes.
type loads struct {
	rounds atomic.Int64
	held   sync.RWMutex // for writing: there is no load
	stop   chan struct{}
	done   sync.WaitGroup
}

// startLoads starts loads of TCP over the loopback device, of files and of forks.
func startLoads(t *testing.T) *loads {
	t.Helper()
	dir := t.TempDir()
	l := &loads{stop: make(chan struct{})}
	for _, round := range []func() error{
		loadTCP, loadTCP, func() error { return loadFiles(dir) }, loadForks,
	} {
		l.done.Go(func() { l.repeat(t, round) })
	}
	return l
}

func (l *loads) repeat(t *testing.T, round func() error) {
	for {
		select {
		case <-l.stop:
			return
		case <-time.After(loadPace):
		}
		l.held.RLock()
		err := round()
		l.held.RUnlock()
		if err != nil {
			t.Error(err)
			return
		}
		l.rounds.Add(1)
	}
}

// pause does something without a load.
func (l *loads) pause(t *testing.T, do func()) {
	t.Helper()
	l.held.Lock()
	defer l.held.Unlock()
	do()
}

// end ends the loads.
func (l *loads) end() {
	close(l.stop)
	l.done.Wait()
}

// loadTCP makes a connection, and sends more over it than one packet holds.
func loadTCP() error {
	there, back, err := connectTCP()
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer unix.Close(there)
	defer unix.Close(back)
	buf := make([]byte, 96<<10)
	if _, err := unix.Write(there, buf); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if _, err := unix.Read(back, buf); err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	return nil
}

// loadFiles makes, reads, renames and removes a file, and reads what the kernel
// generates.
func loadFiles(dir string) error {
	path := filepath.Join(dir, "load")
	want := bytes.Repeat([]byte("load"), 4096)
	if err := os.WriteFile(path, want, 0o600); err != nil {
		return err
	}
	got, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("read %s: not what was written", path)
	}
	if err := os.Rename(path, path+"2"); err != nil {
		return err
	}
	if _, err := os.ReadFile("/proc/self/stat"); err != nil {
		return err
	}
	if _, err := os.ReadDir("/bin"); err != nil {
		return err
	}
	return os.Remove(path + "2")
}

// loadForks runs a program.
func loadForks() error {
	if err := exec.Command("/bin/true").Run(); err != nil {
		return fmt.Errorf("run a program: %w", err)
	}
	return nil
}
