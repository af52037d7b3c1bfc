#!/bin/sh
# Makes ../libpcap.wasm: libpcap's filter compiler, unmodified, from Debian's source
# package, with shim.c around it; and what runs filters, with judge.c, for tests. The
# same input gives the same bytes.
#
#   wasm/build.sh [OUTPUT [JUDGE]]
#
# Needs the packages of scripts/deps.sh libpcap: `make libpcap` runs both.
# MIRROR=URL takes the source from that Debian mirror instead of the machine's own.
set -eu

version=1.10.3
sum=2a8885c403516cf7b0933ed4b14d6caa30e02052489ebd414dc75ac52e7559e6

here=$(cd "$(dirname "$0")" && pwd)
output=$(realpath -m "${1:-$here/../libpcap.wasm}")
judge=$(realpath -m "${2:-$here/../../pcaptest/bpf_filter.wasm}")

mirror=${MIRROR:-$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | sed -n 's/^URIs: *//p; s/^deb \(\[[^]]*\] \)\?\([^ ]*\).*/\2/p' | grep -v security | head -n 1)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
curl -sSfL -o libpcap.tar.gz "${mirror%/}/pool/main/libp/libpcap/libpcap_$version.orig.tar.gz"
echo "$sum  libpcap.tar.gz" | sha256sum -c --quiet
tar xzf libpcap.tar.gz --strip-components 1

sed 's/@REENTRANT_PARSER@/%define api.pure/' grammar.y.in >grammar.y
bison -Wno-deprecated -l -p pcap_ -o grammar.c -d grammar.y
flex -L -P pcap_ --header-file=scanner.h --nounput -o scanner.c scanner.l
cp "$here/shim.c" "$here/judge.c" .

# link OUTPUT SOURCES...
link() {
	out=$1
	shift
	clang-19 --target=wasm32-wasi -Oz -ffunction-sections -fdata-sections -w \
		-DHAVE_CONFIG_H -I"$here" -I"$here/include" -I. \
		-mexec-model=reactor -Wl,--gc-sections -Wl,--strip-all -Wl,--no-entry \
		-o "$out" "$@"
	chmod 644 "$out"
}
link "$output" gencode.c optimize.c grammar.c scanner.c nametoaddr.c fmtutils.c shim.c
link "$judge" bpf_filter.c judge.c
cp LICENSE "$(dirname "$output")/LICENSE.libpcap"
sha256sum "$output" "$judge"
