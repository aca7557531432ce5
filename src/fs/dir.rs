//! Open directories, and names in them.
//!
//! Root works in directories of other accounts, which may replace any name there by a symlink at any time. Nothing here
//! follows one: a name is looked up in an open directory, and owner and mode are set on open files. In a path that the
//! user gives, root follows the symlinks that [`resolve`] allows.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Stat, StatxAttributes, StatxFlags,
};
use rustix::io::Errno;

use crate::fs::error::{parent_of, with_path};
use crate::fs::owner::give_to_owner_of;

/// Flags to open a directory without following a symlink.
const DIRECTORY: OFlags = OFlags::DIRECTORY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// The mode of a directory that only its owner enters.
pub const PRIVATE: u32 = 0o700;
/// The mode of a directory that all may read.
pub const PUBLIC: u32 = 0o755;

/// Creates the directory at `path` and its missing parents; each belongs to the owner of the directory that it is in,
/// also if root creates it.
pub fn create_dirs(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = parent_of(path);
    create_dirs(&parent, mode)?;
    let entry = Entry::at(path)?;
    match rustix::fs::mkdirat(&entry.dir.0, &entry.name, Mode::from_raw_mode(mode)) {
        Err(Errno::EXIST) if path.is_dir() => Ok(()),
        Err(error) => Err(with_path(error.into(), "create the directory", path)),
        Ok(()) => {
            give_to_owner_of(entry.dir.file(), entry.dir.open_dir(&entry.name)?.file());
            Ok(())
        }
    }
}

/// Another account could lead root by such a link to any file or directory.
#[derive(Debug, thiserror::Error)]
#[error(
    "it is a symbolic link of user {link} and leads to what belongs to user {owner}: root does not follow it"
)]
pub struct ForeignLink {
    link: u32,
    owner: u32,
}

/// How many symlinks a path may have, as for the kernel.
const MOST_LINKS: usize = 40;

/// The absolute path without symlinks that `path` leads to. Root follows a symlink only if it is root's own or belongs to
/// the owner of what it leads to; any other is an error that holds a [`ForeignLink`].
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    if !rustix::process::geteuid().is_root() {
        return fs::canonicalize(path);
    }
    follow(PathBuf::from("/"), &std::path::absolute(path)?, &mut 0)
}

/// Follows `path` from `real`, which has no symlink.
fn follow(mut real: PathBuf, path: &Path, links: &mut usize) -> io::Result<PathBuf> {
    for part in path.components() {
        let name = match part {
            Component::Normal(name) => name,
            Component::ParentDir => {
                real.pop();
                continue;
            }
            Component::RootDir => {
                real = PathBuf::from("/");
                continue;
            }
            Component::CurDir | Component::Prefix(_) => continue,
        };
        let next = real.join(name);
        let found = fs::symlink_metadata(&next)?;
        if !found.is_symlink() {
            real = next;
            continue;
        }
        *links += 1;
        if *links > MOST_LINKS {
            return Err(with_path(Errno::LOOP.into(), "follow", &next));
        }
        real = follow(real, &fs::read_link(&next)?, links)?;
        let (link, owner) = (found.uid(), fs::symlink_metadata(&real)?.uid());
        if ![0, owner].contains(&link) {
            let why = io::Error::other(ForeignLink { link, owner });
            return Err(with_path(why, "follow", &next));
        }
    }
    Ok(real)
}

#[derive(Debug)]
pub struct Dir(fs::File);

impl Dir {
    /// The directory at `path`, as the user gives it: symlinks are followed, see [`resolve`].
    pub fn open(path: &Path) -> io::Result<Arc<Self>> {
        if rustix::process::geteuid().is_root() {
            return Self::open_as(&resolve(path)?, path);
        }
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(CWD, path, flags, Mode::empty())
            .map_err(|error| with_path(error.into(), "open", path))?;
        Ok(Arc::new(Self(fs::File::from_parts(dir.into(), path))))
    }

    /// The directory at an absolute path with resolved symlinks: one that was made since is an error.
    pub fn open_resolved(path: &Path) -> io::Result<Arc<Self>> {
        Self::open_as(path, path)
    }

    /// The directory at the absolute path `real`, with resolved symlinks, under the path of which messages speak.
    fn open_as(real: &Path, path: &Path) -> io::Result<Arc<Self>> {
        let open = |dir: BorrowedFd<'_>, name: &OsStr, flags| {
            rustix::fs::openat(dir, name, DIRECTORY | flags, Mode::empty())
                .map_err(|error| with_path(error.into(), "open", path))
        };
        let mut dir = open(CWD, OsStr::new("/"), OFlags::PATH)?;
        for name in real.components().skip(1) {
            dir = open(dir.as_fd(), name.as_os_str(), OFlags::PATH)?;
        }
        let dir = open(dir.as_fd(), OsStr::new("."), OFlags::RDONLY)?;
        Ok(Arc::new(Self(fs::File::from_parts(dir.into(), path))))
    }

    pub fn open_dir(&self, name: &OsStr) -> io::Result<Arc<Self>> {
        let dir = self.open_at(name, DIRECTORY, Mode::empty(), "open")?;
        Ok(Arc::new(Self(dir)))
    }

    pub fn open_file(&self, name: &OsStr, flags: OFlags) -> io::Result<fs::File> {
        self.open_at(name, flags, Mode::empty(), "open")
    }

    fn open_at(
        &self,
        name: &OsStr,
        flags: OFlags,
        mode: Mode,
        action: &str,
    ) -> io::Result<fs::File> {
        let path = self.path().join(name);
        let opened = rustix::fs::openat(&self.0, name, OFlags::CLOEXEC | flags, mode);
        let opened = opened.map_err(|error| with_path(error.into(), action, &path))?;
        Ok(fs::File::from_parts(opened.into(), path))
    }

    /// Creates a directory `name` of mode 0700 in it.
    pub fn create_dir(&self, name: &OsStr) -> io::Result<Arc<Self>> {
        let path = self.path().join(name);
        rustix::fs::mkdirat(&self.0, name, Mode::RWXU)
            .map_err(|error| with_path(error.into(), "create the directory", &path))?;
        // An account that may rename here can have replaced it by its own directory, and gets only what it owns already.
        self.open_dir(name).inspect_err(|_| {
            let _ = rustix::fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR);
        })
    }

    /// Creates a file `name` of mode 0600 in it.
    pub fn create_file(&self, name: &OsStr) -> io::Result<fs::File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        self.open_at(name, flags, Mode::RUSR | Mode::WUSR, "create the file")
    }

    pub fn clear(&self) -> io::Result<()> {
        for name in self.names()? {
            let flags = match self.open_dir(&name) {
                Ok(dir) => {
                    dir.clear()?;
                    AtFlags::REMOVEDIR
                }
                Err(_) => AtFlags::empty(),
            };
            rustix::fs::unlinkat(&self.0, &name, flags)
                .map_err(|error| with_path(error.into(), "remove", &self.path().join(&name)))?;
        }
        Ok(())
    }

    pub fn entry(self: &Arc<Self>, name: impl Into<OsString>) -> Entry {
        Entry {
            dir: Arc::clone(self),
            name: name.into(),
        }
    }

    /// The names in it, sorted.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        use std::os::unix::ffi::OsStringExt as _;
        let read = || -> rustix::io::Result<Vec<OsString>> {
            let mut names = Vec::new();
            for entry in rustix::fs::Dir::read_from(&self.0)? {
                let name = entry?.file_name().to_bytes().to_vec();
                if name != b"." && name != b".." {
                    names.push(OsString::from_vec(name));
                }
            }
            names.sort();
            Ok(names)
        };
        read().map_err(|error| with_path(error.into(), "list", self.path()))
    }

    pub fn is_link(&self, name: &OsStr) -> bool {
        let found = rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW);
        found.is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Symlink)
    }

    /// Its path when it was opened.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Its open file: to lock it, or to set its owner and mode.
    pub fn file(&self) -> &fs::File {
        &self.0
    }

    pub fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}

/// A name in an open directory, whether it exists or not.
#[derive(Clone, Debug)]
pub struct Entry {
    pub dir: Arc<Dir>,
    /// The name, without any directory.
    pub name: OsString,
}

impl Entry {
    /// The last name of `path`, in the directory that holds it.
    pub fn at(path: &Path) -> io::Result<Self> {
        let dir = Dir::open(&crate::fs::error::parent_of(path))?;
        Ok(dir.entry(path.file_name().unwrap_or_default()))
    }

    /// Its path, for messages.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join(&self.name)
    }

    /// This name, or, if it exists, the first free one of `NAME-2`, `NAME-3` and so on.
    #[must_use]
    pub fn free(mut self) -> Self {
        let name = self.name.clone();
        for number in 2.. {
            if self.stat().is_none() {
                break;
            }
            self.name.clone_from(&name);
            self.name.push(format!("-{number}"));
        }
        self
    }

    /// The status of what has the name; symlinks are not followed.
    fn stat(&self) -> Option<Stat> {
        rustix::fs::statat(&self.dir.0, &self.name, AtFlags::SYMLINK_NOFOLLOW).ok()
    }

    pub fn is_free(&self) -> bool {
        self.stat().is_none()
    }

    /// Fails unless the name is still that of the open file or directory.
    pub fn must_be(&self, made: &fs::File) -> io::Result<()> {
        let own = made.metadata()?;
        match self.stat() {
            Some(now) if (now.st_dev, now.st_ino) == (own.dev(), own.ino()) => Ok(()),
            _ => Err(changed(&self.path())),
        }
    }

    /// Renames it to `to`, which must be free. Not durable yet: see [`Entry::sync_with`].
    pub fn rename_to_free(&self, to: &Self) -> io::Result<()> {
        let failed = |error: Errno| with_path(error.into(), "rename to", &to.path());
        let (from_dir, to_dir) = (&self.dir.0, &to.dir.0);
        match rustix::fs::renameat_with(
            from_dir,
            &self.name,
            to_dir,
            &to.name,
            RenameFlags::NOREPLACE,
        ) {
            Err(Errno::INVAL | Errno::NOSYS) => {}
            renamed => return renamed.map_err(failed),
        }
        // The filesystem cannot refuse to replace. A file can have two names for a moment; a plain rename of a
        // directory replaces only an empty one, so checking first is all that can be done.
        let is_file = |stat: Stat| FileType::from_raw_mode(stat.st_mode).is_file();
        if self.stat().is_some_and(is_file) {
            rustix::fs::linkat(from_dir, &self.name, to_dir, &to.name, AtFlags::empty())
                .map_err(failed)?;
            return self.remove();
        }
        if !to.is_free() {
            return Err(failed(Errno::EXIST));
        }
        self.rename_over(to)
    }

    /// Renames it to `to`, replacing what is there. Not durable yet.
    pub fn rename_over(&self, to: &Self) -> io::Result<()> {
        rustix::fs::renameat(&self.dir.0, &self.name, &to.dir.0, &to.name)
            .map_err(|error| with_path(error.into(), "rename to", &to.path()))
    }

    /// Exchanges two names in one step; not durable yet.
    pub fn exchange(&self, other: &Self) -> io::Result<()> {
        let flags = RenameFlags::EXCHANGE;
        rustix::fs::renameat_with(&self.dir.0, &self.name, &other.dir.0, &other.name, flags)
            .map_err(|error| with_path(error.into(), "exchange with", &other.path()))
    }

    /// Makes both names durable.
    pub fn sync_with(&self, other: &Self) -> io::Result<()> {
        self.dir.sync()?;
        if !Arc::ptr_eq(&self.dir, &other.dir) {
            other.dir.sync()?;
        }
        Ok(())
    }

    pub fn remove(&self) -> io::Result<()> {
        self.unlink(AtFlags::empty())
    }

    /// Fails as [`Entry::remove`] would, as far as that can be told without a try. A name that is free may be removed.
    pub fn may_remove(&self) -> io::Result<()> {
        let Some(found) = self.stat() else {
            return Ok(());
        };
        let dir = self.dir.file().metadata()?;
        let own = rustix::process::geteuid().as_raw();
        let is_sticky = dir.mode() & 0o1000 != 0;
        let is_foreign = ![found.st_uid, dir.uid()].contains(&own) && own != 0;
        let fault = if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            Errno::ISDIR
        } else if is_sticky && is_foreign || self.is_immutable() {
            Errno::PERM
        } else {
            return Ok(());
        };
        Err(with_path(fault.into(), "remove", &self.path()))
    }

    /// Whether the filesystem lets no account remove it; false where the kernel cannot tell.
    fn is_immutable(&self) -> bool {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let found = rustix::fs::statx(&self.dir.0, &self.name, flags, StatxFlags::empty());
        let holds = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
        found.is_ok_and(|found| found.stx_attributes.intersects(holds))
    }

    pub fn remove_dir(&self) -> io::Result<()> {
        self.unlink(AtFlags::REMOVEDIR)
    }

    fn unlink(&self, flags: AtFlags) -> io::Result<()> {
        rustix::fs::unlinkat(&self.dir.0, &self.name, flags)
            .map_err(|error| with_path(error.into(), "remove", &self.path()))
    }
}

/// Whether an account other than this one and root can rename a directory on the way to `path`.
pub fn is_exposed(path: &Path) -> io::Result<bool> {
    let own = rustix::process::geteuid().as_raw();
    for dir in fs::canonicalize(path)?.ancestors() {
        let found = fs::metadata(dir)?;
        let (owner, mode) = (found.uid(), found.mode());
        if ![0, own].contains(&owner) || mode & 0o022 != 0 && mode & 0o1000 == 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

fn changed(path: &Path) -> io::Error {
    let why = "something else has this name now: another program renames here";
    with_path(io::Error::other(why), "use", path)
}

/// Opens a regular file for reading; symlinks are followed, see [`resolve`]. Any other kind is an error.
pub fn open_regular(path: &Path) -> io::Result<fs::File> {
    let file = open_at_once(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(with_path(not_regular(), "open", path))
}

pub(crate) fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")
}

/// The same for a file of any kind; it does not block, as a FIFO without a writer would.
pub fn open_at_once(path: &Path) -> io::Result<fs::File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    if rustix::process::geteuid().is_root() {
        let real = resolve(path)?;
        let dir = Dir::open_resolved(&parent_of(&real))?;
        let name = real.file_name().unwrap_or(OsStr::new("."));
        let file = dir.open_file(name, flags | OFlags::NOFOLLOW)?;
        return Ok(fs::File::from_parts(file.into_file(), path));
    }
    let mut options = fs::OpenOptions::new();
    let options = options.read(true).custom_flags(flags.bits().cast_signed());
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_gets_a_number_and_no_link_is_followed() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        assert_eq!(dir.entry("kept").free().name, "kept");
        dir.create_dir("kept".as_ref()).unwrap();
        // A broken symlink also has the name.
        std::os::unix::fs::symlink("nowhere", temp.path().join("kept-2")).unwrap();
        assert_eq!(dir.entry("kept").free().name, "kept-3");
        assert!(dir.open_dir("kept-2".as_ref()).is_err());
        assert!(dir.create_file("kept-2".as_ref()).is_err());
        let path = fs::canonicalize(temp.path()).unwrap();
        assert!(Dir::open_resolved(&path.join("kept")).is_ok());
        std::os::unix::fs::symlink("kept", temp.path().join("link")).unwrap();
        assert!(Dir::open_resolved(&path.join("link")).is_err());
    }

    #[test]
    fn what_changed_places_meanwhile_is_not_taken_for_what_was_made() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        let staged = dir.create_dir("staged".as_ref()).unwrap();
        let entry = dir.entry("staged");
        entry.must_be(staged.file()).unwrap();
        entry.rename_to_free(&dir.entry("aside")).unwrap();
        std::os::unix::fs::symlink("aside", temp.path().join("staged")).unwrap();
        assert!(entry.must_be(staged.file()).is_err());
        let taken = dir.entry("aside").rename_to_free(&entry).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
    }
}
