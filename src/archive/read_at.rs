//! Random access to an archive's bytes, from several threads.
//!
//! In: an offset and a buffer. Out: the bytes there. A file on disk is one source; an object in a
//! bucket and the plaintext of an encrypted file are others.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::archive::error::ArchiveError;
use crate::fs::dir::open_at_once;
use crate::fs::error::with_path;

/// The bytes of one file that does not change.
pub trait Source: Debug + Send + Sync {
    /// Its length in bytes.
    fn length(&self) -> u64;

    /// Fills `buffer` from `offset`, in bytes from the start; fails if there are fewer bytes.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// A hint that the bytes from `offset` on will be read soon and in order; up to [`READ_AHEAD`] of them are fetched.
    fn read_ahead(&self, _offset: u64) {}
}

/// How far a source reads ahead, in bytes.
pub const READ_AHEAD: u64 = 16 << 20;

#[derive(Debug)]
pub struct FileSource {
    file: File,
    length: u64,
    /// The offset up to which the disk was asked to read ahead.
    asked: AtomicU64,
}

impl FileSource {
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        let file = open_at_once(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ArchiveError::NotFound(path.to_path_buf()),
            _ => error.into(),
        })?;
        let metadata = file
            .metadata()
            .map_err(|error| with_path(error, "look at", path))?;
        if !metadata.is_file() {
            return Err(ArchiveError::NotRegular(path.to_path_buf()));
        }
        Ok(Self::with_length(file.into_file(), metadata.len()))
    }

    /// A regular file that is open for reading.
    pub fn of(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self::with_length(file, length))
    }

    fn with_length(file: File, length: u64) -> Self {
        let asked = AtomicU64::new(0);
        Self {
            file,
            length,
            asked,
        }
    }
}

impl Source for FileSource {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn read_ahead(&self, offset: u64) {
        let end = offset.saturating_add(READ_AHEAD);
        let enough = offset.saturating_add(READ_AHEAD / 2);
        if (enough..=end).contains(&self.asked.load(Ordering::Relaxed)) {
            return;
        }
        self.asked.store(end, Ordering::Relaxed);
        let advice = rustix::fs::Advice::WillNeed;
        // Without it the bytes only come later.
        let length = std::num::NonZeroU64::new(READ_AHEAD);
        let _ = rustix::fs::fadvise(&self.file, offset, length, advice);
    }
}
