//! Suggests which user to run as when access is denied.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::fs::owner::name_of;

/// What to do if access to `path` is denied; `None` if the path is not known.
pub(super) fn hint(path: Option<&Path>) -> String {
    path.and_then(owner_hint)
        .unwrap_or_else(|| "run it as its owner, or as root".to_owned())
}

fn owner_hint(path: &Path) -> Option<String> {
    let path = std::path::absolute(path).ok()?;
    let (path, uid) = nearest(&path)?;
    let path = path.display();
    if rustix::process::geteuid().as_raw() == uid {
        return Some(format!(
            "see the mode of `{path}`: its owner is who runs this"
        ));
    }
    if uid == 0 {
        return Some(format!("run it as root, who owns `{path}`"));
    }
    Some(match name_of(uid) {
        Some(name) => format!("run it as `{name}`, who owns `{path}`, or as root"),
        None => format!("run it as the user {uid}, who owns `{path}`, or as root"),
    })
}

/// The nearest existing part of a path and its owner, which is what denies access.
fn nearest(path: &Path) -> Option<(&Path, u32)> {
    let denied = |error: &io::Error| {
        matches!(
            error.kind(),
            io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound
        )
    };
    for path in path.ancestors() {
        match std::fs::metadata(path) {
            Ok(found) => return Some((path, found.uid())),
            Err(error) if denied(&error) => {}
            Err(_) => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_owns_a_path_is_named_by_the_nearest_that_is_there() {
        let (path, uid) = nearest(Path::new("/nowhere/at/all")).unwrap();
        assert_eq!((path, uid), (Path::new("/"), 0));
        assert_eq!(hint(None), "run it as its owner, or as root");
    }
}
