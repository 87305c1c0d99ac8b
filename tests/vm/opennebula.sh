# shellcheck shell=bash
# opennebula.sh, sourced: what `oned` and its packages do around the drivers: the folders of an
# installation, `onehost sync`, and the calls for which `onedock run` has no word.

remotes=/var/lib/one/remotes
on_node=/var/tmp/one
played=/var/lib/onedock/run

as_oneadmin() {
    (cd /var/lib/one && exec runuser -u oneadmin -- env -i HOME=/var/lib/one USER=oneadmin \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@")
}

# The files of OpenNebula that `onedock setup frontend` edits, as short as they can be.
lay_opennebula() {
    install -d -o oneadmin -g oneadmin "$remotes" "$remotes"/{vmm,tm,datastore,im,vnm} \
        /var/lib/one/{vms,datastores} /var/log/one &&
        install -d /etc/one/vmm_exec &&
        install -m 640 -g oneadmin "$(dirname "$0")/../../cli/tests/golden/7.4/oned.conf" /etc/one/oned.conf &&
        echo 'DB = [ CONNECTIONS = 15 ]' > /etc/one/monitord.conf &&
        echo 'LIVE_DISK_SNAPSHOTS="kvm-ssh"' > /etc/one/vmm_exec/vmm_execrc
}

# onehost sync.
synchronise() {
    install -d -o oneadmin -g oneadmin "$on_node" &&
        as_oneadmin rsync -Lr --perms --delete "$remotes/" "$on_node/"
}

# What `oned` asks of a datastore every few minutes.
monitor_datastore() {
    printf '<DS_DRIVER_ACTION_DATA><DATASTORE><ID>100</ID><NAME>onedock</NAME><TYPE>0</TYPE></DATASTORE></DS_DRIVER_ACTION_DATA>' |
        base64 -w0 | as_oneadmin "$remotes/datastore/onedock/monitor" 100
}

# template NAME ADDRESS ARCHIVE: half a processor's share, at most one whole one, 96 MiB. The script is
# `echo $MODE > /started`.
template() {
    cat <<ONE
NAME   = "$1"
CPU    = 0.5
VCPU   = 1
MEMORY = 96
DISK = [ IMAGE = "web", PATH = "$3" ]
NIC = [ BRIDGE = "onebr0", IP = "$2", MASK = "255.255.255.0", GATEWAY = "10.77.0.1" ]
CONTEXT = [
  NETWORK = "YES", SET_HOSTNAME = "\$NAME", SSH_PUBLIC_KEY = "ssh-ed25519 AAAA walk", TIMEZONE = "Europe/Berlin",
  START_SCRIPT_BASE64 = "ZWNobyAkTU9ERSA+IC9zdGFydGVkCg==" ]
DOCKER = [ ENV = "MODE=walk", CAP_DROP = "MKNOD" ]
ONE
}

# What `oned` does at `onevm poweroff`: the VM's number.
power_off() {
    printf '<VMM_DRIVER_ACTION_DATA><HOST>localhost</HOST><DEPLOY_ID>one-%s</DEPLOY_ID>%s</VMM_DRIVER_ACTION_DATA>' \
        "$1" "$(cat "$played/vms/$1/vm.xml")" |
        as_oneadmin "$on_node/vmm/onedock/shutdown" "one-$1" localhost "$1" localhost
}

# ... and at `onevm resume`: the context anew, and deploy with the next deployment file.
resume_context() {
    as_oneadmin "$remotes/tm/onedock/context" "$played/vms/$1/context.sh" \
        "localhost:$played/datastores/1000001/$1/disk.1" "$1" 1000001 < /dev/null
}
resume() {
    as_oneadmin "$on_node/vmm/onedock/deploy" \
        "$played/datastores/1000001/$1/deployment.1" localhost "$1" localhost \
        < "$played/vms/$1/vm.xml"
}
