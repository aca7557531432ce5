//! A raft snapshot file (`.snap`), read in pieces.
//!
//! ```text
//! snappb.Snapshot        08 crc (varint)   12 length data              to the end of the file
//! data = raftpb.Snapshot 0a length JSON    12 length metadata
//! metadata               0a conf_state     10 index     18 term
//! ```
//!
//! The crc is CRC-32C over `data`, from 0. The JSON is the v2 store; unless its tree is wanted
//! only the cluster's facts are kept ([`SavedScan`]), so memory does not grow with the store.
//! Source: `snap/snapshotter.go`, `snap/snappb/snap.proto` at etcd 2.1.3 (formats page §3).

use prost::Message;
use prost::encoding::{decode_varint, encode_varint};

use crate::etcd::digest::Digest;
use crate::etcd::ids::{Index, MemberId, SnapshotId, Term};
use crate::etcd::membership::{StoreFacts, StoreFault};
use crate::etcd::proto::SnapshotMetadata;
use crate::etcd::store::Store;
use crate::etcd::store::from_json::{LoadOptions, SavedScan, StartTree};

/// The longest accepted metadata, in bytes: some 100,000 member ids.
const MAX_METADATA: u64 = 1 << 20;
/// The most bytes before the JSON: tag and crc, tag and length, tag and length, each number in the
/// longest form that protobuf accepts.
const MAX_HEAD: usize = 11 + 11 + 11;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFacts {
    pub id: SnapshotId,
    /// The members, in 3.4 those without a vote too.
    pub nodes: Vec<MemberId>,
    /// The cluster's own keys in its store.
    pub store: StoreFacts,
    /// The fingerprint of its store, if wanted.
    pub fingerprint: Option<Digest>,
}

/// What a start loads from a raft snapshot file, whatever the file's name.
#[derive(Clone, Debug)]
pub struct StartSnapshot {
    pub id: SnapshotId,
    pub nodes: Vec<MemberId>,
    pub store: Store,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotFault {
    /// The file is empty; etcd creates it before it writes the data.
    #[error("the file is empty")]
    Empty,
    /// The protobuf around the data is not valid.
    #[error("malformed at offset {offset}")]
    Malformed {
        /// Bytes from the start of the file.
        offset: u64,
    },
    /// The file ends before its data do; etcd writes it under its final name.
    #[error("cut short: {present} of {expected} bytes")]
    CutShort {
        /// Bytes in the file.
        present: u64,
        /// Bytes that there should be.
        expected: u64,
    },
    #[error(
        "CRC mismatch (stored {stored:08x}, computed {computed:08x}) over the data from offset {offset}"
    )]
    CrcMismatch {
        stored: u32,
        computed: u32,
        /// The start of the data, in bytes from the start of the file.
        offset: u64,
    },
    /// The name and the metadata have different positions in the log.
    #[error("the file's name does not match its content, {found}")]
    Name {
        /// The position in the metadata.
        found: SnapshotId,
    },
    #[error(transparent)]
    Store(#[from] StoreFault),
}

/// The facts of a raft snapshot file, and the tree, if requested.
pub type SnapshotRead = Result<(SnapshotFacts, Option<Store>), SnapshotFault>;
/// What a start loads from it.
pub(crate) type StartRead = Result<StartSnapshot, SnapshotFault>;

#[derive(Debug)]
pub struct SnapshotScan {
    /// The position in its name, if that must match.
    name: Option<SnapshotId>,
    wanted: LoadOptions,
    /// Bytes of the whole file.
    length: u64,
    /// Bytes read so far.
    taken: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Collects the bytes before the JSON.
    Head(Vec<u8>),
    Data(Box<Data>),
    Broken(SnapshotFault),
}

#[derive(Debug)]
struct Data {
    stored_crc: u32,
    computed_crc: u32,
    /// The start of `data` in the file.
    offset: u64,
    json_left: u64,
    store: SavedScan,
    metadata: Vec<u8>,
}

impl SnapshotScan {
    /// Reads the file for `name`, of `length` bytes; keeps what is `wanted` of its store.
    pub fn new(name: SnapshotId, length: u64, wanted: LoadOptions) -> Self {
        Self {
            name: Some(name),
            ..Self::by_content(length, wanted)
        }
    }

    /// Reads a file of `length` bytes with any name, since a start does not check the name.
    pub fn by_content(length: u64, wanted: LoadOptions) -> Self {
        Self {
            name: None,
            wanted,
            length,
            taken: 0,
            state: State::Head(Vec::new()),
        }
    }

    /// Also builds `tree` for a start. Call this before the first bytes.
    pub(crate) fn with_start(mut self, tree: StartTree) -> Self {
        self.wanted.for_start = tree;
        self
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.taken += bytes.len() as u64;
        match &mut self.state {
            State::Broken(_) => {}
            State::Data(data) => data.update(bytes),
            State::Head(head) => {
                head.extend_from_slice(bytes);
                if head.len() >= MAX_HEAD {
                    let head = std::mem::take(head);
                    self.leave_head(&head);
                }
            }
        }
    }

    fn leave_head(&mut self, head: &[u8]) {
        self.state = match read_head(head, self.length, self.wanted) {
            Err(fault) => State::Broken(fault),
            Ok((mut data, inner)) => {
                // The crc covers the inner tag and length too.
                data.computed_crc = crc32c::crc32c(inner.before_json);
                data.update(inner.json);
                State::Data(Box::new(data))
            }
        };
    }

    /// The file's facts, if all of it is valid, and the tree, if requested.
    pub fn finish(self) -> SnapshotRead {
        self.finish_for_start().0
    }

    /// The same, and what a start loads, if requested.
    pub(crate) fn finish_for_start(self) -> (SnapshotRead, Option<StartRead>) {
        let (name, for_start) = (self.name, self.wanted.for_start);
        let (id, nodes, store) = match self.finish_frame() {
            Ok(read) => read,
            Err(fault) => {
                let start = (for_start != StartTree::None).then(|| Err(fault.clone()));
                return (Err(fault), start);
            }
        };
        let (saved, start) = store.finish();
        let start = start.map(|store| {
            let (store, nodes) = (store?, nodes.clone());
            Ok(StartSnapshot { id, nodes, store })
        });
        if name.is_some_and(|name| name != id) {
            return (Err(SnapshotFault::Name { found: id }), start);
        }
        let read = saved.map(|saved| {
            let facts = SnapshotFacts {
                id,
                nodes,
                store: saved.facts,
                fingerprint: saved.fingerprint,
            };
            (facts, saved.store)
        });
        (read.map_err(SnapshotFault::from), start)
    }

    /// The fields around the store, if they are valid.
    fn finish_frame(mut self) -> Result<(SnapshotId, Vec<MemberId>, SavedScan), SnapshotFault> {
        if self.taken == 0 {
            return Err(SnapshotFault::Empty);
        }
        if let State::Head(head) = &mut self.state {
            let head = std::mem::take(head);
            self.leave_head(&head);
        }
        let data = match self.state {
            State::Data(data) => data,
            State::Broken(fault) => return Err(fault),
            State::Head(_) => return Err(SnapshotFault::Empty),
        };
        if self.taken != self.length {
            return Err(SnapshotFault::CutShort {
                present: self.taken,
                expected: self.length,
            });
        }
        if data.stored_crc != data.computed_crc {
            return Err(SnapshotFault::CrcMismatch {
                stored: data.stored_crc,
                computed: data.computed_crc,
                offset: data.offset,
            });
        }
        let malformed = SnapshotFault::Malformed {
            offset: self.length - data.metadata.len() as u64,
        };
        let (id, nodes) = read_metadata(&data.metadata).ok_or(malformed)?;
        Ok((id, nodes, data.store))
    }
}

impl Data {
    fn update(&mut self, bytes: &[u8]) {
        self.computed_crc = crc32c::crc32c_append(self.computed_crc, bytes);
        let json =
            usize::try_from(self.json_left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let (json, metadata) = bytes.split_at(json);
        self.json_left -= json.len() as u64;
        self.store.update(json);
        self.metadata.extend_from_slice(metadata);
    }
}

struct Inner<'a> {
    before_json: &'a [u8],
    json: &'a [u8],
}

/// Reads the bytes before the JSON of a file of `length` bytes.
fn read_head(
    head: &[u8],
    length: u64,
    wanted: LoadOptions,
) -> Result<(Data, Inner<'_>), SnapshotFault> {
    let at = |rest: &[u8]| (head.len() - rest.len()) as u64;
    let mut rest = head;
    let field = |rest: &mut &[u8], tag: u8| -> Result<u64, SnapshotFault> {
        let malformed = SnapshotFault::Malformed { offset: at(rest) };
        let (&first, mut value) = rest.split_first().ok_or(malformed.clone())?;
        if first != tag {
            return Err(malformed);
        }
        let number = decode_varint(&mut value).map_err(|_| malformed)?;
        *rest = value;
        Ok(number)
    };
    let stored_crc = u32::try_from(field(&mut rest, 0x08)?)
        .ok()
        .filter(|&crc| crc != 0)
        .ok_or(SnapshotFault::Malformed { offset: 0 })?;
    let data_length = field(&mut rest, 0x12)?;
    let offset = at(rest);
    let expected = offset.saturating_add(data_length);
    if expected > length {
        return Err(SnapshotFault::CutShort {
            present: length,
            expected,
        });
    }
    if expected < length {
        return Err(SnapshotFault::Malformed { offset: expected });
    }
    let inner = rest;
    let json_left = field(&mut rest, 0x0a)?;
    let before_json = inner.get(..inner.len() - rest.len()).unwrap_or_default();
    let metadata = data_length
        .checked_sub(before_json.len() as u64)
        .and_then(|left| left.checked_sub(json_left));
    if metadata.is_none_or(|metadata| metadata > MAX_METADATA) {
        return Err(SnapshotFault::Malformed { offset });
    }
    let data = Data {
        stored_crc,
        computed_crc: 0,
        offset,
        json_left,
        store: SavedScan::new(wanted),
        metadata: Vec::new(),
    };
    Ok((
        data,
        Inner {
            before_json,
            json: rest,
        },
    ))
}

/// Reads `12 length metadata`.
fn read_metadata(field: &[u8]) -> Option<(SnapshotId, Vec<MemberId>)> {
    let (&tag, mut rest) = field.split_first()?;
    let length = decode_varint(&mut rest).ok()?;
    if tag != 0x12 || length != rest.len() as u64 {
        return None;
    }
    let metadata = SnapshotMetadata::decode(rest).ok()?;
    let id = SnapshotId {
        term: Term(metadata.term?),
        index: Index(metadata.index?),
    };
    let state = metadata.conf_state.unwrap_or_default();
    let nodes = state.nodes.into_iter().chain(state.learners);
    let mut nodes: Vec<MemberId> = nodes.map(MemberId).collect();
    nodes.sort();
    Some((id, nodes))
}

/// Writes a raft snapshot file of `json` at `id`, as etcd 2.1 does.
pub fn write(id: SnapshotId, nodes: &[MemberId], json: &[u8]) -> Vec<u8> {
    let metadata = SnapshotMetadata {
        conf_state: Some(crate::etcd::proto::ConfState {
            nodes: nodes.iter().map(|id| id.0).collect(),
            learners: Vec::new(),
        }),
        index: Some(id.index.0),
        term: Some(id.term.0),
    }
    .encode_to_vec();
    let mut data = Vec::with_capacity(json.len() + metadata.len() + 32);
    write_bytes_field(0x0a, json, &mut data);
    write_bytes_field(0x12, &metadata, &mut data);
    let mut file = Vec::with_capacity(data.len() + 16);
    file.push(0x08);
    encode_varint(u64::from(crc32c::crc32c(&data)), &mut file);
    write_bytes_field(0x12, &data, &mut file);
    file
}

fn write_bytes_field(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SnapshotId = SnapshotId {
        term: Term(2),
        index: Index(9),
    };

    fn read(file: &[u8], size: usize) -> Result<SnapshotFacts, SnapshotFault> {
        let mut scan = SnapshotScan::new(ID, file.len() as u64, LoadOptions::default());
        for piece in file.chunks(size) {
            scan.update(piece);
        }
        scan.finish().map(|(facts, _)| facts)
    }

    /// A tag and a number in the longest form that protobuf accepts.
    fn longest(tag: u8, number: u64) -> Vec<u8> {
        let sevens = (0..9).map(|seven| (number >> (7 * seven)) as u8 | 0x80);
        [tag].into_iter().chain(sevens).chain([0]).collect()
    }

    #[test]
    fn a_head_of_the_longest_numbers_is_read_however_the_bytes_come() {
        // It was accepted in one piece, and malformed when its first 28 bytes came alone.
        let json = br#"{"Root":{"Path":"/","Children":{"0":{"Path":"/0","Children":{}}}}}"#;
        let usual = write(ID, &[MemberId(7)], json);
        let json_at = usual.windows(json.len()).position(|part| part == json);
        let json_and_metadata = &usual[json_at.unwrap()..];
        let data = [&longest(0x0a, json.len() as u64), json_and_metadata].concat();
        let file = [
            &longest(0x08, crc32c::crc32c(&data).into()),
            &longest(0x12, data.len() as u64),
            &data[..],
        ]
        .concat();
        let usually = read(&usual, usual.len());
        for size in 1..=file.len() {
            let read = read(&file, size);
            assert!(read.is_ok() && read == usually, "in {size}: {read:?}");
        }
    }
}
