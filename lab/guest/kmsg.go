package guest

import (
	"bytes"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"fgtrace/lab/internal/frame"
)

// relayKernelLog sends new lines of the kernel's log as frames, and has the
// kernel itself print no more than the last words of a panic: what it prints
// to the console goes between the bytes of a frame. Where one of the two files
// is missing, the console stays as it is.
func relayKernelLog(out *frame.Writer) {
	f, err := os.Open("/dev/kmsg")
	if err != nil {
		return
	}
	if _, err := f.Seek(0, 2); err != nil {
		f.Close()
		return
	}
	// An oops and a panic raise the level again (console_verbose).
	if err := os.WriteFile("/proc/sys/kernel/printk", []byte("1\n"), 0); err != nil {
		f.Close()
		return
	}
	go func() {
		defer f.Close()
		buf := make([]byte, 8<<10)
		for {
			n, err := f.Read(buf)
			if err != nil {
				// EPIPE: records were overwritten before they were read.
				if errors.Is(err, unix.EPIPE) {
					continue
				}
				return
			}
			_ = out.Write(frame.Kernel, kernelLine(buf[:n]))
		}
	}()
}

// kernelLine is the text of a record of /dev/kmsg,
// "PRIORITY,SEQ,TIME,FLAGS;TEXT\n" and lines of properties.
func kernelLine(record []byte) []byte {
	_, text, ok := bytes.Cut(record, []byte{';'})
	if !ok {
		text = record
	}
	text, _, _ = bytes.Cut(text, []byte{'\n'})
	return text
}
