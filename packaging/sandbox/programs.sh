# Programs that the sandbox and the tests call, and how one that is missing is installed. It is asked
# for by program and not by package: who has Docker from docker.com has `dockerd`, and Debian's
# docker.io instead would cost them their engine. Nothing that is installed is ever removed.
# Sourced after lib.sh. The set-up's own table is in cli/src/setup.
# shellcheck shell=sh

# A program, and the Debian packages that bring it: the next one is taken where the one before did
# not bring it. Debian 13 has the client `docker` and `qemu-storage-daemon` in other packages than
# Debian 12.
program_table() {
    cat <<'TABLE'
ar              binutils
blkid           util-linux
busybox         busybox-static
crun            crun
curl            curl
docker          docker.io docker-cli
docker-registry docker-registry
dockerd         docker.io
gcc             gcc
genisoimage     genisoimage
git             git
gpasswd         passwd
gzip            gzip
haproxy         haproxy
htpasswd        apache2-utils
ip              iproute2
ipset           ipset
iptables        iptables
make            make
mkfs.btrfs      btrfs-progs
mkfs.ext4       e2fsprogs
mkfs.xfs        xfsprogs
mmdebstrap      mmdebstrap
modprobe        kmod
nft             nftables
openssl         openssl
ovs-vswitchd    openvswitch-switch
ping            iputils-ping
ps              procps
qemu-img        qemu-utils
qemu-storage-daemon qemu-utils qemu-system-common
rsync           rsync
ruby            ruby
runc            runc
setpriv         util-linux
setsid          util-linux
sfdisk          fdisk
shellcheck      shellcheck
ssh             openssh-client
ssh-keygen      openssh-client
sshd            openssh-server
sudo            sudo
tar             tar
update-ca-certificates ca-certificates
useradd         passwd
xorriso         xorriso
xz              xz-utils
TABLE
}

# What `make sandbox` calls, itself or through `onedock setup`.
sandbox_programs() {
    echo dockerd docker crun docker-registry haproxy busybox curl iptables ipset ip ruby rsync sudo ssh \
        sshd openssl ps setsid setpriv useradd tar modprobe
    disk_programs
}

# What disks of VMs need (cli/src/setup/node/disks.rs).
disk_programs() {
    echo mkfs.ext4 mkfs.xfs mkfs.btrfs qemu-img qemu-storage-daemon sfdisk blkid
}

# Docker is there in a form that cannot be a node, and installing Debian's beside it would give two
# engines one socket.
refuse_unsuitable_engine() {
    if has docker && docker --version 2>/dev/null | grep -qi podman; then
        die "the program docker is Podman's here (package podman-docker): the sandbox needs Docker's own engine and does not replace Podman's. Remove podman-docker, or use another machine"
    fi
    if ! has dockerd && [ -S /var/run/docker.sock ] &&
        curl --silent --max-time 5 --unix-socket /var/run/docker.sock http://docker/_ping >/dev/null 2>&1; then
        die "an engine answers at /var/run/docker.sock and there is no program dockerd (a snap, or Docker Desktop): the sandbox needs Docker's packages (docker.io, or docker-ce of docker.com) and does not install a second engine beside it"
    fi
}

# Those of the named programs that are not there, one a line.
missing_programs() {
    for program in "$@"; do
        has "$program" || printf '%s\n' "$program"
    done
}

# The package to try for a program in the given round; nothing when there is no further one.
package_of() {
    program_table | awk -v program="$1" -v round="$2" '$1 == program { print $(round + 1) }'
}

# Installs what brings the named programs. One that is there, whoever brought it, is used.
need_programs() {
    round=1
    while missing=$(missing_programs "$@") && [ -n "$missing" ]; do
        packages=$(for program in $missing; do package_of "$program" "$round"; done | sort -u)
        # shellcheck disable=SC2086 # one word a program, and a package
        {
            [ -n "$packages" ] || die "these programs are missing, and no package of this system brings them: $(echo $missing)"
            has apt-get || die "these programs are missing: $(echo $missing); this system has no apt, so install them with its own package manager (on Debian they are in $(echo $packages))"
            install_packages $packages
        }
        hash -r
        round=$((round + 1))
    done
}

# The file that keeps services from being started, and how we know it for ours.
POLICY=/usr/sbin/policy-rc.d
POLICY_MARK='# written by onedock while it installs packages'

# An installation that was killed leaves it behind, and no package would ever start its service again.
allow_services() {
    if grep -qsxF "$POLICY_MARK" "$POLICY"; then rm -f "$POLICY"; fi
}

# Installs packages. Their services are not started: Debian's docker-registry would take port
# 5000 without a password, and its docker would start before it is configured.
install_packages() {
    say "installing $*"
    allow_services
    if [ ! -e "$POLICY" ]; then
        printf '#!/bin/sh\n%s\nexit 101\n' "$POLICY_MARK" >"$POLICY"
        chmod 755 "$POLICY"
        trap allow_services EXIT
        trap 'exit 130' INT TERM HUP
    fi
    log=$(mktemp)
    if ! install_with_apt "$@" >"$log" 2>&1; then
        note "bringing the lists of packages up to date"
        if ! { apt-get update -q && install_with_apt "$@"; } >"$log" 2>&1; then
            tail -n 20 "$log" >&2
            rm -f "$log"
            removed=$(apt-get install -s --no-install-recommends "$@" 2>/dev/null | sed -n 's/^Remv \([^ ]*\).*/\1/p' | sort -u)
            # shellcheck disable=SC2086 # one word a package
            [ -z "$removed" ] || die "to install $* apt would remove $(echo $removed): nothing was installed. Bring the programs that are missing ($(echo $missing)) in a way that fits what is installed here, and call this again"
            die "these packages could not be installed: $*"
        fi
    fi
    rm -f "$log"
    allow_services
}

install_with_apt() {
    apt-get install -y -q --no-install-recommends --no-remove -- "$@"
}
