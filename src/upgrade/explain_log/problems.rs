//! Messages that no upgrade should cause, each worth a look at any time.

use crate::upgrade::explain_log::Verdict::{Routine, WorthALook};
use crate::upgrade::explain_log::classes::{PANIC, Patterns, Rule, rule};

const fn problem(name: &'static str, why: &'static str, patterns: Patterns) -> Rule {
    rule(name, WorthALook, why, patterns)
}

pub(crate) const RULES: &[Rule] = &[
    (
        PANIC,
        &[
            "panic: ",
            "fatal error: ",
            "goroutine * [",
            "unexpected fault address",
        ],
    ),
    rule(
        "etcd-ark-variable",
        Routine,
        "etcd warns of each ETCD_… variable that it does not know. This one is for etcd-ark and harmless to etcd; keep it out of etcd's own environment.",
        &["unrecognized environment variable ETCD_ARK_"],
    ),
    problem(
        "forgotten-log",
        "The leader counts on entries that this member no longer has: an older copy of its data dir was put back, or the end of its log was lost. Do not start it on this again; put its newest data back, or `rewind` the whole cluster.",
        &[
            "tocommit(*) is out of range",
            "match(*) is out of range",
            "applied(*) is out of range",
        ],
    ),
    problem(
        "damaged-data",
        "Files of this member are damaged: etcd cannot read them. Keep the data dir as it is; `etcd-ark verify` says what is wrong and where.",
        &[
            "corrupted snapshot file",
            "Corrupted snapshot file",
            "cannot rename broken snapshot",
            "unexpected empty snapshot",
            "cannot read file *.snap",
            "*.snap.broken",
            "*crc mismatch",
            "read wal error",
            "open wal error",
            "could not repair ",
            "* state.commit * is out of range",
            "entry * conflict with committed entry",
            "recovered store from snapshot error",
            "recovery store error",
            "*snapshot mismatch",
            "*conflicting metadata found",
            "*unexpected EOF and cannot be repaired",
            "failed to open WAL",
            "failed to read WAL",
        ],
    ),
    problem(
        "torn-log",
        "The last record of the log was not whole, and etcd cut it off: this member was killed, or its disk ran full. Ordinary after a kill; no one should kill a member for an upgrade.",
        &["repairing ", "repaired WAL"],
    ),
    problem(
        "no-space",
        "The disk is full, and this member cannot write its log. Make room before anything else.",
        &[
            "*no space left on device",
            "*disk quota exceeded",
            "*database space exceeded",
        ],
    ),
    problem(
        "disk-fault",
        "The disk or its file system does not work. Do not go on with the upgrade on this machine.",
        &[
            "*input/output error",
            "*read-only file system",
            "raft save state and entries error",
            "raft save snapshot error",
            "save snapshot error",
            "failed to purge ",
            "create wal error",
        ],
    ),
    problem(
        "no-resources",
        "This member runs out of memory or of file descriptors.",
        &[
            "*cannot allocate memory",
            "*out of memory",
            "*too many open files",
            "*% of the file descriptor limit is used",
        ],
    ),
    problem(
        "other-version",
        "This binary and the cluster version do not go together. Once the cluster has moved to 2.2, a 2.1 binary is not a way back: see `etcd-ark downgrade check`.",
        &[
            "cluster cannot be downgraded",
            "the running cluster version(*) is ",
            "*incompatible with current running cluster",
            "*incomptible with current running cluster",
            "*incompatible version",
            "*server version incompatible",
            "*version is not compatible",
            "*request version incompatibility",
            "request received was ignored (*ersion",
            "invalid downgrade",
        ],
    ),
    problem(
        "other-cluster",
        "Two members do not belong to the same cluster: one of them runs on another data dir, or with another cluster token. After a `rewind`, someone of the old cluster still runs.",
        &[
            "*cluster ID mismatch",
            "*clusterID mismatch",
            "*(ID mismatch got",
        ],
    ),
    problem(
        "member-removed",
        "Someone removed a member. Never do so while versions are mixed: without the last 2.1 member the cluster moves to 2.2.",
        &[
            "removed member ",
            "*since it was removed",
            "*has been permanently removed from the cluster",
            "the data-dir used by this member must be removed",
            "reject message from removed member",
            "*could not recognize local member",
            "failed to find member ",
        ],
    ),
    problem(
        "lost-data-dir",
        "The cluster knows this member, and its data dir is empty: `--data-dir` is not the one it had, or the disk is not mounted.",
        &[
            "*has already been bootstrapped",
            "*has previously registered",
            "But etcd could not find valid cluster configuration",
        ],
    ),
    problem(
        "default-data-dir",
        "etcd was started without `--data-dir`: its unit or its environment is not what it was before.",
        &["no data-dir provided, using default"],
    ),
    problem(
        "forced-new-cluster",
        "This member made itself a cluster of its own and forgot the others. No step of an upgrade does that.",
        &[
            "force new cluster = true",
            "forcing restart of member",
            "discarding * uncommitted WAL",
        ],
    ),
    problem(
        "unknown-flag",
        "This release does not know that flag or variable. 2.1 has no `--wal-dir`: it would start empty beside the data.",
        &[
            "unrecognized environment variable",
            "flag provided but not defined",
            "*is no longer supported - ignoring",
            "error verifying flags",
        ],
    ),
    problem(
        "in-use",
        "Another etcd runs on this data dir or these ports: was the old one really stopped?",
        &[
            "*address already in use",
            "*file already locked",
            "*file used by another process",
        ],
    ),
    problem(
        "not-permitted",
        "The user that etcd runs as may not use its files. `restore --owner` sets the owner.",
        &[
            "*permission denied",
            "*operation not permitted",
            "cannot write to ",
        ],
    ),
    problem(
        "tls",
        "The members do not agree on TLS: certificates or flags are not what they were before.",
        &[
            "*x509: ",
            "*tls: ",
            "*bad certificate",
            "*malformed HTTP response",
            "could not get certs",
            "cannot listen on TLS",
        ],
    ),
    problem(
        "clock-difference",
        "The clocks of two machines differ by more than a second: expiry times move when the leader does.",
        &["the clock difference against peer"],
    ),
    problem(
        "overloaded",
        "This member is slow, most often its disk. A slow leader is deposed; let it calm down before the next member is stopped.",
        &[
            "failed to send out heartbeat on time",
            "server is likely overloaded",
            "leader failed to send out heartbeat on time",
            "sync duration of ",
            "slow fdatasync",
            "apply entries took too long",
            "*took too long",
        ],
    ),
    problem(
        "unit-failed",
        "The unit ended otherwise than by being stopped. The lines before this one may say why.",
        &[
            "*ain process exited, code=",
            "*Failed with result",
            "*entered failed state",
            "*tart request repeated too quickly",
            "Failed to start ",
            "*Scheduled restart job",
        ],
    ),
];
