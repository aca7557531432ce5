//! Restores an archive's member directory: complete and verified, or not at all.
//!
//! In: an [`Archive`] and a target. Everything is unpacked into a staging directory beside the
//! final place while every check runs, synced, and only then renamed. With `replace` old and new
//! are exchanged in one step, so that a supervisor that restarts etcd at that instant finds
//! one or the other. The replaced data are kept.

pub mod publish;
pub mod replaced;
pub mod stale_member;
pub mod unpack;

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fs_err as fs;
use jiff::Timestamp;

use crate::archive::manifest::{Damage, Manifest};
use crate::archive::verify::VerifyFault;
use crate::archive::{Archive, ArchiveError, Digests};
use crate::data_dir::{HeldLocks, Running, take_locks};
use crate::etcd::ids::V2_2;
use crate::fs::dir::{Dir, resolve};
use crate::fs::error::parent_of;
use crate::fs::owner::Owner;
use crate::fs::space::{self, SpaceError};
use crate::fs::staged::{StagedDir, remove_stale};
use crate::interrupt::{Interrupt, Interrupted};
use crate::progress::Event;
use crate::restore::publish::Publication;
use crate::restore::unpack::{ChosenOwner, Unpacking};

#[derive(Debug)]
pub struct RestoreRequest<'r> {
    pub archive: &'r Archive,
    /// The directory for `member/`; created if missing.
    pub data_dir: &'r Path,
    /// The directory for the segments, if not `member/wal`.
    pub wal_dir: Option<&'r Path>,
    pub replace: bool,
    /// Owner of the files, if not the recorded one.
    pub owner: Option<Owner>,
    pub dry_run: bool,
    pub damaged: bool,
    pub threads: usize,
    /// The time in the name of the kept directory.
    pub now: Timestamp,
}

#[derive(Debug)]
pub struct Restored {
    pub member: PathBuf,
    /// The path of the replaced member.
    pub kept: Option<PathBuf>,
    /// The path of the segments that were in a dedicated WAL dir.
    pub kept_wal: Option<PathBuf>,
    /// Shell commands that undo it while etcd is stopped, each for after the one before.
    pub undo: Vec<String>,
    pub bytes: u64,
    pub warnings: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("`{path}` is corrupt")]
    Unsound {
        path: PathBuf,
        #[source]
        fault: VerifyFault,
    },
    #[error("`{path}` contains a damaged data dir, saved as it was: {first}")]
    Damaged { path: PathBuf, first: String },
    #[error("`{path}`: {why}")]
    DoesNotStart {
        path: PathBuf,
        why: String,
        /// What makes a cluster that starts of it, if that is known.
        cure: Option<String>,
    },
    #[error("etcd runs on the target: `{}` is locked", .0.file.display())]
    Running(Running),
    #[error("`{0}` exists")]
    MemberExists(PathBuf),
    #[error("`{0}` has no WAL in it: this member keeps its WAL in a directory of its own")]
    WalElsewhere(PathBuf),
    #[error(
        "neither `{member}` nor `{wal_dir}` has a WAL in it: this member keeps its WAL in another directory"
    )]
    WalNowhere { member: PathBuf, wal_dir: PathBuf },
    #[error("`{0}` exists: the directory belongs to an etcd proxy or to an unmigrated 2.0 member")]
    NotForAMember(PathBuf),
    #[error("`{path}` names a directory in the data dir `{data_dir}`, and not the data dir")]
    InADataDir { path: PathBuf, data_dir: PathBuf },
    #[error("the filesystem of `{0}` cannot exchange two directories in one step")]
    CannotExchange(PathBuf),
    #[error("`{0}` holds WAL segments")]
    SegmentsExist(PathBuf),
    #[error("`{path}` is a {kind} and cannot be replaced atomically")]
    NotExchangeable { path: PathBuf, kind: &'static str },
    #[error("`{0}` cannot be made: it is a symbolic link to nothing, or not a plain path")]
    CannotBeMade(PathBuf),
    #[error("`{0}` is not a directory")]
    NotADirectory(PathBuf),
    #[error(transparent)]
    Space(#[from] SpaceError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

/// Checks whether the target can take an archive, as [`restore`] itself does first: to fail before any
/// long work.
pub fn check_target(request: &RestoreRequest<'_>) -> Result<(), RestoreError> {
    refuse_damaged(request)?;
    drop(RestoreTarget::find(request)?.take_over(request.replace)?);
    Ok(())
}

fn refuse_damaged(request: &RestoreRequest<'_>) -> Result<(), RestoreError> {
    match &request.archive.manifest().damage {
        Some(damage) if !request.damaged => Err(RestoreError::Damaged {
            path: request.archive.path().to_path_buf(),
            first: damage.lines().into_iter().next().unwrap_or_default(),
        }),
        _ => Ok(()),
    }
}

/// Restores `request.archive`. It does not check the other members:
/// see [`stale_member`](crate::restore::stale_member).
pub fn restore(
    request: &RestoreRequest<'_>,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<Restored, RestoreError> {
    refuse_damaged(request)?;
    let target = RestoreTarget::find(request)?;
    drop(target.take_over(request.replace)?);
    target.clean_up();
    let staging = target.stage()?;
    staging.refuse_if_no_exchange(&target)?;
    staging.refuse_if_no_room(request.archive)?;
    observe(Event::Begin {
        part: if request.dry_run {
            "checking"
        } else {
            "restoring"
        },
        bytes: request.archive.plain_bytes(),
    });
    let owner = ChosenOwner::choose(request, &target, &staging)?;
    let mut unpacking = Unpacking::new(request.archive, &staging, &owner, observe);
    let digested =
        request
            .archive
            .unpack(request.threads, Digests::All, interrupt, &mut unpacking)?;
    let mut warnings = unpacking.finish(digested, request.damaged)?;
    warnings.extend(owner.told);
    let damage = request.archive.manifest().damage.iter();
    warnings.extend(damage.flat_map(Damage::lines));
    warnings.extend(machine_warnings());
    if target.home && target.wal_dir.is_some() {
        warnings.push(format!(
            "the segments are in `{}`, not in the WAL dir: etcd 2.1 has no --wal-dir; start etcd without --wal-dir and without \
             ETCD_WAL_DIR",
            target.member().join("wal").display()
        ));
    }
    warnings.extend(publish::cut_off_before(&target)?);
    interrupt.check()?;
    let published = if request.dry_run {
        staging.remove()?;
        Publication::default()
    } else {
        // etcd may have been started while the archive was unpacked.
        let _held = target.take_over(request.replace)?;
        publish::publish(&target, staging, request.now)?
    };
    Ok(Restored {
        member: target.member(),
        kept: published.kept,
        kept_wal: published.kept_wal,
        undo: published.undo,
        bytes: request.archive.plain_bytes(),
        warnings,
    })
}

/// Whether the data are of etcd 2.1 or before, which has no `--wal-dir`: it would ignore a WAL dir, find no log in
/// `member/wal`, and start an empty member.
fn is_of_a_release_without_wal_dir(manifest: &Manifest) -> bool {
    let release = manifest.member.release();
    !manifest.has_backend() && release.is_none_or(|release| release < V2_2)
}

fn machine_warnings() -> Vec<String> {
    let mut warnings = Vec::new();
    if Path::new("/sys/fs/selinux/enforce").exists() {
        warnings.push(
            "SELinux is on: run `restorecon -R` on the data dir, and keep the etcd unit masked until then"
                .to_owned(),
        );
    }
    warnings
}

/// The target of a restore; symlinks to the data dir itself are resolved.
#[derive(Debug)]
pub(crate) struct RestoreTarget {
    data_dir: Place,
    /// The dedicated WAL dir: for the new segments, or, if they go into `member/wal`, with the old ones.
    wal_dir: Option<Place>,
    /// Whether the segments go into `member/wal`, because the data's release looks only there.
    home: bool,
}

/// A directory that exists or is to be created.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    /// The directory itself, or its nearest existing parent.
    base: PathBuf,
    /// The missing names below `base`, down to the directory itself.
    missing: Vec<OsString>,
}

impl Place {
    /// The directory at `path`, symlinks resolved.
    fn find(path: &Path) -> Result<Self, RestoreError> {
        let mut missing = Vec::new();
        let mut base = path.to_path_buf();
        loop {
            match resolve(&base) {
                Ok(found) if found.is_dir() => base = found,
                Ok(found) => return Err(RestoreError::NotADirectory(found)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let dangling = fs::symlink_metadata(&base).is_ok();
                    let Some(name) = base.file_name().filter(|_| !dangling) else {
                        return Err(RestoreError::CannotBeMade(base));
                    };
                    missing.push(name.to_owned());
                    base = parent_of(&base);
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            missing.reverse();
            return Ok(Self {
                path: missing
                    .iter()
                    .fold(base.clone(), |path, name| path.join(name)),
                base,
                missing,
            });
        }
    }

    fn exists(&self) -> bool {
        self.missing.is_empty()
    }

    fn stage(&self) -> io::Result<StagedDir> {
        StagedDir::create_in(&Dir::open_resolved(&self.base)?)
    }
}

/// The data dir above `path`, if that is called `member`, or a part of it, and is not a data dir itself. One of that name
/// may be a data dir to be: a directory without `snap` and `wal`.
fn data_dir_above(path: &Path) -> Option<PathBuf> {
    let has = |name: &str| path.join(name).exists();
    if has("member") {
        return None;
    }
    let resolved = path.canonicalize().ok();
    [Some(path), resolved.as_deref()]
        .into_iter()
        .flatten()
        .find_map(|path| {
            let within = path.ends_with("member/wal") || path.ends_with("member/snap");
            let is_member =
                path.ends_with("member") && (!path.exists() || has("snap") || has("wal"));
            let member = if within { path.parent()? } else { path };
            let above = member.parent().filter(|_| within || is_member)?;
            let here = above.as_os_str().is_empty();
            Some(if here {
                PathBuf::from(".")
            } else {
                above.to_path_buf()
            })
        })
}

impl RestoreTarget {
    fn find(request: &RestoreRequest<'_>) -> Result<Self, RestoreError> {
        if let Some(data_dir) = data_dir_above(request.data_dir) {
            let path = request.data_dir.to_path_buf();
            return Err(RestoreError::InADataDir { path, data_dir });
        }
        let data_dir = Place::find(request.data_dir)?;
        let usual = data_dir.path.join("member/wal");
        let own = request.data_dir.join("member/wal");
        let elsewhere = request
            .wal_dir
            .filter(|path| **path != own && **path != usual);
        let wal_dir = elsewhere.map(Place::find).transpose()?;
        Ok(Self {
            data_dir,
            wal_dir: wal_dir.filter(|place| place.path != usual),
            home: is_of_a_release_without_wal_dir(request.archive.manifest()),
        })
    }

    fn member(&self) -> PathBuf {
        self.data_dir.path.join("member")
    }

    fn wal_path(&self) -> Option<&PathBuf> {
        self.wal_dir.as_ref().map(|place| &place.path)
    }

    fn wal_files(&self) -> io::Result<Vec<PathBuf>> {
        let mut files = segments_in(&self.member().join("wal"))?;
        if let Some(wal_dir) = self.wal_path() {
            files.extend(segments_in(wal_dir)?);
        }
        Ok(files)
    }

    /// Refuses if etcd runs on the target or if it may not be replaced; otherwise takes its locks.
    fn take_over(&self, replace: bool) -> Result<HeldLocks, RestoreError> {
        let member = self.member();
        if fs::symlink_metadata(&member).is_ok_and(|found| found.is_file()) {
            return Err(RestoreError::NotADirectory(member));
        }
        let db = member.join("snap/db");
        let mut files = self.wal_files()?;
        if db.exists() {
            files.push(db);
        }
        let held = take_locks(files.iter().map(PathBuf::as_path))?;
        let held = held.map_err(RestoreError::Running)?;
        self.refuse_if_taken(replace)?;
        Ok(held)
    }

    fn refuse_if_taken(&self, replace: bool) -> Result<(), RestoreError> {
        let member = self.member();
        let taken = fs::symlink_metadata(&member).is_ok();
        for other in ["proxy", "snap", "wal"] {
            let path = self.data_dir.path.join(other);
            // A dedicated WAL dir may be anywhere, even here.
            if path.exists() && self.wal_path() != Some(&path) {
                return Err(RestoreError::NotForAMember(path));
            }
        }
        if taken && !replace {
            return Err(RestoreError::MemberExists(member));
        }
        if let Some(wal_dir) = self.wal_path()
            && !replace
            && !segments_in(wal_dir)?.is_empty()
        {
            return Err(RestoreError::SegmentsExist(wal_dir.clone()));
        }
        for part in [member.clone(), member.join("wal"), member.join("snap")] {
            refuse_if_not_exchangeable(&part)?;
        }
        if taken && self.wal_files()?.is_empty() {
            return Err(match self.wal_path().cloned() {
                Some(wal_dir) => RestoreError::WalNowhere { member, wal_dir },
                None => RestoreError::WalElsewhere(member),
            });
        }
        Ok(())
    }

    /// Removes what killed runs left staged.
    fn clean_up(&self) {
        for place in [Some(&self.data_dir), self.wal_dir.as_ref()] {
            let Some(place) = place else { continue };
            remove_stale(&parent_of(&place.base));
            remove_stale(&place.base);
        }
    }

    fn stage(&self) -> io::Result<Staging> {
        let wal_dir = self.wal_dir.as_ref().filter(|_| !self.home);
        Ok(Staging {
            data_dir: self.data_dir.stage()?,
            wal_dir: wal_dir.map(Place::stage).transpose()?,
        })
    }
}

#[derive(Debug)]
pub(crate) struct Staging {
    /// Becomes the data dir, or holds the `member/` for it.
    data_dir: StagedDir,
    /// Becomes the WAL dir, or holds the segments for it.
    wal_dir: Option<StagedDir>,
}

impl Staging {
    /// Tests, before any work is done, whether the existing directory can be exchanged.
    fn refuse_if_no_exchange(&self, target: &RestoreTarget) -> Result<(), RestoreError> {
        if !target.member().exists() || target.wal_dir.is_some() && !target.home {
            return Ok(());
        }
        let staged = self.data_dir.dir();
        let (one, other) = (staged.entry("1"), staged.entry("2"));
        staged.create_dir(&one.name)?;
        staged.create_dir(&other.name)?;
        let outcome = one.exchange(&other);
        one.remove_dir()?;
        other.remove_dir()?;
        outcome.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported => {
                RestoreError::CannotExchange(target.data_dir.path.clone())
            }
            _ => error.into(),
        })
    }

    fn refuse_if_no_room(&self, archive: &Archive) -> Result<(), RestoreError> {
        let files = &archive.manifest().files;
        let room = |dir: &Path, in_wal: bool| -> Result<(), RestoreError> {
            let here = files.iter().filter(|file| {
                self.wal_dir.is_none() || file.path.starts_with("member/wal/") == in_wal
            });
            // One more block for each file, and the directories.
            let needed = here.fold(64 << 10, |sum: u64, file| {
                sum.saturating_add(file.size).saturating_add(4096)
            });
            Ok(space::require(dir, needed, &parent_of(dir))?)
        };
        room(self.data_dir.path(), false)?;
        self.wal_dir
            .as_ref()
            .map_or(Ok(()), |dir| room(dir.path(), true))
    }

    fn remove(self) -> io::Result<()> {
        if let Some(wal_dir) = self.wal_dir {
            wal_dir.remove()?;
        }
        self.data_dir.remove()
    }
}

/// The files with segment names in `dir`; none if it does not exist.
fn segments_in(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "wal") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn refuse_if_not_exchangeable(path: &Path) -> Result<(), RestoreError> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    let refuse = |kind| RestoreError::NotExchangeable {
        path: path.to_path_buf(),
        kind,
    };
    if metadata.is_symlink() {
        return Err(refuse("symbolic link"));
    }
    if metadata.dev() != fs::metadata(parent_of(path))?.dev() {
        return Err(refuse("mount point"));
    }
    Ok(())
}
