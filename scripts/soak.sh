#!/bin/bash
# Runs each fuzz target for FUZZTIME, then the matrix in its long form and
# large graphs under load.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}
fuzztime=${FUZZTIME:-2m}

scripts/deps.sh test

targets=0
failed=
for pkg in $("$go" list ./...); do
	for target in $("$go" test -list '^Fuzz' "$pkg" | grep '^Fuzz' || true); do
		printf '== %s %s for %s\n' "$pkg" "$target" "$fuzztime"
		targets=$((targets + 1))
		"$go" test "$pkg" -run '^$' -fuzz "^$target\$" -fuzztime "$fuzztime" || failed="$failed $pkg:$target"
	done
done
[ $targets -gt 0 ] || { echo 'make soak: FAILED: no fuzz target was found'; exit 1; }

echo '== kernel matrix, long'
TRACE_SOAK=1 TRACE_VM_TESTS=1 "$go" test ./matrix -run '^TestKernels$' -count 1 -v -timeout 12h || failed="$failed matrix"

# TRACE_SOAK_TIME=1m tries it; TRACE_MATRIX=amd64:7.2 on one kernel.
echo '== large graphs under load'
TRACE_SOAK=1 "$go" test ./matrix -run '^TestSoak$' -count 1 -v -timeout 12h || failed="$failed graphs"

if [ -n "$failed" ]; then
	echo "make soak: FAILED:$failed"
	exit 1
fi
echo "make soak: ok, $targets fuzz targets, the matrix and graphs under load"
