#!/bin/sh
# `make sandbox-down`: takes away what `make sandbox` made, by what it wrote down before it began.
# Packages stay. Every step is made, whatever the one before it came to.
#   down.sh FOLDER-OF-THE-PROGRAMS
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=packaging/sandbox/lib.sh
. "$here/lib.sh"
# shellcheck source=packaging/sandbox/programs.sh
. "$here/programs.sh"
# shellcheck source=packaging/sandbox/record.sh
. "$here/record.sh"
# shellcheck source=packaging/sandbox/rules.sh
. "$here/rules.sh"
# shellcheck source=packaging/sandbox/engine.sh
. "$here/engine.sh"
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

# An installation of packages that was killed.
allow_services

engine_of_before() {
    was dockerd
}
if engine_of_before && [ ! -x "$onedock" ]; then
    die "$onedock is not there, and the sandbox's VM in this machine's engine can be ended only with it: call make build, then this again"
fi

# The engine that the sandbox started goes with its folder: not with what somebody else keeps in it.
if ! was_there /var/lib/docker; then
    others=$(others_in_engine)
    # shellcheck disable=SC2086 # one line
    [ -z "$others" ] || die "the sandbox's engine holds what is not the sandbox's: $(echo $others). Nothing was done: bring it elsewhere, or remove it (docker rm, docker volume rm), and call this again"
fi

say "the VMs and their images"
if [ -d /var/lib/onedock/run/vms ] && ! was_there /var/lib/onedock; then
    # An engine that does not run cannot list its containers; below, it goes with all it holds.
    if dockerd_runs && [ -x "$onedock" ]; then
        for folder in /var/lib/onedock/run/vms/*; do
            # One that was killed before it began has a number and nothing else.
            [ -f "$folder/vm.json" ] || continue
            attempt "$onedock" run --stop "${folder##*/}" --remove-image
        done
    fi
elif [ -x "$onedock" ]; then
    # A node that was set up before: only the sandbox's own VM.
    id=$("$onedock" run --list | awk -v name="$VM_NAME" '$2 == name { print $1; exit }')
    [ -z "$id" ] || attempt "$onedock" run --stop "$id" --remove-image
fi

# Ends one of the registry's two processes: its name in /run, its program, its configuration.
end_registry() {
    if pid=$(running_pid "/run/$1.pid" "$2" "/etc/onedock/registry/$3"); then
        kill "$pid"
        attempt wait_for 10 test ! -d "/proc/$pid"
    fi
}

if ! was registry; then
    say "the registry"
    if has_systemd; then
        systemctl disable --now onedock-registry-proxy onedock-registry >/dev/null 2>&1 || true
    else
        end_registry onedock-registry-proxy haproxy haproxy.cfg
        end_registry onedock-registry docker-registry config.yml
    fi
fi

say "the engine"
attempt restore_edited_files
if engine_of_before; then
    remove_sandbox_images
    grep -qs '"onedock"' "$RECORD/daemon.json" || attempt forget_runtime
    attempt restore_edited_files
else
    end_engine
fi

say "the bridge and the filters"
if [ -e "$RECORD/bridge" ] && ip link show dev "$BRIDGE" >/dev/null 2>&1; then
    # The host's ends of NICs whose VM was not ended above.
    ip -o link show master "$BRIDGE" type veth 2>/dev/null | sed -n 's/^[0-9]*: \([^@:]*\)[@:].*/\1/p' | while read -r link; do
        ip link delete dev "$link" 2>/dev/null || true
    done
    attempt ip link delete dev "$BRIDGE"
fi
expression=
if ! engine_of_before; then
    if ip link show dev docker0 >/dev/null 2>&1; then attempt ip link delete dev docker0; fi
    expression='DOCKER|docker0'
fi
if ! was opennebula-chain && ! chain_is_in_use; then
    expression="${expression:+$expression|}opennebula"
fi
[ -z "$expression" ] || attempt remove_new_rules "$expression"
# setup node loads it, and with it every bridge of the machine is filtered. It alone: modprobe -r
# removes the modules beneath it, too, and the module bridge takes every bridge of the machine along.
if [ -e /sys/module/br_netfilter ] && ! was br_netfilter; then
    rmmod br_netfilter 2>/dev/null || true
fi
if ! engine_of_before; then
    while read -r key value; do
        [ ! -e "/proc/sys/$key" ] || printf '%s\n' "$value" 2>/dev/null >"/proc/sys/$key" || true
    done <"$RECORD/sysctl"
fi

say "the files"
unmount_below() {
    awk -v folder="$1/" 'index($2 "/", folder) == 1 { print $2 }' /proc/self/mounts | sort -r | while read -r mount; do
        umount "$mount" 2>/dev/null || umount -l "$mount" || true
    done
}
# An OpenNebula that was installed since has its own data in these.
is_kept_for_opennebula() {
    has_opennebula && ! was opennebula
}
# A folder of /etc that came with our files, and those above it, when nothing is in them; not one
# of a package that was installed since.
remove_new_folders() {
    folder=$1
    while [ -s "$RECORD/folders" ] && [ "$folder" != /etc ] && ! grep -qxF -- "$folder" "$RECORD/folders"; do
        if has dpkg && dpkg -S "$folder" >/dev/null 2>&1; then return 0; fi
        rmdir "$folder" 2>/dev/null || return 0
        folder=${folder%/*}
    done
}
made_paths | while read -r path; do
    was_there "$path" && continue
    case $path in
    # Somebody may have logged in to a registry since.
    */.docker)
        rmdir "$path" 2>/dev/null || true
        continue
        ;;
    /var/lib/docker | /run/docker | /run/docker.* | /etc/docker/key.json)
        if engine_of_before; then continue; fi
        ;;
    /var/lib/containerd | /run/containerd)
        if engine_of_before || was containerd-active; then continue; fi
        ;;
    /var/lib/one | /var/log/one | /run/one | /run/lock/one)
        if is_kept_for_opennebula; then
            note "an OpenNebula was installed here since: $path stays"
            continue
        fi
        ;;
    esac
    [ -e "$path" ] || [ -L "$path" ] || continue
    [ "$path" = "$IMAGE_FOLDER" ] || unmount_below "$path"
    rm -rf --one-file-system "$path" || note "this could not be removed: $path"
    case $path in /etc/*/*) remove_new_folders "${path%/*}" ;; esac
done
remove_new_folders /etc/docker

say "the user"
if was oneadmin; then
    was oneadmin-docker || gpasswd -d oneadmin docker >/dev/null 2>&1 || true
elif ! is_kept_for_opennebula; then
    if id oneadmin >/dev/null 2>&1; then attempt userdel oneadmin; fi
    if ! was oneadmin-group && getent group oneadmin >/dev/null; then attempt groupdel oneadmin; fi
fi
if has_systemd; then systemctl daemon-reload; fi

[ "$failed" -eq 0 ] || die "not everything could be removed; fix what is reported above and call this again"
rm -rf "$RECORD" /run/lock/onedock-sandbox
say "the sandbox is gone; packages that it installed stay"
