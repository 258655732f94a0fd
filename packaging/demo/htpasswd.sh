#!/bin/bash
# htpasswd.sh BIN: keywheeld in the foreground with one credential, a user in an nginx password file, turned over every 15 s.
set -euo pipefail
. "$(dirname "$0")/common.sh"
begin "$1"

# In a folder of its own: the worker that replaces the file may write in its folder.
mkdir "$scratch/nginx"
passwords=$scratch/nginx/passwords
secret=$(first_secret)
# The password goes in by standard input, so that no list of processes shows it.
printf '%s\n' "$secret" | htpasswd -ciB "$passwords" demo 2>/dev/null

{
  general
  cat <<TOML
[target.web]
kind = "htpasswd"
path = "$passwords"

[credential."demo/web"]
target = "web"
account = "demo"
schedule = { every = "15s" }

[grant.me]
credentials = ["demo/*"]
user = "$(id -un)"
TOML
} >"$scratch/keywheel.toml"

start_daemon
printf '%s' "$secret" | "$bin/keywheel" --quiet import demo/web

cat <<TEXT

  keywheeld serves. The password of the user demo in $passwords
  is turned over every 15 seconds. Try in another terminal:

    export KEYWHEEL_RUNTIME_DIR=$scratch/run
    $bin/keywheel fetch demo/web
    $bin/keywheel fetch demo/web --format json
    $bin/keywheel fetch demo/web | htpasswd -vi $passwords demo
    curl --unix-socket $scratch/run/keywheel.sock http://keywheel/v1/credentials/demo/web

    $bin/keywheel status
    $bin/keywheel rotate demo/web --wait
    $bin/keywheel history demo/web

  Ctrl-C ends it and removes everything. Its log:

TEXT

ended() { :; }
while [ -z "$stopped" ] && kill -0 "$daemon" 2>/dev/null; do wait "$daemon" || true; done
