# shellcheck shell=bash disable=SC2154
# checks.sh, sourced by walk.sh: what it makes and what it checks. Needs opennebula.sh, and
# $vm, $neighbour, $address and $registry.

# The container from inside, and its first process on the host.
inside() { docker exec "one-$1" "${@:2}"; }
first_process() { docker inspect -f '{{.State.Pid}}' "one-$1"; }
# A limit of cgroup v2.
limit() { cat "/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$(first_process "$vm")/cgroup")/$1"; }
state() { as_oneadmin "$on_node/onedock/$(uname -m)/onedock-im" probe state; }
image_source() { jq -r .source "$played"/images/*/image.json; }

fetch() { curl -sS -m 20 "http://$address:$1/"; }
# (Not with -T: Debian's static busybox dies of it.)
fetch_from_neighbour() { timeout 60 docker exec "one-$neighbour" wget -q -O - "http://$address:$1/"; }
both_ports() {
    local port
    for port in 80 8080; do
        is "port $port answers the host" "hello from $port" fetch "$port"
        is "port $port answers the neighbour VM" "hello from $port" fetch_from_neighbour "$port"
    done
}

# A set-up that finds nothing to do.
unchanged() {
    local output
    output=$("$@") && echo "$output" && grep -q '^0 done' <<< "$output"
}

make_bridge() {
    ip link add onebr0 type bridge && ip addr add 10.77.0.1/24 dev onebr0 && ip link set onebr0 up
}

# The archive that an administrator would make: two web servers, one on each port.
make_archive() (
    set -e
    # A process 1 ends at TERM only when it asks for it.
    script='trap "exit 0" TERM; httpd -p 8080 -h /www/8080; httpd -f -p 80 -h /www/80 & wait'
    root=$(mktemp -d)
    mkdir -p "$root"/{bin,etc,tmp,proc,sys,dev,www/80,www/8080}
    cp /bin/busybox "$root/bin/"
    # As in packaging/sandbox/image.sh: what Debian's installer leaves is not the static one.
    for library in $(ldd /bin/busybox 2>/dev/null | grep -o '/[^ ]*'); do
        install -D "$library" "$root$library"
    done
    chroot "$root" /bin/busybox --install -s /bin
    echo 'hello from 80' > "$root/www/80/index.html"
    echo 'hello from 8080' > "$root/www/8080/index.html"
    command=$(jq -nc --arg script "$script" '["/bin/sh", "-c", $script]')
    tar -C "$root" -c . | docker import -c "CMD $command" - web:1
    docker save -o "$1" web:1
    chmod 644 "$1"
    docker rmi web:1
    rm -rf "$root"
)

# registry_has SOURCE
registry_has() {
    local name=${1#docker://*/}
    curl -sS -f -m 60 -u "onedock:$(jq -r .onedock /etc/onedock/registry/passwords.json)" \
        --cacert /etc/onedock/registry/ca.crt \
        -H 'Accept: application/vnd.docker.distribution.manifest.v2+json' \
        -H 'Accept: application/vnd.oci.image.manifest.v1+json' \
        "https://$registry:5000/v2/${name%%@*}/manifests/${name##*@}"
}

# Everything that a VM could leave behind, in a form that can be compared. What may stay is not
# listed: a system datastore with its mark, and locks, empty files that must never be deleted
# (common/src/state/lock.rs), and the filters that crun has compiled.
belongings() {
    docker ps -aq --no-trunc | sed 's/^/container /'
    docker volume ls -q | sed 's/^/volume /'
    ip -o link | awk -F': ' '{ print "link " $2 }'
    find /run/netns /run/docker/netns -mindepth 1 2>/dev/null | sed 's/^/netns /'
    # (A login's own folder goes some seconds after its last session.)
    awk '$5 !~ "^/run/user/" { print "mount " $5 }' /proc/self/mountinfo
    losetup -ln -O NAME,BACK-FILE | sed 's/^/loop /'
    find /sys/fs/cgroup -type d -name 'docker-*' | sed 's/^/cgroup /'
    ps -eo args= | awk '/containerd-shim|onedock-(runtime|init|vmm|tm|node)|qemu-storage-daemon/ && !/awk/ { print "process " $0 }'
    find /var/lib/onedock /var/lib/onedock-layers /var/lib/one -mindepth 1 -not -path /var/lib/onedock/onedock.log \
        -not -path '/var/lib/onedock/lock/*' -not -path "$played" -not -path "$played/lock" \
        -not -path "$played/vms" -not -path "$played/images" -not -path "$played/datastores" \
        -not -path "$played/datastores/1000001" -not -name .monitor | sed 's/^/file /'
    find /run/onedock /run/one /run/crun /run/docker /var/tmp /tmp -not -type d \
        -not -name chain.lock -not -path '*/.cache/seccomp/*' -not -path '/run/docker/libnetwork/*' -not -path /tmp/stderr \
        2>/dev/null | sed 's/^/file /'
}

remember() { belongings | sort -u > /root/before; }
# What is new, one a line.
nothing_left() { ! comm -13 /root/before <(belongings | sort -u) | grep .; }
