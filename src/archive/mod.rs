//! The archive: a member directory in one file that `tar`, `zstd` and `sha256sum` can read too.
//!
//! [`manifest`] lists its content, [`format`] is its bytes, [`writer`] and [`reader`] write and read it,
//! [`verify`] checks it, [`read_at`] gives its bytes, [`error`] has its errors. It uses names, facts and scans of `etcd`.

pub(crate) mod digester;
#[cfg(feature = "encryption")]
pub mod encryption;
mod end_of_file;
pub mod error;
pub mod format;
pub mod frame_check;
pub mod frames;
pub mod manifest;
pub mod read_at;
pub mod reader;
pub mod sink;
pub mod tar;
pub mod verify;
pub mod warning;
pub mod writer;

pub use crate::archive::error::{ArchiveError, ArchiveFault};
pub use crate::archive::manifest::{FileEntry, Manifest, Role};
pub use crate::archive::read_at::{FileSource, Source};
pub use crate::archive::reader::Archive;
pub use crate::archive::sink::{Digests, Sink};
pub use crate::archive::writer::{Cipher, NewFile, Writer};

/// The last part of an archive's name, before [`ENCRYPTED`].
pub const EXTENSION: &str = ".tar.zst";
/// The last part of an encrypted archive's name.
pub const ENCRYPTED: &str = ".age";
/// What follows an archive's name in the name of its checksum file.
pub const SUM_EXTENSION: &str = ".sha256";
