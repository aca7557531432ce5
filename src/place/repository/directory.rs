//! A backup dir on disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use jiff::Timestamp;

use super::{Listed, Repository, RepositoryError, is_archive_name};
use crate::ground::publish::{sync_dir, with_path};
use crate::place::archive::{ArchiveError, FileSource, SUM_EXTENSION, Source};

/// A directory that holds archives, each with its checksum file beside it.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The backup dir at `path`, which need not be there yet.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> Result<Vec<String>, RepositoryError> {
        let entries = fs::read_dir(&self.path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => RepositoryError::NotFound(self.path.clone()),
            _ => error.into(),
        })?;
        let mut names = Vec::new();
        for entry in entries {
            // A name that is not UTF-8 is not one that an archive gets.
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    }
}

impl Repository for Directory {
    fn location(&self) -> String {
        self.path.display().to_string()
    }

    fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn list(&self) -> Result<Vec<Listed>, RepositoryError> {
        let mut listed = Vec::new();
        for name in self.names()?.into_iter().filter(|n| is_archive_name(n)) {
            let (bytes, modified) = match fs::metadata(self.path_of(&name)) {
                Ok(found) => (found.len(), found.modified().ok()),
                // Whoever opens it learns whether it is gone, or a link to nowhere.
                Err(_) => (0, None),
            };
            let modified = modified.and_then(|time| Timestamp::try_from(time).ok());
            listed.push(Listed {
                name,
                bytes,
                modified,
            });
        }
        Ok(listed)
    }

    fn source(&self, listed: &Listed) -> Result<Arc<dyn Source>, ArchiveError> {
        let path = self.path_of(&listed.name);
        match FileSource::open(&path) {
            // A link to nowhere is not one that was pruned meanwhile.
            Err(ArchiveError::NotFound(_)) if path.is_symlink() => {
                let nowhere = io::Error::from(io::ErrorKind::NotFound);
                Err(with_path(nowhere, "open", &path).into())
            }
            opened => Ok(Arc::new(opened?)),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        // The archive first: a checksum file without one misleads nobody and is removed later.
        remove_if_there(&self.path_of(name))?;
        remove_if_there(&self.path_of(&format!("{name}{SUM_EXTENSION}")))?;
        sync_dir(&self.path)
    }

    fn remove_orphans(&self) -> io::Result<()> {
        let names = self.names().map_err(|error| match error {
            RepositoryError::Io(error) => error,
            gone @ RepositoryError::NotFound(_) => io::Error::new(io::ErrorKind::NotFound, gone),
        })?;
        for name in &names {
            let of = name.strip_suffix(SUM_EXTENSION);
            if of.is_some_and(|of| is_archive_name(of) && !names.iter().any(|n| n == of)) {
                remove_if_there(&self.path_of(name))?;
            }
        }
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        let space = rustix::fs::statvfs(&self.path)
            .map_err(|error| with_path(error.into(), "ask for the room in", &self.path))?;
        Ok(Some(space.f_bavail.saturating_mul(space.f_frsize)))
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
