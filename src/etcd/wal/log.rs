//! Compares the records of all segments with raft's rules, and collects their facts.
//!
//! In: each record with its position. Out: a [`Log`]: positions, segments, markers and the log's
//! changes to the cluster. The CRC does not cover a record's type, so a type flipped
//! between two kinds that parse alike is found here: indexes must follow each other, terms and
//! commit must not fall, nothing committed may be replaced (formats page §2).

use prost::Message;
use prost::encoding::decode_varint;
use serde::{Deserialize, Serialize};

use crate::etcd::conf_change::{ClusterChange, LoggedChange};
use crate::etcd::ids::{ClusterId, Identity, Index, MemberId, SegmentName, SnapshotId, Term};
use crate::etcd::proto::{HardState, Metadata, SnapshotMarker};
use crate::etcd::wal::error::LogFault;
use crate::etcd::wal::record::Kind;
use crate::etcd::wal::segment::{Located, SegmentEnd, SegmentFault};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentFacts {
    pub name: String,
    pub sequence: u64,
    pub bytes: u64,
    /// Bytes up to the end of the last complete record.
    pub records_end: u64,
    /// Whether an unfinished record follows.
    pub torn: bool,
    /// The lowest entry in it.
    pub first: Option<Index>,
    /// The last entry in it.
    pub last: Option<Index>,
}

#[derive(Clone, Debug)]
pub struct Log {
    pub metadata: Option<(MemberId, ClusterId)>,
    pub segments: Vec<SegmentFacts>,
    /// The last entry, or the marker that replaces it: `(term, index)`.
    pub last: (Term, Index),
    /// The WAL's running CRC at the last entry; `None` if a marker replaces that entry.
    pub last_crc: Option<u32>,
    pub hard_state_term: Term,
    /// The member that it voted for in that term; 0 for none.
    pub vote: MemberId,
    /// The last hard state's commit index.
    pub commit: Index,
    pub markers: Vec<SnapshotId>,
    /// Where entries are missing because a raft snapshot replaces them.
    pub jumps: Vec<Jump>,
    /// Entries that change the cluster's members or version, without replaced ones.
    pub changes: Vec<LoggedChange>,
    /// Bytes of the frames of entries above the given raft snapshot.
    pub bytes_above_snapshot: u64,
    /// The number of entries that later ones replaced.
    pub replaced_entries: u64,
}

impl Log {
    /// Whether there is a hard state; raft treats one of zeros as missing.
    pub fn has_hard_state(&self) -> bool {
        (self.hard_state_term, self.vote, self.commit) != (Term(0), MemberId(0), Index(0))
    }
}

/// Entries that are not in a log because a raft snapshot replaces them: one received from the
/// leader, or the one that `etcdctl backup` began from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jump {
    /// The last entry before; 0 if there is none.
    pub after: Index,
    /// The last index in the raft snapshot.
    pub to: Index,
}

#[derive(Debug)]
pub struct LogScan {
    log: Log,
    snapshot_index: Index,
    /// The commit index of the hard state before the last one. 2.0.13 writes a hard state
    /// before the entries it commits, so the last one cannot be compared with what follows.
    commit_before: Index,
    /// The highest index that a raft snapshot is known to end at.
    highest_marker: Index,
    /// The starts of terms, `(index, term)`, as far back as entries may still be replaced.
    terms: Vec<(Index, Term)>,
}

impl LogScan {
    /// Reads a log; its raft snapshot, if there is one, ends at `snapshot_index`.
    pub fn new(snapshot_index: Index) -> Self {
        Self {
            log: Log {
                metadata: None,
                segments: Vec::new(),
                last: (Term(0), Index(0)),
                last_crc: None,
                hard_state_term: Term(0),
                vote: MemberId(0),
                commit: Index(0),
                markers: Vec::new(),
                jumps: Vec::new(),
                changes: Vec::new(),
                bytes_above_snapshot: 0,
                replaced_entries: 0,
            },
            snapshot_index,
            commit_before: Index(0),
            highest_marker: Index(0),
            terms: Vec::new(),
        }
    }

    pub fn begin_segment(&mut self, name: SegmentName, bytes: u64) {
        if self.log.segments.is_empty() && name.sequence > 0 {
            // Earlier segments are missing; the name gives the index of the next entry.
            self.log.last.1 = name.first_index.previous();
        }
        self.log.segments.push(SegmentFacts {
            name: name.to_string(),
            sequence: name.sequence,
            bytes,
            records_end: 0,
            torn: false,
            first: None,
            last: None,
        });
    }

    pub fn end_segment(&mut self, end: SegmentEnd) {
        if let Some(segment) = self.log.segments.last_mut() {
            segment.records_end = end.records_end();
            segment.torn = matches!(end, SegmentEnd::TornTail { .. });
        }
    }

    pub fn record(&mut self, at: Located<'_>) -> Result<(), SegmentFault> {
        let data = at.record.data.unwrap_or_default();
        match at.record.kind {
            Kind::Crc => Ok(()),
            Kind::Metadata => self.metadata(data),
            Kind::Entry => self.entry(data, at.frame, at.record.crc),
            Kind::HardState => self.hard_state(data),
            Kind::SnapshotMarker => self.marker(data),
        }
        .map_err(SegmentFault::Log)
    }

    /// The highest index that no later entry can replace.
    pub fn settled(&self) -> Index {
        self.commit_before
    }

    pub fn commit(&self) -> Index {
        self.log.commit
    }

    pub fn jumps(&self) -> usize {
        self.log.jumps.len()
    }

    pub fn finish(self) -> Log {
        self.log
    }

    fn metadata(&mut self, data: &[u8]) -> Result<(), LogFault> {
        let unreadable = LogFault::Message("metadata");
        let found = Metadata::decode(data).map_err(|_| unreadable.clone())?;
        let (Some(member), Some(cluster)) = (found.node_id, found.cluster_id) else {
            return Err(unreadable);
        };
        let found = (MemberId(member), ClusterId(cluster));
        if *self.log.metadata.get_or_insert(found) != found {
            return Err(LogFault::OtherMember {
                found: Identity {
                    cluster_id: found.1,
                    member_id: found.0,
                    name: None,
                },
            });
        }
        Ok(())
    }

    fn entry(&mut self, data: &[u8], frame: u64, crc: u32) -> Result<(), LogFault> {
        let entry = EntryView::read(data).ok_or(LogFault::Message("entry"))?;
        let change = ClusterChange::in_entry(entry.kind, entry.data)
            .map_err(|_| LogFault::Message("cluster change"))?;
        let (index, term) = (entry.index, entry.term);
        let last = self.log.last.1;
        if last == Index(0) && index > Index(1) && index <= self.snapshot_index.next() {
            // `etcdctl backup` writes the entries first and the marker of the raft snapshot
            // below them at the end.
            self.log.jumps.push(Jump {
                after: last,
                to: index.previous(),
            });
        } else if index > last.next() || index == Index(0) {
            return Err(LogFault::Hole { last, found: index });
        }
        if index <= last {
            self.replace_from(index)?;
        }
        let before = self.terms.last().map_or(Term(0), |&(_, term)| term);
        if term < before || term == Term(0) {
            return Err(LogFault::TermFell {
                index,
                found: term,
                before,
            });
        }
        if term > before {
            self.terms.push((index, term));
        }
        self.log.last = (term, index);
        self.log.last_crc = Some(crc);
        if index > self.snapshot_index {
            self.log.bytes_above_snapshot += frame;
        }
        if let Some(segment) = self.log.segments.last_mut() {
            segment.first = Some(segment.first.map_or(index, |first| first.min(index)));
            segment.last = Some(index);
        }
        if let Some(change) = change {
            self.log.changes.push(LoggedChange { index, change });
        }
        Ok(())
    }

    fn replace_from(&mut self, index: Index) -> Result<(), LogFault> {
        let commit = self.commit_before.max(self.highest_marker);
        if index <= commit && !self.terms.is_empty() {
            return Err(LogFault::ReplacesCommitted { index, commit });
        }
        let replaced = self.log.last.1.0 - index.previous().0;
        // The first of them may be known only from a segment's name, which proves nothing.
        self.log.replaced_entries = self.log.replaced_entries.saturating_add(replaced);
        // Both are in the order of their indexes.
        let kept = self.terms.partition_point(|&(first, _)| first < index);
        self.terms.truncate(kept);
        let changes = &mut self.log.changes;
        let kept = changes.partition_point(|change| change.index < index);
        changes.truncate(kept);
        Ok(())
    }

    fn hard_state(&mut self, data: &[u8]) -> Result<(), LogFault> {
        let unreadable = LogFault::Message("hard state");
        let found = HardState::read(data).ok_or(unreadable.clone())?;
        let (Some(term), Some(vote), Some(commit)) = (found.term, found.vote, found.commit) else {
            return Err(unreadable);
        };
        let (term, commit) = (Term(term), Index(commit));
        if term < self.log.hard_state_term || commit < self.log.commit {
            return Err(LogFault::HardStateFell {
                old_term: self.log.hard_state_term,
                old_commit: self.log.commit,
                term,
                commit,
            });
        }
        self.commit_before = self.log.commit;
        self.log.hard_state_term = term;
        self.log.vote = MemberId(vote);
        self.log.commit = commit;
        self.forget_settled_terms();
        Ok(())
    }

    /// Drops the starts of terms at or below the commit index, except the last of them: they are not
    /// needed again.
    fn forget_settled_terms(&mut self) {
        let settled = self
            .terms
            .partition_point(|&(first, _)| first <= self.commit_before);
        self.terms.drain(..settled.saturating_sub(1));
    }

    fn marker(&mut self, data: &[u8]) -> Result<(), LogFault> {
        let unreadable = LogFault::Message("snapshot marker");
        let found = SnapshotMarker::decode(data).map_err(|_| unreadable.clone())?;
        let (Some(index), Some(term)) = (found.index, found.term) else {
            return Err(unreadable);
        };
        let marker = SnapshotId {
            term: Term(term),
            index: Index(index),
        };
        if marker.index == Index(0) {
            return Ok(());
        }
        if marker.index > self.log.last.1 {
            // A snapshot received from the leader: the log continues after it.
            self.log.jumps.push(Jump {
                after: self.log.last.1,
                to: marker.index,
            });
            self.log.last = (marker.term, marker.index);
            self.log.last_crc = None;
            self.terms = vec![(marker.index, marker.term)];
        }
        self.highest_marker = self.highest_marker.max(marker.index);
        self.log.markers.push(marker);
        Ok(())
    }
}

/// An entry's fields, borrowed: copying every value would cost more than
/// the rest of the scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryView<'a> {
    /// 0 normal, 1 configuration change.
    pub kind: u64,
    pub term: Term,
    pub index: Index,
    /// Its content; empty for a new leader's first entry.
    pub data: &'a [u8],
}

impl<'a> EntryView<'a> {
    /// Reads a `raftpb.Entry`; `None` if it is not valid. Unknown fields are ignored.
    pub fn read(mut bytes: &'a [u8]) -> Option<Self> {
        let (mut kind, mut term, mut index, mut data) = (None, None, None, None);
        while !bytes.is_empty() {
            let key = decode_varint(&mut bytes).ok()?;
            match key {
                0x08 => kind = Some(decode_varint(&mut bytes).ok()?),
                0x10 => term = Some(decode_varint(&mut bytes).ok()?),
                0x18 => index = Some(decode_varint(&mut bytes).ok()?),
                0x22 => data = Some(take_bytes(&mut bytes)?),
                _ => skip_unknown(key, &mut bytes)?,
            }
        }
        let kind = kind.filter(|&kind| kind <= 1)?;
        Some(Self {
            kind,
            term: Term(term?),
            index: Index(index?),
            data: data.unwrap_or_default(),
        })
    }
}

fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(decode_varint(bytes).ok()?).ok()?;
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn skip_unknown(key: u64, bytes: &mut &[u8]) -> Option<()> {
    // Field numbers from 5 on are unknown; a known one with another wire type is not an entry.
    if key >> 3 < 5 {
        return None;
    }
    match key & 7 {
        0 => decode_varint(bytes).ok().map(|_| ()),
        1 => bytes.split_at_checked(8).map(|(_, rest)| *bytes = rest),
        2 => take_bytes(bytes).map(|_| ()),
        5 => bytes.split_at_checked(4).map(|(_, rest)| *bytes = rest),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::etcd::proto::Entry;
    use crate::etcd::wal::record::Record;

    #[test]
    fn entries_replaced_again_and_again_below_a_huge_name_do_not_overflow_their_count() {
        let entry = [0x08, 0, 0x10, 1, 0x18, 1];
        let mut scan = LogScan::new(Index(0));
        let name = SegmentName {
            sequence: 1,
            first_index: Index(u64::MAX),
        };
        scan.begin_segment(name, 3 * 22);
        for number in 0..3 {
            let record = Record {
                kind: Kind::Entry,
                crc: 0,
                data: Some(&entry),
            };
            let (offset, frame) = (number * 22, 22);
            let at = Located {
                offset,
                frame,
                record,
            };
            scan.record(at).unwrap();
        }
        assert_eq!(scan.finish().replaced_entries, u64::MAX);
    }

    proptest! {
        #[test]
        fn the_borrowed_entry_reader_agrees_with_prost(
            bytes in prop::collection::vec(any::<u8>(), 0..60),
            kind in 0_u64..2, term: u64, index: u64,
            data in prop::option::of(prop::collection::vec(any::<u8>(), 0..200)),
        ) {
            let entry = Entry { kind: Some(kind), term: Some(term), index: Some(index), data };
            let encoded = entry.encode_to_vec();
            let view = EntryView::read(&encoded).unwrap();
            prop_assert_eq!((view.kind, view.term.0, view.index.0), (kind, term, index));
            prop_assert_eq!(view.data, entry.data.as_deref().unwrap_or_default());
            if EntryView::read(&bytes).is_some() {
                prop_assert!(Entry::decode(&bytes[..]).is_ok());
            }
        }
    }
}
