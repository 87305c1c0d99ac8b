#!/bin/sh
# Sees to it that there are a C compiler and a Rust that is new enough. Debian's rustc is years
# old; its packages rustc-web and cargo-web are kept current for its browsers.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=packaging/sandbox/lib.sh
. "$here/lib.sh"
# shellcheck source=packaging/sandbox/programs.sh
. "$here/programs.sh"
need_root
PATH=$PATH:${HOME:-/root}/.cargo/bin

needed=$(sed -n 's/^rust-version = "\([0-9.]*\)".*/\1/p' "$here/../../Cargo.toml")

new_enough() {
    found=$("$1" --version 2>/dev/null | cut -d ' ' -f 2 | cut -d - -f 1)
    [ -n "$found" ] && [ "$(printf '%s\n%s\n' "$needed" "$found" | sort -V | head -n 1)" = "$needed" ]
}

need_programs gcc update-ca-certificates
# The static programs are linked with the C library's archive, which is a file and no program.
has_static_c_library() {
    [ -e "$(gcc -print-file-name=libc.a)" ]
}
has_static_c_library || install_packages libc6-dev
if ! new_enough cargo || ! new_enough rustc; then
    install_packages rustc-web cargo-web rustfmt-web
    hash -r
    new_enough rustc ||
        die "Rust $needed or newer is needed, and Debian's rustc-web is $(rustc --version); install it with rustup (https://rustup.rs)"
fi
