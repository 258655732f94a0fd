#!/bin/bash
# Fetches MySQL, which this Debian has not, from Debian's unstable into .cache/newer: unpacked, not installed. What is there is
# kept. Without root or that suite there is none, and the tests that want it say that they are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

root=$PWD/.cache/newer
[ ! -e "$root/usr/sbin/mysqld" ] || exit 0
[ "$(id -u)" = 0 ] || { printf 'setup: not root, so no MySQL for tests\n' >&2; exit 0; }
printf 'setup: fetching a MySQL for tests (half a minute, once)\n' >&2
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Label: Debian' | sort -u | head -n 1)
rm -rf --one-file-system "$root" "$root.part"
# A mirror's list of this suite may be some days old.
if mmdebstrap --quiet --mode=root --variant=extract --aptopt='Acquire::Check-Valid-Until "false"' \
  --include=mysql-server-core unstable "$root.part" "${mirror:-http://deb.debian.org/debian}" </dev/null >&2; then
  mv "$root.part" "$root"
else
  rm -rf --one-file-system "$root.part"
  printf 'setup: no MySQL could be had; its tests are skipped\n' >&2
fi
