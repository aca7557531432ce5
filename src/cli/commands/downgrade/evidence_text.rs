//! The evidence of a member or a disk, as one line.

use crate::cluster::ReportedVersion;
use crate::etcd::ids::{ClusterVersion, Index};
use crate::etcd::member::VersionChange;
use crate::text::{name_or_id, utc};
use crate::upgrade::downgrade::evidence::{Answer, DiskEvidence, DiskKind, Ran};

use crate::cli::json::text;

pub(super) fn ran_text(ran: Ran) -> String {
    let release = ran.release;
    if ran.assumed {
        format!("assumed to have run etcd {release} (to change that: --stopped-version)")
    } else {
        format!("it ran etcd {release} (--stopped-version)")
    }
}

pub(super) fn answer_text(answer: &Answer) -> String {
    let current = match &answer.quorum_read {
        // It is 0 after a restart until an entry is applied.
        Ok(Index(0)) => "current: it answers a quorum read".to_owned(),
        Ok(index) => format!("current: it answers a quorum read, at raft index {index}"),
        Err(why) => {
            format!("may be out of date: no quorum read succeeded, {why}")
        }
    };
    format!(
        "etcd {}, cluster version {}; {current}",
        answer.server,
        said_text(&answer.cluster)
    )
}

pub(super) fn said_text(said: &ReportedVersion) -> String {
    match said {
        ReportedVersion::Unknown20 => "none, as in 2.0".to_owned(),
        ReportedVersion::NotDecided => "not decided".to_owned(),
        ReportedVersion::Is(version) => version.to_string(),
    }
}

pub(super) fn disk_line(disk: &DiskEvidence) -> String {
    let position = &disk.position;
    let versions: Vec<_> = disk.versions.iter().map(change_text).collect();
    let versions = if versions.is_empty() {
        "no cluster version decided".to_owned()
    } else {
        format!("cluster version {}", versions.join(", then "))
    };
    format!(
        "{}, {}: {versions}; log to index {}, commit {}",
        text(&disk.path),
        kind_text(disk),
        position.index,
        position.commit
    )
}

pub(super) fn kind_text(disk: &DiskEvidence) -> String {
    let owner = name_or_id(&disk.identity);
    match disk.kind {
        DiskKind::Own { running: false } => format!("data dir of {owner}, stopped"),
        DiskKind::DataDir { running: false } => format!("data dir of {owner}"),
        DiskKind::Own { running: true } | DiskKind::DataDir { running: true } => {
            format!("data dir of {owner}, on which etcd runs")
        }
        DiskKind::Archive { created } => format!("archive of {owner}, taken {}", utc(created)),
    }
}

pub(super) fn change_text(change: &VersionChange) -> String {
    let version: &ClusterVersion = &change.version;
    match (change.set_at, change.committed) {
        (Some(index), true) => format!("{version} set by raft entry {index}, committed"),
        (Some(index), false) => {
            format!("{version} in raft entry {index}, not known to be committed")
        }
        (None, _) => format!("{version} set before the available log, committed"),
    }
}
