#!/bin/bash
# Runs all tests: those that need no kernel, then the matrix of kernels in VMs.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}

# The last line says how it ended, whatever happened.
stage=start
finish() {
	status=$?
	if [ $status -eq 0 ]; then
		printf 'make test: ok, all of it, after %dm%02ds\n' $((SECONDS / 60)) $((SECONDS % 60))
	else
		printf 'make test: FAILED in %s, after %dm%02ds\n' "$stage" $((SECONDS / 60)) $((SECONDS % 60))
	fi
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

begin() {
	stage=$1
	printf '== %s\n' "$stage"
}

begin 'what the tests need'
command -v "$go" >/dev/null || { echo 'go is not installed (1.26 or later is needed)' >&2; exit 1; }
scripts/deps.sh test

begin 'vet'
"$go" vet ./...

begin 'unit tests and fuzz seeds'
TRACE_TOOLS=1 "$go" test -count 1 -timeout 10m ./...

# Run in its directory, a test prints as it goes; without -v, what fails is all
# that it prints, besides a line a kernel.
begin 'guests of the lab'
(cd lab && TRACE_VM_TESTS=6.12 "$go" test -run '^TestRun' -count 1 -timeout 10m)

begin 'kernel matrix'
(cd matrix && TRACE_VM_TESTS=1 "$go" test -run '^TestKernels$' -count 1 -timeout 70m)
