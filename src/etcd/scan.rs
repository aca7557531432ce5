//! Reads a member's files in order, and checks each in the same pass.
//!
//! In: raft snapshots, newest first, then segments in order, each in pieces. Out: a result for each
//! file and, at the end, [`MemberFacts`]. Capture, verify, restore and inspect all use this, so
//! that they all mean the same by a valid file.

use crate::etcd::ids::{Index, SegmentName, SnapshotId};
use crate::etcd::member::{MemberFacts, StartFault};
use crate::etcd::raft_snapshot::{SnapshotFacts, SnapshotFault, SnapshotScan};
use crate::etcd::replay::{Plan, Replay, ReplayFault, Replayed};
use crate::etcd::rescue::Lost;
use crate::etcd::start::{StartFile, StartScan};
use crate::etcd::store::from_json::LoadOptions;
use crate::etcd::trace::Trace;
use crate::etcd::wal::log::LogScan;
use crate::etcd::wal::segment::{Break, SegmentEnd, SegmentScan};

#[derive(Clone, Debug)]
pub struct FileReport {
    /// Its path in an archive.
    pub path: String,
    pub bytes: u64,
    pub fault: Option<FileFault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    Snapshot(SnapshotId),
    Segment(SegmentName),
    /// Anything else: its content is not read.
    Other,
}

impl FileKind {
    /// The kind of the file at `path` in an archive.
    pub fn of(path: &str) -> Self {
        if let Some(name) = path.strip_prefix("member/snap/") {
            SnapshotId::from_file_name(name).map_or(Self::Other, Self::Snapshot)
        } else if let Some(name) = path.strip_prefix("member/wal/") {
            SegmentName::parse(name).map_or(Self::Other, Self::Segment)
        } else {
            Self::Other
        }
    }
}

impl FileFault {
    /// Whether needed bytes are damaged or missing. It is not damage if a raft snapshot has a wrong name, since
    /// its content is loaded, or if a log begins after a gap below the raft snapshot: if etcd could
    /// start from the files together, neither matters.
    pub fn is_damage(&self) -> bool {
        !matches!(
            self,
            Self::Gap { .. } | Self::Snapshot(SnapshotFault::Name { .. })
        )
    }
}

#[derive(Clone, Debug)]
pub enum FileEnd {
    /// A raft snapshot that etcd could load.
    Snapshot(Box<SnapshotFacts>),
    Segment(SegmentEnd),
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileFault {
    /// A raft snapshot that etcd could not load.
    #[error(transparent)]
    Snapshot(#[from] SnapshotFault),
    #[error("{} at offset {}", .0.fault, .0.offset)]
    Segment(Break),
    /// A segment before this one is missing, or its content is.
    #[error("the segment before it is missing or empty: {after} follows {before}")]
    Gap {
        /// The sequence number of the last segment before.
        before: u64,
        after: u64,
    },
}

/// Which of a data dir's files are read. For an archive it is always all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extent {
    /// Those that a replay needs.
    #[default]
    Needed,
    All,
}

/// What a member's files are read for, besides being checked.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    pub extent: Extent,
    /// Whether to find out which servers start from them.
    pub starts: bool,
    /// How to replay the log onto the store, if at all.
    pub replay: Option<Plan>,
    /// Whether to record every entry.
    pub trace: bool,
    /// Whether to use the intact part of a damaged log.
    pub rescue: bool,
}

impl Pass {
    /// Checks all of them.
    pub const CHECK: Self = Self {
        extent: Extent::All,
        starts: false,
        replay: None,
        trace: false,
        rescue: false,
    };
    /// Checks all of them, and finds out which servers start from them.
    pub const WHOLE: Self = Self {
        starts: true,
        ..Self::CHECK
    };
    /// Checks all of them, and records every entry.
    pub const TRACE: Self = Self {
        trace: true,
        ..Self::CHECK
    };

    /// As [`WHOLE`](Self::WHOLE), replayed by `plan`.
    pub fn replaying(plan: Plan) -> Self {
        Self {
            replay: Some(plan),
            ..Self::WHOLE
        }
    }
}

#[derive(Debug, Default)]
pub struct MemberScan {
    snapshot: Option<SnapshotFacts>,
    log: Option<LogScan>,
    replay: Option<Replay>,
    trace: Option<Trace>,
    /// In a rescue: the last entry that is known to have existed after a break.
    rescue: Option<Index>,
    /// In a rescue: whether the log has reached its break.
    broken: bool,
    /// The CRC at which the next segment continues.
    crc: Option<u32>,
    last_sequence: Option<u64>,
    /// Whether the last segment was cut short at its start: none may follow.
    begun: bool,
    now: Now,
    start: Option<StartScan>,
    /// Whether that start reads the current file itself.
    start_reads: bool,
}

#[derive(Debug, Default)]
enum Now {
    Snapshot(SnapshotScan),
    Segment(SegmentScan, Option<FileFault>),
    /// A segment after a break, and what is wrong with it.
    Behind(Option<FileFault>),
    #[default]
    Other,
}

impl MemberScan {
    pub fn new(pass: Pass) -> Self {
        Self {
            replay: pass.replay.map(Replay::new),
            trace: pass.trace.then(Trace::default),
            rescue: pass.rescue.then_some(Index(0)),
            ..Self::default()
        }
    }

    /// Whether a replay would begin from the raft snapshot `id`.
    pub fn wants_tree(&self, id: SnapshotId) -> bool {
        self.replay
            .as_ref()
            .is_some_and(|replay| replay.wants(id).tree)
    }

    /// The index of the newest valid raft snapshot so far.
    pub fn snapshot_index(&self) -> Option<Index> {
        self.snapshot.as_ref().map(|snapshot| snapshot.id.index)
    }

    #[must_use]
    pub fn with_start(self, start: Option<StartScan>) -> Self {
        Self { start, ..self }
    }

    pub fn start(&mut self) -> Option<&mut StartScan> {
        self.start.as_mut()
    }

    pub fn take_start(&mut self) -> Option<StartScan> {
        self.start.take()
    }

    /// Begins a file of `length` bytes; `is_next` if it is the next one that the start reads.
    pub fn begin_beside(&mut self, kind: FileKind, length: u64, is_next: bool) {
        self.begin(kind, length);
        let Some(start) = self.start.as_mut().filter(|_| is_next) else {
            return;
        };
        let is_snapshot = matches!(start.next_file(), Some(StartFile::Snap(_)));
        self.now = match std::mem::take(&mut self.now) {
            Now::Snapshot(scan) if is_snapshot => Now::Snapshot(scan.with_start(start.wants())),
            now => {
                start.begin(length);
                self.start_reads = true;
                now
            }
        };
    }

    pub fn begin(&mut self, kind: FileKind, length: u64) {
        self.now = match kind {
            FileKind::Other => Now::Other,
            FileKind::Snapshot(name) => {
                let replay = self.replay.as_ref();
                let wanted = replay.map_or(LoadOptions::default(), |replay| replay.wants(name));
                Now::Snapshot(SnapshotScan::new(name, length, wanted))
            }
            FileKind::Segment(name) => self.begin_segment(name, length),
        };
    }

    fn begin_segment(&mut self, name: SegmentName, length: u64) -> Now {
        let gap = self
            .last_sequence
            .filter(|before| self.begun || before.checked_add(1) != Some(name.sequence))
            .map(|before| FileFault::Gap {
                before,
                after: name.sequence,
            });
        let base = self.snapshot_index().unwrap_or(Index(0));
        self.last_sequence = Some(name.sequence);
        if gap.is_some() || self.broken {
            if let Some(behind) = &mut self.rescue {
                *behind = name.first_index.previous().max(*behind);
                if name.first_index > base.next() {
                    self.broken = true;
                    return Now::Behind(gap);
                }
            }
            self.forget_chain();
            self.last_sequence = Some(name.sequence);
        }
        let log = self.log.get_or_insert_with(|| LogScan::new(base));
        log.begin_segment(name, length);
        // The first segment's chain begins at 0, so its CRC is known.
        let crc = self.crc.or((name.sequence == 0).then_some(0));
        Now::Segment(SegmentScan::new(crc), gap)
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.now {
            Now::Snapshot(scan) => scan.update(bytes),
            Now::Segment(scan, _) => {
                if let Some(log) = &mut self.log {
                    let (replay, trace) = (&mut self.replay, &mut self.trace);
                    scan.update(bytes, &mut |record| {
                        let jumps = log.jumps();
                        log.record(record)?;
                        if let Some(replay) = replay {
                            replay.record(&record, log.settled());
                        }
                        if let Some(trace) = trace {
                            if log.jumps() > jumps {
                                trace.keep_up_to(log.commit());
                            }
                            trace.record(&record);
                        }
                        Ok(())
                    });
                }
            }
            Now::Behind(_) | Now::Other => {}
        }
        if let Some(start) = self.start.as_mut().filter(|_| self.start_reads) {
            let proven = matches!(&self.now, Now::Segment(scan, _) if scan.is_proven());
            start.update(bytes, proven);
        }
    }

    /// Ends the file. The first valid raft snapshot is the one that a start would load. A
    /// corrupt or missing segment ends the chain: the next one begins a new chain, with the CRC in
    /// the file as its start.
    pub fn end(&mut self) -> Result<FileEnd, FileFault> {
        if std::mem::take(&mut self.start_reads)
            && let Some(start) = &mut self.start
        {
            start.end();
        }
        match std::mem::take(&mut self.now) {
            Now::Other => Ok(FileEnd::Other),
            Now::Behind(fault) => fault.map_or(Ok(FileEnd::Other), Err),
            Now::Snapshot(scan) => {
                let (read, for_start) = scan.finish_for_start();
                if let (Some(start), Some(read)) = (&mut self.start, for_start) {
                    start.take_snapshot(read);
                }
                let (facts, store) = read?;
                if let Some(replay) = &mut self.replay {
                    replay.snapshot(&facts, store);
                }
                if let Some(trace) = &mut self.trace {
                    trace.snapshot(&facts);
                }
                self.snapshot.get_or_insert_with(|| facts.clone());
                Ok(FileEnd::Snapshot(Box::new(facts)))
            }
            Now::Segment(scan, gap) => match scan.finish() {
                Ok((end, crc)) => {
                    self.crc = crc;
                    self.begun = matches!(end, SegmentEnd::Begun { .. });
                    if let Some(log) = &mut self.log {
                        log.end_segment(end);
                    }
                    gap.map_or(Ok(FileEnd::Segment(end)), Err)
                }
                Err(found) => {
                    self.break_chain();
                    Err(FileFault::Segment(found))
                }
            },
        }
    }

    /// Handles a corrupt segment: in a rescue the log ends there, otherwise it is dropped.
    pub fn break_chain(&mut self) {
        if self.rescue.is_some() {
            self.broken = true;
        } else {
            self.forget_chain();
        }
    }

    /// Whether the intact part of a damaged log is used.
    pub(crate) fn is_rescue(&self) -> bool {
        self.rescue.is_some()
    }

    /// Records that the segment `name` existed. One before the others leaves a gap if they follow.
    pub(crate) fn miss_segment(&mut self, name: SegmentName) {
        if let Some(behind) = &mut self.rescue
            && self.last_sequence.is_none_or(|last| last < name.sequence)
        {
            *behind = name.first_index.previous().max(*behind);
            self.broken = true;
        }
    }

    /// Drops the segments so far: the next one begins a new chain.
    pub fn forget_chain(&mut self) {
        self.log = None;
        self.crc = None;
        self.last_sequence = None;
        self.begun = false;
        self.broken = false;
        if let Some(trace) = &mut self.trace {
            trace.forget_entries();
        }
    }

    pub fn finish(self) -> Result<MemberFacts, StartFault> {
        self.finish_all().map(|found| found.facts)
    }

    /// The facts of all files, and the other requested results.
    pub fn finish_all(self) -> Result<ScanResult, StartFault> {
        let mut log = self.log.ok_or(StartFault::NoLog)?.finish();
        let snapshot = self.snapshot.as_ref();
        let behind = self.rescue.map(|behind| (self.broken, behind));
        let lost = behind.and_then(|(broken, behind)| {
            Lost::cut_off(
                &mut log,
                snapshot.map(|snapshot| snapshot.id),
                broken,
                behind,
            )
        });
        let facts = MemberFacts::gather(log, snapshot)?;
        let position = &facts.position;
        let replay = self.replay;
        let replay = replay.map(|replay| replay.finish(position.commit, position.index));
        Ok(ScanResult {
            facts,
            replay,
            trace: self.trace,
            lost,
        })
    }
}

#[derive(Debug)]
pub struct ScanResult {
    pub facts: MemberFacts,
    /// The store that the log leads to, if a replay was requested.
    pub replay: Option<ReplayResult>,
    /// Every entry, if a trace was requested.
    pub trace: Option<Trace>,
    /// What is lost, in a rescue.
    pub lost: Option<Lost>,
}

pub type ReplayResult = Result<Replayed, ReplayFault>;

impl Lost {
    /// The text for what is lost, and the break, which is in one of these `files`.
    pub fn of(&self, files: &[FileReport]) -> String {
        let broken = files.iter().find_map(|file| match &file.fault {
            Some(FileFault::Snapshot(_)) | None => None,
            Some(fault) => Some(format!("`{}`: {fault}; ", file.path)),
        });
        format!("{}{self}", broken.unwrap_or_default())
    }
}
