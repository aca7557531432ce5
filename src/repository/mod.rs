//! Where archives are kept: a backup dir, or elsewhere something that behaves like one.
//!
//! In: an archive's name. Out: its bytes, or that it is gone. [`directory`] is a backup dir on
//! disk, `bucket` a place in an object store, [`summary`] what is to be known of an archive without its files. A name that a
//! repository lists is a whole archive: what is being written is under no such name.

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

pub use crate::repository::catalog::{Catalog, Summary, summarize};
pub use crate::repository::directory::Directory;

/// An archive in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name, without any directory.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was last written, as far as the place knows.
    pub modified: Option<Timestamp>,
    /// Whether this is only another name: a symbolic link.
    pub is_link: bool,
}

/// Why a repository cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    #[error("there is no backup dir at `{0}`")]
    NotFound(PathBuf),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A place that keeps archives.
pub trait Repository: Debug + Send + Sync {
    /// What it is called: a path or a URL.
    fn location(&self) -> String;

    /// What an archive in it is called.
    fn path_of(&self, name: &str) -> PathBuf;

    /// The directory that it is, if it is one.
    fn directory(&self) -> Option<&Path> {
        None
    }

    /// How many of so many `archives` are worth being asked about at once.
    fn at_once(&self, _archives: usize) -> usize {
        1
    }

    /// The archives in it, in the order of their names.
    fn list(&self) -> Result<Vec<Listed>, RepositoryError>;

    /// What the last list passed over, because it cannot be addressed: an object of another program,
    /// with a key such as `a//b`.
    fn skipped(&self) -> Vec<String> {
        Vec::new()
    }

    /// An archive in it, by its name.
    fn look_up(&self, name: &str) -> Result<Listed, ArchiveError>;

    /// The bytes of an archive in it.
    fn source(&self, listed: &Listed) -> Result<Arc<dyn Source>, ArchiveError>;

    /// Makes it, if it is a directory that is missing, with mode 0700.
    fn prepare(&self) -> io::Result<()>;

    /// Begins to take in an archive under `name`, which must be free.
    fn receive(&self, name: &str) -> io::Result<Box<dyn Receiving>>;

    /// What stands in a small file beside the archives; `None` if there is no such file.
    fn read_beside(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Puts a small file beside the archives, in place of one that is there.
    fn write_beside(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Removes an archive with all that stands beside it; one that is gone is not an error.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names of what stands beside archives that are gone, as runs that were killed before `now`
    /// leave it.
    fn orphans(&self, now: Timestamp) -> io::Result<Vec<String>>;

    /// Removes one of [`Repository::orphans`], if it still is one.
    fn remove_orphan(&self, name: &str, now: Timestamp) -> io::Result<()>;

    /// How many bytes can still be put into it; `None` where no one knows.
    fn free_bytes(&self) -> io::Result<Option<u64>>;
}

/// An archive that a repository takes in; until it is published no one sees it, and if it is
/// dropped before, nothing stays.
pub trait Receiving: Debug {
    /// Takes the next bytes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes what was written durable, and gives it back to be read from where it now is.
    fn finish(&mut self) -> io::Result<Arc<dyn Source>>;

    /// Gives it its name, and puts `sides` beside it, the last one last.
    fn publish(self: Box<Self>, sides: &[Side]) -> io::Result<()>;
}

/// A small file that belongs to an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// What stands behind the archive's name in its name.
    pub extension: &'static str,
    pub bytes: Vec<u8>,
}

/// Whether a file of this name is an archive.
pub fn is_archive_name(name: &str) -> bool {
    let plain = name.strip_suffix(ENCRYPTED).unwrap_or(name);
    plain.starts_with("etcd-") && plain.ends_with(EXTENSION)
}

/// Whether an archive of this name is encrypted.
pub fn is_encrypted_name(name: &str) -> bool {
    is_archive_name(name) && name.ends_with(ENCRYPTED)
}

/// How the name of a probe begins, after [`STAGING_PREFIX`](crate::fs::staged::STAGING_PREFIX): it is staged for good.
const PROBE: &str = ".etcd-ark-probe-";

/// What may stand beside an archive, the last one last.
const SIDES: [&str; 2] = [SIDECAR_EXTENSION, SUM_EXTENSION];

/// The archive that a file of this name stands beside, if it is such a file.
fn beside_of(name: &str) -> Option<&str> {
    if let Some(of) = name.strip_suffix(SIDECAR_EXTENSION) {
        return is_encrypted_name(of).then_some(of);
    }
    let of = name.strip_suffix(SUM_EXTENSION)?;
    is_archive_name(of).then_some(of)
}

/// The largest file beside archives that is read, in bytes.
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
