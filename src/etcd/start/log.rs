//! The records of a log as a server reads them: metadata, hard state, markers, and the entries that
//! it applies.
//!
//! In: the segments' bytes. Out: the end of the log, and servers that have applied it.
//! Source: `ReadAll` in `wal/wal.go` at 2.0.13 and 2.3.8; `newRaft` in `raft/raft.go` at 2.2.5.

use std::borrow::Cow;
use std::collections::VecDeque;

use prost::Message;

use crate::etcd::ids::SnapshotId;
use crate::etcd::ids::{Index, MemberId};
use crate::etcd::proto::{self, HardState, Metadata, SnapshotMarker};
use crate::etcd::start::decoder::{CRC, Decoder, Record};
use crate::etcd::start::is_alone;
use crate::etcd::start::reason::Reason;
use crate::etcd::start::release_line::{Entry, Server, is_plain_client_write};
use crate::etcd::wal::log::EntryView;

/// A log that is being read.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) decoder: Decoder,
    /// The raft snapshot that it is read from; 0 is the empty store.
    pub(super) start: SnapshotId,
    /// What stops the reading, apart from the bytes themselves.
    pub(super) fault: Option<Reason>,
    /// Missing entries that the server does not notice: first and last of each gap.
    pub(super) holes: Vec<(Index, Index)>,
    /// Whether the last record is the marker of `start`, and another one came before.
    pub(super) ends_in_marker: bool,
    records: Records,
}

#[derive(Debug)]
struct Records {
    metadata: Option<Vec<u8>>,
    /// The member in the metadata.
    own: MemberId,
    hard_state: HardState,
    has_marker: bool,
    has_entries: bool,
    entries: Entries,
}

/// The entries above the raft snapshot. The server holds them in a slice; its capacity
/// decides whether the server notices a gap.
#[derive(Debug)]
struct Entries {
    /// Their number.
    length: u64,
    room: u64,
    /// The index of the last one, or of the raft snapshot.
    last: Index,
    /// Those that change something and that a later one may still replace.
    pending: VecDeque<Entry>,
    /// The highest index applied.
    applied: Index,
    /// Whether keys other than the cluster's own are needed.
    whole: bool,
    servers: Option<[Server; 4]>,
}

impl Log {
    pub(super) fn new(start: SnapshotId, servers: [Server; 4]) -> Self {
        let whole = servers.iter().any(Server::is_whole);
        Self {
            decoder: Decoder::default(),
            start,
            fault: None,
            holes: Vec::new(),
            ends_in_marker: false,
            records: Records {
                metadata: None,
                own: MemberId(0),
                hard_state: HardState::default(),
                has_marker: false,
                has_entries: false,
                entries: Entries {
                    length: 0,
                    room: 0,
                    last: start.index,
                    pending: VecDeque::new(),
                    applied: start.index,
                    whole,
                    servers: Some(servers),
                },
            },
        }
    }

    pub(super) fn begin_segment(&mut self) {
        self.decoder.begin_segment();
    }

    pub(super) fn update(&mut self, bytes: &[u8], proven: bool) {
        let Self {
            decoder,
            start,
            fault,
            holes,
            ends_in_marker,
            records,
        } = self;
        decoder.update(bytes, proven, &mut |record| match records.take(
            record,
            *start,
            holes,
            ends_in_marker,
        ) {
            Ok(()) => true,
            Err(reason) => {
                *fault = Some(reason);
                false
            }
        });
    }

    /// Applies the rest: what is committed, and in a cluster of one all of it.
    pub(super) fn settle_all(&mut self) {
        let commit = self.commit();
        let own = self.records.own;
        let entries = &mut self.records.entries;
        entries.settle(commit, own);
        let pending = std::mem::take(&mut entries.pending);
        for server in entries.servers.iter_mut().flatten() {
            if is_alone(&server.voters, own) {
                for entry in &pending {
                    server.apply(entry, own.0);
                }
            }
        }
    }

    pub(super) fn take_servers(&mut self) -> [Server; 4] {
        let servers = self.records.entries.servers.take();
        servers.unwrap_or_else(|| {
            crate::etcd::start::release_line::servers(|line| Server::new(line, false))
        })
    }

    fn commit(&self) -> Index {
        Index(self.records.hard_state.commit.unwrap_or(0)).max(self.start.index)
    }

    /// The member's id.
    pub(super) fn member(&self) -> Result<MemberId, Reason> {
        let metadata = self.records.metadata.as_deref().unwrap_or_default();
        let metadata = Metadata::decode(metadata).map_err(|_| Reason::Malformed)?;
        match metadata.node_id.unwrap_or(0) {
            0 => Err(Reason::NoMetadata),
            id => Ok(MemberId(id)),
        }
    }

    /// The gap at which the server stops when it applies what is committed at the start and what follows:
    /// it counts by the first and last entry of a batch. If `alone` it commits all of its log.
    pub(super) fn hole_fault(&self, alone: bool) -> Option<Reason> {
        let commit = self.commit();
        let is_hole = |at: Index| {
            self.holes
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&at))
        };
        let runs_into = is_hole(commit) || alone && is_hole(commit.next());
        runs_into.then_some(Reason::HoleAtCommit(commit))
    }

    pub(super) fn marker_fault(&self) -> Option<Reason> {
        (!self.records.has_marker).then_some(Reason::NoMarker(self.start))
    }

    pub(super) fn has_entries(&self) -> bool {
        self.records.has_entries
    }

    /// Whether raft accepts the hard state; one of zeros counts as missing.
    pub(super) fn commit_fault(&self, id: MemberId) -> Option<Reason> {
        let state = &self.records.hard_state;
        let numbers = [state.term, state.vote, state.commit];
        let is_none = numbers.iter().all(|number| number.unwrap_or(0) == 0);
        let commit = Index(state.commit.unwrap_or(0));
        let first = self.start.index;
        let last = Index(first.0.saturating_add(self.records.entries.length));
        let in_range = (first..=last).contains(&commit);
        (!is_none && !in_range).then_some(Reason::Commit {
            id,
            commit,
            first,
            last,
        })
    }
}

impl Records {
    fn take(
        &mut self,
        record: Record<'_>,
        start: SnapshotId,
        holes: &mut Vec<(Index, Index)>,
        ends_in_marker: &mut bool,
    ) -> Result<(), Reason> {
        *ends_in_marker = false;
        match record.kind {
            1 => {
                if self.metadata.is_none() {
                    let metadata = Metadata::decode(record.data).unwrap_or_default();
                    self.own = MemberId(metadata.node_id.unwrap_or(0));
                    self.metadata = Some(record.data.to_vec());
                }
                if self.metadata.as_deref() != Some(record.data) {
                    return Err(Reason::MetadataConflict);
                }
            }
            2 => {
                self.has_entries = true;
                let entry = read_entry(record.data)?;
                self.entries.take(entry, start.index, holes)?;
            }
            3 => {
                let state = HardState::read(record.data).ok_or(Reason::Malformed)?;
                let settled = Index(self.hard_state.commit.unwrap_or(0));
                self.hard_state = state;
                // The last hard state may be ahead of its entries: 2.0 writes it first.
                self.entries.settle(settled, self.own);
            }
            CRC => {}
            5 => {
                let marker = SnapshotMarker::decode(record.data).map_err(|_| Reason::Malformed)?;
                if marker.index.unwrap_or(0) == start.index.0 {
                    if marker.term.unwrap_or(0) != start.term.0 {
                        return Err(Reason::MarkerTerm(start));
                    }
                    self.has_marker = true;
                    *ends_in_marker = self.has_entries;
                }
            }
            kind => return Err(Reason::RecordType(kind)),
        }
        Ok(())
    }
}

/// An entry as in its record: kind, index, data.
type EntryRead<'a> = (u64, Index, Cow<'a, [u8]>);

/// Reads an entry; one with only the fields that etcd writes is not copied.
fn read_entry(record: &[u8]) -> Result<EntryRead<'_>, Reason> {
    if let Some(entry) = EntryView::read(record) {
        return Ok((entry.kind, entry.index, Cow::Borrowed(entry.data)));
    }
    let entry = proto::Entry::decode(record).map_err(|_| Reason::Malformed)?;
    let data = Cow::Owned(entry.data.unwrap_or_default());
    let (kind, index) = (entry.kind.unwrap_or(0), entry.index.unwrap_or(0));
    Ok((kind, Index(index), data))
}

impl Entries {
    /// Appends an entry as `ents = append(ents[:index-start-1], entry)` does.
    fn take(
        &mut self,
        (kind, index, data): EntryRead<'_>,
        start: Index,
        holes: &mut Vec<(Index, Index)>,
    ) -> Result<(), Reason> {
        let Some(before) = index.0.checked_sub(start.0).and_then(|n| n.checked_sub(1)) else {
            return Ok(());
        };
        if before > self.room {
            let missing = start.0.saturating_add(self.length).saturating_add(1);
            return Err(Reason::Hole(Index(missing)));
        }
        while self.pending.back().is_some_and(|last| last.index >= index) {
            self.pending.pop_back();
        }
        holes.retain(|(first, _)| *first < index);
        if let Some((_, last)) = holes.last_mut() {
            *last = index.previous().min(*last);
        }
        // Unwritten elements within the slice's capacity are entries without data and without an index.
        if self.length < before {
            holes.push((Index(start.0 + self.length + 1), index.previous()));
        }
        self.length = before + 1;
        self.last = index;
        if self.length > self.room {
            self.room = grown(self.room);
        }
        let changes_nothing =
            kind == 0 && (data.is_empty() || !self.whole && is_plain_client_write(&data));
        // Nor does one that repeats an applied one.
        if !changes_nothing && index > self.applied {
            self.pending.push_back(Entry {
                index,
                kind,
                data: data.into_owned().into(),
            });
        }
        Ok(())
    }

    /// Applies the entries at or below `settled`.
    fn settle(&mut self, settled: Index, own: MemberId) {
        while self
            .pending
            .front()
            .is_some_and(|first| first.index <= settled)
            && let Some(entry) = self.pending.pop_front()
        {
            for server in self.servers.iter_mut().flatten() {
                server.apply(&entry, own.0);
            }
        }
        self.applied = settled.min(self.last).max(self.applied);
    }
}

/// The capacity of a Go slice of `raftpb.Entry` after it grows by one element: what fits into the memory that Go's allocator gives for
/// twice the elements, and from 1024 on for a quarter more. Go 1.18 and later grow otherwise from 568 on.
fn grown(room: u64) -> u64 {
    const ENTRY: u64 = 72;
    const PAGE: u64 = 8192;
    match room {
        0 => 1,
        // Its size classes of 4864, 9728 and 20480 bytes.
        32 => 67,
        67 => 135,
        135 => 284,
        1..32 => 2 * room,
        _ => {
            let wanted = if room < 1024 {
                2 * room
            } else {
                room + room / 4
            };
            (wanted * ENTRY).next_multiple_of(PAGE) / ENTRY
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_of_entries_grows_as_gos_allocator_rounds() {
        // Seen on real servers: a gap is noticed behind entry 67, and not behind 64.
        let mut room = 0;
        for expected in [1, 2, 4, 8, 16, 32, 67, 135, 284, 568, 1137, 1479] {
            room = grown(room);
            assert_eq!(room, expected);
        }
    }
}
