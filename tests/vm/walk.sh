#!/bin/bash
# walk.sh PROGRAMS: the walk, on a Debian that has the packages of a node, as root: a registry, a
# node, an image from an archive, a VM with two ports, power-off and resume with a file that stays, disks
# of every kind, terminate with nothing left. The drivers are called through their shims, as oneadmin, with the
# arguments and in the order in which `oned` calls them. No time is measured.
set -uo pipefail
. "$(dirname "$0")/steps.sh"
. "$(dirname "$0")/opennebula.sh"
. "$(dirname "$0")/oned.sh"
. "$(dirname "$0")/checks.sh"
. "$(dirname "$0")/disks.sh"

programs=$1
registry=registry.test
archive=/var/tmp/web.tar
# `onedock run` counts from here.
vm=1000000
neighbour=1000001
address=10.77.0.41

say "The machine is the user's"
holds "Debian's kernel ($(uname -r)) and systemd" test -d /run/systemd/system
is "cgroups are version 2" cgroup2fs stat -fc %T /sys/fs/cgroup
is "AppArmor is on" Y cat /sys/module/apparmor/parameters/enabled

say "The administrator sets up this node and the registry"
grep -q "$registry" /etc/hosts || echo "$(hostname -I | cut -d' ' -f1) $registry" >> /etc/hosts
holds "onedock setup node" "$programs/onedock" setup node
holds "onedock setup registry" "$programs/onedock" setup registry --name "$registry"
holds "onedock setup node, which joins the registry" "$programs/onedock" setup node
holds "... again, and nothing has to be done" unchanged "$programs/onedock" setup node
is "the registry is a service" active systemctl is-active onedock-registry
is "Debian's own registry service is off" inactive systemctl is-active docker-registry
is "the runtime is crun" /usr/bin/crun cat /etc/onedock/runtime
is "the engine knows the runtime onedock" /usr/lib/onedock/onedock-runtime \
    docker info -f '{{.Runtimes.onedock.Path}}'
is "live-restore is on" true docker info -f '{{.LiveRestoreEnabled}}'
holds "the engine answers oneadmin" as_oneadmin docker version
or_end

say "The drivers are installed into an OpenNebula, and synchronised to this node"
holds "an installation's folders" lay_opennebula
holds "onedock setup frontend" "$programs/onedock" setup frontend
holds "the remotes are on the node" synchronise
matches "the datastore tells its room (ONEDock's 001)" '^FREE_MB=[1-9]' monitor_datastore
matches "the host is one with HYPERVISOR=docker (ONEDock's 004)" '^HYPERVISOR="?docker' \
    as_oneadmin "$on_node/onedock/$(uname -m)/onedock-im" probe system

say "A bridge (ONEDock's 003); bridged packets pass a FORWARD chain that drops them"
holds "the bridge" make_bridge
is "setup node has loaded br_netfilter, and does at each boot" br_netfilter \
    grep -x br_netfilter /etc/modules-load.d/onedock.conf
is "br_netfilter is on" 1 cat /proc/sys/net/bridge/bridge-nf-call-iptables
is "the engine's policy of FORWARD is DROP" "-P FORWARD DROP" first_line iptables -S FORWARD

say "An archive of \`docker save\`, made from busybox"
holds "the archive" make_archive "$archive"
or_end
remember

say "Register the image, create the VM, and a neighbour on the same bridge (ONEDock's 002, 005, 006)"
template web "$address" "$archive" > /root/web.one
template neighbour 10.77.0.42 "$archive" > /root/neighbour.one
holds "onedock run web.one" "$programs/onedock" run /root/web.one
holds "onedock run neighbour.one" "$programs/onedock" run /root/neighbour.one
or_end
matches "the image's source names the registry and a digest" \
    "docker://$registry:5000/onedock/img-[0-9]+@sha256:[0-9a-f]{64}" image_source
image=$(image_source)
holds "the registry has it" registry_has "$image"
is "the container runs" running docker inspect -f '{{.State.Status}}' "one-$vm"
matches "the monitor says RUNNING" "one-$vm.*RUNNING" state
matches "its row has state, address and memory" "$vm +web +RUNNING +$address .* MiB" \
    "$programs/onedock" run --list
matches "its address is on eth0" "inet $address/24" inside "$vm" ip -4 addr show eth0
matches "the host's end is called as oned says" "one-$vm-0.*master onebr0" \
    ip -o link show "one-$vm-0"
is "its host name is the context's" web inside "$vm" hostname
matches "its context is at /context" "SET_HOSTNAME='web'" inside "$vm" cat /context/context.sh
fails "... and read-only" inside "$vm" touch /context/x
is "its first process applied the context" onedock-init inside "$vm" cat /proc/1/comm
is "... the key of root" "ssh-ed25519 AAAA walk" inside "$vm" cat /root/.ssh/authorized_keys
is "... the start script, with the VM's variables" walk inside "$vm" cat /started
matches "... the time zone" '^CE' inside "$vm" date +%Z
is "a program that is run in it has the VM's variables" walk inside "$vm" sh -c 'echo $MODE'
is "the capability that the template drops is gone" "CapBnd: 00000000a00425fb" \
    inside "$vm" awk '/CapBnd/ { print $1, $2 }' /proc/1/status
matches "onedock exec runs a program in it" '^web$' "$programs/onedock" exec "$vm" hostname
both_ports

say "Limits and confinement"
is "memory.max is MEMORY" $((96 << 20)) limit memory.max
is "memory.swap.max is 0" 0 limit memory.swap.max
is "cpu.weight is half a CPU's share" 20 limit cpu.weight
is "cpu.max is one VCPU" "100000 100000" limit cpu.max
is "AppArmor enforces docker-default" "docker-default (enforce)" \
    cat "/proc/$(first_process "$vm")/attr/current"

say "The engine restarts under the VM"
process=$(first_process "$vm")
holds "systemctl restart docker" systemctl restart docker
is "the same process runs on" "$process" first_process "$vm"
both_ports

say "Power-off and resume"
holds "a file is written to the root disk" inside "$vm" sh -c 'echo kept > /www/file && sync'
holds "vmm shutdown" power_off "$vm"
holds "docker system prune, by root" docker system prune -f
holds "... and by oneadmin" as_oneadmin docker container prune -f
is "the container is there and ended" exited docker inspect -f '{{.State.Status}}' "one-$vm"
matches "the monitor says POWEROFF" "one-$vm.*POWEROFF" state
fails "its NIC is gone" ip link show "one-$vm-0"
fails "port 80 answers no more" fetch 80
holds "tm context" resume_context "$vm"
is "vmm deploy answers the same id" "one-$vm" resume "$vm"
is "the file is there" kept inside "$vm" cat /www/file
both_ports

disks_at_the_start
hot_plug
grow_live
qcow2_and_nbd
shutdown_and_resume
undeploy_and_resume
stock_datablocks
persistence
tidy_disks

say "Terminate"
holds "onedock run --stop $neighbour" "$programs/onedock" run --stop "$neighbour"
holds "onedock run --stop $vm --remove-image" "$programs/onedock" run --stop "$vm" --remove-image
fails "the registry has the image no more" registry_has "$image"
holds "no container, volume, link, mount, cgroup, process or file is left" nothing_left

unknown_runtime
remapped_with_quotas
finish
