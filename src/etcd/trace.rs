//! The entries of a log in a form that is small enough to compare with other logs.
//!
//! In: raft snapshots and records as they are read. Out: a [`Trace`]: for every entry that no later one
//! replaced its position, its term, a digest, and its class; for every raft snapshot its position and the
//! cluster version in it. Memory: some 50 bytes an entry, whatever its size.

use std::fmt;

use crate::etcd::digest::Hasher;
use crate::etcd::entry::EntryClass;
use crate::etcd::ids::{ClusterVersion, Index, SnapshotId, Term};
use crate::etcd::proto::Request;
use crate::etcd::raft_snapshot::SnapshotFacts;
use crate::etcd::store::UnixNanos;
use crate::etcd::wal::log::EntryView;
use crate::etcd::wal::record::Kind;
use crate::etcd::wal::segment::Located;

/// Half of the SHA-256 of an entry's type and data. A CRC would be enough against accidents; two histories
/// that were made to look alike must differ too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryDigest([u8; 16]);

impl EntryDigest {
    pub fn of(entry: &EntryView<'_>) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(&entry.kind.to_le_bytes());
        hasher.update(entry.data);
        let mut half = [0; 16];
        for (to, from) in half.iter_mut().zip(hasher.finish().0) {
            *to = from;
        }
        Self(half)
    }

    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// Its first digits: enough for people to tell two apart.
impl fmt::Display for EntryDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut beginning = self.0.iter().take(4);
        beginning.try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TracedEntry {
    pub index: Index,
    pub term: Term,
    /// Distinguishes it from any other entry.
    pub digest: EntryDigest,
    /// The WAL's running CRC at this entry: a digest of the log up to there.
    pub log_crc: u32,
    /// Bytes of its data.
    pub bytes: u32,
    pub class: EntryClass,
    /// The time in a SYNC, from the leader's clock.
    pub clock: Option<UnixNanos>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedSnapshot {
    pub id: SnapshotId,
    pub cluster_version: Option<ClusterVersion>,
}

#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// Every entry, in order; with a gap where a raft snapshot replaces some.
    pub entries: Vec<TracedEntry>,
    /// Every valid raft snapshot, in order.
    pub snapshots: Vec<TracedSnapshot>,
}

impl Trace {
    pub fn entry(&self, index: Index) -> Option<&TracedEntry> {
        let at = self.entries.partition_point(|entry| entry.index < index);
        self.entries.get(at).filter(|entry| entry.index == index)
    }

    pub fn above(&self, index: Index) -> &[TracedEntry] {
        let from = self.entries.partition_point(|entry| entry.index <= index);
        self.entries.get(from..).unwrap_or_default()
    }

    pub(crate) fn snapshot(&mut self, facts: &SnapshotFacts) {
        let place = self.snapshots.partition_point(|known| known.id < facts.id);
        let snapshot = TracedSnapshot {
            id: facts.id,
            cluster_version: facts.store.cluster_version.clone(),
        };
        self.snapshots.insert(place, snapshot);
    }

    pub(crate) fn record(&mut self, at: &Located<'_>) {
        if at.record.kind == Kind::Entry
            && let Some(entry) = EntryView::read(at.record.data.unwrap_or_default())
        {
            let kept = self
                .entries
                .partition_point(|known| known.index < entry.index);
            self.entries.truncate(kept);
            self.entries.push(TracedEntry::of(&entry, at.record.crc));
        }
    }

    /// Drops the entries above `commit`: a raft snapshot of the leader has come, which replaces
    /// them, and it is not known whether they are what was committed there.
    pub(crate) fn keep_up_to(&mut self, commit: Index) {
        let kept = self.entries.partition_point(|known| known.index <= commit);
        self.entries.truncate(kept);
    }

    /// Drops the entries: the next segments are another chain.
    pub(crate) fn forget_entries(&mut self) {
        self.entries.clear();
    }
}

impl TracedEntry {
    fn of(entry: &EntryView<'_>, log_crc: u32) -> Self {
        let class = EntryClass::of(entry.kind, entry.data);
        let sync = (class == EntryClass::Sync).then(|| Request::in_entry(entry.data));
        let clock = match sync {
            Some(Ok(Some(request))) => request.time,
            _ => None,
        };
        Self {
            index: entry.index,
            term: entry.term,
            digest: EntryDigest::of(entry),
            log_crc,
            bytes: entry.data.len() as u32,
            class,
            clock,
        }
    }
}
