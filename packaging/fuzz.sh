#!/bin/bash
# Runs fuzz targets, as many at a time as there are cores, and prints what came of it; fails if an input was found.
#
#   packaging/fuzz.sh MINUTES [TARGET ...]   for so long each; all of them unless some are named
#   packaging/fuzz.sh keep [TARGET ...]      adds to the kept inputs as few as cover what those found since do
#   packaging/fuzz.sh replay TARGET INPUT    runs one input
set -euo pipefail
cd "$(dirname "$0")/.."

what=${1:?MINUTES, keep or replay}
shift
targets=("$@")
[ $# -gt 0 ] || targets=(http control reply journal config schedule service)

# Says what settings the kinds take, for the target of the configuration.
nice -n 10 cargo build --package keywheel-rotators --bin keywheel-rotator

# cargo-fuzz passes flags to rustc that are not stable, and a nightly toolchain would be one more thing to install.
export PATH=$PWD/.cache/tools/bin:$PATH RUSTC_BOOTSTRAP=1 CARGO_INCREMENTAL=0
# Apart from all else that is built, since with these flags everything is another.
out=${CARGO_TARGET_DIR:-target}/fuzz
programs=$out/$(rustc -vV | sed -n 's/^host: //p')/release
# Watches what libraries do that are not safe Rust; not every toolchain has it.
sanitizer=none
! compgen -G "$(rustc --print target-libdir)/librustc-*_rt.asan.a" >/dev/null || sanitizer=address
nice -n 10 cargo fuzz build --fuzz-dir tests/fuzz --target-dir "$out" --sanitizer $sanitizer --codegen-units 16

# In memory, since the daemon of some targets flushes each commit.
TMPDIR=$(mktemp -d -p "$([ -w /dev/shm ] && echo /dev/shm || echo /tmp)" keywheel-fuzz-XXXXXX)
export TMPDIR KEYWHEEL_KINDS=$TMPDIR/kinds
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$TMPDIR"' EXIT
"${out%fuzz}debug/keywheel-rotator" list --json >"$KEYWHEEL_KINDS"
# That daemon ends with its process and cleans nothing up.
export ASAN_OPTIONS=detect_leaks=0

# Runs target $1; what is found is put beside what was built, never into the tree.
fuzz() {
  local arguments=(-max_total_time=$((what * 60)) -timeout=60 -rss_limit_mb=4096 -print_final_stats=1
    "-dict=tests/fuzz/words/$1" "-artifact_prefix=$out/findings/$1/" "$out/corpus/$1" "tests/fuzz/corpus/$1")
  mkdir -p "$out/corpus/$1" "$out/findings/$1"
  nice -n 10 "$programs/$1" "${arguments[@]}" >"$out/$1.log" 2>&1
}

# Prints a row on target $1; fails unless it came to its end without a finding.
tell() {
  local log=$out/$1.log executions a_second covered inputs finding
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  a_second=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")
  read -r covered inputs < <(sed -nE 's/^#.* cov: ([0-9]+) .* corp: ([0-9]+).*/\1 \2/p' "$log" | tail -n 1)
  finding=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
  printf '%-10s%14s%10s%10s%10s  %s\n' "$1" "${executions:--}" "${a_second:--}" "${inputs:--}" "${covered:--}" "${finding:-none}"
  [ -z "$finding" ] || echo "  again: packaging/fuzz.sh replay $1 $finding"
  [ -n "$executions" ] || echo "  it did not end in good order: $log"
  [ -z "$finding" ] && [ -n "$executions" ]
}

case $what in
  replay) "$programs/$1" "$2" ;;
  keep)
    for target in "${targets[@]}"; do
      mkdir -p "$out/corpus/$target"
      "$programs/$target" -set_cover_merge=1 -use_counters=0 "tests/fuzz/corpus/$target" "$out/corpus/$target" 2>"$out/$target.log"
      tail -n 1 "$out/$target.log"
    done ;;
  *)
    for target in "${targets[@]}"; do
      while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n || true; done
      fuzz "$target" &
    done
    wait
    printf '%-10s%14s%10s%10s%10s  %s\n' target executions 'a second' inputs edges finding
    found=0
    for target in "${targets[@]}"; do tell "$target" || found=1; done
    exit $found ;;
esac
