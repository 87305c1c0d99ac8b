# shellcheck shell=bash
# machine.sh, sourced: one virtual machine from the image of image.sh. It emulates the processor,
# because a stock kernel does not run everywhere under KVM; so it shows what works and never
# how fast it is. It has no network but the ssh port on the loopback of this machine.

machine_pid=
machine_folder=

# machine_make_folder IMAGE: the folder of one machine, beside the emulator, which sees nothing else.
machine_make_folder() {
    machine_folder=$(mktemp -d "$1/qemu/vm.XXXXXX")
    echo $$ > "$machine_folder/pid"
    ln "$1/disk.img" "$1/vmlinuz" "$1/initrd.img" "$machine_folder/"
    cp "$1/id" "$machine_folder/id"
}

# machine_start IMAGE: starts it on a throw-away disk (-snapshot: the image is never written) and
# waits until ssh answers.
machine_start() {
    local image=$1 attempt port until
    for attempt in 1 2 3 4 5; do
        # A port that another program takes at the same moment lets QEMU end at once.
        port=$((20000 + RANDOM % 12000))
        machine_spawn "$image" "$port"
        until=$((SECONDS + 600))
        while kill -0 "$machine_pid" 2>/dev/null && [ "$SECONDS" -lt "$until" ]; do
            machine_port=$port
            if machine_ssh true 2>/dev/null && kill -0 "$machine_pid" 2>/dev/null; then
                return 0
            fi
            sleep 1
        done
        if kill -0 "$machine_pid" 2>/dev/null; then
            break
        fi
        echo "  attempt $attempt: $(tail -1 "$machine_folder/qemu.log")"
    done
    echo "the virtual machine does not answer; the end of its console:"
    tail -25 "$machine_folder/console.log"
    return 1
}

machine_spawn() {
    local image=$1 port=$2 inside
    inside=/${machine_folder##*/}
    # (no_timer_check: on a busy machine the emulated timer is late, and the kernel would give up.)
    # Without -nographic's helpers: nothing is read from this terminal. The emulator sees only
    # its own folder; it needs no device of this machine, and ends with this script.
    TMPDIR=$inside setpriv --pdeathsig KILL chroot "$image/qemu" /usr/bin/qemu-system-x86_64 \
        -M q35 -accel tcg,thread=multi,tb-size=512 -cpu max -smp 2 -m 2048 \
        -nodefaults -no-user-config -display none -no-reboot -snapshot \
        -kernel "$inside/vmlinuz" -initrd "$inside/initrd.img" \
        -append "console=ttyS0 quiet net.ifnames=0 no_timer_check mitigations=off random.trust_cpu=on apparmor=1 security=apparmor" \
        -drive id=d0,file="$inside/disk.img",format=raw,if=none,cache=unsafe \
        -device virtio-blk-pci,drive=d0 \
        -netdev "user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:$port-:22" \
        -device virtio-net-pci,netdev=n0,romfile= \
        -object rng-builtin,id=r0 -device virtio-rng-pci,rng=r0 \
        -serial "file:$inside/console.log" \
        </dev/null >"$machine_folder/qemu.log" 2>&1 &
    machine_pid=$!
}

# machine_clear IMAGE: takes away the folders of machines whose script was killed.
machine_clear() {
    local folder
    for folder in "$1"/qemu/vm.*/; do
        [ -d "$folder" ] || continue
        if ! kill -0 "$(cat "$folder/pid" 2>/dev/null)" 2>/dev/null; then rm -rf -- "$folder"; fi
    done
}

# machine_ssh WORDS: a command in it, as root.
machine_ssh() {
    ssh -q -i "$machine_folder/id" -p "$machine_port" -o BatchMode=yes -o ConnectTimeout=10 \
        -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
        -o ServerAliveInterval=15 -o ServerAliveCountMax=8 root@127.0.0.1 "$@"
}

# machine_stop: ends it by its number and takes its folder away. A clean power-off is not
# waited for: its disk is thrown away.
machine_stop() {
    if [ -n "$machine_pid" ]; then
        kill -KILL "$machine_pid" 2>/dev/null || true
        wait "$machine_pid" 2>/dev/null || true
        machine_pid=
    fi
    if [ -n "$machine_folder" ]; then
        rm -rf -- "$machine_folder"
        machine_folder=
    fi
    return 0
}
