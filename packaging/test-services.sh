#!/bin/bash
# Installs the services in Python that tests run against, with all that they need, into .cache/services. Versions are those of
# test-services.txt; nothing is done when they are there already. Unpacks Glewlwyd, an OAuth server, into .cache/glewlwyd.
set -euo pipefail
cd "$(dirname "$0")/.."

# Unpacked, not installed: its package wants a database server set up. apt finds what it needs that this host has not.
glewlwyd=$PWD/.cache/glewlwyd
download() {
  apt-get -qq -o Debug::NoLocking=1 -o Dir::Cache::archives="$1" --download-only --no-install-recommends -y \
    install glewlwyd dbconfig-no-thanks </dev/null >&2
}
if [ ! -e "$glewlwyd/usr/bin/glewlwyd" ]; then
  printf 'setup: fetching Glewlwyd for tests (3 MB, once)\n' >&2
  rm -rf "$glewlwyd" "$glewlwyd.part"
  mkdir -p "$glewlwyd.part/packages/partial"
  download "$glewlwyd.part/packages"
  for package in "$glewlwyd.part"/packages/*.deb; do dpkg -x "$package" "$glewlwyd.part"; done
  rm -rf "$glewlwyd.part/packages"
  mv "$glewlwyd.part" "$glewlwyd"
fi

list=packaging/test-services.txt
folder=$PWD/.cache/services
stamp=$folder/installed.txt

cmp -s "$list" "$stamp" && exit 0
printf 'setup: installing %s packages of Python for tests (a minute, once)\n' "$(grep -c '==' "$list")" >&2
rm -rf "$folder"
python3 -m venv "$folder"
# Wheels only: nothing is built, and no code of a package runs while it is installed.
"$folder/bin/pip" install --quiet --disable-pip-version-check --no-input --no-deps --only-binary=:all: -r "$list" </dev/null >&2
cp "$list" "$stamp"
