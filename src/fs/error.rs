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

/// The text for a missing `what` at `path`, or for a broken symlink.
pub(crate) fn missing(what: &str, path: &Path) -> String {
    let shown = path.display();
    match std::fs::read_link(path) {
        Ok(to) => format!(
            "`{shown}` is a symbolic link to `{}`, which does not exist",
            to.display()
        ),
        Err(_) => format!("there is no {what} at `{shown}`"),
    }
}

/// The failed action and its path. The text includes the cause, so `source` does not.
#[derive(Debug, thiserror::Error)]
#[error("failed to {action} `{}`: {cause}", path.display())]
pub struct PathError {
    action: String,
    path: PathBuf,
    cause: io::Error,
}

/// An I/O error with its action and path; it keeps the kind and, see [`cause_of`], the cause.
pub fn with_path(cause: io::Error, action: &str, path: &Path) -> io::Error {
    let (action, path) = (action.to_owned(), path.to_owned());
    io::Error::new(
        cause.kind(),
        PathError {
            action,
            path,
            cause,
        },
    )
}

fn located(error: &io::Error) -> Option<&PathError> {
    error.get_ref()?.downcast_ref()
}

/// The innermost error given to [`with_path`]; any other error is its own cause.
pub fn cause_of(mut error: &io::Error) -> &io::Error {
    while let Some(located) = located(error) {
        error = &located.cause;
    }
    error
}

/// The path of an error from [`with_path`], or of one from `fs_err`, of which only the text is public.
pub fn path_of(error: &io::Error) -> Option<PathBuf> {
    if let Some(located) = located(error) {
        return Some(located.path.clone());
    }
    let text = error.get_ref()?.to_string();
    let path = text.strip_prefix("failed to ")?.split('`').nth(1)?;
    Some(PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_an_error_is_that_of_fs_err_and_that_of_our_own() {
        let path = Path::new("/nowhere/at/all");
        let errors = [
            fs_err::File::open(path).unwrap_err(),
            fs_err::read(path).unwrap_err(),
            fs_err::metadata(path).unwrap_err(),
            fs_err::remove_file(path).unwrap_err(),
            with_path(io::Error::other("no"), "look at", path),
        ];
        for error in errors {
            assert_eq!(path_of(&error).as_deref(), Some(path), "{error}");
        }
        assert_eq!(path_of(&io::Error::other("failed")), None);
    }
}
