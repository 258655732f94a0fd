#!/bin/bash
# Fetches MySQL and Valkey, which this Debian has not, from Debian's unstable into .cache/newer: unpacked, not installed. What is there is
# kept. Without root or that suite there is none, and the tests that want it say that they are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

root=$PWD/.cache/newer
[ ! -e "$root/valkey-server" ] || exit 0
[ "$(id -u)" = 0 ] || { printf 'setup: not root, so no MySQL and no Valkey for tests\n' >&2; exit 0; }
printf 'setup: fetching MySQL and Valkey for tests (half a minute, once)\n' >&2
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Label: Debian' | sort -u | head -n 1)
rm -rf --one-file-system "$root" "$root.part"
# A mirror's list of this suite may be some days old.
if mmdebstrap --quiet --mode=root --variant=extract --aptopt='Acquire::Check-Valid-Until "false"' \
  --include=mysql-server-core,valkey-server unstable "$root.part" "${mirror:-http://deb.debian.org/debian}" </dev/null >&2; then
  # It runs with the libraries that came along.
  libraries=$root/usr/lib/x86_64-linux-gnu
  printf '#!/bin/sh\nexec %s --library-path %s %s "$@"\n' "$libraries/ld-linux-x86-64.so.2" "$libraries" "$root/usr/bin/valkey-server" \
    >"$root.part/valkey-server"
  chmod 755 "$root.part/valkey-server"
  mv "$root.part" "$root"
else
  rm -rf --one-file-system "$root.part"
  printf 'setup: no MySQL and no Valkey could be had; their tests are skipped\n' >&2
fi
