//! Room on a filesystem, asked about before work that needs it.

use std::io;
use std::path::{Path, PathBuf};

use crate::fs::error::with_path;

/// Why work that needs room does not begin.
#[derive(Debug, thiserror::Error)]
pub enum SpaceError {
    #[error("not enough room in `{dir}`: {needed} bytes are needed, {available} are free")]
    NoRoom {
        dir: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        available: u64,
    },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Bytes that may still be written below `dir`.
pub fn free(dir: &Path) -> io::Result<u64> {
    let space = rustix::fs::statvfs(dir)
        .map_err(|error| with_path(error.into(), "ask for the room in", dir))?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// An error that names `named` unless `needed` bytes can be written below `dir`.
pub fn require(dir: &Path, needed: u64, named: &Path) -> Result<(), SpaceError> {
    let available = free(dir)?;
    if needed <= available {
        return Ok(());
    }
    Err(SpaceError::NoRoom {
        dir: named.to_path_buf(),
        needed,
        available,
    })
}
