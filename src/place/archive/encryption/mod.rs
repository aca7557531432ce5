//! An archive wrapped by age, for those who have the key.
//!
//! ```text
//! etcd-….tar.zst.age           age's header, then the archive in chunks of 64 KiB, each proven
//! etcd-….tar.zst.age.json      what everybody may know of it, see [`super::sidecar`]
//! etcd-….tar.zst.age.sha256    the checksum file, of the encrypted bytes
//! ```
//!
//! In: an archive's bytes and recipients, or a [`Source`](super::Source) of encrypted bytes and
//! identities. Out: encrypted bytes, or a source of the archive's. Only age's own X25519 keys, and
//! only the binary form: armor cannot be read at any place. A build without the feature
//! `encryption` has the same types, and nobody can make any.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fault::{ArchiveError, ArchiveFault};
use super::reader::Archive;
use super::sidecar::Sidecar;
use super::source::Source;

#[cfg(not(feature = "encryption"))]
mod absent;
#[cfg(feature = "encryption")]
mod keys;
#[cfg(feature = "encryption")]
mod stream;

#[cfg(not(feature = "encryption"))]
pub use absent::{EncryptedSource, Identities, Recipients};
#[cfg(feature = "encryption")]
pub use keys::{Identities, Recipients};
#[cfg(feature = "encryption")]
pub use stream::EncryptedSource;

/// How every age file begins.
const MAGIC: &[u8] = b"age-encryption.org/";
/// How one in armor begins.
const ARMOR: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";

/// What is wrong with an encrypted archive, or with the keys for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncryptionFault {
    /// It is needed and there is none.
    #[error("it is encrypted, and no identity was given")]
    NoIdentity,
    /// This build cannot decrypt.
    #[error("it is encrypted, and this build of etcd-ark has no encryption")]
    NotBuilt,
    /// It was encrypted for others.
    #[error("it is encrypted, and not for any identity that was given")]
    NotARecipient,
    /// It was encrypted with a passphrase.
    #[error("it is encrypted with a passphrase, not for an identity")]
    Passphrase,
    /// It is text.
    #[error("it is in age's armor, which can only be read from its beginning to its end")]
    Armor,
    /// It is called an age file and is none.
    #[error("it does not begin as a file that age encrypted")]
    NotAge,
    /// The header does not check.
    #[error("its age header, up to offset {0}, is damaged")]
    Header(u64),
    /// A chunk does not check.
    #[error("its encrypted bytes do not check from offset {0} on")]
    Chunk(u64),
    /// It does not end as it was written.
    #[error(
        "it does not end with the last of its encrypted bytes: cut short, or damaged from offset {0} on"
    )]
    End(u64),
}

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// This build has no encryption.
    #[error("this build of etcd-ark has no encryption")]
    NotBuilt,
    /// Text that is no recipient.
    #[error("{origin} is no recipient: {why}")]
    Recipient {
        /// What was read, or which line of which file.
        origin: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// More recipients than an archive's header has room for.
    #[error("there are {0} recipients; an archive can have {MAX_RECIPIENTS}")]
    TooManyRecipients(usize),
    /// A file with nothing in it.
    #[error("there is no {what} in `{path}`")]
    Nothing {
        /// `recipient` or `identity`.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A file that holds no identities.
    #[error("`{path}` is no identity file: {why}")]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; never what is in it.
        why: String,
    },
    /// A file that cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// How many recipients an archive can have: as many as fit into the header that a reader accepts.
pub const MAX_RECIPIENTS: usize = 100;

/// Whether what `source` gives is encrypted; `path` is what it is called.
pub fn is_encrypted(source: &dyn Source, path: &Path) -> Result<bool, ArchiveError> {
    let mut beginning = vec![0; ARMOR.len().min(source.length() as usize)];
    source
        .read_exact_at(&mut beginning, 0)
        .map_err(|error| ArchiveError::reading(error, path))?;
    let fault = |fault: EncryptionFault| ArchiveError::Fault {
        path: path.to_path_buf(),
        fault: fault.into(),
    };
    if beginning == ARMOR {
        return Err(fault(EncryptionFault::Armor));
    }
    let is_age = beginning.starts_with(MAGIC);
    if !is_age && path.extension().is_some_and(|extension| extension == "age") {
        return Err(fault(EncryptionFault::NotAge));
    }
    Ok(is_age)
}

/// Opens the encrypted archive that `source` gives; what it says of itself must be what `sidecar`
/// says of it.
pub fn open(
    source: Arc<dyn Source>,
    path: &Path,
    sidecar: Option<&Sidecar>,
    identities: &Identities,
) -> Result<Archive, ArchiveError> {
    let encrypted_bytes = source.length();
    let inside = EncryptedSource::open(source, identities)
        .map_err(|error| ArchiveError::reading(error, path))?;
    let archive = Archive::from_source(Arc::new(inside), path)?;
    if let Some(sidecar) = sidecar {
        let agrees = sidecar
            .check_size(encrypted_bytes)
            .and_then(|()| sidecar.check_manifest(archive.manifest()));
        agrees.map_err(|fault| ArchiveError::Fault {
            path: path.to_path_buf(),
            fault: ArchiveFault::Sidecar(fault),
        })?;
    }
    Ok(archive)
}
