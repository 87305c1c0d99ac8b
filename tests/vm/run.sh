#!/bin/bash
# run.sh: the walk (walk.sh) in a virtual machine with Debian's own kernel, systemd, cgroup v2 and
# AppArmor: what almost every user has, and the machine that builds may not. `make test-vm`.
#
# Needs root on a Debian 12 for amd64; installs mmdebstrap, busybox-static, e2fsprogs and an
# ssh client where they are missing. The machine's image is made once (a minute or two) and kept
# in ${XDG_CACHE_HOME:-/var/cache}/onedock-vm, under a hash of the script that makes it.
# ONEDOCK_BIN names another folder of static programs than dist/bin.
set -euo pipefail
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

install_tools() {
    local missing=() pair
    for pair in mmdebstrap:mmdebstrap busybox:busybox-static mkfs.ext4:e2fsprogs ssh:openssh-client; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    echo "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
        { apt-get update -q >/dev/null &&
            apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null; }
}

# The bed's folder; made by the first of several runs, and put in place when it is whole.
make_bed() {
    local cache=${XDG_CACHE_HOME:-/var/cache}/onedock-vm
    bed=$cache/$(sha256sum < "$here/image.sh" | cut -c1-16)
    mkdir -p "$cache"
    exec 9> "$cache/lock"
    flock 9
    # Images of former scripts, unless a machine runs from one, and what killed runs left.
    local old
    for old in "$cache"/*/; do
        old=${old%/}
        [ -d "$old" ] || continue
        machine_clear "$old"
        if [ "$old" != "$bed" ] && ! compgen -G "$old/qemu/vm.*" >/dev/null; then rm -rf -- "$old"; fi
    done
    if [ ! -e "$bed/whole" ]; then
        echo "the virtual machine is made in $bed"
        "$here/image.sh" "$bed" || die "the virtual machine could not be made"
        touch "$bed/whole"
    fi
    # From here on its folder keeps the image from others.
    machine_make_folder "$bed"
    exec 9>&-
}

find_programs() {
    bin=${ONEDOCK_BIN:-$tree/dist/bin}
    local name lacking=
    for name in "${programs[@]}"; do
        [ -x "$bin/$name" ] || lacking=$name
    done
    [ -n "$lacking" ] || return 0
    [ -z "${ONEDOCK_BIN-}" ] || die "$lacking is not in $bin"
    echo "$lacking is not in $bin: the programs are built"
    (cd "$tree" && RUSTFLAGS='-C target-feature=+crt-static' nice cargo build --release --locked \
        --target x86_64-unknown-linux-gnu -p onedock -p onedock-datastore -p onedock-tm \
        -p onedock-vmm -p onedock-node -p onedock-im -p onedock-init) || die "the build failed"
    bin=$tree/target/x86_64-unknown-linux-gnu/release
}

show_logs() {
    machine_ssh 'for log in /var/lib/onedock/onedock.log /var/log/one/onedock.log; do
            [ -f $log ] && echo "== $log" && tail -n 60 $log
        done
        for unit in docker onedock-registry; do
            echo "== journalctl -u $unit"; journalctl -u $unit -n 60 --no-pager -o cat
        done
        echo "== docker ps -a"; docker ps -a --no-trunc
        echo "== dmesg"; dmesg | grep -i apparmor.*DENIED | tail -n 10' || true
}

trap machine_stop EXIT
trap 'exit 130' INT TERM HUP

install_tools
make_bed
find_programs
echo "the virtual machine starts"
machine_start "$bed" || die "the virtual machine did not start"
tar -C "$bin" -c "${programs[@]}" | machine_ssh 'mkdir -p /root/bin && tar -C /root/bin -x'
tar -C "$here" -c walk.sh steps.sh looks.sh opennebula.sh oned.sh disks.sh -C "$tree/cli/tests/golden/7.4" oned.conf |
    machine_ssh 'mkdir -p /root/walk && tar -C /root/walk -x'

# In the background, so that a signal ends it at once.
machine_ssh 'timeout 1800 bash /root/walk/walk.sh /root/bin' &
if wait $!; then
    exit 0
fi
echo
show_logs
exit 1
