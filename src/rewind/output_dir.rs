//! The output directory: checked at the start, published by one rename.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;

use crate::fs::dir::{Dir, Entry, resolve};
use crate::fs::error::{parent_of, with_path};
use crate::fs::owner::give_to_owner_of;
use crate::rewind::{Input, RewindError};
use crate::target::Target;

/// The output directory, checked before anything is written.
pub(crate) struct Place {
    path: PathBuf,
    pub(crate) parent: Arc<Dir>,
    /// Whether it exists, as an empty directory.
    exists: bool,
}

impl Place {
    pub(crate) fn find(dir: &Path, inputs: &[Input]) -> Result<Self, RewindError> {
        let (path, exists) = match resolve(dir) {
            Ok(found) => {
                let empty = found.is_dir() && fs::read_dir(&found)?.next().is_none();
                if !empty {
                    return Err(RewindError::OutTaken(dir.to_path_buf()));
                }
                (found, true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = parent_of(dir);
                let dangling = fs::symlink_metadata(dir).is_ok();
                if dangling {
                    return Err(RewindError::OutTaken(dir.to_path_buf()));
                }
                match (resolve(&parent), dir.file_name()) {
                    (Ok(found), Some(name)) => (found.join(name), false),
                    (Err(error), _) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(error.into());
                    }
                    _ => return Err(RewindError::OutNowhere(parent)),
                }
            }
            Err(error) => return Err(error.into()),
        };
        for input in inputs {
            if let Target::DataDir(data_dir) = &input.target
                && data_dir.holds(&path)?
            {
                return Err(RewindError::OutInside(dir.to_path_buf()));
            }
        }
        Ok(Self {
            parent: Dir::open_resolved(&parent_of(&path))?,
            path,
            exists,
        })
    }

    /// Gives `set` the mode of the directory that it will replace, and its owner; where nothing is yet, the owner of the parent.
    /// Root may work in a directory of another account, which could not use its archives otherwise.
    pub(crate) fn give(&self, set: &Path) -> io::Result<()> {
        let set = Dir::open(set)?;
        if !self.exists {
            give_to_owner_of(self.parent.file(), set.file());
            return Ok(());
        }
        let there = self
            .parent
            .open_dir(self.path.file_name().unwrap_or_default())?;
        set.file()
            .set_permissions(there.file().metadata()?.permissions())?;
        give_to_owner_of(there.file(), set.file());
        Ok(())
    }

    /// Renames the finished set to its final name.
    pub(crate) fn publish(&self, set: &Entry) -> io::Result<()> {
        let place = self.parent.entry(self.path.file_name().unwrap_or_default());
        if self.exists {
            // Replaces an empty directory, and nothing else.
            set.rename_over(&place)?;
        } else {
            set.rename_to_free(&place)?;
        }
        self.parent
            .sync()
            .map_err(|error| with_path(error, "make durable the name of", &self.path))
    }
}
