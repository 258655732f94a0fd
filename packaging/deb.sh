#!/bin/bash
# deb.sh release [OUTPUT]: builds everything and packs target/debian/*.deb.
# deb.sh dev [OUTPUT]: packs what a development build has made, as it is; for the tests.
set -euo pipefail
cd "$(dirname "$0")/.."
profile=$1
target=${CARGO_TARGET_DIR:-target}
export PATH=$PWD/.cache/tools/bin:$PATH
# Of the daemon's binary, in bytes.
size_max=8000000

case $profile in
  release)
    built=$target/release options=()
    cargo build --release --workspace --bins
    cargo build --release -p keywheel --example generate
    size=$(stat -c %s "$built/keywheeld")
    [ "$size" -le $size_max ] || { echo "keywheeld has $size bytes, more than $size_max" >&2; exit 1; }
    ;;
  dev) built=$target/debug options=(--fast) ;;
  *) echo "usage: deb.sh release|dev [OUTPUT]" >&2; exit 64 ;;
esac

# Man pages and completions, from the program's own table of commands. Where Cargo.toml looks for them.
rm -rf target/package
mkdir -p target
"$built/examples/generate" target/package
cargo-deb deb --no-build --quiet --profile "$profile" "${options[@]}" ${2:+--output "$2"}
