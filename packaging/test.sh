#!/bin/sh
# `make test`, once its packages are there: scripts, format, lints, every test, those of the engine once more
# with Debian unstable's, licences and advisories; then, with the static programs, the README's first command
# on a copy of this machine, and the walk in a virtual machine with Debian 12 (with the sandbox, in both
# releases: make test-vm-all). What cannot run is listed at the end, with how long each part took; what must
# run and cannot is a failure.
set -eu
cd "$(dirname "$0")/.."
# shellcheck source=packaging/sandbox/lib.sh
. packaging/sandbox/lib.sh
PATH=$PATH:${HOME:-/root}/.cargo/bin
summary=$(mktemp)
trap 'rm -f "$summary"' EXIT INT TERM HUP
begun=$(date +%s)

# Each part reports how long it took.
part_begun=$begun
part() {
    say "$1 (after $((($(date +%s) - begun) / 60)) min)"
    part_begun=$(date +%s)
}
ran() {
    printf '    ran      %5d s  %s\n' "$(($(date +%s) - part_begun))" "$1" >>"$summary"
    part_begun=$(date +%s)
}
did_not_run() {
    printf '    did not           %s: %s\n' "$1" "$2" >>"$summary"
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -E "$@"; fi
}

# Nothing but the documents of a test may speak to an engine or a registry of the caller's.
unset DOCKER_HOST DOCKER_CONTEXT ONE_LOCATION ONEDOCK_CONF

part "scripts"
# Those of the tree alone: no uncommitted file is checked, nor the folders of builds.
git ls-files '*.sh' | xargs shellcheck -x -P SCRIPTDIR -S warning
ran "shellcheck"

part "format"
if cargo fmt --version >/dev/null 2>&1; then
    cargo fmt --check
    ran "cargo fmt"
else
    did_not_run "cargo fmt" "this Rust has no rustfmt"
fi

part "lints"
if cargo clippy --version >/dev/null 2>&1; then
    cargo clippy --workspace --all-targets --locked -- -D warnings
    ran "cargo clippy"
else
    did_not_run "cargo clippy" "Debian's rustc-web comes without it; a Rust of rustup has it"
fi

part "the static programs: no name service of the C library, run on Debian 12 and 13"
packaging/no-name-service.sh --self-test
make build
ran "make build"
packaging/no-name-service.sh dist/bin/*
ran "packaging/no-name-service.sh: the built programs load no module of the host"
if has apt-get; then
    cargo build --locked -p onedock-tests --bin onedock-roots
    as_root tests/roots/run.sh target/debug/onedock-roots dist/bin
    ran "tests/roots: the built programs in roots of Debian 12 and 13"
else
    did_not_run "tests/roots" "its roots are made with Debian's mmdebstrap"
fi

part "tests; the recorded calls of OpenNebula are replayed to the static programs"
export ONEDOCK_BIN="$PWD/dist/bin"
# Built by the caller, run by root, so that no file of the build belongs to root afterwards.
if [ "$(id -u)" -ne 0 ]; then
    triple=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
    export "CARGO_TARGET_${triple}_RUNNER=sudo -E env PATH=$PATH"
fi
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --workspace --locked --no-fail-fast
    cargo test --workspace --locked --doc
else
    cargo test --workspace --locked --no-fail-fast
fi
unset ONEDOCK_BIN
ran "every test of the workspace"

# All engines with all tests of theirs: make test-engines.
part "the engine of Debian unstable, with both of its image stores"
if ! has apt-get; then
    did_not_run "tests/engines" "its roots are made with Debian's mmdebstrap"
elif ! cargo nextest --version >/dev/null 2>&1; then
    did_not_run "tests/engines" "cargo-nextest is not installed"
else
    as_root env "PATH=$PATH" tests/engines/run.sh sid containerd \
        'package(onedock-node) | package(onedock-tm) | (package(onedock-registry) & binary(engine))'
    as_root env "PATH=$PATH" tests/engines/run.sh sid overlay2 'test(from_one_image_store)'
    ran "tests/engines: node, tm and registry with Docker Engine 28 and containerd's image store"
fi

part "licences and advisories"
if ! cargo deny --version >/dev/null 2>&1; then
    did_not_run "cargo deny" "it is not installed; cargo install --locked cargo-deny, then make deny"
else
    cargo deny --locked check bans licenses sources
    ran "cargo deny: licences, sources, bans"
    if cargo deny --locked fetch db >/dev/null 2>&1; then
        cargo deny --locked check advisories
        ran "cargo deny: advisories"
    else
        did_not_run "cargo deny: advisories" "their database cannot be fetched from here"
    fi
fi

part "make sandbox and make sandbox-down, on a copy of this machine"
make test-sandbox
ran "make test-sandbox: the README's first command, compared before and after"

# The sandbox as well, and both in both releases: make test-vm-all.
part "a virtual machine with Debian's own kernel"
if [ "$(uname -m)" != x86_64 ] || ! has apt-get; then
    did_not_run "make test-vm" "it is made for Debian on x86_64"
else
    make test-vm RELEASE=bookworm
    ran "make test-vm RELEASE=bookworm: the walk on Debian 12 as its installer leaves it"
fi

say "everything passed, after $((($(date +%s) - begun) / 60)) min"
cat "$summary"
