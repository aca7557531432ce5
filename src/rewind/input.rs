//! Reads every input once from end to end, verifies it and records what its log holds.
//!
//! In: an archive or a data dir. Out: a [`ReadInput`]. A corrupt input is refused; only raft snapshots
//! that etcd itself would skip are skipped.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use jiff::Timestamp;

use crate::data_dir::{DataDir, Running};
use crate::etcd::ids::SnapshotId;
use crate::etcd::ids::{Index, MemberId};
use crate::etcd::member::MemberFacts;
use crate::etcd::replay::{Along, InOrderRules, Plan, Start, Until};
use crate::etcd::rescue::Lost;
use crate::etcd::scan::{FileReport, Pass};
use crate::etcd::store::diff::in_order_number;
use crate::etcd::store::{NodeId, Store};
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
    /// What its member serves, if a replay by the first guess of the rules could tell.
    pub(crate) served: Option<ServedStore>,
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
        let rules = target.likely_rules();
        let pass = Pass {
            rescue,
            replay: Some(Plan {
                start: Start::Newest,
                until: Until::Commit,
                rules,
                along: Along::Nothing,
            }),
            ..Pass::TRACE
        };
        let found = target.scan(pass, threads, interrupt, observe)?;
        let right = InOrderRules::of(found.member.cluster_version.as_ref());
        let replayed = found.replay.and_then(Result::ok);
        let replayed = replayed.filter(|one| rules == right || one.in_order.applied == 0);
        Ok(Self {
            path: target.path().to_path_buf(),
            facts: found.member,
            trace: found.trace.unwrap_or_default(),
            has_db: found.has_db,
            passed_over: found.passed_over,
            lost: found.lost,
            running: found.running,
            served: replayed.map(|one| ServedStore::of(&one.store)),
            taken,
        })
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

/// What of a store is compared with the store that all members will have.
#[derive(Debug)]
pub(crate) struct ServedStore {
    /// The store paths of what is named like an in-order key.
    in_order: BTreeSet<Vec<u8>>,
    /// Its `X-Etcd-Index`.
    pub(crate) index: u64,
}

impl ServedStore {
    pub(crate) fn of(store: &Store) -> Self {
        let mut in_order = BTreeSet::new();
        let mut walk = store.walk(NodeId::ROOT);
        while let Some(id) = walk.next_node() {
            if in_order_number(store.node(id).name()).is_some() {
                in_order.insert(walk.path().to_vec());
            }
        }
        Self {
            in_order,
            index: store.index(),
        }
    }

    pub(crate) fn has(&self, in_order: &[u8]) -> bool {
        self.in_order.contains(in_order)
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
