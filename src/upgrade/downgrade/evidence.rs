//! What is known of a cluster's version, each item with its source.
//!
//! Plain data, for the [gate](crate::upgrade::downgrade::gate) to decide on and for the code that shows it.
//! [`collect`](crate::upgrade::downgrade::collect) collects it.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::cluster::{ProbeError, ReportedVersion};
use crate::etcd::ids::{ClusterVersion, Identity, Index, Release};
use crate::etcd::member::{Position, VersionChange};
use crate::etcd::membership::Member;
use crate::etcd::start::reason::Reason;
use crate::etcd::start::{Verdict, Verdicts};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub from: Release,
    pub to: Release,
}

#[derive(Clone, Debug)]
pub struct Evidence {
    pub step: Step,
    pub members: Vec<MemberEvidence>,
    /// What directories and archives hold; all of one cluster.
    pub disks: Vec<DiskEvidence>,
    /// Whether the operator states that all members are stopped.
    pub offline: bool,
}

#[derive(Clone, Debug)]
pub struct MemberEvidence {
    pub member: Member,
    pub answer: Result<Answer, NoAnswer>,
    /// The release that it ran, if it is known to be stopped and its disk could be read.
    pub stopped: Option<Ran>,
}

/// The release that a stopped member ran; its data do not record it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    pub release: Release,
    /// Whether it is only assumed: the operator did not give it.
    pub assumed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    #[error("it was not asked")]
    NotAsked,
    #[error(transparent)]
    Silent(#[from] ProbeError),
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub url: String,
    pub server: semver::Version,
    pub cluster: ReportedVersion,
    /// The last index that it had applied, if it answered a quorum read; without one its other answers
    /// may be out of date.
    pub quorum_read: Result<Index, ProbeError>,
}

#[derive(Clone, Debug)]
pub struct DiskEvidence {
    pub path: PathBuf,
    pub kind: DiskKind,
    pub identity: Identity,
    pub position: Position,
    /// The cluster version at the commit index.
    pub cluster_version: Option<ClusterVersion>,
    /// Every version in the files, oldest first.
    pub versions: Vec<VersionChange>,
    pub members: Vec<Member>,
    /// Whether each release starts from it, once its segments are in `member/wal`.
    pub starts: Option<Verdicts>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskKind {
    Own { running: bool },
    DataDir { running: bool },
    Archive { created: Timestamp },
}

impl MemberEvidence {
    /// The release that it runs, or ran if it is stopped; `None` if it does not answer.
    pub fn release(&self) -> Option<Release> {
        match &self.answer {
            Ok(answer) => Some(Release::of(&answer.server)),
            Err(_) => self.stopped.map(|ran| ran.release),
        }
    }

    /// Whether that release is only assumed, for a stopped member.
    pub fn release_is_assumed(&self) -> bool {
        self.answer.is_err() && self.stopped.is_some_and(|ran| ran.assumed)
    }

    /// Whether a server answers at its address, but with nothing that can be understood.
    pub fn is_not_understood(&self) -> bool {
        matches!(
            self.answer,
            Err(NoAnswer::Silent(
                ProbeError::Rubbish { .. }
                    | ProbeError::Refused { .. }
                    | ProbeError::NotAllowed { .. }
            ))
        )
    }
}

impl Answer {
    /// The cluster version that it reports, if any.
    pub fn cluster_version(&self) -> Option<&ClusterVersion> {
        match &self.cluster {
            ReportedVersion::Is(version) => Some(version),
            ReportedVersion::NotDecided | ReportedVersion::Unknown20 => None,
        }
    }
}

impl DiskEvidence {
    /// When the archive was made; `None` for a directory.
    pub fn created(&self) -> Option<Timestamp> {
        match self.kind {
            DiskKind::Archive { created } => Some(created),
            DiskKind::Own { .. } | DiskKind::DataDir { .. } => None,
        }
    }

    /// Whether a server of `release` starts from it, if that is known.
    fn verdict(&self, release: Release) -> Option<&Verdict> {
        let mut lines = self.starts.iter().flatten();
        lines.find_map(|(line, verdict)| (*line == release).then_some(verdict))
    }

    /// Why a server of `release` would not start from it, if it would not.
    pub fn why_not(&self, release: Release) -> Option<String> {
        let verdict = self.verdict(release)?;
        // The record that a running server is still writing.
        let is_unfinished = *verdict == Verdict::DoesNotStart(Reason::CutShort);
        let why_not = verdict.why_not(release);
        why_not.filter(|_| !(is_unfinished && self.is_running()))
    }

    pub(crate) fn is_etcdctl_backup(&self) -> bool {
        let mut lines = self.starts.iter().flatten();
        lines.any(|(_, verdict)| *verdict == Verdict::ForceNewClusterOnly)
    }

    pub fn is_running(&self) -> bool {
        matches!(
            self.kind,
            DiskKind::Own { running: true } | DiskKind::DataDir { running: true }
        )
    }
}
