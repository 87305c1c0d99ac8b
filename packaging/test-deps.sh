#!/bin/sh
# `make test-deps`: every program that the checks and tests call, on a bare Debian. Nothing that
# is installed here is started: the tests start what they need and end it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=packaging/sandbox/lib.sh
. "$here/sandbox/lib.sh"
# shellcheck source=packaging/sandbox/programs.sh
. "$here/sandbox/programs.sh"
need_root

# What the sandbox calls; further runtimes, archives and CDs; OpenNebula's network drivers are Ruby;
# the checks themselves, and the roots of other Debians and the virtual machines.
# shellcheck disable=SC2046 # one word a program
need_programs $(sandbox_programs) runc htpasswd gzip xz ping blkid shellcheck git make ar \
    genisoimage xorriso mmdebstrap ssh-keygen ovs-vswitchd nft
"$here/sandbox/tools.sh"

# Set-ups give files to OpenNebula's user; the tests' are its, too.
if ! id oneadmin >/dev/null 2>&1; then
    say "making the user oneadmin, as OpenNebula's packages do"
    groupadd --system oneadmin 2>/dev/null || true
    useradd --system --gid oneadmin --home-dir /var/lib/one --shell /bin/bash oneadmin
fi
