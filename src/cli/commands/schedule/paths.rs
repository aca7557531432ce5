//! Paths of this machine in a form for a unit or a crontab.
//!
//! In: a path as given. Out: the same for any working directory, and the path with symlinks resolved.
//! systemd ignores paths with `.` or `..`, and reports that only in its log.

use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

use crate::cli::error::{CliError, Result};
use crate::cli::quote::plain;

/// Directories for temporary files.
const TEMPORARY: [&str; 4] = ["/tmp", "/var/tmp", "/dev/shm", "/run"];

/// A path in two forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// As given, but absolute: if a symlink changes later, the new target is used. Resolved if it contains `..`.
    pub(crate) named: String,
    /// With symlinks resolved, as far as the path exists.
    pub(crate) real: String,
}

impl Place {
    pub(crate) fn of(path: &Path) -> Result<Self> {
        // Keeps `..`: the part before it may be a symlink.
        let named = std::path::absolute(path)?;
        let is_up = |path: &Path| path.components().any(|part| part == Component::ParentDir);
        let found = named.ancestors().find_map(|there| {
            let real = there.canonicalize().ok()?;
            Some((real, named.strip_prefix(there).unwrap_or(Path::new(""))))
        });
        let (mut real, missing) = found.unwrap_or((PathBuf::from("/"), &named));
        if is_up(missing) {
            return Err(CliError::usage(format!(
                    "where `{}` leads cannot be told: what is before its `..` is not there, or cannot be looked into",
                    path.display()
                )).hint("name it without `..`"));
        }
        real.extend(missing.components());
        let named: PathBuf = if is_up(&named) {
            real.clone()
        } else {
            named.components().collect()
        };
        Ok(Self {
            named: plain(named.as_os_str())?.to_owned(),
            real: plain(real.as_os_str())?.to_owned(),
        })
    }

    /// Whether it is in one of `dirs`, in either form.
    pub(crate) fn is_in(&self, dirs: &[&str]) -> bool {
        let both = [&self.named, &self.real];
        both.iter()
            .any(|path| dirs.iter().any(|dir| Path::new(path).starts_with(dir)))
    }

    pub(crate) fn is_temporary(&self) -> bool {
        self.is_in(&TEMPORARY)
    }

    /// Whether it exists, or may exist but is hidden from this user.
    pub(crate) fn may_exist(&self) -> bool {
        Path::new(&self.real).try_exists().unwrap_or(true)
    }

    /// The mount point of its filesystem, if that is not the root's.
    pub(crate) fn mount(&self) -> Option<String> {
        let is_root_of_mount = |path: &&Path| {
            let looked_at = statx(CWD, *path, AtFlags::empty(), StatxFlags::empty());
            looked_at.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
        };
        let mount = Path::new(&self.real).ancestors().find(is_root_of_mount)?;
        let mount = mount.to_str().filter(|mount| *mount != "/")?;
        Some(mount.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_path_is_written_as_it_was_meant_also_through_symlinks() {
        let scratch = tempfile::tempdir().expect("a directory");
        let root = scratch.path().canonicalize().expect("its path");
        std::fs::create_dir_all(root.join("a/b")).expect("directories");
        symlink("a/b", root.join("link")).expect("a symlink");
        symlink("nowhere", root.join("dangling")).expect("a symlink");
        let text = |path: &str| root.join(path).display().to_string();
        let is = |given: &str, named: &str, real: &str| {
            let place = Place::of(&root.join(given)).expect(given);
            let wanted = Place {
                named: text(named),
                real: text(real),
            };
            assert_eq!(place, wanted, "{given}");
        };
        is("a/./b//c/", "a/b/c", "a/b/c");
        is("a/../a/b", "a/b", "a/b");
        is("link/c", "link/c", "a/b/c");
        // Not `c`, as removing `link/..` from the text would give.
        is("link/../c", "a/c", "a/c");
        is("dangling/c", "dangling/c", "dangling/c");
        for lost in ["no/../c", "a/no/../../c", "dangling/../c"] {
            let error = Place::of(&root.join(lost)).expect_err(lost);
            assert!(error.message.contains("cannot be told"), "{error:?}");
        }
    }

    #[test]
    fn a_mount_is_found_above_what_is_not_there_yet() {
        let of = |path: &str| Place::of(Path::new(path)).expect(path).mount();
        assert_eq!(of("/proc/no/such").as_deref(), Some("/proc"));
        assert_eq!(of("/no-such-directory/etcd"), None);
    }
}
