package render

import "math/bits"

// histogram counts values such that percentiles of them are right to two
// digits: each power of two is divided into 64 parts of equal width.
type histogram struct {
	octaves [64 - octaveBits + 1]*[1 << octaveBits]uint64 // those in use
	n       uint64
	min     uint64
	max     uint64
}

const octaveBits = 6

// slot returns where a value is counted.
func slot(v uint64) (octave, part int) {
	if v < 1<<octaveBits {
		return 0, int(v)
	}
	shift := bits.Len64(v) - 1 - octaveBits
	return shift + 1, int(v>>shift) & (1<<octaveBits - 1)
}

// middle returns a value in the middle of a slot.
func middle(octave, part int) uint64 {
	if octave == 0 {
		return uint64(part)
	}
	shift := octave - 1
	return uint64(part|1<<octaveBits)<<shift + 1<<shift>>1
}

func (h *histogram) add(v uint64) {
	if h.n == 0 || v < h.min {
		h.min = v
	}
	h.max = max(h.max, v)
	h.n++
	octave, part := slot(v)
	if h.octaves[octave] == nil {
		h.octaves[octave] = new([1 << octaveBits]uint64)
	}
	h.octaves[octave][part]++
}

// percentile returns the value that p percent of the values do not exceed.
func (h *histogram) percentile(p uint64) uint64 {
	return h.ranked((h.n*p + 99) / 100)
}

// ranked returns the value that so many of the values do not exceed.
func (h *histogram) ranked(rank uint64) uint64 {
	var seen uint64
	for octave, parts := range h.octaves {
		if parts == nil {
			continue
		}
		for part, n := range parts {
			if seen += n; seen >= rank {
				return min(max(middle(octave, part), h.min), h.max)
			}
		}
	}
	return h.max
}
