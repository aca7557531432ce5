//! Copies archives from one repository to another; each is checked while it is read, and read back.
//!
//! In: two repositories and an archive's name in the first. Out: whether the second has it
//! now. The bytes are copied unchanged, with the files beside them.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::archive::frame_check::FrameCheck;
use crate::archive::{Archive, ArchiveError, ArchiveFault, SUM_EXTENSION, Source};
use crate::etcd::digest::{Digest, Hasher};
use crate::fs::staged::remove_stale;
use crate::interrupt::Interrupt;
use crate::progress::Event;
use crate::repository::catalog::sidecar_of;
use crate::repository::sidecar::SIDECAR_EXTENSION;
use crate::repository::upload::{UploadError, UploadRequest, digest_of, read_all, upload};
use crate::repository::{ArchiveRef, CompanionFile, Repository, is_encrypted_name};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// It was copied; its size in bytes.
    New(u64),
    AlreadyThere,
}

#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("`{0}` already exists with different content")]
    Different(PathBuf),
    #[error(transparent)]
    Upload(#[from] UploadError),
}

impl From<io::Error> for CopyError {
    fn from(error: io::Error) -> Self {
        Self::Upload(error.into())
    }
}

/// Copies one archive. Its bytes are read once and checked in the same pass; a corrupt one is never
/// published.
pub fn copy(
    from: &dyn Repository,
    to: &dyn Repository,
    listed: &ArchiveRef,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<Copied, CopyError> {
    let name = listed.name.as_str();
    let original = Original::open(from, listed)?;
    match to.look_up(name) {
        Ok(there) => {
            let digest = original.digest(interrupt)?;
            let same = there.bytes == listed.bytes
                && digest_of(&*to.source(&there)?, interrupt)? == digest;
            if !same {
                return Err(CopyError::Different(to.path_of(name)));
            }
            // A killed run may have left it without the files beside it.
            for side in original.sides(name, digest) {
                let beside_name = format!("{name}{}", side.extension);
                if to.read_beside(&beside_name)?.is_none() {
                    to.write_beside(&beside_name, &side.bytes)?;
                }
            }
            return Ok(Copied::AlreadyThere);
        }
        Err(ArchiveError::NotFound(_)) => {}
        Err(error) => return Err(error.into()),
    }
    to.directory().into_iter().for_each(remove_stale);
    let deposited = upload(
        to,
        &mut UploadRequest {
            name,
            bytes: listed.bytes,
            write: &mut |out| original.read(interrupt, &mut |bytes| out.write_all(bytes)),
            sides: &|sha256, _| Ok(original.sides(name, sha256)),
        },
        interrupt,
        observe,
    );
    Ok(Copied::New(deposited.map_err(of_original)?.bytes))
}

struct Original {
    source: Arc<dyn Source>,
    path: PathBuf,
    kind: OriginalKind,
}

enum OriginalKind {
    Plain(Box<Archive>),
    /// From its sidecar: its size in bytes and its digest; and the sidecar.
    Encrypted(u64, Digest, Vec<u8>),
}

impl Original {
    fn open(from: &dyn Repository, listed: &ArchiveRef) -> Result<Self, CopyError> {
        let name = listed.name.as_str();
        let (source, path) = (from.source(listed)?, from.path_of(name));
        let kind = if is_encrypted_name(name) {
            let (sidecar, bytes) = sidecar_of(from, name)?;
            let (length, sha256) = sidecar.ciphertext();
            OriginalKind::Encrypted(length, sha256, bytes)
        } else {
            OriginalKind::Plain(Box::new(Archive::from_source(Arc::clone(&source), &path)?))
        };
        Ok(Self { source, path, kind })
    }

    /// Passes every byte to `take`, in order. Fails, with an [`ArchiveError`] as the cause, if they are
    /// not those that were written when the archive was made.
    fn read(
        &self,
        interrupt: &Interrupt,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        // Of a kind that is not retried: another try would read the same bytes again.
        let wrong = |error: ArchiveError| io::Error::new(io::ErrorKind::InvalidData, error);
        match &self.kind {
            OriginalKind::Plain(archive) => {
                let mut check = FrameCheck::of(archive);
                read_all(&*self.source, interrupt, &mut |bytes| {
                    check.update(bytes).map_err(wrong)?;
                    take(bytes)
                })?;
                check.finish().map_err(wrong)
            }
            OriginalKind::Encrypted(length, sha256, _) => {
                let mut hasher = Hasher::default();
                read_all(&*self.source, interrupt, &mut |bytes| {
                    hasher.update(bytes);
                    take(bytes)
                })?;
                if self.source.length() == *length && hasher.finish() == *sha256 {
                    return Ok(());
                }
                Err(wrong(ArchiveError::Fault {
                    path: self.path.clone(),
                    fault: ArchiveFault::Ciphertext,
                }))
            }
        }
    }

    /// The digest of the whole archive, after every byte is checked.
    fn digest(&self, interrupt: &Interrupt) -> Result<Digest, CopyError> {
        let mut hasher = Hasher::default();
        let read = self.read(interrupt, &mut |bytes| {
            hasher.update(bytes);
            Ok(())
        });
        read.map_err(|error| of_original(error.into()))?;
        Ok(hasher.finish())
    }

    /// The files beside it; the last one completes it.
    fn sides(&self, name: &str, sha256: Digest) -> Vec<CompanionFile> {
        let sidecar = match &self.kind {
            OriginalKind::Plain(_) => None,
            OriginalKind::Encrypted(_, _, bytes) => Some(CompanionFile {
                extension: SIDECAR_EXTENSION,
                bytes: bytes.clone(),
            }),
        };
        sidecar.into_iter().chain([sum(name, sha256)]).collect()
    }
}

/// An error that is caused by the original is reported as such.
fn of_original(error: UploadError) -> CopyError {
    match error {
        UploadError::Io(error) => match error.downcast::<ArchiveError>() {
            Ok(error) => CopyError::Archive(error),
            Err(error) => CopyError::Upload(error.into()),
        },
        error => CopyError::Upload(error),
    }
}

/// The checksum file of an archive, as `sha256sum` writes it.
pub(crate) fn sum(name: &str, sha256: Digest) -> CompanionFile {
    CompanionFile {
        extension: SUM_EXTENSION,
        bytes: format!("{sha256}  {name}\n").into_bytes(),
    }
}
