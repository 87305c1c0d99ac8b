#!/bin/sh
# `make sandbox-down`: takes away what `make sandbox` made, by what it wrote down before it began.
# Packages stay. Every step is made, whatever the one before it came to.
#   down.sh FOLDER-OF-THE-PROGRAMS
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=packaging/sandbox/lib.sh
. "$here/lib.sh"
# shellcheck source=packaging/sandbox/record.sh
. "$here/record.sh"
need_root
alone "$0" "$@"
onedock=$1/onedock
unset DOCKER_HOST DOCKER_CONTEXT

if [ ! -d "$RECORD" ]; then
    say "there is no sandbox on this machine"
    exit 0
fi
failed=0
attempt() {
    if ! "$@"; then
        failed=1
        note "this failed: $*"
    fi
}

if [ -e "$RECORD/with-oned" ]; then
    # shellcheck source=packaging/sandbox/with-oned.sh
    . "$here/with-oned.sh"
    with_oned_down
fi
if [ ! -e "$RECORD/whole" ]; then
    rm -rf "$RECORD" /run/lock/onedock-sandbox
    say "the sandbox is gone"
    exit 0
fi

engine_of_before() {
    was dockerd
}

say "the VMs and their images"
if [ -d /var/lib/onedock/run/vms ] && ! was_there /var/lib/onedock; then
    # An engine that does not run cannot tell of its containers; below it goes with all it holds.
    if dockerd_runs && [ -x "$onedock" ]; then
        for folder in /var/lib/onedock/run/vms/*; do
            [ -d "$folder" ] || continue
            attempt "$onedock" run --stop "${folder##*/}" --remove-image
        done
    fi
elif [ -x "$onedock" ]; then
    # A node that was set up before: only the sandbox's own VM.
    id=$("$onedock" run --list | awk -v name="$VM_NAME" '$2 == name { print $1; exit }')
    [ -z "$id" ] || attempt "$onedock" run --stop "$id" --remove-image
fi

if ! was registry; then
    say "the registry"
    if has_systemd; then
        systemctl disable --now onedock-registry >/dev/null 2>&1 || true
    elif pid=$(running_pid /run/onedock-registry.pid /etc/onedock/registry/config.yml); then
        kill "$pid"
        attempt wait_for 10 test ! -d "/proc/$pid"
    fi
fi

say "the engine"
if dockerd_runs; then
    images=$(docker image ls --no-trunc --quiet --filter "reference=$BRIDGE_ADDRESS:$REGISTRY_PORT/*/*" | sort -u)
    for image in $images; do
        attempt docker image rm --force "$image" >/dev/null
    done
fi
# A reload keeps the value of a key that is no longer in the file: so each is said once more,
# as it was, before the file itself is put back. A restart would end the containers of others.
forget_runtime() {
    pid=$(running_pid /run/docker.pid dockerd) || return 0
    has ruby || return 0
    ruby -rjson -e '
        path = ARGV[0]
        was = File.exist?(path) ? JSON.parse(File.read(path)) : {}
        File.write(path, JSON.generate({ "runtimes" => {}, "live-restore" => false }.merge(was)))
    ' /etc/docker/daemon.json
    kill -HUP "$pid"
    wait_for 10 runtime_is_forgotten
}
runtime_is_forgotten() {
    ! timeout 10 docker info --format '{{range $name, $_ := .Runtimes}}{{println $name}}{{end}}' | grep -qx onedock
}
attempt restore_edited_files
if engine_of_before; then
    grep -qs '"onedock"' "$RECORD/daemon.json" || attempt forget_runtime
    attempt restore_edited_files
else
    if has_systemd; then
        systemctl stop docker.socket docker containerd >/dev/null 2>&1 || true
        was dockerd-enabled || systemctl disable docker.socket docker >/dev/null 2>&1 || true
    elif pid=$(running_pid /run/docker.pid dockerd); then
        # live-restore is on: what still runs has to be ended by name, or it would go on.
        running=$(timeout 20 docker ps --quiet 2>/dev/null || true)
        for container in $running; do
            docker kill "$container" >/dev/null 2>&1 || true
        done
        kill "$pid"
        attempt wait_for 30 test ! -d "/proc/$pid"
    fi
    # Where the engine had died before, its containers live on below their shims.
    for task in /run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/*; do
        [ -r "$task/init.pid" ] || continue
        kill -KILL "$(cat "$task/init.pid")" 2>/dev/null || true
    done
    if pid=$(running_pid /run/docker/containerd/containerd.pid containerd); then
        kill "$pid"
        wait_for 10 test ! -d "/proc/$pid" || true
    fi
    for stat in /proc/[0-9]*/cmdline; do
        # The shims that an ended engine left behind name its socket.
        if tr '\0' ' ' 2>/dev/null <"$stat" | grep -q '^/usr/bin/containerd-shim.* -address /var/run/docker/containerd/'; then
            pid=${stat#/proc/}
            kill "${pid%/cmdline}" 2>/dev/null || true
        fi
    done
fi

say "the bridge and the filters"
ip -o link show 2>/dev/null | sed -n 's/^[0-9]*: \(one-1[0-9]*-[0-9]*\)@.*/\1/p' | while read -r link; do
    ip link delete dev "$link" 2>/dev/null || true
done
if [ -e "$RECORD/bridge" ] && ip link show dev "$BRIDGE" >/dev/null 2>&1; then
    attempt ip link delete dev "$BRIDGE"
fi
drop_rules() {
    for table in iptables ip6tables; do
        has "$table" || continue
        "$table-save" -c 2>/dev/null | grep -v -E -- "$1" | "$table-restore" -c 2>/dev/null || true
        policy=$(sed -n "s/^$table-forward //p" "$RECORD/facts")
        [ -z "$policy" ] || "$table" -P FORWARD "$policy" 2>/dev/null || true
    done
}
if ! engine_of_before; then
    if ip link show dev docker0 >/dev/null 2>&1; then attempt ip link delete dev docker0; fi
    if was opennebula-chain; then
        drop_rules 'DOCKER|docker0'
    else
        drop_rules 'DOCKER|docker0|opennebula'
    fi
    while read -r key value; do
        printf '%s\n' "$value" 2>/dev/null >"/proc/sys/$key" || true
    done <"$RECORD/sysctl"
elif ! was opennebula-chain; then
    drop_rules 'opennebula'
fi

say "the files"
unmount_below() {
    awk -v folder="$1/" 'index($2 "/", folder) == 1 { print $2 }' /proc/self/mounts | sort -r | while read -r place; do
        umount "$place" 2>/dev/null || umount -l "$place" || true
    done
}
made_paths | while read -r path; do
    was_there "$path" && continue
    case $path in
    /var/lib/docker | /run/docker | /run/docker.* | /var/lib/containerd | /run/containerd | /etc/docker/key.json)
        if engine_of_before; then continue; fi
        ;;
    esac
    [ -e "$path" ] || [ -L "$path" ] || continue
    [ "$path" = "$IMAGE_FOLDER" ] || unmount_below "$path"
    rm -rf "$path" || note "this could not be removed: $path"
done
rmdir /etc/docker 2>/dev/null || true
if ! engine_of_before; then
    find /sys/fs/cgroup -maxdepth 2 -type d -name docker 2>/dev/null | while read -r group; do
        grep -qx -- "$group" "$RECORD/cgroups" || find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done
fi

say "the user"
if was oneadmin; then
    was oneadmin-docker || gpasswd -d oneadmin docker >/dev/null 2>&1 || true
else
    if id oneadmin >/dev/null 2>&1; then attempt userdel oneadmin; fi
    if ! was oneadmin-group && getent group oneadmin >/dev/null; then attempt groupdel oneadmin; fi
fi
if has_systemd; then systemctl daemon-reload; fi

[ "$failed" -eq 0 ] || die "not everything could be taken away; mend what is said above and call this again"
rm -rf "$RECORD" /run/lock/onedock-sandbox
say "the sandbox is gone; packages that it installed stay"
