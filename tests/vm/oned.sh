# shellcheck shell=bash disable=SC2154
# oned.sh, sourced: VMs as `oned` has them, for what `onedock run` has no word: disks of every
# kind, and the calls that are made of them. A VM is a folder of DISK elements, one file each.
# Needs opennebula.sh.

documents=/root/vms
# A system datastore on the node, and where the front-end keeps the folders of undeployed VMs.
system=/var/lib/one/datastores/110
stopped=/var/lib/one/datastores/119
# This machine by another name, so that the transfer manager takes it for two.
node=node.test

# with_disk VM ID NAME=VALUE...: the VM has this disk.
with_disk() {
    local vm=$1 id=$2 pair
    shift 2
    mkdir -p "$documents/$vm"
    {
        printf '<DISK><DISK_ID>%s</DISK_ID>' "$id"
        for pair; do
            printf '<%s><![CDATA[%s]]></%s>' "${pair%%=*}" "${pair#*=}" "${pair%%=*}"
        done
        printf '</DISK>'
    } > "$documents/$vm/$id"
}
without_disk() { rm -f "$documents/$1/$2"; }
# root_disk VM SOURCE SIZE [NAME=VALUE...]: its image has 10 MB.
root_disk() {
    with_disk "$1" 0 IMAGE_ID=0 "SOURCE=$2" TM_MAD=onedock TYPE=FILE FORMAT=raw TARGET=sda \
        ORIGINAL_SIZE=10 "SIZE=$3" "${@:4}"
}

# document VM LCM_STATE
document() {
    printf '<VM><ID>%s</ID><NAME>vm%s</NAME><STATE>3</STATE><LCM_STATE>%s</LCM_STATE>' "$1" "$1" "$2"
    printf '<DEPLOY_ID>one-%s</DEPLOY_ID><TEMPLATE><CPU>0.5</CPU><MEMORY>64</MEMORY>' "$1"
    cat "$documents/$1"/*
    printf '<VMID>%s</VMID></TEMPLATE><USER_TEMPLATE/><HISTORY_RECORDS><HISTORY><OID>%s</OID>' "$1" "$1"
    printf '<SEQ>0</SEQ><HOSTNAME>localhost</HOSTNAME><HID>0</HID><CID>0</CID><VM_MAD>onedock</VM_MAD>'
    printf '<TM_MAD>onedock</TM_MAD><DS_ID>110</DS_ID></HISTORY></HISTORY_RECORDS></VM>'
}
action() {
    printf '<VMM_DRIVER_ACTION_DATA><HOST>localhost</HOST><DEPLOY_ID>one-%s</DEPLOY_ID>%s</VMM_DRIVER_ACTION_DATA>' \
        "$1" "$(document "$1" "$2")"
}

# The stock transfer manager's part: a file comes into the VM's folder.
stage_file() { install -m 640 -o oneadmin -g oneadmin "$3" "$system/$1/disk.$2"; }

tm() { as_oneadmin "$remotes/tm/onedock/$1" "${@:2}" < /dev/null; }
clone() { tm clone "$3" "localhost:$system/$1/disk.$2" "$1" 100; }
ln_disk() { tm ln "$3" "localhost:$system/$1/disk.$2" "$1" 100; }
mkimage() { tm mkimage "$3" "$4" "localhost:$system/$1/disk.$2" "$1" 110; }
mkswap_disk() { tm mkswap "$3" "localhost:$system/$1/disk.$2" "$1" 110; }
delete_disk() { tm delete "localhost:$system/$1/disk.$2" "$1" 110; }
delete_folder() { tm delete "localhost:$system/$1" "$1" 110; }

vmm() {
    local verb=$1 vm=$2 lcm=$3
    shift 3
    action "$vm" "$lcm" | as_oneadmin "$on_node/vmm/onedock/$verb" "$@" "$vm" localhost
}
deploy() {
    document "$1" 2 | as_oneadmin "$on_node/vmm/onedock/deploy" "$system/$1/deployment.0" localhost "$1" localhost
}
shut_down() { vmm shutdown "$1" 12 "one-$1" localhost; }
# With ATTACH=YES on the disk, as `oned` has it meanwhile.
attach() {
    sed -i 's|</DISK>|<ATTACH>YES</ATTACH></DISK>|' "$documents/$1/$2"
    vmm attach_disk "$1" 17 "one-$1" "$system/$1/disk.$2" "${3:-sdx}" 23 PHg+
    local answer=$?
    sed -i 's|<ATTACH>YES</ATTACH>||' "$documents/$1/$2"
    return "$answer"
}
# grow VM DISK MB: what `oned` calls at `onevm disk-resize` of a running VM.
grow() {
    tm resize "localhost:$system/$1/disk.$2" "$3" "$1" 110 &&
        vmm resize_disk "$1" 62 "one-$1" "$2" "$3" PHg+ localhost
}
detach() {
    sed -i 's|</DISK>|<ATTACH>YES</ATTACH></DISK>|' "$documents/$1/$2"
    vmm detach_disk "$1" 18 "one-$1" "$system/$1/disk.$2" "${3:-sdx}" 23
    local answer=$?
    sed -i 's|<ATTACH>YES</ATTACH>||' "$documents/$1/$2"
    return "$answer"
}

# The front-end's half and the node are told apart by their names: one reaches the other by ssh.
lay_ssh() {
    grep -q " $node" /etc/hosts || echo "$(hostname -I | cut -d' ' -f1) $node" >> /etc/hosts
    local folder=/var/lib/one/.ssh
    install -d -m 700 -o oneadmin -g oneadmin "$folder"
    [ -f "$folder/id_ed25519" ] ||
        as_oneadmin ssh-keygen -q -t ed25519 -N '' -C '' -f "$folder/id_ed25519"
    install -m 600 -o oneadmin -g oneadmin "$folder/id_ed25519.pub" "$folder/authorized_keys"
    ssh-keyscan -t ed25519 "$node" 2> /dev/null > "$folder/known_hosts"
    chown oneadmin:oneadmin "$folder/known_hosts"
    as_oneadmin ssh -o BatchMode=yes "$node" true
}

# The front-end as a machine of its own, with its own state and without what makes a node: only so are
# two halves that hold a VM's lock on two machines told apart here.
on_front_end() {
    install -d -o oneadmin -g oneadmin -m 750 /root/front-end
    # shellcheck disable=SC2016
    unshare -m --propagation private bash -c '
        mount --bind /root/front-end /var/lib/onedock && mount -t tmpfs -o mode=755 run /run &&
            mount -t tmpfs -o mode=755 none /usr/lib/onedock && cd /var/lib/one &&
            exec runuser -u oneadmin -- env -i HOME=/var/lib/one USER=oneadmin \
                PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"' - "$@" < /dev/null
}

# undeploy VM DISKS: what `oned` has moved, disk by disk and then the folder; and back.
undeploy() {
    local id
    for id in $2; do
        on_front_end "$remotes/tm/onedock/mv" "$node:$system/$1/disk.$id" \
            "localhost:$stopped/$1/disk.$id" "$1" 100 || return 1
    done
    on_front_end "$remotes/tm/onedock/mv" "$node:$system/$1" "localhost:$stopped/$1" "$1" 110
}
come_back() {
    local id
    for id in $2; do
        on_front_end "$remotes/tm/onedock/mv" "localhost:$stopped/$1/disk.$id" \
            "$node:$system/$1/disk.$id" "$1" 100 || return 1
    done
    on_front_end "$remotes/tm/onedock/mv" "localhost:$stopped/$1" "$node:$system/$1" "$1" 110
}
