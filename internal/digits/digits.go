// Package digits appends numbers. Printing numbers is most of what an event
// costs; what strconv does for every base and width is done here for the few
// forms that an event has, at a third of its instructions.
package digits

import "math/bits"

const hex = "0123456789abcdef"

// AppendHex appends v in hexadecimal, without leading zeros.
func AppendHex(dst []byte, v uint64) []byte {
	n := (bits.Len64(v|1) + 3) / 4
	for shift := 4 * (n - 1); shift >= 0; shift -= 4 {
		dst = append(dst, hex[v>>shift&0xf])
	}
	return dst
}

// pairs holds the two digits of each number below 100.
const pairs = "00010203040506070809" +
	"10111213141516171819" +
	"20212223242526272829" +
	"30313233343536373839" +
	"40414243444546474849" +
	"50515253545556575859" +
	"60616263646566676869" +
	"70717273747576777879" +
	"80818283848586878889" +
	"90919293949596979899"

// AppendUint appends v in decimal.
func AppendUint(dst []byte, v uint64) []byte {
	if v < 10 {
		return append(dst, byte('0'+v))
	}
	var buf [20]byte
	i := len(buf)
	for v >= 100 {
		pair := 2 * (v % 100)
		v /= 100
		i -= 2
		buf[i+1] = pairs[pair+1]
		buf[i] = pairs[pair]
	}
	i -= 2
	buf[i+1] = pairs[2*v+1]
	buf[i] = pairs[2*v]
	if v < 10 {
		i++
	}
	return append(dst, buf[i:]...)
}

// AppendInt appends v in decimal.
func AppendInt(dst []byte, v int64) []byte {
	if v < 0 {
		return AppendUint(append(dst, '-'), -uint64(v))
	}
	return AppendUint(dst, uint64(v))
}

// AppendMillis appends v, below 1000, as three digits.
func AppendMillis(dst []byte, v uint64) []byte {
	pair := 2 * (v % 100)
	return append(dst, byte('0'+v/100), pairs[pair], pairs[pair+1])
}

// AppendNanos appends v, below 1e9, as nine digits.
func AppendNanos(dst []byte, v uint64) []byte {
	a, b := v/100000, v%100000 // 4 digits, 5 digits
	a1, a2 := 2*(a/100), 2*(a%100)
	b1, b2 := 2*(b/1000), b%1000
	return AppendMillis(append(dst, pairs[a1], pairs[a1+1], pairs[a2], pairs[a2+1], pairs[b1], pairs[b1+1]), b2)
}
