//! Reads etcd's bytes by the formats page only, to check the tool's answers.
//!
//! In: whole files in memory. Out: frames, entries, hard states, and which files a start of etcd would load. Panics on
//! anything that etcd does not write; recordings are valid.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::encode::{ENTRY, HARD_STATE, LENGTH_WORD, MARKER, METADATA};

/// One frame of a segment.
#[derive(Clone, Debug)]
pub struct FrameRead {
    /// Byte offset of the length word from the start of the segment.
    pub offset: usize,
    /// Byte offset of the first byte behind the frame, padding included.
    pub end: usize,
    pub kind: u64,
    pub data: Vec<u8>,
}

/// Fields of a message: `(number, value)`, a varint as it is, bytes as their slice.
#[derive(Clone, Debug)]
pub enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Every field of a protobuf message, in order.
pub fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let field = match key & 7 {
            0 => Field::Number(varint(&mut bytes)?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (taken, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                Field::Bytes(taken)
            }
            _ => return None,
        };
        found.push((key >> 3, field));
    }
    Some(found)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The number in field `wanted`; 0 if it is absent.
pub fn number(message: &[u8], wanted: u64) -> u64 {
    let fields = fields(message).unwrap();
    let found = fields.iter().find_map(|(number, field)| match field {
        Field::Number(value) if *number == wanted => Some(*value),
        _ => None,
    });
    found.unwrap_or(0)
}

/// The bytes in field `wanted`; empty if it is absent.
pub fn bytes(message: &[u8], wanted: u64) -> &[u8] {
    let found = fields(message)
        .unwrap()
        .into_iter()
        .find_map(|(number, field)| match field {
            Field::Bytes(value) if number == wanted => Some(value),
            _ => None,
        });
    found.unwrap_or_default()
}

/// Every frame of a segment that ends after a whole one, or in zeros.
pub fn frames(segment: &[u8]) -> Vec<FrameRead> {
    let mut found = Vec::new();
    let mut offset = 0;
    while offset + LENGTH_WORD <= segment.len() {
        let word = u64::from_le_bytes(segment[offset..offset + LENGTH_WORD].try_into().unwrap());
        if word == 0 {
            break;
        }
        let pad = if word >> 63 == 1 { word >> 56 & 7 } else { 0 };
        let record = offset + LENGTH_WORD;
        let behind = record + (word & ((1 << 56) - 1)) as usize;
        let message = &segment[record..behind];
        found.push(FrameRead {
            offset,
            end: behind + pad as usize,
            kind: number(message, 1),
            data: bytes(message, 3).to_vec(),
        });
        offset = behind + pad as usize;
    }
    found
}

/// What a log says, by the plainest reading: last entry or marker, last hard state.
#[derive(Clone, Debug, Default)]
pub struct LogRead {
    pub member_id: u64,
    pub cluster_id: u64,
    /// Of the last entry, or of a marker ahead of it.
    pub term: u64,
    pub index: u64,
    pub commit: u64,
    pub vote: u64,
}

/// Reads all segments of a WAL directory.
pub fn log(wal: &Path) -> LogRead {
    let mut log = LogRead::default();
    for path in segments(wal) {
        for frame in frames(&fs::read(path).unwrap()) {
            let data = &frame.data;
            match frame.kind {
                METADATA => (log.member_id, log.cluster_id) = (number(data, 1), number(data, 2)),
                ENTRY => (log.term, log.index) = (number(data, 2), number(data, 3)),
                HARD_STATE => (log.vote, log.commit) = (number(data, 2), number(data, 3)),
                MARKER if number(data, 1) > log.index => {
                    (log.index, log.term) = (number(data, 1), number(data, 2));
                }
                _ => {}
            }
        }
    }
    log
}

/// Type and data of every entry in a WAL directory, by index; an entry written over is gone, with all that followed it.
pub fn entries(wal: &Path) -> BTreeMap<u64, (u64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for path in segments(wal) {
        for frame in frames(&fs::read(path).unwrap()) {
            if frame.kind == ENTRY {
                let index = number(&frame.data, 3);
                found.split_off(&index);
                let entry = (number(&frame.data, 1), bytes(&frame.data, 4).to_vec());
                found.insert(index, entry);
            }
        }
    }
    found
}

#[derive(Clone, Debug)]
pub struct RaftSnapshotRead {
    pub term: u64,
    pub index: u64,
    /// Ids of the voting members.
    pub nodes: Vec<u64>,
    /// The v2 store.
    pub json: String,
}

/// Reads a raft snapshot that is as etcd wrote it.
pub fn raft_snapshot(file: &[u8]) -> RaftSnapshotRead {
    assert!(snap_is_loadable(file));
    let snapshot = bytes(file, 2);
    let metadata = bytes(snapshot, 2);
    let nodes = fields(bytes(metadata, 1)).unwrap().into_iter();
    let nodes = nodes.map(|(_, field)| match field {
        Field::Number(id) => id,
        Field::Bytes(_) => panic!("a member id is a number"),
    });
    RaftSnapshotRead {
        term: number(metadata, 3),
        index: number(metadata, 2),
        nodes: nodes.collect(),
        json: String::from_utf8(bytes(snapshot, 1).to_vec()).unwrap(),
    }
}

/// Whether etcd could load this `.snap` file.
pub fn snap_is_loadable(file: &[u8]) -> bool {
    let Some(outer) = fields(file) else {
        return false;
    };
    let [(1, Field::Number(crc)), (2, Field::Bytes(data))] = outer[..] else {
        return false;
    };
    crc != 0 && !data.is_empty() && u64::from(crc32c::crc32c(data)) == crc
}

/// The segments of a WAL directory, in order.
pub fn segments(wal: &Path) -> Vec<PathBuf> {
    with_extension(wal, "wal")
}

pub fn snaps(snap: &Path) -> Vec<PathBuf> {
    with_extension(snap, "snap")
}

fn with_extension(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    found.sort();
    found
}

/// The files that a restart of etcd reads, by their path in an archive.
pub fn live_set(snap: &Path, wal: &Path) -> BTreeMap<PathBuf, PathBuf> {
    let newest = snaps(snap)
        .into_iter()
        .rev()
        .find(|path| snap_is_loadable(&fs::read(path).unwrap()));
    let index = newest.as_deref().map_or(0, second_word);
    let segments = segments(wal);
    let covering = segments
        .iter()
        .rposition(|path| second_word(path) <= index)
        .expect("a segment covers the raft snapshot");
    let placed = |below: &str, path: &Path| {
        let name = path.file_name().unwrap();
        (Path::new("member").join(below).join(name), path.to_owned())
    };
    let live = segments[covering..].iter().map(|path| placed("wal", path));
    live.chain(newest.iter().map(|path| placed("snap", path)))
        .collect()
}

/// Every file of a member, by its path in an archive.
pub fn all_files(snap: &Path, wal: &Path) -> BTreeMap<PathBuf, PathBuf> {
    let mut found = BTreeMap::new();
    for (below, dir) in [("snap", snap), ("wal", wal)] {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap();
            found.insert(Path::new("member").join(below).join(name), path);
        }
    }
    found
}

/// The index in a file name, behind the dash.
pub fn second_word(path: &Path) -> u64 {
    let stem = path.file_stem().unwrap().to_str().unwrap();
    u64::from_str_radix(stem.split_once('-').unwrap().1, 16).unwrap()
}
