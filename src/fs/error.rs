//! I/O errors that carry a path.

use std::io;
use std::path::{Path, PathBuf};

/// The directory that holds `path`; `.` for a bare name.
pub fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// An I/O error that says what was tried and where, keeping its kind and, see [`cause_of`], itself.
pub fn with_path(error: io::Error, tried: &str, path: &Path) -> io::Error {
    let located = Located {
        tried: format!("failed to {tried} `{}`", path.display()),
        cause: error,
    };
    io::Error::new(located.cause.kind(), located)
}

/// The error that [`with_path`] was given, however often; another one is its own cause.
pub fn cause_of(error: &io::Error) -> &io::Error {
    let mut cause = error;
    while let Some(located) = cause.get_ref().and_then(|e| e.downcast_ref::<Located>()) {
        cause = &located.cause;
    }
    cause
}

/// The text says the cause, so that it is no source.
#[derive(Debug, thiserror::Error)]
#[error("{tried}: {cause}")]
struct Located {
    tried: String,
    cause: io::Error,
}
