//! A backup dir on disk.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use fs_err as fs;
use jiff::Timestamp;

use crate::archive::{ArchiveError, FileSource, Source};
use crate::fs::dir::{Dir, Entry, PRIVATE, create_dirs};
use crate::fs::error::with_path;
use crate::fs::staged::{StagedFile, WRITEBACK, start_writeback};
use crate::repository::{
    ArchiveRef, CompanionFile, PendingArchive, Repository, RepositoryError, SIDES, beside_of,
    is_archive_name, refuse_large,
};
use crate::thread_pool::default_threads;

/// A directory with archives, each with its checksum file.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
    /// Device and inode of the directory that was listed first. Archives are removed from no other.
    listed: OnceLock<(u64, u64)>,
}

impl Directory {
    /// The backup dir at `path`, which need not exist yet.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            listed: OnceLock::new(),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names in it, sorted, and whether each is a symbolic link.
    fn names(&self) -> Result<Vec<(String, bool)>, RepositoryError> {
        let dir = Dir::open(&self.path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => RepositoryError::NotFound(self.path.clone()),
            _ if self.path.is_file() => self.is_a_file().into(),
            _ => error.into(),
        })?;
        let found = identity(&dir)?;
        self.listed.get_or_init(|| found);
        // No archive has a name that is not UTF-8.
        let names = dir.names()?.into_iter();
        let names = names.filter_map(|name| name.into_string().ok());
        let mut names: Vec<_> = names
            .map(|name| {
                let is_link = dir.is_link(name.as_ref());
                (name, is_link)
            })
            .collect();
        names.sort();
        Ok(names)
    }

    fn is_a_file(&self) -> io::Error {
        let text = format!("`{}` is a file, not a directory", self.path.display());
        io::Error::new(io::ErrorKind::NotADirectory, text)
    }

    /// The directory to remove from, unless another one has its path now: its owner could lead root elsewhere.
    fn open_listed(&self) -> io::Result<Arc<Dir>> {
        let dir = Dir::open(&self.path)?;
        let found = identity(&dir)?;
        match self.listed.get() {
            Some(listed) if *listed != found => Err(io::Error::other(format!(
                "`{}` is another directory than the one that was listed; nothing was removed",
                self.path.display()
            ))),
            _ => Ok(dir),
        }
    }

    fn listed(name: String, is_link: bool, found: Option<&std::fs::Metadata>) -> ArchiveRef {
        let modified = found.and_then(|found| found.modified().ok());
        ArchiveRef {
            bytes: found.map_or(0, std::fs::Metadata::len),
            modified: modified.and_then(|time| Timestamp::try_from(time).ok()),
            is_link,
            name,
        }
    }
}

impl Repository for Directory {
    fn location(&self) -> String {
        self.path.display().to_string()
    }

    fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn directory(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn at_once(&self, archives: usize) -> usize {
        // A few are read before another thread has started.
        default_threads().min(archives.div_ceil(16))
    }

    fn list(&self) -> Result<Vec<ArchiveRef>, RepositoryError> {
        let mut listed = Vec::new();
        let names = self.names()?.into_iter();
        for (name, is_link) in names.filter(|(name, _)| is_archive_name(name)) {
            let found = fs::metadata(self.path_of(&name)).ok();
            // Opening one that was not found tells whether it is removed, or a broken link.
            listed.push(Self::listed(name, is_link, found.as_ref()));
        }
        Ok(listed)
    }

    fn look_up(&self, name: &str) -> Result<ArchiveRef, ArchiveError> {
        let path = self.path_of(name);
        let found = fs::metadata(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ArchiveError::NotFound(path.clone()),
            _ => error.into(),
        })?;
        Ok(Self::listed(
            name.to_owned(),
            path.is_symlink(),
            Some(&found),
        ))
    }

    fn source(&self, listed: &ArchiveRef) -> Result<Arc<dyn Source>, ArchiveError> {
        let path = self.path_of(&listed.name);
        match FileSource::open(&path) {
            // A broken link was not pruned meanwhile.
            Err(ArchiveError::NotFound(_)) if path.is_symlink() => {
                let nowhere = io::Error::from(io::ErrorKind::NotFound);
                Err(with_path(nowhere, "open", &path).into())
            }
            opened => Ok(Arc::new(opened?)),
        }
    }

    fn prepare(&self) -> io::Result<()> {
        if self.path.is_dir() {
            return Ok(());
        }
        if self.path.exists() {
            return Err(self.is_a_file());
        }
        create_dirs(&self.path, PRIVATE)
    }

    fn receive(&self, name: &str) -> io::Result<Box<dyn PendingArchive>> {
        let incoming = Incoming {
            name: name.to_owned(),
            staged: StagedFile::create(&self.path)?,
            written: 0,
            written_back: 0,
        };
        refuse_taken(&incoming.staged, name)?;
        Ok(Box::new(incoming))
    }

    fn read_beside(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let path = self.path_of(name);
        let file = match FileSource::open(&path) {
            Ok(file) => file,
            Err(ArchiveError::NotFound(_)) => return Ok(None),
            Err(ArchiveError::Io(error)) => return Err(error),
            Err(error) => return Err(io::Error::other(error)),
        };
        refuse_large(file.length(), &path)?;
        let mut bytes = vec![0; file.length() as usize];
        file.read_exact_at(&mut bytes, 0)
            .map_err(|error| with_path(error, "read", &path))?;
        Ok(Some(bytes))
    }

    fn write_beside(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        StagedFile::holding(&Dir::open(&self.path)?, bytes)?.replace(OsStr::new(name))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let dir = self.open_listed()?;
        // The archive first: a checksum file without one does no harm and is removed later.
        remove_if_there(&dir.entry(name))?;
        for side in SIDES {
            remove_if_there(&dir.entry(format!("{name}{side}")))?;
        }
        dir.sync()
    }

    fn may_remove(&self, name: &str) -> io::Result<()> {
        let dir = self.open_listed()?;
        let names = [""].into_iter().chain(SIDES);
        let mut names = names.map(|side| format!("{name}{side}"));
        names.try_for_each(|name| dir.entry(name).may_remove())
    }

    fn orphans(&self, _now: Timestamp) -> io::Result<Vec<String>> {
        let names = self.names().map_err(|error| match error {
            RepositoryError::Io(error) => error,
            gone @ RepositoryError::NotFound(_) => io::Error::new(io::ErrorKind::NotFound, gone),
        })?;
        let is_there = |of: &str| {
            names
                .binary_search_by(|(name, _)| name.as_str().cmp(of))
                .is_ok()
        };
        let is_orphan = |name: &&String| beside_of(name).is_some_and(|of| !is_there(of));
        let names = names.iter().map(|(name, _)| name);
        Ok(names.filter(is_orphan).cloned().collect())
    }

    fn remove_orphan(&self, name: &str, _now: Timestamp) -> io::Result<()> {
        // Checked once more: an archive may have been added since the directory was read.
        let dir = self.open_listed()?;
        if beside_of(name).is_some_and(|of| dir.entry(of).is_free()) {
            remove_if_there(&dir.entry(name))?;
        }
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        crate::fs::space::free(&self.path).map(Some)
    }
}

/// An archive that is being written under a staging name.
#[derive(Debug)]
struct Incoming {
    name: String,
    staged: StagedFile,
    written: u64,
    /// Bytes for which the kernel was asked to start writing to the disk.
    written_back: u64,
}

impl PendingArchive for Incoming {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.staged.file().write_all(bytes);
        written.map_err(|error| with_path(error, "write", self.staged.path()))?;
        self.written += bytes.len() as u64;
        let waiting = self.written - self.written_back;
        if waiting >= WRITEBACK {
            // The disk works while the next bytes are read and checked.
            start_writeback(self.staged.file(), self.written_back, waiting);
            self.written_back = self.written;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<Arc<dyn Source>> {
        self.staged.sync_and_drop_cache()?;
        let source = FileSource::open(self.staged.path()).map_err(io::Error::other)?;
        Ok(Arc::new(source))
    }

    fn publish(self: Box<Self>, sides: &[CompanionFile]) -> io::Result<()> {
        publish(self.staged, &self.name, sides)
    }
}

/// Renames a staged archive to its name after writing `sides` beside it: an archive that is there is
/// complete, even if the run is killed at any time.
pub(crate) fn publish(archive: StagedFile, name: &str, sides: &[CompanionFile]) -> io::Result<()> {
    let mut beside = Vec::new();
    for side in sides {
        let file = StagedFile::holding(archive.dir(), &side.bytes)?;
        beside.push((file, format!("{name}{}", side.extension)));
    }
    refuse_taken(&archive, name)?;
    for (file, name) in beside {
        // A file of that name without an archive was left by a killed run.
        file.replace(name.as_ref())?;
    }
    archive.publish(name.as_ref())
}

fn refuse_taken(archive: &StagedFile, name: &str) -> io::Result<()> {
    let entry = archive.dir().entry(name);
    if entry.is_free() {
        return Ok(());
    }
    let exists = io::ErrorKind::AlreadyExists.into();
    Err(with_path(exists, "rename the new file to", &entry.path()))
}

/// Device and inode.
fn identity(dir: &Dir) -> io::Result<(u64, u64)> {
    let metadata = dir.file().metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

fn remove_if_there(entry: &Entry) -> io::Result<()> {
    match entry.remove() {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_the_place_of_the_listed_directory_loses_nothing() {
        // Its owner leads root, who prunes it, to another directory with archives of the same names.
        let scratch = tempfile::tempdir().unwrap();
        let [own, other, aside] = ["own", "other", "aside"].map(|name| scratch.path().join(name));
        let name = "etcd-infra0-20261127T000000.000Z-000000000000000f.tar.zst";
        for dir in [&own, &other] {
            std::fs::create_dir(dir).unwrap();
            for side in ["", SIDES[0]] {
                std::fs::write(dir.join(format!("{name}{side}")), b"").unwrap();
            }
        }
        let directory = Directory::new(&own);
        assert_eq!(directory.list().unwrap().len(), 1);
        std::fs::rename(&own, aside).unwrap();
        std::os::unix::fs::symlink(&other, &own).unwrap();
        for refused in [
            directory.remove(name),
            directory.remove_orphan(&format!("{name}{}", SIDES[0]), Timestamp::UNIX_EPOCH),
        ] {
            let told = refused.unwrap_err().to_string();
            assert!(
                told.contains("another directory than the one that was listed"),
                "{told}"
            );
        }
        assert!(other.join(name).exists());
    }
}
