//! The archive's bytes around and between its zstd frames.
//!
//! ```text
//! content frame 0 … n-2   zstd frames, each up to 1 MiB of a tar stream, content checksum on
//! content frame n-1       zstd frame: the tar entry `manifest.json` and the end of the tar
//! seal                    skippable frame; every decoder skips it
//!    0..4    magic 0x184D2A5A        4..8     payload length
//!    8..15   "etcdark"               15       seal version, 1
//!    16..20  n                       20..20+32n  SHA-256 of each content frame's bytes
//!    then 32: SHA-256 of all of the seal before it, followed by the whole seek table
//! seek table              skippable frame of zstd's seekable format
//!    0..4    magic 0x184D2A5E        4..8     payload length
//!    8..     n + 1 times: compressed size 4, plain size 4 (the seal's is 0)
//!    then 4: n + 1;  1: descriptor 0;  4: magic 0x8F92EAB1
//! ```
//!
//! Integers are little-endian. Every byte of the file is covered by a SHA-256 in the
//! file: the content frames by the seal's list, the list and the seek table by its last
//! digest. Reading begins at the end: the seek table has the position of every frame.
//! Source of the seek table: zstd's `contrib/seekable_format`.

use crate::etcd::digest::{Digest, Hasher};

/// Bytes of the tar stream in one frame.
pub const FRAME: usize = 1 << 20;
/// The most plain bytes that a reader accepts in a frame: limits what it allocates.
pub const MAX_FRAME: u32 = 16 << 20;
/// Bytes of the seek table's end: the count, the descriptor, the magic.
pub const TABLE_FOOTER: usize = 9;
const DIGEST: usize = 32;
/// Bytes of a skippable frame's head.
const SKIPPABLE_HEAD: usize = 8;
const SEAL_MAGIC: u32 = 0x184D_2A5A;
const TABLE_MAGIC: u32 = 0x184D_2A5E;
const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;
const SEAL_NAME: &[u8; 7] = b"etcdark";
const SEAL_VERSION: u8 = 1;
const SEAL_HEAD: usize = SKIPPABLE_HEAD + 12;
const TABLE_ENTRY: usize = 8;
/// Bytes of the smallest zstd frame with content: magic 4, header 2, one block 4, checksum 4.
const LEAST_FRAME: u64 = 14;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its offset in bytes from the start of the archive.
    pub offset: u64,
    /// Its compressed size in bytes.
    pub compressed: u32,
    /// Its plain size in bytes.
    pub plain: u32,
    pub digest: Digest,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TailFault {
    #[error("no seek table at the end: it is truncated, or etcd-ark did not make it")]
    NoTable,
    #[error("its seek table does not fit the file")]
    Table,
    #[error("no seal before the seek table: not an etcd-ark archive, or a damaged one")]
    NoSeal,
    #[error("its seal has version {0}, of a later release of etcd-ark than this one")]
    LaterSeal(u8),
    #[error("its seal is corrupt: the frame list or the seek table is damaged")]
    Seal,
    #[error("frame {frame} claims to hold {plain} bytes in {compressed}")]
    FrameTooLarge {
        /// The frame, from 0.
        frame: usize,
        /// Its plain size in the table.
        plain: u32,
        /// Its compressed size in the table.
        compressed: u32,
    },
}

/// The bytes after the content frames.
pub fn write_tail(frames: &[Frame]) -> Vec<u8> {
    let seal_length = SEAL_HEAD + (frames.len() + 1) * DIGEST;
    let table_length = table_length(frames.len() + 1);
    let mut tail = Vec::with_capacity(seal_length + table_length);
    put(&mut tail, SEAL_MAGIC);
    put(&mut tail, (seal_length - SKIPPABLE_HEAD) as u32);
    tail.extend_from_slice(SEAL_NAME);
    tail.push(SEAL_VERSION);
    put(&mut tail, frames.len() as u32);
    for frame in frames {
        tail.extend_from_slice(&frame.digest.0);
    }
    let mut table = Vec::with_capacity(table_length);
    put(&mut table, TABLE_MAGIC);
    put(&mut table, (table_length - SKIPPABLE_HEAD) as u32);
    for frame in frames {
        put(&mut table, frame.compressed);
        put(&mut table, frame.plain);
    }
    put(&mut table, seal_length as u32);
    put(&mut table, 0);
    put(&mut table, frames.len() as u32 + 1);
    table.push(0);
    put(&mut table, SEEKABLE_MAGIC);
    let seal = seal_digest(&tail, &table);
    tail.extend_from_slice(&seal.0);
    tail.extend_from_slice(&table);
    tail
}

/// The end of an archive, according to the last bytes of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailClaim {
    /// Bytes of the seal and the seek table.
    pub length: u64,
    /// Bytes of the seek table alone.
    pub table_length: u64,
    /// The start of the seek table, if these bytes are right.
    pub table_head: [u8; SKIPPABLE_HEAD],
}

/// Reads the last [`TABLE_FOOTER`] bytes of a file of `file_length` bytes. No digest covers their count of frames
/// yet: compare [`TailClaim::table_head`] with the file before reading that much.
pub fn claimed_tail(footer: [u8; TABLE_FOOTER], file_length: u64) -> Result<TailClaim, TailFault> {
    let [count @ .., descriptor, _, _, _, _] = footer;
    let magic = u32_at(&footer, 5).ok_or(TailFault::NoTable)?;
    if magic != SEEKABLE_MAGIC || descriptor != 0 {
        return Err(TailFault::NoTable);
    }
    let entries = u64::from(u32::from_le_bytes(count));
    let frames = entries.checked_sub(1).ok_or(TailFault::Table)?;
    let seal = SEAL_HEAD as u64 + (frames + 1) * DIGEST as u64;
    let table_length = (SKIPPABLE_HEAD + TABLE_FOOTER) as u64 + entries * TABLE_ENTRY as u64;
    let length = seal + table_length;
    if length + frames * LEAST_FRAME > file_length {
        return Err(TailFault::Table);
    }
    let payload = u32::try_from(table_length - SKIPPABLE_HEAD as u64);
    let mut table_head = [0; SKIPPABLE_HEAD];
    let (magic, rest) = table_head.split_at_mut(4);
    magic.copy_from_slice(&TABLE_MAGIC.to_le_bytes());
    rest.copy_from_slice(&payload.map_err(|_| TailFault::Table)?.to_le_bytes());
    Ok(TailClaim {
        length,
        table_length,
        table_head,
    })
}

/// Reads a whole tail, of the length in [`claimed_tail`], of a file of `file_length` bytes.
pub fn read_tail(tail: &[u8], file_length: u64) -> Result<Vec<Frame>, TailFault> {
    let count = u32_at(tail, tail.len() - TABLE_FOOTER).ok_or(TailFault::NoTable)? as usize;
    let (seal, table) = tail
        .split_at_checked(tail.len() - table_length(count))
        .ok_or(TailFault::NoTable)?;
    if u32_at(table, 0) != Some(TABLE_MAGIC)
        || u32_at(table, 4) != Some((table.len() - SKIPPABLE_HEAD) as u32)
    {
        return Err(TailFault::NoTable);
    }
    let digests = read_seal(seal, table, count - 1)?;
    let mut frames = Vec::with_capacity(count);
    let mut offset = 0;
    for (number, digest) in digests.into_iter().enumerate() {
        let entry = SKIPPABLE_HEAD + number * TABLE_ENTRY;
        let compressed = u32_at(table, entry).ok_or(TailFault::Table)?;
        let plain = u32_at(table, entry + 4).ok_or(TailFault::Table)?;
        let most = zstd::zstd_safe::compress_bound(plain as usize);
        if plain > MAX_FRAME || compressed as usize > most {
            let frame = number;
            return Err(TailFault::FrameTooLarge {
                frame,
                plain,
                compressed,
            });
        }
        frames.push(Frame {
            offset,
            compressed,
            plain,
            digest,
        });
        offset += u64::from(compressed);
    }
    let seal_entry = SKIPPABLE_HEAD + (count - 1) * TABLE_ENTRY;
    let sealed = u32_at(table, seal_entry) == Some(seal.len() as u32)
        && u32_at(table, seal_entry + 4) == Some(0);
    if !sealed || offset + tail.len() as u64 != file_length {
        return Err(TailFault::Table);
    }
    Ok(frames)
}

fn read_seal(seal: &[u8], table: &[u8], frames: usize) -> Result<Vec<Digest>, TailFault> {
    let head = seal.get(..SEAL_HEAD).ok_or(TailFault::NoSeal)?;
    let name = head.get(SKIPPABLE_HEAD..SKIPPABLE_HEAD + 7);
    if u32_at(head, 0) != Some(SEAL_MAGIC) || name != Some(SEAL_NAME) {
        return Err(TailFault::NoSeal);
    }
    let (body, stored) = seal.split_at(seal.len() - DIGEST);
    if seal_digest(body, table).0 != stored {
        return Err(TailFault::Seal);
    }
    match head.get(SKIPPABLE_HEAD + 7) {
        Some(&SEAL_VERSION) => {}
        Some(&version) => return Err(TailFault::LaterSeal(version)),
        None => return Err(TailFault::NoSeal),
    }
    let length = u32_at(head, 4) == Some((seal.len() - SKIPPABLE_HEAD) as u32);
    if !length || u32_at(head, 16) != Some(frames as u32) {
        return Err(TailFault::Seal);
    }
    let digests = body.get(SEAL_HEAD..).unwrap_or_default();
    let (digests, rest) = digests.as_chunks::<DIGEST>();
    if digests.len() != frames || !rest.is_empty() {
        return Err(TailFault::Seal);
    }
    Ok(digests.iter().copied().map(Digest).collect())
}

fn seal_digest(seal: &[u8], table: &[u8]) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(seal);
    hasher.update(table);
    hasher.finish()
}

fn table_length(entries: usize) -> usize {
    SKIPPABLE_HEAD + entries * TABLE_ENTRY + TABLE_FOOTER
}

fn put(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*word))
}
