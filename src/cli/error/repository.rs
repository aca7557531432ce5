//! Exit codes and hints for errors of archives and repositories.

use std::path::Path;

use crate::archive::format::TailFault;
use crate::archive::manifest::ManifestFault;
use crate::archive::{ArchiveError, ArchiveFault};
use crate::repository::RepositoryError;
use crate::repository::copy::CopyError;
use crate::repository::lock::LockError;
use crate::repository::probe::WriteProbeError;
use crate::repository::upload::UploadError;

use crate::cli::error::{
    CliError, Judge, Kind, USE_ANOTHER, busy, corrupt, not_found, refused, usage,
};

impl Judge for ArchiveError {
    fn judge(&self) -> CliError {
        match self {
            Self::NotFound(path) => Kind::NotFound
                .advice(unexpanded(path).unwrap_or("`etcd-ark list` shows the archives there are")),
            Self::NotRegular(_) => {
                usage("an archive is a file: `etcd-ark list` shows those there are")
            }
            Self::Io(error) => error.judge(),
            Self::Interrupted(error) => error.judge(),
            Self::Fault { fault, .. } => {
                let lacks_key = fault.is_of_keys();
                let judged = match fault {
                    ArchiveFault::Tail(TailFault::LaterSeal(_))
                    | ArchiveFault::Manifest(ManifestFault::LaterFormat { .. }) => {
                        refused("use the release of etcd-ark that wrote it, or a later one")
                    }
                    #[cfg(feature = "encryption")]
                    ArchiveFault::Encryption(fault) => fault.judge(),
                    ArchiveFault::Sidecar(_) | ArchiveFault::Ciphertext => corrupt(
                        "the archive inside may still be valid: with its key, `etcd-ark verify -i KEY` tells, once the `.json` beside it is moved away",
                    ),
                    ArchiveFault::NoEncryption => {
                        usage("use a build with the feature `encryption`, which is on by default")
                    }
                    _ => corrupt(USE_ANOTHER),
                };
                CliError {
                    lacks_key,
                    ..judged
                }
            }
        }
    }
}

/// The hint about a pattern that reached the command as it was typed.
pub(crate) fn unexpanded(path: &Path) -> Option<&'static str> {
    let is_pattern = path.to_string_lossy().contains(['*', '?']);
    is_pattern.then_some(
        "the shell did not expand the pattern: it is quoted, no file fits, or this account may not read the directory; then \
         `sudo sh -c 'etcd-ark …'` expands it as root. `etcd-ark list` shows the archives there are",
    )
}

impl Judge for RepositoryError {
    fn judge(&self) -> CliError {
        match self {
            Self::NotFound(_) => {
                not_found("pass the directory that `snapshot` was given as --backup-dir")
            }
            Self::Io(error) => error.judge(),
        }
    }
}

impl Judge for LockError {
    fn judge(&self) -> CliError {
        match self {
            Self::Busy { waited: false, .. } => busy(
                "run it again when that run is over; `snapshot`, `prune` and `copy` wait for it with `--lock-wait 10m`",
            ),
            Self::Busy { waited: true, .. } => busy(
                "it did not end in time; run it again when it is over, or with a longer `--lock-wait`",
            ),
            Self::Io(error) => error.judge(),
            Self::Interrupted(error) => error.judge(),
        }
    }
}

impl Judge for CopyError {
    fn judge(&self) -> CliError {
        match self {
            Self::Archive(error) => error.judge(),
            Self::Upload(error) => error.judge(),
            Self::Different(_) => {
                refused("nothing was changed; `etcd-ark verify` tells which of the two is whole")
            }
        }
    }
}

impl Judge for WriteProbeError {
    fn judge(&self) -> CliError {
        match self {
            Self::Upload(error) => error.judge(),
            Self::Stays { source, .. } => source.judge(),
        }
    }
}

impl Judge for UploadError {
    fn judge(&self) -> CliError {
        match self {
            Self::ReadBack(_) => {
                corrupt("what was read back is not what was written; nothing was kept")
            }
            Self::Io(error) => error.judge(),
            Self::Interrupted(error) => error.judge(),
        }
    }
}
