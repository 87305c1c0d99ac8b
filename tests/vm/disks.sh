# shellcheck shell=bash disable=SC2154
# disks.sh, sourced by walk.sh: disks of every kind, plugged at the start and while the VM runs,
# kept over shutdown and undeploy. Sizes are small: this machine emulates its processor. Needs
# oned.sh and $image.

# The container's mounts and files as the kernel has them, without an engine in between.
mounts() { cat "/proc/$(first_process "$1")/mounts"; }
root_of() { printf '/proc/%s/root' "$(first_process "$1")"; }
has_node() { test -b "$(root_of "$1")/dev/$2"; }
has_link() { test -L "$(root_of "$1")/dev/disk/$2"; }
read_in() { cat "$(root_of "$1")/$2"; }
write_in() { echo "$3" > "$(root_of "$1")/$2" && sync -f "$(root_of "$1")/$2"; }
loop_bytes() { blockdev --getsize64 "$(losetup -nO NAME -j "$1" | head -n 1)"; }
no_loop() { [ -z "$(losetup -nO NAME -j "$1")" ]; }
mounted_here() { grep -E '/media/|/srv/' /proc/self/mountinfo; }
daemons() { pgrep -c qemu-storage-d; }
swap_of() { vm=$1 limit memory.swap.max; }
# A tenant's write and read of a device, by the rights that a container has.
write_device() { inside "$1" sh -c "test -b /dev/$2 && echo hello > /dev/$2 && dd if=/dev/$2 bs=5 count=1 2>/dev/null"; }
file_on_image() { debugfs -R "cat $2" "$1" 2> /dev/null; }

make_files() {
    local work=/var/tmp/files
    mkdir -p $work/tree
    echo 'on the disk' > $work/tree/f
    mkfs.ext3 -q -F -d $work/tree $work/ext3.img 200M &&
        mkfs.ext4 -q -F -L walk -d $work/tree $work/ext4.img 16M &&
        qemu-img convert -f raw -O qcow2 $work/ext4.img $work/ext4.qcow2 &&
        genisoimage -quiet -R -V WALK -o $work/cd.iso $work/tree &&
        truncate -s 8M $work/parts.img &&
        printf 'label: dos\n,3M,L\n,,L\n' | sfdisk -q $work/parts.img
}

disks_at_the_start() {
    say "Disks of every kind at the first start (ONEDock's 007)"
    fails "NBD is not loaded" test -e /sys/module/nbd
    root_disk 500 "$image" 10
    with_disk 500 2 TYPE=fs FS=ext3 FORMAT=raw SIZE=100 TARGET=sdb
    with_disk 500 3 TYPE=fs FS=xfs FORMAT=qcow2 SIZE=320 TARGET=sdc MOUNTPOINT=/srv/xfs
    with_disk 500 4 TYPE=fs FS=btrfs FORMAT=raw SIZE=128 TARGET=sdd
    with_disk 500 5 TYPE=fs FORMAT=raw SIZE=8 TARGET=vdz DEVICE=YES
    with_disk 500 6 TYPE=swap SIZE=16 TARGET=sde
    holds "tm clone" clone 500 0 "$image"
    holds "tm mkimage, raw" mkimage 500 2 100 raw
    holds "tm mkimage, qcow2" mkimage 500 3 320 qcow2
    holds "tm mkimage, raw" mkimage 500 4 128 raw
    holds "tm mkimage, a device" mkimage 500 5 8 raw
    holds "tm mkswap" mkswap_disk 500 6 16
    is "vmm deploy" one-500 deploy 500
    or_end
    matches "ext3 is at /media/disk.2" ' /media/disk.2 ext3 .*nosuid,nodev' mounts 500
    matches "xfs in a qcow2 is at its MOUNTPOINT" ' /srv/xfs xfs .*nosuid,nodev' mounts 500
    matches "btrfs is at /media/disk.4" ' /media/disk.4 btrfs ' mounts 500
    is "a device of 100 MB is behind it" 104857600 loop_bytes "$system/500/disk.2"
    fails "no mount of them is on the host" mounted_here
    is "the device can be written and read" hello write_device 500 vdz
    is "the swap disk is its swap" 16777216 swap_of 500
    is "without privilege" 'false []' docker inspect -f '{{.HostConfig.Privileged}} {{.HostConfig.CapAdd}}' one-500
}

hot_plug() {
    say "Attach and detach"
    holds "files of disks" make_files
    with_disk 500 7 TYPE=fs FORMAT=raw SIZE=16 TARGET=sdf
    holds "tm mkimage" mkimage 500 7 16 raw
    holds "vmm attach_disk, a volatile disk" attach 500 7 sdf
    matches "ext4 is at /media/disk.7" ' /media/disk.7 ext4 ' mounts 500
    holds "... once more, and nothing changes" attach 500 7 sdf
    holds "a process works in it" docker exec -d one-500 sh -c 'cd /media/disk.7 && exec sleep 900'
    fails "vmm detach_disk is refused meanwhile" detach 500 7 sdf
    matches "... and the disk is there" ' /media/disk.7 ext4 ' mounts 500
    holds "the process ends" inside 500 killall sleep
    holds "vmm detach_disk" detach 500 7 sdf
    fails "it is gone" grep -q /media/disk.7 "/proc/$(first_process 500)/mounts"
    holds "no loop device is left" no_loop "$system/500/disk.7"
    holds "tm delete" delete_disk 500 7
    without_disk 500 7

    with_disk 500 8 IMAGE_ID=8 TM_MAD=ssh TYPE=FILE FORMAT=raw SIZE=8 ORIGINAL_SIZE=8 TARGET=vdb DEVICE=YES
    stage_file 500 8 /var/tmp/files/parts.img
    holds "vmm attach_disk, a device with partitions" attach 500 8 vdb
    holds "/dev/vdb, /dev/vdb1 and /dev/vdb2 are there" \
        eval 'has_node 500 vdb && has_node 500 vdb1 && has_node 500 vdb2'
    is "a partition can be written and read" hello write_device 500 vdb1
    holds "vmm detach_disk" detach 500 8 vdb
    fails "the device is gone" has_node 500 vdb
    holds "tm delete" delete_disk 500 8
    without_disk 500 8

    with_disk 500 9 IMAGE_ID=9 TM_MAD=ssh TYPE=FILE FORMAT=raw SIZE=16 ORIGINAL_SIZE=16 TARGET=vdc DEVICE=YES
    stage_file 500 9 /var/tmp/files/ext4.img
    holds "vmm attach_disk, a device with a label" attach 500 9 vdc
    holds "/dev/disk/by-label has it" has_link 500 by-label/walk
    holds "vmm detach_disk" detach 500 9 vdc
    holds "tm delete" delete_disk 500 9
    without_disk 500 9

    with_disk 500 10 IMAGE_ID=10 TM_MAD=ssh TYPE=CDROM FORMAT=raw SIZE=1 ORIGINAL_SIZE=1 TARGET=sr0 READONLY=YES
    stage_file 500 10 /var/tmp/files/cd.iso
    holds "vmm attach_disk, a CD" attach 500 10 sr0
    matches "the kernel mounts it" ' /media/disk.10 iso9660 ro' mounts 500
    is "its file is there" 'on the disk' read_in 500 media/disk.10/f
    holds "vmm detach_disk" detach 500 10 sr0
    holds "tm delete" delete_disk 500 10
    without_disk 500 10
}

qcow2_and_nbd() {
    local nbd
    with_disk 500 11 IMAGE_ID=11 TM_MAD=ssh TYPE=FILE FORMAT=qcow2 SIZE=16 ORIGINAL_SIZE=16 TARGET=sdg
    for nbd in without with; do
        say "qcow2, $nbd NBD in the kernel"
        [ "$nbd" = without ] || holds "NBD is loaded" modprobe nbd
        stage_file 500 11 /var/tmp/files/ext4.qcow2
        holds "vmm attach_disk" attach 500 11 sdg
        is "its file is there" 'on the disk' read_in 500 media/disk.11/f
        fails "no NBD device is used" ls /sys/block/nbd0/pid
        holds "a file is written" write_in 500 media/disk.11/g written
        holds "vmm detach_disk" detach 500 11 sdg
        is "the daemon of disk 3 alone goes on" 1 daemons
        holds "the image is whole" qemu-img check -q "$system/500/disk.11"
        holds "tm delete" delete_disk 500 11
    done
    without_disk 500 11
}

# The size in MB of the file system at a path in the VM, by the kernel.
room() { stat -f -c '%b %S' "$(root_of "$1")/$2" | awk '{ print int($1 * $2 / 1048576) }'; }
has_room() { [ "$(room "$1" "$2")" -ge "$3" ]; }

# ext4 and xfs grow while they are mounted only by a root that has CAP_SYS_RESOURCE, which not every
# machine that builds gives.
grow_live() {
    say "A disk grows in the running VM"
    with_disk 500 12 TYPE=fs FS=ext4 FORMAT=raw SIZE=16 TARGET=sdh
    holds "tm mkimage" mkimage 500 12 16 raw
    holds "vmm attach_disk, an ext4 of 16 MB" attach 500 12 sdh
    holds "a file is written to it" write_in 500 media/disk.12/file small
    fails "it has no room for 30 MB" has_room 500 media/disk.12 30
    holds "tm resize and vmm resize_disk, to 48 MB" grow 500 12 48
    holds "the file system has grown under the VM" has_room 500 media/disk.12 35
    is "a device of 48 MB is behind it" 50331648 loop_bytes "$system/500/disk.12"
    is "its file is there" small read_in 500 media/disk.12/file
    holds "30 MB are written to it" inside 500 dd if=/dev/zero of=/media/disk.12/big bs=1M count=30
    fails "a smaller size is refused" grow 500 12 20
    holds "vmm detach_disk" detach 500 12 sdh
    holds "the file system is whole" e2fsck -fn "$system/500/disk.12"
    holds "tm delete" delete_disk 500 12
    without_disk 500 12
    holds "the xfs in a qcow2 grows from 320 to 400 MB" grow 500 3 400
    holds "... under the VM" has_room 500 srv/xfs 330
    with_disk 500 3 TYPE=fs FS=xfs FORMAT=qcow2 SIZE=400 TARGET=sdc MOUNTPOINT=/srv/xfs
}

# What is on each disk of VM 500.
fill() {
    write_in 500 www/file root && write_in 500 media/disk.2/file ext3 &&
        write_in 500 srv/xfs/file xfs && write_in 500 media/disk.4/file btrfs
}
contents() {
    is "the root disk has its file" root read_in 500 www/file
    is "ext3 has its file" ext3 read_in 500 media/disk.2/file
    is "xfs has its file" xfs read_in 500 srv/xfs/file
    is "btrfs has its file" btrfs read_in 500 media/disk.4/file
    is "the device has what was written" hello inside 500 dd if=/dev/vdz bs=5 count=1
}

shutdown_and_resume() {
    say "Shutdown and resume with contents"
    holds "files are written to every disk" fill
    holds "vmm shutdown" shut_down 500
    holds "the kernel has let go of all of them" test -z "$(losetup -nO NAME | grep -v snap)"
    is "no daemon is left" 0 daemons
    is "vmm deploy" one-500 deploy 500
    contents
}

undeploy_and_resume() {
    say "Undeploy and resume with contents"
    holds "the front-end reaches the node by ssh" lay_ssh
    holds "vmm shutdown" shut_down 500
    holds "tm mv, each disk and the folder, to the front-end" undeploy 500 "0 2 3 4 5 6"
    fails "the node has no container of it" docker inspect one-500
    fails "... and no folder" test -e "$system/500"
    holds "tm mv, back" come_back 500 "0 2 3 4 5 6"
    is "vmm deploy" one-500 deploy 500
    contents
    holds "vmm shutdown" shut_down 500
    local id
    for id in 0 2 3 4 5 6; do
        holds "tm delete, disk $id" delete_disk 500 "$id"
    done
    holds "tm delete, the folder" delete_folder 500
    fails "nothing of it is there" test -e "$system/500"
}

stock_datablocks() {
    say "Datablocks of a stock datastore, one persistent (ONEDock's 008 and 009)"
    root_disk 501 "$image" 10
    with_disk 501 1 IMAGE_ID=1 TM_MAD=ssh TYPE=FILE FORMAT=raw SIZE=200 ORIGINAL_SIZE=200 TARGET=sdb
    with_disk 501 2 IMAGE_ID=2 TM_MAD=ssh TYPE=FILE FORMAT=raw SIZE=200 ORIGINAL_SIZE=200 TARGET=sdc SAVE=YES
    holds "tm clone" clone 501 0 "$image"
    stage_file 501 1 /var/tmp/files/ext3.img
    stage_file 501 2 /var/tmp/files/ext3.img
    is "vmm deploy" one-501 deploy 501
    matches "ext3 is at /media/disk.1" ' /media/disk.1 ext3 rw' mounts 501
    is "a device of 200 MB is behind it" 209715200 loop_bytes "$system/501/disk.2"
    is "the datablock's file is there" 'on the disk' read_in 501 media/disk.2/f
    holds "a file is written to the persistent one" write_in 501 media/disk.2/g written
    holds "vmm shutdown" shut_down 501
    holds "the devices are gone" no_loop "$system/501/disk.2"
    is "what goes back to the datastore has the file" written file_on_image "$system/501/disk.2" /g
    holds "tm delete" delete_disk 501 0
    # The stock transfer manager's part.
    rm -f "$system/501/disk.1" "$system/501/disk.2"
    holds "tm delete, the folder" delete_folder 501
    fails "nothing of it is there" test -e "$system/501"
}

persistence() {
    local round
    say "A persistent image (ONEDock's 010)"
    root_disk 502 "$image" 10 SAVE=YES
    for round in first second; do
        holds "tm ln" ln_disk 502 0 "$image"
        is "vmm deploy, the $round VM" one-502 deploy 502
        if [ "$round" = first ]; then
            holds "touch /file" write_in 502 file ''
        else
            holds "/file is there" test -e "$(root_of 502)/file"
        fi
        holds "vmm shutdown" shut_down 502
        holds "tm mvds" tm mvds "localhost:$system/502/disk.0" "$image" 502 100
        holds "tm delete, the folder" delete_folder 502
    done
    fails "no container of it is left" docker inspect one-502
}

# An engine that was set up anew, or whose daemon.json another tool has written.
unknown_runtime() {
    say "An engine that does not know the runtime"
    template refused "$address" "$archive" > /root/refused.one
    jq 'del(.runtimes)' /etc/docker/daemon.json > /root/daemon.json
    cp /root/daemon.json /etc/docker/daemon.json
    holds "the engine goes on without it" systemctl restart docker
    matches "a VM is refused with what to do" \
        "the runtime onedock is not registered with this host's Docker engine; run 'onedock setup node' there" \
        all_words "$programs/onedock" run /root/refused.one
    fails "no container is made" docker inspect "one-$((vm + 2))"
    holds "onedock setup node" "$programs/onedock" setup node
    is "the engine knows the runtime" /usr/lib/onedock/onedock-runtime docker info -f '{{.Runtimes.onedock.Path}}'
    local id
    for id in $("$programs/onedock" run --list | awk '$2 == "refused" { print $1 }'); do
        holds "onedock run --stop" "$programs/onedock" run --stop "$id" --remove-image
    done
}
all_words() { "$@" 2>&1; }

# bound_layer CONTAINER MIB: whether root's helper keeps the bound.
bound_layer() {
    jq -nc --arg container "$1" --argjson size "$2" '{action: "bound_layer", $container, size_mib: $size}' |
        /usr/lib/onedock/onedock-node | jq '.done and (.unbounded | not)'
}

# Last of all: the engine goes on with other settings, and without what it had.
remapped_with_quotas() {
    say "userns-remap, and root disks on xfs with project quotas"
    truncate -s 1G /var/tmp/xfs.img
    holds "an xfs with pquota" eval 'mkfs.xfs -q /var/tmp/xfs.img && mkdir -p /srv/docker &&
        mount -o pquota /var/tmp/xfs.img /srv/docker'
    jq '. + {"data-root": "/srv/docker", "userns-remap": "default"}' /etc/docker/daemon.json > /root/daemon.json
    cp /root/daemon.json /etc/docker/daemon.json
    holds "the engine goes on with both" systemctl restart docker
    matches "onedock setup node says that SIZE bounds" 'SIZE bounds a root disk' "$programs/onedock" setup node
    template web "$address" "$archive" > /root/web.one
    holds "onedock run web.one" "$programs/onedock" run /root/web.one
    or_end
    vm=$("$programs/onedock" run --list | awk '$2 == "web" { print $1 }')
    # It was made without a size, so that the engine has given its layer no project.
    container=$(docker inspect -f '{{.Id}}' "one-$vm")
    is "root bounds a layer that the engine has not" true bound_layer "$container" 20
    holds "... which takes 10 MB" inside "$vm" dd if=/dev/zero of=/big bs=1M count=10
    fails "... and not 30" inside "$vm" dd if=/dev/zero of=/big bs=1M count=30
    is "... and can be made larger" true bound_layer "$container" 60
    holds "... for 30" inside "$vm" dd if=/dev/zero of=/big bs=1M count=30
    image=$(image_source)
    root_disk 503 "$image" 74
    with_disk 503 2 TYPE=fs FORMAT=raw SIZE=16 TARGET=sdb
    with_disk 503 3 TYPE=fs FORMAT=raw SIZE=8 TARGET=vdb DEVICE=YES
    holds "tm clone" clone 503 0 "$image"
    holds "tm mkimage" mkimage 503 2 16 raw
    holds "tm mkimage" mkimage 503 3 8 raw
    is "vmm deploy" one-503 deploy 503
    fails "its root is not the host's" grep -q '^Uid:[[:space:]]*0' "/proc/$(first_process 503)/status"
    is "inside, the disk is root's" 0 inside 503 stat -c %u /media/disk.2
    holds "... who can write to it" inside 503 sh -c 'echo remapped > /media/disk.2/file && chmod 600 /media/disk.2/file'
    is "the device can be written and read" hello write_device 503 vdb
    holds "the root disk takes 50 MB" inside 503 dd if=/dev/zero of=/big bs=1M count=50
    fails "... and not 100" inside 503 dd if=/dev/zero of=/big bs=1M count=100
    holds "vmm shutdown" shut_down 503
    matches "on the disk the file is root's" 'User: +0 +Group: +0' \
        debugfs -R 'stat /file' "$system/503/disk.2"
    local id
    for id in 0 2 3; do holds "tm delete, disk $id" delete_disk 503 "$id"; done
    holds "tm delete, the folder" delete_folder 503
    holds "onedock run --stop" "$programs/onedock" run --stop "$vm" --remove-image
}

# What the walk itself made.
tidy_disks() {
    rm -rf /var/tmp/files /root/front-end "$documents" "$stopped" "$system" /var/lib/one/.ssh
}
