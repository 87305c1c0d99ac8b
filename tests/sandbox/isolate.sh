#!/bin/bash
# isolate.sh COMMAND...: runs a command on a copy of this machine, as root: its files, packages and
# kernel, with a network, processes and services of its own and without what a set-up, a sandbox
# or an engine has left here. Nothing that the command writes to /etc, /usr, /var, /root or /run reaches
# the machine; the checkout is the machine's own. There is no systemd in it and no route to anywhere.
set -euo pipefail

if [ "${1-}" != --inside ]; then
    [ "$(id -u)" -eq 0 ] || { echo "isolate.sh: this needs root" >&2; exit 1; }
    # The machine ends with this script, and all its processes with it.
    exec unshare --mount --net --uts --ipc --pid --fork --kill-child --mount-proc \
        --propagation private "$(readlink -f "$0")" --inside "$@"
fi
shift

state=$(mktemp -d)
mount -t tmpfs -o mode=755 state "$state"
hostname copy
ip link set lo up

# The checkout stays the machine's own, wherever it is.
tree=$(cd "$(dirname "$0")/../.." && pwd)
mkdir "$state/tree"
mount --bind "$tree" "$state/tree"
for folder in etc usr var root; do
    mkdir "$state/$folder" "$state/$folder.work"
    mount -t overlay -o "lowerdir=/$folder,upperdir=$state/$folder,workdir=$state/$folder.work" overlay "/$folder"
done

# An engine cannot keep its layers on an overlay: /var/lib is a file system of its own with the
# machine's folders in it, but for those that an engine and the set-up make.
mkdir "$state/lib"
mount --bind /var/lib "$state/lib"
mount -t tmpfs -o mode=755 lib /var/lib
for entry in "$state"/lib/*; do
    name=${entry##*/}
    case $name in
    docker | containerd | one | onedock*) continue ;;
    esac
    if [ -d "$entry" ] && [ ! -L "$entry" ]; then
        mkdir "/var/lib/$name"
        mount --bind "$entry" "/var/lib/$name"
    else
        cp -a "$entry" /var/lib/
    fi
done
mount -t tmpfs -o mode=755 run /run
mkdir -m 1777 /run/lock
mount -t tmpfs -o mode=1777 tmp /var/tmp

case $tree in
/var/* | /usr/* | /root/*)
    mkdir -p "$tree"
    mount --bind "$state/tree" "$tree"
    ;;
esac

# /sys shows the network in which it was mounted. Where a controller of cgroup v1 is left in the v2
# tree (hugetlb), crun refuses to run until that is mounted in v1, too.
mkdir "$state/sys"
mount -t sysfs sys "$state/sys"
if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then
    mount --rbind /sys/fs/cgroup "$state/sys/fs/cgroup"
else
    mount -t tmpfs -o mode=755 cgroup "$state/sys/fs/cgroup"
    for entry in /sys/fs/cgroup/*; do
        if [ -L "$entry" ]; then
            cp -a "$entry" "$state/sys/fs/cgroup/"
        else
            mkdir "$state/sys/fs/cgroup/${entry##*/}"
            mount --rbind "$entry" "$state/sys/fs/cgroup/${entry##*/}"
        fi
    done
    if [ ! -e /sys/fs/cgroup/hugetlb ]; then
        mkdir "$state/sys/fs/cgroup/hugetlb"
        mount -t cgroup -o hugetlb cgroup "$state/sys/fs/cgroup/hugetlb" 2>/dev/null ||
            rmdir "$state/sys/fs/cgroup/hugetlb"
    fi
fi
mount --rbind "$state/sys" /sys

# From nothing: what a set-up of this machine has made is not on its copy.
# (/etc/docker itself is a package's.)
rm -rf /etc/onedock /etc/docker/daemon.json* /etc/docker/certs.d /etc/docker/key.json /usr/lib/onedock /var/log/onedock-* /var/log/one
find /etc -mindepth 2 -name '*onedock*' -delete
userdel oneadmin 2>/dev/null || true
groupdel oneadmin 2>/dev/null || true

code=0
"$@" || code=$?
exit "$code"
