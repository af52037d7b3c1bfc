package lab

import "testing"

func TestCompareVersions(t *testing.T) {
	// Each is older than the next, as dpkg --compare-versions says.
	order := []string{
		"5.10.262-1", "6.1.192-1", "6.1.192-2", "6.9-1", "6.12~rc1-1", "6.12-1~bpo12+1", "6.12-1",
		"6.12.9-1", "6.12.90-1", "6.12.117-1~deb12u1", "6.12.117-1", "6.12.117-1+b1",
		"7.3~rc7-1~exp1", "7.3-1", "7.3.4-1~bpo13+1", "7.3.4-1", "1:1.30.1-6+deb11u1", "1:1.37.0-6+b9",
	}
	for i, a := range order {
		for j, b := range order {
			got := compareVersions(a, b)
			if i < j && got >= 0 || i > j && got <= 0 || i == j && got != 0 {
				t.Errorf("compareVersions(%q, %q) = %d", a, b, got)
			}
		}
	}
}

func TestUpstreamVersion(t *testing.T) {
	for version, want := range map[string]string{
		"6.12.117-1": "6.12.117", "7.3~rc7-1~exp1": "7.3~rc7", "1:1.37.0-6+b9": "1.37.0", "5": "5",
	} {
		if got := upstreamVersion(version); got != want {
			t.Errorf("upstreamVersion(%q) = %q, want %q", version, got, want)
		}
	}
}

func TestSeries(t *testing.T) {
	for release, want := range map[string]string{
		"6.12.117+deb13-cloud-amd64": "6.12", "5.10.0-46-cloud-amd64": "5.10", "7.3-cloud-amd64": "7.3",
		"cloud-amd64": "", "": "", "6": "", "6.": "", "6.x": "",
	} {
		if got := seriesOf(release); got != want {
			t.Errorf("seriesOf(%q) = %q, want %q", release, got, want)
		}
	}
	if compareSeries("6.9", "6.12") >= 0 || compareSeries("7.0", "6.19") <= 0 || compareSeries("6.1", "6.1") != 0 {
		t.Error("series are not in the order of their age")
	}
	for s, want := range map[string]bool{"6.12": true, "6.12.1": false, "6": false, "./6.12": false, "": false} {
		if IsSeries(s) != want {
			t.Errorf("IsSeries(%q) = %v", s, !want)
		}
	}
}
