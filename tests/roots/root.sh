#!/bin/bash
# root.sh SUITE FOLDER: makes a root of Debian's SUITE in FOLDER that has every module of the name
# service that an ordinary installation may have (libnss-systemd comes with systemd, -myhostname
# and -mdns with a desktop, -resolve with systemd-resolved). Needs root and mmdebstrap.
set -euo pipefail
suite=$1
folder=$2
umask 022
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
export TMPDIR=$folder

# A Debian's own sources with the suite replaced: it may use a mirror.
sources=()
own=$(. /etc/os-release && [ "$ID" = debian ] && echo "${VERSION_CODENAME-}") || own=
for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
    if [ "${#sources[@]}" -gt 0 ] || [ -z "$own" ] || ! grep -qs "\\b$own\\b" "$file"; then continue; fi
    sed "s/\\b$own\\b/$suite/g" "$file" > "$folder/${file##*/}"
    sources=("$folder/${file##*/}")
done

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
