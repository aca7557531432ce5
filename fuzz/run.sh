#!/bin/sh
# Runs one fuzz target for some seconds: sh fuzz/run.sh TARGET [SECONDS]
# Needs `cargo install cargo-fuzz --locked` and a C++ compiler; stable Rust will do.
set -eu
cd "$(dirname "$0")/.."
target=$1
mkdir -p "fuzz/corpus/$target"
exec cargo fuzz run -s none "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
  -max_total_time="${2:-400}" -rss_limit_mb=2048 -use_value_profile=1
