# The sandbox where an OpenNebula answers: the same VM, by OpenNebula's own commands as oneadmin.
# It asks for a front-end that `onedock setup frontend` prepared and a host that runs our drivers.
# It is sourced by up.sh and down.sh, which say where they and the programs are.
# shellcheck shell=sh disable=SC2154,SC2153,SC2034

# The ids of a pool's objects whose XML has `<NAME>$2</NAME>` and the like: $1 list, $2 filter.
one_ids() {
    as_oneadmin "$1" list --no-header --list ID --filter "$2" 2>/dev/null | tr -d ' '
}

# The first object of a kind by its name.
one_named() {
    one_ids "$1" "NAME=$2" | head -n 1
}

one_create() {
    kind=$1
    file=$(mktemp)
    cat >"$file"
    chmod 644 "$file"
    shift
    as_oneadmin "$kind" create "$@" "$file" || { rm -f "$file"; die "$kind create failed"; }
    rm -f "$file"
}

# $1 onevm or oneimage, $2 id, $3 the state that is waited for.
reaches() {
    as_oneadmin "$1" show "$2" 2>/dev/null | grep -Eq "^(STATE|LCM_STATE) +: +$3 *$"
}

datastore_with() {
    as_oneadmin onedatastore list --no-header --list ID,DS,TM,TYPE 2>/dev/null |
        awk -v ds="$1" -v tm="$2" -v type="$3" '$2 == ds && $3 == tm && $4 == type { print $1; exit }'
}

with_oned_up() {
    touch "$RECORD/with-oned"
    need_programs busybox curl
    [ -x "$ONE_VAR/remotes/tm/onedock/clone" ] ||
        die "the drivers are not in this front-end: run \`$bin/onedock setup registry\` and \`$bin/onedock setup frontend\`, restart OpenNebula, and call this again"
    host=$(hosts_that_are_on | head -n 1)
    [ -n "$host" ] ||
        die "no host with the drivers onedock is on: prepare one with \`$bin/onedock setup node\`, then as oneadmin: onehost create NAME -i onedock -v onedock"
    note "host $host is on"

    images=$(datastore_with onedock onedock img)
    if [ -z "$images" ]; then
        say "the image datastore onedock"
        printf 'NAME=onedock\nTYPE=IMAGE_DS\nDS_MAD=onedock\nTM_MAD=onedock\n' | one_create onedatastore
        images=$(datastore_with onedock onedock img)
        printf '%s\n' "$images" >>"$RECORD/with-oned"
    fi
    if [ -z "$(datastore_with - onedock sys)" ]; then
        say "the system datastore onedock-system"
        printf 'NAME=onedock-system\nTYPE=SYSTEM_DS\nTM_MAD=onedock\n' | one_create onedatastore
        datastore_with - onedock sys >>"$RECORD/with-oned"
    fi

    say "an image from busybox: an HTTP server on two ports"
    [ -e "$IMAGE" ] || "$here/image.sh" "$IMAGE"
    chmod 755 "$IMAGE_FOLDER"
    image=$(one_named oneimage "$VM_NAME")
    if [ -z "$image" ]; then
        as_oneadmin oneimage create --name "$VM_NAME" --path "$IMAGE" --type OS --datastore "$images"
        image=$(one_named oneimage "$VM_NAME")
    fi
    wait_for 120 image_is_ready || die "the image $image is not ready; see \`oneimage show $image\`"

    if [ -z "$(one_named onevnet "$VM_NAME")" ]; then
        say "the network $VM_NAME on bridge $BRIDGE"
        printf 'NAME="%s"\nVN_MAD=bridge\nBRIDGE=%s\nGATEWAY=%s\nNETWORK_MASK=255.255.255.0\nAR=[TYPE=IP4,IP=%s,SIZE=8]\n' \
            "$VM_NAME" "$BRIDGE" "$BRIDGE_ADDRESS" "$VM_ADDRESS" | one_create onevnet
    fi
    if [ -z "$(one_named onetemplate "$VM_NAME")" ]; then
        say "the template $VM_NAME"
        # $NAME is for OpenNebula.
        # shellcheck disable=SC2016
        printf 'NAME="%s"\nCPU=0.5\nVCPU=1\nMEMORY=64\nDISK=[IMAGE_ID=%s]\nNIC=[NETWORK="%s"]\nCONTEXT=[NETWORK=YES,SET_HOSTNAME="$NAME"]\nSCHED_REQUIREMENTS="HYPERVISOR=docker"\nSCHED_DS_REQUIREMENTS="TM_MAD=onedock"\n' \
            "$VM_NAME" "$image" "$VM_NAME" | one_create onetemplate
    fi
    vm=$(one_named onevm "$VM_NAME")
    if [ -z "$vm" ]; then
        say "the VM"
        as_oneadmin onetemplate instantiate "$VM_NAME" --name "$VM_NAME"
        vm=$(one_named onevm "$VM_NAME")
    fi
    reaches onevm "$vm" POWEROFF && as_oneadmin onevm resume "$vm"
    if ! wait_for 180 reaches onevm "$vm" RUNNING; then
        as_oneadmin onevm show "$vm" | grep -E '^(STATE|LCM_STATE|ERROR)' >&2 || true
        die "VM $vm does not run; see \`onevm show $vm\` and /var/log/one/$vm.log"
    fi
    VM_ADDRESS=$(as_oneadmin onevm list --no-header --list IP --filter "ID=$vm" | tr -d ' ')

    where=$(as_oneadmin onevm list --no-header --list HOST --filter "ID=$vm" | tr -d ' ')
    if [ "$where" = localhost ] || [ "$where" = "$(hostname)" ]; then
        say "both ports, from the VM's address"
        if ! ip -o addr show dev "$BRIDGE" | grep -q " $BRIDGE_ADDRESS/"; then
            ip addr add "$BRIDGE_ADDRESS/24" dev "$BRIDGE"
        fi
        wait_for 20 both_ports || die "the VM does not answer on $VM_ADDRESS"
        show_pages
    else
        say "both ports, asked within the VM: its network is on host $where"
        for port in 80 8080; do
            printf '    http://%s:%s/ answers: %s\n' "$VM_ADDRESS" "$port" \
                "$(as_oneadmin ssh -o BatchMode=yes "$where" docker exec "one-$vm" wget -q -O - "http://$VM_ADDRESS:$port/")"
        done
    fi
    say "the VM's row"
    as_oneadmin onevm list --filter "ID=$vm" | sed 's/^/    /'
    cat <<END

VM $vm runs on host $where.
  end it:            onevm terminate $vm       (as oneadmin)
  take all away:     make sandbox-down
END
}

hosts_that_are_on() {
    # The list has no column for the driver.
    for id in $(as_oneadmin onehost list --no-header --list ID); do
        as_oneadmin onehost show "$id" | awk '
            /^NAME +:/ { name = $3 } /^VM_MAD +:/ { mad = $3 } /^STATE +:/ { state = $3 }
            END { if (mad == "onedock" && state == "MONITORED") print name }'
    done
}

image_is_ready() {
    as_oneadmin oneimage list --no-header --list STAT --filter "ID=$image" | grep -Eq 'rdy|used'
}

# The VM, its template, network and image, and the datastores that the sandbox made: one that others
# have begun to use cannot be deleted, and stays.
with_oned_down() {
    say "the VM, template, network and image in OpenNebula"
    if ! oned_answers; then
        note "oned does not answer: they stay"
        failed=1
        return 0
    fi
    for vm in $(one_ids onevm "NAME=$VM_NAME"); do
        attempt as_oneadmin onevm terminate --hard "$vm"
        attempt wait_for 120 vm_is_gone "$vm"
    done
    for kind in onetemplate onevnet oneimage; do
        id=$(one_named "$kind" "$VM_NAME")
        [ -z "$id" ] || attempt as_oneadmin "$kind" delete "$id"
        # An image is still being deleted when the command is back.
        wait_for 30 one_is_gone "$kind" || true
    done
    while read -r id; do
        as_oneadmin onedatastore delete "$id" >/dev/null 2>&1 || note "datastore $id is in use and stays"
    done <"$RECORD/with-oned"
    rm -rf "$IMAGE_FOLDER" "$RECORD/with-oned"
}

one_is_gone() {
    [ -z "$(one_named "$1" "$VM_NAME")" ]
}

vm_is_gone() {
    ! one_ids onevm "ID=$1" | grep -qx "$1"
}
