//! Saves a damaged data dir unchanged, before it is repaired.
//!
//! In: a data dir that need not be complete, on which no etcd runs. Out: an archive with every file of it
//! that can be opened, and what is wrong with each. Bytes that cannot be read
//! are zeros in the archive, and are listed. The member's facts are taken from the readable files.

use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};

use fs_err as fs;
use jiff::Timestamp;

use crate::archive::manifest::{Damage, DamagedFile, FILE_MODE, Role, Unreadable, check_path};
use crate::archive::{NewFile, Writer};
use crate::data_dir::scan::torn_tail_fault;
use crate::data_dir::{DataDir, DataDirError, SourceFile, is_running};
use crate::etcd::ids::{ClusterId, Identity, Index, MemberId, SnapshotId};
use crate::etcd::member::{MemberFacts, Position, StartFault};
use crate::etcd::membership::StoreFacts;
use crate::etcd::scan::{FileEnd, FileKind, MemberScan};
use crate::etcd::wal::log::LogScan;
use crate::etcd::wal::segment::{SegmentEnd, SegmentScan};
use crate::fs::PIECE;
use crate::interrupt::Interrupt;
use crate::progress::Event;
use crate::snapshot::error::{CaptureError, with_cause};
use crate::snapshot::open_files::mtime_of;

/// How many bytes are skipped at once where the disk cannot read.
const BLOCK: usize = 4096;

pub(super) struct Remains {
    files: Vec<(SourceFile, fs::File, u64)>,
    faults: Vec<DamagedFile>,
}

impl Remains {
    /// Opens every file that can be opened; refused while etcd runs on them.
    pub(super) fn open(data_dir: &DataDir) -> Result<Self, CaptureError> {
        let mut remains = Self {
            files: Vec::new(),
            faults: Vec::new(),
        };
        let (files, faults) = data_dir.files()?;
        for fault in faults {
            let (DataDirError::NotAFile { path, .. } | DataDirError::ForeignLink(path)) = &fault
            else {
                return Err(fault.into());
            };
            remains.faults.push(DamagedFile {
                path: path.display().to_string(),
                fault: format!("it is not in the archive: {fault}"),
            });
        }
        for source in files {
            let opened = check_path(&source.archive_path)
                .map_err(ToOwned::to_owned)
                .and_then(|()| open(&source).map_err(|error| error.to_string()));
            match opened {
                Ok((file, length)) => remains.files.push((source, file, length)),
                Err(why) => remains.faults.push(DamagedFile {
                    path: source.path.display().to_string(),
                    fault: format!("it is not in the archive: {why}"),
                }),
            }
        }
        let paths = remains.files.iter();
        let paths = paths.map(|(source, _, _)| source.path.as_path());
        if let Some(running) = is_running(paths)? {
            return Err(CaptureError::RunningOnDamaged(running));
        }
        if remains.files.is_empty() {
            let dir = data_dir.member_dir().to_path_buf();
            return Err(CaptureError::NothingToSave(dir));
        }
        Ok(remains)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, _, length)| length).sum()
    }

    /// When the newest file was last written.
    pub(super) fn newest_mtime(&self) -> io::Result<Timestamp> {
        let mut newest = Timestamp::UNIX_EPOCH;
        for (_, file, _) in &self.files {
            newest = newest.max(mtime_of(&file.metadata()?));
        }
        Ok(newest)
    }

    /// Writes all of them. Returns the member's facts, and what is wrong; `ordinary` captures the data dir as
    /// if it were not damaged, and returns why its own release does not start from it.
    pub(super) fn write(
        mut self,
        writer: &mut Writer<'_>,
        ordinary: impl FnOnce() -> Result<Option<String>, CaptureError>,
        interrupt: &Interrupt,
        observe: &mut dyn FnMut(Event),
    ) -> Result<(MemberFacts, Damage), CaptureError> {
        let segments = self.files.iter();
        let mut segments = segments.filter(|(source, ..)| is_segment(source));
        let last = segments.next_back().map(|(source, ..)| source.path.clone());
        let mut seen = DamagedFacts::default();
        let mut unreadable = Vec::new();
        for (source, file, length) in &self.files {
            let metadata = file.metadata()?;
            let new = NewFile {
                path: source.archive_path.clone(),
                size: *length,
                mode: metadata.mode() & FILE_MODE,
                uid: metadata.uid(),
                gid: metadata.gid(),
                mtime: mtime_of(&metadata),
            };
            seen.begin(source.kind, *length);
            let mut reader = Patient {
                file,
                length: *length,
                at: 0,
                piece: Vec::new(),
                given: 0,
                lost: Vec::new(),
                seen: &mut seen,
                interrupt,
                observe: &mut *observe,
            };
            writer.append(&new, &mut reader)?;
            writer.role(Role::Damaged);
            unreadable.extend(reader.lost.into_iter().map(|lost| Unreadable {
                path: source.archive_path.clone(),
                ..lost
            }));
            let is_last = last.as_ref() == Some(&source.path);
            if let Some(fault) = seen.end(file, *length, is_last) {
                self.faults.push(DamagedFile {
                    path: source.archive_path.clone(),
                    fault,
                });
            }
        }
        let (facts, start) = seen.finish();
        let mut damage = Damage {
            files: self.faults,
            unreadable,
            start,
        };
        if damage.is_none() {
            let why = ordinary().unwrap_or_else(|error| Some(with_cause(&error)));
            interrupt.check()?;
            damage.start = Some(why.ok_or(CaptureError::NotDamaged)?);
        }
        Ok((facts, damage))
    }
}

fn open(source: &SourceFile) -> io::Result<(fs::File, u64)> {
    let file = source.open()?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

fn is_segment(source: &SourceFile) -> bool {
    matches!(source.kind, FileKind::Segment(_))
}

/// The member's facts from the files, valid or not.
#[derive(Default)]
struct DamagedFacts {
    /// Reads all files together, as long as that is possible.
    scan: MemberScan,
    /// Reads the current segment by itself.
    segment: Option<(SegmentScan, LogScan)>,
    identity: Option<(MemberId, ClusterId)>,
    position: Option<Position>,
    store: Option<(SnapshotId, StoreFacts)>,
}

impl DamagedFacts {
    fn begin(&mut self, kind: FileKind, length: u64) {
        self.scan.begin(kind, length);
        self.segment = None;
        if let FileKind::Segment(name) = kind {
            let mut log = LogScan::new(Index(0));
            log.begin_segment(name, length);
            self.segment = Some((SegmentScan::new(None), log));
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.scan.update(bytes);
        if let Some((segment, log)) = &mut self.segment {
            segment.update(bytes, &mut |record| log.record(record));
        }
    }

    /// Ends a file; returns what is wrong with it.
    fn end(&mut self, file: &fs::File, length: u64, is_last: bool) -> Option<String> {
        if let Some((_, log)) = self.segment.take() {
            let log = log.finish();
            self.identity = self.identity.or(log.metadata);
            let found = Position {
                term: log.last.0,
                index: log.last.1,
                commit: log.commit,
                hard_state_term: log.hard_state_term,
                vote: log.vote,
            };
            let place = |position: &Position| (position.term, position.index);
            if self
                .position
                .as_ref()
                .is_none_or(|known| place(known) <= place(&found))
            {
                self.position = Some(found);
            }
        }
        let fault = match self.scan.end() {
            Ok(FileEnd::Segment(SegmentEnd::TornTail { offset })) => {
                match torn_tail_fault(file, offset, length, is_last) {
                    Ok(fault) => fault.map(|fault| fault.to_string()),
                    Err(error) => Some(error.to_string()),
                }
            }
            Ok(FileEnd::Snapshot(facts)) => {
                if self.store.is_none() {
                    self.store = Some((facts.id, facts.store));
                }
                None
            }
            Ok(_) => None,
            Err(fault) => Some(fault.to_string()),
        };
        if fault.is_some() {
            self.scan.forget_chain();
        }
        fault
    }

    /// The member's facts, and why etcd could not start from the files together.
    fn finish(self) -> (MemberFacts, Option<String>) {
        match self.scan.finish() {
            Ok(facts) => (facts, None),
            Err(fault) => {
                // A log that ends at damage in its first segment exists, and the damage is reported.
                let is_there = self.identity.is_some() && fault == StartFault::NoLog;
                let facts = remains(self.identity, self.position, self.store);
                (facts, (!is_there).then(|| fault.to_string()))
            }
        }
    }
}

/// The remaining facts of a member if its files do not fit together.
fn remains(
    identity: Option<(MemberId, ClusterId)>,
    position: Option<Position>,
    store: Option<(SnapshotId, StoreFacts)>,
) -> MemberFacts {
    let (member_id, cluster_id) = identity.unwrap_or_default();
    let raft_snapshot = store.as_ref().map(|(id, _)| *id);
    let store = store.map(|(_, store)| store).unwrap_or_default();
    let name = store.members.get(&member_id).map(|own| own.name.clone());
    let mut position = position.unwrap_or_default();
    if let Some(id) = raft_snapshot {
        if id.index > position.index {
            (position.term, position.index) = (id.term, id.index);
        }
        // All that a raft snapshot holds is committed.
        position.commit = position.commit.max(id.index);
    }
    MemberFacts {
        identity: Identity {
            cluster_id,
            member_id,
            name: name.filter(|name| !name.is_empty()),
        },
        position,
        raft_snapshot,
        cluster_version: store.cluster_version,
        versions: Vec::new(),
        members: store.members.into_values().collect(),
        removed_members: store.removed.into_iter().collect(),
        removal_pending: false,
        segments: Vec::new(),
        log_bytes_above_snapshot: 0,
        replaced_entries: 0,
        log_crc: None,
        jumps: Vec::new(),
    }
}

/// Reads a file to its end in spite of read errors: bytes that cannot be read are zeros.
struct Patient<'p> {
    file: &'p fs::File,
    /// The length to read, in bytes.
    length: u64,
    /// Bytes read.
    at: u64,
    piece: Vec<u8>,
    /// Bytes of the current piece that have been returned.
    given: usize,
    lost: Vec<Unreadable>,
    seen: &'p mut DamagedFacts,
    interrupt: &'p Interrupt,
    observe: &'p mut dyn FnMut(Event),
}

impl Patient<'_> {
    fn next_piece(&mut self) -> io::Result<()> {
        self.interrupt.check().map_err(io::Error::other)?;
        let wanted = (self.length - self.at).min(PIECE as u64) as usize;
        self.piece.clear();
        self.piece.resize(wanted, 0);
        self.given = 0;
        let mut piece = std::mem::take(&mut self.piece);
        if read_exactly(self.file, &mut piece, self.at).is_err() {
            for (number, block) in piece.chunks_mut(BLOCK).enumerate() {
                let offset = self.at + (number * BLOCK) as u64;
                if let Err(error) = read_exactly(self.file, block, offset) {
                    block.fill(0);
                    self.lose(offset, block.len() as u64, &error);
                }
            }
        }
        self.at += wanted as u64;
        self.seen.update(&piece);
        (self.observe)(Event::Advance(wanted as u64));
        self.piece = piece;
        Ok(())
    }

    fn lose(&mut self, offset: u64, bytes: u64, error: &io::Error) {
        let why = error.to_string();
        match self.lost.last_mut() {
            Some(last) if last.offset + last.bytes == offset && last.why == why => {
                last.bytes += bytes;
            }
            _ => self.lost.push(Unreadable {
                path: String::new(),
                offset,
                bytes,
                why,
            }),
        }
    }
}

/// Fills `buffer` from `offset`. A file that has become shorter cannot be read at its end either.
fn read_exactly(file: &fs::File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    file.file().read_exact_at(buffer, offset)
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.piece.len() {
            if self.at == self.length {
                return Ok(0);
            }
            self.next_piece()?;
        }
        let left = self.piece.get(self.given..).unwrap_or_default();
        let length = left.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..length), left.get(..length)) {
            to.copy_from_slice(from);
        }
        self.given += length;
        Ok(length)
    }
}
