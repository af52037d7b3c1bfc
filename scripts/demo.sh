#!/bin/bash
# Builds trace and shows its main job.
#
#   scripts/demo.sh            on a kernel from 6.19 on, in a VM
#   scripts/demo.sh --host     on the running kernel
#
# K=SERIES names the kernel. MIRROR=URL is where packages and kernels come from
# instead of the mirror that the machine's own apt sources name.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'demo: %s\n' "$*"; }
die() { printf 'demo: %s\n' "$*" >&2; exit 1; }

host=
while [ $# -gt 0 ]; do
	case $1 in
	--host) host=1 ;;
	-h | --help) sed -n '2,/^set/{/^#/{s/^# \{0,1\}//;p;}}' "$0"; exit 0 ;;
	*) die "unknown argument $1: there is --host" ;;
	esac
	shift
done

command -v "${GO:-go}" >/dev/null || die "go is not installed (1.26 or later is needed)"

session=(-k icmp_rcv --output-stack -- ping -c 1 127.0.0.1)

# show COMMAND... prints a command, then runs it.
show() {
	printf '\n$'
	printf ' %s' "$@"
	printf '\n'
	"$@"
}

if [ -n "$host" ]; then
	command -v ping >/dev/null || scripts/deps.sh host
	make --no-print-directory build
	as_root=()
	if [ "$(id -u)" -ne 0 ]; then
		command -v sudo >/dev/null || die "tracing needs root, or CAP_BPF, CAP_PERFMON and CAP_SYSLOG; there is no sudo"
		as_root=(sudo)
	fi
	show "${as_root[@]}" ./trace "${session[@]}"
	exit
fi

scripts/deps.sh demo
make --no-print-directory build

mirror=()
[ -z "${MIRROR:-}" ] || mirror=(--mirror "$MIRROR")

# series prints the kernels of the archive from 6.19 on: 7.2 if it is there,
# else the newest.
series() {
	./trace lab "${mirror[@]}" list | awk '
		$1 ~ /^[0-9]+\.[0-9]+$/ {
			split($1, v, ".")
			if (v[1] > 6 || v[1] == 6 && v[2] >= 19) { newest = $1; if ($1 == "7.2") found = $1 }
		}
		END { print found ? found : newest }'
}
kernel=${K:-$(series)}
[ -n "$kernel" ] || die "the archive has no kernel from 6.19 on: ./trace lab list; K=SERIES takes another one"
show ./trace lab run -K "$kernel" "${mirror[@]}" -- "${session[@]}"
