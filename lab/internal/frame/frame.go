// Package frame carries typed messages over a serial console that other
// writers (the kernel, first of all) write to at the same time.
//
// A frame is one line:
//
//	\x01 TOKEN ' ' KIND ' ' SEQ ' ' CRC ' ' BASE64 '\n'
//
// TOKEN is a random word of one boot, so that nothing the guest prints can be
// taken for a frame. SEQ counts frames from 0, and CRC (IEEE, over KIND, SEQ
// and the payload) guards each of them, so that a frame that a kernel message
// was printed into is noticed instead of believed.
package frame

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"sync"
)

// Kind says what a frame's payload is.
type Kind byte

// The kinds of frames, all from the guest to the host.
const (
	Ready  Kind = 'b' // JSON Hello: PID 1 runs, everything is mounted
	Start  Kind = 's' // decimal: number of the job that starts
	Stdout Kind = 'o' // bytes of the running job's standard output
	Stderr Kind = 'e' // bytes of the running job's standard error
	Kernel Kind = 'k' // one line of the kernel's log
	Exit   Kind = 'x' // JSON Status: the running job ended
	File   Kind = 'f' // JSON Header: a collected file, its bytes follow in Data
	Data   Kind = 'd' // bytes of the collected file
	Failed Kind = 'g' // text: PID 1 gave up
	Done   Kind = 'q' // all jobs ran, nothing more follows
)

// MaxPayload is the largest payload of one frame, in bytes.
const MaxPayload = 3 << 10

const start = 0x01

// maxLine bounds a line of the console; a longer one is cut into several.
const maxLine = 16 << 10

// Writer writes frames. It is safe for concurrent use.
type Writer struct {
	mu    sync.Mutex
	w     io.Writer
	token string
	seq   uint64
	buf   []byte
}

// NewWriter returns a Writer of frames with this boot's token.
func NewWriter(w io.Writer, token string) *Writer {
	return &Writer{w: w, token: token}
}

// Write writes payload as one frame, or as several of the same kind when it
// is larger than [MaxPayload]. An empty payload is one frame.
func (w *Writer) Write(kind Kind, payload []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		n := min(len(payload), MaxPayload)
		if err := w.one(kind, payload[:n]); err != nil {
			return err
		}
		payload = payload[n:]
		if len(payload) == 0 {
			return nil
		}
	}
}

func (w *Writer) one(kind Kind, payload []byte) error {
	b := append(w.buf[:0], start)
	b = append(b, w.token...)
	b = append(b, ' ', byte(kind), ' ')
	b = strconv.AppendUint(b, w.seq, 10)
	b = append(b, ' ')
	// As long as any other, for guests whose every instruction counts.
	b = fmt.Appendf(b, "%08x", checksum(kind, w.seq, payload))
	b = append(b, ' ')
	b = base64.StdEncoding.AppendEncode(b, payload)
	b = append(b, '\n')
	w.buf = b
	w.seq++
	if _, err := w.w.Write(b); err != nil {
		return fmt.Errorf("write frame: %w", err)
	}
	return nil
}

func checksum(kind Kind, seq uint64, payload []byte) uint32 {
	head := strconv.AppendUint([]byte{byte(kind), ' '}, seq, 10)
	return crc32.Update(crc32.ChecksumIEEE(head), crc32.IEEETable, payload)
}

// Decoder splits what comes from a console into frames and text.
type Decoder struct {
	// Frame is called with each frame; payload is valid during the call.
	Frame func(kind Kind, payload []byte)
	// Text is called with each line that is not a frame, without its line
	// end; line is valid during the call.
	Text func(line []byte)

	token   []byte
	line    []byte
	next    uint64
	lost    uint64
	payload []byte
}

// NewDecoder returns a Decoder of frames with this boot's token.
func NewDecoder(token string) *Decoder {
	return &Decoder{token: append([]byte{start}, token+" "...)}
}

// Lost is the number of frames that were sent but did not arrive whole.
func (d *Decoder) Lost() uint64 { return d.lost }

// Write takes the next bytes of the console. It never fails.
func (d *Decoder) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			d.add(p)
			break
		}
		d.add(p[:i])
		d.end()
		p = p[i+1:]
	}
	return n, nil
}

// Close takes what is left as a line of its own.
func (d *Decoder) Close() error {
	if len(d.line) > 0 {
		d.end()
	}
	return nil
}

func (d *Decoder) add(p []byte) {
	for len(p) > 0 {
		n := min(len(p), maxLine-len(d.line))
		d.line = append(d.line, p[:n]...)
		p = p[n:]
		if len(d.line) == maxLine {
			d.end()
		}
	}
}

func (d *Decoder) end() {
	line := d.line
	d.line = d.line[:0]
	// A kernel message without a line end may stand in front of a frame.
	if i := bytes.Index(line, d.token); i >= 0 {
		if kind, seq, payload, ok := d.parse(line[i+len(d.token):]); ok {
			if i > 0 {
				d.text(line[:i])
			}
			// A sequence number from the past can't come from the
			// writer; it is taken, but not counted backwards.
			if seq > d.next {
				d.lost += seq - d.next
			}
			d.next = max(d.next, seq+1)
			if d.Frame != nil {
				d.Frame(kind, payload)
			}
			return
		}
	}
	d.text(line)
}

func (d *Decoder) text(line []byte) {
	if d.Text != nil {
		d.Text(bytes.TrimRight(line, "\r"))
	}
}

func (d *Decoder) parse(b []byte) (Kind, uint64, []byte, bool) {
	fields := bytes.Split(bytes.TrimRight(b, "\r"), []byte{' '})
	if len(fields) != 4 || len(fields[0]) != 1 {
		return 0, 0, nil, false
	}
	kind := Kind(fields[0][0])
	seq, err := strconv.ParseUint(string(fields[1]), 10, 63)
	if err != nil {
		return 0, 0, nil, false
	}
	sum, err := strconv.ParseUint(string(fields[2]), 16, 32)
	if err != nil {
		return 0, 0, nil, false
	}
	payload, err := base64.StdEncoding.AppendDecode(d.payload[:0], fields[3])
	d.payload = payload
	if err != nil || checksum(kind, seq, payload) != uint32(sum) {
		return 0, 0, nil, false
	}
	return kind, seq, payload, true
}
