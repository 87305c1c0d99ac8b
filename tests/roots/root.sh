#!/bin/bash
# root.sh SUITE FOLDER: makes a root of Debian's SUITE in FOLDER that has every module of the name
# service that an ordinary installation may have (libnss-systemd comes with systemd, -myhostname
# and -mdns with a desktop, -resolve with systemd-resolved). Needs root and mmdebstrap.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/debian.sh
. "$here/../debian.sh"
suite=$1
folder=$2
umask 022
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
export TMPDIR=$folder

sources=()
debian_sources "$suite" "$folder"

rm -rf "$folder/root"
mmdebstrap --quiet --mode=root --variant=minbase \
    --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --include=libnss-systemd,libnss-myhostname,libnss-resolve,libnss-mdns \
    "$suite" "$folder/root" "${sources[@]}"

# The modules must be in use, or the root shows nothing.
for module in 'passwd:.*systemd' 'group:.*systemd' 'hosts:.*myhostname' 'hosts:.*resolve' 'hosts:.*mdns'; do
    grep -q "^$module" "$folder/root/etc/nsswitch.conf" || {
        echo "the root of $suite lacks $module in nsswitch.conf" >&2
        exit 1
    }
done
rm -rf "$folder"/root/var/cache/apt/* "$folder"/root/var/lib/apt/lists/*
touch "$folder/whole"
