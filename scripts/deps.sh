#!/bin/sh
# Installs the Debian packages that the project needs.
#
#   scripts/deps.sh [host|demo|test|libpcap]...     (without a group: demo)
#
# Packages that are there are left alone. MIRROR=URL takes them from that
# Debian mirror instead of the machine's own sources; where the machine is not
# Debian's itself, only kernels come from it.
set -eu

say() { printf 'deps: %s\n' "$*"; }
die() { printf 'deps: %s\n' "$*" >&2; exit 1; }

host="iputils-ping"
demo="ca-certificates qemu-system-x86 xz-utils dpkg debian-archive-keyring"
test="$demo qemu-system-arm busybox-static clang-19 llvm-19 jq git make tshark tcpdump"
libpcap="clang-19 lld-19 wasi-libc libclang-rt-19-dev-wasm32 bison flex curl ca-certificates"

[ $# -gt 0 ] || set -- demo
want=
for group in "$@"; do
	case $group in
	host) want="$want $host" ;;
	demo) want="$want $demo" ;;
	test) want="$want $test" ;;
	libpcap) want="$want $libpcap" ;;
	*) die "unknown group $group: there are host, demo, test and libpcap" ;;
	esac
done

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
	die "this is not a Debian machine (no apt-get); install what is in these packages:$want"
fi

missing=
for pkg in $want; do
	case " $missing " in *" $pkg "*) continue ;; esac
	status=$(dpkg-query -W -f '${db:Status-Status}' "$pkg" 2>/dev/null || true)
	[ "$status" = installed ] || missing="$missing $pkg"
done
if [ -z "$missing" ]; then
	say "all there:$want"
	exit 0
fi

# as_root COMMAND... runs it as root.
if [ "$(id -u)" -eq 0 ]; then
	as_root() { "$@"; }
elif command -v sudo >/dev/null; then
	as_root() { sudo "$@"; }
else
	die "not root and no sudo; run as root: apt-get install$missing"
fi

# Sources of our own where a mirror is given: the machine's stay as they are,
# and so do its lists.
id=$(. /etc/os-release && printf %s "${ID:-}")
if [ -n "${MIRROR:-}" ] && [ "$id" = debian ]; then
	case $MIRROR in
	*[[:space:]]* | *[][]*) die "MIRROR is not a URL: $MIRROR" ;;
	*:/*) ;;
	*) die "MIRROR is not a URL: $MIRROR" ;;
	esac
	codename=$(. /etc/os-release && printf %s "${VERSION_CODENAME:-}")
	[ -n "$codename" ] || die "/etc/os-release names no release to take from $MIRROR; install with other means:$missing"
	keyring=
	for k in /usr/share/keyrings/debian-archive-keyring.gpg /usr/share/keyrings/debian-archive-keyring.pgp; do
		[ -z "$keyring" ] && [ -e "$k" ] && keyring=$k
	done
	[ -n "$keyring" ] || die "the archive's keys are missing; install debian-archive-keyring first"
	dir=$(mktemp -d)
	trap 'as_root rm -rf "$dir"' EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	chmod 755 "$dir"
	mkdir -p "$dir/lists/partial"
	printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$MIRROR" "$codename" >"$dir/sources.list"
	set -- -o "Dir::Etc::sourcelist=$dir/sources.list" -o Dir::Etc::sourceparts=/dev/null \
		-o "Dir::State::lists=$dir/lists"
else
	set --
fi

say "installing:$missing"
as_root apt-get "$@" -q update
# shellcheck disable=SC2086 # a list of names
as_root env DEBIAN_FRONTEND=noninteractive apt-get "$@" -q -y --no-install-recommends install $missing
say "done"
