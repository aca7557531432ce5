//! What an archive's content goes to while it is unpacked, and what its digests say.

use crate::archive::manifest::{DirectoryEntry, FileEntry};
use crate::archive::{ArchiveError, ArchiveFault};
use crate::etcd::digest::Digest;

/// Which digests are taken while an archive is unpacked. Every frame's always is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digests {
    All,
    /// All, and that of the archive itself, as its checksum file has it.
    AllAndWhole,
    /// Only those of files whose bytes etcd itself does not check: for an archive that this
    /// process has just written, whose frames prove that the disk holds what was written.
    Unchecked,
}

/// Where an archive's content goes.
pub trait Sink {
    /// What can go wrong with it.
    type Error: From<ArchiveError>;

    /// A directory.
    fn directory(&mut self, entry: &DirectoryEntry) -> Result<(), Self::Error>;
    /// A file begins.
    fn begin(&mut self, entry: &FileEntry) -> Result<(), Self::Error>;
    /// The file's next bytes.
    fn data(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;
    /// The file ends.
    fn end(&mut self, entry: &FileEntry) -> Result<(), Self::Error>;
}

/// What the digests say that were taken while an archive was unpacked.
#[derive(Debug, Default)]
pub struct Digested {
    /// The files with other bytes than the manifest lists.
    pub mismatches: Vec<ArchiveFault>,
    /// The digest of the archive itself, if that was wanted.
    pub whole: Option<Digest>,
}
