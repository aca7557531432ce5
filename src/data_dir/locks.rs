//! Whether an etcd runs on a directory.
//!
//! etcd 2.x holds a `flock` on its segments, 3.x an open-file-description lock, and 3.x also a
//! `flock` on `snap/db`. On a source no lock may be taken, not even for an instant: a starting
//! etcd would exit. So locks on a source are only queried: by `/proc/locks`, and by `F_GETLK`.
//! On a target that is about to be replaced the locks are tried,
//! because `/proc/locks` can be incomplete in a container (formats page §1).

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fs_err as fs;
use rustix::fs::FlockOperation;
use rustix::process::{Flock, FlockOffsetType, FlockType, Pid};

use crate::fs::dir::open_regular;

/// A sign that etcd runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    pub file: PathBuf,
    /// The process that holds the lock, if the kernel reports it.
    pub pid: Option<i32>,
}

/// Finds out, without taking any lock, whether a process holds a lock on one of `files`.
pub fn is_running<'p>(files: impl Iterator<Item = &'p Path>) -> io::Result<Option<Running>> {
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    for path in files {
        let Some(file) = open(path)? else { continue };
        let metadata = file.metadata()?;
        let held = holder_in(&locks, metadata.dev(), metadata.ino());
        if let Some(pid) = held.or_else(|| holder_of_range(&file)) {
            return Ok(Some(Running {
                file: path.to_path_buf(),
                pid: (pid > 0).then_some(pid),
            }));
        }
    }
    Ok(None)
}

/// Locks on files that are about to be replaced: an etcd that starts meanwhile exits by itself.
#[derive(Debug, Default)]
pub struct HeldLocks(Vec<fs::File>);

/// Takes both kinds of lock on each of `files` and holds them, or returns the holder of one. Only for
/// files that are about to be replaced.
pub fn take_locks<'p>(
    files: impl Iterator<Item = &'p Path>,
) -> io::Result<Result<HeldLocks, Running>> {
    let mut held = HeldLocks::default();
    for path in files {
        let Some(file) = open(path)? else { continue };
        let flocked = rustix::fs::flock(file.file(), FlockOperation::NonBlockingLockExclusive);
        // Shared, which a file open for reading allows; etcd's is exclusive.
        let shared = FlockOperation::NonBlockingLockShared;
        let is_held = |outcome: Result<(), rustix::io::Errno>| {
            use rustix::io::Errno;
            matches!(outcome, Err(Errno::WOULDBLOCK | Errno::ACCESS))
        };
        if is_held(flocked) || is_held(rustix::fs::fcntl_lock(file.file(), shared)) {
            return Ok(Err(Running {
                file: path.to_path_buf(),
                pid: None,
            }));
        }
        held.0.push(file);
    }
    Ok(Ok(held))
}

/// The file at `path`; `None` if it is gone, or is not one that etcd could have locked.
fn open(path: &Path) -> io::Result<Option<fs::File>> {
    use io::ErrorKind::{InvalidInput, NotFound};
    match open_regular(path) {
        Err(error) if matches!(error.kind(), NotFound | InvalidInput) => Ok(None),
        opened => opened.map(Some),
    }
}

/// The holder of a record lock, or of an open-file-description lock (which has no process: -1,
/// which rustix refuses with debug assertions: the profiles turn those off for it).
fn holder_of_range(file: &fs::File) -> Option<i32> {
    let whole_file = Flock {
        start: 0,
        length: 0,
        pid: None,
        typ: FlockType::WriteLock,
        offset_type: FlockOffsetType::Set,
    };
    let blocking = rustix::process::fcntl_getlk(file.file(), &whole_file).ok()??;
    Some(blocking.pid.map_or(-1, Pid::as_raw_pid))
}

/// The holder of a lock on a device and inode, from the text of `/proc/locks`:
/// `1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF`, with a `->` before a waiter.
fn holder_in(locks: &str, device: u64, inode: u64) -> Option<i32> {
    let device = (rustix::fs::major(device), rustix::fs::minor(device));
    locks.lines().find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [.., pid, file, _, _] = words.as_slice() else {
            return None;
        };
        let mut parts = file.split(':');
        let major = u32::from_str_radix(parts.next()?, 16).ok()?;
        let minor = u32::from_str_radix(parts.next()?, 16).ok()?;
        let found: u64 = parts.next()?.parse().ok()?;
        (device == (major, minor) && found == inode && !words.contains(&"->"))
            .then(|| pid.parse().unwrap_or(-1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_held_by_another_description_is_seen_without_taking_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0000000000000000-0000000000000000.wal");
        fs::write(&path, b"x").unwrap();
        assert_eq!(is_running([path.as_path()].into_iter()).unwrap(), None);
        let holder = fs::File::open(&path).unwrap();
        rustix::fs::flock(holder.file(), FlockOperation::LockExclusive).unwrap();
        let seen = is_running([path.as_path()].into_iter()).unwrap().unwrap();
        assert_eq!(seen.file, path);
        let try_it = || take_locks([path.as_path()].into_iter()).unwrap();
        assert!(try_it().is_err());
        drop(holder);
        let held = try_it().unwrap();
        assert!(try_it().is_err(), "held until dropped");
        drop(held);
        assert!(try_it().is_ok());
    }

    #[test]
    fn lines_of_proc_locks_are_told_apart() {
        let locks = "1: FLOCK  ADVISORY  WRITE 77 fe:00:5678 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 78 fe:00:9 0 EOF\n\
                     3: OFDLCK ADVISORY  WRITE -1 fe:00:12 0 EOF\n";
        let device = rustix::fs::makedev(0xfe, 0);
        assert_eq!(holder_in(locks, device, 5678), Some(77));
        assert_eq!(holder_in(locks, device, 9), None);
        assert_eq!(holder_in(locks, device, 12), Some(-1));
        assert_eq!(holder_in(locks, device, 13), None);
    }
}
