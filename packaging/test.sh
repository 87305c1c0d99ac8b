#!/bin/sh
# `make test`, once its packages are there: format, lints, scripts, every test, licences and
# advisories, and the walk in a virtual machine. What cannot run says so at the end; what must run
# and cannot is a failure.
set -eu
cd "$(dirname "$0")/.."
# shellcheck source=packaging/sandbox/lib.sh
. packaging/sandbox/lib.sh
PATH=$PATH:${HOME:-/root}/.cargo/bin
summary=$(mktemp)
trap 'rm -f "$summary"' EXIT INT TERM HUP
begun=$(date +%s)

ran() {
    printf '    ran      %s\n' "$1" >>"$summary"
}
did_not_run() {
    printf '    did not  %s: %s\n' "$1" "$2" >>"$summary"
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -E "$@"; fi
}

# Nothing but the documents of a test may speak to an engine or a registry of the caller's.
unset DOCKER_HOST DOCKER_CONTEXT ONE_LOCATION ONEDOCK_CONF

say "scripts"
# Those of the tree alone: no file without a commit is looked at, nor the folders of builds.
git ls-files '*.sh' | xargs shellcheck -x -P SCRIPTDIR -S warning
ran "shellcheck"

say "format"
if cargo fmt --version >/dev/null 2>&1; then
    cargo fmt --check
    ran "cargo fmt"
else
    did_not_run "cargo fmt" "this Rust has no rustfmt"
fi

say "lints"
if cargo clippy --version >/dev/null 2>&1; then
    cargo clippy --workspace --all-targets --locked -- -D warnings
    ran "cargo clippy"
else
    did_not_run "cargo clippy" "Debian's rustc-web comes without it; a Rust of rustup has it"
fi

say "tests"
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
ran "every test of the workspace"

say "the static programs: no name service of the C library, run on Debian 12 and 13"
packaging/no-name-service.sh --self-test
make build
packaging/no-name-service.sh dist/bin/*
ran "packaging/no-name-service.sh: the built programs load no module of the host"
if has apt-get; then
    cargo build --locked -p onedock-tests --bin onedock-roots
    as_root tests/roots/run.sh target/debug/onedock-roots dist/bin
    ran "tests/roots: the built programs in roots of Debian 12 and 13"
else
    did_not_run "tests/roots" "its roots are made with Debian's mmdebstrap"
fi

say "licences and advisories"
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

say "the walk in a virtual machine"
if [ "${TEST_VM:-}" = no ]; then
    did_not_run "make test-vm" "TEST_VM=no"
elif [ "$(uname -m)" != x86_64 ] || ! has apt-get; then
    did_not_run "make test-vm" "it is made for Debian on x86_64"
elif [ ! -x tests/vm/run.sh ]; then
    did_not_run "make test-vm" "tests/vm/run.sh is not in this tree"
else
    make test-vm
    ran "make test-vm"
fi

say "all is well, after $((($(date +%s) - begun) / 60)) min"
cat "$summary"
