package arch

import (
	"encoding/hex"
	"testing"
)

func TestPatchable(t *testing.T) {
	for name, test := range map[string]struct {
		arch Arch
		code string
		want bool
	}{
		"nop":                  {AMD64(), "0f1f440000 4157415641554154", true},
		"nop behind endbr":     {AMD64(), "f30f1efa 0f1f440000 41574156", true},
		"call":                 {AMD64(), "e812345678 4157415641554154", true},
		"jmp behind endbr":     {AMD64(), "f30f1efa e912345678 41574156", true},
		"neither":              {AMD64(), "f30f1efa 4157415641554154 55", false},
		"too late":             {AMD64(), "f30f1efa 41574156 41554154 0f1f440000", false},
		"half a nop":           {AMD64(), "f30f1efa 0f1f4400", false},
		"nothing":              {AMD64(), "", false},
		"arm64: nop":           {ARM64(), "1f2003d5 1f2003d5 3f2303d5 fd7bbea9", true},
		"arm64: behind bti":    {ARM64(), "5f2403d5 1f2003d5 1f2003d5 3f2303d5", true},
		"arm64: patched":       {ARM64(), "5f2403d5 e9031eaa 12345694 3f2303d5", true},
		"arm64: no patch site": {ARM64(), "3f2303d5 fd7bbea9 fd030091 f30b00f9", false},
	} {
		t.Run(name, func(t *testing.T) {
			var code []byte
			for i := 0; i < len(test.code); i++ {
				if test.code[i] == ' ' {
					continue
				}
				b, err := hex.DecodeString(test.code[i : i+2])
				if err != nil {
					t.Fatal(err)
				}
				code = append(code, b...)
				i++
			}
			if got := test.arch.Patchable(code); got != test.want {
				t.Errorf("%v", got)
			}
		})
	}
}

func TestRegs(t *testing.T) {
	for _, a := range []Arch{AMD64(), ARM64()} {
		if len(a.Regs.Args) != a.ArgRegisters {
			t.Errorf("%s: %d registers of %d", a.Name, len(a.Regs.Args), a.ArgRegisters)
		}
	}
}
