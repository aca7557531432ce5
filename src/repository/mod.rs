//! Where archives are kept: a backup dir or a bucket.
//!
//! In: an archive's name. Out: its bytes, or that it is gone. [`directory`] is a backup dir on
//! disk, `bucket` a prefix in an object store, [`catalog`] the facts of an archive without its files. A listed
//! name is a complete archive: one that is being written has no such name.

#[cfg(feature = "object-store")]
pub mod bucket;
pub mod catalog;
pub mod check;
pub mod copy;
pub mod directory;
pub mod lock;
pub mod probe;
pub mod sidecar;
pub mod upload;

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use crate::archive::{ArchiveError, ENCRYPTED, EXTENSION, SUM_EXTENSION, Source};

use crate::repository::sidecar::SIDECAR_EXTENSION;

pub use crate::repository::catalog::{ArchiveSummary, Catalog, summarize};
pub use crate::repository::directory::Directory;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveRef {
    /// Its name, without any directory.
    pub name: String,
    pub bytes: u64,
    /// When it was last written, if known.
    pub modified: Option<Timestamp>,
    pub is_link: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    #[error("there is no backup dir at `{0}`")]
    NotFound(PathBuf),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A place that keeps archives.
pub trait Repository: Debug + Send + Sync {
    /// Its path or URL.
    fn location(&self) -> String;

    /// The path or URL of an archive in it.
    fn path_of(&self, name: &str) -> PathBuf;

    /// Its path, if it is a directory.
    fn directory(&self) -> Option<&Path> {
        None
    }

    /// How many of `archives` to read concurrently.
    fn at_once(&self, _archives: usize) -> usize {
        1
    }

    /// The archives in it, sorted by name.
    fn list(&self) -> Result<Vec<ArchiveRef>, RepositoryError>;

    /// The keys that the last list skipped because they cannot be addressed: objects of other programs,
    /// such as `a//b`.
    fn skipped(&self) -> Vec<String> {
        Vec::new()
    }

    fn look_up(&self, name: &str) -> Result<ArchiveRef, ArchiveError>;

    fn source(&self, listed: &ArchiveRef) -> Result<Arc<dyn Source>, ArchiveError>;

    /// Creates a missing directory, with mode 0700.
    fn prepare(&self) -> io::Result<()>;

    /// Starts to write an archive under `name`, which must be free.
    fn receive(&self, name: &str) -> io::Result<Box<dyn PendingArchive>>;

    /// The content of a small file beside the archives; `None` if it does not exist.
    fn read_beside(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Writes a small file beside the archives, replacing an existing one.
    fn write_beside(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Removes an archive with all files beside it; a missing one is not an error.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Fails as [`Repository::remove`] would, as far as that can be told without a try.
    fn may_remove(&self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    /// The names of files beside archives that are gone, as runs that were killed before `now`
    /// leave them.
    fn orphans(&self, now: Timestamp) -> io::Result<Vec<String>>;

    /// Removes one of [`Repository::orphans`], if it still is one.
    fn remove_orphan(&self, name: &str, now: Timestamp) -> io::Result<()>;

    /// Free space in bytes; `None` if unknown.
    fn free_bytes(&self) -> io::Result<Option<u64>>;
}

/// An archive that is being written. It is not listed until it is published, and nothing remains
/// if it is dropped before.
pub trait PendingArchive: Debug {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Syncs what was written, and returns it for reading back.
    fn finish(&mut self) -> io::Result<Arc<dyn Source>>;

    /// Publishes it under its name with the files `sides`; the last one completes it.
    fn publish(self: Box<Self>, sides: &[CompanionFile]) -> io::Result<()>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompanionFile {
    /// What follows the archive's name in its name.
    pub extension: &'static str,
    pub bytes: Vec<u8>,
}

pub fn is_archive_name(name: &str) -> bool {
    let plain = name.strip_suffix(ENCRYPTED).unwrap_or(name);
    plain.starts_with("etcd-") && plain.ends_with(EXTENSION)
}

pub fn is_encrypted_name(name: &str) -> bool {
    is_archive_name(name) && name.ends_with(ENCRYPTED)
}

/// The prefix of a probe's name, which it has instead of [`STAGING_PREFIX`](crate::fs::staged::STAGING_PREFIX).
const PROBE: &str = ".etcd-ark-probe-";

/// The files that may be beside an archive; the last one completes it.
const SIDES: [&str; 2] = [SIDECAR_EXTENSION, SUM_EXTENSION];

/// The archive that a file of this name belongs to, if it belongs to one.
fn beside_of(name: &str) -> Option<&str> {
    if let Some(of) = name.strip_suffix(SIDECAR_EXTENSION) {
        return is_encrypted_name(of).then_some(of);
    }
    let of = name.strip_suffix(SUM_EXTENSION)?;
    is_archive_name(of).then_some(of)
}

/// The largest size of a file beside archives that is read, in bytes.
const MOST_BESIDE: u64 = 4 << 20;

fn refuse_large(bytes: u64, path: &Path) -> io::Result<()> {
    if bytes <= MOST_BESIDE {
        return Ok(());
    }
    let why = format!(
        "`{}` has {bytes} bytes, more than such a file has",
        path.display()
    );
    Err(io::Error::new(io::ErrorKind::InvalidData, why))
}
