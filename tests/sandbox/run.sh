#!/bin/bash
# run.sh [CASE...]: the README's first command, `make sandbox`, and `make sandbox-down`, on a copy of this
# machine (isolate.sh), with the comparison of check.sh; all of its cases when none is named. The machine
# itself, an engine and a sandbox that it may have are left alone. Needs root; the programs are built
# by `make build` before.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
export CONTAINERS=$work/containers
: >"$CONTAINERS"

# A copy that was killed ends with all its processes; their control groups are the machine's.
tidy() {
    sort -u "$CONTAINERS" | while read -r id; do
        find /sys/fs/cgroup -maxdepth 4 -name "*$id*" 2>/dev/null | while read -r group; do
            find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
        done
    done
    rm -rf "$work"
}
trap tidy EXIT
trap 'exit 130' INT TERM HUP

# As who has called: the commands are the README's, and what they build is the caller's.
if [ -n "${SUDO_USER-}" ] && [ "$SUDO_USER" != root ]; then
    home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
    as_caller="runuser -u $SUDO_USER -- env HOME=$home PATH=$PATH:$home/.cargo/bin"
    export UP="$as_caller make sandbox" DOWN="$as_caller make sandbox-down"
fi
[ "$#" -gt 0 ] || set -- whole killed engine
for name; do
    "$here/isolate.sh" "$here/check.sh" "$name"
done
