//! The intact part of a damaged log.
//!
//! In: a log up to its first break. Out: the same as if it ended there, and what is lost.

use std::fmt;

use serde::Serialize;

use crate::etcd::ids::{Index, SnapshotId, Term};
use crate::etcd::wal::log::Log;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// All entries up to this one are intact.
    #[serde(rename = "whole_to_raft_index")]
    pub whole_to: Index,
    /// The last entry that is known to have existed.
    #[serde(rename = "known_to_raft_index")]
    pub known_to: Index,
    /// The highest index that was known to be committed.
    #[serde(rename = "committed_to_raft_index")]
    pub committed_to: Index,
    /// Whether the entry after it is intact, and no etcd could apply it.
    #[serde(skip)]
    pub unreadable: bool,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, first) = (self.whole_to, self.whole_to.next());
        if self.unreadable {
            write!(f, "entry {first} holds no request that etcd could apply; ")?;
        }
        write!(
            f,
            "the log is whole up to entry {whole}; lost is what was in it from entry {first} on"
        )?;
        if self.committed_to > whole {
            write!(
                f,
                ", of which at least those up to {} were committed",
                self.committed_to
            )?;
        } else if self.known_to > whole {
            write!(f, ", at least up to {}", self.known_to)?;
        }
        Ok(())
    }
}

impl Lost {
    /// Cuts `log`, which is broken or ends before its commit index, after its last intact entry, or at
    /// the raft snapshot if that is later; `None` if nothing is lost. Segments after the
    /// break begin after the entry `behind`.
    pub(crate) fn cut_off(
        log: &mut Log,
        snapshot: Option<SnapshotId>,
        broken: bool,
        behind: Index,
    ) -> Option<Self> {
        let base = snapshot.unwrap_or(SnapshotId {
            term: Term(0),
            index: Index(0),
        });
        if snapshot.is_some() && !log.markers.contains(&base) {
            log.markers.push(base);
        }
        let ends_early = log.last.1 < base.index.max(log.commit);
        if log.last.1 < base.index {
            log.last = (base.term, base.index);
            log.last_crc = None;
        }
        if !broken && !ends_early {
            return None;
        }
        let (whole_to, committed_to) = (log.last.1, log.commit);
        log.commit = log.commit.clamp(base.index, whole_to);
        Some(Self {
            whole_to,
            known_to: committed_to.max(behind),
            committed_to,
            unreadable: false,
        })
    }
}
