#!/bin/bash
# run.sh SUITE STORE [FILTER]: the tests of the engine with the Docker Engine of another Debian: SUITE is
# bookworm (20.10), trixie (26.1) or sid (28.5), STORE overlay2 or containerd (from 28 on), FILTER an
# expression of nextest. Both runtimes are taken by the tests themselves.
# run.sh all [FILTER]: with each of them, and a table at the end.
#
# Needs root, mmdebstrap and cargo-nextest, and what is tested built (make test-engines does it). The
# roots are made once and kept in ${XDG_CACHE_HOME:-/var/cache}/onedock-engines, under a hash of the
# script that makes them.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tree=$(cd "$here/../.." && pwd)

if [ "${1-}" = all ]; then
    shift
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    code=0
    for engine in 'bookworm overlay2' 'trixie overlay2' 'sid overlay2' 'sid containerd'; do
        read -r suite store <<<"$engine"
        echo "==> the engine of $suite with $store"
        "$here/run.sh" "$suite" "$store" "$@" 2>&1 | tee "$folder/log" || code=1
        summary=$(sed -n 's/\x1b\[[0-9;]*m//g; s/^ *Summary //p' "$folder/log")
        printf '%-10s %-10s %s\n' "$suite" "$store" "${summary:-did not run}" >>"$folder/table"
    done
    cat "$folder/table"
    exit "$code"
fi

suite=$1
store=$2
filter=${3:-'package(onedock-node) | package(onedock-tm) | package(onedock-registry) | (package(onedock-tests) & binary(replay))'}

die() {
    echo "tests/engines: $1" >&2
    exit 1
}
[ "$(id -u)" -eq 0 ] || die "the roots are made by root: call it with sudo"
nextest=$(command -v cargo-nextest) || die "install cargo-nextest"

cache=${XDG_CACHE_HOME:-/var/cache}/onedock-engines
roots=$cache/$(cat "$here/root.sh" "$here/../debian.sh" | sha256sum | cut -c1-16)
mkdir -p "$roots"
exec 9>"$cache/lock"
flock 9
for old in "$cache"/*/; do
    [ "${old%/}" = "$roots" ] || rm -rf -- "${old%/}"
done
if [ ! -e "$roots/$suite/whole" ]; then
    echo "the root of $suite is made in $roots"
    "$here/root.sh" "$suite" "$roots/$suite" 9>&-
fi
root=$roots/$suite/root
# What needs an engine with both stores is left out elsewhere.
ignored=default
[ "$suite $store" != 'sid overlay2' ] || ignored=all
install -m 755 "$nextest" "$root/usr/local/bin/cargo-nextest"

state=$(mktemp -d "$roots/state.XXXXXX")
trap 'rm -rf "$state"' EXIT INT TERM HUP
cd "$tree"
cargo metadata --locked --format-version 1 --filter-platform "$(rustc -vV | sed -n 's/^host: //p')" >"$state/metadata.json"
cargo nextest list --workspace --locked --list-type binaries-only --message-format json >"$state/binaries.json"
mkdir -p "$state/own/tmp"
cp "$state/metadata.json" "$state/binaries.json" "$state/own/tmp/"
"$here/enter.sh" "$root" "$state" env \
    CARGO=/bin/true ONEDOCK_TEST_IMAGE_STORE="$store" ONEDOCK_BIN="$tree/dist/bin" \
    cargo-nextest nextest run --cargo-metadata /tmp/metadata.json --binaries-metadata /tmp/binaries.json \
    --no-fail-fast --run-ignored "$ignored" -E "$filter" 9>&-
