//! Where an archive's content goes while it is unpacked, and the result of its digests.

use crate::archive::manifest::{DirectoryEntry, FileEntry};
use crate::archive::{ArchiveError, ArchiveFault};
use crate::etcd::digest::Digest;

/// Which digests are taken while an archive is unpacked. Every frame's digest always is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digests {
    All,
    /// All, and that of the archive itself, for its checksum file.
    AllAndWhole,
    /// Only those of files without checksums of etcd's own: for an archive that this
    /// process has just written, and of which the frames prove that the disk holds what was written.
    Unchecked,
}

pub trait Sink {
    type Error: From<ArchiveError>;

    fn directory(&mut self, entry: &DirectoryEntry) -> Result<(), Self::Error>;
    fn begin(&mut self, entry: &FileEntry) -> Result<(), Self::Error>;
    fn data(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;
    fn end(&mut self, entry: &FileEntry) -> Result<(), Self::Error>;
}

/// The result of the digests that were taken while an archive was unpacked.
#[derive(Debug, Default)]
pub struct Digested {
    /// The files that differ from the manifest.
    pub mismatches: Vec<ArchiveFault>,
    /// The digest of the archive itself, if requested.
    pub whole: Option<Digest>,
}
