//! Finds out with a probe whether archives can be written to a repository.
//!
//! In: a repository. Out: nothing, or why a snapshot into it would fail. The probe is handled like an archive: written,
//! read back, published; then it is removed. One left by a killed run is cleaned up like other leftovers.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::PathBuf;

use crate::archive::Cipher;
use crate::interrupt::Interrupt;
use crate::repository::upload::{UploadError, UploadRequest, upload};
use crate::repository::{PROBE, Repository};

const TEXT: &[u8] = b"Written by `etcd-ark snapshot --dry-run`, which removes it.\n";

#[derive(Debug, thiserror::Error)]
pub enum WriteProbeError {
    #[error(transparent)]
    Upload(#[from] UploadError),
    #[error("`{}` was written, and cannot be removed", path.display())]
    Stays { path: PathBuf, source: io::Error },
}

/// Writes a probe into `repository`, through `cipher` if there is one, reads it back and removes it.
pub fn probe(
    repository: &dyn Repository,
    cipher: Option<&dyn Cipher>,
    interrupt: &Interrupt,
) -> Result<(), WriteProbeError> {
    let random = RandomState::new().build_hasher().finish();
    let name = format!("{PROBE}{random:016x}.tmp");
    let mut request = UploadRequest {
        name: &name,
        bytes: TEXT.len() as u64,
        write: &mut |out| match cipher {
            Some(cipher) => cipher.pass(out, &mut |out| out.write_all(TEXT)),
            None => out.write_all(TEXT),
        },
        sides: &|_, _| Ok(Vec::new()),
    };
    upload(repository, &mut request, interrupt, &mut |_| ())?;
    repository
        .remove(&name)
        .map_err(|source| WriteProbeError::Stays {
            path: repository.path_of(&name),
            source,
        })
}
