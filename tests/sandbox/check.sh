#!/bin/bash
# check.sh CASE...: the README's first command and the one that takes it back, on this machine, which
# has no sandbox. It is compared before and after: `make sandbox-down` leaves nothing. Cases:
#   whole    from nothing, twice, both ports, down, down again
#   killed   `make sandbox` is killed at several points
#   engine   the machine has an engine with a container of its own, which goes on
# UP and DOWN name other commands than `make sandbox` and `make sandbox-down`.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tree=$(cd "$here/../.." && pwd)
. "$here/../vm/steps.sh"
# shellcheck source=packaging/sandbox/lib.sh
. "$tree/packaging/sandbox/lib.sh"
say() { printf '\n%s\n' "$1"; }
set +e
cd "$tree" || exit 1
read -ra up <<<"${UP:-make sandbox}"
read -ra down <<<"${DOWN:-make sandbox-down}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# What is killed leaves its temporary files. They are of whoever calls `make sandbox`.
chmod 711 "$work"
mkdir -m 1777 "$work/tmp"
export TMPDIR=$work/tmp
export CHECKOUT=$tree CARGO_NET_OFFLINE=true
unset DOCKER_HOST DOCKER_CONTEXT ONE_LOCATION

snapshot() { "$here/snapshot.sh" | sort | uniq -c; }
remember() { snapshot >"$work/before"; }
# same TEXT: the machine is as it was.
same() {
    snapshot >"$work/after"
    holds "$1" diff -U0 "$work/before" "$work/after"
}
page() { curl --silent --fail --max-time 20 --noproxy '*' "http://$VM_ADDRESS:$1/"; }
both_pages() {
    is "port 80 answers" 'Hello from the VM, port 80.' page 80
    is "port 8080 answers" 'Hello from the VM, port 8080.' page 8080
}
vm_container() { docker ps --no-trunc --quiet --filter label=org.opennebula.vm.id; }
vm_process() { docker ps --quiet | xargs -r docker inspect -f '{{.Name}} {{.State.Pid}}' | grep '^/one-'; }
# The containers whose control groups the caller removes should this script be killed.
note_containers() { [ -z "${CONTAINERS-}" ] || docker ps -aq --no-trunc >>"$CONTAINERS" 2>/dev/null; }
has_words() { grep -q -- "$2" "$1"; }

# What others have here, with names like the sandbox's: a NIC of another OpenNebula's VM 17, a rule about
# docker0, a shim of an engine in another mount namespace.
others=()
lay_others_things() {
    ip link add others0 type bridge
    ip link add one-17-0 type veth peer name one-17-p
    ip link set one-17-0 master others0
    iptables -A INPUT -i docker0 -p tcp --dport 5999 -j ACCEPT
    unshare --mount --propagation private bash -c \
        'exec -a /usr/bin/containerd-shim-runc-v2 sh -c "while :; do sleep 1; done" -address /var/run/docker/containerd/containerd.sock' \
        </dev/null >/dev/null 2>&1 &
    others+=("$!")
}
others_are_there() {
    ip link show master others0 | grep -q one-17-0 && iptables -S INPUT | grep -q 'docker0.*5999' &&
        grep -q containerd-shim "/proc/${others[0]}/cmdline"
}
remove_others_things() {
    kill "${others[0]}" 2>/dev/null
    wait "${others[0]}" 2>/dev/null
    ip link delete dev one-17-0
    ip link delete dev others0
    iptables -D INPUT -i docker0 -p tcp --dport 5999 -j ACCEPT
}

whole() {
    say "make sandbox from nothing, and make sandbox-down"
    lay_others_things
    remember
    holds "make sandbox" "${up[@]}"
    note_containers
    both_pages
    local process
    process=$(vm_process)
    holds "a container runs" test -n "$process"
    holds "make sandbox once more" eval "${up[*]} >$work/second"
    holds "... which finds the VM running" has_words "$work/second" 'it runs already'
    is "... by the same process" "$process" vm_process
    both_pages
    docker volume create somebodys >/dev/null
    fails "make sandbox-down does not take somebody's volume" "${down[@]}"
    is "... which is there" somebodys docker volume ls -q
    is "... and nothing was done" "$process" vm_process
    docker volume rm somebodys >/dev/null
    holds "make sandbox-down" "${down[@]}"
    holds "what others have is there" others_are_there
    same "the machine is as it was"
    matches "make sandbox-down once more" 'there is no sandbox' "${down[@]}"
    same "the machine is as it was"
    remove_others_things
}

# The output of `make sandbox` reaches a heading; then it and its children are killed.
kill_at() {
    : >"$work/log"
    setsid "${up[@]}" >"$work/log" 2>&1 &
    local pid=$! tries=0
    until grep -q "^==> $1" "$work/log" || ! kill -0 "$pid" 2>/dev/null || [ "$tries" -gt 3000 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    # "trial": while the set-up tries a runtime, which has a bundle in /run and control groups.
    if [ "$2" = trial ]; then
        until compgen -G '/run/onedock-try*' >/dev/null || ! kill -0 "$pid" 2>/dev/null; do :; done
    else
        sleep "$2"
    fi
    kill -KILL -- "-$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    grep -q "^==> $1" "$work/log"
}

killed() {
    say "make sandbox is killed"
    remember
    local point
    for point in 'the node:0.1' 'the node:trial' 'the node:1' 'the bridge:0' 'the registry:0.3' 'an image:0' 'the VM:0.2' 'both ports:0'; do
        holds "at \"${point%:*}\", after ${point#*:}" kill_at "${point%:*}" "${point#*:}"
        note_containers
        holds "make sandbox-down" "${down[@]}"
        same "the machine is as it was"
    done
    say "make sandbox is killed, and called again"
    holds "at \"the VM\"" kill_at 'the VM' 0.3
    holds "make sandbox" "${up[@]}"
    note_containers
    both_pages
    say "the engine is killed under the sandbox"
    kill -KILL "$(cat /run/docker.pid)"
    holds "make sandbox-down" "${down[@]}"
    same "the machine is as it was"
}

user_container() { docker inspect -f '{{.State.Pid}} {{.State.Status}}' users 2>&1; }

engine() {
    say "A machine that has an engine with a container of its own"
    mkdir -p /etc/docker
    printf '{\n  "log-level": "warn"\n}\n' >/etc/docker/daemon.json
    setsid dockerd --pidfile /run/docker.pid >"$work/dockerd.log" 2>&1 </dev/null &
    holds "the user's engine runs" wait_for 60 docker version
    or_end
    tar -C / -c ./bin/busybox | docker import -c 'CMD ["/bin/busybox", "sleep", "9999"]' - users:1 >/dev/null
    holds "the user's container runs" docker run -d --name users users:1
    note_containers
    export SNAPSHOT_PRUNE='/var/lib/docker/* /run/docker/*'
    remember
    local process daemon
    process=$(user_container)
    daemon=$(cat /run/docker.pid)
    holds "make sandbox" "${up[@]}"
    note_containers
    both_pages
    is "the user's container goes on" "$process" user_container
    holds "make sandbox-down" "${down[@]}"
    is "the user's container goes on" "$process" user_container
    is "the engine is the same process" "$daemon" cat /run/docker.pid
    is "it has no image but the user's" 'users:1' docker image ls --format '{{.Repository}}:{{.Tag}}'
    matches "it knows the runtime no more" '^[^o]*$' docker info -f '{{json .Runtimes}}{{.LiveRestoreEnabled}}'
    same "the machine is as it was"
    docker rm -f users >/dev/null
    kill "$(cat /run/docker.pid)"
    wait_for 30 test ! -e /run/docker.pid
}

[ ! -e "$RECORD" ] || die "there is a sandbox on this machine"
for name; do "$name"; done
finish
