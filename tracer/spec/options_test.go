package spec

import (
	"testing"
)

func TestParseMode(t *testing.T) {
	for in, want := range map[string]Mode{
		"":           Call,
		"entry":      Entry,
		"exit":       Exit,
		"entry,exit": Entry | Exit,
		"exit,entry": Entry | Exit,
	} {
		t.Run(in, func(t *testing.T) {
			got, err := ParseMode(in)
			if err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestParseModeErrors(t *testing.T) {
	for in, want := range map[string]string{
		"return": `
			.return
			.^
			no mode "return": there are entry, exit, and entry,exit`,
		"entry,": `
			.entry,
			.      ^
			no mode "": there are entry, exit, and entry,exit`,
		"entry, exit": `
			.entry, exit
			.      ^
			no mode " exit": there are entry, exit, and entry,exit`,
		"exit,exit": `
			.exit,exit
			.     ^
			exit is there twice`,
	} {
		t.Run(in, func(t *testing.T) {
			_, err := ParseMode(in)
			if got := describe(t, err); got != unindent(want) {
				t.Errorf("got\n%s\nwant\n%s", got, unindent(want))
			}
		})
	}
}

func TestModeString(t *testing.T) {
	for want, mode := range map[string]Mode{
		"entry":           Entry,
		"exit":            Exit,
		"entry,exit":      Entry | Exit,
		"call":            Call,
		"Mode(0x0)":       0,
		"entry,Mode(0x8)": Entry | 8,
	} {
		if got := mode.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int{
		"1":          1,
		"4096":       4096,
		"512K":       512 << 10,
		"512kib":     512 << 10,
		"8M":         8 << 20,
		"8MiB":       8 << 20,
		"1GiB":       1 << 30,
		"1048576K":   1 << 30,
		"1073741824": 1 << 30,
	} {
		t.Run(in, func(t *testing.T) {
			got, err := ParseSize(in)
			if err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Errorf("got %d, want %d", got, want)
			}
		})
	}
}

func TestParseSizeErrors(t *testing.T) {
	for in, want := range map[string]string{
		"": `
			.
			.^
			no number`,
		"M": `
			.M
			.^
			no number`,
		"-1": `
			.-1
			.^
			no number`,
		"0K": `
			.0K
			.^
			size is zero`,
		"1.5M": `
			.1.5M
			. ^
			no unit ".5M": there are K, M and G`,
		"8 M": `
			.8 M
			. ^
			no unit " M": there are K, M and G`,
		"8MB": `
			.8MB
			. ^
			no unit "MB": there are K, M and G`,
		"1T": `
			.1T
			. ^
			no unit "T": there are K, M and G`,
		"2G": `
			.2G
			.^
			larger than 1G`,
		"99999999999999999999999": `
			.99999999999999999999999
			.^
			larger than 1G`,
	} {
		t.Run(in, func(t *testing.T) {
			_, err := ParseSize(in)
			if got := describe(t, err); got != unindent(want) {
				t.Errorf("got\n%s\nwant\n%s", got, unindent(want))
			}
		})
	}
}

func TestRoundRing(t *testing.T) {
	for _, test := range []struct{ n, pageSize, want int }{
		{1, 4096, 4096},
		{4096, 4096, 4096},
		{4097, 4096, 8192},
		{3 << 20, 4096, 4 << 20},
		{8 << 20, 4096, 8 << 20},
		{5000, 65536, 65536},
		{MaxSize - 1, 4096, MaxSize},
		{MaxSize, 4096, MaxSize},
	} {
		if got := RoundRing(test.n, test.pageSize); got != test.want {
			t.Errorf("%d bytes in pages of %d: got %d, want %d", test.n, test.pageSize, got, test.want)
		}
	}
}
