#!/bin/sh
# Sees to it that programs are there: those that are named, else all that `make sandbox` calls.
#   packages.sh [PROGRAM...]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=packaging/sandbox/lib.sh
. "$here/lib.sh"
# shellcheck source=packaging/sandbox/programs.sh
. "$here/programs.sh"
need_root

# shellcheck disable=SC2046 # one word a program
[ "$#" -gt 0 ] || set -- $(sandbox_programs)
need_programs "$@"
