# How the sandbox leaves an engine: one of before goes on without what the sandbox gave it, one that
# the sandbox started is ended with all it holds. Only processes of this machine are signalled.
# Sourced by down.sh.
# shellcheck shell=sh

# The images of the sandbox's registry in an engine of before.
remove_sandbox_images() {
    dockerd_runs || return 0
    images=$(docker image ls --no-trunc --quiet --filter "reference=$BRIDGE_ADDRESS:$REGISTRY_PORT/*/*" | sort -u)
    for image in $images; do
        attempt docker image rm --force "$image" >/dev/null
    done
}

# A reload keeps the value of a key that is no longer in the file: so each is written once more,
# as it was, before the file itself is put back. A restart would end the containers of others.
forget_runtime() {
    dockerd_runs && has ruby || return 0
    ruby -rjson -e '
        path = ARGV[0]
        was = File.exist?(path) ? JSON.parse(File.read(path)) : {}
        File.write(path, JSON.generate({ "runtimes" => {}, "live-restore" => false }.merge(was)))
    ' /etc/docker/daemon.json
    reload_engine && wait_for 10 runtime_is_forgotten
}

reload_engine() {
    if has_systemd; then
        systemctl reload docker
    elif pid=$(running_pid /run/docker.pid dockerd); then
        kill -HUP "$pid"
    fi
}

runtime_is_forgotten() {
    ! timeout 10 docker info --format '{{range $name, $_ := .Runtimes}}{{println $name}}{{end}}' | grep -qx onedock
}

# Containers that are no VM, and volumes that were given a name, by the engine's files: it may not run.
others_in_engine() {
    for file in /var/lib/docker/containers/*/config.v2.json; do
        [ -e "$file" ] && ! grep -q '"org\.opennebula\.vm"' "$file" || continue
        sed -n 's/.*"Name":"\/\([^"]*\)".*/container \1/p' "$file"
    done
    for folder in /var/lib/docker/volumes/*/; do
        [ -d "$folder" ] || continue
        basename "$folder" | grep -vE '^[0-9a-f]{64}$' | sed 's/^/volume /'
    done
}

# live-restore is on: what still runs has to be ended by name, or it would go on without its engine.
end_containers() {
    dockerd_runs || return 0
    for container in $(timeout 20 docker ps --quiet 2>/dev/null || true); do
        docker kill "$container" >/dev/null 2>&1 || true
    done
    docker network prune --force >/dev/null 2>&1 || true
}

end_engine() {
    end_containers
    containers=$(find /var/lib/docker/containers -mindepth 1 -maxdepth 1 -type d -exec basename {} \; 2>/dev/null || true)
    if has_systemd; then
        for unit in docker.socket docker containerd; do
            was "$unit-active" || systemctl stop "$unit" >/dev/null 2>&1 || true
            was "$unit-enabled" || systemctl disable "$unit" >/dev/null 2>&1 || true
        done
    elif pid=$(running_pid /run/docker.pid dockerd); then
        kill "$pid"
        attempt wait_for 30 test ! -d "/proc/$pid"
    fi
    end_orphans
    if was containerd-active && ! was containerd-moby; then forget_in_containerd; fi
    # What a containerd of before keeps for Docker; it stays where something is in it.
    find /run/containerd /var/lib/containerd -maxdepth 2 -type d -name moby -exec rmdir {} + 2>/dev/null || true
    if pid=$(running_pid /run/docker/containerd/containerd.pid containerd); then
        kill "$pid"
        wait_for 10 test ! -d "/proc/$pid" || true
    fi
    end_shims
    for container in $containers; do
        remove_cgroups "$container"
    done
    # Those of a runtime's trial that was killed, by its process's number.
    find /sys/fs/cgroup -maxdepth 4 -type d -name '*onedock-try-*' 2>/dev/null | while read -r group; do
        pid=${group##*onedock-try-}
        [ -d "/proc/${pid%.scope}" ] || rmdir "$group" 2>/dev/null || true
    done
    find /sys/fs/cgroup -maxdepth 2 -type d -name docker 2>/dev/null | while read -r group; do
        # It goes only when it is empty: an engine in other namespaces may share it.
        grep -qxF -- "$group" "$RECORD/cgroups" || rmdir "$group" 2>/dev/null || true
    done
}

# A containerd of before has Docker's manifests in a namespace of Docker's; without Docker it would keep
# them for good.
forget_in_containerd() {
    has ctr && moby_is_in_containerd || return 0
    for kind in leases content; do
        timeout 20 ctr --namespace moby "$kind" ls --quiet 2>/dev/null | while read -r name; do
            timeout 20 ctr --namespace moby "$kind" rm "$name" >/dev/null 2>&1 || true
        done
    done
    attempt timeout 20 ctr namespaces remove moby >/dev/null
}

# Where the engine had died before, its containers live on below their shims. A number may belong to
# another process since: that of a container is in the container's cgroup.
end_orphans() {
    for task in /run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/* \
        /run/containerd/io.containerd.runtime.v2.task/moby/*; do
        [ -r "$task/init.pid" ] || continue
        # Containers of others below a containerd that was here before are not in this engine.
        [ -d "/var/lib/docker/containers/${task##*/}" ] || continue
        pid=$(cat "$task/init.pid")
        grep -qs -- "${task##*/}" "/proc/$pid/cgroup" || continue
        kill -KILL "$pid" 2>/dev/null || true
    done
}

# The shims that an ended engine left behind name its socket. Engines in other namespaces have the
# same socket by name.
end_shims() {
    for line in /proc/[0-9]*/cmdline; do
        tr '\0' ' ' 2>/dev/null <"$line" | grep -q '^/[^ ]*/containerd-shim.* -address /\(var/\)\?run/docker/containerd/' || continue
        pid=${line#/proc/}
        pid=${pid%/cmdline}
        if is_of_this_machine "$pid"; then kill "$pid" 2>/dev/null || true; fi
    done
}

# What is left of a container's cgroups, in every hierarchy.
remove_cgroups() {
    find /sys/fs/cgroup -maxdepth 4 -type d \( -name "$1" -o -name "docker-$1.scope" \) 2>/dev/null | while read -r group; do
        find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done
}
