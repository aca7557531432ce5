//! Reads every input once from end to end, verifies it and records what its log holds.
//!
//! In: an archive or a data dir. Out: a [`ReadInput`]. A corrupt input is refused; only raft snapshots
//! that etcd itself would skip are skipped.

use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use jiff::Timestamp;

use crate::data_dir::{DataDir, Running};
use crate::etcd::ids::SnapshotId;
use crate::etcd::ids::{Index, MemberId};
use crate::etcd::member::MemberFacts;
use crate::etcd::rescue::Lost;
use crate::etcd::scan::{FileReport, Pass};
use crate::etcd::text::printable;
use crate::etcd::trace::Trace;
use crate::interrupt::Interrupt;
use crate::progress::Event;
use crate::rewind::RewindError;
use crate::rewind::fork::Log;
use crate::target::Target;

/// An input and what its log holds.
#[derive(Debug)]
pub struct ReadInput {
    pub path: PathBuf,
    pub facts: MemberFacts,
    pub trace: Trace,
    /// Whether it has a `snap/db`, so it is of 3.x.
    pub has_db: bool,
    /// Corrupt raft snapshots that were skipped; in a rescue, segments too.
    pub passed_over: Vec<FileReport>,
    pub lost: Option<Lost>,
    pub running: Option<Running>,
    /// When it was made: for an archive, its `created` time; for a data dir, the last write to its last segment.
    pub taken: Timestamp,
}

impl ReadInput {
    /// Verifies `target` and records what its log holds; with `rescue`, what is intact of it.
    pub(crate) fn read(
        target: &Target,
        rescue: bool,
        threads: usize,
        interrupt: &Interrupt,
        observe: &mut dyn FnMut(Event),
    ) -> Result<Self, RewindError> {
        let taken = match target {
            Target::Archive(archive) => archive.manifest().created,
            Target::DataDir(data_dir) => last_written(data_dir)?,
        };
        let pass = Pass {
            rescue,
            ..Pass::TRACE
        };
        let found = target.scan(pass, threads, interrupt, observe)?;
        Ok(Self {
            path: target.path().to_path_buf(),
            facts: found.member,
            trace: found.trace.unwrap_or_default(),
            has_db: found.has_db,
            passed_over: found.passed_over,
            lost: found.lost,
            running: found.running,
            taken,
        })
    }

    /// Leaves out the raft snapshot `id`, which cannot be loaded, by this report; `false` if it does not have it.
    pub(crate) fn pass_over(&mut self, id: SnapshotId, report: &FileReport) -> bool {
        let snapshots = &mut self.trace.snapshots;
        let before = snapshots.len();
        snapshots.retain(|snapshot| snapshot.id != id);
        let is_here = snapshots.len() < before;
        if is_here {
            self.passed_over.push(report.clone());
        }
        is_here
    }

    /// Its log, to be compared with others.
    pub fn log(&self) -> Log<'_> {
        let position = &self.facts.position;
        let snapshot = self.facts.raft_snapshot.map_or(Index(0), |id| id.index);
        Log {
            trace: &self.trace,
            last: SnapshotId {
                term: position.term,
                index: position.index,
            },
            commit: position.commit.max(snapshot),
        }
    }

    /// Whether `name` means this input: the name or id of its member, or its path.
    pub fn is_called(&self, name: &str) -> bool {
        let identity = &self.facts.identity;
        identity.name.as_deref() == Some(name)
            || identity.member_id.to_string() == name
            || self.path == Path::new(name)
    }

    /// Its member, as messages name it.
    pub fn member(&self) -> String {
        member_text(
            self.facts.identity.name.as_deref(),
            self.facts.identity.member_id,
        )
    }

    /// The highest term that it has seen.
    pub(crate) fn highest_term(&self) -> u64 {
        let position = &self.facts.position;
        let snapshots = self.trace.snapshots.iter();
        let snapshot = snapshots.map(|snapshot| snapshot.id.term).max();
        let terms = [
            Some(position.term),
            Some(position.hard_state_term),
            snapshot,
        ];
        terms
            .into_iter()
            .flatten()
            .map(|term| term.0)
            .max()
            .unwrap_or(0)
    }
}

fn last_written(data_dir: &DataDir) -> Result<Timestamp, RewindError> {
    let listing = data_dir.list()?;
    let Some((_, last)) = listing.segments.last() else {
        return Ok(Timestamp::UNIX_EPOCH);
    };
    let modified = fs::metadata(&last.path)?.modified()?;
    Timestamp::try_from(modified).map_err(|error| io::Error::other(error).into())
}

/// A member's name, or its id if it has none yet.
pub(crate) fn member_text(name: Option<&str>, id: MemberId) -> String {
    match name.filter(|name| !name.is_empty()) {
        Some(name) => printable(name),
        None => id.to_string(),
    }
}
