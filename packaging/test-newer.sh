#!/bin/bash
# Fetches what this Debian has not from others of its suites into .cache: MySQL, Valkey and a newer PostgreSQL from unstable, an older
# PostgreSQL from bullseye. Unpacked, not installed. What is there is kept. Without root or such a suite there is none, and the tests that
# want it say that they are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p .cache
# Programs are told where their libraries are, and .cache may be a link.
cache=$(realpath .cache)

# Unpacks packages of a suite, unless the folder has what is made last: by a function, from the folder while it has another name.
unpack() {
  local root=$cache/$1 last=$2 suite=$3 packages=$4 make=$5
  [ ! -e "$root/$last" ] || return 0
  [ "$(id -u)" = 0 ] || { printf 'setup: not root, so no %s of %s for tests\n' "$packages" "$suite" >&2; return 0; }
  printf 'setup: fetching %s of %s for tests (half a minute, once)\n' "$packages" "$suite" >&2
  mirror=${mirror:-$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Label: Debian' | sort -u | head -n 1)}
  rm -rf --one-file-system "$root" "$root.part"
  # A mirror's list of a suite may be some days old.
  if mmdebstrap --quiet --mode=root --variant=extract --aptopt='Acquire::Check-Valid-Until "false"' \
    --include="$packages" "$suite" "$root.part" "${mirror:-http://deb.debian.org/debian}" </dev/null >&2 &&
    "$make" "$root.part" "$root"; then
    mv "$root.part" "$root"
  else
    rm -rf --one-file-system "$root.part"
    printf 'setup: %s of %s could not be had; the tests of it are skipped\n' "$packages" "$suite" >&2
  fi
}

# Writes a program that runs the one of that path with the libraries that came along, which older suites have in /lib too.
run_with_libraries() {
  local program=$1 path=$2 part=$3 root=$4 loader
  loader=$(find "$part" -path '*lib/x86_64-linux-gnu/ld-linux-x86-64.so.2' -printf '%P\n')
  printf '#!/bin/sh\nexec %s --library-path %s %s "$@"\n' "$root/$loader" \
    "$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu" "$root/$path" >"$part/$program"
  chmod 755 "$part/$program"
}

make_valkey() { run_with_libraries valkey-server usr/bin/valkey-server "$@"; }

# initdb looks for postgres beside itself.
make_postgres() {
  local bin program
  bin=$(cd "$1" && compgen -G 'usr/lib/postgresql/*/bin')
  for program in initdb postgres; do
    mv "$1/$bin/$program" "$1/$bin/$program.real"
    run_with_libraries "$bin/$program" "$bin/$program.real" "$@"
  done
  ln -s "$bin" "$1/bin-of-postgres"
}

unpack newer valkey-server unstable mysql-server-core,valkey-server make_valkey
unpack postgres-newer bin-of-postgres unstable postgresql make_postgres
unpack postgres-older bin-of-postgres bullseye postgresql make_postgres
