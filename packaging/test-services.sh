#!/bin/bash
# Installs the services in Python that tests run against, with all that they need, into .cache/services. Versions are those of
# test-services.txt; nothing is done when they are there already.
set -euo pipefail
cd "$(dirname "$0")/.."

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
