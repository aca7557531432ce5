//! The names in a data dir: files that etcd would open, and leftovers.
//!
//! etcd reads its directories by names. A name that it would open must be that of a regular file, or of a symlink to
//! one that belongs to the data dir's owner. Any other file is not read, and a symlink to it is not followed.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fs::FileType;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use fs_err as fs;
use rustix::fs::OFlags;
use walkdir::WalkDir;

use crate::data_dir::{DataDir, DataDirError, file_name};
use crate::etcd::ids::{SegmentName, SnapshotId};
use crate::etcd::scan::FileKind;
use crate::etcd::wal::record::{Kind, first_kinds};
use crate::fs::dir::{Dir, open_regular};
use crate::fs::error::{parent_of, with_path};

/// How many bytes tell whether a segment has an entry: more than what it is created with.
const HEAD: u64 = 64 << 10;

/// One regular file of a data dir.
#[derive(Clone, Debug)]
pub struct SourceFile {
    pub path: PathBuf,
    /// Its path in an archive: below `member/`, in either layout.
    pub archive_path: String,
    pub kind: FileKind,
    /// Its size in bytes when it was listed.
    pub bytes: u64,
    /// Whether its name is a symlink, which etcd follows.
    pub is_link: bool,
}

impl SourceFile {
    /// Whether it is a segment that 2.0 has not renamed; in an archive it has its right name.
    pub fn is_unrenamed(&self) -> bool {
        matches!(self.kind, FileKind::Segment(_)) && self.path.extension() == Some("tmp".as_ref())
    }

    /// Opens the listed file; fails if another file has its name now, or the name of a directory above it.
    pub fn open(&self) -> io::Result<fs::File> {
        let dir = Dir::open_resolved(&parent_of(&self.path))?;
        let mut flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        flags.set(OFlags::NOFOLLOW, !self.is_link);
        let file = dir.open_file(self.path.file_name().unwrap_or_default(), flags)?;
        let found = file.metadata()?;
        let foreign = self.is_link && found.uid() != dir.file().metadata()?.uid();
        if found.is_file() && !foreign {
            return Ok(file);
        }
        let why = "it is another file now than when it was listed";
        Err(with_path(io::Error::other(why), "open", &self.path))
    }
}

/// Files in a data dir that are not part of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftoverKind {
    /// `*.snap.broken`: a raft snapshot that etcd could not read and renamed.
    BrokenSnapshot,
    /// `*.wal.broken`: a copy made before etcd cut off a torn tail.
    BrokenSegment,
    /// `*.tmp`: a segment that was being made.
    Temporary,
    /// A raft snapshot of 3.4 without a marker in the WAL: 3.4 writes the file first.
    UnmarkedSnapshot,
    /// A raft snapshot that someone renamed, so that etcd loads it before the others.
    Renamed,
    Unknown,
}

impl LeftoverKind {
    /// What it is, where it comes from, and whether it may be removed, with any condition.
    pub fn texts(self) -> [&'static str; 3] {
        match self {
            Self::BrokenSnapshot => [
                "a raft snapshot that etcd could not read and set aside",
                "etcd or `etcdctl backup` met a raft snapshot that could not be read, often one still being written, and renamed it",
                "yes, once the member runs well; until then keep it: it may be the newest raft snapshot",
            ],
            Self::BrokenSegment => [
                "etcd's copy of a segment from before it cut off a torn tail",
                "etcd was killed while it wrote; at its next start it copied the segment and cut the original",
                "yes, once the member runs well and agrees with the others: it holds what was cut off",
            ],
            Self::Temporary => [
                "a file that was being made when etcd stopped",
                "etcd was killed while it made the file",
                "yes, while etcd is stopped",
            ],
            Self::UnmarkedSnapshot => [
                "a raft snapshot that the WAL does not know of yet, because etcd was stopped",
                "etcd 3.4 was killed between the raft snapshot and its marker in the WAL",
                "no: leave it to etcd, which purges it in its turn",
            ],
            Self::Renamed => [
                "a `.snap` file that etcd loads before the others, because its name sorts last",
                "something other than etcd, which names a raft snapshot by its term and index, 16 hex digits each",
                "no: stop etcd, and rename it or move it away; etcd-ark reads the other files",
            ],
            Self::Unknown => [
                "not a file that etcd makes",
                "something other than etcd",
                "ask who put it there; etcd does not need it",
            ],
        }
    }

    /// Whether etcd loads it if its content is valid.
    pub fn is_loaded(self) -> bool {
        self == Self::Renamed
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

#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Raft snapshots, newest first.
    pub snapshots: Vec<(SnapshotId, SourceFile)>,
    /// Segments, by sequence number.
    pub segments: Vec<(SegmentName, SourceFile)>,
    /// 3.x: the backend of the v3 store.
    pub db: Option<SourceFile>,
    pub leftovers: Vec<(LeftoverKind, SourceFile)>,
    /// Names in the data dir that are not part of the member, and leftovers that are not regular files.
    pub outside: Vec<String>,
}

impl Listing {
    /// The segments that 2.0 has not renamed.
    pub fn unrenamed(&self) -> impl Iterator<Item = &SourceFile> {
        let segments = self.segments.iter().map(|(_, file)| file);
        segments.filter(|file| file.is_unrenamed())
    }

    /// The files that are symlinks, which were followed.
    pub fn links(&self) -> impl Iterator<Item = &SourceFile> {
        let snapshots = self.snapshots.iter().map(|(_, file)| file);
        let segments = self.segments.iter().map(|(_, file)| file);
        let files = snapshots.chain(segments).chain(&self.db);
        files.filter(|file| file.is_link)
    }
}

/// Whether etcd takes the file at `path` in an archive for a raft snapshot: it looks only at how a name ends, and
/// loads the one that sorts last.
fn is_for_raft_snapshot(path: &str) -> bool {
    path.starts_with("member/snap/") && path.strip_suffix(".snap").is_some()
}

/// The archive path of 3.x's backend of the v3 store.
const DB: &str = "member/snap/db";

impl DataDir {
    /// Lists what is in it now. A file that vanishes meanwhile is left out.
    pub fn list(&self) -> Result<Listing, DataDirError> {
        let mut listing = Listing::default();
        for found in self.entries()? {
            match found? {
                Found::File(file) => listing.take(file),
                Found::LeftOut(what) => listing.outside.push(what),
            }
        }
        listing.snapshots.sort_by(|(a, _), (b, _)| b.cmp(a));
        let newest = listing.snapshots.first();
        let newest = newest.map(|(_, file)| file.archive_path.clone());
        for (kind, file) in &mut listing.leftovers {
            if is_for_raft_snapshot(&file.archive_path)
                && newest.as_ref() < Some(&file.archive_path)
            {
                *kind = LeftoverKind::Renamed;
            }
        }
        listing.segments.sort_by_key(|(name, _)| *name);
        listing.outside.extend(self.outside()?);
        if listing.segments.is_empty() {
            return Err(DataDirError::NoSegments(self.wal_dir().to_path_buf()));
        }
        Ok(listing)
    }

    /// Every regular file of the member: what etcd takes for raft snapshots, in its order, then the segments in
    /// order, then the rest; and errors for other kinds of file with names that etcd would open.
    pub fn files(&self) -> Result<(Vec<SourceFile>, Vec<DataDirError>), DataDirError> {
        let (mut files, mut faults) = (Vec::new(), Vec::new());
        for found in self.entries()? {
            match found {
                Ok(Found::File(file)) => files.push(file),
                Ok(Found::LeftOut(_)) => {}
                Err(fault) => faults.push(fault),
            }
        }
        files.sort_by_key(|file| match file.kind {
            FileKind::Segment(name) => (1, Reverse(None), Some(name)),
            _ if is_for_raft_snapshot(&file.archive_path) => {
                (0, Reverse(Some(file.archive_path.clone())), None)
            }
            _ => (2, Reverse(None), None),
        });
        Ok((files, faults))
    }

    fn entries(&self) -> Result<Vec<Result<Found, DataDirError>>, DataDirError> {
        let mut found = entries_in(self.snap_dir(), "member/snap/")?;
        found.extend(entries_in(self.wal_dir(), "member/wal/")?);
        Ok(found)
    }
}

impl Listing {
    fn take(&mut self, file: SourceFile) {
        match file.kind {
            FileKind::Snapshot(id) => self.snapshots.push((id, file)),
            FileKind::Segment(name) => self.segments.push((name, file)),
            FileKind::Other if file.archive_path == DB => self.db = Some(file),
            FileKind::Other => {
                let kind = LeftoverKind::of(file_name(&file.archive_path));
                self.leftovers.push((kind, file));
            }
        }
    }
}

/// What a name in `snap` or `wal` is.
enum Found {
    File(SourceFile),
    /// Neither read by etcd nor archived; a text for people.
    LeftOut(String),
}

impl Found {
    fn file(&self) -> Option<&SourceFile> {
        match self {
            Self::File(file) => Some(file),
            Self::LeftOut(_) => None,
        }
    }
}

fn entries_in(dir: &Path, prefix: &str) -> Result<Vec<Result<Found, DataDirError>>, DataDirError> {
    let mut found = Vec::new();
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
        let archive_path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        found.extend(look_at(entry.path(), archive_path, entry.file_type()).transpose());
    }
    adopt(&mut found);
    Ok(found)
}

/// Gives segments that 2.0 has not renamed the names that they should have.
fn adopt(found: &mut [Result<Found, DataDirError>]) {
    let sequence = |file: &SourceFile| match file.kind {
        FileKind::Segment(name) => Some(name.sequence),
        _ => None,
    };
    let files = found.iter().flatten();
    let there: BTreeSet<_> = files.filter_map(|found| sequence(found.file()?)).collect();
    for one in found.iter_mut().flatten() {
        let Found::File(file) = one else { continue };
        let name = file
            .archive_path
            .strip_prefix("member/wal/")
            .and_then(unrenamed);
        let Some(name) = name.filter(|name| !there.contains(&name.sequence)) else {
            continue;
        };
        let next = name.sequence.checked_add(1);
        // Otherwise 2.0 was killed in this moment, and has not gone on yet.
        if next.is_some_and(|next| there.contains(&next)) || holds_entries(&file.path) {
            file.kind = FileKind::Segment(name);
            file.archive_path = format!("member/wal/{name}");
        }
    }
}

/// The segment that 2.0 takes a file of this name for. It looks only at how a name begins: killed before it
/// renames a new segment, it goes on in that file under the old name, and later releases do not read it.
fn unrenamed(name: &str) -> Option<SegmentName> {
    SegmentName::parse(name.strip_suffix(".tmp")?)
}

/// Whether a segment has an entry, and not only what it is created with.
fn holds_entries(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = open_regular(path).and_then(|file| file.take(HEAD).read_to_end(&mut head));
    read.is_ok() && first_kinds(&head).any(|kind| kind == Kind::Entry)
}

/// The first unrenamed segment in a WAL dir that 2.0 goes on in.
pub(crate) fn first_unrenamed(wal_dir: &Path) -> Result<Option<SegmentName>, DataDirError> {
    let found = entries_in(wal_dir, "member/wal/")?;
    let files = found.iter().flatten().filter_map(Found::file);
    let names = files.filter(|file| file.is_unrenamed());
    Ok(names
        .filter_map(|file| SegmentName::parse(file_name(&file.archive_path)))
        .min())
}

/// What is at `path`; `None` if it vanished.
fn look_at(
    path: &Path,
    archive_path: String,
    file_type: FileType,
) -> Result<Option<Found>, DataDirError> {
    let kind = FileKind::of(&archive_path);
    let is_read = kind != FileKind::Other || archive_path == DB;
    let is_link = file_type.is_symlink();
    let not_a_file = |what| {
        let path = path.to_path_buf();
        Err(DataDirError::NotAFile { path, what })
    };
    if !is_read && !file_type.is_file() {
        let what = what_it_is(file_type);
        return Ok(Some(Found::LeftOut(format!("{archive_path} ({what})"))));
    }
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if fs::symlink_metadata(path).is_ok() {
                return not_a_file("a symbolic link to nothing");
            }
            return Ok(None);
        }
        Err(error) => return Err(DataDirError::Io(error)),
    };
    if !metadata.is_file() {
        return not_a_file(what_it_is(metadata.file_type()));
    }
    if is_link && metadata.uid() != fs::metadata(parent_of(path))?.uid() {
        return Err(DataDirError::ForeignLink(path.to_path_buf()));
    }
    Ok(Some(Found::File(SourceFile {
        path: path.to_path_buf(),
        archive_path,
        kind,
        bytes: metadata.len(),
        is_link,
    })))
}

fn what_it_is(file_type: FileType) -> &'static str {
    if file_type.is_symlink() {
        "a symbolic link"
    } else if file_type.is_dir() {
        "a directory"
    } else if file_type.is_fifo() {
        "a FIFO"
    } else if file_type.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

fn vanished(error: &walkdir::Error) -> bool {
    error
        .io_error()
        .is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}
