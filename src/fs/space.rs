//! Free space on a filesystem, checked before work that needs it.

use std::io;
use std::path::{Path, PathBuf};

use crate::fs::error::with_path;

#[derive(Debug, thiserror::Error)]
pub enum SpaceError {
    #[error("not enough space in `{dir}`: {} needed, {} free", size(*needed), size(*available))]
    NoRoom {
        dir: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        available: u64,
    },
    #[error("not enough inodes in `{dir}`: {needed} needed, {available} free")]
    NoInodes {
        dir: PathBuf,
        needed: u64,
        available: u64,
    },
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn size(bytes: u64) -> bytesize::Display {
    bytesize::ByteSize::b(bytes).display().si()
}

/// Bytes that can still be written below `dir`.
pub fn free(dir: &Path) -> io::Result<u64> {
    let space = rustix::fs::statvfs(dir)
        .map_err(|error| with_path(error.into(), "query the free space of", dir))?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// Fails, naming `named`, unless `needed` files can be made below `dir`. A filesystem without a limit tells no numbers.
pub fn require_inodes(dir: &Path, needed: u64, named: &Path) -> Result<(), SpaceError> {
    let space = rustix::fs::statvfs(dir)
        .map_err(|error| with_path(error.into(), "query the free inodes of", dir))?;
    let available = space.f_favail;
    if needed <= available || space.f_files == 0 {
        return Ok(());
    }
    Err(SpaceError::NoInodes {
        dir: named.to_path_buf(),
        needed,
        available,
    })
}

/// `path`, or its nearest parent that exists.
pub fn nearest(path: &Path) -> &Path {
    let found = path.ancestors().find(|path| path.exists());
    let found = found.filter(|path| !path.as_os_str().is_empty());
    found.unwrap_or(Path::new("."))
}

/// Fails, naming `named`, unless `needed` bytes can be written below `dir`.
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
