//! The archive: a member directory in one file that `tar`, `zstd` and `sha256sum` can read too.
//!
//! [`manifest`] is what it says of itself, [`format`] its bytes, [`writer`] and [`reader`] the
//! two directions, [`source`] where the bytes come from, [`fault`] what can be wrong with it. It knows nothing of the WAL: names, readers and facts come from above.

#[cfg(feature = "encryption")]
pub mod encryption;
mod entries;
pub mod fault;
pub mod format;
mod frames;
pub mod manifest;
pub mod reader;
pub mod source;
pub mod writer;

pub use fault::{ArchiveError, ArchiveFault};
pub use manifest::{FileEntry, Manifest, Role};
pub use reader::{Archive, Digests, Sink};
pub use source::{FileSource, Source};
pub use writer::{Cipher, NewFile, Writer};

/// The last part of an archive's name, before [`ENCRYPTED`].
pub const EXTENSION: &str = ".tar.zst";
/// The last part of an encrypted archive's name.
pub const ENCRYPTED: &str = ".age";
/// What stands behind an archive's name in the name of its checksum file.
pub const SUM_EXTENSION: &str = ".sha256";
