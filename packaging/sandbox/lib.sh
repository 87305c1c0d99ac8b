# What the sandbox's scripts share. Sourced by them; they are POSIX sh with `set -eu`.
# shellcheck shell=sh

# The sandbox's own: a range that is seldom in use, and names that say whose they are.
BRIDGE=onedock0
BRIDGE_ADDRESS=10.211.0.1
RANGE=10.211.0
VM_ADDRESS=10.211.0.10
VM_NAME=onedock-sandbox
REGISTRY_PORT=5211
IMAGE_FOLDER=/var/tmp/onedock-sandbox
IMAGE=$IMAGE_FOLDER/web.tar
# What was here before; `make sandbox-down` goes by it.
RECORD=/var/lib/onedock-sandbox

# A self-contained OpenNebula is beneath ONE_LOCATION, a system-wide one is not.
ONE_VAR=${ONE_LOCATION:+$ONE_LOCATION/var}
ONE_VAR=${ONE_VAR:-/var/lib/one}

export DEBIAN_FRONTEND=noninteractive
PATH=${ONE_LOCATION:+$ONE_LOCATION/bin:}$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH
: "$ONE_VAR" "$BRIDGE" "$BRIDGE_ADDRESS" "$RANGE" "$VM_ADDRESS" "$VM_NAME" "$REGISTRY_PORT" "$IMAGE" "$RECORD"

say() {
    printf '==> %s\n' "$1"
}

note() {
    printf '    %s\n' "$1"
}

die() {
    printf 'sandbox: %s\n' "$1" >&2
    exit 1
}

need_root() {
    [ "$(id -u)" -eq 0 ] || die "this needs root: call it with sudo"
}

has() {
    command -v "$1" >/dev/null 2>&1
}

has_systemd() {
    [ -d /run/systemd/system ]
}

# Packages that are not installed yet, of those that are named.
missing_packages() {
    for package in "$@"; do
        status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
        [ "$status" = installed ] || printf '%s ' "$package"
    done
}

# Installs packages. Their services are not started: Debian's docker-registry would take port
# 5000 without a password, and its docker would start before it is configured.
install_packages() {
    wanted=$(missing_packages "$@")
    [ -n "$wanted" ] || return 0
    has apt-get || die "these packages are missing: $wanted; install them with the system's package manager"
    say "installing $wanted"
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT INT TERM HUP
    fi
    log=$(mktemp)
    # One word a package: the names are the scripts' own.
    # shellcheck disable=SC2086
    if ! apt-get install -y -q --no-install-recommends $wanted >"$log" 2>&1; then
        note "bringing the lists of packages up to date"
        if ! { apt-get update -q && apt-get install -y -q --no-install-recommends $wanted; } >"$log" 2>&1; then
            tail -n 20 "$log" >&2
            die "these packages could not be installed: $wanted"
        fi
    fi
    rm -f "$log"
}

# What disks of VMs need (cli/src/setup/node/disks.rs). qemu-storage-daemon is in
# qemu-system-common up to Debian 12, and in qemu-utils later.
install_disk_packages() {
    install_packages e2fsprogs xfsprogs btrfs-progs qemu-utils libarchive-tools fdisk
    has qemu-storage-daemon || install_packages qemu-system-common
}

# Whether an oned is here and answers; one that is only installed does not.
oned_answers() {
    has onevm && id oneadmin >/dev/null 2>&1 &&
        as_oneadmin timeout 10 onevm list --csv >/dev/null 2>&1
}

as_oneadmin() {
    setpriv --reuid oneadmin --regid oneadmin --init-groups -- \
        env HOME=/var/lib/one LC_ALL=C PATH="$PATH" "$@"
}

# The process in a pid file, if it is still one of that name.
running_pid() {
    [ -r "$1" ] || return 1
    pid=$(cat "$1")
    case $pid in '' | *[!0-9]*) return 1 ;; esac
    tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -q -- "$2" || return 1
    printf '%s\n' "$pid"
}

# Waits at most $1 seconds for a command to succeed.
wait_for() {
    tries=$(($1 * 5))
    shift
    while [ "$tries" -gt 0 ]; do
        if "$@"; then return 0; fi
        sleep 0.2
        tries=$((tries - 1))
    done
    return 1
}

# Runs the script again while nobody else does; what it starts does not inherit the lock.
alone() {
    [ -z "${ONEDOCK_SANDBOX_ALONE:-}" ] || return 0
    code=0
    ONEDOCK_SANDBOX_ALONE=yes flock -n -o -E 75 /run/lock/onedock-sandbox "$@" || code=$?
    [ "$code" -ne 75 ] || die "another \`make sandbox\` or \`make sandbox-down\` is at work"
    exit "$code"
}
