package lab

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCandidates(t *testing.T) {
	const text = `Package: linux-image-cloud-amd64
Version: 6.12.117-1

Package: linux-image-6.12-cloud-amd64
Version: 6.12.100-1
Description: a kernel of just that release may be called so

Package: linux-image-6.12.117+deb13-cloud-amd64
Version: 6.12.117-1

Package: linux-image-6.12.117+deb13-cloud-amd64-unsigned
Version: 6.12.117-1

Package: linux-image-6.12.117+deb13-cloud-amd64-dbg
Version: 6.12.117-1

Package: linux-image-6.12.96+deb13-cloud-amd64-unsigned
Version: 6.12.96-1

Package: linux-image-6.19.14+deb13-cloud-amd64
Version: 6.19.14-1~bpo13+1

Package: linux-binary-6.19.14+deb13-cloud-amd64
Version: 6.19.14-1~bpo13+1

Package: linux-image-7.2.12+deb13-cloud-amd64
Version: 7.2.12-1

Package: linux-binary-7.2.12+deb13-cloud-amd64
Version: 7.2.12-1

Package: linux-binary-unsigned-7.2.12+deb13-cloud-amd64
Version: 7.2.12-1

Package: linux-modules-7.2.12+deb13-cloud-amd64
Version: 7.2.12-1

Package: linux-binary-unsigned-7.3.4+deb13-cloud-amd64
Version: 7.3.4-1

Package: linux-modules-7.3.4+deb13-cloud-amd64
Version: 7.3.4-1

Package: linux-binary-7.2.12+deb13-cloud-arm64
Version: 7.2.12-1

Package: linux-binary-7.2.12+deb13-amd64
Version: 7.2.12-1

Package: linux-modules-7.9.1-cloud-amd64
Version: 7.9.1-1
`
	pkgs, err := parsePackages(strings.NewReader(text), "s")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range candidates(pkgs, "amd64") {
		got = append(got, fmt.Sprintf("%s %s %s %s", c.series, c.release, c.image, c.modules.Name))
	}
	want := []string{
		"6.12 6.12.96+deb13-cloud-amd64 linux-image-6.12.96+deb13-cloud-amd64-unsigned=6.12.96-1 ",
		"6.12 6.12-cloud-amd64 linux-image-6.12-cloud-amd64=6.12.100-1 ",
		"6.12 6.12.117+deb13-cloud-amd64 linux-image-6.12.117+deb13-cloud-amd64=6.12.117-1 ",
		"6.19 6.19.14+deb13-cloud-amd64 linux-binary-6.19.14+deb13-cloud-amd64=6.19.14-1~bpo13+1 ",
		"7.2 7.2.12+deb13-cloud-amd64 linux-binary-7.2.12+deb13-cloud-amd64=7.2.12-1 linux-modules-7.2.12+deb13-cloud-amd64",
		"7.3 7.3.4+deb13-cloud-amd64 linux-binary-unsigned-7.3.4+deb13-cloud-amd64=7.3.4-1 linux-modules-7.3.4+deb13-cloud-amd64",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
