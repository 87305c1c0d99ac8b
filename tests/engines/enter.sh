#!/bin/bash
# enter.sh ROOT STATE COMMAND...: runs a command in a root of another Debian, as root: with its programs
# and libraries, a network, processes and mounts of its own, this machine's kernel and devices, and
# the checkout at its own path. What it writes outside the checkout goes to the folder STATE, which is the
# caller's to make and remove.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tree=$(cd "$here/../.." && pwd)

if [ "${1-}" != --inside ]; then
    [ "$(id -u)" -eq 0 ] || { echo "enter.sh: this needs root" >&2; exit 1; }
    exec unshare --mount --net --uts --ipc --pid --fork --kill-child --mount-proc \
        --propagation private "$here/enter.sh" --inside "$@"
fi
lower=$2
state=$3
shift 3

hostname engines
ip link set lo up
mkdir "$state/upper" "$state/work" "$state/root"
mount -t overlay -o "lowerdir=$lower,upperdir=$state/upper,workdir=$state/work" overlay "$state/root"
root=$state/root

mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=755 run "$root/run"
mkdir -m 1777 "$root/run/lock"
# An engine cannot keep its layers on an overlay, nor extended attributes of users in memory.
for folder in tmp var/tmp var/lib/docker var/lib/containerd; do
    mkdir -p "$state/own/$folder" "$root/$folder"
    mount --bind "$state/own/$folder" "$root/$folder"
done
chmod 1777 "$root/tmp" "$root/var/tmp"
mkdir -p "$root$tree"
mount --bind "$tree" "$root$tree"

# /sys shows the network in which it was mounted. Where a controller of cgroup v1 is left in the v2
# tree (hugetlb), crun refuses to run until that is mounted in v1, too.
mount -t sysfs sys "$root/sys"
cgroup=$root/sys/fs/cgroup
if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then
    mount --rbind /sys/fs/cgroup "$cgroup"
else
    mount -t tmpfs -o mode=755 cgroup "$cgroup"
    for entry in /sys/fs/cgroup/*; do
        if [ -L "$entry" ]; then
            cp -a "$entry" "$cgroup/"
        else
            mkdir "$cgroup/${entry##*/}"
            mount --rbind "$entry" "$cgroup/${entry##*/}"
        fi
    done
    if [ ! -e /sys/fs/cgroup/hugetlb ]; then
        mkdir "$cgroup/hugetlb"
        mount -t cgroup -o hugetlb cgroup "$cgroup/hugetlb" 2>/dev/null || rmdir "$cgroup/hugetlb"
    fi
fi

cd "$root"
mkdir -p .former
pivot_root . .former
umount -l /.former
cd "$tree"
exec env -i HOME=/root TERM=dumb PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 "$@"
