package render

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"fgtrace/btfx/expr"
	"fgtrace/tracer/plan"
)

// counted adds up values of one function that are shown at the end, in place of each by
// itself: those of hist() and tdigest().
type counted struct {
	output   *output
	negative histogram // of the numbers without their sign
	positive histogram // and 0
	none     map[string]uint64
}

// countedOf returns a place for those of a target's outputs; nil: there are none.
func countedOf(outputs []output) []*counted {
	var all []*counted
	for i := range outputs {
		if outputs[i].Format.IsCounted() {
			all = append(all, &counted{output: &outputs[i], none: map[string]uint64{}})
		}
	}
	return all
}

// addAll counts the values of a call, once: where entries are shown, not at the exit.
func addAll(all []*counted, e *Event, hasEntries bool) {
	if len(all) == 0 || !e.Call.Entered || e.Kind == Open || e.Kind == Exit && hasEntries {
		return
	}
	for _, c := range all {
		value, _, none := c.output.take(e.Call)
		if none != "" {
			c.none[none]++
			continue
		}
		word := binary.LittleEndian.Uint64(value)
		if c.output.Layout.Signed && int64(word) < 0 {
			c.negative.add(-word)
		} else {
			c.positive.add(word)
		}
	}
}

// n returns how many values there were.
func (c *counted) n() uint64 { return c.negative.n + c.positive.n }

// bucket is a range of values, and how many were in it. Both ends belong to it.
type bucket struct {
	from, to number
	calls    uint64
}

// number is a value of 64 bits, with its sign.
type number struct {
	negative bool
	abs      uint64
}

func (n number) String() string {
	if n.negative {
		return fmt.Sprintf("-%d", n.abs)
	}
	return fmt.Sprint(n.abs)
}

// buckets returns the powers of two from the least value to the largest.
func (c *counted) buckets() []bucket {
	var all []bucket
	counts, lowest, highest := c.negative.powers()
	for i := highest; i >= lowest; i-- {
		from, to := power(i)
		all = append(all, bucket{number{true, to}, number{true, from}, counts[i]})
	}
	counts, lowest, highest = c.positive.powers()
	if c.negative.n > 0 && c.positive.n > 0 {
		lowest = 0
	}
	for i := lowest; i <= highest; i++ {
		from, to := power(i)
		all = append(all, bucket{number{false, from}, number{false, to}, counts[i]})
	}
	return all
}

// power returns the least and the largest of the numbers of i bits.
func power(i int) (from, to uint64) {
	if i == 0 {
		return 0, 0
	}
	return 1 << (i - 1), math.MaxUint64 >> (64 - i)
}

// powers returns how many values have how many bits, and of how many there are any;
// lowest is more than highest if there are none.
func (h *histogram) powers() (counts [65]uint64, lowest, highest int) {
	lowest, highest = 1, 0
	for octave, parts := range h.octaves {
		if parts == nil {
			continue
		}
		for part, n := range parts {
			if n > 0 {
				counts[bits.Len64(middle(octave, part))] += n
			}
		}
	}
	for i, n := range counts {
		if n > 0 && lowest > highest {
			lowest = i
		}
		if n > 0 {
			highest = i
		}
	}
	return counts, lowest, highest
}

// percentile returns the value that p percent of the values do not exceed.
func (c *counted) percentile(p uint64) number {
	rank := (c.n()*p + 99) / 100
	if c.negative.n > 0 && rank <= c.negative.n {
		// The least of them are the largest without their sign.
		return number{true, c.negative.ranked(c.negative.n - max(rank, 1) + 1)}
	}
	return number{false, c.positive.ranked(rank - c.negative.n)}
}

// percentiles are those that are shown.
var percentiles = [...]uint64{25, 50, 75, 90, 95, 99}

// least and most return the ends of the values.
func (c *counted) least() number {
	if c.negative.n > 0 {
		return number{true, c.negative.max}
	}
	return number{false, c.positive.min}
}

func (c *counted) most() number {
	if c.positive.n > 0 {
		return number{false, c.positive.max}
	}
	return number{true, c.negative.min}
}

// barWidth is the length of the longest bar.
const barWidth = 40

// appendText appends what was counted, in lines.
func (c *counted) appendText(dst []byte, target *plan.Target) []byte {
	dst = fmt.Appendf(dst, "%s of %s: %d values", oneLine(c.output.Text), displayName(target.Func), c.n())
	for _, why := range []string{noneNull, noneFault, noneLost} {
		if n := c.none[why]; n > 0 {
			dst = fmt.Appendf(dst, ", %d <%s>", n, why)
		}
	}
	dst = append(dst, '\n')
	if c.n() == 0 {
		return dst
	}
	if c.output.Format == expr.Digest {
		dst = fmt.Appendf(dst, "    min %v", c.least())
		for _, p := range percentiles {
			dst = fmt.Appendf(dst, "  p%d %v", p, c.percentile(p))
		}
		return fmt.Appendf(dst, "  max %v\n", c.most())
	}
	all := c.buckets()
	width, most := 0, uint64(0)
	for _, b := range all {
		width, most = max(width, len(b.span())), max(most, b.calls)
	}
	for _, b := range all {
		bar := bytes.Repeat([]byte{'#'}, int((b.calls*barWidth+most-1)/most))
		dst = append(bytes.TrimRight(fmt.Appendf(dst, "    %*s %8d  %s", width, b.span(), b.calls, bar), " "), '\n')
	}
	return dst
}

func (b bucket) span() string {
	if b.from == b.to {
		return b.from.String()
	}
	return b.from.String() + ".." + b.to.String()
}

// appendJSON appends what was counted as one object.
func (c *counted) appendJSON(dst []byte, target *plan.Target) []byte {
	type span struct {
		From  jsonNumber `json:"from"`
		To    jsonNumber `json:"to"`
		Calls uint64     `json:"calls"`
	}
	object := struct {
		Event       string                `json:"event"`
		Func        string                `json:"func"`
		Module      string                `json:"module"`
		Expr        string                `json:"expr"`
		Count       uint64                `json:"count"`
		None        map[string]uint64     `json:"none,omitempty"`
		Min         *jsonNumber           `json:"min,omitempty"`
		Max         *jsonNumber           `json:"max,omitempty"`
		Percentiles map[string]jsonNumber `json:"percentiles,omitempty"`
		Buckets     []span                `json:"buckets,omitempty"`
	}{Event: "values", Func: target.Func, Module: moduleName(target.Module), Expr: c.output.Text, Count: c.n(), None: c.none}
	if c.n() > 0 {
		least, most := jsonNumber(c.least()), jsonNumber(c.most())
		object.Min, object.Max = &least, &most
		if c.output.Format == expr.Digest {
			object.Percentiles = map[string]jsonNumber{}
			for _, p := range percentiles {
				object.Percentiles[fmt.Sprintf("p%d", p)] = jsonNumber(c.percentile(p))
			}
		} else {
			for _, b := range c.buckets() {
				object.Buckets = append(object.Buckets, span{jsonNumber(b.from), jsonNumber(b.to), b.calls})
			}
		}
	}
	return appendObject(dst, object)
}

// jsonNumber is a number with all its digits.
type jsonNumber number

// MarshalJSON implements json.Marshaler.
func (n jsonNumber) MarshalJSON() ([]byte, error) { return []byte(number(n).String()), nil }
