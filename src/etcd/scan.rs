//! A member's files passed by in order, each checked while its bytes go by.
//!
//! In: raft snapshots, newest first, then segments in order, each in pieces. Out: a verdict a
//! file and, at the end, [`MemberFacts`]. Capture, verify, restore and inspect all use this, so
//! that what one of them proves the others prove too.

use crate::etcd::ids::{Index, Release, SegmentName, SnapshotId};
use crate::etcd::member::{MemberFacts, StartFault};
use crate::etcd::raft_snapshot::{SnapshotFacts, SnapshotFault, SnapshotScan};
use crate::etcd::replay::{Replay, ReplayFault, Replayed};
use crate::etcd::store::from_json::Wanted;
use crate::etcd::trace::Trace;
use crate::etcd::version_tally::{SinceVersion, Tally};
use crate::etcd::wal::log::{EntryView, LogScan};
use crate::etcd::wal::record::Kind;
use crate::etcd::wal::segment::{Break, SegmentEnd, SegmentScan};

/// What checking one file gave.
#[derive(Clone, Debug)]
pub struct FileReport {
    /// Its path in an archive.
    pub path: String,
    /// Bytes.
    pub bytes: u64,
    /// What is wrong with it, if anything.
    pub fault: Option<FileFault>,
}

/// What a file is, as its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A raft snapshot.
    Snapshot(SnapshotId),
    /// A WAL segment.
    Segment(SegmentName),
    /// Anything else: its bytes mean nothing here.
    Other,
}

impl FileKind {
    /// What the file at `path` in an archive is.
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

/// What a file turned out to be.
#[derive(Clone, Debug)]
pub enum FileEnd {
    /// A raft snapshot that etcd could load.
    Snapshot(Box<SnapshotFacts>),
    /// A segment whose records all check.
    Segment(SegmentEnd),
    /// Nothing that is looked into.
    Other,
}

/// Why a file is corrupt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileFault {
    /// A raft snapshot that etcd could not load.
    #[error(transparent)]
    Snapshot(#[from] SnapshotFault),
    /// A segment that breaks off.
    #[error("{} at offset {}", .0.fault, .0.offset)]
    Segment(Break),
    /// A segment is missing before this one, or what was in it.
    #[error("the segment before it is missing or empty: {after} follows {before}")]
    Gap {
        /// The sequence number read last.
        before: u64,
        /// This one's.
        after: u64,
    },
}

/// A member's files being read.
#[derive(Debug, Default)]
pub struct Examiner {
    snapshot: Option<SnapshotFacts>,
    log: Option<LogScan>,
    replay: Option<Replay>,
    trace: Option<Trace>,
    tally: Option<Tally>,
    /// The CRC that the next segment carries on from.
    crc: Option<u32>,
    last_sequence: Option<u64>,
    /// Whether the segment read last was cut short at its beginning: none may follow.
    begun: bool,
    now: Now,
}

#[derive(Debug, Default)]
enum Now {
    Snapshot(SnapshotScan),
    Segment(SegmentScan, Option<FileFault>),
    #[default]
    Other,
}

impl Examiner {
    /// An examiner that replays the log onto the store on the way.
    pub fn replaying(replay: Replay) -> Self {
        Self {
            replay: Some(replay),
            ..Self::default()
        }
    }

    /// An examiner that takes note of every entry on the way.
    pub fn tracing() -> Self {
        Self {
            trace: Some(Trace::default()),
            ..Self::default()
        }
    }

    /// An examiner that counts the entries from the one on that first sets a cluster version at or
    /// above `release`.
    pub fn counting(release: Release) -> Self {
        Self {
            tally: Some(Tally::new(release)),
            ..Self::default()
        }
    }

    /// Whether a replay would begin from the raft snapshot `id`.
    pub fn wants_tree(&self, id: SnapshotId) -> bool {
        self.replay
            .as_ref()
            .is_some_and(|replay| replay.wants(id).tree)
    }

    /// The index of the newest raft snapshot that checks, of those that went by.
    pub fn snapshot_index(&self) -> Option<Index> {
        self.snapshot.as_ref().map(|snapshot| snapshot.id.index)
    }

    /// Begins a file of `length` bytes.
    pub fn begin(&mut self, kind: FileKind, length: u64) {
        self.now = match kind {
            FileKind::Other => Now::Other,
            FileKind::Snapshot(name) => {
                let replay = self.replay.as_ref();
                let wanted = replay.map_or(Wanted::default(), |replay| replay.wants(name));
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
        if gap.is_some() {
            self.forget_chain();
        }
        self.last_sequence = Some(name.sequence);
        let base = self.snapshot.as_ref().map_or(Index(0), |s| s.id.index);
        let log = self.log.get_or_insert_with(|| LogScan::new(base));
        log.begin_segment(name, length);
        // The first segment's chain begins at 0: nothing about it is taken on trust.
        let crc = self.crc.or((name.sequence == 0).then_some(0));
        Now::Segment(SegmentScan::new(crc), gap)
    }

    /// Takes the file's next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.now {
            Now::Snapshot(scan) => scan.update(bytes),
            Now::Segment(scan, _) => {
                if let Some(log) = &mut self.log {
                    let (replay, trace) = (&mut self.replay, &mut self.trace);
                    let tally = &mut self.tally;
                    scan.update(bytes, &mut |record| {
                        log.record(record)?;
                        if let Some(tally) = tally
                            && record.record.kind == Kind::Entry
                            && let Some(entry) =
                                EntryView::read(record.record.data.unwrap_or_default())
                        {
                            tally.entry(entry);
                        }
                        if let Some(replay) = replay {
                            replay.record(&record, log.settled());
                        }
                        if let Some(trace) = trace {
                            trace.record(&record);
                        }
                        Ok(())
                    });
                }
            }
            Now::Other => {}
        }
    }

    /// Ends the file. The first raft snapshot that checks is the one a start would load. A
    /// segment that is corrupt, or a missing one, ends the chain: what follows begins a new
    /// one, on trust.
    pub fn end(&mut self) -> Result<FileEnd, FileFault> {
        match std::mem::take(&mut self.now) {
            Now::Other => Ok(FileEnd::Other),
            Now::Snapshot(scan) => {
                let (facts, store) = scan.finish()?;
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
                    self.forget_chain();
                    Err(FileFault::Segment(found))
                }
            },
        }
    }

    /// Lets go of the segments read so far: the next one begins a chain of its own, on trust.
    pub fn forget_chain(&mut self) {
        self.log = None;
        self.crc = None;
        self.last_sequence = None;
        self.begun = false;
        if let Some(trace) = &mut self.trace {
            trace.forget_entries();
        }
    }

    /// What was counted, if that was asked for and there was something to count.
    pub fn take_count(&mut self) -> Option<SinceVersion> {
        self.tally.take().and_then(Tally::finish)
    }

    /// What all files say together, if etcd could start from them.
    pub fn finish(self) -> Result<MemberFacts, StartFault> {
        let log = self.log.ok_or(StartFault::NoLog)?.finish();
        MemberFacts::gather(log, self.snapshot.as_ref())
    }

    /// What all files say together, and what was asked for on the way.
    pub fn finish_all(mut self) -> Result<Findings, StartFault> {
        let (replay, trace) = (self.replay.take(), self.trace.take());
        let facts = self.finish()?;
        let position = &facts.position;
        let replay = replay.map(|replay| replay.finish(position.commit, position.index));
        Ok(Findings {
            facts,
            replay,
            trace,
        })
    }
}

/// What a member's files say together.
#[derive(Debug)]
pub struct Findings {
    /// The member's facts.
    pub facts: MemberFacts,
    /// The store that the log leads to, if a replay was asked for.
    pub replay: Option<Outcome>,
    /// Every entry, if a trace was asked for.
    pub trace: Option<Trace>,
}

/// The end of a replay.
pub type Outcome = Result<Replayed, ReplayFault>;
