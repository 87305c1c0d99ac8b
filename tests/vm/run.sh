#!/bin/bash
# run.sh walk|sandbox [RELEASE]: the walk (walk.sh), or the README's first command and its undoing
# (../sandbox/check.sh), in a virtual machine with a Debian as its installer leaves it: Debian's own
# kernel, systemd, cgroup v2 and AppArmor, what almost every user has, and the machine that builds may
# not. RELEASE is bookworm, the default, or trixie. `make test-vm`, `make test-vm-sandbox`.
#
# Needs root on a Debian for amd64; installs mmdebstrap, busybox-static, e2fsprogs and an
# ssh client where they are missing. The machine's image is made once (two or three minutes) and kept
# in ${XDG_CACHE_HOME:-/var/cache}/onedock-vm, under a hash of the scripts that make it.
# ONEDOCK_BIN names another folder of static programs than dist/bin.
set -euo pipefail
shopt -s extglob
here=$(cd "$(dirname "$0")" && pwd)
tree=$(cd "$here/../.." && pwd)
. "$here/machine.sh"

programs=(onedock onedock-datastore onedock-tm onedock-vmm onedock-runtime onedock-node
    onedock-im onedock-init)

die() {
    echo "test-vm: $1" >&2
    exit 1
}

[ "$(id -u)" -eq 0 ] || die "the virtual machine is made by root: call it with sudo"
[ "$(uname -m)" = x86_64 ] || die "the virtual machine is an x86_64; this machine is a $(uname -m)"

what=${1-walk}
release=${2-bookworm}
case $what in walk | sandbox) ;; *) die "usage: run.sh walk|sandbox [bookworm|trixie]" ;; esac

# The folder of the machine's image, which the first of several runs makes.
make_image() {
    local cache=${XDG_CACHE_HOME:-/var/cache}/onedock-vm
    local hash
    hash=$(cat "$here/image.sh" "$tree"/packaging/sandbox/{lib,programs,packages}.sh | sha256sum | cut -c1-12)
    image=$cache/$release-$hash
    mkdir -p "$cache"
    exec 9> "$cache/lock"
    flock 9
    # Images of former scripts, unless a machine runs from one, and what killed runs left.
    local old
    for old in "$cache"/*/; do
        old=${old%/}
        [ -d "$old" ] || continue
        machine_clear "$old"
        if [[ $old != */@(bookworm|trixie)-$hash ]] && ! compgen -G "$old/qemu/vm.*" >/dev/null; then rm -rf -- "$old"; fi
    done
    if [ ! -e "$image/whole" ]; then
        echo "making the virtual machine in $image"
        "$here/image.sh" "$image" "$release" || die "the virtual machine could not be made"
        touch "$image/whole"
    fi
    # From here on its folder keeps the image from others.
    machine_make_folder "$image"
    exec 9>&-
}

find_programs() {
    bin=${ONEDOCK_BIN:-$tree/dist/bin}
    local name missing=
    for name in "${programs[@]}"; do
        [ -x "$bin/$name" ] || missing=$name
    done
    [ -n "$missing" ] || return 0
    [ -z "${ONEDOCK_BIN-}" ] || die "$missing is not in $bin"
    echo "$missing is not in $bin: building the programs"
    make -C "$tree" build || die "the build failed"
    bin=$tree/dist/bin
}

show_logs() {
    machine_ssh 'for log in /var/lib/onedock/onedock.log /var/log/one/onedock.log; do
            [ -f $log ] && echo "== $log" && tail -n 60 $log
        done
        for unit in docker onedock-registry onedock-registry-proxy; do
            echo "== journalctl -u $unit"; journalctl -u $unit -n 60 --no-pager -o cat
        done
        echo "== docker ps -a"; docker ps -a --no-trunc
        echo "== dmesg"; dmesg | grep -i apparmor.*DENIED | tail -n 10' || true
}

trap machine_stop EXIT
trap 'exit 130' INT TERM HUP

"$tree/packaging/sandbox/packages.sh" mmdebstrap busybox mkfs.ext4 ssh ssh-keygen
# It is all that the machine boots with before its root is mounted.
if ldd "$(command -v busybox)" >/dev/null 2>&1; then
    die "busybox needs libraries here; install busybox-static instead (apt-get install busybox-static)"
fi
make_image
find_programs
echo "starting the virtual machine ($release)"
machine_start "$image" || die "the virtual machine did not start"
machine_ssh 'mkdir -p /root/tree/dist/bin'
tar -C "$bin" -c "${programs[@]}" | machine_ssh 'tar -C /root/tree/dist/bin -x'
tar -C "$tree" -c packaging tests/vm tests/sandbox cli/tests/golden/7.4/oned.conf | machine_ssh 'tar -C /root/tree -x'

# In the background, so that a signal ends it at once.
case $what in
walk) machine_ssh 'timeout 1800 bash /root/tree/tests/vm/walk.sh /root/tree/dist/bin' & ;;
sandbox)
    machine_ssh "cd /root/tree && UP='packaging/sandbox/up.sh dist/bin' DOWN='packaging/sandbox/down.sh dist/bin' \
        timeout 1200 bash tests/sandbox/check.sh whole" &
    ;;
esac
if wait $!; then
    exit 0
fi
echo
show_logs
exit 1
