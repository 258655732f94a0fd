#!/bin/bash
# rootfs.sh SUITE CACHE: prints the folder of a Debian root with systemd as its init, made once per cache.
set -euo pipefail
suite=$1 cache=$2

# The package under test needs nothing beyond what a minimal server has.
include=systemd,systemd-sysv,dbus,passwd,procps
root=$cache/$suite-$(printf '%s' "$include" | cksum | cut -d' ' -f1)

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if [ ! -d "$root" ]; then
  # Where this machine gets Debian from.
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Label: Debian' | sort -u | head -n 1)
  rm -rf --one-file-system "$root.part"
  SOURCE_DATE_EPOCH=0 mmdebstrap --quiet --mode=root --variant=apt --include="$include" \
    "$suite" "$root.part" "${mirror:-http://deb.debian.org/debian}" </dev/null >&2
  mv "$root.part" "$root"
fi
printf '%s\n' "$root"
