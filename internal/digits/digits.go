// Package digits appends numbers. Printing numbers is most of what an event
// costs. Here the digits of a number lie side by side in the bytes of a word,
// where a few operations make all eight at once; what strconv does for every
// base and width takes several times the instructions.
package digits

import (
	"encoding/binary"
	"math/bits"
)

// zeros is the digit 0 in each byte.
const zeros = 0x3030303030303030

// AppendHex appends v in hexadecimal, without leading zeros.
func AppendHex(dst []byte, v uint64) []byte {
	n := HexLen(v)
	v <<= (64 - 4*n) & 63 // moves the first digit to the front
	dst = binary.LittleEndian.AppendUint64(dst, Hex8(v>>32))
	dst = binary.LittleEndian.AppendUint64(dst, Hex8(v&0xffffffff))
	return dst[:len(dst)-16+n]
}

// HexLen returns the number of v's digits in hexadecimal.
func HexLen(v uint64) int { return (bits.Len64(v|1) + 3) / 4 }

// Hex8 returns the eight hexadecimal digits of v, below 1<<32, the first in the
// lowest byte.
func Hex8(v uint64) uint64 {
	return uint64(hexPairs[v>>24&0xff]) | uint64(hexPairs[v>>16&0xff])<<16 |
		uint64(hexPairs[v>>8&0xff])<<32 | uint64(hexPairs[v&0xff])<<48
}

// hexPairs holds the two digits of each byte.
var hexPairs = func() (pairs [256]uint16) {
	const digits = "0123456789abcdef"
	for v := range pairs {
		pairs[v] = uint16(digits[v>>4]) | uint16(digits[v&0xf])<<8
	}
	return pairs
}()

// AppendUint appends v in decimal.
func AppendUint(dst []byte, v uint64) []byte {
	if v >= 1e8 {
		dst = AppendUint(dst, v/1e8)
		return binary.LittleEndian.AppendUint64(dst, Decimal8(v%1e8))
	}
	digits := Decimal8(v)
	leading := LeadingZeros(digits)
	dst = binary.LittleEndian.AppendUint64(dst, digits>>(8*leading&63))
	return dst[:len(dst)-leading]
}

// AppendInt appends v in decimal.
func AppendInt(dst []byte, v int64) []byte {
	if v < 0 {
		return AppendUint(append(dst, '-'), -uint64(v))
	}
	return AppendUint(dst, uint64(v))
}

// Decimal8 returns the eight decimal digits of v, below 1e8, the first in the
// lowest byte. Each step splits the numbers of all parts of the word in two; the
// divisions are multiplications with the reciprocal, which are exact for numbers
// so small.
func Decimal8(v uint64) uint64 {
	v = v/10000 | v%10000<<32
	hundreds := v * 10486 >> 20 & 0x0000007f0000007f
	v = hundreds | (v-100*hundreds)<<16
	tens := v * 103 >> 10 & 0x000f000f000f000f
	return tens | (v-10*tens)<<8 | zeros
}

// LeadingZeros returns the number of zeros that eight digits of Decimal8 begin
// with, the last one not counted.
func LeadingZeros(digits uint64) int {
	const last = 1 << 56
	return bits.TrailingZeros64(digits^zeros|last) / 8
}

// Decimal3 returns the three decimal digits of v, below 1000, the first in the
// lowest byte.
func Decimal3(v uint64) uint64 { return v/100 | v/10%10<<8 | v%10<<16 | zeros&0xffffff }

// Small is a number below 1000 in decimal: its digits from the lowest byte on,
// and how many there are.
type Small struct {
	Digits uint32
	Len    uint32
}

// SmallOf returns v, below 1000, in decimal.
func SmallOf(v uint64) Small { return smalls[v] }

var smalls = func() (table [1000]Small) {
	for v := range uint32(1000) {
		digits, n := '0'+v%10, uint32(1)
		for rest := v / 10; rest > 0; rest /= 10 {
			digits, n = digits<<8|('0'+rest%10), n+1
		}
		table[v] = Small{digits, n}
	}
	return table
}()
