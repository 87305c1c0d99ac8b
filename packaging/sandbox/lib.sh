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

# Whether an oned is here and answers; one that is only installed does not.
oned_answers() {
    has onevm && id oneadmin >/dev/null 2>&1 &&
        as_oneadmin timeout 10 onevm list --csv >/dev/null 2>&1
}

as_oneadmin() {
    setpriv --reuid oneadmin --regid oneadmin --init-groups -- \
        env HOME=/var/lib/one LC_ALL=C PATH="$PATH" "$@"
}

# Whether a process lives on this machine itself: an engine of a container, of a test or of a second
# host in namespaces has the same names and is none of the sandbox's.
is_of_this_machine() {
    for namespace in mnt pid; do
        [ "$(readlink "/proc/$1/ns/$namespace" 2>/dev/null)" = "$(readlink "/proc/self/ns/$namespace")" ] || return 1
    done
}

# The process in a pid file, if it is still a program of that name on this machine: $1 the file,
# $2 the name, $3 a word that its command line must have.
running_pid() {
    [ -r "$1" ] || return 1
    pid=$(cat "$1")
    case $pid in '' | *[!0-9]*) return 1 ;; esac
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ] && is_of_this_machine "$pid" || return 1
    [ -z "${3:-}" ] || tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qxF -- "$3" || return 1
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
