# What both demonstrations share; sourced by them. Sets `scratch` and `bin`, and starts and ends the daemon.

say() { printf '%s\n' "$*"; }

# A scratch folder that goes with the demonstration, whatever ends it.
begin() {
  bin=$(realpath "$1")
  scratch=$(mktemp -d "${TMPDIR:-/tmp}/keywheel-demo.XXXXXX")
  daemon=
  trap end EXIT
  # Ctrl-C reaches every process of the terminal by itself; here it only ends the waiting.
  stopped=
  trap 'stopped=yes' INT TERM HUP
  mkdir -m 0700 "$scratch/state" "$scratch/log"
  mkdir -m 0755 "$scratch/run"
  mkdir -m 0700 "$scratch/rotators"
  "$bin/keywheel" --quiet key create "$scratch/master.key"
  export KEYWHEEL_RUNTIME_DIR=$scratch/run
}

# The parts of the configuration that are the same everywhere.
general() {
  cat <<TOML
[daemon]
state_dir = "$scratch/state"
runtime_dir = "$scratch/run"
audit_file = "$scratch/log/audit.jsonl"
rotator = "$bin/keywheel-rotator"
rotators_dir = "$scratch/rotators"

[key]
file = "$scratch/master.key"

TOML
}

# Starts keywheeld on $scratch/keywheel.toml, its log going to the given file or, by default, to this terminal.
start_daemon() {
  # It also warns that this is turned over more often than anyone would want, which is the point here.
  "$bin/keywheel" check --config "$scratch/keywheel.toml" >"$scratch/check" 2>&1 || { cat "$scratch/check" >&2; exit 1; }
  "$bin/keywheeld" --config "$scratch/keywheel.toml" 2>>"${1:-/dev/stderr}" &
  daemon=$!
  for _ in $(seq 200); do
    "$bin/keywheel" --quiet list >/dev/null 2>&1 && return
    kill -0 "$daemon" 2>/dev/null || { say "keywheeld did not start"; exit 1; }
    sleep 0.1
  done
  say "keywheeld does not answer"
  exit 1
}

# A secret for a start: 32 random hexadecimal digits.
first_secret() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }

end() {
  trap '' INT TERM HUP
  ended 2>/dev/null || true
  if [ -n "$daemon" ]; then
    kill -TERM "$daemon" 2>/dev/null || true
    wait "$daemon" 2>/dev/null || true
  fi
  rm -rf "$scratch"
}
