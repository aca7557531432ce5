//! Where archives are kept: a backup dir, or elsewhere something that behaves like one.
//!
//! In: an archive's name. Out: its bytes, or that it is gone. [`directory`] is a backup dir on
//! disk, [`summary`] what is to be known of an archive without its files. A name that a
//! repository lists is a whole archive: what is being written is under no such name.

pub mod directory;
pub mod summary;

use std::fmt::Debug;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use super::archive::{ArchiveError, EXTENSION, Source};

pub use directory::Directory;
pub use summary::{Catalog, Summary, summarize};

/// An archive in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name, without any directory.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was last written, as far as the place knows.
    pub modified: Option<Timestamp>,
}

/// Why a repository cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// There is no such directory.
    #[error("there is no backup dir at `{0}`")]
    NotFound(PathBuf),
    /// The operating system, or whoever keeps the archives, says no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A place that keeps archives.
pub trait Repository: Debug + Send + Sync {
    /// What it is called: a path or a URL.
    fn location(&self) -> String;

    /// What an archive in it is called.
    fn path_of(&self, name: &str) -> PathBuf;

    /// The archives in it, in the order of their names.
    fn list(&self) -> Result<Vec<Listed>, RepositoryError>;

    /// The bytes of an archive in it.
    fn source(&self, listed: &Listed) -> Result<Arc<dyn Source>, ArchiveError>;

    /// Removes an archive with all that stands beside it; one that is gone is no error.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Removes what stands beside an archive that is gone, as a killed run leaves it.
    fn remove_orphans(&self) -> io::Result<()>;

    /// How many bytes can still be put into it; `None` where nobody knows.
    fn free_bytes(&self) -> io::Result<Option<u64>>;
}

/// Whether a file of this name is an archive.
pub fn is_archive_name(name: &str) -> bool {
    name.starts_with("etcd-") && name.ends_with(EXTENSION)
}
