//! A lock on a backup dir, so that one run at a time works on it; the kernel frees it when its holder dies.
//!
//! In: the backup dir, and who wants it. Out: a [`BackupLock`], held until it is dropped, or its
//! holder's name. The lock is a `flock` on a file that stays in the directory. The file's content is
//! only for people: a line that a killed run left has no effect, because its lock is free.

use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt;
use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use crate::etcd::text::printable;
use crate::fs::dir::{Dir, not_regular};
use crate::fs::error::with_path;
use crate::fs::owner::give_to_owner_of;
use crate::interrupt::{Interrupt, Interrupted};

/// The file's name: it begins like staged files, but ends otherwise, so that no clean-up removes it.
pub const LOCK_FILE: &str = ".etcd-ark-lock";
/// How often a held lock is tried again.
const POLL: Duration = Duration::from_millis(100);
/// How much of the holder's line is read, in bytes.
const LONGEST_HOLDER: u64 = 500;

/// The run that wants the lock, and how long it waits.
#[derive(Clone, Debug)]
pub struct LockRequest {
    /// The file's content while it is held: one line that names the run.
    pub holder: String,
    pub wait: Duration,
}

/// The lock on a backup dir; dropping it frees it.
#[derive(Debug)]
pub struct BackupLock {
    /// `None` if the filesystem does not support locks.
    file: Option<fs::File>,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("the backup dir `{}` is locked by {}", dir.display(), holder.as_deref().unwrap_or("another process (unknown)"))]
    Busy {
        dir: PathBuf,
        holder: Option<String>,
        waited: bool,
    },
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

enum Tried {
    Taken(fs::File),
    Held(fs::File),
    /// The file was removed, or created again, after it was opened.
    Gone,
    NotSupported,
}

impl BackupLock {
    /// Takes the lock on `dir`, which must exist.
    pub fn take(dir: &Path, claim: &LockRequest, interrupt: &Interrupt) -> Result<Self, LockError> {
        let file = wait_for(dir, claim, Missing::Made, interrupt)?;
        if let Some(file) = &file {
            sign(file, &claim.holder)?;
        }
        Ok(Self { file })
    }

    /// Whether [`BackupLock::take`] would get an effective lock, after the same wait. Changes nothing.
    pub fn look(dir: &Path, claim: &LockRequest, interrupt: &Interrupt) -> Result<bool, LockError> {
        let there = fs::symlink_metadata(dir.join(LOCK_FILE));
        if there.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return Ok(true);
        }
        Ok(wait_for(dir, claim, Missing::Left, interrupt)?.is_some())
    }

    /// Whether the lock is effective. It is not if the filesystem does not support locks; the run then continues:
    /// archives get their names without overwriting, so no backup is at risk.
    pub fn keeps_others_out(&self) -> bool {
        self.file.is_some()
    }
}

impl Drop for BackupLock {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // The next holder must not appear under our name before it has written its own.
            let _ = file.file().set_len(0);
        }
    }
}

/// What to do about a missing lock file.
#[derive(Clone, Copy)]
enum Missing {
    Made,
    Left,
}

/// The locked file; `None` if the filesystem does not support locks.
fn wait_for(
    dir: &Path,
    claim: &LockRequest,
    missing: Missing,
    interrupt: &Interrupt,
) -> Result<Option<fs::File>, LockError> {
    // A time beyond the clock's range means no limit.
    let until = Instant::now().checked_add(claim.wait);
    loop {
        interrupt.check()?;
        match try_once(dir, missing)? {
            Tried::Taken(file) => return Ok(Some(file)),
            Tried::NotSupported => return Ok(None),
            Tried::Gone => {}
            Tried::Held(file) if until.is_some_and(|until| Instant::now() >= until) => {
                let (dir, holder) = (dir.to_path_buf(), holder_of(&file));
                let waited = !claim.wait.is_zero();
                return Err(LockError::Busy {
                    dir,
                    holder,
                    waited,
                });
            }
            Tried::Held(_) => std::thread::sleep(POLL),
        }
    }
}

fn try_once(dir: &Path, missing: Missing) -> Result<Tried, LockError> {
    let path = dir.join(LOCK_FILE);
    let Some(file) = open(dir, &path, missing)? else {
        return Ok(Tried::Gone);
    };
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(with_path(not_regular(), "lock", &path).into());
    }
    if found.nlink() > 1 {
        // As a symlink: by a second name the owner of the directory could have another file truncated.
        let text = format!("`{}` is a hard link: remove it", path.display());
        return Err(io::Error::other(text).into());
    }
    match rustix::fs::flock(file.file(), FlockOperation::NonBlockingLockExclusive) {
        Ok(()) if is_at(&file, &path)? => Ok(Tried::Taken(file)),
        Ok(()) => Ok(Tried::Gone),
        Err(Errno::WOULDBLOCK) => Ok(Tried::Held(file)),
        Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(Tried::NotSupported),
        Err(error) => Err(with_path(error.into(), "lock", &path).into()),
    }
}

/// Opens the file at `path`, creating it if `missing` says so; `None` if another run creates it first.
fn open(dir: &Path, path: &Path, missing: Missing) -> io::Result<Option<fs::File>> {
    let mut options = fs::OpenOptions::new();
    // By a link the owner of the directory could have another file of ours truncated.
    let no_link = OFlags::NOFOLLOW.bits().cast_signed();
    options.read(true).write(true).custom_flags(no_link);
    match options.open(path) {
        Err(error)
            if error.kind() == io::ErrorKind::NotFound && matches!(missing, Missing::Made) => {}
        opened => return opened.map(Some).map_err(|error| denied(error, dir)),
    }
    match options.create_new(true).mode(0o600).open(path) {
        Ok(file) => {
            // A snapshot by hand as root must not lock out the timer's user.
            give_to_owner_of(Dir::open(dir)?.file(), &file);
            Ok(Some(file))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(denied(error, dir)),
    }
}

/// The error of the directory, if it is `dir` that this account must not write to.
fn denied(error: io::Error, dir: &Path) -> io::Error {
    let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
    if is_denied && rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).is_err() {
        return with_path(error.kind().into(), "write to the backup dir", dir);
    }
    error
}

/// Whether `path` still names `file`: a lock on a removed file has no effect.
fn is_at(file: &fs::File, path: &Path) -> io::Result<bool> {
    let opened = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (opened.dev(), opened.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes the holder's name. An error is ignored on a full disk: this run could be the one that
/// frees space.
fn sign(file: &fs::File, holder: &str) -> io::Result<()> {
    file.set_len(0)?;
    match file
        .file()
        .write_all_at(format!("{holder}\n").as_bytes(), 0)
    {
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ) =>
        {
            Err(with_path(error, "write", file.path()))
        }
        _ => Ok(()),
    }
}

/// The line of the holder of the lock on `file`, if it has written one yet.
fn holder_of(file: &fs::File) -> Option<String> {
    for _ in 0..3 {
        let mut line = String::new();
        let read = fs::File::open(file.path())
            .and_then(|file| file.take(LONGEST_HOLDER).read_to_string(&mut line));
        let line = line.lines().next().unwrap_or_default();
        if read.is_ok() && !line.is_empty() {
            return Some(printable(line));
        }
        std::thread::sleep(POLL / 2);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(dir: &Path, holder: &str) -> Result<BackupLock, LockError> {
        let claim = LockRequest {
            holder: holder.to_owned(),
            wait: Duration::ZERO,
        };
        BackupLock::take(dir, &claim, &Interrupt::default())
    }

    #[test]
    fn what_a_dead_holder_wrote_is_never_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LOCK_FILE);
        fs::write(&path, "a run that was killed\n").unwrap();
        let held = take(dir.path(), "").unwrap();
        let error = take(dir.path(), "another").unwrap_err();
        assert!(error.to_string().contains("(unknown)"), "{error}");
        drop(held);
    }

    #[test]
    fn a_lock_file_that_is_removed_and_made_anew_locks_again() {
        // There must not be two holders, one of a removed file and one of the new file.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LOCK_FILE);
        let opened = open(dir.path(), &path, Missing::Made).unwrap().unwrap();
        assert!(is_at(&opened, &path).unwrap());
        fs::remove_file(&path).unwrap();
        assert!(!is_at(&opened, &path).unwrap());
        let _new = take(dir.path(), "of the new file").unwrap();
        assert!(!is_at(&opened, &path).unwrap());
    }

    #[test]
    fn a_link_or_a_pipe_in_its_place_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let precious = dir.path().join("precious");
        fs::write(&precious, "kept").unwrap();
        let lock = dir.path().join(LOCK_FILE);
        for link in [std::os::unix::fs::symlink, std::fs::hard_link] {
            link(&precious, &lock).unwrap();
            let error = take(dir.path(), "a run").unwrap_err();
            assert!(matches!(error, LockError::Io(_)), "{error}");
            assert_eq!(fs::read_to_string(&precious).unwrap(), "kept");
            fs::remove_file(&lock).unwrap();
        }
        rustix::fs::mkfifoat(rustix::fs::CWD, &lock, rustix::fs::Mode::RWXU).unwrap();
        let error = take(dir.path(), "a run").unwrap_err().to_string();
        assert!(error.ends_with("it is not a regular file"), "{error}");
    }
}
