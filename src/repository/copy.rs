//! Copying archives from one repository to another, each proven before and after.
//!
//! In: two repositories and an archive's place in the first. Out: whether it is in the second
//! now. The bytes are copied as they are, with what stands beside them.

use std::cell::Cell;
use std::io;
use std::path::PathBuf;

use crate::archive::{ArchiveError, SUM_EXTENSION};
use crate::etcd::digest::Digest;
use crate::interrupt::Interrupt;
use crate::progress::Event;
use crate::repository::catalog::read_one;
use crate::repository::check::prove;
use crate::repository::sidecar::SIDECAR_EXTENSION;
use crate::repository::upload::{Deposit, DepositError, deposit, digest_of, read_all};
use crate::repository::{Listed, Repository, Side};

/// What became of one archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// It was copied; its size in bytes.
    New(u64),
    /// The same bytes are there already.
    AlreadyThere,
}

/// Why an archive was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// It cannot be read, or its bytes do not check.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// It changed between being proven and being copied.
    #[error("`{0}` changed while it was copied")]
    Changed(PathBuf),
    /// Another archive has its name at the other end.
    #[error("`{0}` is there already, with other bytes")]
    Different(PathBuf),
    /// It could not be written.
    #[error(transparent)]
    Deposit(#[from] DepositError),
}

impl From<io::Error> for CopyError {
    fn from(error: io::Error) -> Self {
        Self::Deposit(error.into())
    }
}

/// Copies one archive.
pub fn copy(
    from: &dyn Repository,
    to: &dyn Repository,
    listed: &Listed,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<Copied, CopyError> {
    let name = listed.name.as_str();
    let source = from.source(listed)?;
    let path = from.path_of(name);
    let summary = read_one(from, listed.clone())?;
    prove(from, &summary, interrupt)?;
    let digest = digest_of(&*source, interrupt)?;
    let sidecar = format!("{name}{SIDECAR_EXTENSION}");
    let sidecar = summary.ciphertext.map(|_| from.read_beside(&sidecar));
    let sidecar = sidecar.transpose()?.flatten();
    match to.look_up(name) {
        Ok(there) => {
            let same = there.bytes == listed.bytes
                && digest_of(&*to.source(&there)?, interrupt)? == digest;
            if !same {
                return Err(CopyError::Different(to.path_of(name)));
            }
            // A run that was killed may have left it without what belongs beside it.
            for beside in beside(name, sidecar, digest) {
                let beside_name = format!("{name}{}", beside.extension);
                if to.read_beside(&beside_name)?.is_none() {
                    to.write_beside(&beside_name, &beside.bytes)?;
                }
            }
            return Ok(Copied::AlreadyThere);
        }
        Err(ArchiveError::NotFound(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let changed = Cell::new(false);
    let deposited = deposit(
        to,
        &mut Deposit {
            name,
            bytes: listed.bytes,
            write: &mut |out| read_all(&*source, interrupt, &mut |bytes| out.write_all(bytes)),
            sides: &|sha256, _| {
                if sha256 != digest {
                    changed.set(true);
                    // Of another kind than what may pass: another try would read the new bytes again.
                    return Err(io::ErrorKind::InvalidData.into());
                }
                Ok(beside(name, sidecar.clone(), digest))
            },
        },
        interrupt,
        observe,
    );
    match deposited {
        Err(_) if changed.get() => Err(CopyError::Changed(path)),
        deposited => Ok(Copied::New(deposited?.bytes)),
    }
}

/// What stands beside an archive, the last one last.
fn beside(name: &str, sidecar: Option<Vec<u8>>, digest: Digest) -> Vec<Side> {
    let sidecar = sidecar.map(|bytes| Side {
        extension: SIDECAR_EXTENSION,
        bytes,
    });
    sidecar.into_iter().chain([sum(name, digest)]).collect()
}

/// The checksum file of an archive, as `sha256sum` writes it.
pub(crate) fn sum(name: &str, sha256: Digest) -> Side {
    Side {
        extension: SUM_EXTENSION,
        bytes: format!("{sha256}  {name}\n").into_bytes(),
    }
}
