#!/bin/bash
# image.sh FOLDER: makes the bed of the walk in FOLDER: a Debian 12 with Debian's own kernel,
# systemd, and the packages that a node and the registry need (disk.img, vmlinuz, initrd.img,
# the ssh key id), and a QEMU to run it (qemu/). Needs root, mmdebstrap, busybox-static,
# e2fsprogs and openssh-client, and changes nothing outside FOLDER.
#
# QEMU is unpacked, not installed: qemu-system-x86 of Debian would take away a qemu-utils of
# the backports, which a machine may need for its volumes.
set -euo pipefail
folder=$1
mkdir -p "$folder"
cd "$folder"
export TMPDIR=$folder
umask 022

# The machine's own sources, where it is the same Debian: it may use a mirror.
sources=()
if grep -q '^VERSION_CODENAME=bookworm' /etc/os-release; then
    sources=(/etc/apt/sources.list)
    [ ! -f /etc/apt/sources.list.d/debian.sources ] || sources=(/etc/apt/sources.list.d/debian.sources)
fi

bootstrap() {
    mmdebstrap --quiet --mode=root --aptopt='Acquire::Languages "none"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' "$@" "${sources[@]}"
}

# Which packages: what the product's set-up asks for (so that the machine needs no network),
# what the walk looks with (curl, jq), and a system to put them in.
packages=(
    linux-image-cloud-amd64 systemd-sysv udev kmod dbus openssh-server iproute2 iptables
    nftables apparmor procps hostname util-linux ca-certificates
    docker.io crun docker-registry openssl sudo rsync ruby ipset busybox-static
    e2fsprogs xfsprogs btrfs-progs qemu-utils qemu-system-common libarchive-tools fdisk
    curl jq genisoimage attr
)
include=$(IFS=,; echo "${packages[*]}")

echo "  Debian's packages are fetched and set up (about a minute)"
rm -rf root qemu
bootstrap --variant=minbase --include="$include" bookworm root &
system=$!
bootstrap --variant=extract --include=qemu-system-x86 bookworm qemu &
emulator=$!
status=0
wait "$system" || status=1
wait "$emulator" || status=1
[ "$status" -eq 0 ]

kernel=$(ls root/usr/lib/modules 2>/dev/null || ls root/lib/modules)
[ -f id ] || ssh-keygen -q -t ed25519 -N '' -C '' -f id
install -D -m 600 id.pub root/root/.ssh/authorized_keys
chmod 700 root/root/.ssh
echo vm > root/etc/hostname
printf '127.0.0.1 localhost\n127.0.1.1 vm\n' > root/etc/hosts
echo '/dev/vda / ext4 rw,noatime 0 1' > root/etc/fstab
printf '[Match]\nName=en* eth*\n[Network]\nDHCP=ipv4\n' > root/etc/systemd/network/10-en.network
rm -f root/etc/resolv.conf
echo 'nameserver 10.0.2.3' > root/etc/resolv.conf
chroot root systemctl -q enable systemd-networkd ssh
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer systemd-networkd-wait-online.service; do
    chroot root systemctl -q mask "$unit" 2>/dev/null || true
done

# An initrd of 2 MB: the disk's driver and a shell (ext4 is built into this kernel).
cp "root/boot/vmlinuz-$kernel" vmlinuz
rm -rf initrd
mkdir -p initrd/{bin,mod,proc,dev,mnt}
cp "$(command -v busybox)" initrd/bin/busybox
ln -s busybox initrd/bin/sh
for module in virtio_pci virtio_blk; do
    chroot root modprobe -S "$kernel" --show-depends "$module"
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r path; do
    cp "root$path" initrd/mod/
    basename "$path" >> initrd/mod/order
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
truncate -s 6G disk.img
mkfs.ext4 -q -F -O ^has_journal -d root disk.img
rm -rf root initrd
