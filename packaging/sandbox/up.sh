#!/bin/sh
# `make sandbox`: engine, registry, bridge, drivers and one VM on this machine; can be called
# again at any time. `make sandbox-down` takes it all away.
#   up.sh FOLDER-OF-THE-PROGRAMS
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
need_root
alone "$0" "$@"
bin=$(cd "$1" && pwd)

mkdir -p "$RECORD"

if [ ! -e "$RECORD/whole" ] && ! oned_answers; then write_record; fi
# The engine's answer is asked through the socket alone: a variable of the caller could name
# another one.
unset DOCKER_HOST DOCKER_CONTEXT

bridge_up() {
    if ! ip link show dev "$BRIDGE" >/dev/null 2>&1; then
        taken=$(ip -o addr show | grep " $RANGE\\." || true)
        taken=$taken$(ip -o route show | grep "^$RANGE\\." || true)
        [ -z "$taken" ] || die "the range $RANGE.0/24 is in use on this machine ($taken); the sandbox needs it"
        # Before the link: one that was made when this was killed must be known by the next call.
        touch "$RECORD/bridge"
        ip link add name "$BRIDGE" type bridge || {
            rm -f "$RECORD/bridge"
            die "the bridge $BRIDGE could not be made"
        }
        # A VM must not become this machine's router.
        for setting in ipv6/conf/"$BRIDGE"/accept_ra ipv6/conf/"$BRIDGE"/accept_redirects \
            ipv4/conf/"$BRIDGE"/accept_redirects; do
            [ ! -e "/proc/sys/net/$setting" ] || echo 0 >"/proc/sys/net/$setting"
        done
    elif [ ! -e "$RECORD/bridge" ]; then
        die "there is a link $BRIDGE that the sandbox did not make; rename or remove it"
    fi
    ip addr replace "$BRIDGE_ADDRESS/24" dev "$BRIDGE"
    ip link set dev "$BRIDGE" up
}

page() {
    # Not with busybox: Debian's static one cannot resolve on every machine, not even an address.
    curl --silent --fail --max-time 3 --noproxy "*" "http://$VM_ADDRESS:$1/"
}

both_ports() {
    page 80 >/dev/null && page 8080 >/dev/null
}

show_pages() {
    for port in 80 8080; do
        printf '    http://%s:%s/ answers: %s\n' "$VM_ADDRESS" "$port" "$(page "$port")"
    done
}

if oned_answers; then
    say "an oned answers on this machine: the sandbox uses it"
    # shellcheck source=packaging/sandbox/with-oned.sh
    . "$here/with-oned.sh"
    with_oned_up
    exit 0
fi
if has_opennebula; then
    note "an OpenNebula is installed here and does not answer: the sandbox goes on without it"
fi

unset ONE_LOCATION
refuse_unsuitable_engine
# shellcheck disable=SC2046 # one word a program
need_programs $(sandbox_programs)

# Its output is a line for each step; what was so already is left out.
quietly() {
    log=$(mktemp)
    if ! "$@" >"$log" 2>&1; then
        grep -v '^  ok ' "$log" >&2 || true
        rm -f "$log"
        die "this failed: $*"
    fi
    grep '^  done ' "$log" | sed 's/^  done  */    /' || true
    rm -f "$log"
}

say "the node: engine, runtime, oneadmin"
quietly "$bin/onedock" setup node --from "$bin"

say "the bridge $BRIDGE, $BRIDGE_ADDRESS/24"
bridge_up

if was_there /etc/onedock && [ -e /etc/onedock/join.json ]; then
    say "this machine has its registry already: the sandbox uses it"
else
    say "the registry on $BRIDGE_ADDRESS:$REGISTRY_PORT"
    quietly "$bin/onedock" setup registry --name "$BRIDGE_ADDRESS" --listen "$BRIDGE_ADDRESS" --port "$REGISTRY_PORT"
    quietly "$bin/onedock" setup node --from "$bin"
fi

say "an image from busybox: an HTTP server on two ports"
[ -e "$IMAGE" ] || "$here/image.sh" "$IMAGE"
chmod 755 "$IMAGE_FOLDER"

vm_row() {
    "$bin/onedock" run --list | awk -v name="$VM_NAME" '$2 == name { print $1, $3; exit }'
}

say "the VM"
row=$(vm_row)
if [ "${row#* }" = RUNNING ] && both_ports; then
    note "it runs already"
else
    if [ -n "$row" ]; then
        note "the one of before is ${row#* } and is taken away"
        "$bin/onedock" run --stop "${row%% *}"
    fi
    "$bin/onedock" run --from "$bin" "$here/web.one"
fi

say "both ports, from the VM's address"
wait_for 20 both_ports || die "the VM does not answer on $VM_ADDRESS; see \`$bin/onedock run --list\`, \`docker logs\` and /var/lib/onedock/onedock.log"
show_pages

say "the VM's row"
"$bin/onedock" run --list | sed 's/^/    /'

row=$(vm_row)
cat <<END

The VM runs. Its pages: http://$VM_ADDRESS/ and http://$VM_ADDRESS:8080/
  a shell in it:     docker exec -it one-${row%% *} sh
  end it:            ${SUDO_USER:+sudo }$bin/onedock run --stop ${row%% *}
  take all away:     make sandbox-down
END
