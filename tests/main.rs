//! What the product must do, told as stories about what goes wrong. One binary, so that the
//! support code is compiled once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs
)]

mod support;

/// Who may import whom in src.
mod layout;

/// Every line fits 80 columns.
mod columns;

/// Flips and cuts, bit by bit, in archives and in data directories: each is found, and nothing is changed by it.
mod corruption;
/// Damaged data dirs, saved as they are and never taken for backups.
mod damaged;
/// A backup proven by a real server: what it comes to, and what is left of the drill.
mod drill;
/// Every system call fails once, or is the last one: what stands afterwards.
mod faults;
/// Archives that someone made to do harm, with all their digests right.
mod malicious_archives;
/// Stores that someone made to do harm, and comforting answers where something is wrong.
mod malicious_stores;
/// Kernels without the calls that today's have.
mod old_kernels;
/// How often bytes are read: system calls counted.
mod one_pass;
/// Every recording of a real server, there and back; and every kind of directory that is none.
mod recordings;
/// Damages in pairs, on data of several releases: what a verdict promises, the archive keeps.
mod start_pairs;
/// Whether servers start from a data dir: 1,428 verdicts of real ones, and what is said of them.
mod start_verdicts;
/// What is in the store: every key that a recorded server answered, from every kind of target; what differs, and what cannot be true.
mod store;
/// The JSON of a raft snapshot's store, compared with etcd's own decoder.
mod store_json;

/// Flags that come from a file: which of them count where, and what is wrong with a file.
mod config;
/// Every command that README and docs print, run.
mod documents;
/// The self test before the first night.
mod dry_run;
/// The JSON of every command: what it promises, and the table of it.
mod json;
/// One run at a time on a backup dir: holders that live, that were killed, and disks that play along or not.
mod lock;
/// Every command that is printed as a next step works as printed.
mod printed;
/// What a run says when no one looks, and what it leaves when a signal stops it.
mod unattended;
/// Snapshots that are not taken, because the newest archive holds all there is.
mod unchanged;

/// Files that are none: links to nowhere, FIFOs, devices, directories where etcd, or a flag, wants a file.
mod odd_files;
/// Root in directories of other accounts, and who gets what there.
mod other_accounts;

/// Captures beside a member at full load, and of one that was killed.
mod live_capture;

/// Archives of a real etcd 3.4, and real servers started on what is restored.
mod real_etcd;

/// Random operations through a real etcd 3.4, and what is read from its data dir compared with its own answers.
mod real_store;

/// What a hostile reader of the code found, each told as the story of its failure.
mod regressions;

/// The cluster client, against everything that can be listening where a member should.
mod cluster;
/// The cluster client against a real etcd 3.4 with TLS and with auth.
mod cluster_live;
/// Certificates of the time of etcd 2.x, which today's TLS does not take.
mod old_certificates;

/// The checklist before an upgrade, on a cluster that answers as the recorded one did and on everything that is wrong with one.
mod preflight;
/// A rolling upgrade watched to its end.
mod preflight_watch;

/// The logs of a real rolling upgrade, line by line; disasters among them, and what is not a log at all.
mod explain_log;

/// When a member may go back a release, and what is done then.
mod gate;
/// Bringing the segments of a dedicated WAL dir home, struck at every system call.
mod gate_faults;
/// The gate before a real cluster of etcd 3.4, and a real server on a WAL that was brought home.
mod gate_live;
/// The rewind that the gate prints, run as printed.
mod gate_rewind;
/// Whether servers start from the data dirs that the gate allows.
mod gate_starts;

/// The stale-member rule: what `restore` does when the members of an archive's cluster are there, or may be.
mod stale_member;

/// A real cluster of three: backups taken at different times, restored in every way.
mod real_cluster;
/// A whole cluster taken back to one moment: what is one history, what is kept, and what is refused.
mod rewind;
mod rewind_dead_members;
mod rewind_promises;

/// Keys of a backup written back into a running cluster, where other clients write.
mod put_keys;

/// Clusters of real 2.1 and 2.2 servers, where the environment names them: rolls, ways back, and the runbooks as printed.
mod live_2x;

/// Archives in a bucket of a real S3 server, and everything that goes wrong on the way there.
mod bucket;
/// Encrypted archives, compared with the `age` program.
mod encryption;
/// Data size over time against the limit.
mod history;
/// What a place is that the command line names: which one counts, and what is none; what is copied from where.
mod locations;
/// What a run leaves for Prometheus, however it ended.
mod metrics;
/// Archives of an earlier release are read, restored and listed as they were.
mod older_archives;
/// Retention on real archives: what goes, what stays, and what a run leaves that was cut short.
mod retention;
/// Ten nights of a real etcd, with a snapshot each, pruned on the way.
mod retention_real_etcd;
/// What is printed for systemd and cron, read back as they would; the manual, and what shells complete from.
mod schedule;
/// Which archives of a backup dir a command is about, and parts of their names.
mod selection;
/// Whether the backups are in order, as a monitoring system is told: every state once.
mod status;
