//! The beginning of `snap/db`, etcd 3.x's bbolt file: enough to tell that nobody changed it.
//!
//! ```text
//! page 0, page 1: the two meta pages, `page size` bytes each
//!   0..16   page header: id 8, flags 2, count 2, overflow 4
//!   16..20  magic 0xED0CDAED     20..24  version 2
//!   24..28  page size            28..32  flags
//!   32..48  root bucket          48..56  free list page
//!   56..64  pages in use         64..72  transaction
//!   72..80  FNV-1a 64 of bytes 16..72
//! ```
//!
//! All little-endian. A commit writes one of the two; bbolt opens a file with at least one that
//! checks. Source: `db.go` of bbolt 1.3.

use std::os::unix::fs::{FileExt, MetadataExt};

use fs_err as fs;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
const PAGE_SIZES: [u64; 5] = [4096, 8192, 16384, 32768, 65536];
/// Bytes of a meta page that mean something.
const META: usize = 80;

/// What a glance at a db file shows; equal glances mean that nothing was committed in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DbLook {
    length: u64,
    modified: (i64, i64),
    metas: [Option<Vec<u8>>; 2],
}

/// Why a db file is not one that etcd could open.
#[derive(Debug, thiserror::Error)]
pub enum DbFault {
    /// Neither meta page checks.
    #[error("`snap/db` has no meta page that checks: it is not a bbolt file, or a torn one")]
    NoMeta,
    /// It is shorter than its meta page says.
    #[error("`snap/db` is cut short: {present} of at least {needed} bytes")]
    CutShort {
        /// Bytes there are.
        present: u64,
        /// Bytes in use.
        needed: u64,
    },
    /// The operating system says no.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl DbLook {
    /// Looks at an open db file.
    pub fn take(file: &fs::File) -> Result<Self, DbFault> {
        let metadata = file.metadata()?;
        let first = read_meta(file, 0)?;
        let page_size = first.as_deref().and_then(page_size);
        let second = match page_size {
            Some(size) => read_meta(file, size)?,
            None => find_second(file)?,
        };
        let metas = [first, second];
        let valid = metas.iter().flatten().filter(|meta| page_size_ok(meta));
        let pages = valid
            .max_by_key(|meta| number(meta, 64))
            .ok_or(DbFault::NoMeta)?;
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

/// The meaningful bytes of the meta page at `offset`; none beyond the end of the file.
fn read_meta(file: &fs::File, offset: u64) -> Result<Option<Vec<u8>>, DbFault> {
    let mut meta = vec![0; META];
    match file.file().read_exact_at(&mut meta, offset) {
        Ok(()) => Ok(Some(meta)),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The page size of a meta page that checks.
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
