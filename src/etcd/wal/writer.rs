//! Writes a log as etcd would have left it: frames in segments, the CRC continued from one to the next.
//!
//! ```text
//! first segment  crc 0 · metadata · marker · entry*  [· hard state, if it is cut]  or  · hard state
//! later ones     crc   · metadata · hard state · entry* …
//! ```
//!
//! In: entries in order, each the data of its record in another log. Out: segments,
//! passed to a [`SegmentSink`] in pieces. Only the current piece is kept in memory.
//! A segment ends as in etcd: after the entry that crosses 64 MB comes a hard state, and the
//! next segment begins with the crc, the metadata and that hard state again (`cut` in `wal/wal.go`
//! at etcd 2.1.3 and 3.4.23; formats page §2, §7).

use std::io;

use prost::Message;

use crate::etcd::ids::{ClusterId, Index, MemberId, SegmentName, SnapshotId, Term};
use crate::etcd::proto as messages;
use crate::etcd::wal::record::{Framing, Kind, Record};

/// A segment of this size or more, in bytes, is complete: etcd's `segmentSizeBytes`.
const SEGMENT_SIZE: u64 = 64 * 1000 * 1000;
/// How many bytes are collected before they are passed to the sink.
const PIECE: usize = 256 << 10;

pub trait SegmentSink {
    /// A segment begins; the next bytes belong to it.
    fn begin(&mut self, name: SegmentName) -> io::Result<()>;
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// The member of a log, and what the log begins from.
#[derive(Clone, Copy, Debug)]
pub struct Beginning {
    pub member_id: MemberId,
    pub cluster_id: ClusterId,
    /// The raft snapshot that the first entry follows; index and term 0 if the log begins at 1.
    pub snapshot: SnapshotId,
    /// The term in every hard state.
    pub term: Term,
    pub framing: Framing,
}

/// A log that is being written; all of it is committed, and it has no vote.
pub struct LogWriter<'s, S: SegmentSink> {
    sink: &'s mut S,
    beginning: Beginning,
    segment_size: u64,
    sequence: u64,
    crc: u32,
    /// The last entry, or the raft snapshot before the first.
    last: Index,
    /// Bytes of this segment that were passed to the sink.
    given: u64,
    /// Bytes that were not yet.
    piece: Vec<u8>,
    /// The commit index in the last hard state.
    commit: Option<Index>,
}

impl<'s, S: SegmentSink> LogWriter<'s, S> {
    pub fn begin(sink: &'s mut S, beginning: Beginning) -> io::Result<Self> {
        Self::begin_with(sink, beginning, SEGMENT_SIZE)
    }

    fn begin_with(sink: &'s mut S, beginning: Beginning, segment_size: u64) -> io::Result<Self> {
        let mut writer = Self {
            sink,
            beginning,
            segment_size,
            sequence: 0,
            crc: 0,
            last: beginning.snapshot.index,
            given: 0,
            piece: Vec::new(),
            commit: None,
        };
        writer.begin_segment(Index(0))?;
        let marker = messages::SnapshotMarker {
            index: Some(beginning.snapshot.index.0),
            term: Some(beginning.snapshot.term.0),
        };
        writer.record(Kind::SnapshotMarker, &marker.encode_to_vec());
        Ok(writer)
    }

    /// Writes the entry at `index`, which follows the one before; `data` is its record's data,
    /// unchanged.
    pub fn entry(&mut self, index: Index, data: &[u8]) -> io::Result<()> {
        if index != self.last.next() {
            let (last, index) = (self.last, index);
            return Err(io::Error::other(format!(
                "entry {index} was to follow {last}"
            )));
        }
        // Cut only when an entry follows: etcd cuts at once, but a segment
        // with only a header is of no use.
        if self.given + self.piece.len() as u64 >= self.segment_size {
            self.hard_state();
            self.give()?;
            self.sequence += 1;
            self.begin_segment(index)?;
            self.commit = None;
            self.hard_state();
        }
        self.record(Kind::Entry, data);
        self.last = index;
        if self.piece.len() >= PIECE {
            self.give()?;
        }
        Ok(())
    }

    /// Ends the log: all of it is committed.
    pub fn finish(mut self) -> io::Result<()> {
        self.hard_state();
        self.give()
    }

    fn begin_segment(&mut self, first_index: Index) -> io::Result<()> {
        self.sink.begin(SegmentName {
            sequence: self.sequence,
            first_index,
        })?;
        self.given = 0;
        let record = Record {
            kind: Kind::Crc,
            crc: self.crc,
            data: None,
        };
        record.write_frame_as(self.beginning.framing, &mut self.piece);
        let metadata = messages::Metadata {
            node_id: Some(self.beginning.member_id.0),
            cluster_id: Some(self.beginning.cluster_id.0),
        };
        self.record(Kind::Metadata, &metadata.encode_to_vec());
        Ok(())
    }

    fn hard_state(&mut self) {
        if self.commit == Some(self.last) {
            return;
        }
        let state = messages::HardState {
            term: Some(self.beginning.term.0),
            vote: Some(0),
            commit: Some(self.last.0),
        };
        self.record(Kind::HardState, &state.encode_to_vec());
        self.commit = Some(self.last);
    }

    fn record(&mut self, kind: Kind, data: &[u8]) {
        self.crc = crc32c::crc32c_append(self.crc, data);
        let record = Record {
            kind,
            crc: self.crc,
            data: Some(data),
        };
        record.write_frame_as(self.beginning.framing, &mut self.piece);
    }

    fn give(&mut self) -> io::Result<()> {
        self.sink.write(&self.piece)?;
        self.given += self.piece.len() as u64;
        self.piece.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::etcd::member::MemberFacts;
    use crate::etcd::scan::{FileKind, MemberScan};
    use crate::etcd::wal::segment::SegmentScan;

    #[derive(Default)]
    struct Segments(Vec<(SegmentName, Vec<u8>)>);

    impl SegmentSink for Segments {
        fn begin(&mut self, name: SegmentName) -> io::Result<()> {
            self.0.push((name, Vec::new()));
            Ok(())
        }

        fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.0.last_mut().unwrap().1.extend_from_slice(bytes);
            Ok(())
        }
    }

    fn beginning(index: u64, framing: Framing) -> Beginning {
        Beginning {
            member_id: MemberId(0x8998_a2fa),
            cluster_id: ClusterId(7),
            snapshot: SnapshotId {
                term: Term(u64::from(index > 0) * 2),
                index: Index(index),
            },
            term: Term(5),
            framing,
        }
    }

    /// The data of an entry's record, with a field that no release has.
    fn entry(index: u64, size: usize) -> Vec<u8> {
        let mut data = messages::Entry {
            kind: Some(0),
            term: Some(3),
            index: Some(index),
            data: Some(vec![b'x'; size]),
        }
        .encode_to_vec();
        data.extend_from_slice(&[0x78, 1]);
        data
    }

    fn written(beginning: Beginning, sizes: &[usize], segment_size: u64) -> Segments {
        let mut segments = Segments::default();
        let mut log = LogWriter::begin_with(&mut segments, beginning, segment_size).unwrap();
        let first = beginning.snapshot.index.0 + 1;
        for (index, &size) in (first..).zip(sizes) {
            log.entry(Index(index), &entry(index, size)).unwrap();
        }
        log.finish().unwrap();
        segments
    }

    fn examined(segments: &Segments) -> MemberFacts {
        let mut scan = MemberScan::default();
        for (name, bytes) in &segments.0 {
            scan.begin(FileKind::Segment(*name), bytes.len() as u64);
            scan.update(bytes);
            scan.end().unwrap();
        }
        scan.finish().unwrap()
    }

    fn kinds(bytes: &[u8]) -> Vec<(Kind, Vec<u8>)> {
        let mut found = Vec::new();
        let mut scan = SegmentScan::new(None);
        scan.update(bytes, &mut |at| {
            let data = at.record.data.unwrap_or_default().to_vec();
            found.push((at.record.kind, data));
            Ok(())
        });
        scan.finish().unwrap();
        found
    }

    #[test]
    fn a_log_that_never_reaches_the_limit_is_one_segment_with_one_hard_state() {
        use Kind::{Crc, Entry, HardState, Metadata, SnapshotMarker};
        let segments = written(beginning(9, Framing::Plain), &[10, 0, 300], SEGMENT_SIZE);
        let [(name, bytes)] = &segments.0[..] else {
            panic!("{} segments", segments.0.len());
        };
        assert_eq!(name.to_string(), "0000000000000000-0000000000000000.wal");
        let found = kinds(bytes);
        let order: Vec<_> = found.iter().map(|(kind, _)| *kind).collect();
        let expected = [
            Crc,
            Metadata,
            SnapshotMarker,
            Entry,
            Entry,
            Entry,
            HardState,
        ];
        assert_eq!(order, expected);
        // Field by field, as Go writes them: zeros too.
        assert_eq!(found[2].1, [0x08, 9, 0x10, 2]);
        assert_eq!(
            found[5].1,
            entry(12, 300),
            "an entry's record is kept as it is"
        );
        assert_eq!(found[6].1, [0x08, 5, 0x10, 0, 0x18, 12]);
    }

    #[test]
    fn an_entry_out_of_its_place_is_refused() {
        let mut segments = Segments::default();
        let mut log = LogWriter::begin(&mut segments, beginning(9, Framing::Plain)).unwrap();
        assert!(log.entry(Index(9), &entry(9, 1)).is_err());
        assert!(log.entry(Index(11), &entry(11, 1)).is_err());
        assert!(log.entry(Index(10), &entry(10, 1)).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_one_committed_log_wherever_it_is_cut(
            sizes in prop::collection::vec(0_usize..400, 0..40),
            segment_size in 100_u64..2000,
            padded: bool,
        ) {
            let framing = if padded { Framing::Padded } else { Framing::Plain };
            let segments = written(beginning(0, framing), &sizes, segment_size);
            let facts = examined(&segments);
            let last = Index(sizes.len() as u64);
            prop_assert_eq!(facts.position.index, last);
            prop_assert_eq!(facts.position.commit, last);
            prop_assert_eq!(facts.position.hard_state_term, Term(5));
            prop_assert_eq!(facts.position.vote, MemberId(0));
            prop_assert_eq!(facts.replaced_entries, 0);
            let mut next = 1;
            for (number, (name, bytes)) in segments.0.iter().enumerate() {
                prop_assert_eq!(name.sequence, number as u64);
                let found = kinds(bytes);
                if number > 0 {
                    prop_assert_eq!(name.first_index, Index(next));
                    prop_assert_eq!(found[2].0, Kind::HardState);
                    prop_assert_eq!(&found[2].1, &[0x08, 5, 0x10, 0, 0x18, next as u8 - 1]);
                }
                // Cut behind the entry that crosses the limit, and nowhere else.
                let last_entry = found.iter().rposition(|(kind, _)| *kind == Kind::Entry);
                if number + 1 < segments.0.len() {
                    prop_assert!(bytes.len() as u64 >= segment_size);
                    prop_assert_eq!(last_entry, Some(found.len() - 2));
                }
                next += found.iter().filter(|(kind, _)| *kind == Kind::Entry).count() as u64;
                if padded {
                    prop_assert!(bytes.len().is_multiple_of(8));
                }
            }
        }
    }
}
