//! Checks that an archive's bytes are still those that were verified when it was made.
//!
//! In: a repository and the summary of an archive in it. Out: nothing, or what is wrong.
//! Every byte is read and compared with the SHA-256 that covers it; for an encrypted archive that is
//! the SHA-256 in its sidecar, which needs no key. Nothing is decompressed: the content was verified
//! before the archive got its name (see [`capture`](crate::snapshot)), and
//! [`verify`](crate::archive::verify) verifies it again.

use crate::archive::{Archive, ArchiveError, ArchiveFault};
use crate::interrupt::Interrupt;
use crate::repository::upload::digest_of;
use crate::repository::{ArchiveSummary, Repository};

/// Reads every byte of the archive of `summary`.
pub fn prove(
    repository: &dyn Repository,
    summary: &ArchiveSummary,
    interrupt: &Interrupt,
) -> Result<(), ArchiveError> {
    let path = repository.path_of(summary.name());
    if let Some((bytes, sha256)) = summary.ciphertext {
        let source = repository.source(&summary.listed)?;
        let is_whole = source.length() == bytes && digest_of(&*source, interrupt)? == sha256;
        let fault = ArchiveFault::Ciphertext;
        return if is_whole {
            Ok(())
        } else {
            Err(ArchiveError::Fault { path, fault })
        };
    }
    let archive = Archive::from_source(repository.source(&summary.listed)?, &path)?;
    archive.check_frames(interrupt)
}
