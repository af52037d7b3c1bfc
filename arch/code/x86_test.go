package code

import (
	_ "embed"
	"encoding/hex"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

//go:embed testdata/amd64.txt
var disassembly string

// TestX86 compares the decoder with objdump.
func TestX86(t *testing.T) {
	tested := 0
	for line := range strings.Lines(disassembly) {
		if line[0] == '#' {
			continue
		}
		digits, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		raw, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatal(err)
		}
		tested++

		// What is behind an instruction doesn't matter, but all of it does.
		var in x86
		for _, fill := range []byte{0, 0x66, 0xff} {
			code := append(slices.Clone(raw), slices.Repeat([]byte{fill}, maxX86)...)
			if ok := in.decode(code); !ok || in.len != len(raw) {
				t.Errorf("% x %s: %v, %d bytes", raw, text, ok, in.len)
			}
		}
		for n := range raw {
			if in.decode(raw[:n]) {
				t.Errorf("% x %s: decoded %d bytes", raw, text, n)
			}
		}
		if !in.decode(raw) {
			continue
		}
		if got, want := in.flow(), flowOf(text); got != want {
			t.Errorf("% x %s: flow %d instead of %d", raw, text, got, want)
		}
		if in.rip != strings.Contains(text, "(%rip)") {
			t.Errorf("% x %s: rip %v", raw, text, in.rip)
		}
		if disp, ok := number(text, displacement); in.dispSize != 0 && (!ok || int32(disp) != in.disp) {
			t.Errorf("% x %s: displacement %#x", raw, text, in.disp)
		}
		if imm, ok := number(text, immediate); in.immSize >= 4 && ok && uint32(imm) != uint32(in.imm) {
			t.Errorf("% x %s: immediate %#x", raw, text, in.imm)
		}
	}
	if tested < 2000 {
		t.Errorf("only %d instructions", tested)
	}
}

var (
	displacement = regexp.MustCompile(`[ ,:*](-?0x[0-9a-f]+)(?:[(,]|$)`)
	immediate    = regexp.MustCompile(`\$(0x[0-9a-f]+)`)
)

func number(text string, pattern *regexp.Regexp) (uint64, bool) {
	match := pattern.FindStringSubmatch(text)
	if match == nil {
		return 0, false
	}
	digits, negative := strings.CutPrefix(match[1], "-")
	n, err := strconv.ParseUint(digits, 0, 64)
	if negative {
		n = -n
	}
	return n, err == nil
}

// flowOf tells where an instruction goes on by its text.
func flowOf(text string) flow {
	words := strings.Fields(text)
	for slices.Contains([]string{"cs", "ds", "es", "notrack", "lock", "repz", "repnz", "bnd", "data16"}, words[0]) && len(words) > 1 {
		words = words[1:]
	}
	mnemonic, _, _ := strings.Cut(words[0], ",") // a hint
	indirect := strings.Contains(text, "*")
	switch {
	case mnemonic == "lcall", mnemonic == "call" && indirect:
		return callsIndirect
	case mnemonic == "call":
		return calls
	case mnemonic == "ljmp", mnemonic == "jmp" && indirect:
		return jumpsIndirect
	case mnemonic == "jmp":
		return jumps
	case mnemonic[0] == 'j', strings.HasPrefix(mnemonic, "loop"):
		return branches
	case slices.Contains([]string{"ret", "retw", "lret", "lretq", "lretw", "iret", "iretq", "iretl", "iretw", "sysretq", "sysretl", "sysexitl", "sysexitq"}, mnemonic):
		return returns
	case slices.Contains([]string{"int3", "ud0", "ud1", "ud2"}, mnemonic):
		return traps
	}
	return plain
}
