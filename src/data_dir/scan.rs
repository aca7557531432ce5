//! Reads a whole data dir in place: every raft snapshot, every segment, the whole chain.
//!
//! In: a [`DataDir`]. Out: a result for each file, the member's facts, and the leftovers.
//! Reads only; a directory that changes meanwhile is read again.

use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fs_err as fs;

use crate::data_dir::start::StartBeside;
use crate::data_dir::{
    DataDir, DataDirError, DbFault, LeftoverKind, Listing, Running, SourceFile, consistent_index,
    is_running,
};
use crate::etcd::ids::{Index, SnapshotId};
use crate::etcd::member::{MemberFacts, StartFault};
use crate::etcd::rescue::Lost;
use crate::etcd::scan::{
    Extent, FileEnd, FileFault, FileKind, FileReport, MemberScan, Pass, ReplayResult,
};
use crate::etcd::start::Verdicts;
use crate::etcd::trace::Trace;
use crate::etcd::wal::resync::next_whole_record;
use crate::etcd::wal::segment::{Break, SegmentEnd, SegmentFault};
use crate::fs::PIECE;
use crate::fs::error::with_path;
use crate::interrupt::{Interrupt, Interrupted};
use crate::progress::Event;
use crate::thread_pool::{Buffers, Lent, Ordered};

/// How often a running member's directory is read again before its faults are reported.
const TRIES: u32 = 5;
/// Files of this size or more are read ahead, in bytes; and by how many threads.
const AHEAD: u64 = 4 << 20;
const READERS: usize = 2;
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub struct Survey {
    /// Every raft snapshot, newest first, then every segment in order.
    pub files: Vec<FileReport>,
    /// The facts of all its files, or why etcd could not start from them.
    pub facts: Result<MemberFacts, StartFault>,
    /// Bytes of the raft snapshot that a start loads.
    pub snapshot_bytes: u64,
    /// The start of the last segment's unfinished record: `(segment, offset)`.
    pub torn_tail: Option<(String, u64)>,
    /// Files that etcd would not load.
    pub leftovers: Vec<(LeftoverKind, SourceFile)>,
    /// Names in the data dir that are not part of the member.
    pub outside: Vec<String>,
    pub links: Vec<PathBuf>,
    pub running: Option<Running>,
    /// Whether there is a `snap/db`, so the directory is of 3.x.
    pub has_db: bool,
    /// The store, if a replay was requested and etcd could start from the files.
    pub replay: Option<ReplayResult>,
    /// Every entry, if a trace was requested and etcd could start from the files.
    pub trace: Option<Trace>,
    /// What is lost, if the intact part was rescued.
    pub lost: Option<Lost>,
    /// Whether servers of each release line start from it, if requested.
    pub starts: Option<Verdicts>,
}

#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl Survey {
    /// Whether all of it is valid and etcd could start from it.
    pub fn is_valid(&self) -> bool {
        let is_damaged = |file: &FileReport| file.fault.as_ref().is_some_and(FileFault::is_damage);
        self.facts.is_ok() && !self.files.iter().any(is_damaged)
    }

    /// The valid raft snapshots, oldest first.
    pub fn sound_snapshots(&self) -> Vec<SnapshotId> {
        let sound = self.files.iter().filter(|file| file.fault.is_none());
        let mut ids: Vec<_> = sound
            .filter_map(|file| match FileKind::of(&file.path) {
                FileKind::Snapshot(id) => Some(id),
                FileKind::Segment(_) | FileKind::Other => None,
            })
            .collect();
        ids.sort();
        ids
    }

    /// Bytes of the raft snapshot that a start loads, and of the entries above it.
    pub fn data_bytes(&self) -> u64 {
        let facts = self.facts.as_ref();
        self.snapshot_bytes + facts.map_or(0, |facts| facts.log_bytes_above_snapshot)
    }

    /// What is wrong with the `snap/db` of `data_dir`, unless a server writes to it.
    pub fn db_fault(&self, data_dir: &DataDir) -> Result<Option<DbFault>, DataDirError> {
        if !self.has_db || self.running.is_some() {
            return Ok(None);
        }
        let db = data_dir.list()?.db;
        let looked = db.map(|db| consistent_index(&fs::File::open(db.path)?));
        Ok(looked.and_then(Result::err))
    }
}

pub fn survey(
    data_dir: &DataDir,
    pass: Pass,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<Survey, SurveyError> {
    let mut attempt = 1;
    let mut unmarked = Vec::new();
    loop {
        let found = survey_once(data_dir, pass, &unmarked, interrupt, observe);
        if let Ok(Survey {
            facts: Err(StartFault::NoMarker(id)),
            has_db: true,
            ..
        }) = &found
        {
            // 3.4 writes the file first and its marker after it, and starts from an older one.
            unmarked.push(*id);
            continue;
        }
        let moved = match &found {
            Ok(found) => !found.is_valid() && found.running.is_some(),
            Err(SurveyError::Io(error)) => error.kind() == io::ErrorKind::NotFound,
            Err(_) => false,
        };
        if !moved || attempt == TRIES {
            return found;
        }
        observe(Event::Again {
            attempt,
            reason: "etcd is writing to the directory".to_owned(),
        });
        attempt += 1;
        std::thread::sleep(PAUSE);
    }
}

fn survey_once(
    data_dir: &DataDir,
    pass: Pass,
    unmarked: &[SnapshotId],
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<Survey, SurveyError> {
    let mut listing = data_dir.list()?;
    let (passed_over, kept) = std::mem::take(&mut listing.snapshots)
        .into_iter()
        .partition(|(id, _)| unmarked.contains(id));
    let passed_over: Vec<(SnapshotId, SourceFile)> = passed_over;
    listing.snapshots = kept;
    let as_leftovers = passed_over.into_iter();
    listing
        .leftovers
        .extend(as_leftovers.map(|(_, file)| (LeftoverKind::UnmarkedSnapshot, file)));
    let paths = listing.segments.iter().map(|(_, file)| file.path.as_path());
    let running = is_running(paths.chain(listing.db.as_ref().map(|db| db.path.as_path())))?;
    let snapshots = listing.snapshots.iter().map(|(_, file)| file);
    let segments = listing.segments.iter().map(|(_, file)| file);
    let sources: Vec<_> = snapshots.chain(segments).collect();
    observe(Event::Begin {
        part: "reading",
        bytes: sources.iter().map(|file| file.bytes).sum(),
    });
    let last_segment = listing.segments.last().map(|(_, file)| file.path.clone());
    let (start, beside) = pass
        .starts
        .then(|| StartBeside::new(data_dir))
        .transpose()?
        .unzip();
    let mut files_read = FilesRead {
        scan: MemberScan::new(pass).with_start(start),
        last: last_segment,
        snapshot_bytes: None,
        torn_tail: None,
        beside,
    };
    let mut files = Vec::new();
    let paths: Vec<_> = sources.iter().map(|source| source.path.as_path()).collect();
    for (number, source) in sources.iter().enumerate() {
        if pass.extent == Extent::Needed && !files_read.is_needed(data_dir, &listing, source)? {
            observe(Event::Advance(source.bytes));
            continue;
        }
        let later = paths.get(number + 1..).unwrap_or_default();
        let fault = files_read.file(source, later, interrupt, observe)?;
        files.push(FileReport {
            path: source.archive_path.clone(),
            bytes: source.bytes,
            fault,
        });
    }
    let starts = match (files_read.beside, files_read.scan.take_start()) {
        (Some(beside), Some(start)) => Some(beside.finish(start)?),
        _ => None,
    };
    let (facts, found) = match files_read.scan.finish_all() {
        Ok(found) => (Ok(found.facts), (found.replay, found.trace, found.lost)),
        Err(fault) => (Err(fault), (None, None, None)),
    };
    let (replay, trace, lost) = found;
    Ok(Survey {
        links: listing.links().map(|file| file.path.clone()).collect(),
        files,
        facts,
        replay,
        trace,
        lost,
        starts,
        snapshot_bytes: files_read.snapshot_bytes.unwrap_or(0),
        torn_tail: files_read.torn_tail,
        leftovers: listing.leftovers,
        outside: listing.outside,
        running,
        has_db: listing.db.is_some(),
    })
}

struct FilesRead {
    scan: MemberScan,
    /// The last segment: the only one that may end in a torn tail.
    last: Option<PathBuf>,
    snapshot_bytes: Option<u64>,
    torn_tail: Option<(String, u64)>,
    beside: Option<StartBeside>,
}

impl FilesRead {
    /// Whether a replay can need `source`: raft snapshots until there is one to begin from, and
    /// the segments from the one that holds the entry after it.
    fn is_needed(
        &self,
        data_dir: &DataDir,
        listing: &Listing,
        source: &SourceFile,
    ) -> Result<bool, DataDirError> {
        match source.kind {
            FileKind::Snapshot(id) => Ok(self.scan.wants_tree(id)),
            FileKind::Segment(name) => {
                let start = self.scan.snapshot_index().unwrap_or(Index(0));
                let covering = data_dir.covering(listing, start)?;
                Ok(covering.iter().any(|(covering, _)| *covering == name))
            }
            FileKind::Other => Ok(false),
        }
    }

    fn file(
        &mut self,
        source: &SourceFile,
        later: &[&Path],
        interrupt: &Interrupt,
        observe: &mut dyn FnMut(Event),
    ) -> Result<Option<FileFault>, SurveyError> {
        let file = Arc::new(source.open()?);
        let length = file.metadata()?.len();
        let is_next = match (&self.beside, self.scan.start()) {
            (Some(beside), Some(start)) => beside.is_next(start, &source.path, later)?,
            _ => false,
        };
        self.scan.begin_beside(source.kind, length, is_next);
        let mut pieces = Pieces::new(&file, length);
        while let Some(piece) = pieces.next()? {
            interrupt.check()?;
            self.scan.update(&piece);
            observe(Event::Advance(piece.len() as u64));
        }
        drop(pieces);
        match self.scan.end() {
            Err(fault) => Ok(Some(fault)),
            Ok(
                FileEnd::Other
                | FileEnd::Segment(
                    SegmentEnd::Whole { .. }
                    | SegmentEnd::Preallocated { .. }
                    | SegmentEnd::Begun { .. },
                ),
            ) => Ok(None),
            Ok(FileEnd::Snapshot(_)) => {
                self.snapshot_bytes.get_or_insert(length);
                Ok(None)
            }
            Ok(FileEnd::Segment(SegmentEnd::TornTail { offset })) => {
                let is_last = self.last.as_deref() == Some(&source.path);
                let fault = torn_tail_fault(&file, offset, length, is_last)?;
                if fault.is_some() {
                    self.scan.break_chain();
                } else {
                    self.torn_tail = Some((source.archive_path.clone(), offset));
                }
                Ok(fault)
            }
        }
    }
}

/// A file's bytes in pieces; those of a large file are read ahead.
struct Pieces {
    readers: Ordered<(u64, Lent), io::Result<Lent>>,
    buffers: Buffers,
    /// The offset of the next piece to request, in bytes from the start of the file.
    offset: u64,
    length: u64,
}

impl Pieces {
    fn new(file: &Arc<fs::File>, length: u64) -> Self {
        let threads = if length < AHEAD { 1 } else { READERS };
        let readers = Ordered::new(threads, || {
            let file = Arc::clone(file);
            move |(offset, buffer)| read_piece(&file, offset, buffer)
        });
        Self {
            readers,
            buffers: Buffers::default(),
            offset: 0,
            length,
        }
    }

    /// The next piece; `None` at the end, which comes early if the file was truncated.
    fn next(&mut self) -> io::Result<Option<Lent>> {
        while self.offset < self.length && !self.readers.is_full() {
            let wanted = (self.length - self.offset).min(PIECE as u64) as usize;
            let buffer = self.buffers.get_filled(wanted);
            self.readers.submit((self.offset, buffer));
            self.offset += PIECE as u64;
        }
        match self.readers.take().map_err(io::Error::other)? {
            Some(piece) => piece.map(|piece| Some(piece).filter(|piece| !piece.is_empty())),
            None => Ok(None),
        }
    }
}

fn read_piece(file: &fs::File, offset: u64, mut buffer: Lent) -> io::Result<Lent> {
    let mut filled = 0;
    while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
        match file.file().read_at(room, offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(with_path(error, "read", file.path())),
        }
    }
    buffer.truncate(filled);
    Ok(buffer)
}

/// What is wrong with a segment of `length` bytes that ends in an unfinished record at `offset`:
/// nothing if it is the last segment and no complete record follows.
pub(crate) fn torn_tail_fault(
    file: &fs::File,
    offset: u64,
    length: u64,
    is_last: bool,
) -> io::Result<Option<FileFault>> {
    use std::io::{Seek, SeekFrom};
    let broken = |fault| Some(FileFault::Segment(Break { offset, fault }));
    let behind = offset + 1;
    let mut reader = file;
    reader.seek(SeekFrom::Start(behind))?;
    let left = length.saturating_sub(behind);
    if let Some(distance) = next_whole_record(reader.take(left), left)? {
        let next = behind + distance;
        return Ok(broken(SegmentFault::RecordsBehind { next }));
    }
    Ok(if is_last {
        None
    } else {
        broken(SegmentFault::CutShort)
    })
}
