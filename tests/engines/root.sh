#!/bin/bash
# root.sh SUITE FOLDER: makes a root of Debian's SUITE in FOLDER with its Docker Engine, both runtimes,
# a registry, and what the tests call. Needs root and mmdebstrap.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/debian.sh
. "$here/../debian.sh"
suite=$1
folder=$2
umask 022
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
export TMPDIR=$folder

sources=()
debian_sources "$suite" "$folder"

packages=docker.io,containerd,runc,crun,docker-registry,iptables,nftables,ipset,iproute2
packages+=,openvswitch-switch,openssh-server,openssh-client,ruby,sudo,rsync,procps,busybox-static,kmod,iputils-ping
packages+=,e2fsprogs,xfsprogs,btrfs-progs,qemu-utils,fuse3,fdisk,attr,acl,libcap2-bin
packages+=,ca-certificates,curl,apache2-utils,genisoimage,xorriso,git,make,xz-utils,zstd
case $suite in
bookworm) packages+=,qemu-system-common ;;
*) packages+=,docker-cli,qemu-system-common ;;
esac

rm -rf "$folder/root"
mmdebstrap --quiet --mode=root --variant=minbase \
    --aptopt='Acquire::Languages "none"' --aptopt='Acquire::Check-Valid-Until "false"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --include="$packages" \
    "$suite" "$folder/root" "${sources[@]}"
rm -rf "$folder"/root/var/cache/apt/* "$folder"/root/var/lib/apt/lists/*
# Set-ups give files to OpenNebula's user; the tests' are its, too.
chroot "$folder/root" groupadd --system oneadmin
chroot "$folder/root" useradd --system --gid oneadmin --home-dir /var/lib/one --shell /bin/bash oneadmin
touch "$folder/whole"
