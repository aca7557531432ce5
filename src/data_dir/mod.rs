//! An etcd data dir, found and checked once at the door, and what is in it.
//!
//! ```text
//! <data dir>/member/wal/…     segments, unless a dedicated WAL dir holds them (2.2 and later)
//! <data dir>/member/snap/…    raft snapshots; `db` on 3.x
//! <data dir>/{wal,snap}/…     the first 2.0 releases, before they moved both under member/
//! ```
//!
//! In: paths as the user gives them. Out: a [`DataDir`] and its [`Listing`]. Only names and
//! sizes are looked at here; nothing is opened for writing, locked, renamed or removed.
//! Source: formats page §1.

pub mod bbolt;
pub mod locks;
pub mod scan;
pub mod start;
pub mod wal_note;

use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use walkdir::WalkDir;

pub use crate::data_dir::bbolt::{DbFault, DbLook, consistent_index};
pub use crate::data_dir::locks::{HeldLocks, Running, is_running, take_locks};

use crate::etcd::ids::{Index, SegmentName, SnapshotId};
use crate::etcd::scan::FileKind;
use crate::fs::staged::{STAGING_PREFIX, with_path};

/// A directory that holds an etcd member.
#[derive(Clone, Debug)]
pub struct DataDir {
    root: PathBuf,
    member_dir: PathBuf,
    snap_dir: PathBuf,
    wal_dir: PathBuf,
    dedicated_wal: bool,
}

/// Why a path is not a member's data dir.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// There is nothing at that path.
    #[error("there is no data dir at `{0}`")]
    NotFound(PathBuf),
    /// Something else than a directory is at that path.
    #[error("`{0}` is not a directory")]
    NotADirectory(PathBuf),
    /// A directory with nothing in it.
    #[error("`{0}` is empty: no etcd member has written here")]
    Empty(PathBuf),
    /// A proxy's directory.
    #[error("`{0}` belongs to an etcd proxy, which holds no data of the cluster")]
    Proxy(PathBuf),
    /// A directory of etcd 0.4.
    #[error("`{0}` was written by etcd 0.4, a format that this tool does not read")]
    Version04(PathBuf),
    /// A directory of something else.
    #[error("`{path}` is not an etcd data dir: it has no `member` directory, but {found}")]
    Foreign {
        /// The path.
        path: PathBuf,
        /// Some names found in it.
        found: String,
    },
    /// A member without its WAL.
    #[error("`{0}` has no WAL: neither `member/wal` nor a dedicated WAL dir was found")]
    NoWal(PathBuf),
    /// A WAL in two places.
    #[error("there are WAL segments in `{member}` and in the dedicated WAL dir `{dedicated}`")]
    TwoWals {
        /// `member/wal`.
        member: PathBuf,
        /// What `--wal-dir` names.
        dedicated: PathBuf,
    },
    /// A WAL dir without segments.
    #[error("`{0}` holds no WAL segment")]
    NoSegments(PathBuf),
    /// A segment is missing.
    #[error("a WAL segment is missing in `{dir}`: {next} follows {last}")]
    SegmentGap {
        /// The WAL dir.
        dir: PathBuf,
        /// The segment before the hole.
        last: SegmentName,
        /// The segment after it.
        next: SegmentName,
    },
    /// The log begins too late.
    #[error("the WAL in `{dir}` begins at index {first}, after the raft snapshot at {wanted}")]
    BeginsLate {
        /// The WAL dir.
        dir: PathBuf,
        /// The first index there is.
        first: Index,
        /// The first index needed, less one.
        wanted: Index,
    },
    /// The operating system says no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// One regular file of a data dir.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its path in an archive: below `member/`, whichever the layout.
    pub archive_path: String,
    /// What its name says it is.
    pub kind: FileKind,
    /// Its size in bytes when it was listed.
    pub bytes: u64,
}

/// What etcd leaves behind and does not load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftoverKind {
    /// `*.snap.broken`: a raft snapshot that etcd could not read and renamed.
    BrokenSnapshot,
    /// `*.wal.broken`: a copy made before etcd cut off a torn tail.
    BrokenSegment,
    /// `*.tmp`: a segment that was being made.
    Temporary,
    /// A raft snapshot of 3.4 whose marker is not in the WAL: 3.4 writes the file first.
    UnmarkedSnapshot,
    /// Something that no etcd makes.
    Unknown,
}

impl LeftoverKind {
    /// What it is, in a few words.
    pub fn explain(self) -> &'static str {
        match self {
            Self::BrokenSnapshot => "a raft snapshot that etcd could not read and set aside",
            Self::BrokenSegment => "etcd's copy of a segment from before it cut off a torn tail",
            Self::Temporary => "a file that was being made when etcd stopped",
            Self::UnmarkedSnapshot => {
                "a raft snapshot that the WAL does not know of yet, because etcd was stopped"
            }
            Self::Unknown => "not a file that etcd makes",
        }
    }

    /// How it came to be.
    pub fn origin(self) -> &'static str {
        match self {
            Self::BrokenSnapshot => {
                "etcd or `etcdctl backup` met a raft snapshot that did not read well, often one still being written, and renamed it"
            }
            Self::BrokenSegment => {
                "etcd was killed while it wrote; at its next start it copied the segment and cut the original"
            }
            Self::Temporary => "etcd was killed while it made the file",
            Self::UnmarkedSnapshot => {
                "etcd 3.4 was killed between the raft snapshot and its marker in the WAL"
            }
            Self::Unknown => "something other than etcd",
        }
    }

    /// Whether it may be removed, and what to mind.
    pub fn removable(self) -> &'static str {
        match self {
            Self::BrokenSnapshot => {
                "yes, once the member runs well; until then keep it: it may be the newest raft snapshot"
            }
            Self::BrokenSegment => {
                "yes, once the member runs well and agrees with the others: it holds what was cut off"
            }
            Self::Temporary => "yes, while etcd is stopped",
            Self::UnmarkedSnapshot => "no: leave it to etcd, which purges it in its turn",
            Self::Unknown => "ask who put it there; etcd does not need it",
        }
    }

    fn of(name: &str) -> Self {
        if name.ends_with(".snap.broken") {
            Self::BrokenSnapshot
        } else if name.ends_with(".wal.broken") {
            Self::BrokenSegment
        } else if name.contains(".tmp") || name.starts_with("tmp") {
            Self::Temporary
        } else {
            Self::Unknown
        }
    }
}

/// What is in a data dir, by name.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Raft snapshots, newest first.
    pub snapshots: Vec<(SnapshotId, SourceFile)>,
    /// Segments, by sequence number.
    pub segments: Vec<(SegmentName, SourceFile)>,
    /// 3.x: the backend of the v3 store.
    pub db: Option<SourceFile>,
    /// What etcd would not load.
    pub leftovers: Vec<(LeftoverKind, SourceFile)>,
    /// Names in the data dir that are no part of the member.
    pub outside: Vec<String>,
}

impl DataDir {
    /// The data dir at `root`, with its segments in `wal_dir` if that is given.
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
        let own_has_wal = own_wal.is_dir();
        let wal = match wal_dir {
            None if own_has_wal => own_wal,
            None => return Err(DataDirError::NoWal(root.to_path_buf())),
            Some(dedicated) => {
                names_in(dedicated)?;
                let same =
                    own_has_wal && fs::canonicalize(dedicated)? == fs::canonicalize(&own_wal)?;
                if !same
                    && own_has_wal
                    && names_in(&own_wal)?
                        .iter()
                        .any(|name| SegmentName::parse(name).is_some())
                {
                    return Err(DataDirError::TwoWals {
                        member: own_wal,
                        dedicated: dedicated.to_path_buf(),
                    });
                }
                dedicated.to_path_buf()
            }
        };
        Ok(Self {
            root: root.to_path_buf(),
            member_dir: fs::canonicalize(&member)?,
            snap_dir: fs::canonicalize(member.join("snap")).or_else(none_yet(&member))?,
            wal_dir: fs::canonicalize(wal)?,
            dedicated_wal: wal_dir.is_some(),
        })
    }

    /// The data dir at `root`, as far as it is there: for one that is damaged.
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
        let own_wal = member.join("wal");
        Ok(Self {
            root: root.to_path_buf(),
            snap_dir: as_it_is(member.join("snap")),
            wal_dir: as_it_is(wal_dir.map_or(own_wal, Path::to_path_buf)),
            member_dir: as_it_is(member),
            dedicated_wal: wal_dir.is_some(),
        })
    }

    /// Every regular file of the member: raft snapshots, newest first, then the segments in order,
    /// then the rest.
    pub fn files(&self) -> Result<Vec<SourceFile>, DataDirError> {
        let mut files = regular_files(&self.snap_dir, "member/snap/")?;
        files.extend(regular_files(&self.wal_dir, "member/wal/")?);
        for file in &mut files {
            file.kind = FileKind::of(&file.archive_path);
        }
        files.sort_by_key(|file| match file.kind {
            FileKind::Snapshot(id) => (0, std::cmp::Reverse(Some(id)), None),
            FileKind::Segment(name) => (1, std::cmp::Reverse(None), Some(name)),
            FileKind::Other => (2, std::cmp::Reverse(None), None),
        });
        Ok(files)
    }

    /// The path it was opened by.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether `path`, symlinks resolved, is inside it or where its files are: nothing is written there.
    pub fn holds(&self, path: &Path) -> io::Result<bool> {
        let root = fs::canonicalize(&self.root)?;
        // Who names `member` itself has named the data dir that it is in.
        let data_dir = match root.parent() {
            Some(parent) if root.ends_with("member") && !root.join("member").exists() => parent,
            _ => &root,
        };
        let sources = [data_dir, self.snap_dir(), self.wal_dir()];
        Ok(sources.iter().any(|source| path.starts_with(source)))
    }

    /// Where the raft snapshots are; symlinks resolved.
    pub fn snap_dir(&self) -> &Path {
        &self.snap_dir
    }

    /// Where the segments are; symlinks resolved.
    pub fn wal_dir(&self) -> &Path {
        &self.wal_dir
    }

    /// Whether the segments are in a directory of their own, which 2.1 cannot read.
    pub fn has_dedicated_wal(&self) -> bool {
        self.dedicated_wal
    }

    /// The directory that holds both, unless they are elsewhere; symlinks resolved.
    pub fn member_dir(&self) -> &Path {
        &self.member_dir
    }

    /// What is in it now. A file that vanishes meanwhile is not in it.
    pub fn list(&self) -> Result<Listing, DataDirError> {
        let mut listing = Listing::default();
        for file in regular_files(&self.snap_dir, "member/snap/")? {
            let name = file_name(&file.archive_path);
            if let Some(id) = SnapshotId::from_file_name(name) {
                let kind = FileKind::Snapshot(id);
                listing.snapshots.push((id, SourceFile { kind, ..file }));
            } else if name == "db" {
                listing.db = Some(file);
            } else {
                listing.leftovers.push((LeftoverKind::of(name), file));
            }
        }
        for file in regular_files(&self.wal_dir, "member/wal/")? {
            let name = file_name(&file.archive_path);
            if let Some(segment) = SegmentName::parse(name) {
                let kind = FileKind::Segment(segment);
                listing
                    .segments
                    .push((segment, SourceFile { kind, ..file }));
            } else {
                listing.leftovers.push((LeftoverKind::of(name), file));
            }
        }
        listing.snapshots.sort_by(|(a, _), (b, _)| b.cmp(a));
        listing.segments.sort_by_key(|(name, _)| *name);
        listing.outside = self.outside()?;
        if listing.segments.is_empty() {
            return Err(DataDirError::NoSegments(self.wal_dir.clone()));
        }
        Ok(listing)
    }

    /// The segments that a start from a raft snapshot at `index` reads: from the last one that
    /// begins at or below it to the end, without a hole.
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

    /// Bytes of everything below the data dir, and of a dedicated WAL dir.
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

/// A member without a `snap` directory has not made a raft snapshot; nothing is listed there.
fn none_yet(member: &Path) -> impl FnOnce(io::Error) -> io::Result<PathBuf> {
    let snap = member.join("snap");
    move |error| {
        if error.kind() == io::ErrorKind::NotFound {
            let parent = fs::canonicalize(crate::fs::staged::parent_of(&snap))?;
            Ok(parent.join("snap"))
        } else {
            Err(error)
        }
    }
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

fn regular_files(dir: &Path, prefix: &str) -> Result<Vec<SourceFile>, DataDirError> {
    let mut files = Vec::new();
    for entry in WalkDir::new(dir)
        .min_depth(1)
        .max_depth(1)
        .sort_by_file_name()
    {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if vanished(&error) => continue,
            Err(error) => return Err(DataDirError::Io(with_path(error.into(), "list", dir))),
        };
        // etcd follows a symlinked segment, so its target counts.
        let metadata = match fs::metadata(entry.path()) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(DataDirError::Io(error)),
        };
        if metadata.is_file() {
            files.push(SourceFile {
                path: entry.path().to_path_buf(),
                archive_path: format!("{prefix}{}", entry.file_name().to_string_lossy()),
                kind: FileKind::Other,
                bytes: metadata.len(),
            });
        }
    }
    Ok(files)
}

fn vanished(error: &walkdir::Error) -> bool {
    error
        .io_error()
        .is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// The last part of an archive path.
pub(crate) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
