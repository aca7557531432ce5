//! Moves the segments of a dedicated WAL dir to `member/wal`, where etcd 2.1 looks for them.
//!
//! 2.1 has no `--wal-dir`: it would find no WAL and bootstrap an empty member beside the data (formats
//! page §7). In: a stopped member's [`DataDir`] with a dedicated WAL dir. Out: the same segments in
//! `member/wal`, the old ones kept, and at no time can etcd start on a part of them:
//!
//! ```text
//! 1  copy, sync and read back in member/.etcd-ark-….staging      the WAL dir is as it was
//! 2  rename the staged directory to member/wal                   both places are complete
//! 3  put a note in the WAL dir; move the segments into a         etcd with --wal-dir finds what it needs,
//!    directory below it, the oldest first                        or finds a gap and does not start
//! 4  only the note and that directory are left                   etcd with --wal-dir does not start
//! ```
//!
//! An *empty* WAL dir would be worse than a full one: etcd would start as a new member. So the
//! note comes before the first segment is moved. Its name ends in `.wal` because 3.x looks for that
//! ending to decide whether there is a WAL, and it is not a segment's name, so that opening fails.
//! The next run completes one that was interrupted at any step.

use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use jiff::Timestamp;

use crate::data_dir::scan::{SurveyError, survey};
use crate::data_dir::{DataDir, DataDirError, Running, take_locks, wal_note};
use crate::etcd::ids::SegmentName;
use crate::etcd::member::MemberFacts;
use crate::etcd::scan::Pass;
use crate::fs::dir::{Dir, resolve};
use crate::fs::error::with_path;
use crate::fs::owner::{self, Owner};
use crate::fs::space::{self, SpaceError};
use crate::fs::staged::{StagedDir, StagedFile, remove_stale};
use crate::interrupt::{Interrupt, Interrupted};
use crate::progress::Event;

/// The prefix of the directory that keeps the old segments.
const KEPT: &str = "before-downgrade-";
/// Bytes copied between two checks for an interrupt.
const PIECE: usize = 1 << 20;

#[derive(Debug)]
pub enum Found {
    /// All of them are in `member/wal`.
    AtHome(DataDir),
    Elsewhere(DataDir),
    /// They are in `member/wal`, and the same ones in the WAL dir: an earlier run was interrupted before
    /// it had put those aside.
    Both(DataDir),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    pub wal: PathBuf,
    pub kept: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Survey(#[from] SurveyError),
    #[error("etcd runs on this member: `{}` is locked", .0.file.display())]
    Running(Running),
    #[error(
        "`{0}` is in the way: it is not an empty directory, although the segments are elsewhere"
    )]
    InTheWay(PathBuf),
    #[error(transparent)]
    Space(#[from] SpaceError),
    #[error("the copy in `{0}` does not read back as what was copied")]
    ReadBack(PathBuf),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl Found {
    pub fn data_dir(&self) -> &DataDir {
        match self {
            Self::AtHome(data_dir) | Self::Elsewhere(data_dir) | Self::Both(data_dir) => data_dir,
        }
    }
}

/// Finds the segments of the member in `root`, which was started with `wal_dir`, if given.
pub fn find(root: &Path, wal_dir: Option<&Path>) -> Result<Found, DataDirError> {
    let opened = DataDir::open(root, wal_dir);
    let Some(wal_dir) = wal_dir else {
        return opened.map(Found::AtHome);
    };
    match opened {
        Err(DataDirError::TwoWals { .. } | DataDirError::EmptyWalDir { .. }) => {
            let at_home = DataDir::open(root, None)?;
            let left = segments(wal_dir)?;
            if left.is_empty() {
                return Ok(Found::AtHome(at_home));
            }
            for (_, path) in &left {
                let home = at_home.wal_dir().join(path.file_name().unwrap_or_default());
                if !home.is_file() || !is_same(path, &home)? {
                    return DataDir::open(root, Some(wal_dir)).map(Found::Elsewhere);
                }
            }
            Ok(Found::Both(at_home))
        }
        Err(error) => Err(error),
        Ok(data_dir) => {
            let home = data_dir.member_dir().join("wal");
            let at_home = fs::canonicalize(home).is_ok_and(|home| home == data_dir.wal_dir());
            Ok(if at_home {
                Found::AtHome(DataDir::open(root, None)?)
            } else {
                Found::Elsewhere(data_dir)
            })
        }
    }
}

/// Moves the segments of `found` to `member/wal`; `facts` is what its files hold. The old ones are kept
/// in a directory named by the time `now`.
pub fn move_home(
    found: &Found,
    wal_dir: &Path,
    facts: &MemberFacts,
    now: Timestamp,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<Option<Moved>, MoveError> {
    if let Found::AtHome(_) = found {
        return Ok(None);
    }
    let wal_dir = resolve(wal_dir)?;
    let old = segments(&wal_dir)?;
    // Held until the end: an etcd that is started meanwhile exits by itself.
    let _held =
        take_locks(old.iter().map(|(_, path)| path.as_path()))?.map_err(MoveError::Running)?;
    if let Found::Elsewhere(data_dir) = found {
        publish_copy(data_dir, &old, facts, interrupt, observe)?;
    }
    let home = found.data_dir().member_dir().join("wal");
    let kept = put_aside(&wal_dir, &old, &home, now)?;
    Ok(Some(Moved { wal: home, kept }))
}

/// Refuses if `member/wal` is not empty although the segments are elsewhere.
pub fn refuse_in_the_way(data_dir: &DataDir) -> Result<(), MoveError> {
    let home = data_dir.member_dir().join("wal");
    if fs::symlink_metadata(&home).is_ok() && !is_empty_dir(&home)? {
        return Err(MoveError::InTheWay(home));
    }
    Ok(())
}

/// Steps 1 and 2.
fn publish_copy(
    data_dir: &DataDir,
    old: &[(SegmentName, PathBuf)],
    facts: &MemberFacts,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<(), MoveError> {
    let member = data_dir.member_dir();
    refuse_in_the_way(data_dir)?;
    remove_stale(member);
    let bytes = room(member, old)?;
    observe(Event::Begin {
        part: "copying",
        bytes,
    });
    let staged = StagedDir::create(member)?;
    for (_, path) in old {
        copy(path, staged.dir(), interrupt, observe)?;
    }
    make_like(staged.dir().file(), &fs::metadata(data_dir.wal_dir())?)?;
    staged.dir().sync()?;
    let copied = DataDir::open(data_dir.root(), Some(staged.path()))?;
    let found = survey(&copied, Pass::CHECK, interrupt, observe)?;
    if !found.is_valid() || found.facts.as_ref() != Ok(facts) {
        return Err(MoveError::ReadBack(member.to_path_buf()));
    }
    interrupt.check()?;
    let place = staged.place();
    place.must_be(staged.dir().file())?;
    let home = place.dir.entry("wal");
    if home.is_free() {
        place.rename_to_free(&home)?;
    } else {
        // The rename replaces an empty directory.
        place.rename_over(&home)?;
    }
    place.dir.sync()?;
    Ok(())
}

/// Steps 3 and 4, inside the WAL dir: it may be a mount point, which cannot be renamed.
fn put_aside(
    wal_dir: &Path,
    old: &[(SegmentName, PathBuf)],
    home: &Path,
    now: Timestamp,
) -> Result<PathBuf, MoveError> {
    remove_stale(wal_dir);
    let wal = Dir::open_resolved(wal_dir)?;
    leave_note(&wal, home)?;
    let kept = if let Some(kept) = begun_before(&wal, old)? {
        kept
    } else {
        let time = now.strftime("%Y%m%dT%H%M%S%.3fZ");
        let kept = wal.create_dir(format!("{KEPT}{time}").as_ref())?;
        make_like(kept.file(), &wal.file().metadata()?)?;
        kept
    };
    for (_, path) in old {
        let name = path.file_name().unwrap_or_default();
        let (from, to) = (wal.entry(name), kept.entry(name));
        from.rename_to_free(&to)?;
        to.sync_with(&from)?;
    }
    Ok(kept.path().to_path_buf())
}

fn leave_note(wal: &Arc<Dir>, home: &Path) -> io::Result<()> {
    if !wal.entry(wal_note::NAME).is_free() {
        return Ok(());
    }
    StagedFile::holding(wal, wal_note::text(home).as_bytes())?.publish(wal_note::NAME.as_ref())
}

/// The directory into which an earlier run began to move these segments: it holds none of those still
/// to be moved. A directory from another time holds segments of the same names.
fn begun_before(wal: &Dir, old: &[(SegmentName, PathBuf)]) -> io::Result<Option<Arc<Dir>>> {
    for name in wal.names()?.into_iter().rev() {
        if !name.to_string_lossy().starts_with(KEPT) {
            continue;
        }
        let Ok(kept) = wal.open_dir(&name) else {
            continue;
        };
        let holds = |(_, old): &(SegmentName, PathBuf)| {
            !kept.entry(old.file_name().unwrap_or_default()).is_free()
        };
        if !old.iter().any(holds) {
            return Ok(Some(kept));
        }
    }
    Ok(None)
}

/// The segments in a directory, the oldest first.
fn segments(dir: &Path) -> Result<Vec<(SegmentName, PathBuf)>, io::Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(segment) = SegmentName::parse(&name)
            && fs::metadata(&path)?.is_file()
        {
            found.push((segment, path));
        }
    }
    found.sort();
    Ok(found)
}

fn is_empty_dir(path: &Path) -> io::Result<bool> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return Ok(false);
    }
    Ok(fs::read_dir(path)?.next().is_none())
}

/// The size of the segments in bytes, if there is room for them.
fn room(dir: &Path, old: &[(SegmentName, PathBuf)]) -> Result<u64, MoveError> {
    let mut bytes = 0;
    for (_, path) in old {
        bytes += fs::metadata(path)?.len();
    }
    // One more block for each file, and the directory.
    let needed = bytes + (64 << 10) + 4096 * old.len() as u64;
    space::require(dir, needed, dir)?;
    Ok(bytes)
}

/// Copies a file with its mode, owner and time, and syncs it.
fn copy(
    from: &Path,
    to: &Dir,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<(), MoveError> {
    let mut source = fs::File::open(from)?;
    let metadata = source.metadata()?;
    let mut target = to.create_file(from.file_name().unwrap_or_default())?;
    let mut piece = vec![0; PIECE];
    loop {
        interrupt.check()?;
        let read = source.read(&mut piece)?;
        if read == 0 {
            break;
        }
        target.write_all(piece.get(..read).unwrap_or_default())?;
        observe(Event::Advance(read as u64));
    }
    make_like(&target, &metadata)?;
    target
        .file()
        .set_modified(metadata.modified()?)
        .map_err(|error| with_path(error, "set the time of", target.path()))?;
    target.sync_all()?;
    Ok(())
}

/// Sets the owner and mode of `file` to those of `like`.
fn make_like(file: &fs::File, like: &std::fs::Metadata) -> io::Result<()> {
    owner::give(file, Owner::of(like))?;
    file.set_permissions(PermissionsExt::from_mode(like.mode() & 0o7777))
}

fn is_same(one: &Path, other: &Path) -> io::Result<bool> {
    let (mut one, mut other) = (fs::File::open(one)?, fs::File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut a, mut b) = (vec![0; PIECE], vec![0; PIECE]);
    loop {
        let read = one.read(&mut a)?;
        let (Some(a), Some(b)) = (a.get(..read), b.get_mut(..read)) else {
            return Ok(false);
        };
        if read == 0 {
            return Ok(true);
        }
        other.read_exact(b)?;
        if a != b {
            return Ok(false);
        }
    }
}
