# What the sandbox finds on a machine, written down before it changes anything, and only once.
# shellcheck shell=sh

# Everything that the set-up makes outside of the packages' own files. Its files in folders of others
# all have its name.
made_paths() {
    find /etc -mindepth 2 -maxdepth 4 -name '*onedock*' -not -path '/etc/onedock/*' 2>/dev/null || true
    # (Also the bundle of a set-up that was killed while it tried a runtime.)
    find /run -maxdepth 1 -name '*onedock*' 2>/dev/null || true
    cat <<'PATHS'
/etc/onedock
/etc/docker/certs.d
/etc/docker/key.json
/run/one
/run/lock/one
/run/docker
/run/docker.sock
/run/docker.pid
/run/containerd
/root/.docker
/var/lib/one/.docker
/usr/lib/onedock
/usr/lib/ruby/vendor_ruby/load_opennebula_paths.rb
/var/lib/containerd
/var/lib/docker
/var/lib/one
/var/lib/onedock
/var/lib/onedock-layers
/var/lib/onedock-registry
/var/log/onedock-dockerd.log
/var/log/onedock-registry.log
/var/log/onedock-registry-proxy.log
/var/log/one
/var/tmp/one_db
/var/tmp/onedock-sandbox
PATHS
}

# What belongs to others and is edited, beside copies of what it was.
edited_files() {
    cat <<'FILES'
/etc/docker/daemon.json
/var/lib/one/remotes/onedock.conf
/root/.docker/config.json
/var/lib/one/.docker/config.json
FILES
}

# Where the copy of an edited file is: $1 the file.
copy_of() {
    case $1 in
    */.docker/*) printf '%s/%s\n' "$RECORD" "$(printf %s "$1" | tr / %)" ;;
    *) printf '%s/%s\n' "$RECORD" "${1##*/}" ;;
    esac
}

restore_edited_files() {
    edited_files | while read -r path; do
        copy=$(copy_of "$path")
        if [ -e "$copy" ]; then
            cp -p "$copy" "$path"
        else
            rm -f "$path"
        fi
        rm -f "$path".*.before-onedock
    done
}

write_record() {
    [ ! -e "$RECORD/whole" ] || return 0
    mkdir -p "$RECORD"
    chmod 700 "$RECORD"
    made_paths | while read -r path; do
        [ ! -e "$path" ] || printf '%s\n' "$path"
    done >"$RECORD/paths"
    find /etc -maxdepth 3 -type d >"$RECORD/folders" 2>/dev/null || true
    edited_files | while read -r path; do
        [ ! -e "$path" ] || cp -p "$path" "$(copy_of "$path")"
    done
    : >"$RECORD/facts"
    fact() { printf '%s\n' "$1" >>"$RECORD/facts"; }
    if id oneadmin >/dev/null 2>&1; then fact oneadmin; fi
    if getent group oneadmin >/dev/null 2>&1; then fact oneadmin-group; fi
    if id -nG oneadmin 2>/dev/null | grep -qw docker; then fact oneadmin-docker; fi
    if dockerd_runs; then fact dockerd; fi
    if has_systemd; then
        for unit in docker docker.socket containerd; do
            if systemctl -q is-enabled "$unit" 2>/dev/null; then fact "$unit-enabled"; fi
            if systemctl -q is-active "$unit" 2>/dev/null; then fact "$unit-active"; fi
        done
    fi
    if has ctr && moby_is_in_containerd; then fact containerd-moby; fi
    if [ -e /sys/module/br_netfilter ]; then fact br_netfilter; fi
    if has_opennebula; then fact opennebula; fi
    if registry_runs; then fact registry; fi
    if has iptables && iptables -S opennebula >/dev/null 2>&1; then fact opennebula-chain; fi
    if ! has iptables; then
        # No rules without the program: the kernel's own policy.
        printf '%s-forward ACCEPT\n' iptables ip6tables >>"$RECORD/facts"
    else
        for table in iptables ip6tables; do
            "$table" -S FORWARD 2>/dev/null | sed -n "s/^-P FORWARD /$table-forward /p" >>"$RECORD/facts"
        done
    fi
    for key in net/ipv4/ip_forward net/ipv6/conf/all/forwarding net/ipv6/conf/default/forwarding \
        net/bridge/bridge-nf-call-iptables net/bridge/bridge-nf-call-ip6tables; do
        [ ! -r "/proc/sys/$key" ] || printf '%s %s\n' "$key" "$(cat "/proc/sys/$key")"
    done >"$RECORD/sysctl"
    record_rules
    find /sys/fs/cgroup -maxdepth 2 -type d -name docker >"$RECORD/cgroups" 2>/dev/null || true
    touch "$RECORD/whole"
}

was() {
    grep -qx -- "$1" "$RECORD/facts"
}

was_there() {
    grep -qx -- "$1" "$RECORD/paths"
}

# Whether an OpenNebula is installed, running or not.
has_opennebula() {
    has oned || [ -e /etc/one/oned.conf ]
}

moby_is_in_containerd() {
    timeout 20 ctr namespaces ls --quiet 2>/dev/null | grep -qx moby
}

dockerd_runs() {
    has docker && timeout 10 docker version >/dev/null 2>&1
}

registry_runs() {
    if has_systemd; then
        systemctl -q is-active onedock-registry 2>/dev/null
    else
        running_pid /run/onedock-registry.pid docker-registry /etc/onedock/registry/config.yml >/dev/null
    fi
}
