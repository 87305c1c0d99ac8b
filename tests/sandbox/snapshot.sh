#!/bin/bash
# snapshot.sh: what there is on this machine, one thing a line, in a form that can be compared: files,
# users, links, addresses, routes, packet filters, settings of the network, mounts, loop devices,
# processes, control groups and enabled units. What changes by itself is left out.
set -uo pipefail

# Logs, caches and states of programs that run all the time, and the checkout itself.
prune=()
for path in "${CHECKOUT:-/nowhere}" /var/cache /var/log/journal /var/log/lastlog /var/log/wtmp /var/log/btmp \
    /var/lib/apt /var/lib/dpkg /var/lib/systemd /var/lib/dhcp /var/lib/dhcpcd /var/lib/dbus /var/lib/private \
    /run/systemd /run/udev /run/log /run/user /run/dbus /run/dhclient\* /run/dhcpcd /run/utmp \
    /var/lib/containerd/io.containerd.metadata\* /var/lib/containerd/io.containerd.grpc.v1.introspection /var/lib/logrotate /var/lib/wtmpdb /var/log/exim4 /var/spool \
    /run/motd\* /run/exim4 /run/sudo /run/sshd.pid /run/xtables.lock /run/lock/onedock-sandbox /root/.cargo /root/.rustup /root/.cache ${SNAPSHOT_PRUNE-}; do
    prune+=(-path "$path" -o)
done

# Folders by what they are, files by size and time, too. Those of /etc are compared by their contents
# below: to add and remove a user writes its files anew.
# (A containerd makes the folders of its content and of its sockets when they are first needed.)
for root in /usr:5 /var:9 /opt:3 /root:2 /home:2 /srv:3 /run:9 /boot:2; do
    depth=${root#*:}
    root=${root%:*}
    [ ! -d "$root" ] || find "$root" -maxdepth "$depth" \( "${prune[@]}" -false \) -prune -o \
        -type d \( -path '/var/lib/containerd/io.containerd.content.v1.content*' -o -path /run/containerd/s \) -o \
        \( -type d -printf 'file %p %y %m %U:%G\n' -o -printf 'file %p %y %m %U:%G %s %T@ %l\n' \)
done
find /etc \( -name 'passwd-' -o -name 'group-' -o -name 'shadow-' -o -name 'gshadow-' -o -name 'sub?id-' \
    -o -name .pwd.lock -o -name ld.so.cache -o -name adjtime \) -prune -o \
    -printf 'file %p %y %m %U:%G %l\n'
find /etc -type f -not -name '*-' -not -name .pwd.lock -not -name ld.so.cache -not -name adjtime \
    -exec sha256sum {} + | sed 's/^/contents /'

getent passwd | sed 's/^/user /'
getent group | sed 's/^/group /'
# An address is tentative, and has no route, until the kernel has looked for a second owner of it.
for _ in $(seq 50); do
    [ -n "$(ip -6 -o addr show tentative)" ] || break
    sleep 0.2
done
ip -o link | sed -E 's/^[0-9]+: ([^@:]+).*/link \1/'
ip -o addr | sed -E 's/^[0-9]+: +//; s/ +valid_lft.*//; s/^/address /'
for family in -4 -6; do
    ip "$family" route show table all | sed -E 's/ expires [0-9]+sec//; s/^/route /'
    ip "$family" rule | sed 's/^/rule /'
done
for program in iptables ip6tables; do
    # Without counters; a chain of the kernel's that is empty and lets everything pass is none.
    "$program-save" 2>/dev/null | sed -E '/^#/d; s/ \[[0-9:]+\]$//' | awk -v program="$program" '
        /^\*/ { table = $0 } /^:/ && $2 == "ACCEPT" { next } /^[:-]/ { print program, table, $0 }'
done
if command -v nft >/dev/null; then nft list tables 2>/dev/null | sed 's/^/nft /'; fi
# (Those of the connection tracking come with its module.)
find /proc/sys/net -type f -not -path '/proc/sys/net/netfilter/*' -not -path '/proc/sys/net/nf_conntrack_max' \( -not -path '*/conf/*' -o -path '*/conf/all/*' -o -path '*/conf/default/*' \) -not -path '*/neigh/*' -not -name '*fastopen_key' -not -name '*_count' \
    -not -name 'stable_secret' -not -name flush -readable 2>/dev/null | while read -r setting; do
    printf 'setting %s %s\n' "$setting" "$(tr '\n\t' '  ' 2>/dev/null <"$setting")"
done
if [ -e /sys/module/br_netfilter/initstate ]; then echo "module br_netfilter"; fi
# Tests of others may mount below /tmp.
awk '$5 !~ "^/tmp/" { print "mount " $5 }' /proc/self/mountinfo
# Loop devices and control groups are shared with namespaces: on a copy of the machine, whose caller
# names its containers, only theirs are listed.
if [ -z "${CONTAINERS-}" ]; then losetup -ln -O NAME,BACK-FILE | sed 's/^/loop /'; fi
if [ -n "${CONTAINERS-}" ]; then
    sort -u "$CONTAINERS" | while read -r id; do find /sys/fs/cgroup -maxdepth 4 -name "*$id*"; done
else
    find /sys/fs/cgroup -maxdepth 4 \( -name docker -o -name 'docker-*' -o -name 'onedock*' \)
fi 2>/dev/null | sed 's/^/cgroup /'
# Those of this machine's view of the files; not the kernel's, and not this script's.
for process in /proc/[0-9]*; do
    [ "$(readlink "$process/ns/mnt" 2>/dev/null)" = "$(readlink /proc/self/ns/mnt)" ] || continue
    line=$(tr '\0' ' ' 2>/dev/null <"$process/cmdline" | cut -c1-80)
    case $(cat "$process/comm" 2>/dev/null) in
    bash | sh | snapshot.sh | check.sh | cat | readlink | sort | uniq | sed | tr | cut | timeout | sshd* | ssh | systemd* | '(sd-pam)' | '(udev-worker)' | agetty | dbus-daemon | apt* | dhc* | cron | anacron | exim4 | polkitd) ;;
    python3) case $line in *apt_listchanges*) ;; *) printf 'process %s\n' "$line" ;; esac ;;
    *) [ -z "$line" ] || printf 'process %s\n' "$line" ;;
    esac
done
if [ -d /run/systemd/system ]; then
    systemctl list-unit-files --state=enabled --no-legend --plain | awk '{ print "enabled " $1 }'
    systemctl list-units --state=active --type=service,socket --no-legend --plain | awk '
        $1 ~ /docker|containerd|onedock/ { print "active " $1 }'
fi
