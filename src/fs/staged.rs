//! Publishes a finished file or directory: staged under a reserved name, synced, then renamed.
//!
//! In: a directory to publish into. Out: either the whole thing under its final name, durable,
//! or nothing. Leftovers of a killed run are recognised by their names and free locks.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fs_err as fs;
use rustix::fs::{FlockOperation, OFlags};
use tempfile::NamedTempFile;

use crate::fs::dir::{Dir, Entry, is_exposed};
use crate::fs::owner::give_to_owner_of;

use crate::fs::error::with_path;

/// The prefix of every staged file and directory; no reader of archives or of data dirs accepts
/// such a name.
pub const STAGING_PREFIX: &str = ".etcd-ark-";
/// A staged thing younger than this may belong to a run that has not locked it yet.
const STALE_AFTER: Duration = Duration::from_secs(10);

/// A file that is being written under a staging name; removed on drop.
#[derive(Debug)]
pub struct StagedFile {
    dir: Arc<Dir>,
    temp: NamedTempFile<std::fs::File>,
}

impl StagedFile {
    /// A new, empty, locked file of mode 0600 in `dir`.
    pub fn create(dir: &Path) -> io::Result<Self> {
        Self::create_in(&Dir::open(dir)?)
    }

    /// The same, in an open directory.
    pub fn create_in(dir: &Arc<Dir>) -> io::Result<Self> {
        let temp = staging(dir, ".tmp", |name| {
            dir.create_file(name).map(fs::File::into_file)
        })?;
        lock_if_possible(temp.as_file());
        Ok(Self {
            dir: Arc::clone(dir),
            temp,
        })
    }

    /// A new file with these `bytes`, synced.
    pub fn holding(dir: &Arc<Dir>, bytes: &[u8]) -> io::Result<Self> {
        let staged = Self::create_in(dir)?;
        staged
            .file()
            .write_all(bytes)
            .map_err(|error| with_path(error, "write", staged.path()))?;
        staged.sync()?;
        Ok(staged)
    }

    pub fn file(&self) -> &std::fs::File {
        self.temp.as_file()
    }

    pub fn dir(&self) -> &Arc<Dir> {
        &self.dir
    }

    /// Its path while it is staged.
    pub fn path(&self) -> &Path {
        self.temp.path()
    }

    pub fn sync(&self) -> io::Result<()> {
        self.file()
            .sync_all()
            .map_err(|error| with_path(error, "sync", self.path()))
    }

    /// Syncs the file and drops it from the page cache, so that the next read comes from the disk.
    pub fn sync_and_drop_cache(&self) -> io::Result<()> {
        self.sync()?;
        forget_cached(self.file());
        Ok(())
    }

    /// Renames the file to its final name, which must be free, and makes that durable.
    pub fn publish(self, name: &OsStr) -> io::Result<()> {
        self.name(name, Entry::rename_to_free)
    }

    /// Renames the file over another one, and makes that durable.
    pub fn replace(self, name: &OsStr) -> io::Result<()> {
        self.name(name, Entry::rename_over)
    }

    fn name(
        self,
        name: &OsStr,
        rename: impl FnOnce(&Entry, &Entry) -> io::Result<()>,
    ) -> io::Result<()> {
        // The file stays open, and so locked, until it is renamed.
        let (file, temp) = self.temp.into_parts();
        let file = fs::File::from_parts(file, &temp);
        give_to_owner_of(self.dir.file(), &file);
        let staged = self.dir.entry(temp.file_name().unwrap_or_default());
        let named = self.dir.entry(name);
        rename(&staged, &named)?;
        let _ = temp.keep();
        // Something else was put under the staging name meanwhile, and has this name now.
        named.must_be(&file).inspect_err(|_| {
            let _ = named.remove();
        })?;
        self.dir.sync()
    }
}

/// Creates a file or directory in `dir` under a free staging name.
fn staging<T>(
    dir: &Dir,
    suffix: &str,
    make: impl Fn(&OsStr) -> io::Result<T>,
) -> io::Result<NamedTempFile<T>> {
    tempfile::Builder::new()
        .prefix(STAGING_PREFIX)
        .suffix(suffix)
        .make_in(dir.path(), |path| {
            make(path.file_name().unwrap_or_default())
        })
}

/// After how many bytes the kernel is asked to start writing them to the disk.
pub(crate) const WRITEBACK: u64 = 8 << 20;

/// Asks the kernel to start writing a range and to drop its pages when it can.
/// This is a hint: without support for it only speed is lost.
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
    place: Entry,
    dir: Arc<Dir>,
}

impl StagedDir {
    /// A new, empty, locked directory of mode 0700 in `parent`.
    pub fn create(parent: &Path) -> io::Result<Self> {
        Self::create_in(&Dir::open(parent)?)
    }

    /// The same, in an open directory.
    pub fn create_in(parent: &Arc<Dir>) -> io::Result<Self> {
        let made = staging(parent, ".staging", |name| parent.create_dir(name))?;
        let (dir, temp) = made.into_parts();
        let place = parent.entry(temp.file_name().unwrap_or_default());
        // It is removed as a directory.
        let _ = temp.keep();
        lock_if_possible(dir.file().file());
        Ok(Self { place, dir })
    }

    /// Its path while it is staged.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path to it that stays valid: if another account can replace a directory above it, this is the path
    /// by the open directory, which children of this process can use too.
    pub fn lasting_path(&self) -> io::Result<PathBuf> {
        if !is_exposed(self.place.dir.path())? {
            return Ok(self.path().to_path_buf());
        }
        let (process, file) = (std::process::id(), self.dir.file().as_raw_fd());
        Ok(PathBuf::from(format!("/proc/{process}/fd/{file}")))
    }

    /// Its name while it is staged.
    pub fn place(&self) -> &Entry {
        &self.place
    }

    pub fn dir(&self) -> &Arc<Dir> {
        &self.dir
    }

    /// Removes it now, and returns any error.
    pub fn remove(self) -> io::Result<()> {
        self.clear()
    }

    /// Removes it under its staging name only: after a rename it is published.
    fn clear(&self) -> io::Result<()> {
        self.place.must_be(self.dir.file())?;
        self.dir.clear()?;
        self.place.remove_dir()
    }
}

impl Drop for StagedDir {
    fn drop(&mut self) {
        let _ = self.clear();
    }
}

fn lock_if_possible(file: &std::fs::File) {
    // If locks are not supported nothing counts as stale, and all is left.
    let _ = rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive);
}

/// Removes what killed runs left staged in `dir`: with our prefix, old enough, and not locked.
/// What cannot be removed is left there and does no harm.
pub fn remove_stale(dir: &Path) {
    let Ok(dir) = Dir::open(dir) else {
        return;
    };
    for name in dir.names().unwrap_or_default() {
        let text = name.to_string_lossy();
        if text.starts_with(STAGING_PREFIX) {
            let _ = if text.ends_with(".staging") {
                remove_stale_dir(&dir, &name)
            } else if text.ends_with(".tmp") {
                remove_stale_file(&dir, &name)
            } else {
                Ok(())
            };
        }
    }
}

fn remove_stale_dir(dir: &Arc<Dir>, name: &OsStr) -> io::Result<()> {
    let staged = dir.open_dir(name)?;
    if is_stale(staged.file()) {
        staged.clear()?;
        dir.entry(name).remove_dir()?;
    }
    Ok(())
}

fn remove_stale_file(dir: &Arc<Dir>, name: &OsStr) -> io::Result<()> {
    let staged = dir.open_file(name, OFlags::NOFOLLOW | OFlags::NONBLOCK)?;
    if staged.metadata()?.is_file() && is_stale(&staged) {
        dir.entry(name).remove()?;
    }
    Ok(())
}

/// Whether it is old enough and not locked; then it is locked while it is open here.
fn is_stale(file: &fs::File) -> bool {
    let modified = file.metadata().and_then(|metadata| metadata.modified());
    let age = modified
        .ok()
        .and_then(|modified| SystemTime::now().duration_since(modified).ok());
    age.is_some_and(|age| age > STALE_AFTER)
        && rustix::fs::flock(file.file(), FlockOperation::NonBlockingLockExclusive).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A directory with one thing in it, or a file, last written this number of seconds ago.
    fn left(dir: &Path, name: &str, seconds: u64) -> std::fs::File {
        let path = dir.join(name);
        if name.ends_with(".staging") || name == "member" {
            fs::create_dir_all(path.join("member")).unwrap();
            fs::write(path.join("member/rest"), "rest").unwrap();
        } else {
            fs::write(&path, "rest").unwrap();
        }
        let file = std::fs::File::open(&path).unwrap();
        age(&file, seconds);
        file
    }

    fn age(file: &std::fs::File, seconds: u64) {
        let then = SystemTime::now() - Duration::from_secs(seconds);
        file.set_modified(then).unwrap();
    }

    fn names(dir: &Path) -> Vec<String> {
        let names = Dir::open(dir).unwrap().names().unwrap();
        names
            .iter()
            .map(|n| n.to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn only_what_is_staged_and_old_and_locked_by_no_one_is_removed() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        let kept = [
            ".etcd-ark-young.staging",
            ".etcd-ark-young.tmp",
            ".etcd-ark-locked.staging",
            ".etcd-ark-locked.tmp",
            ".etcd-ark-future.tmp",
            ".etcd-ark-lock",
            "member",
            "other.staging",
            "other.tmp",
        ];
        for name in kept {
            let file = left(dir, name, if name.contains("young") { 0 } else { 60 });
            if name.contains("future") {
                file.set_modified(SystemTime::now() + Duration::from_hours(1))
                    .unwrap();
            }
            if name.contains("locked") {
                lock_if_possible(&file);
                // Held until the end of the test.
                std::mem::forget(file);
            }
        }
        for name in [".etcd-ark-old.staging", ".etcd-ark-old.tmp"] {
            left(dir, name, 60);
        }
        symlink("member", dir.join(".etcd-ark-link.staging")).unwrap();
        let before: Vec<_> = names(dir);
        remove_stale(dir);
        let gone = |name: &&String| !name.contains("old.");
        assert_eq!(
            names(dir),
            before.iter().filter(gone).cloned().collect::<Vec<_>>()
        );
        assert_eq!(names(&dir.join("member/member")), ["rest"]);
        // A missing directory, and nothing to remove, are not errors.
        remove_stale(&dir.join("nowhere"));
    }

    #[test]
    fn a_staged_file_has_its_name_when_it_is_whole_and_else_leaves_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        let file = temp.path().join("file");
        drop(StagedFile::holding(&dir, b"first").unwrap());
        assert!(names(temp.path()).is_empty());
        let staged = StagedFile::holding(&dir, b"first").unwrap();
        // It is locked: no other run treats it as a leftover.
        age(staged.file(), 60);
        remove_stale(temp.path());
        staged.publish("file".as_ref()).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"first");
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let second = || StagedFile::holding(&dir, b"second").unwrap();
        let taken = second().publish("file".as_ref()).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&file).unwrap(), b"first");
        second().replace("file".as_ref()).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"second");
        assert_eq!(names(temp.path()), ["file"]);
    }

    #[test]
    fn a_staged_directory_goes_with_all_that_is_in_it_unless_it_has_another_name() {
        let temp = tempfile::tempdir().unwrap();
        let stage = || {
            let staged = StagedDir::create(temp.path()).unwrap();
            fs::create_dir(staged.path().join("sub")).unwrap();
            fs::write(staged.path().join("sub/file"), "rest").unwrap();
            staged
        };
        drop(stage());
        stage().remove().unwrap();
        assert!(names(temp.path()).is_empty());
        let published = stage();
        let place = published.place().clone();
        place.rename_to_free(&place.dir.entry("published")).unwrap();
        published.remove().unwrap_err();
        assert_eq!(names(&temp.path().join("published/sub")), ["file"]);
        let staged = stage();
        age(staged.dir().file().file(), 60);
        remove_stale(temp.path());
        // If no other account can rename, the path by name is the one that stays valid.
        if !is_exposed(temp.path()).unwrap() {
            assert_eq!(staged.lasting_path().unwrap(), staged.path());
        }
        fs::set_permissions(temp.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let lasting = staged.lasting_path().unwrap();
        let aside = staged.place().dir.entry("aside");
        staged.place().rename_to_free(&aside).unwrap();
        assert!(lasting.join("sub/file").exists());
        drop(staged);
        assert_eq!(names(temp.path()), ["aside", "published"]);
    }
}
