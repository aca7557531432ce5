//! Opens all files of one try before any of them is read.
//!
//! In: a data dir that etcd may be writing to. Out: an [`Opening`]: open files, so that a
//! purge cannot remove them, and how much of each is read.

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;

use fs_err as fs;
use jiff::Timestamp;

use crate::archive::manifest::{Scope, check_path, leftover_path};
use crate::archive::warning::{Warning, WarningCode};
use crate::data_dir::scan::torn_tail_fault;
use crate::data_dir::{DataDir, Listing, Running, SourceFile, is_running};
use crate::etcd::ids::{Index, SnapshotId};
use crate::etcd::scan::{FileFault, FileKind};
use crate::etcd::wal::segment::{SegmentEnd, SegmentScan};
use crate::fs::PIECE;
use crate::snapshot::error::CaptureError;
use crate::snapshot::retry::PassedOver;

pub(crate) struct Opened {
    pub(crate) source: SourceFile,
    pub(crate) file: fs::File,
    pub(crate) length: u64,
}

/// All files of one try, opened before anything is read.
pub(crate) struct Opening {
    pub(crate) snapshot: Option<Opened>,
    /// Segments from before the live set, if all are requested.
    pub(crate) older_segments: Vec<Opened>,
    pub(crate) segments: Vec<Opened>,
    pub(crate) older_snapshots: Vec<Opened>,
    pub(crate) leftovers: Vec<Opened>,
    pub(crate) db: Option<Opened>,
    /// Raft snapshots that a start would not load.
    passed_over: Vec<SnapshotId>,
    pub(crate) warnings: Vec<Warning>,
    pub(crate) notes: Vec<String>,
}

impl Opening {
    /// Opens the raft snapshot, then lists and opens the segments, then takes their lengths.
    pub(crate) fn open(
        data_dir: &DataDir,
        scope: Scope,
        passed_over: &[PassedOver],
    ) -> Result<Self, CaptureError> {
        let listing = data_dir.list()?;
        let is_good = |id: &SnapshotId| passed_over.iter().all(|bad| bad.id != *id);
        let chosen = listing.snapshots.iter().find(|(id, _)| is_good(id));
        let snapshot = chosen.map(|(_, source)| open_source(source)).transpose()?;
        // Listed after the snapshot was opened: its marker is in one of these.
        let later = data_dir.list()?;
        let index = chosen.map_or(Index(0), |(id, _)| id.index);
        let covering = data_dir.covering(&later, index)?;
        let mut segments: Vec<_> = open_all(covering.iter().map(|(_, source)| source))?;
        let mut opening = Self {
            snapshot,
            older_segments: Vec::new(),
            older_snapshots: Vec::new(),
            leftovers: Vec::new(),
            db: later.db.as_ref().map(open_source).transpose()?,
            segments: Vec::new(),
            passed_over: passed_over.iter().map(|bad| bad.id).collect(),
            warnings: passed_over
                .iter()
                .map(|bad| bad.warning(chosen.map(|(id, _)| *id)))
                .chain(unrenamed(&later))
                .collect(),
            notes: followed(&later),
        };
        if scope == Scope::All {
            let first = covering.first();
            opening.open_the_rest(&later, first.map_or(0, |(name, _)| name.sequence))?;
            let first = first.map(|(_, source)| source.kind);
            opening.rename_leftovers(chosen.map(|(_, source)| source.kind), first);
        }
        if let Some(last) = segments.last_mut() {
            cut_torn_tail(last, &mut opening.warnings)?;
        }
        opening.segments = segments;
        if opening.db.is_some()
            && let Some(running) = opening.running()?
        {
            return Err(CaptureError::Running(running));
        }
        Ok(opening)
    }

    fn open_the_rest(&mut self, listing: &Listing, first_live: u64) -> Result<(), CaptureError> {
        let chosen = self
            .snapshot
            .as_ref()
            .map(|opened| opened.source.path.clone());
        let (mut chain, mut expected) = (Vec::new(), first_live);
        for (name, source) in listing.segments.iter().rev() {
            if name.sequence.checked_add(1) == Some(expected) {
                chain.push(source);
                expected = name.sequence;
            } else if name.sequence < expected {
                self.leftovers.extend(open_if_there(source)?);
            }
        }
        for source in chain.into_iter().rev() {
            self.older_segments.extend(open_if_there(source)?);
        }
        for (_, source) in &listing.snapshots {
            if chosen.as_deref() != Some(&source.path) {
                self.older_snapshots.extend(open_if_there(source)?);
            }
        }
        for (_, source) in &listing.leftovers {
            match check_path(&source.archive_path) {
                Ok(()) => self.leftovers.extend(open_if_there(source)?),
                Err(why) => {
                    let path = source.path.display();
                    let text = format!("`{path}` was left out: {why}");
                    self.warnings.push(WarningCode::LeftOut.text(text));
                }
            }
        }
        if !listing.outside.is_empty() {
            let names = listing.outside.join(", ");
            let text = format!("left out, not part of the member: {names}");
            self.warnings.push(WarningCode::LeftOut.text(text));
        }
        Ok(())
    }

    /// Renames leftovers that etcd would load under their own names.
    fn rename_leftovers(&mut self, live: Option<FileKind>, first: Option<FileKind>) {
        let passed_over = &self.passed_over;
        let is_passed_over = |opened: &&mut Opened| match opened.source.kind {
            FileKind::Snapshot(id) => passed_over.contains(&id),
            _ => false,
        };
        let snapshots = self.older_snapshots.iter_mut().filter(is_passed_over);
        for opened in snapshots.chain(&mut self.leftovers) {
            let path = &mut opened.source.archive_path;
            *path = leftover_path(path, live, first);
        }
    }

    /// Whether a raft snapshot is included although a start would not load it.
    pub(crate) fn has_passed_over(&self, snapshot: &Opened) -> bool {
        let is_it = |id: &SnapshotId| snapshot.source.kind == FileKind::Snapshot(*id);
        self.passed_over.iter().any(is_it)
    }

    /// All files, in no particular order.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Opened> {
        self.snapshot
            .iter()
            .chain(&self.older_segments)
            .chain(&self.segments)
            .chain(&self.older_snapshots)
            .chain(&self.leftovers)
            .chain(&self.db)
    }

    /// A sign that etcd runs on these files; takes no lock.
    pub(crate) fn running(&self) -> io::Result<Option<Running>> {
        let paths = self.segments.iter().chain(&self.db);
        is_running(paths.map(|opened| opened.source.path.as_path()))
    }

    /// When the newest file was last written: the time of the entries that the archive itself adds,
    /// so that the same input gives the same bytes.
    pub(crate) fn newest_mtime(&self) -> io::Result<Timestamp> {
        let mut newest = Timestamp::UNIX_EPOCH;
        for opened in self.all() {
            newest = newest.max(mtime_of(&opened.file.metadata()?));
        }
        Ok(newest)
    }
}

/// The files that are symlinks.
fn followed(listing: &Listing) -> Vec<String> {
    let followed = |file: &SourceFile| {
        let path = file.path.display();
        format!("`{path}` is a symbolic link, and was followed")
    };
    listing.links().map(followed).collect()
}

/// The segments with another name than in the archive.
fn unrenamed(listing: &Listing) -> impl Iterator<Item = Warning> {
    listing.unrenamed().map(|file| {
        WarningCode::Other.text(format!(
            "`{}` is part of the log: etcd 2.0 was killed before it renamed that segment, and goes on in it; it is archived as \
             `{}`. etcd 2.1 and later do not read it: before an upgrade, stop etcd and rename it",
            file.path.display(),
            file.archive_path,
        ))
    })
}

pub(crate) fn mtime_of(metadata: &std::fs::Metadata) -> Timestamp {
    let nanoseconds = i32::try_from(metadata.mtime_nsec()).unwrap_or(0);
    Timestamp::new(metadata.mtime(), nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn open_source(source: &SourceFile) -> Result<Opened, CaptureError> {
    let file = source.open().map_err(|error| match error.kind() {
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

/// Opens all files before it reads their lengths.
fn open_all<'s>(
    sources: impl Iterator<Item = &'s SourceFile>,
) -> Result<Vec<Opened>, CaptureError> {
    let mut opened = sources.map(open_source).collect::<Result<Vec<_>, _>>()?;
    for one in &mut opened {
        one.length = one.file.metadata()?.len();
    }
    Ok(opened)
}

/// Opens a file that a purge may have removed meanwhile; it is optional.
fn open_if_there(source: &SourceFile) -> Result<Option<Opened>, CaptureError> {
    match open_source(source) {
        Ok(opened) => Ok(Some(opened)),
        Err(CaptureError::Vanished(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Shortens the last segment to its last complete record, if a torn tail follows.
fn cut_torn_tail(last: &mut Opened, warnings: &mut Vec<Warning>) -> Result<(), CaptureError> {
    let path = last.source.path.clone();
    let source = |fault| CaptureError::Source {
        path,
        also: None,
        fault,
    };
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
        warnings.push(WarningCode::TornTail.text(format!(
            "{} ends in an unfinished record; its last {} bytes were cut off, as etcd does at a start",
            last.source.archive_path,
            last.length - offset
        )));
        last.length = offset;
    }
    Ok(())
}
