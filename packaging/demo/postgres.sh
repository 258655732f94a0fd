#!/bin/bash
# postgres.sh BIN [N]: a PostgreSQL server on a scratch folder, two roles used in turn whose passwords are turned over every
# 5 s, and an application that fetches, logs in and says which version it used, through N rotations (default 6).
set -euo pipefail
. "$(dirname "$0")/common.sh"
begin "$1"
rotations=${2:-6}

# The newest set of server programs; Debian keeps them out of PATH.
server=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
[ -x "$server/initdb" ] || server=$(dirname "$(command -v initdb)")

# PostgreSQL refuses to run as root.
as_server=()
if [ "$(id -u)" = 0 ]; then
  owner=$(id -un postgres 2>/dev/null || echo nobody)
  as_server=(setpriv "--reuid=$owner" "--regid=$(id -gn "$owner")" --clear-groups --)
fi
chmod 0711 "$scratch"
mkdir -m 0700 "$scratch/pg"
admin_secret=$(first_secret)
printf '%s\n' "$admin_secret" >"$scratch/pg/password"
[ ${#as_server[@]} = 0 ] || chown -R "$owner:" "$scratch/pg"

say "starting PostgreSQL on a scratch folder"
(cd / && "${as_server[@]}" "$server/initdb" -D "$scratch/pg/data" -A scram-sha-256 -U admin --pwfile="$scratch/pg/password" \
  --no-sync -E UTF8 --locale=C >/dev/null)
rm "$scratch/pg/password"

# A port that nobody uses is only known by trying.
postgres=
for _ in $(seq 20); do
  port=$((20000 + RANDOM % 20000))
  (cd / && exec "${as_server[@]}" "$server/postgres" -D "$scratch/pg/data" -k "$scratch/pg" -p "$port" \
    -c listen_addresses=127.0.0.1 -c fsync=off -c logging_collector=off) >"$scratch/postgres.log" 2>&1 &
  postgres=$!
  for _ in $(seq 200); do
    kill -0 "$postgres" 2>/dev/null || break
    grep -q ready "$scratch/pg/data/postmaster.pid" 2>/dev/null && break 2
    sleep 0.1
  done
  postgres=
done
[ -n "$postgres" ] || { cat "$scratch/postgres.log" >&2; exit 1; }
ended() {
  kill -INT "$postgres"
  wait "$postgres"
}

query() { PGCONNECT_TIMEOUT=10 psql -XqAt -h 127.0.0.1 -p "$port" -d postgres "$@"; }
app_secret=$(first_secret)
# One role owns and may do everything; the two that log in are its members and take turns.
PGPASSWORD=$admin_secret query -U admin -f - <<SQL
CREATE ROLE app NOLOGIN;
CREATE ROLE app_a LOGIN IN ROLE app PASSWORD '$app_secret';
CREATE TABLE visit (at timestamptz NOT NULL, by text NOT NULL);
ALTER TABLE visit OWNER TO app;
SQL

{
  general
  cat <<TOML
[target.pg]
kind = "postgres"
host = "127.0.0.1"
port = $port
tls = "disable"
admin = "pg/admin"

[credential."pg/admin"]
target = "pg"
account = "admin"
change_by = "account"
schedule = "manual"

[credential."app/db"]
target = "pg"
accounts = ["app_a", "app_b"]
strategy = "alternate"
schedule = { every = "5s" }
grace = "2s"

[grant.app]
credentials = ["app/*"]
user = "$(id -un)"
TOML
} >"$scratch/keywheel.toml"

start_daemon "$scratch/keywheeld.log"
printf '%s' "$admin_secret" | "$bin/keywheel" --quiet import pg/admin
printf '%s' "$app_secret" | "$bin/keywheel" --quiet import app/db --account app_a

cat <<TEXT

  PostgreSQL on port $port, keywheeld beside it; app/db is turned over every 5 seconds, two roles in turn.
  An application now fetches and logs in, again and again. Meanwhile, in another terminal:

    export KEYWHEEL_RUNTIME_DIR=$scratch/run
    $bin/keywheel status
    $bin/keywheel fetch app/db --format json
    tail -f $scratch/keywheeld.log

TEXT

# What an application does: fetch, log in, work. It keeps nothing.
use() {
  local answer
  answer=$("$bin/keywheel" fetch app/db --format json) || return
  version=$(sed -n 's/.*"version": *\([0-9]*\).*/\1/p' <<<"$answer")
  role=$(sed -n 's/.*"username": *"\([^"]*\)".*/\1/p' <<<"$answer")
  # The configuration's default policy draws nothing that JSON would escape.
  PGPASSWORD=$(sed -n 's/.*"password": *"\([^"]*\)".*/\1/p' <<<"$answer") \
    query -U "$role" -c "INSERT INTO visit VALUES (now(), current_user)"
}

# From here on a command that Ctrl-C ended must not end this, too: the count is still to come.
set +e
logins=0 failed=0 with=0 last= first=
line() { [ -z "$last" ] || printf '%s  version %-3s %-6s %4d logins\n' "$(date +%T)" "$last" "$last_role" "$with"; }
while [ -z "$stopped" ]; do
  kill -0 "$daemon" 2>/dev/null || { say "keywheeld has ended:"; tail -n 20 "$scratch/keywheeld.log"; exit 1; }
  if use; then
    logins=$((logins + 1))
    : "${first:=$version}"
    if [ "$version" != "$last" ]; then
      line
      last=$version last_role=$role with=0
      [ $((version - first)) -lt "$rotations" ] || break
    fi
    with=$((with + 1))
  elif [ -z "$stopped" ]; then
    failed=$((failed + 1))
    say "a login failed"
  fi
  sleep 0.1
done
[ "$with" = 0 ] || line

say ""
say "$logins logins through $((${last:-0} - ${first:-0})) rotations, $failed failed"
[ "$failed" = 0 ]
