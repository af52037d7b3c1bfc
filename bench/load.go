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
func load(count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return fmt.Errorf("parse count: %w", err)
	}
	callFunction(n)
	return nil
}

func callFunction(n int) {
	var mask [128]uint64
	for range n {
		unix.RawSyscall(unix.SYS_SCHED_GETAFFINITY, 0, unsafe.Sizeof(mask), uintptr(unsafe.Pointer(&mask)))
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
