#!/bin/bash
# run.sh TESTER [PROGRAMS]: the release programs in roots of Debian 12 and Debian 13, whose C library
# and name-service modules are not those that the programs were built with. TESTER is the program
# onedock-roots of the crate tests, PROGRAMS the folder of the static programs (dist/bin).
#
# Needs root, mmdebstrap and docker-registry. The roots are made once (a minute or two each) and
# kept in ${XDG_CACHE_HOME:-/var/cache}/onedock-roots, under a hash of the scripts that make them. Each
# run has namespaces of its own and writes to memory: nothing of it is left.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tree=$(cd "$here/../.." && pwd)
tester=$1
programs=${2:-$tree/dist/bin}

die() {
    echo "tests/roots: $1" >&2
    exit 1
}
[ "$(id -u)" -eq 0 ] || die "the roots are made by root: call it with sudo"
command -v mmdebstrap >/dev/null || die "install the package mmdebstrap"

cache=${XDG_CACHE_HOME:-/var/cache}/onedock-roots
roots=$cache/$(cat "$here/root.sh" "$here/../debian.sh" | sha256sum | cut -c1-16)
mkdir -p "$roots"
exec 9> "$cache/lock"
flock 9
for old in "$cache"/*/; do
    [ "${old%/}" = "$roots" ] || rm -rf -- "${old%/}"
done
makers=()
for suite in bookworm trixie; do
    [ ! -e "$roots/$suite/whole" ] || continue
    echo "the root of $suite is made in $roots"
    "$here/root.sh" "$suite" "$roots/$suite" 9>&- &
    makers+=($!)
done
for maker in "${makers[@]}"; do
    wait "$maker" || die "a root could not be made"
done

# The programs write to memory that is mounted here in their own namespace.
mkdir -p "$roots/memory"
failed=
for suite in bookworm trixie; do
    echo "the programs in the root of $suite"
    unshare --net --mount --uts --ipc --pid --fork --kill-child --propagation private -- \
        timeout 120 "$tester" "$roots/$suite/root" "$roots/memory" "$programs" 9>&- ||
        failed="$failed $suite"
done
[ -z "$failed" ] || die "the programs fail in the root of:$failed"
