//! Capturing a data dir into an archive, also while etcd 2.x writes to it.
//!
//! In: a [`DataDir`] and a backup dir. Out: an archive that was read back and proven before it
//! got its name. The source is only read. Order is what makes a live capture whole (product page,
//! snapshot): the raft snapshot is opened before the segments are listed, all segments are opened
//! before any is read, each is read up to the length it had, and the last one is cut at its last
//! whole record. What does not fit together is taken again from the start.

use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use jiff::Timestamp;

use super::Event;
use super::survey::{PIECE, torn_tail_fault};
use super::verify::{VerifyFault, verify};
use crate::ground::ids::Index;
use crate::ground::interrupt::{Interrupt, Interrupted};
use crate::ground::publish::{StagedFile, remove_stale, with_path};
use crate::language::examine::{Examiner, FileEnd, FileFault, FileKind};
use crate::language::member::{MemberFacts, StartFault};
use crate::language::raft_snapshot::SnapshotId;
use crate::language::wal::segment::{SegmentEnd, SegmentScan};
use crate::place::archive::manifest::{
    DIRECTORIES, DirectoryEntry, FileEntry, Format, Role, Scope, Sizes, Tool, check_path,
};
use crate::place::archive::{
    Archive, ArchiveError, EXTENSION, Manifest, NewFile, SUM_EXTENSION, Writer,
};
use crate::place::data_dir::{
    DataDir, DataDirError, DbFault, DbLook, Listing, Running, SourceFile, is_running,
};

/// How often a capture is begun anew before it is given up.
const TRIES: u32 = 5;
/// How long to wait for a source that moves to come to rest.
const PAUSE: Duration = Duration::from_millis(100);
/// How often a raft snapshot that does not check is looked at before it is passed over.
const LOOKS: u32 = 3;
/// How many times a raft snapshot may grow between two looks.
const MAX_LOOKS: u32 = 20;

/// What to capture, and how.
#[derive(Clone, Debug)]
pub struct Request<'r> {
    /// The source.
    pub data_dir: &'r DataDir,
    /// Where the archive goes; made if it is missing.
    pub backup_dir: &'r Path,
    /// How much of the source.
    pub scope: Scope,
    /// What the user calls it.
    pub labels: Vec<String>,
    /// zstd's compression level.
    pub level: i32,
    /// Threads to compress and check on.
    pub threads: usize,
    /// The data size, in bytes, above which there is a warning.
    pub size_limit: u64,
    /// The time to put into the archive and its name.
    pub created: Timestamp,
}

/// An archive that now stands in the backup dir.
#[derive(Debug)]
pub struct Captured {
    /// Where.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// The digest of all of it.
    pub sha256: crate::ground::digest::Digest,
    /// What it says of itself.
    pub manifest: Manifest,
}

/// Why there is no new archive.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The source is no data dir.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A 3.x server runs, whose `snap/db` cannot be copied under it.
    #[error("etcd 3.x runs on this data dir (`{}` is locked), and its `snap/db` cannot be copied while it is written to", .0.file.display())]
    Running(Running),
    /// `snap/db` was written to while it was copied.
    #[error("`snap/db` changed while it was copied: a server is writing to it")]
    DbChanged,
    /// `snap/db` is not one that etcd could open.
    #[error(transparent)]
    Db(#[from] DbFault),
    /// A file does not check.
    #[error("`{path}` does not check")]
    Source {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        fault: FileFault,
    },
    /// etcd could not start from what is there.
    #[error("etcd could not start from this data dir")]
    Start(#[from] StartFault),
    /// A file went away while it was wanted.
    #[error("`{0}` vanished while it was being captured")]
    Vanished(PathBuf),
    /// What was written does not read back.
    #[error("the archive does not read back from the disk as it was written")]
    ReadBack(#[source] VerifyFault),
    /// The archive cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The operating system says no.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Somebody asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl CaptureError {
    /// Sources are read through `fs_err`, which says where; a bare error is the archive's own.
    fn written_to(self, path: &Path) -> Self {
        match self {
            Self::Io(error) if error.raw_os_error().is_some() => {
                Self::Io(with_path(error, "write", path))
            }
            other => other,
        }
    }

    /// Whether it may be otherwise in a moment, because etcd is at work.
    fn may_pass(&self) -> bool {
        match self {
            Self::Source { .. } | Self::Start(_) | Self::Vanished(_) => true,
            Self::DataDir(error) => matches!(
                error,
                DataDirError::BeginsLate { .. } | DataDirError::SegmentGap { .. }
            ),
            _ => false,
        }
    }
}

/// Captures `request.data_dir` into a new archive.
pub fn capture(
    request: &Request<'_>,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<Captured, CaptureError> {
    make_backup_dir(request.backup_dir)?;
    remove_stale(request.backup_dir);
    let staged = StagedFile::create(request.backup_dir)?;
    let mut capture = Capture {
        request,
        interrupt,
        observe,
        passed_over: Vec::new(),
        has_db: false,
        looks: Vec::new(),
    };
    let (manifest, finished) = capture.until_it_fits(&staged)?;
    staged.sync_and_drop_cache()?;
    let archive = Archive::open(staged.path())?;
    let report = verify(&archive, request.threads, interrupt, observe)?;
    if let Some(fault) = report.first_fault() {
        return Err(CaptureError::ReadBack(fault));
    }
    let name = archive_name(&manifest);
    let path = request.backup_dir.join(&name);
    let sum = StagedFile::create(request.backup_dir)?;
    // In one write: `writeln!` would make one of every two digits.
    let line = format!("{}  {name}\n", finished.sha256);
    sum.file()
        .write_all(line.as_bytes())
        .map_err(|error| with_path(error, "write", sum.path()))?;
    sum.sync()?;
    interrupt.check()?;
    staged.publish(&path)?;
    sum.publish(&request.backup_dir.join(name + SUM_EXTENSION))?;
    Ok(Captured {
        path,
        bytes: finished.bytes,
        sha256: finished.sha256,
        manifest,
    })
}

fn make_backup_dir(path: &Path) -> io::Result<()> {
    if !path.is_dir() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| with_path(error, "make the backup dir", path))?;
    }
    Ok(())
}

/// `etcd-<member>-<UTC time>-<last index, 16 hex>.tar.zst`.
fn archive_name(manifest: &Manifest) -> String {
    let identity = &manifest.member.identity;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '_' || c == '-';
    let member: String = match &identity.name {
        Some(name) => name
            .chars()
            .take(64)
            .map(|c| if is_plain(c) { c } else { '_' })
            .collect(),
        None => identity.member_id.to_string(),
    };
    let time = manifest.created.strftime("%Y%m%dT%H%M%S%.3fZ");
    let index = manifest.member.position.index.0;
    format!("etcd-{member}-{time}-{index:016x}{EXTENSION}")
}

struct Capture<'c> {
    request: &'c Request<'c>,
    interrupt: &'c Interrupt,
    observe: &'c mut dyn FnMut(Event),
    /// Raft snapshots that a start would not load, and why; they are not looked at any more.
    passed_over: Vec<(SnapshotId, String)>,
    /// Whether there is a `snap/db`: the directory is one of 3.x.
    has_db: bool,
    /// How often raft snapshots that do not check were looked at, and how long they were.
    looks: Vec<(SnapshotId, u32, u32, u64)>,
}

/// A source file, open, and how much of it is taken.
struct Opened {
    source: SourceFile,
    file: fs::File,
    length: u64,
}

/// Everything of one attempt, opened before anything is read.
struct Opening {
    snapshot: Option<Opened>,
    /// Segments from before the live set, only when all is wanted.
    older_segments: Vec<Opened>,
    segments: Vec<Opened>,
    older_snapshots: Vec<Opened>,
    leftovers: Vec<Opened>,
    db: Option<Opened>,
    warnings: Vec<String>,
}

type Written = (Manifest, crate::place::archive::writer::Finished);

impl Capture<'_> {
    /// Captures again and again until what is read fits together.
    fn until_it_fits(&mut self, staged: &StagedFile) -> Result<Written, CaptureError> {
        let mut attempt = 1;
        loop {
            self.interrupt.check()?;
            let error = match self.attempt(staged) {
                Ok(written) => return Ok(written),
                Err(_) if self.interrupt.check().is_err() => return Err(Interrupted.into()),
                Err(error) => error.written_to(staged.path()),
            };
            let patient = self.look_again(&error);
            if !patient && (!error.may_pass() || attempt == TRIES) {
                return Err(error);
            }
            let reason = std::error::Error::source(&error)
                .map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
            (self.observe)(Event::Again { attempt, reason });
            if !patient {
                attempt += 1;
                // Over from the listing: one that was still being written may be whole by now,
                // and the segments that an older one needs may be purged.
                self.passed_over.clear();
                self.looks.clear();
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// A raft snapshot that does not check may still be being written: it is looked at again
    /// while it grows, and passed over once it stays as it is. Whether that is what happened.
    fn look_again(&mut self, error: &CaptureError) -> bool {
        let (path, fault) = match error {
            CaptureError::Source { path, fault } => (path, fault),
            // 3.4 writes the file first and its marker after it; killed in between, it starts
            // from the newest one that has a marker.
            CaptureError::Start(StartFault::NoMarker(id)) if self.has_db => {
                let reason = "has no marker in the WAL".to_owned();
                self.passed_over.push((*id, reason));
                return true;
            }
            _ => return false,
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(id) = SnapshotId::from_file_name(&name) else {
            return false;
        };
        let length = fs::metadata(path).map_or(0, |metadata| metadata.len());
        let found = self.looks.iter().position(|(known, ..)| *known == id);
        let at = found.unwrap_or_else(|| {
            self.looks.push((id, 0, 0, length));
            self.looks.len() - 1
        });
        let Some((_, looks, same, seen)) = self.looks.get_mut(at) else {
            return false;
        };
        *looks += 1;
        *same = if *seen == length { *same + 1 } else { 1 };
        *seen = length;
        if *same >= LOOKS || *looks >= MAX_LOOKS {
            let reason = format!("does not check ({fault})");
            self.passed_over.push((id, reason));
        }
        true
    }

    fn attempt(&mut self, staged: &StagedFile) -> Result<Written, CaptureError> {
        let request = self.request;
        let opening = self.open()?;
        let looked = opening
            .db
            .as_ref()
            .map(|db| DbLook::take(&db.file))
            .transpose()?;
        (self.observe)(Event::Begin {
            part: "capturing",
            bytes: opening.all().map(|opened| opened.length).sum(),
        });
        let mtime = opening.newest_mtime()?;
        let mut writer = Writer::new(staged.file(), request.level, request.threads)?;
        let directories = self.directories()?;
        for directory in &directories {
            writer.directory(directory, mtime)?;
        }
        let mut warnings = opening.warnings.clone();
        let facts = self.write_member(&mut writer, &opening, &mut warnings)?;
        if let (Some(before), Some(db)) = (looked, &opening.db)
            && (DbLook::take(&db.file)? != before || self.running(&opening)?.is_some())
        {
            return Err(CaptureError::DbChanged);
        }
        let snapshot_bytes = opening.snapshot.as_ref().map_or(0, |opened| opened.length);
        let sizes = Sizes {
            data: snapshot_bytes + facts.log_bytes_above_snapshot,
            limit: request.size_limit,
            directory: request.data_dir.total_bytes(),
        };
        warnings.extend(facts_warnings(&facts, &sizes));
        let complete = |files: Vec<FileEntry>| Manifest {
            format: Format::current(),
            tool: Tool::this(),
            created: request.created,
            scope: request.scope,
            labels: request.labels.clone(),
            member: facts,
            sizes,
            directories,
            files,
            warnings,
        };
        Ok(writer.finish(mtime, complete)?)
    }

    /// Opens the raft snapshot, then lists and opens the segments, then takes their lengths.
    fn open(&mut self) -> Result<Opening, CaptureError> {
        let data_dir = self.request.data_dir;
        let listing = data_dir.list()?;
        let mut warnings = Vec::new();
        for (id, reason) in &self.passed_over {
            warnings.push(format!(
                "the raft snapshot at {id} {reason} and was passed over; etcd would do the same at its next start"
            ));
        }
        let is_good = |id: &SnapshotId| self.passed_over.iter().all(|(bad, _)| bad != id);
        let chosen = listing.snapshots.iter().find(|(id, _)| is_good(id));
        let snapshot = chosen.map(|(_, source)| open_source(source)).transpose()?;
        // Listed after the snapshot was opened: its marker is in one of these.
        let later = data_dir.list()?;
        self.has_db = later.db.is_some();
        let index = chosen.map_or(Index(0), |(id, _)| id.index);
        let covering = data_dir.covering(&later, index)?;
        let mut segments: Vec<_> = open_all(covering.iter().map(|(_, source)| source))?;
        let mut opening = Opening {
            snapshot,
            older_segments: Vec::new(),
            older_snapshots: Vec::new(),
            leftovers: Vec::new(),
            db: later.db.as_ref().map(open_source).transpose()?,
            segments: Vec::new(),
            warnings,
        };
        if self.request.scope == Scope::All {
            let first = covering.first().map(|(name, _)| name.sequence);
            self.open_the_rest(&later, first.unwrap_or(0), &mut opening)?;
        }
        if let Some(last) = segments.last_mut() {
            cut_torn_tail(last, &mut opening.warnings)?;
        }
        opening.segments = segments;
        if opening.db.is_some()
            && let Some(running) = self.running(&opening)?
        {
            return Err(CaptureError::Running(running));
        }
        Ok(opening)
    }

    fn open_the_rest(
        &self,
        listing: &Listing,
        first_live: u64,
        opening: &mut Opening,
    ) -> Result<(), CaptureError> {
        let chosen = opening
            .snapshot
            .as_ref()
            .map(|opened| opened.source.path.clone());
        let (mut chain, mut expected) = (Vec::new(), first_live);
        for (name, source) in listing.segments.iter().rev() {
            if name.sequence.checked_add(1) == Some(expected) {
                chain.push(source);
                expected = name.sequence;
            } else if name.sequence < expected {
                opening.leftovers.extend(open_if_there(source)?);
            }
        }
        for source in chain.into_iter().rev() {
            opening.older_segments.extend(open_if_there(source)?);
        }
        for (_, source) in &listing.snapshots {
            if chosen.as_deref() != Some(&source.path) {
                opening.older_snapshots.extend(open_if_there(source)?);
            }
        }
        for (_, source) in &listing.leftovers {
            match check_path(&source.archive_path) {
                Ok(()) => opening.leftovers.extend(open_if_there(source)?),
                Err(why) => {
                    let path = source.path.display();
                    opening
                        .warnings
                        .push(format!("`{path}` was left out: {why}"));
                }
            }
        }
        if !listing.outside.is_empty() {
            let names = listing.outside.join(", ");
            opening
                .warnings
                .push(format!("left out, no part of the member: {names}"));
        }
        Ok(())
    }

    fn running(&self, opening: &Opening) -> Result<Option<Running>, CaptureError> {
        let paths = opening.segments.iter().chain(&opening.db);
        Ok(is_running(
            paths.map(|opened| opened.source.path.as_path()),
        )?)
    }

    fn directories(&self) -> io::Result<Vec<DirectoryEntry>> {
        let data_dir = self.request.data_dir;
        let sources = [
            data_dir.member_dir(),
            data_dir.snap_dir(),
            data_dir.wal_dir(),
        ];
        DIRECTORIES
            .into_iter()
            .zip(sources)
            .map(|(path, source)| {
                let metadata =
                    fs::metadata(source).or_else(|_| fs::metadata(data_dir.wal_dir()))?;
                Ok(DirectoryEntry {
                    path: path.to_owned(),
                    mode: metadata.mode() & 0o7777,
                    uid: metadata.uid(),
                    gid: metadata.gid(),
                })
            })
            .collect()
    }

    /// Writes all files, checking them on the way, and gives what they say together.
    fn write_member(
        &mut self,
        writer: &mut Writer<'_>,
        opening: &Opening,
        warnings: &mut Vec<String>,
    ) -> Result<MemberFacts, CaptureError> {
        let mut examiner = Examiner::default();
        if let Some(snapshot) = &opening.snapshot {
            self.write_sound(writer, snapshot, Role::RaftSnapshot, &mut examiner)?;
        }
        for segment in &opening.older_segments {
            if let Err(fault) = self.write(writer, segment, &mut examiner)? {
                // etcd reads none of these: kept as they are, and said.
                let path = segment.source.path.display();
                warnings.push(format!(
                    "`{path}`, which etcd no longer needs, does not check: {fault}"
                ));
                writer.role(Role::Leftover);
                writer.change_roles(|role| match role {
                    Role::OlderWal => Role::Leftover,
                    other => other,
                });
            } else {
                writer.role(Role::OlderWal);
            }
        }
        for segment in &opening.segments {
            self.write_sound(writer, segment, Role::Wal, &mut examiner)?;
        }
        for snapshot in &opening.older_snapshots {
            // A scan of its own: the member's facts come from the newest one.
            let sound = self.write(writer, snapshot, &mut Examiner::default())?;
            let mut passed_over = self.passed_over.iter();
            let loads = !passed_over.any(|(id, _)| snapshot.source.kind == FileKind::Snapshot(*id));
            writer.role(if sound.is_ok() && loads {
                Role::OlderRaftSnapshot
            } else {
                Role::Leftover
            });
        }
        for leftover in &opening.leftovers {
            let kind = FileKind::Other;
            self.write_as(writer, leftover, kind, &mut Examiner::default())?
                .ok();
            writer.role(Role::Leftover);
        }
        if let Some(db) = &opening.db {
            self.write_as(writer, db, FileKind::Other, &mut Examiner::default())?
                .ok();
            writer.role(Role::V3Backend);
        }
        Ok(examiner.finish()?)
    }

    fn write_sound(
        &mut self,
        writer: &mut Writer<'_>,
        opened: &Opened,
        role: Role,
        examiner: &mut Examiner,
    ) -> Result<(), CaptureError> {
        self.write(writer, opened, examiner)?
            .map_err(|fault| CaptureError::Source {
                path: opened.source.path.clone(),
                fault,
            })?;
        writer.role(role);
        Ok(())
    }

    fn write(
        &mut self,
        writer: &mut Writer<'_>,
        opened: &Opened,
        examiner: &mut Examiner,
    ) -> Result<Result<(), FileFault>, CaptureError> {
        self.write_as(writer, opened, opened.source.kind, examiner)
    }

    /// Writes one file; the inner result tells whether it checks as what `kind` says it is.
    fn write_as(
        &mut self,
        writer: &mut Writer<'_>,
        opened: &Opened,
        kind: FileKind,
        examiner: &mut Examiner,
    ) -> Result<Result<(), FileFault>, CaptureError> {
        let metadata = opened.file.metadata()?;
        let new = NewFile {
            path: opened.source.archive_path.clone(),
            size: opened.length,
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            mtime: mtime_of(&metadata),
        };
        examiner.begin(kind, opened.length);
        (&opened.file).rewind()?;
        let reader = Examined {
            file: (&opened.file).take(opened.length),
            examiner,
            piece: vec![0; PIECE],
            filled: 0,
            given: 0,
            interrupt: self.interrupt,
            observe: self.observe,
        };
        match writer.append(&new, reader) {
            // A file that became shorter was cut off by a starting etcd, or replaced.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(CaptureError::Vanished(opened.source.path.clone()));
            }
            outcome => outcome?,
        }
        Ok(match examiner.end() {
            Ok(FileEnd::Segment(SegmentEnd::TornTail { offset })) => {
                examiner.forget_chain();
                let fault = torn_tail_fault(&opened.file, offset, opened.length, false)?;
                fault.map_or(Ok(()), Err)
            }
            Ok(_) => Ok(()),
            Err(fault) => Err(fault),
        })
    }
}

impl Opening {
    fn all(&self) -> impl Iterator<Item = &Opened> {
        self.snapshot
            .iter()
            .chain(&self.older_segments)
            .chain(&self.segments)
            .chain(&self.older_snapshots)
            .chain(&self.leftovers)
            .chain(&self.db)
    }

    /// When the newest file was written: the time of the entries that the archive itself adds,
    /// so that the same input gives the same bytes.
    fn newest_mtime(&self) -> io::Result<Timestamp> {
        let mut newest = Timestamp::UNIX_EPOCH;
        for opened in self.all() {
            newest = newest.max(mtime_of(&opened.file.metadata()?));
        }
        Ok(newest)
    }
}

fn mtime_of(metadata: &std::fs::Metadata) -> Timestamp {
    let nanoseconds = i32::try_from(metadata.mtime_nsec()).unwrap_or(0);
    Timestamp::new(metadata.mtime(), nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn open_source(source: &SourceFile) -> Result<Opened, CaptureError> {
    let file = fs::File::open(&source.path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => CaptureError::Vanished(source.path.clone()),
        _ => CaptureError::Io(error),
    })?;
    let length = file.metadata()?.len();
    Ok(Opened {
        source: source.clone(),
        file,
        length,
    })
}

/// Opens all, and only then takes their lengths.
fn open_all<'s>(
    sources: impl Iterator<Item = &'s SourceFile>,
) -> Result<Vec<Opened>, CaptureError> {
    let mut opened = sources.map(open_source).collect::<Result<Vec<_>, _>>()?;
    for one in &mut opened {
        one.length = one.file.metadata()?.len();
    }
    Ok(opened)
}

/// Opens what a purge may have removed meanwhile; nothing depends on it.
fn open_if_there(source: &SourceFile) -> Result<Option<Opened>, CaptureError> {
    match open_source(source) {
        Ok(opened) => Ok(Some(opened)),
        Err(CaptureError::Vanished(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Shortens the last segment to its last whole record, if what follows is a torn tail.
fn cut_torn_tail(last: &mut Opened, warnings: &mut Vec<String>) -> Result<(), CaptureError> {
    let path = last.source.path.clone();
    let source = |fault| CaptureError::Source { path, fault };
    let mut scan = SegmentScan::new(None);
    let mut bytes = (&last.file).take(last.length);
    let mut piece = vec![0; PIECE];
    loop {
        let read = bytes.read(&mut piece)?;
        if read == 0 {
            break;
        }
        scan.update(piece.get(..read).unwrap_or_default(), &mut |_| Ok(()));
    }
    let end = match scan.finish() {
        Ok((end, _)) => end,
        Err(found) => return Err(source(FileFault::Segment(found))),
    };
    if let SegmentEnd::TornTail { offset } = end {
        if let Some(fault) = torn_tail_fault(&last.file, offset, last.length, true)? {
            return Err(source(fault));
        }
        warnings.push(format!(
            "{} ends in an unfinished record; its last {} bytes were cut off, as etcd does at a start",
            last.source.archive_path,
            last.length - offset
        ));
        last.length = offset;
    }
    Ok(())
}

/// What about the member itself is worth a warning.
fn facts_warnings(facts: &MemberFacts, sizes: &Sizes) -> Vec<String> {
    let mut warnings = Vec::new();
    let mb = |bytes: u64| bytes.div_ceil(100_000) as f64 / 10.0;
    let (data, limit, directory) = (mb(sizes.data), mb(sizes.limit), mb(sizes.directory));
    if sizes.data > sizes.limit {
        warnings.push(format!(
            "the data size is {data} MB, over the limit of {limit} MB: etcd's guide says to get help before an upgrade"
        ));
    } else if sizes.directory > sizes.limit {
        warnings.push(format!(
            "note: the data dir as a whole is {directory} MB, over {limit} MB, but the data in it are {data} MB"
        ));
    }
    if facts.is_removed() {
        let id = facts.identity.member_id;
        warnings.push(format!(
            "member {id} has been removed from its cluster: a start on this data will not rejoin it"
        ));
    }
    if facts.has_stray_vote() {
        let vote = facts.position.vote;
        warnings.push(format!(
            "the member's vote is for {vote}, a member that its files do not know"
        ));
    }
    if let Some(pending) = facts.pending_version() {
        warnings.push(format!(
            "cluster version {} is in the log but not known to be committed: the cluster is about to move",
            pending.version
        ));
    }
    warnings
}

/// A source file that is checked while it is read.
struct Examined<'e> {
    file: io::Take<&'e fs::File>,
    examiner: &'e mut Examiner,
    piece: Vec<u8>,
    filled: usize,
    given: usize,
    interrupt: &'e Interrupt,
    observe: &'e mut dyn FnMut(Event),
}

impl Read for Examined<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.filled {
            self.interrupt.check().map_err(io::Error::other)?;
            self.filled = self.file.read(&mut self.piece)?;
            self.given = 0;
            let bytes = self.piece.get(..self.filled).unwrap_or_default();
            self.examiner.update(bytes);
            (self.observe)(Event::Advance(bytes.len() as u64));
        }
        let left = self.piece.get(self.given..self.filled).unwrap_or_default();
        let length = left.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..length), left.get(..length)) {
            to.copy_from_slice(from);
        }
        self.given += length;
        Ok(length)
    }
}
