package lab

import (
	"context"
	"os/exec"
	"strings"
)

// applets are busybox' programs, as it says itself where it can run here (and
// busybox of another architecture can't), otherwise those that Debian's static
// one is known to have and a test may want.
func applets(ctx context.Context, busybox string, native bool) []string {
	if native {
		if out, err := exec.CommandContext(ctx, busybox, "--list").Output(); err == nil {
			names := strings.Fields(string(out))
			keep := names[:0]
			for _, n := range names {
				if n != "busybox" && !strings.Contains(n, "/") {
					keep = append(keep, n)
				}
			}
			return keep
		}
	}
	return strings.Fields(`[ ash awk basename cat chgrp chmod chown chroot cksum cmp cp cut date dd
df dirname dmesg du echo egrep env expr false fgrep find free grep gunzip gzip head hexdump
hostname id ifconfig insmod ip kill killall ln logger ls lsmod md5sum mkdir mkfifo mknod mktemp
modprobe mount mv nc nice nproc nslookup od paste pidof ping ping6 poweroff printf ps pwd
readlink realpath reboot renice rm rmdir rmmod route sed seq setsid sh sha256sum sleep sort
stat strings stty su sync sysctl tac tail tar taskset tee telnet test time timeout top touch tr true
truncate tty umount uname uniq unxz usleep uudecode uuencode vconfig vi watch wc wget which
whoami xargs xxd xzcat yes zcat`)
}
