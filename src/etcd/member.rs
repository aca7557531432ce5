//! The facts of a member from its files: identity, position, cluster.
//!
//! In: the raft snapshot that etcd would start from and the log. Out: [`MemberFacts`], the same
//! for a data dir and for an archive of it; or the reason why etcd could
//! not start from these files.

use serde::{Deserialize, Serialize};

use crate::etcd::conf_change::{ClusterChange, LoggedChange};
use crate::etcd::ids::{
    ClusterVersion, Identity, Index, MemberId, Release, SnapshotId, Term, missing,
};
use crate::etcd::membership::{Member, StoreFacts};
use crate::etcd::raft_snapshot::SnapshotFacts;
use crate::etcd::wal::log::{Jump, Log, SegmentFacts};

/// The end of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub term: Term,
    pub index: Index,
    /// The highest index known to be committed.
    pub commit: Index,
    /// The term the member had seen.
    pub hard_state_term: Term,
    /// The member that it voted for in that term; `0` for none.
    pub vote: MemberId,
}

/// A cluster version and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionChange {
    pub version: ClusterVersion,
    /// The entry that set it; `None` if it is before the available segments.
    pub set_at: Option<Index>,
    /// Whether that entry is known to be committed; if not, a future leader may commit it.
    pub committed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberFacts {
    pub identity: Identity,
    pub position: Position,
    /// The WAL's running CRC at the last entry, a digest of the log up to there: two logs may have the
    /// same last index and term and still hold different entries. `None` if a raft snapshot
    /// replaces that entry, and in archives of releases that did not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_crc: Option<u32>,
    /// The raft snapshot that a start would load.
    pub raft_snapshot: Option<SnapshotId>,
    /// The cluster version at the commit index.
    pub cluster_version: Option<ClusterVersion>,
    /// Every cluster version in the files, oldest first.
    pub versions: Vec<VersionChange>,
    pub members: Vec<Member>,
    pub removed_members: Vec<MemberId>,
    /// Whether an entry that removes this member is in the log, not known to be committed.
    pub removal_pending: bool,
    /// The segments, in order.
    pub segments: Vec<SegmentFacts>,
    /// Bytes of the WAL's entries above the raft snapshot, frames included.
    pub log_bytes_above_snapshot: u64,
    /// Entries that later ones of a higher term replaced.
    pub replaced_entries: u64,
    /// Where entries are missing because a raft snapshot replaces them.
    pub jumps: Vec<Jump>,
}

impl MemberFacts {
    /// The members without removed ones: one that published its attributes after its removal is
    /// in [`members`](Self::members) too.
    pub fn standing_members(&self) -> impl Iterator<Item = &Member> {
        let is_removed = |member: &&Member| self.removed_members.contains(&member.id);
        self.members
            .iter()
            .filter(move |member| !is_removed(member))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartFault {
    #[error("there is no WAL")]
    NoLog,
    /// The log has no marker for the raft snapshot.
    #[error("the WAL has no marker of the raft snapshot at {0}")]
    NoMarker(SnapshotId),
    /// Entries are missing above the raft snapshot.
    #[error(
        "{}: the raft snapshot at {to} that covers them is missing, corrupt, or not in the WAL",
        missing(*.from, *.to)
    )]
    Hole { from: Index, to: Index },
    /// etcd panics: `state.commit … is out of range`.
    #[error(
        "the commit index {commit} is not between the raft snapshot's index {snapshot} and the last index {last}; etcd panics at start on that"
    )]
    CommitOutOfRange {
        commit: Index,
        /// The raft snapshot's index, 0 without one.
        snapshot: Index,
        last: Index,
    },
}

/// Bytes of the shortest crc and metadata records together, with their length words.
const SHORTEST_HEADER: u64 = 30;

impl MemberFacts {
    /// Joins the facts of `log` and the raft snapshot before it.
    pub fn gather(mut log: Log, snapshot: Option<&SnapshotFacts>) -> Result<Self, StartFault> {
        let (member_id, cluster_id) = log.metadata.ok_or(StartFault::NoLog)?;
        let base = snapshot.map_or(Index(0), |snapshot| snapshot.id.index);
        if !log.has_hard_state() {
            // Raft continues from the raft snapshot, which is committed.
            log.commit = base;
        }
        check_start(&log, snapshot)?;
        let mut cluster = snapshot.map(|s| s.store.clone()).unwrap_or_default();
        let versions = versions(&log, &cluster, base);
        let committed = |at: &&LoggedChange| at.index > base && at.index <= log.commit;
        let members = cluster.members.values();
        let mut urls = members
            .flat_map(|member| member.peer_urls.clone())
            .collect();
        for logged in log.changes.iter().filter(committed) {
            logged.change.apply(&mut cluster, &mut urls);
        }
        let removal_pending = log.changes.iter().any(|logged| {
            logged.index > log.commit && logged.change == ClusterChange::Remove(member_id)
        });
        let name = cluster.members.get(&member_id).map(|own| own.name.clone());
        Ok(Self {
            identity: Identity {
                cluster_id,
                member_id,
                name: name.filter(|name| !name.is_empty()),
            },
            position: Position {
                term: log.last.0,
                index: log.last.1,
                commit: log.commit,
                hard_state_term: log.hard_state_term,
                vote: log.vote,
            },
            log_crc: log.last_crc,
            raft_snapshot: snapshot.map(|snapshot| snapshot.id),
            cluster_version: cluster.cluster_version,
            versions,
            members: cluster.members.into_values().collect(),
            removed_members: cluster.removed.into_iter().collect(),
            removal_pending,
            segments: log.segments,
            log_bytes_above_snapshot: log.bytes_above_snapshot,
            replaced_entries: log.replaced_entries,
            jumps: log.jumps,
        })
    }

    /// The first version change that is not known to be committed.
    pub fn pending_version(&self) -> Option<&VersionChange> {
        self.versions.iter().find(|change| !change.committed)
    }

    pub fn is_removed(&self) -> bool {
        self.removed_members.contains(&self.identity.member_id)
    }

    /// The release of the data: that of the cluster version, which 2.0 does not write.
    pub fn release(&self) -> Option<Release> {
        self.cluster_version.as_ref().map(ClusterVersion::release)
    }

    /// The warning about a last segment that ends before its metadata record. A crash of 2.0.0 to
    /// 2.0.9 while it creates a segment leaves one; so does a disk that has lost its content.
    pub fn last_segment_warning(&self) -> Option<String> {
        let last = self.segments.last()?;
        (last.records_end < SHORTEST_HEADER).then(|| {
            format!(
                "{} holds no record of the log: a crash of etcd 2.0.0 to 2.0.9 leaves such a segment; where another release wrote it, what was in it is lost",
                last.name
            )
        })
    }

    pub fn has_stray_vote(&self) -> bool {
        let vote = self.position.vote;
        vote != MemberId(0)
            && !self.members.iter().any(|member| member.id == vote)
            && !self.removed_members.contains(&vote)
    }
}

/// etcd's own conditions for a start (formats page §2).
fn check_start(log: &Log, snapshot: Option<&SnapshotFacts>) -> Result<(), StartFault> {
    let base = snapshot.map_or(Index(0), |snapshot| snapshot.id.index);
    if let Some(id) = snapshot.map(|snapshot| snapshot.id)
        && !log.markers.contains(&id)
    {
        return Err(StartFault::NoMarker(id));
    }
    let stands = |jump: &Jump| {
        let marked = log.markers.iter().any(|marker| marker.index == jump.to);
        marked && jump.to <= base
    };
    if let Some(jump) = log.jumps.iter().find(|jump| !stands(jump)) {
        return Err(StartFault::Hole {
            from: jump.after.next(),
            to: jump.to,
        });
    }
    let (commit, last) = (log.commit, log.last.1);
    if commit < base || commit > last {
        return Err(StartFault::CommitOutOfRange {
            commit,
            snapshot: base,
            last,
        });
    }
    Ok(())
}

fn versions(log: &Log, at_snapshot: &StoreFacts, base: Index) -> Vec<VersionChange> {
    let mut versions: Vec<_> = log
        .changes
        .iter()
        .filter_map(|logged| match &logged.change {
            ClusterChange::Version(version) => Some(VersionChange {
                version: version.clone(),
                set_at: Some(logged.index),
                committed: logged.index <= log.commit,
            }),
            _ => None,
        })
        .collect();
    if let Some(version) = &at_snapshot.cluster_version {
        let below = |change: &&VersionChange| change.set_at.is_some_and(|at| at <= base);
        let place = versions.iter().take_while(below).count();
        let known = versions.get(..place).and_then(<[_]>::last);
        if known.is_none_or(|known| known.version != *version) {
            let from_snapshot = VersionChange {
                version: version.clone(),
                set_at: None,
                committed: true,
            };
            versions.insert(place, from_snapshot);
        }
    }
    versions
}
