#!/bin/sh
# What the Vagrant machine and an LXC container run inside, once: the sandbox of the README.
# The checkout is at /onedock.
set -eu
apt-get update -qq
apt-get install -y -qq --no-remove --no-install-recommends git make ca-certificates
cd /onedock
exec make sandbox
