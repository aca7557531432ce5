//! Making a finished thing appear: staged under a name no one looks for, synced, then renamed.
//!
//! In: a directory to publish into. Out: either the whole thing under its final name, durable,
//! or nothing. What a killed run left staged is recognised by its name and its free lock.

use std::io;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fs_err as fs;
use rustix::fs::{CWD, FlockOperation, RenameFlags};
use tempfile::{NamedTempFile, TempDir};

/// How every staged file and directory begins; no reader of archives or of data dirs takes
/// a name like this for its own.
pub const STAGING_PREFIX: &str = ".etcd-ark-";
/// A staged thing younger than this may belong to a run that has not locked it yet.
const STALE_AFTER: Duration = Duration::from_secs(10);

/// A file that is being written under a staging name; removed on drop.
#[derive(Debug)]
pub struct StagedFile {
    temp: NamedTempFile,
}

impl StagedFile {
    /// A new, empty, locked file of mode 0600 in `dir`.
    pub fn create(dir: &Path) -> io::Result<Self> {
        let temp = tempfile::Builder::new()
            .prefix(STAGING_PREFIX)
            .suffix(".tmp")
            .tempfile_in(dir)
            .map_err(|error| with_path(error, "create a file in", dir))?;
        lock_if_possible(temp.as_file());
        Ok(Self { temp })
    }

    /// A new file with `bytes` in it, on the disk already.
    pub fn holding(dir: &Path, bytes: &[u8]) -> io::Result<Self> {
        let staged = Self::create(dir)?;
        staged
            .file()
            .write_all(bytes)
            .map_err(|error| with_path(error, "write", staged.path()))?;
        staged.sync()?;
        Ok(staged)
    }

    /// The open file.
    pub fn file(&self) -> &std::fs::File {
        self.temp.as_file()
    }

    /// Where it is staged.
    pub fn path(&self) -> &Path {
        self.temp.path()
    }

    /// Forces everything written to the disk.
    pub fn sync(&self) -> io::Result<()> {
        self.file()
            .sync_all()
            .map_err(|error| with_path(error, "sync", self.path()))
    }

    /// Forces everything written to the disk and then out of the page cache, so that the next
    /// read comes from the disk.
    pub fn sync_and_drop_cache(&self) -> io::Result<()> {
        self.sync()?;
        forget_cached(self.file());
        Ok(())
    }

    /// Gives the file its final name, which must be free, and makes that name durable.
    pub fn publish(self, target: &Path) -> io::Result<()> {
        // The file stays open, and so locked, until it has its name.
        let (_file, temp) = self.temp.into_parts();
        temp.persist_noclobber(target)
            .map_err(|failed| with_path(failed.error, "give the new file its name", target))?;
        sync_parent(target)
    }

    /// Gives the file the name of another one, in whose place it comes, and makes that durable.
    pub fn replace(self, target: &Path) -> io::Result<()> {
        let (_file, temp) = self.temp.into_parts();
        temp.persist(target)
            .map_err(|failed| with_path(failed.error, "replace", target))?;
        sync_parent(target)
    }
}

/// Asks the kernel to start writing a range and to let its pages go when it can.
/// A hint: a filesystem that does not know it loses nothing but time.
pub fn start_writeback(file: &std::fs::File, from: u64, length: u64) {
    if let Some(length) = std::num::NonZeroU64::new(length) {
        let _ = rustix::fs::fadvise(file, from, Some(length), rustix::fs::Advice::DontNeed);
    }
}

fn forget_cached(file: &std::fs::File) {
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
}

/// A directory that is being filled under a staging name; removed with all below it on drop.
#[derive(Debug)]
pub struct StagedDir {
    temp: TempDir,
    _lock: fs::File,
}

impl StagedDir {
    /// A new, empty, locked directory of mode 0700 in `parent`.
    pub fn create(parent: &Path) -> io::Result<Self> {
        let temp = tempfile::Builder::new()
            .prefix(STAGING_PREFIX)
            .suffix(".staging")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in(parent)
            .map_err(|error| with_path(error, "create a directory in", parent))?;
        let lock = fs::File::open(temp.path())?;
        lock_if_possible(lock.file());
        Ok(Self { temp, _lock: lock })
    }

    /// Where it is staged.
    pub fn path(&self) -> &Path {
        self.temp.path()
    }

    /// Removes it now, and says so if that fails.
    pub fn remove(self) -> io::Result<()> {
        let path = self.temp.path().to_path_buf();
        self.temp
            .close()
            .map_err(|error| with_path(error, "remove", &path))
    }
}

fn lock_if_possible(file: &std::fs::File) {
    // Where locks are not supported nothing is ever taken for stale, and all is left.
    let _ = rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive);
}

/// Removes what killed runs left staged in `dir`: ours by name, old enough, and locked by nobody.
/// What cannot be removed is left: it stops nothing.
pub fn remove_stale(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with(STAGING_PREFIX) || !is_stale(&entry.path()) {
            continue;
        }
        if name.ends_with(".staging") {
            let _ = fs::remove_dir_all(entry.path());
        } else if name.ends_with(".tmp") {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn is_stale(path: &Path) -> bool {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return false;
    };
    let age = metadata
        .modified()
        .ok()
        .and_then(|modified| SystemTime::now().duration_since(modified).ok());
    if !metadata.is_file() && !metadata.is_dir() {
        return false;
    }
    let Ok(file) = fs::File::open(path) else {
        return false;
    };
    age.is_some_and(|age| age > STALE_AFTER)
        && rustix::fs::flock(file.file(), FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// Renames `from` to `to`, which must be free. Durable once both directories are synced, see
/// [`sync_parents`]: two steps, so that the caller knows which of them failed.
pub fn rename_to_free_name(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            // The filesystem cannot refuse by itself. A plain rename replaces only a file or
            // an empty directory, so looking first is the whole protection there is.
            if fs::symlink_metadata(to).is_ok() {
                return Err(with_path(
                    io::ErrorKind::AlreadyExists.into(),
                    "rename to",
                    to,
                ));
            }
            fs::rename(from, to)?;
        }
        Err(error) => return Err(with_path(error.into(), "rename to", to)),
        Ok(()) => {}
    }
    Ok(())
}

/// Exchanges two directory entries in one step; not durable yet, see [`sync_parents`].
pub fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)
        .map_err(|error| with_path(error.into(), "exchange with", other))
}

/// Makes the names of two directory entries durable.
pub fn sync_parents(one: &Path, other: &Path) -> io::Result<()> {
    sync_parent(one)?;
    sync_parent(other)
}

/// Makes a directory's entries durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    sync_dir(&parent_of(path))
}

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
