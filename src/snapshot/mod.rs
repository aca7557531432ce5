//! Captures a data dir into an archive, even while etcd 2.x writes to it.
//!
//! In: a [`DataDir`] and a backup dir. Out: an archive that was read back and verified before it
//! got its name. The source is only read. The order makes a live capture consistent (product page,
//! snapshot): the raft snapshot is opened before the segments are listed, all segments are opened
//! before any is read, each is read up to its length at that time, and the last one is cut after its last
//! complete record. If the result is not consistent, the capture starts again.

pub mod damaged;
pub mod destination;
pub mod error;
pub mod if_changed;
pub mod open_files;
pub mod retry;
pub mod write;

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use jiff::Timestamp;

use crate::archive::manifest::{
    self, DIRECTORIES, DIRECTORY_MODE, DirectoryEntry, FileEntry, Format, Rewind, Scope, Sizes,
    Tool,
};
use crate::archive::warning::WarningCode::{
    Damage, DoesNotStart, EmptySegment, OverLimit, RemovalPending, Removed, SourceDoesNotStart,
    StrayVote, VersionPending,
};
use crate::archive::warning::{Warning, Warnings};
use crate::archive::{EXTENSION, Manifest, Writer};
use crate::data_dir::{DataDir, DbLook, is_running};
use crate::etcd::digest::Digest;
use crate::etcd::member::MemberFacts;
use crate::etcd::replay::Plan;
use crate::etcd::start::{Verdicts, is_3x, own_refusal};
use crate::etcd::trace::Trace;
use crate::fs::owner::Owner;
use crate::interrupt::{Interrupt, Interrupted};
use crate::progress::Event;
use crate::repository::lock::LockRequest;
use crate::snapshot::damaged::Remains;
use crate::snapshot::destination::Destination;
use crate::snapshot::error::{CaptureError, with_cause};
use crate::snapshot::open_files::Opening;
use crate::snapshot::retry::{PassedOver, RetryLimits, source_warning};
use crate::snapshot::write::Content;
use crate::text::size;

/// The pause before the next try on a source that changes.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone, Debug)]
pub struct SnapshotRequest<'r> {
    pub data_dir: &'r DataDir,
    pub to: Destination<'r>,
    pub scope: Scope,
    pub labels: Vec<String>,
    pub level: i32,
    pub threads: usize,
    /// Warn above this data size, in bytes.
    pub size_limit: u64,
    pub created: CreatedAt,
    /// The holder of the lock on the backup dir; `None` for a directory that no other run knows.
    pub lock: Option<LockRequest>,
}

#[derive(Clone, Copy, Debug)]
pub enum CreatedAt {
    At(Timestamp),
    /// The start of the capture by this clock: after the wait for other runs on the backup
    /// dir, and taken again if another archive of the same member has the resulting name.
    Beginning(fn() -> Timestamp),
}

impl CreatedAt {
    fn read(self) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Beginning(clock) => clock(),
        }
    }
}

/// What the archive of a rewind records about its source.
#[derive(Clone, Debug)]
pub struct Made {
    pub rewind: Rewind,
    /// Owner of the files: `(uid, gid)`.
    pub owner: Owner,
    /// Whether the archive's name has the member's id, because another member has the same name.
    pub named_by_id: bool,
    /// How the archive is replayed while it is read back, if at all.
    pub replay: Option<Plan>,
}

/// What the archive of a made source came to when it was read back.
#[derive(Debug)]
pub struct ReadBack {
    /// The fingerprint of the store that it was replayed to.
    pub store: Option<Digest>,
    /// Every entry of its log.
    pub trace: Trace,
    /// What servers of each release line do with it.
    pub starts: Option<Verdicts>,
}

#[derive(Debug)]
pub struct Captured {
    pub path: PathBuf,
    pub bytes: u64,
    pub sha256: Digest,
    pub manifest: Manifest,
    /// Of a source that was made for this.
    pub proof: Option<ReadBack>,
    /// Whether the lock kept other runs out, if it was requested.
    pub alone: bool,
}

pub fn capture(
    request: &SnapshotRequest<'_>,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<Captured, CaptureError> {
    capture_as(request, None, interrupt, observe)
}

/// Captures a data dir made by a rewind into a new archive that records it.
pub(crate) fn capture_made(
    request: &SnapshotRequest<'_>,
    made: Made,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<Captured, CaptureError> {
    capture_as(request, Some(made), interrupt, observe)
}

fn capture_as(
    request: &SnapshotRequest<'_>,
    made: Option<Made>,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<Captured, CaptureError> {
    // A directory that is not a data dir must not leave a new backup dir behind.
    if request.scope != Scope::Damaged {
        request.data_dir.list()?;
    }
    request.to.refuse_inside(request.data_dir)?;
    let mut capture = Capture {
        request,
        created: request.created.read(),
        made,
        starts: None,
        interrupt,
        observe,
    };
    let captured = capture.store();
    captured.map_err(|error| error.with_those_that_start(request.data_dir))
}

/// What is wrong with a damaged data dir, and with the request if that has left out the log.
fn damage_warnings(damage: &manifest::Damage, files: &[FileEntry], data_dir: &DataDir) -> Warnings {
    let mut lines = damage.lines();
    let has_log = files
        .iter()
        .any(|file| file.path.starts_with("member/wal/"));
    if !has_log && !data_dir.has_dedicated_wal() {
        lines.push(
            "the archive holds no log: if etcd runs with `--wal-dir`, pass the same here"
                .to_owned(),
        );
    }
    Warnings(lines.into_iter().map(|line| Damage.text(line)).collect())
}

/// Captures the data dir of `request` as if it were not damaged, and keeps nothing. Returns why its own release
/// does not start because of what is in its files, if it does not.
fn capture_nowhere(
    request: &SnapshotRequest<'_>,
    interrupt: &Interrupt,
) -> Result<Option<String>, CaptureError> {
    let source = request.data_dir;
    let wal_dir = source.has_dedicated_wal().then(|| source.wal_dir());
    let data_dir = &DataDir::open(source.root(), wal_dir)?;
    let scope = Scope::Live;
    let request = &SnapshotRequest {
        data_dir,
        scope,
        ..request.clone()
    };
    let mut ordinary = Capture {
        request,
        created: request.created.read(),
        made: None,
        starts: None,
        interrupt,
        observe: &mut |_| {},
    };
    let (manifest, _) = ordinary.retry_until_consistent(None)?;
    let source = manifest.warnings.0.into_iter();
    let mut source = source.filter(|warning| warning.code == SourceDoesNotStart);
    let dead = manifest.does_not_start.map(|text| {
        let starts = ordinary.starts.as_ref();
        let refusal = starts.and_then(|starts| own_refusal(starts, manifest.member.release()));
        let why = refusal.and_then(|(line, verdict)| verdict.why_not(*line));
        why.unwrap_or(text)
    });
    Ok(dead.or_else(|| source.next().map(|warning| warning.text)))
}

/// `etcd-<member>-[damaged-]<UTC time>-<last index, 16 hex>.tar.zst`.
fn archive_name(manifest: &Manifest, by_id: bool) -> String {
    let identity = &manifest.member.identity;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '_' || c == '-';
    let member: String = match &identity.name {
        Some(name) if !by_id => name
            .chars()
            .take(64)
            .map(|c| if is_plain(c) { c } else { '_' })
            .collect(),
        _ => identity.member_id.to_string(),
    };
    let time = manifest.created.strftime("%Y%m%dT%H%M%S%.3fZ");
    let index = manifest.member.position.index.0;
    let damaged = match manifest.damage {
        Some(_) => "damaged-",
        None => "",
    };
    format!("etcd-{member}-{damaged}{time}-{index:016x}{EXTENSION}")
}

struct Capture<'c> {
    request: &'c SnapshotRequest<'c>,
    created: Timestamp,
    made: Option<Made>,
    /// Which servers start from what was written last.
    starts: Option<Verdicts>,
    interrupt: &'c Interrupt,
    observe: &'c mut dyn FnMut(Event),
}

type Written = (Manifest, crate::archive::writer::Finished);

impl Capture<'_> {
    fn writer<'f>(&self, file: Option<&'f File>) -> io::Result<Writer<'f>> {
        let SnapshotRequest { level, threads, .. } = *self.request;
        match file {
            Some(file) => Writer::new(file, level, threads),
            None => Ok(Writer::nowhere(level, threads)),
        }
    }

    fn name(&self, manifest: &Manifest) -> String {
        let by_id = self.made.as_ref().is_some_and(|made| made.named_by_id);
        archive_name(manifest, by_id)
    }

    fn retry_until_consistent(
        &mut self,
        to: Option<(&File, &Path)>,
    ) -> Result<Written, CaptureError> {
        let file = to.map(|(file, _)| file);
        let mut limits = RetryLimits::default();
        loop {
            self.interrupt.check()?;
            let attempt = match self.request.scope {
                Scope::Damaged => self.save_damaged(file),
                Scope::Live | Scope::All => self.attempt(file, &limits.passed_over),
            };
            let error = match attempt {
                Ok(written) => return Ok(written),
                Err(_) if self.interrupt.check().is_err() => return Err(Interrupted.into()),
                Err(error) => match to {
                    Some((_, path)) => error.written_to(path),
                    None => error,
                },
            };
            let running = self.is_running();
            if !limits.tries_again(&error, running) {
                return Err(match error {
                    CaptureError::Start(fault) if running => CaptureError::Unsettled(fault),
                    error => error,
                });
            }
            let attempt = limits.attempts();
            let reason = with_cause(&error);
            (self.observe)(Event::Again { attempt, reason });
            std::thread::sleep(PAUSE);
        }
    }

    /// Whether etcd runs on the source; takes no lock.
    fn is_running(&self) -> bool {
        let listing = self.request.data_dir.list().unwrap_or_default();
        let paths = listing.segments.iter().map(|(_, file)| file.path.as_path());
        is_running(paths).is_ok_and(|running| running.is_some())
    }

    /// Saves every file unchanged.
    fn save_damaged(&mut self, file: Option<&File>) -> Result<Written, CaptureError> {
        let request = self.request;
        let remains = Remains::open(request.data_dir)?;
        (self.observe)(Event::Begin {
            part: "saving",
            bytes: remains.bytes(),
        });
        let mtime = remains.newest_mtime()?;
        let mut writer = self.writer(file)?;
        let directories = directories(request.data_dir, None)?;
        for directory in &directories {
            writer.directory(directory, mtime)?;
        }
        let interrupt = self.interrupt;
        let ordinary = || capture_nowhere(request, interrupt);
        let (facts, damage) = remains.write(&mut writer, ordinary, interrupt, self.observe)?;
        let sizes = Sizes {
            data: 0,
            limit: request.size_limit,
            directory: request.data_dir.total_bytes(),
        };
        let complete = |files: Vec<FileEntry>| Manifest {
            format: Format::DAMAGED,
            warnings: damage_warnings(&damage, &files, request.data_dir),
            damage: Some(damage),
            ..self.manifest(facts, sizes, directories, files)
        };
        Ok(writer.finish(mtime, complete)?)
    }

    fn attempt(
        &mut self,
        file: Option<&File>,
        passed_over: &[PassedOver],
    ) -> Result<Written, CaptureError> {
        let request = self.request;
        let opening = Opening::open(request.data_dir, request.scope, passed_over)?;
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
        let mut writer = self.writer(file)?;
        let owner = self.made.as_ref().map(|made| made.owner);
        let directories = directories(request.data_dir, owner)?;
        for directory in &directories {
            writer.directory(directory, mtime)?;
        }
        let mut warnings = opening.warnings.clone();
        let mut content = Content {
            writer: &mut writer,
            owner,
            interrupt: self.interrupt,
            observe: self.observe,
        };
        let (facts, verdicts) = content.write_member(&opening, &mut warnings)?;
        let starts = verdicts.as_ref().filter(|_| opening.db.is_none());
        let refusal = starts.and_then(|starts| own_refusal(starts, facts.release()));
        let warning = refusal.and_then(|(line, verdict)| verdict.warning(*line, "this archive"));
        if !facts.is_removed() {
            warnings.extend(warning.iter().map(|text| DoesNotStart.text(text)));
        }
        let is_dead = refusal.is_some_and(|(_, verdict)| verdict.never_starts());
        let mut does_not_start = warning.filter(|_| is_dead);
        if starts.is_some_and(|starts| !is_3x(starts))
            && let Some((source, is_lost)) = source_warning(passed_over, facts.position.index)
        {
            // An archive that lacks entries does not take the place of an older one that has them.
            let lacks = is_lost.then(|| source.text.clone());
            does_not_start = does_not_start.or(lacks);
            // What is lost is said first.
            let place = if is_lost { 0 } else { warnings.len() };
            warnings.insert(place, source);
        }
        self.starts = verdicts;
        if let (Some(before), Some(db)) = (looked, &opening.db)
            && (DbLook::take(&db.file)? != before || opening.running()?.is_some())
        {
            return Err(CaptureError::DbChanged);
        }
        let snapshot_bytes = opening.snapshot.as_ref().map_or(0, |opened| opened.length);
        let sizes = Sizes {
            data: snapshot_bytes + facts.log_bytes_above_snapshot,
            limit: request.size_limit,
            directory: request.data_dir.total_bytes(),
        };
        let (more, mut notes) = facts_warnings(&facts, &sizes);
        warnings.extend(more);
        notes.extend(opening.notes.iter().cloned());
        let complete = |files: Vec<FileEntry>| Manifest {
            warnings: Warnings(warnings),
            notes,
            does_not_start,
            ..self.manifest(facts, sizes, directories, files)
        };
        Ok(writer.finish(mtime, complete)?)
    }

    /// Of an archive without warnings.
    fn manifest(
        &self,
        member: MemberFacts,
        sizes: Sizes,
        directories: Vec<DirectoryEntry>,
        files: Vec<FileEntry>,
    ) -> Manifest {
        Manifest {
            format: Format::CURRENT,
            tool: Tool::this(),
            created: self.created,
            scope: self.request.scope,
            labels: self.request.labels.clone(),
            member,
            sizes,
            directories,
            files,
            warnings: Warnings::default(),
            notes: Vec::new(),
            does_not_start: None,
            rewind: self.made.as_ref().map(|made| made.rewind.clone()),
            damage: None,
        }
    }
}

/// The member's directories with their modes and owners, in archive order.
fn directories(data_dir: &DataDir, owner: Option<Owner>) -> io::Result<Vec<DirectoryEntry>> {
    let sources = [
        data_dir.member_dir(),
        data_dir.snap_dir(),
        data_dir.wal_dir(),
    ];
    DIRECTORIES
        .into_iter()
        .zip(sources)
        .map(|(path, source)| {
            let metadata = fs::metadata(source)
                .or_else(|_| fs::metadata(data_dir.wal_dir()))
                .or_else(|_| fs::metadata(data_dir.member_dir()))?;
            let Owner { uid, gid } = owner.unwrap_or_else(|| Owner::of(&metadata));
            Ok(DirectoryEntry {
                path: path.to_owned(),
                mode: metadata.mode() & DIRECTORY_MODE,
                uid,
                gid,
            })
        })
        .collect()
}

fn facts_warnings(facts: &MemberFacts, sizes: &Sizes) -> (Vec<Warning>, Vec<String>) {
    let (mut warnings, mut notes) = (Vec::new(), Vec::new());
    let (data, limit) = (size(sizes.data), size(sizes.limit));
    let directory = size(sizes.directory);
    if sizes.data > sizes.limit {
        warnings.push(OverLimit.text(format!(
            "the data size is {data}, over the limit of {limit}: etcd's guide says to get help before an upgrade"
        )));
    } else if sizes.directory > sizes.limit {
        notes.push(format!(
            "the data dir as a whole is {directory}, over {limit}, but the data in it are {data}"
        ));
    }
    if facts.is_removed() {
        let id = facts.identity.member_id;
        warnings.push(Removed.text(format!(
            "member {id} has been removed from its cluster: a start on this data will not rejoin it"
        )));
    }
    if facts.removal_pending {
        let id = facts.identity.member_id;
        warnings.push(RemovalPending.text(format!(
            "the removal of member {id}, this one, is in the log but not known to be committed"
        )));
    }
    let empty = facts.last_segment_warning();
    warnings.extend(empty.map(|text| EmptySegment.text(text)));
    if facts.has_stray_vote() {
        let vote = facts.position.vote;
        warnings.push(StrayVote.text(format!(
            "the member's vote is for {vote}, a member that its files do not know"
        )));
    }
    if let Some(pending) = facts.pending_version() {
        warnings.push(VersionPending.text(format!(
            "cluster version {} is in the log but not known to be committed: the cluster is about to move",
            pending.version
        )));
    }
    (warnings, notes)
}
