#!/bin/bash
# Checks what needs no kernel. All checks run, also when one fails.
set -uo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}
staticcheck=${STATICCHECK:?set by the Makefile: run make check}

most=$((20 * 1000 * 1000)) # bytes of a binary

dir=$(mktemp -d) || exit
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

formatted() {
	local files
	files=$(find . -name '*.go' -exec gofmt -l {} +) || return
	[ -z "$files" ] && return
	printf 'gofmt these:\n%s\n' "$files"
	return 1
}

objects() {
	if ! command -v clang-19 >/dev/null || ! command -v llvm-strip-19 >/dev/null; then
		scripts/deps.sh test || return
	fi
	(cd bpf && "$go" run ./gen -check)
}

# pure vets the packages that need no kernel for another system. The others are
# those that archtest calls impure.
pure() {
	local packages
	packages=$("$go" list ./... | grep -Ev '^fgtrace/(archtest|bench|matrix|lab(/.*)?|cmd/.*|bpf/gen|tracer|internal/bpfsys)$') || return
	# shellcheck disable=SC2086 # a list of packages
	CGO_ENABLED=0 GOOS=darwin "$go" vet $packages
}

# build ARCH builds the static binary and looks at its size.
build() {
	local out=$dir/trace-$1 size
	CGO_ENABLED=0 GOOS=linux GOARCH=$1 "$go" build -trimpath -ldflags='-s -w' -o "$out" ./cmd/trace || return
	size=$(stat -c %s "$out")
	echo "$size bytes"
	[ "$size" -le $most ] || { echo "more than $most"; return 1; }
}

failed=
check() {
	local name=$1
	shift
	printf '== %s\n' "$name"
	"$@" || failed="$failed${failed:+, }$name"
}

check 'gofmt' formatted
check 'vet' "$go" vet ./...
check 'vet for arm64' env CGO_ENABLED=0 GOARCH=arm64 "$go" vet ./...
check 'pure packages on another system' pure
check 'staticcheck' "$go" run "$staticcheck" ./...
check 'BPF objects' objects
# The cache does not know what this test looks at.
check 'imports' "$go" test -count 1 ./archtest
check 'build for amd64' build amd64
check 'build for arm64' build arm64

if [ -n "$failed" ]; then
	echo "make check: FAILED: $failed"
	exit 1
fi
echo 'make check: ok'
