package lab

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseDepends(t *testing.T) {
	for info, want := range map[string][]string{
		"license=GPL\x00depends=a,b-c\x00name=x\x00": {"a", "b-c"},
		"depends=\x00": {},
		"name=x":       nil,
	} {
		if diff := cmp.Diff(want, parseDepends([]byte(info))); diff != "" {
			t.Errorf("%q (-want +got):\n%s", info, diff)
		}
	}
}

func TestModuleName(t *testing.T) {
	for name, want := range map[string]string{
		"veth": "veth", "nf-tables": "nf_tables", "kernel/drivers/net/veth.ko.xz": "veth", "a-b.ko": "a_b",
	} {
		if got := moduleName(name); got != want {
			t.Errorf("moduleName(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestMissingModule(t *testing.T) {
	r := moduleResolver{index: map[string]string{"here": builtin}, release: "6.12", seen: map[string]bool{}}
	if err := r.add("here"); err != nil || len(r.order) != 0 {
		t.Errorf("error %v for a module that is built in", err)
	}
	if err := r.add("gone"); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("error %v for a module that is not there", err)
	}
}
