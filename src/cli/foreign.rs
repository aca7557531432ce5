//! Recognizes a file that is not an archive, by its first bytes.
//!
//! In: a path without the name of an archive. Out: an error that says what it is, instead of "corrupt".

use std::io::Read as _;
use std::path::Path;

use crate::archive::{EXTENSION, FileSource, Source as _};
use crate::repository::is_archive_name;

use crate::cli::error::CliError;

/// How many bytes of a file are read.
const BEGINNING: u64 = 128 << 10;
/// What a zstd frame begins with.
pub(crate) const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Bytes of a tar header.
const TAR_HEADER: usize = 512;

/// What the archive is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Read,
    Restore,
}

/// The error for a file at `path` that is not an archive; `None` if it may be one.
pub(crate) fn foreign(path: &Path, use_: Use) -> Option<CliError> {
    let name = path.to_string_lossy();
    let is_ours = is_archive_name(&path.file_name()?.to_string_lossy());
    let source = FileSource::open(path).ok().filter(|_| !is_ours)?;
    let mut bytes = vec![0; source.length().min(BEGINNING) as usize];
    source.read_exact_at(&mut bytes, 0).ok()?;
    let (what, hint) = kind(&bytes, name.ends_with(EXTENSION))?;
    let hint = match use_ {
        Use::Restore if hint == UNPACK => UNPACK_TO_RESTORE,
        _ => hint,
    };
    let message = format!("`{name}` is not an etcd-ark archive: it is {what}");
    Some(CliError::usage(message).hint(hint))
}

const UNPACK: &str = "unpack it and pass the data dir in it";
const UNPACK_TO_RESTORE: &str = "unpack it into the data dir, as `member` in it, then check that with `etcd-ark verify DATA_DIR`";
const NAMED: &str = "pass an archive, which etcd-ark names etcd-….tar.zst";

/// What a file of `bytes` is, and the hint; `None` if it may be a damaged archive: one that is `named` so.
fn kind(bytes: &[u8], named: bool) -> Option<(&'static str, &'static str)> {
    let at = |offset: usize, magic: &[u8]| {
        bytes
            .get(offset..)
            .is_some_and(|rest| rest.starts_with(magic))
    };
    let is_text = |c: &u8| c.is_ascii_graphic() || c.is_ascii_whitespace();
    Some(if at(0, &[0x1f, 0x8b]) {
        ("a gzip file", UNPACK)
    } else if is_tar(bytes) {
        ("a plain tar", UNPACK)
    } else if is_zstd_of_tar(bytes) {
        ("a tar compressed by another zstd, or cut short", UNPACK)
    } else if at(16, &0xED0C_DAED_u32.to_le_bytes()) {
        (
            "a bbolt database, such as `etcdctl snapshot save` writes of etcd 3",
            "restore it with `etcdctl snapshot restore`; etcd-ark takes the data dir of a stopped member",
        )
    } else if at(0, b"age-encryption.org/") {
        (
            "encrypted with age",
            "an encrypted archive is called etcd-….tar.zst.age: rename it",
        )
    } else if bytes.is_empty() {
        ("empty", NAMED)
    } else if bytes.iter().all(is_text) {
        ("a text file", NAMED)
    } else if named {
        return None;
    } else if at(0, &ZSTD) {
        (
            "a zstd file that etcd-ark did not make, or cut short",
            NAMED,
        )
    } else {
        ("a file of another kind", NAMED)
    })
}

fn is_tar(bytes: &[u8]) -> bool {
    let magic = bytes.get(257..);
    magic.is_some_and(|rest| rest.starts_with(b"ustar"))
}

fn is_zstd_of_tar(bytes: &[u8]) -> bool {
    let mut header = [0; TAR_HEADER];
    let decoder = zstd::stream::read::Decoder::new(bytes);
    decoder.is_ok_and(|mut decoder| decoder.read_exact(&mut header).is_ok()) && is_tar(&header)
}
