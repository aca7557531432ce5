//! An etcd data dir, checked once when it is opened, and its files.
//!
//! ```text
//! <data dir>/member/wal/…     segments, unless a dedicated WAL dir holds them (2.2 and later)
//! <data dir>/member/snap/…    raft snapshots; `db` on 3.x
//! <data dir>/{wal,snap}/…     the first 2.0 releases, before they moved both under member/
//! ```
//!
//! In: paths as the user gives them. Out: a [`DataDir`] and its [`Listing`]. Only names and
//! sizes are read here; nothing is opened for writing, locked, renamed or removed.
//! Source: formats page §1.

pub mod bbolt;
pub mod listing;
pub mod locks;
pub mod scan;
pub mod start;
pub mod wal_note;

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;

pub use crate::data_dir::bbolt::{DbFault, DbLook, consistent_index};
pub use crate::data_dir::listing::{LeftoverKind, Listing, SourceFile};
pub use crate::data_dir::locks::{HeldLocks, Running, is_running, take_locks};

use crate::etcd::ids::{Index, SegmentName};
use crate::fs::dir::resolve;
use crate::fs::error::missing;
use crate::fs::staged::STAGING_PREFIX;

#[derive(Clone, Debug)]
pub struct DataDir {
    root: PathBuf,
    member_dir: PathBuf,
    snap_dir: PathBuf,
    wal_dir: PathBuf,
    dedicated_wal: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("{}", missing("data dir", .0))]
    NotFound(PathBuf),
    #[error("{}", missing("WAL dir", .0))]
    NoWalDir(PathBuf),
    #[error("`{0}` is not a directory")]
    NotADirectory(PathBuf),
    #[error("`{0}` is empty: no etcd member has written here")]
    Empty(PathBuf),
    #[error("`{0}` belongs to an etcd proxy, which holds no data of the cluster")]
    Proxy(PathBuf),
    #[error("`{0}` was written by etcd 0.4, a format that this tool does not read")]
    Version04(PathBuf),
    #[error("`{path}` is not an etcd data dir: it has no `member` directory, but {found}")]
    Foreign { path: PathBuf, found: String },
    #[error("`{0}` has no WAL: neither `member/wal` nor a dedicated WAL dir was found")]
    NoWal(PathBuf),
    #[error("there are WAL segments in `{member}` and in the dedicated WAL dir `{dedicated}`")]
    TwoWals {
        /// `member/wal`.
        member: PathBuf,
        /// The directory given by `--wal-dir`.
        dedicated: PathBuf,
    },
    #[error("the dedicated WAL dir `{dedicated}` holds no WAL segment, and `{member}` holds some")]
    EmptyWalDir { member: PathBuf, dedicated: PathBuf },
    #[error("`{0}` holds no WAL segment")]
    NoSegments(PathBuf),
    #[error("`{path}` has the name of a file that etcd reads, but is {what}")]
    NotAFile { path: PathBuf, what: &'static str },
    #[error(
        "`{0}` is a symbolic link to what belongs to another owner than the data dir does: it is not followed"
    )]
    ForeignLink(PathBuf),
    #[error("a WAL segment is missing in `{dir}`: {next} follows {last}")]
    SegmentGap {
        dir: PathBuf,
        last: SegmentName,
        next: SegmentName,
    },
    #[error("the WAL in `{dir}` begins at index {first}, after the raft snapshot at {wanted}")]
    BeginsLate {
        dir: PathBuf,
        first: Index,
        /// The index before the first one needed.
        wanted: Index,
    },
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl DataDir {
    /// The data dir at `root`, with its segments in `wal_dir` if given.
    pub fn open(root: &Path, wal_dir: Option<&Path>) -> Result<Self, DataDirError> {
        let names = names_in(root)?;
        let has = |name: &str| names.iter().any(|found| found == name);
        let member = if has("member") {
            root.join("member")
        } else if has("snap") && (has("wal") || wal_dir.is_some()) {
            root.to_path_buf()
        } else {
            return Err(not_a_member(root, &names));
        };
        let own_wal = member.join("wal");
        let own_has_wal = match fs::metadata(&own_wal) {
            Ok(found) => found.is_dir(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error.into()),
        };
        let wal = match wal_dir {
            None if own_has_wal => own_wal,
            None => return Err(DataDirError::NoWal(root.to_path_buf())),
            Some(dedicated) => {
                let found = names_in(dedicated).map_err(|error| match error {
                    DataDirError::NotFound(dir) => DataDirError::NoWalDir(dir),
                    error => error,
                })?;
                let same = own_has_wal && resolve(dedicated)? == resolve(&own_wal)?;
                if same || !own_has_wal || !has_segments(&names_in(&own_wal)?) {
                    dedicated.to_path_buf()
                } else if !has_segments(&found) && found.iter().any(|name| name == wal_note::NAME) {
                    // They were brought home, and the flag is still given.
                    return Self::open(root, None);
                } else {
                    let (member, dedicated) = (own_wal, dedicated.to_path_buf());
                    return Err(if has_segments(&found) {
                        DataDirError::TwoWals { member, dedicated }
                    } else {
                        DataDirError::EmptyWalDir { member, dedicated }
                    });
                }
            }
        };
        let snap_dir = resolve(&member.join("snap")).or_else(none_yet(&member))?;
        Self {
            root: root.to_path_buf(),
            member_dir: resolve(&member)?,
            snap_dir,
            wal_dir: resolve(&wal)?,
            dedicated_wal: wal_dir.is_some(),
        }
        .without_foreign_links(&member)
    }

    /// The data dir at `root`, of which parts may be missing: for a damaged one.
    pub fn open_damaged(root: &Path, wal_dir: Option<&Path>) -> Result<Self, DataDirError> {
        let names = names_in(root)?;
        let has = |name: &str| names.iter().any(|found| found == name);
        let member = if has("member") {
            root.join("member")
        } else if has("snap") || has("wal") {
            root.to_path_buf()
        } else {
            return Err(not_a_member(root, &names));
        };
        let as_it_is = |path: PathBuf| fs::canonicalize(&path).unwrap_or(path);
        // 2.0, killed while it moved both under `member`, left one of them above.
        let part = |name: &str| match member.join(name) {
            moved if moved.exists() || !has(name) => moved,
            _ => root.join(name),
        };
        Self {
            root: root.to_path_buf(),
            snap_dir: as_it_is(part("snap")),
            wal_dir: as_it_is(wal_dir.map_or_else(|| part("wal"), Path::to_path_buf)),
            member_dir: as_it_is(member.clone()),
            dedicated_wal: wal_dir.is_some(),
        }
        .without_foreign_links(&member)
    }

    /// Refuses a symlink to a directory of another owner than the data dir's: its owner could make
    /// root read any directory. What replaces it later is not opened: see [`SourceFile::open`].
    fn without_foreign_links(self, member: &Path) -> Result<Self, DataDirError> {
        let root = fs::canonicalize(&self.root)?;
        let owner = fs::metadata(&root)?.uid();
        let wal = (!self.dedicated_wal).then_some(("wal", &self.wal_dir));
        let parts = [("", &self.member_dir), ("snap", &self.snap_dir)];
        for (name, part) in parts.into_iter().chain(wal) {
            let is_elsewhere = !part.starts_with(&root);
            if is_elsewhere && fs::metadata(part).is_ok_and(|found| found.uid() != owner) {
                return Err(DataDirError::ForeignLink(member.join(name)));
            }
        }
        Ok(self)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether `path`, with symlinks resolved, is inside it or its WAL dir: nothing may be written there.
    pub fn holds(&self, path: &Path) -> io::Result<bool> {
        let root = fs::canonicalize(&self.root)?;
        // A path that names `member` itself means the data dir above it.
        let data_dir = match root.parent() {
            Some(parent) if root.ends_with("member") && !root.join("member").exists() => parent,
            _ => &root,
        };
        let sources = [data_dir, self.snap_dir(), self.wal_dir()];
        Ok(sources.iter().any(|source| path.starts_with(source)))
    }

    /// The directory of the raft snapshots; symlinks resolved.
    pub fn snap_dir(&self) -> &Path {
        &self.snap_dir
    }

    /// The directory of the segments; symlinks resolved.
    pub fn wal_dir(&self) -> &Path {
        &self.wal_dir
    }

    /// Whether the segments are in a dedicated WAL dir, which 2.1 cannot read.
    pub fn has_dedicated_wal(&self) -> bool {
        self.dedicated_wal
    }

    /// The directory that holds both, unless they are elsewhere; symlinks resolved.
    pub fn member_dir(&self) -> &Path {
        &self.member_dir
    }

    /// The segments that a start from a raft snapshot at `index` reads: from the last one that
    /// begins at or below it to the end, without a gap.
    pub fn covering<'l>(
        &self,
        listing: &'l Listing,
        index: Index,
    ) -> Result<&'l [(SegmentName, SourceFile)], DataDirError> {
        let segments = &listing.segments;
        let Some(start) = segments
            .iter()
            .rposition(|(name, _)| name.first_index <= index)
        else {
            return Err(DataDirError::BeginsLate {
                dir: self.wal_dir.clone(),
                first: segments
                    .first()
                    .map_or(Index(0), |(name, _)| name.first_index),
                wanted: index,
            });
        };
        let live = segments.get(start..).unwrap_or_default();
        for pair in live.windows(2) {
            if let [(last, _), (next, _)] = pair
                && last.sequence.checked_add(1) != Some(next.sequence)
            {
                return Err(DataDirError::SegmentGap {
                    dir: self.wal_dir.clone(),
                    last: *last,
                    next: *next,
                });
            }
        }
        Ok(live)
    }

    /// The total size of the data dir in bytes, with a dedicated WAL dir.
    pub fn total_bytes(&self) -> u64 {
        let size = |path: &Path| fs_extra::dir::get_size(path).unwrap_or(0);
        let wal_elsewhere = self.dedicated_wal && !self.wal_dir.starts_with(&self.root);
        size(&self.root)
            + if wal_elsewhere {
                size(&self.wal_dir)
            } else {
                0
            }
    }

    fn outside(&self) -> Result<Vec<String>, DataDirError> {
        let member = self.member_dir();
        let moved = member != fs::canonicalize(&self.root)?;
        let mut outside: Vec<_> = names_in(&self.root)?
            .into_iter()
            .filter(|name| {
                let part = if moved {
                    name == "member"
                } else {
                    name == "wal" || name == "snap"
                };
                !part && !name.starts_with(STAGING_PREFIX)
            })
            .collect();
        if moved {
            let own = |name: &String| name != "wal" && name != "snap";
            let names = names_in(member)?.into_iter().filter(own);
            outside.extend(names.map(|name| format!("member/{name}")));
        }
        Ok(outside)
    }
}

fn not_a_member(root: &Path, names: &[String]) -> DataDirError {
    let has = |name: &str| names.iter().any(|found| found == name);
    let root = root.to_path_buf();
    if names.is_empty() {
        DataDirError::Empty(root)
    } else if has("proxy") {
        DataDirError::Proxy(root)
    } else if has("log") && has("conf") || has("snapshot") && has("conf") {
        DataDirError::Version04(root)
    } else {
        let some: Vec<_> = names
            .iter()
            .take(3)
            .map(|name| format!("`{name}`"))
            .collect();
        let found = some.join(", ") + if names.len() > 3 { " and more" } else { "" };
        DataDirError::Foreign { path: root, found }
    }
}

/// A member without a `snap` directory has no raft snapshot yet; its listing is empty.
fn none_yet(member: &Path) -> impl FnOnce(io::Error) -> io::Result<PathBuf> {
    let snap = member.join("snap");
    move |error| {
        if error.kind() == io::ErrorKind::NotFound {
            let parent = fs::canonicalize(crate::fs::error::parent_of(&snap))?;
            Ok(parent.join("snap"))
        } else {
            Err(error)
        }
    }
}

fn has_segments(names: &[String]) -> bool {
    names.iter().any(|name| SegmentName::parse(name).is_some())
}

fn names_in(dir: &Path) -> Result<Vec<String>, DataDirError> {
    let entries = fs::read_dir(dir).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => DataDirError::NotFound(dir.to_path_buf()),
        io::ErrorKind::NotADirectory => DataDirError::NotADirectory(dir.to_path_buf()),
        _ => DataDirError::Io(error),
    })?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

pub(crate) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
