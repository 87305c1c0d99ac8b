#!/bin/bash
# docker_ce.sh [RELEASE...]: a Debian that has Docker from docker.com keeps it. In a root of each
# release, with packages that have the names and relations of docker.com's, the sandbox's programs are
# asked for; what is there is used, and nothing is removed. Needs root, mmdebstrap and dpkg-deb; the
# roots are thrown away.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tree=$(cd "$here/../.." && pwd)
# shellcheck source=tests/debian.sh
. "$here/../debian.sh"
# The roots are in memory, in mounts that nobody else sees: dpkg waits for a disk at every file.
if [ "${1-}" != --inside ]; then
    exec unshare --mount --propagation private "$(readlink -f "$0")" --inside "$@"
fi
shift
work=$(mktemp -d)
trap 'umount -l "$work"; rmdir "$work"' EXIT
trap 'exit 130' INT TERM HUP
mount -t tmpfs -o mode=755 roots "$work"
export TMPDIR=$work

# package NAME PROGRAM RELATIONS: one with a program that does nothing.
package() {
    mkdir -p "$work/$1/DEBIAN" "$work/$1/usr/bin"
    printf '#!/bin/sh\necho "%s, of the test"\n' "$2" >"$work/$1/usr/bin/$2"
    chmod 755 "$work/$1/usr/bin/$2"
    printf 'Package: %s\nVersion: 5:28.5.2-1\nArchitecture: all\nMaintainer: test <test@localhost>\nDescription: test\n%s\n' \
        "$1" "$3" >"$work/$1/DEBIAN/control"
    dpkg-deb --root-owner-group -b "$work/$1" "$work/debs" >/dev/null
}

# The relations are those of docker.com's packages.
mkdir "$work/debs"
package containerd.io containerd 'Provides: containerd, runc
Conflicts: containerd, runc
Replaces: containerd, runc'
package docker-ce-cli docker 'Conflicts: docker (<< 1.5~), docker-engine, docker.io, lxc-docker
Replaces: docker-engine'
package docker-ce dockerd 'Depends: containerd.io
Conflicts: docker (<< 1.5~), docker-engine, docker.io, lxc-docker
Replaces: docker-engine'

cat >"$work/inside.sh" <<'INSIDE'
set -u
cd /root/test
. ./steps.sh
installed() { dpkg-query -W -f '${Package} ' docker-ce docker-ce-cli containerd.io 2>/dev/null; dpkg-query -W -f '${db:Status-Status}\n' docker-ce; }
not_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" != installed ]; }
# refused WORDS: the command fails, and its words are shown.
refused() { ! "$@" 2>&1; }
say "Docker from docker.com on $(. /etc/os-release; echo "$PRETTY_NAME")"
dpkg -i debs/*.deb >/dev/null || exit 1
# What makes the root has put one there.
rm -f /usr/sbin/policy-rc.d
matches "docker.io would cost it" '^Remv docker-ce ' apt-get install -s docker.io
holds "the programs are asked for" sandbox/packages.sh dockerd docker crun ip curl
is "docker-ce, docker-ce-cli and containerd.io are there" 'containerd.io docker-ce docker-ce-cli installed' installed
holds "docker.io is not" not_installed docker.io
holds "crun has come" crun --version
say "Its client is missing"
dpkg -r docker-ce-cli >/dev/null
matches "the client is refused, with the reason" 'apt would remove .*docker-ce.*nothing was installed' \
    refused sandbox/packages.sh docker
is "docker-ce is there" 'containerd.io docker-ce installed' installed
holds "packages may start their services" test ! -e /usr/sbin/policy-rc.d
say "A system without apt"
matches "the programs that are missing are named" 'programs are missing: docker; this system has no apt' \
    refused env PATH=/root/test/no-apt sandbox/packages.sh docker
finish
INSIDE

[ "$#" -gt 0 ] || set -- trixie
for release; do
    debian_sources "$release" "$work"
    mmdebstrap --quiet --mode=root --variant=minbase --format=null --aptopt='Acquire::Languages "none"' \
        --dpkgopt=force-unsafe-io \
        --customize-hook='mkdir -p "$1/root/test/no-apt"' \
        --customize-hook="cp -r '$work/debs' '$work/inside.sh' '$tree/packaging/sandbox' '$here/../vm/steps.sh' \"\$1/root/test/\"" \
        --customize-hook='for p in bash sh id awk sort sed dirname tr cat grep; do ln -s "/bin/$p" "$1/root/test/no-apt/"; done' \
        --customize-hook='chroot "$1" bash /root/test/inside.sh >&2' \
        "$release" /dev/null "${sources[@]}"
done
