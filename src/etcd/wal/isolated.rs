//! The same log as of another cluster, for a server that must not join the members that it names.
//!
//! In: segments, in order. Out: each with other metadata and with the CRCs that follow from that. Members of etcd 2.x
//! refuse what comes from another cluster (`rafthttp/http.go` at etcd 2.0.13 to 2.3.8), so neither do they count what such a
//! server has, nor does it take entries from them. From a record with a wrong CRC on, the rest of a segment stays as it is. The
//! next one is rewritten all the same, since a server may begin with it.

use prost::Message;

use crate::etcd::proto as messages;
use crate::etcd::wal::log::EntryView;
use crate::etcd::wal::record::{Framing, Kind, LengthWord, Record};

/// Where the request is written that takes the place of an update of a member.
const NOWHERE: &[u8] = b"/0/drill";
/// `ConfChangeUpdateNode` in `raftpb.ConfChangeType`.
const UPDATE: Option<u64> = Some(2);

/// Rewrites the segments of one log.
#[derive(Debug)]
pub struct Isolated {
    /// Whether updates of members become writes, which raise the store's index as they do: etcd 2.0 and 2.1 panic at
    /// one above the raft snapshot under `--force-new-cluster` (`getIDs` in `etcdserver/raft.go`).
    without_updates: bool,
    /// The running CRC as read and as written.
    crc: (u32, u32),
}

impl Isolated {
    /// Begins with the first segment.
    pub fn new(without_updates: bool) -> Self {
        Self {
            without_updates,
            crc: (0, 0),
        }
    }

    pub fn segment(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + 64);
        let (mut rest, mut framing) = (bytes, Framing::Plain);
        while let Some((record, padding, behind)) = next_frame(rest) {
            if padding > 0 {
                framing = Framing::Padded;
            }
            let Some((crc, data)) = self.rewritten(&record) else {
                break;
            };
            let (kind, data) = (record.kind, data.as_deref());
            Record { kind, crc, data }.write_frame_as(framing, &mut out);
            rest = behind;
        }
        out.extend_from_slice(rest);
        out
    }

    /// The CRC and the data to write instead; `None` if the CRC is wrong.
    fn rewritten(&mut self, record: &Record<'_>) -> Option<(u32, Option<Vec<u8>>)> {
        let Some(data) = record.data else {
            if record.crc != self.crc.0 {
                // The first segment that is left of a log, or one behind a break: it begins a chain.
                self.crc = (record.crc, record.crc);
            }
            return Some((self.crc.1, None));
        };
        let read = crc32c::crc32c_append(self.crc.0, data);
        let data = self.changed(record.kind, data);
        self.crc = (read, crc32c::crc32c_append(self.crc.1, &data));
        (record.crc == read).then_some((self.crc.1, Some(data)))
    }

    fn changed(&self, kind: Kind, data: &[u8]) -> Vec<u8> {
        let changed = match kind {
            Kind::Metadata => messages::Metadata::decode(data).ok().map(|mut metadata| {
                metadata.cluster_id = metadata.cluster_id.map(|id| !id);
                metadata.encode_to_vec()
            }),
            Kind::Entry if self.without_updates => EntryView::read(data).and_then(without_update),
            _ => None,
        };
        changed.unwrap_or_else(|| data.to_vec())
    }
}

/// The first frame of `bytes`: its record, the padding after it, and what follows.
fn next_frame(bytes: &[u8]) -> Option<(Record<'_>, usize, &[u8])> {
    let (word, behind) = bytes.split_first_chunk()?;
    let LengthWord::Frame { record, padding } = LengthWord::read(*word) else {
        return None;
    };
    let (frame, rest) = behind.split_at_checked(record + padding)?;
    Some((Record::read(frame.get(..record)?)?, padding, rest))
}

/// An update of a member as a write.
fn without_update(entry: EntryView<'_>) -> Option<Vec<u8>> {
    let change = messages::ConfChange::decode(entry.data).ok()?;
    if entry.kind != 1 || change.kind != UPDATE {
        return None;
    }
    let request = messages::Request {
        id: change.id,
        method: Some(b"PUT".to_vec()),
        path: Some(NOWHERE.to_vec()),
        ..messages::Request::default()
    };
    let entry = messages::Entry {
        kind: Some(0),
        term: Some(entry.term.0),
        index: Some(entry.index.0),
        data: Some(request.encode_to_vec()),
    };
    Some(entry.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::ids::Index;
    use crate::etcd::wal::segment::SegmentScan;

    fn record(log: &mut (u32, Vec<u8>), kind: Kind, data: &[u8]) {
        log.0 = crc32c::crc32c_append(log.0, data);
        let (crc, data) = (log.0, Some(data));
        Record { kind, crc, data }.write_frame(&mut log.1);
    }

    fn head(log: &mut (u32, Vec<u8>)) {
        let (kind, crc, data) = (Kind::Crc, log.0, None);
        Record { kind, crc, data }.write_frame(&mut log.1);
        let metadata = messages::Metadata {
            node_id: Some(7),
            cluster_id: Some(9),
        };
        record(log, Kind::Metadata, &metadata.encode_to_vec());
    }

    fn entry(index: u64, kind: u64, data: Vec<u8>) -> Vec<u8> {
        let entry = messages::Entry {
            kind: Some(kind),
            term: Some(1),
            index: Some(index),
            data: Some(data),
        };
        entry.encode_to_vec()
    }

    /// The records of a segment that must be valid behind the running CRC `crc`.
    fn read(bytes: &[u8], crc: u32) -> (Vec<(Kind, Vec<u8>)>, u32) {
        let mut found = Vec::new();
        let mut scan = SegmentScan::new(Some(crc));
        scan.update(bytes, &mut |at| {
            found.push((at.record.kind, at.record.data.unwrap_or_default().to_vec()));
            Ok(())
        });
        (found, scan.finish().unwrap().1.unwrap())
    }

    #[test]
    fn the_log_is_the_same_but_for_its_cluster_and_updates_of_members() {
        let update = messages::ConfChange {
            id: Some(5),
            kind: UPDATE,
            node_id: Some(7),
            context: None,
        };
        let mut log = (0, Vec::new());
        head(&mut log);
        record(&mut log, Kind::Entry, &entry(1, 0, b"kept".to_vec()));
        record(&mut log, Kind::Entry, &entry(2, 1, update.encode_to_vec()));
        let first = std::mem::take(&mut log.1);
        head(&mut log);
        record(&mut log, Kind::Entry, &entry(3, 0, b"kept too".to_vec()));
        let second = log.1;
        for without_updates in [false, true] {
            let mut isolated = Isolated::new(without_updates);
            let (found, crc) = read(&isolated.segment(&first), 0);
            let metadata = messages::Metadata::decode(&*found[1].1).unwrap();
            assert_eq!((metadata.node_id, metadata.cluster_id), (Some(7), Some(!9)));
            assert_eq!(found[2].1, entry(1, 0, b"kept".to_vec()));
            let view = EntryView::read(&found[3].1).unwrap();
            assert_eq!(view.index, Index(2));
            assert_eq!(view.kind, u64::from(!without_updates));
            let (found, _) = read(&isolated.segment(&second), crc);
            assert_eq!(found[2].1, entry(3, 0, b"kept too".to_vec()));
        }
    }

    #[test]
    fn a_segment_behind_a_broken_one_is_of_the_other_cluster_too() {
        // A server that begins with it must not find the real cluster there.
        let mut log = (0, Vec::new());
        head(&mut log);
        record(&mut log, Kind::Entry, &entry(1, 0, b"one".to_vec()));
        let mut first = std::mem::take(&mut log.1);
        let crc = log.0;
        head(&mut log);
        record(&mut log, Kind::Entry, &entry(2, 0, b"two".to_vec()));
        *first.last_mut().unwrap() ^= 1;
        let mut isolated = Isolated::new(false);
        isolated.segment(&first);
        let (found, _) = read(&isolated.segment(&log.1), crc);
        let metadata = messages::Metadata::decode(&*found[1].1).unwrap();
        assert_eq!(metadata.cluster_id, Some(!9));
    }

    #[test]
    fn what_is_broken_stays_broken_where_it_is() {
        let mut log = (0, Vec::new());
        head(&mut log);
        let sound = log.1.len();
        record(&mut log, Kind::Entry, &entry(1, 0, b"one".to_vec()));
        let behind = log.1.len();
        record(&mut log, Kind::Entry, &entry(2, 0, b"two".to_vec()));
        let mut bytes = log.1;
        let last = behind - 1;
        bytes[last] ^= 1;
        let isolated = Isolated::new(false).segment(&bytes);
        assert!(isolated.ends_with(&bytes[sound..]));
        assert_ne!(isolated[..sound], bytes[..sound]);
        // As is a record that is cut.
        let cut = &bytes[..behind - 2];
        assert!(Isolated::new(false).segment(cut).ends_with(&cut[sound..]));
    }
}
