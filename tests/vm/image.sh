#!/bin/bash
# image.sh FOLDER RELEASE: makes a virtual machine in FOLDER: a Debian as its installer leaves it
# (standard system, recommended packages, Debian's usual kernel, systemd, ifupdown, AppArmor), with
# the programs that `make sandbox` installs (disk.img, vmlinuz, initrd.img, the ssh key id), and a
# QEMU to run it (qemu/). RELEASE is bookworm (12) or trixie (13); trixie comes with systemd-resolved
# and every name service of systemd, bookworm without. Needs root, mmdebstrap, busybox-static,
# e2fsprogs and openssh-client, and changes nothing outside FOLDER.
#
# Recommended packages are part of it: without them there is no libnss-systemd and no AppArmor, and
# a machine without these hides faults that every user would meet.
#
# QEMU is unpacked, not installed: qemu-system-x86 of Debian would take away a qemu-utils of
# the backports, which a machine may need for its volumes.
set -euo pipefail
folder=$1
release=$2
tree=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$folder"
cd "$folder"
export TMPDIR=$folder
umask 022

# shellcheck source=tests/debian.sh
. "$tree/tests/debian.sh"
debian_sources "$release" "$folder"

bootstrap() {
    mmdebstrap --quiet --mode=root --aptopt='Acquire::Languages "none"' --dpkgopt=force-unsafe-io \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' "$@"
}

# Beside the standard system: the installer's kernel, network set-up and ssh server, and what the
# tests inspect it with.
packages=(linux-image-amd64 ifupdown openssh-server ca-certificates curl jq genisoimage attr)
case $release in
bookworm) packages+=(isc-dhcp-client) ;;
trixie) packages+=(dhcpcd-base systemd-resolved libnss-resolve libnss-myhostname) ;;
*) echo "image.sh: $release is no release that is tested" >&2 && exit 1 ;;
esac
include=$(IFS=,; echo "${packages[*]}")

echo "  Debian's packages are fetched and set up (two or three minutes)"
rm -rf root qemu
# The programs of the sandbox come by its own script, so that its table of packages is tried.
bootstrap --variant=standard --aptopt='APT::Install-Recommends "true"' --include="$include" \
    --customize-hook="mkdir -p \"\$1/root/packaging\"" \
    --customize-hook="cp -r '$tree/packaging/sandbox' \"\$1/root/packaging/\"" \
    --customize-hook='chroot "$1" /root/packaging/sandbox/packages.sh >&2' \
    --customize-hook='rm -r "$1/root/packaging"' \
    "$release" root "${sources[@]}" &
system=$!
bootstrap --variant=extract --include=qemu-system-x86 "$release" qemu "${sources[@]}" &
emulator=$!
status=0
wait "$system" || status=1
wait "$emulator" || status=1
[ "$status" -eq 0 ]

# The links of a merged /usr come with a package that the emulator does not need.
for link in bin sbin lib lib64; do
    [ -e "qemu/$link" ] || ln -s "usr/$link" "qemu/$link"
done

# What makes it a Debian as installed.
grep -q '^passwd:.*systemd' root/etc/nsswitch.conf
test -e root/usr/sbin/apparmor_parser -o -e root/sbin/apparmor_parser

kernel=$(ls root/usr/lib/modules 2>/dev/null || ls root/lib/modules)
[ -f id ] || ssh-keygen -q -t ed25519 -N '' -C '' -f id
install -D -m 600 id.pub root/root/.ssh/authorized_keys
chmod 700 root/root/.ssh
echo vm > root/etc/hostname
printf '127.0.0.1 localhost\n127.0.1.1 vm\n' > root/etc/hosts
echo '/dev/vda / ext4 rw,noatime 0 1' > root/etc/fstab
# One name for the one NIC (the kernel's command line says net.ifnames=0).
printf 'auto lo\niface lo inet loopback\n\nallow-hotplug eth0\niface eth0 inet dhcp\n' > root/etc/network/interfaces
if [ "$release" = trixie ]; then
    ln -sf ../run/systemd/resolve/stub-resolv.conf root/etc/resolv.conf
else
    rm -f root/etc/resolv.conf
    echo 'nameserver 10.0.2.3' > root/etc/resolv.conf
fi
chroot root systemctl -q enable ssh
# The sandbox's scripts keep the services of its packages from starting while they are installed;
# at a boot they would start, which is not how the set-up meets them.
for unit in docker.service docker.socket docker-registry.service haproxy.service; do
    chroot root systemctl -q disable "$unit" 2>/dev/null || true
done
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer man-db.timer systemd-networkd-wait-online.service; do
    chroot root systemctl -q mask "$unit" 2>/dev/null || true
done

# An initrd of a few MB: the drivers of disk and file system, and a shell.
cp "root/boot/vmlinuz-$kernel" vmlinuz
rm -rf initrd
mkdir -p initrd/{bin,mod,proc,dev,mnt}
cp "$(command -v busybox)" initrd/bin/busybox
ln -s busybox initrd/bin/sh
for module in virtio_pci virtio_blk crc32c_generic ext4; do
    chroot root modprobe -S "$kernel" --show-depends "$module" 2>/dev/null || true
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r path; do
    name=${path##*/}
    case $name in
    *.xz) xz -dc "root$path" > "initrd/mod/${name%.xz}" ;;
    *.zst) zstd -qdc "root$path" > "initrd/mod/${name%.zst}" ;;
    *) cp "root$path" initrd/mod/ ;;
    esac
    echo "${name%%.ko*}.ko" >> initrd/mod/order
done
cat > initrd/init <<'INIT'
#!/bin/sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
for m in $($b cat /mod/order); do $b insmod "/mod/$m"; done
i=0
while [ ! -b /dev/vda ] && [ $i -lt 300 ]; do $b sleep 0.1; i=$((i + 1)); done
$b mount -t ext4 -o rw,noatime /dev/vda /mnt || exec $b poweroff -f
$b umount /proc
$b mount --move /dev /mnt/dev
exec $b switch_root /mnt /lib/systemd/systemd
INIT
chmod 755 initrd/init
(cd initrd && find . | busybox cpio -o -H newc 2>/dev/null) > initrd.img

rm -f disk.img
truncate -s 8G disk.img
mkfs.ext4 -q -F -O ^has_journal -d root disk.img
rm -rf root initrd
