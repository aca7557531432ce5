//! The entries from the one that moved the cluster version on: what going back to before it costs.
//!
//! In: the entries of a log in order, later ones replacing earlier ones. Out: [`SinceVersion`], none
//! if no entry at hand moved the version so far.

use crate::etcd::conf_change::ClusterChange;
use crate::etcd::entry::{EntryClass, EntryCount};
use crate::etcd::ids::{Index, Release};
use crate::etcd::wal::log::EntryView;
use serde::Serialize;

/// What stands in a log from the entry that set a cluster version on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SinceVersion {
    /// The entry that set it.
    pub from: Index,
    /// The last entry.
    pub last: Index,
    /// How many entries of these are at hand, that one included.
    #[serde(flatten)]
    pub count: EntryCount,
}

impl SinceVersion {
    /// Whether all of them are at hand, none of them only as part of a raft snapshot.
    pub fn is_whole(&self) -> bool {
        let span = self.last.0.saturating_sub(self.from.previous().0);
        self.count.entries == span
    }
}

/// Counts while a log goes by.
#[derive(Debug)]
pub struct Tally {
    release: Release,
    /// From the entry on that first set a version at or above `release`.
    entries: Vec<(Index, EntryClass)>,
}

impl Tally {
    /// A tally from the first entry on that sets a cluster version at or above `release`.
    pub fn new(release: Release) -> Self {
        Self {
            release,
            entries: Vec::new(),
        }
    }

    /// Takes the next entry.
    pub fn entry(&mut self, entry: EntryView<'_>) {
        let kept = self.entries.partition_point(|(at, _)| *at < entry.index);
        self.entries.truncate(kept);
        if !self.entries.is_empty() || self.is_move(entry) {
            let class = EntryClass::of(entry.kind, entry.data);
            self.entries.push((entry.index, class));
        }
    }

    fn is_move(&self, entry: EntryView<'_>) -> bool {
        let change = ClusterChange::in_entry(entry.kind, entry.data);
        matches!(change, Ok(Some(ClusterChange::Version(version))) if version.release() >= self.release)
    }

    /// What has been counted.
    pub fn finish(self) -> Option<SinceVersion> {
        let ((from, _), (last, _)) = (*self.entries.first()?, *self.entries.last()?);
        Some(SinceVersion {
            from,
            last,
            count: self.entries.into_iter().map(|(_, class)| class).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::etcd::ids::Term;
    use crate::etcd::proto::Request;

    fn put(path: &str, value: &str) -> Vec<u8> {
        let request = Request {
            method: Some(b"PUT".to_vec()),
            path: Some(path.into()),
            val: Some(value.into()),
            ..Request::default()
        };
        request.encode_to_vec()
    }

    fn tally(entries: &[(u64, Vec<u8>)]) -> Option<SinceVersion> {
        let release = "2.2".parse().unwrap();
        let mut tally = Tally::new(release);
        for (index, data) in entries {
            tally.entry(EntryView {
                kind: 0,
                term: Term(1),
                index: Index(*index),
                data,
            });
        }
        tally.finish()
    }

    #[test]
    fn a_move_that_was_replaced_is_none_and_one_replaced_tail_counts_once() {
        let (version, write) = (|to| put("/0/version", to), || put("/1/a", ""));
        assert_eq!(tally(&[(1, version("2.1.0")), (2, write())]), None);
        let replaced = [(5, version("2.2.0")), (6, write()), (5, write())];
        assert_eq!(tally(&replaced), None);
        let found = tally(&[
            (4, write()),
            (5, version("2.2.0")),
            (6, write()),
            (7, write()),
            (6, Vec::new()),
            (7, write()),
            (8, version("2.3.0")),
        ]);
        let found = found.unwrap();
        assert_eq!((found.from, found.last), (Index(5), Index(8)));
        assert_eq!((found.count.entries, found.count.client_writes), (4, 1));
        assert!(found.is_whole());
        let with_hole = tally(&[(5, version("2.2.0")), (9, write())]).unwrap();
        assert!(!with_hole.is_whole());
    }
}
