#!/bin/sh
# `make test-deps`: every package that the checks and tests call, on a bare Debian 12. Nothing that
# is installed here is started: the tests start what they need and end it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=packaging/sandbox/lib.sh
. "$here/sandbox/lib.sh"
need_root

# engine and runtimes; registry; images; network; OpenNebula's network drivers are Ruby;
# rights; CDs; roots of other Debians
install_packages docker.io crun runc docker-registry apache2-utils openssl \
    busybox-static tar gzip xz-utils curl \
    iptables ipset iproute2 iputils-ping procps util-linux \
    ruby sudo rsync openssh-client openssh-server shellcheck git make \
    genisoimage xorriso mmdebstrap
install_disk_packages
"$here/sandbox/tools.sh"

# Set-ups give files to OpenNebula's user; the tests' are its, too.
if ! id oneadmin >/dev/null 2>&1; then
    say "making the user oneadmin, as OpenNebula's packages do"
    groupadd --system oneadmin 2>/dev/null || true
    useradd --system --gid oneadmin --home-dir /var/lib/one --shell /bin/bash oneadmin
fi
