#!/bin/sh
# The stories that find more the longer they run, at full length: hundreds of captures beside a member at full load, tens of
# thousands of random operations through a real etcd 3.4, every system call struck and every bit flipped.
set -eu
cd "$(dirname "$0")/.."
export ETCD_ARK_HOT_CAPTURES="${ETCD_ARK_HOT_CAPTURES:-600}"
export ETCD_ARK_STORE_SEEDS="${ETCD_ARK_STORE_SEEDS:-20}"
export ETCD_ARK_STORE_OPERATIONS="${ETCD_ARK_STORE_OPERATIONS:-2000}"
export ETCD_ARK_THOROUGH=1
cargo test --locked --test stories -- live_capture:: real_store:: faults:: rewind:: corruption:: "$@"
