//! Errors of archives, each with its own variant.

use std::io;
use std::path::{Path, PathBuf};

use crate::archive::format::TailFault;
use crate::archive::manifest::{MANIFEST, ManifestFault, SUMS};
use crate::fs::error::{cause_of, missing, with_path};
use crate::interrupt::Interrupted;

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("{}", missing("archive", .0))]
    NotFound(PathBuf),
    #[error("`{}` is not a regular file", .0.display())]
    NotRegular(PathBuf),
    #[error("`{path}` {}", if fault.is_of_keys() { "cannot be opened" } else { "is corrupt" })]
    Fault {
        path: PathBuf,
        #[source]
        fault: ArchiveFault,
    },
    #[error(transparent)]
    Io(io::Error),
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl ArchiveFault {
    /// Whether only the key is missing or wrong: the archive itself may be intact.
    pub fn is_of_keys(&self) -> bool {
        #[cfg(feature = "encryption")]
        {
            use crate::archive::encryption::EncryptionFault::{Armored, NoIdentity, WrongIdentity};
            if let Self::Encryption(NoIdentity | WrongIdentity | Armored) = self {
                return true;
            }
        }
        matches!(self, Self::NoEncryption)
    }
}

impl From<io::Error> for ArchiveError {
    /// In a bucket an interrupt arrives as an I/O error of the read.
    fn from(error: io::Error) -> Self {
        let cause = cause_of(&error).get_ref();
        match cause.and_then(|cause| cause.downcast_ref::<Interrupted>()) {
            Some(interrupted) => Self::Interrupted(*interrupted),
            None => Self::Io(error),
        }
    }
}

impl ArchiveError {
    /// The error for an archive at `path` that could not be read; one that is gone was removed since it was listed.
    pub(super) fn unread(error: io::Error, path: &Path) -> Self {
        if cause_of(&error).kind() == io::ErrorKind::NotFound {
            return Self::NotFound(path.to_path_buf());
        }
        with_path(error, "read", path).into()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveFault {
    #[error(transparent)]
    Tail(#[from] TailFault),
    #[error(transparent)]
    Manifest(#[from] ManifestFault),
    #[error("frame {frame} at offset {offset} does not match its SHA-256")]
    FrameDigest {
        /// The frame, from 0.
        frame: usize,
        /// Its offset in bytes from the start of the archive.
        offset: u64,
    },
    #[error("frame {frame} at offset {offset} does not decompress to {plain} bytes")]
    FrameContent {
        /// The frame, from 0.
        frame: usize,
        /// Its offset in bytes from the start of the archive.
        offset: u64,
        plain: u32,
    },
    #[error("its last frame does not hold {MANIFEST} and the end of the tar stream")]
    NoManifest,
    #[error("its manifest lists {listed} bytes of tar stream, its frames hold {held}")]
    Size {
        /// In the manifest.
        listed: u64,
        /// In the frames.
        held: u64,
    },
    #[error("unexpected entry `{path}`, {kind}; archives contain only regular files")]
    Kind { path: String, kind: &'static str },
    #[error("it holds `{path}`: {why}")]
    Path { path: String, why: &'static str },
    #[error("it holds `{found}` where its manifest lists `{listed}`")]
    Entry {
        /// In the manifest.
        listed: String,
        found: String,
    },
    #[error("the {what} of `{path}` differs from the manifest's")]
    Header {
        path: String,
        /// Size, mode, owner or time.
        what: &'static str,
    },
    #[error("truncated tar stream: {0}")]
    Tar(String),
    #[error("data after the end of the tar stream")]
    Trailing,
    #[error("`{path}` does not match its SHA-256")]
    FileDigest { path: String },
    #[cfg(feature = "encryption")]
    #[error(transparent)]
    Encryption(#[from] crate::archive::encryption::EncryptionFault),
    #[error("it is encrypted, and this build has no encryption support")]
    NoEncryption,
    #[error("its sidecar cannot be used: {0}")]
    Sidecar(String),
    #[error("its ciphertext does not match the SHA-256 in its sidecar")]
    Ciphertext,
    #[error("{SUMS} differs from the manifest")]
    Sums,
}
