//! `snap/db`, etcd 3.x's bbolt file: enough to detect changes, and to read its last applied entry.
//!
//! ```text
//! page 0, page 1: the two meta pages, `page size` bytes each
//!   0..16   page header: id 8, flags 2, count 2, overflow 4
//!   16..20  magic 0xED0CDAED     20..24  version 2
//!   24..28  page size            28..32  flags
//!   32..48  root bucket          48..56  free list page
//!   56..64  pages in use         64..72  transaction
//!   72..80  FNV-1a 64 of bytes 16..72
//! other pages: tree nodes, as many pages as `overflow` says more than one
//!   0..16   page header: id 8, flags 2 (1 branch, 2 leaf), count 2, overflow 4
//!   16..    branch: count × (key offset 4, key length 4, page 8)
//!           leaf:   count × (flags 4 (1 bucket), key offset 4, key length 4, value length 4)
//!           offsets count from the element itself; a value follows its key
//! a bucket's value: root page 8, sequence 8; where the root page is 0 its only leaf follows
//! ```
//!
//! All little-endian. A commit writes one of the two metas; bbolt opens a file with at least one valid
//! meta. The last applied entry is in bucket `meta`, key `consistent_index`: 8 bytes, big-endian. etcd writes it with
//! the first v3 write or raft snapshot, and reads 0 before.
//! Source: `db.go`, `page.go`, `bucket.go` of bbolt 1.3, `ConsistentIndex` in `mvcc/kvstore.go` of etcd 3.4.23.

use std::os::unix::fs::{FileExt, MetadataExt};

use fs_err as fs;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
const PAGE_SIZES: [u64; 5] = [4096, 8192, 16384, 32768, 65536];
const LEAF: u16 = 2;
/// The used bytes of a meta page.
const META: usize = 80;

/// The most pages read on the way to one key: a tree is not deeper than this.
const MAX_DEPTH: usize = 32;
/// The largest accepted node, in bytes.
const MAX_NODE: u64 = 64 << 20;

/// The meta pages of a db file; if two reads are equal, nothing was committed between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DbLook {
    length: u64,
    modified: (i64, i64),
    metas: [Option<Vec<u8>>; 2],
}

#[derive(Debug, thiserror::Error)]
pub enum DbFault {
    #[error("`snap/db` has no meta page that checks: it is not a bbolt file, or a torn one")]
    NoMeta,
    #[error("`snap/db` is cut short: {present} of at least {needed} bytes")]
    CutShort {
        /// Bytes in the file.
        present: u64,
        /// Bytes in use.
        needed: u64,
    },
    #[error("`snap/db` has a page that leads nowhere")]
    NoPage,
    /// The key has a value that is too short.
    #[error("`snap/db` does not say which entry it includes")]
    NoIndex,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl DbLook {
    /// Reads the meta pages of an open db file.
    pub fn take(file: &fs::File) -> Result<Self, DbFault> {
        let metadata = file.metadata()?;
        let first = read_meta(file, 0)?;
        let page_size = first.as_deref().and_then(page_size);
        let second = match page_size {
            Some(size) => read_meta(file, size)?,
            None => find_second(file)?,
        };
        let metas = [first, second];
        let pages = newest(&metas).ok_or(DbFault::NoMeta)?;
        let needed = number(pages, 56).saturating_mul(page_size_of(pages));
        if metadata.len() < needed {
            return Err(DbFault::CutShort {
                present: metadata.len(),
                needed,
            });
        }
        Ok(Self {
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            metas,
        })
    }

    fn newest(&self) -> Option<Vec<u8>> {
        newest(&self.metas).cloned()
    }
}

/// The meta page of the last commit.
fn newest(metas: &[Option<Vec<u8>>; 2]) -> Option<&Vec<u8>> {
    let valid = metas.iter().flatten().filter(|meta| page_size_ok(meta));
    valid.max_by_key(|meta| number(meta, 64))
}

/// The index of the last entry that was applied to a db file; 0 where it was never saved.
pub fn consistent_index(file: &fs::File) -> Result<u64, DbFault> {
    let meta = DbLook::take(file)?.newest().ok_or(DbFault::NoMeta)?;
    let tree = Tree {
        file,
        page_size: page_size_of(&meta),
        pages: number(&meta, 56),
    };
    let Some(bucket) = tree.value(number(&meta, 32), b"meta")? else {
        return Ok(0);
    };
    let value = match number(&bucket, 0) {
        0 => in_leaf(bucket.get(16..).unwrap_or_default(), b"consistent_index"),
        root => tree.value(root, b"consistent_index")?,
    };
    let Some(value) = value else {
        return Ok(0);
    };
    let value = value.first_chunk::<8>().ok_or(DbFault::NoIndex)?;
    Ok(u64::from_be_bytes(*value))
}

struct Tree<'f> {
    file: &'f fs::File,
    page_size: u64,
    /// Pages in use.
    pages: u64,
}

impl Tree<'_> {
    /// The value of `key` in the tree below `root`; `None` if the leaf where it would be does not have it.
    fn value(&self, root: u64, key: &[u8]) -> Result<Option<Vec<u8>>, DbFault> {
        let mut page = root;
        for _ in 0..MAX_DEPTH {
            let node = self.node(page)?;
            if number(&node, 8) as u16 & LEAF != 0 {
                return Ok(in_leaf(&node, key));
            }
            page = below(&node, key).ok_or(DbFault::NoPage)?;
        }
        Err(DbFault::NoPage)
    }

    fn node(&self, page: u64) -> Result<Vec<u8>, DbFault> {
        let offset = page.checked_mul(self.page_size).ok_or(DbFault::NoPage)?;
        if page >= self.pages {
            return Err(DbFault::NoPage);
        }
        let mut node = vec![0; self.page_size as usize];
        self.file.file().read_exact_at(&mut node, offset)?;
        let overflow = number(&node, 8) >> 32;
        let length = (overflow + 1).saturating_mul(self.page_size);
        if overflow > 0 {
            if length > MAX_NODE || page.saturating_add(overflow) >= self.pages {
                return Err(DbFault::NoPage);
            }
            node.resize(length as usize, 0);
            self.file.file().read_exact_at(&mut node, offset)?;
        }
        Ok(node)
    }
}

/// The page below a branch that can hold `key`: the last one that begins at or before it.
fn below(node: &[u8], key: &[u8]) -> Option<u64> {
    let mut found = None;
    for at in elements(node) {
        let begins = piece(
            node,
            at,
            number(node, at) & 0xffff_ffff,
            number(node, at) >> 32,
        )?;
        if found.is_some() && begins > key {
            break;
        }
        found = Some(number(node, at + 8));
    }
    found
}

fn in_leaf(node: &[u8], key: &[u8]) -> Option<Vec<u8>> {
    elements(node).find_map(|at| {
        let (offset, lengths) = (number(node, at) >> 32, number(node, at + 8));
        let (key_length, value_length) = (lengths & 0xffff_ffff, lengths >> 32);
        let found = piece(node, at, offset, key_length)? == key;
        let value = piece(node, at, offset + key_length, value_length)?;
        found.then(|| value.to_vec())
    })
}

/// The offsets of a node's elements, in bytes from its start.
fn elements(node: &[u8]) -> impl Iterator<Item = usize> {
    let count = number(node, 8) >> 16 & 0xffff;
    (0..count as usize).map(|element| 16 + 16 * element)
}

fn piece(node: &[u8], element: usize, offset: u64, length: u64) -> Option<&[u8]> {
    let from = element.checked_add(offset as usize)?;
    node.get(from..from.checked_add(length as usize)?)
}

fn find_second(file: &fs::File) -> Result<Option<Vec<u8>>, DbFault> {
    for size in PAGE_SIZES {
        let meta = read_meta(file, size)?;
        if meta.as_deref().and_then(page_size) == Some(size) {
            return Ok(meta);
        }
    }
    Ok(None)
}

/// The used bytes of the meta page at `offset`; `None` beyond the end of the file.
fn read_meta(file: &fs::File, offset: u64) -> Result<Option<Vec<u8>>, DbFault> {
    let mut meta = vec![0; META];
    match file.file().read_exact_at(&mut meta, offset) {
        Ok(()) => Ok(Some(meta)),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn page_size(meta: &[u8]) -> Option<u64> {
    page_size_ok(meta).then(|| page_size_of(meta))
}

fn page_size_ok(meta: &[u8]) -> bool {
    let body = meta.get(16..72).unwrap_or_default();
    let magic = number(meta, 16) as u32 == MAGIC;
    let version = (number(meta, 16) >> 32) as u32 == VERSION;
    magic && version && fnv1a(body) == number(meta, 72) && PAGE_SIZES.contains(&page_size_of(meta))
}

fn page_size_of(meta: &[u8]) -> u64 {
    number(meta, 24) & 0xffff_ffff
}

fn number(meta: &[u8], at: usize) -> u64 {
    meta.get(at..)
        .and_then(<[u8]>::first_chunk::<8>)
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    const PAGE: usize = 4096;

    fn meta(transaction: u64, root: u64, pages: u64) -> Vec<u8> {
        let mut page = vec![0; PAGE];
        let mut put = |at: usize, number: u64| {
            page[at..at + 8].copy_from_slice(&number.to_le_bytes());
        };
        put(16, u64::from(VERSION) << 32 | u64::from(MAGIC));
        put(24, PAGE as u64);
        put(32, root);
        put(56, pages);
        put(64, transaction);
        let sum = fnv1a(&page[16..72]);
        page[72..80].copy_from_slice(&sum.to_le_bytes());
        page
    }

    fn leaf(elements: &[(u32, &[u8], &[u8])]) -> Vec<u8> {
        let mut page = vec![0; 16 + 16 * elements.len()];
        page[8..12].copy_from_slice(&[2, 0, elements.len() as u8, 0]);
        for (number, (flags, key, value)) in elements.iter().enumerate() {
            let at = 16 + 16 * number;
            let words = [
                *flags,
                (page.len() - at) as u32,
                key.len() as u32,
                value.len() as u32,
            ];
            for (word, place) in words.iter().zip((at..).step_by(4)) {
                page[place..place + 4].copy_from_slice(&word.to_le_bytes());
            }
            page.extend_from_slice(key);
            page.extend_from_slice(value);
        }
        page
    }

    fn branch(elements: &[(&[u8], u64)]) -> Vec<u8> {
        let mut page = vec![0; 16 + 16 * elements.len()];
        page[8..12].copy_from_slice(&[1, 0, elements.len() as u8, 0]);
        for (number, (key, below)) in elements.iter().enumerate() {
            let at = 16 + 16 * number;
            let head = u64::from((page.len() - at) as u32) | (key.len() as u64) << 32;
            page[at..at + 8].copy_from_slice(&head.to_le_bytes());
            page[at + 8..at + 16].copy_from_slice(&below.to_le_bytes());
            page.extend_from_slice(key);
        }
        page
    }

    fn db(pages: &[Vec<u8>]) -> Vec<u8> {
        let count = pages.len() as u64 + 2;
        let mut bytes = [meta(7, 2, count), meta(6, 99, count)].concat();
        for page in pages {
            bytes.extend_from_slice(page);
            bytes.resize(bytes.len().next_multiple_of(PAGE), 0);
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Result<u64, DbFault> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        fs::File::create(&path).unwrap().write_all(bytes).unwrap();
        consistent_index(&fs::File::open(&path).unwrap())
    }

    /// A bucket with its own page, or inline.
    fn bucket(root: u64, inline: &[u8]) -> Vec<u8> {
        [&root.to_le_bytes()[..], &[0; 8], inline].concat()
    }

    fn small() -> Vec<u8> {
        let index = 0x0102_u64.to_be_bytes();
        let inside = leaf(&[(0, b"consistent_index", &index), (0, b"scheduled", b"x")]);
        let inline = bucket(0, &inside);
        db(&[leaf(&[
            (1, b"key", &bucket(0, &leaf(&[]))),
            (1, b"meta", &inline),
        ])])
    }

    #[test]
    fn how_far_a_db_has_come_is_read_from_a_bucket_in_line_and_from_one_on_pages_of_its_own() {
        assert_eq!(read(&small()).unwrap(), 0x0102);
        let index = 77_u64.to_be_bytes();
        let other = leaf(&[(0, b"aaa", b"1")]);
        let inside = leaf(&[(0, b"consistent_index", &index)]);
        let pages = [
            branch(&[(b"alarm", 3), (b"members", 4)]),
            leaf(&[(1, b"alarm", &bucket(0, &leaf(&[])))]),
            leaf(&[
                (1, b"members", &bucket(0, &leaf(&[]))),
                (1, b"meta", &bucket(5, b"")),
            ]),
            branch(&[(b"aaa", 6), (b"b", 7)]),
            other,
            inside,
        ];
        assert_eq!(read(&db(&pages)).unwrap(), 77);
        // The same before it was ever saved, and one with a cycle.
        let mut before = pages.clone();
        before[5] = leaf(&[(0, b"consistent", &index)]);
        assert_eq!(read(&db(&before)).unwrap(), 0);
        before[2] = leaf(&[(1, b"members", &bucket(0, &leaf(&[])))]);
        assert_eq!(read(&db(&before)).unwrap(), 0);
        let mut round = pages;
        round[3] = branch(&[(b"aaa", 5)]);
        assert!(matches!(read(&db(&round)), Err(DbFault::NoPage)));
    }

    proptest! {
        #[test]
        fn a_damaged_db_is_read_to_an_end(
            flips in prop::collection::vec((2 * PAGE..2 * PAGE + 250, any::<u8>()), 1..6),
        ) {
            let mut bytes = small();
            for (at, byte) in flips {
                bytes[at] = byte;
            }
            let _ = read(&bytes);
        }
    }
}
