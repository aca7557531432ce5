#!/bin/sh
# Builds etcd-ark and runs its main job on a recording of a real etcd 2.1 member: snapshot,
# verify, inspect, restore. Everything it makes is in target/try.
# `-v`: off a terminal a snapshot that went well says nothing.
set -eu
cd "$(dirname "$0")/.."
cargo build --locked
ark=${CARGO_TARGET_DIR:-target}/debug/etcd-ark
rm -rf target/try && mkdir -p target/try
run() { printf '\n$ etcd-ark %s\n' "$*"; "$ark" "$@"; }
run snapshot -v --data-dir testdata/infra0.etcd --backup-dir target/try/backups --label pre-upgrade
archive=$(ls target/try/backups/etcd-*.tar.zst)
run verify "$archive"
run list target/try/backups
run inspect "$archive"
run restore "$archive" --data-dir target/try/restored.etcd
