//! Replays a member's files into its store: which raft snapshot to begin from, which entries
//! are final, and where to stop.
//!
//! In: raft snapshots, newest first, then records in the order of the log. Out: a [`Replayed`]:
//! the store at an index, and further requested results.
//!
//! An entry is applied once no later one can replace it: when the hard state *before* the last
//! one has it committed (2.0.13 writes a hard state before the entries it commits), or at the end.
//! Source: formats page §5.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::Serialize;

use crate::etcd::digest::Digest;
use crate::etcd::growth_rate::Pace;
use crate::etcd::ids::{Index, SnapshotId, Term, missing};
use crate::etcd::proto::Request;
use crate::etcd::raft_snapshot::SnapshotFacts;
use crate::etcd::store::apply::{Applied, MAX_MEMBERS, Unapplied};
use crate::etcd::store::from_json::LoadOptions;
use crate::etcd::store::{Store, path};
use crate::etcd::wal::log::EntryView;
use crate::etcd::wal::record::Kind;
use crate::etcd::wal::segment::Located;

pub use crate::etcd::store::rules::InOrderRules;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Until {
    /// The highest index known to be committed.
    #[default]
    Commit,
    /// The end of the log, committed or not.
    End,
    /// This index, which must be known to be committed.
    Index(Index),
    /// This index, committed or not.
    PendingIndex(Index),
}

impl Until {
    fn limit(self) -> Index {
        match self {
            Self::Commit | Self::End => Index(u64::MAX),
            Self::Index(index) | Self::PendingIndex(index) => index,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// The newest raft snapshot that is valid and not above the end; the empty store if there is
    /// none.
    #[default]
    Newest,
    From(SnapshotId),
    Empty,
}

impl Start {
    pub fn id(self) -> Option<SnapshotId> {
        match self {
            Self::From(id) => Some(id),
            Self::Newest | Self::Empty => None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub start: Start,
    pub until: Until,
    pub rules: InOrderRules,
    pub along: Along,
}

/// What a replay does besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Along {
    #[default]
    Nothing,
    /// Compare the store with each raft snapshot, and stop at one that differs.
    CheckSnapshots,
    /// Keep a mark of each committed entry and of its effect on the store's index.
    KeepTrail,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayFault {
    #[error(
        "no raft snapshot at or below index {wanted} is available, and the log does not begin at 1"
    )]
    NoStart { wanted: Index },
    /// Entries between the raft snapshot and the log are missing.
    #[error("{}", missing(*.from, *.to))]
    Hole { from: Index, to: Index },
    /// The log ends before the requested index.
    #[error("the log ends at index {last}, before {wanted}")]
    Beyond { wanted: Index, last: Index },
    /// The requested index is not known to be committed.
    #[error("index {wanted} is above commit {commit}: not known to be committed")]
    Uncommitted { wanted: Index, commit: Index },
    #[error("entry {0} holds no request that etcd could apply")]
    Unreadable(Index),
    /// A conf change in a cluster with more members than are accepted.
    #[error("entry {0} changes a cluster of more than {MAX_MEMBERS} members")]
    TooManyMembers(Index),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    pub id: SnapshotId,
    pub equal: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InOrderDirectory {
    pub posts: u64,
    pub first_index: Index,
    pub last_index: Index,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InOrderPosts {
    /// By the store path of the directory, as the request names it.
    pub directories: BTreeMap<Vec<u8>, InOrderDirectory>,
    pub posts: u64,
    /// The number of those that were applied, above the raft snapshot, and made a key: a start with the
    /// other rules would name these differently.
    pub applied: u64,
}

/// One committed entry, for the comparison of two logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryMark {
    pub index: Index,
    pub term: Term,
    /// CRC-32C over its kind and data.
    pub crc: u32,
    /// The store's index after it, if it was applied.
    pub store_index: Option<u64>,
    /// Whether it raised that index.
    pub counts: bool,
    /// The store path of the directory in which it creates an in-order child.
    pub in_order: Option<Vec<u8>>,
    /// What it removes, if anything.
    pub removes: Option<Removal>,
}

impl Replayed {
    /// Whether it could have led to another store by these rules.
    pub fn depends_on(&self, rules: InOrderRules) -> bool {
        let renames = self.rules.names() != rules.names() && self.in_order.applied > 0;
        let empties = self.rules.knows_refresh() != rules.knows_refresh() && self.refreshes > 0;
        renames || empties
    }
}

/// What an entry removes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// The node at this store path, and all below it.
    Node(Vec<u8>),
    /// Nodes that expired.
    Expired,
}

#[derive(Clone, Debug)]
pub struct Replayed {
    pub store: Arc<Store>,
    /// The raft snapshot it began from; `None` is the empty store.
    pub start: Option<SnapshotId>,
    /// Its index in the log.
    pub at: Index,
    pub rules: InOrderRules,
    /// How many entries were applied.
    pub entries: u64,
    pub in_order: InOrderPosts,
    /// How many applied requests were a refresh.
    pub refreshes: u64,
    /// The raft snapshots compared, in the order of the log; the last may differ.
    pub checks: Vec<Check>,
    /// Raft snapshots with other voters than the members in their store.
    pub stray_voters: Vec<SnapshotId>,
    /// Every committed entry, if requested.
    pub trail: Vec<EntryMark>,
    /// How fast the log has grown.
    pub pace: Pace,
}

#[derive(Debug)]
pub struct Replay {
    plan: Plan,
    store: Option<Store>,
    start: Option<SnapshotId>,
    /// The last index that was applied to the store.
    at: Index,
    entries: u64,
    /// Entries that a later one could still replace.
    pending: VecDeque<Pending>,
    in_order: InOrderPosts,
    /// Fingerprints of the raft snapshots, by index and term.
    snapshots: BTreeMap<(Index, Term), Digest>,
    checks: Vec<Check>,
    stray_voters: Vec<SnapshotId>,
    trail: Vec<EntryMark>,
    pace: Pace,
    fault: Option<ReplayFault>,
}

#[derive(Debug)]
struct Pending {
    index: Index,
    term: Term,
    kind: u64,
    data: Box<[u8]>,
}

impl Replay {
    pub fn new(plan: Plan) -> Self {
        Self {
            plan,
            store: (plan.start == Start::Empty).then(Store::new),
            start: None,
            at: Index(0),
            entries: 0,
            pending: VecDeque::new(),
            in_order: InOrderPosts::default(),
            snapshots: BTreeMap::new(),
            checks: Vec::new(),
            stray_voters: Vec::new(),
            trail: Vec::new(),
            pace: Pace::default(),
            fault: None,
        }
    }

    /// What is needed of a raft snapshot.
    pub fn wants(&self, id: SnapshotId) -> LoadOptions {
        let tree = self.store.is_none()
            && match self.plan.start {
                Start::Newest => id.index <= self.plan.until.limit(),
                Start::From(start) => id == start,
                Start::Empty => false,
            };
        LoadOptions {
            tree,
            fingerprint: self.plan.along == Along::CheckSnapshots && !tree,
            ..LoadOptions::default()
        }
    }

    /// Takes a valid raft snapshot, and its tree if that was requested.
    pub fn snapshot(&mut self, facts: &SnapshotFacts, store: Option<Store>) {
        let id = facts.id;
        if let Some(fingerprint) = facts.fingerprint {
            self.snapshots.insert((id.index, id.term), fingerprint);
        }
        if !facts.nodes.iter().eq(facts.store.members.keys()) {
            self.stray_voters.push(id);
        }
        if let Some(store) = store {
            self.store = Some(store);
            self.start = Some(id);
            self.at = id.index;
        }
    }

    /// Takes the next record; entries at or below `settled` cannot be replaced any more.
    pub fn record(&mut self, at: &Located<'_>, settled: Index) {
        if at.record.kind == Kind::Entry
            && let Some(entry) = EntryView::read(at.record.data.unwrap_or_default())
        {
            self.entry(entry);
        }
        self.settle(settled);
    }

    fn entry(&mut self, entry: EntryView<'_>) {
        while self
            .pending
            .back()
            .is_some_and(|last| last.index >= entry.index)
        {
            self.pending.pop_back();
        }
        self.pace.note(entry.index, entry.data);
        let below = entry.index <= self.at;
        if below && self.plan.along != Along::KeepTrail && !may_be_post(entry.data) {
            return;
        }
        self.pending.push_back(Pending {
            index: entry.index,
            term: entry.term,
            kind: entry.kind,
            data: entry.data.into(),
        });
    }

    /// Applies the entries that cannot be replaced, up to the end of the plan.
    fn settle(&mut self, settled: Index) {
        let settled = settled.min(self.plan.until.limit());
        while self.fault.is_none()
            && self
                .pending
                .front()
                .is_some_and(|first| first.index <= settled)
            && let Some(entry) = self.pending.pop_front()
        {
            self.fault = self.apply(&entry).err();
        }
    }

    fn has_diverged(&self) -> bool {
        self.checks.iter().any(|check| !check.equal)
    }

    fn apply(&mut self, entry: &Pending) -> Result<(), ReplayFault> {
        let post = in_order_directory(entry);
        if let Some(directory) = &post {
            self.in_order.posts += 1;
            let found = self
                .in_order
                .directories
                .entry(directory.clone())
                .or_insert(InOrderDirectory {
                    posts: 0,
                    first_index: entry.index,
                    last_index: entry.index,
                });
            found.posts += 1;
            found.last_index = entry.index;
        }
        let mut mark = EntryMark {
            index: entry.index,
            term: entry.term,
            crc: crc32c::crc32c_append(entry.kind as u32, &entry.data),
            store_index: None,
            counts: false,
            in_order: post.map(|directory| path::join(&path::components(&directory))),
            removes: None,
        };
        if entry.index > self.at && !self.has_diverged() {
            let wanted = match self.plan.until.limit() {
                Index(u64::MAX) => entry.index.previous(),
                limit => limit,
            };
            if self.store.is_none() && self.plan.start == Start::Newest && entry.index == Index(1) {
                self.store = Some(Store::new());
            }
            let store = self.store.as_mut().ok_or(ReplayFault::NoStart { wanted })?;
            if entry.index != self.at.next() {
                return Err(ReplayFault::Hole {
                    from: self.at.next(),
                    to: entry.index.previous(),
                });
            }
            let before = store.index();
            let applied = store
                .apply(entry.kind, &entry.data, self.plan.rules)
                .map_err(|why| match why {
                    Unapplied::Unreadable => ReplayFault::Unreadable(entry.index),
                    Unapplied::TooManyMembers => ReplayFault::TooManyMembers(entry.index),
                })?;
            self.at = entry.index;
            self.entries += 1;
            mark.store_index = Some(store.index());
            mark.counts = store.index() != before;
            if self.plan.along == Along::KeepTrail {
                mark.removes = removal(&applied, entry);
            }
            let made = matches!(applied, Applied::CreatedInOrder(_));
            self.in_order.applied += u64::from(made);
            let here = (entry.index, Term(0))..=(entry.index, Term(u64::MAX));
            for (&(index, term), &fingerprint) in self.snapshots.range(here) {
                let equal = term == entry.term && store.fingerprint() == fingerprint;
                let id = SnapshotId { term, index };
                self.checks.push(Check { id, equal });
            }
        }
        if self.plan.along == Along::KeepTrail {
            self.trail.push(mark);
        }
        Ok(())
    }

    /// The store, after a log that is committed up to `commit` and ends at `last`.
    pub fn finish(mut self, commit: Index, last: Index) -> Result<Replayed, ReplayFault> {
        let until = match self.plan.until {
            Until::Commit => commit,
            Until::End => last,
            Until::Index(wanted) if wanted > commit && wanted <= last => {
                return Err(ReplayFault::Uncommitted { wanted, commit });
            }
            Until::Index(wanted) | Until::PendingIndex(wanted) if wanted > last => {
                return Err(ReplayFault::Beyond { wanted, last });
            }
            Until::Index(wanted) | Until::PendingIndex(wanted) => wanted,
        };
        self.settle(until);
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let diverged = self.has_diverged();
        let store = match self.store {
            Some(store) => store,
            // Before the first entry.
            None if until == Index(0) && self.plan.start == Start::Newest => Store::new(),
            None => return Err(ReplayFault::NoStart { wanted: until }),
        };
        if self.at < until && !diverged {
            return Err(ReplayFault::Hole {
                from: self.at.next(),
                to: until,
            });
        }
        Ok(Replayed {
            refreshes: store.refreshes(),
            store: Arc::new(store),
            start: self.start,
            at: self.at,
            rules: self.plan.rules,
            entries: self.entries,
            in_order: self.in_order,
            checks: self.checks,
            stray_voters: self.stray_voters,
            trail: self.trail,
            pace: self.pace,
        })
    }
}

fn removal(applied: &Applied, entry: &Pending) -> Option<Removal> {
    match applied {
        Applied::Expired(1..) => Some(Removal::Expired),
        Applied::Done if entry.kind == 0 => {
            let request = Request::in_entry(&entry.data).ok()??;
            let is_delete = request.method.as_deref() == Some(b"DELETE");
            let path = request.path.unwrap_or_default();
            is_delete.then(|| Removal::Node(path::join(&path::components(&path))))
        }
        _ => None,
    }
}

fn may_be_post(data: &[u8]) -> bool {
    Request::may_have_method(data, *b"POST")
}

/// The directory in which an entry creates an in-order child, as the request names it.
fn in_order_directory(entry: &Pending) -> Option<Vec<u8>> {
    if entry.kind != 0 || !may_be_post(&entry.data) {
        return None;
    }
    let request = Request::in_entry(&entry.data).ok()??;
    let is_post = request.method.as_deref() == Some(b"POST");
    is_post.then(|| request.path.unwrap_or_default())
}

#[cfg(test)]
mod tests;
