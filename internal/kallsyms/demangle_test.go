package kallsyms

import "testing"

func TestDemangle(t *testing.T) {
	for in, want := range map[string]string{
		"_RNvCs1234_7mycrate3foo":                                                  "mycrate::foo",
		"_RNvCs1234_7mycrate3foo.llvm.4711":                                        "mycrate::foo.llvm.4711",
		"_RNvMNtCs1234_6kernel5printNtB2_3Foo4call.cold":                           "<kernel::print::Foo>::call.cold",
		"_ZN4core3fmt9Formatter3pad17h0123456789abcdefE":                           "core::fmt::Formatter::pad",
		"_ZN4core3fmt9Formatter3pad17h0123456789abcdefE.llvm.99":                   "core::fmt::Formatter::pad.llvm.99",
		"_ZN38_$LT$X$u20$as$u20$core..fmt..Debug$GT$3fmt17h0123456789abcdefE.cold": "<X as core::fmt::Debug>::fmt.cold",
		"_ZN3foo3barEi":                    "foo::bar(int)",
		"_ZN3foo3barEi.isra.0.cold":        "foo::bar(int).isra.0.cold",
		"_ZN3foo17habcdefghijklmnopE.cold": "foo::habcdefghijklmnop.cold",
		"tcp_sendmsg":                      "",
		"_Roadrunner":                      "",
		"_Z":                               "",
		"_R":                               "",
		"_R.cold":                          "",
		"":                                 "",
		"__pfx_foo":                        "",
	} {
		t.Run(in, func(t *testing.T) {
			got, ok := Demangle(in)
			if got != want || ok != (want != "") {
				t.Errorf("got %q, %v, want %q", got, ok, want)
			}
		})
	}
}

func FuzzDemangle(f *testing.F) {
	f.Add("_RNvCs1234_7mycrate3foo.llvm.4711")
	f.Add("_ZN4core3fmt9Formatter3pad17h0123456789abcdefE.cold")
	f.Add("_ZN17h17hE")
	f.Add("_RC0")
	f.Fuzz(func(t *testing.T, name string) {
		if plain, ok := Demangle(name); ok == (plain == "") {
			t.Fatalf("got %q, %v", plain, ok)
		}
	})
}
