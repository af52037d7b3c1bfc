package main

import (
	"fmt"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// function is what is traced: it has two arguments and a result, does little,
// and one system call calls it once.
const function = "sched_getaffinity"

// load makes calls.
func load(count string, call func(n int) error) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return fmt.Errorf("parse count: %w", err)
	}
	return call(n)
}

func callFunction(n int) error {
	var mask [128]uint64
	for range n {
		unix.RawSyscall(unix.SYS_SCHED_GETAFFINITY, 0, unsafe.Sizeof(mask), uintptr(unsafe.Pointer(&mask)))
	}
	return nil
}

// poll makes calls of graphRoot, each of which makes nodesPerRoot of graphNode.
func poll(n int) error {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	defer unix.Close(ends[0])
	defer unix.Close(ends[1])
	var fds [nodesPerRoot]unix.PollFd
	for i := range fds {
		fds[i] = unix.PollFd{Fd: int32(ends[0]), Events: unix.POLLIN}
	}
	var now unix.Timespec // arm64 has no poll
	for range n {
		unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&fds)), nodesPerRoot, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	}
	return nil
}

// pace makes rateNow nodes a minute for so long.
func pace(length string) error { return paced(length, rateNow/nodesPerRoot, poll) }

// paced makes so many calls a minute, for a time.
func paced(length string, aMinute int64, call func(n int) error) error {
	whole, err := time.ParseDuration(length)
	if err != nil {
		return fmt.Errorf("parse time: %w", err)
	}
	made := 0
	for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		passed := min(time.Since(begin), whole)
		due := int(int64(passed) * aMinute / int64(time.Minute))
		if err := call(due - made); err != nil {
			return err
		}
		made = due
		if passed == whole {
			return nil
		}
	}
}

// now prints the time since boot, in nanoseconds.
func now() error {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return fmt.Errorf("read clock: %w", err)
	}
	fmt.Println(ts.Nano())
	return nil
}

// elapsed runs fn and returns how long it took in nanoseconds, which are
// instructions with -icount.
func elapsed(fn func() error) (int64, error) {
	start := time.Now()
	err := fn()
	return time.Since(start).Nanoseconds(), err
}
