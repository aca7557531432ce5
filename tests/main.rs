//! What the product must do, as stories of failures. One binary, so that the
//! support code is compiled once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs
)]

mod support;

/// Which module of src may import which.
mod layout;

/// Every line fits 80 columns.
mod columns;

/// Flips and cuts, bit by bit, in archives and in data directories: each is found, and changes nothing.
mod corruption;
/// Damaged data dirs, saved unchanged and never treated as backups.
mod damaged;
/// Backups tested with a real server: the results, and what a drill leaves behind.
mod drill;
/// Every system call fails once, or is the last one: what is on disk afterwards.
mod faults;
/// Archives made to do harm, with all digests right.
mod malicious_archives;
/// Stores made to do harm, and harmless-looking answers where something is wrong.
mod malicious_stores;
/// Kernels that lack newer system calls.
mod old_kernels;
/// How often bytes are read: system calls counted.
mod one_pass;
/// Every recording of a real server, captured and restored; and every kind of directory that is not a data dir.
mod recordings;
/// Pairs of damages, on data of several releases: the archive behaves as the verdict says.
mod start_pairs;
/// Whether servers start from a data dir: 1,428 verdicts of real ones, and the texts about them.
mod start_verdicts;
/// The content of the store: every key that a recorded server returned, from every kind of target; differences.
mod store;
/// The JSON of a raft snapshot's store, compared with etcd's own decoder.
mod store_json;

/// Flags from a file: which apply where, and errors in the file.
mod config;
/// Every command that README and docs print, run.
mod documents;
/// The self test before the first nightly run.
mod dry_run;
/// The JSON of every command: its documented fields, and their table.
mod json;
/// One run at a time on a backup dir: live and killed holders, and filesystems with and without locks.
mod lock;
/// Every command that is printed as a next step works as printed.
mod printed;
/// Output without a terminal, and the state after a signal.
mod unattended;
/// Snapshots that are skipped because the newest archive has all data.
mod unchanged;

/// Broken symlinks, FIFOs, devices, directories in place of files that etcd, or a flag, needs.
mod odd_files;
/// Root in directories of other accounts, and the owners of what it makes there.
mod other_accounts;

/// Captures of a member at full load, and of one that was killed.
mod live_capture;

/// Archives of a real etcd 3.4, and real servers started on restored data.
mod real_etcd;

/// Random operations on a real etcd 3.4, and its data dir compared with its own answers.
mod real_store;

/// Faults found by hostile reading of the code, each as the story of its failure.
mod regressions;

/// The cluster client, with every kind of server at a member's address.
mod cluster;
/// The cluster client against a real etcd 3.4 with TLS and with auth.
mod cluster_live;
/// Certificates of the time of etcd 2.x, which TLS refuses today.
mod old_certificates;

/// The checklist before an upgrade, on a cluster that answers as the recorded one did and with every fault.
mod preflight;
/// A rolling upgrade watched to its end.
mod preflight_watch;

/// The logs of a real rolling upgrade, line by line; failures in them, and files that are not logs.
mod explain_log;

/// When a member may go back a release, and how.
mod gate;
/// Moving the segments of a dedicated WAL dir to `member/wal`, with a failure at every system call.
mod gate_faults;
/// The gate with a real cluster of etcd 3.4, and a real server on a moved WAL.
mod gate_live;
/// The rewind that the gate prints, run as printed.
mod gate_rewind;
/// Whether servers start from the data dirs that the gate allows.
mod gate_starts;

/// The stale-member rule: what `restore` does if members of the archive's cluster run, or may run.
mod stale_member;

/// A real cluster of three: backups taken at different times, restored in every way.
mod real_cluster;
/// A whole cluster taken back to one entry: what is one history, what is kept, and what is refused.
mod rewind;
mod rewind_dead_members;
mod rewind_promises;

/// Keys of a backup written back into a running cluster while other clients write.
mod put_keys;
/// The same while what is put back expires, or another client writes it.
mod put_keys_meanwhile;

/// Clusters of real 2.1 and 2.2 servers, if the environment names them: upgrades, downgrades, the runbooks as printed.
mod live_2x;

/// Archives in a bucket of a real S3 server, and every failure of an upload.
mod bucket;
/// Encrypted archives, compared with the `age` program.
mod encryption;
/// Data size over time against the limit.
mod history;
/// The places on the command line: which takes precedence, and which are not valid; what is copied from where.
mod locations;
/// What a run writes for Prometheus, in success and failure.
mod metrics;
/// Archives of an earlier release are read, restored and listed as before.
mod older_archives;
/// Retention on real archives: what is removed, what is kept, and what an interrupted run leaves.
mod retention;
/// Ten nights of a real etcd, with a snapshot each, pruned after each.
mod retention_real_etcd;
/// The output for systemd and cron, read back as they would; the manual, and shell completion.
mod schedule;
/// The selection of archives in a backup dir, and parts of their names.
mod selection;
/// Whether the backups are in order, as a monitoring system sees it: every state once.
mod status;
/// Wrong values, variables and flags: the tool's own words, and where they come from.
mod wrong_usage;
