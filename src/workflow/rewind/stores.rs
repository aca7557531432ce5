//! The store at the moment gone back to, as each input has it, and whether they are the same.
//!
//! In: the history and a moment. Out: the store that every member will have, and each in-order key
//! whose name differs from what a member has or served.
//!
//! Logs that agree lead to the same store, but for one thing: how in-order keys are named (formats
//! page §5). An input's raft snapshot holds the names that its member gave; what is replayed above it
//! is named by the rules of the cluster version gone back to. So two inputs may part in names, and
//! somebody has to say whose count. Anything else that differs has no honest cause.

use std::collections::{BTreeMap, BTreeSet};

use super::history::History;
use super::source::Reading;
use super::witness::Witness;
use super::{Input, RewindError};
use crate::deed::store;
use crate::ground::ids::Index;
use crate::language::raft_snapshot::{SnapshotId, SnapshotScan};
use crate::language::replay::{InOrderRules, ReplayFault};
use crate::language::store::compare::{Difference, compare, in_order_number};
use crate::language::store::saved::Wanted;
use crate::language::store::{NodeId, Store};

/// What an input can offer to begin from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Which input.
    pub input: usize,
    /// Its raft snapshot; none is the empty store, before the first entry.
    pub snapshot: Option<SnapshotId>,
}

/// In-order keys by the name that they will have and the one that they have elsewhere, both store
/// paths; and the inputs that have it there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renamed(pub BTreeMap<(Vec<u8>, Vec<u8>), BTreeSet<usize>>);

impl Renamed {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    fn add(&mut self, names: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>, input: usize) {
        for pair in names {
            self.0.entry(pair).or_default().insert(input);
        }
    }
}

impl View {
    /// The index that it stands at.
    pub fn index(self) -> Index {
        self.snapshot.map_or(Index(0), |id| id.index)
    }

    /// The newest that the input at `place` has for `moment`; the empty store only where it has no
    /// raft snapshot that reaches the moment, and its own log begins at 1.
    pub(super) fn newest(
        place: usize,
        witness: &Witness,
        history: &History<'_>,
        moment: Index,
    ) -> Option<Self> {
        let snapshots = witness.trace.snapshots.iter().rev();
        let mut below = snapshots
            .map(|snapshot| snapshot.id)
            .filter(|id| id.index <= moment);
        let reaches = |from: Index| history.missing(from.next(), moment).is_empty();
        let snapshot = below.find(|id| reaches(id.index));
        let from_empty = || witness.trace.entry(Index(1)).is_some() && reaches(Index(0));
        (snapshot.is_some() || from_empty()).then_some(Self {
            input: place,
            snapshot,
        })
    }
}

/// What members serve now.
#[derive(Debug, Default)]
pub(super) struct Served {
    /// In-order keys that one of them serves by another name.
    pub(super) renamed: Renamed,
    /// The highest `X-Etcd-Index` of any of them.
    pub(super) highest_index: u64,
}

/// How stores are made.
pub(super) struct Stores<'s, 'r> {
    pub(super) inputs: &'s [Input],
    pub(super) witnesses: &'s [Witness],
    pub(super) history: &'s History<'s>,
    pub(super) moment: Index,
    pub(super) rules: InOrderRules,
    pub(super) reading: Reading<'r>,
}

impl Stores<'_, '_> {
    /// The store that `view` leads to.
    pub(super) fn at_moment(&mut self, view: View) -> Result<Store, RewindError> {
        let mut store = match view.snapshot {
            Some(id) => self.load(view.input, id)?,
            None => Store::new(),
        };
        let names = self.rules.names();
        let (parts, _) = self.history.cover(view.index().next(), self.moment);
        for part in parts {
            let (Some(input), Some(witness)) =
                (self.inputs.get(part.input), self.witnesses.get(part.input))
            else {
                continue;
            };
            self.reading
                .entries(&input.target, witness, part, &mut |index, entry, _| {
                    let applied = store.apply(entry.kind, entry.data, names);
                    applied.map(|_| ()).map_err(|_| RewindError::Entry {
                        path: witness.path.clone(),
                        fault: ReplayFault::Unreadable(index),
                    })
                })?;
        }
        Ok(store)
    }

    fn load(&mut self, place: usize, id: SnapshotId) -> Result<Store, RewindError> {
        let Some(input) = self.inputs.get(place) else {
            return Ok(Store::new());
        };
        let path = snapshot_path(id);
        let mut scan = None;
        let length = input.file(&path)?.bytes;
        self.reading.file(&input.target, &path, &mut |piece| {
            let wanted = Wanted {
                tree: true,
                fingerprint: false,
            };
            let scan = scan.get_or_insert_with(|| SnapshotScan::new(id, length, wanted));
            scan.update(piece);
            Ok(())
        })?;
        let changed = || RewindError::Changed(input.target.path().to_path_buf());
        let found = scan.ok_or_else(changed)?.finish().map_err(|_| changed())?;
        found.1.ok_or_else(changed)
    }

    /// The keys of `store` that a member serves by another name now: by its newest raft snapshot and
    /// the rules of its own cluster version.
    pub(super) fn served(&mut self, store: &Store) -> Result<Served, RewindError> {
        let mut found = Served::default();
        for (place, input) in self.inputs.iter().enumerate() {
            let wanted = store::Wanted {
                threads: self.reading.threads,
                ..store::Wanted::default()
            };
            let (interrupt, observe) = (self.reading.interrupt, &mut *self.reading.observe);
            let read = input.target.read_store(wanted, interrupt, observe)?;
            let theirs = &read.replayed.store;
            found.renamed.add(renamed(store, theirs), place);
            found.highest_index = found.highest_index.max(theirs.index());
        }
        Ok(found)
    }

    /// Holds the stores of `views` against `base`, which `store` is.
    pub(super) fn compare(
        &mut self,
        base: View,
        store: &Store,
        views: &[View],
        names: &[String],
    ) -> Result<Renamed, RewindError> {
        let name = |input: usize| names.get(input).cloned().unwrap_or_default();
        let fingerprint = store.fingerprint();
        let mut found = Renamed::default();
        for view in views.iter().filter(|view| view.input != base.input) {
            let other = self.at_moment(*view)?;
            if other.fingerprint() == fingerprint {
                continue;
            }
            let differences = compare(store, &other);
            let unexplained: Vec<_> = differences
                .iter()
                .filter(|difference| !is_in_order(difference, store, &other))
                .map(|difference| difference.path.clone())
                .collect();
            if !unexplained.is_empty() || store.index() != other.index() {
                return Err(RewindError::StoresDiffer {
                    sides: [base, *view].map(|view| name(view.input)),
                    indexes: [store.index(), other.index()],
                    keys: unexplained,
                });
            }
            for difference in &differences {
                let pair = in_order_pair(difference, store, &other);
                found.add(pair, view.input);
            }
        }
        Ok(found)
    }
}

/// The path in an archive of a raft snapshot.
pub(super) fn snapshot_path(id: SnapshotId) -> String {
    format!("member/snap/{}", id.file_name())
}

/// Whether a difference is a key's in-order name and nothing else, or what is below such a key.
fn is_in_order(difference: &Difference, a: &Store, b: &Store) -> bool {
    let renamed = difference.twin.is_some() || in_order_pair(difference, a, b).is_some();
    renamed && difference.parts.is_empty()
}

/// The names that one in-order key has in `a` and in `b`, if a difference is of one.
fn in_order_pair(difference: &Difference, a: &Store, b: &Store) -> Option<(Vec<u8>, Vec<u8>)> {
    let path = difference.path.clone();
    let twin = other_name(&path)?;
    let made_in_order = |store: &Store, id| {
        let node = store.node(id);
        in_order_number(node.name()) == Some(node.created)
    };
    match (difference.a, difference.b) {
        // A later request by one of the names may have made another key of that name on one side,
        // so the other name may be in both.
        (Some(id), None) => {
            let there = b.get(&twin)?;
            (made_in_order(a, id) || made_in_order(b, there)).then_some((path, twin))
        }
        (None, Some(id)) => {
            let there = a.get(&twin)?;
            (made_in_order(b, id) || made_in_order(a, there)).then_some((twin, path))
        }
        _ => None,
    }
}

/// The path of an in-order key by the rules that it is not named by.
fn other_name(path: &[u8]) -> Option<Vec<u8>> {
    let cut = path.iter().rposition(|&byte| byte == b'/')?;
    let (directory, name) = path.split_at_checked(cut + 1)?;
    let number = in_order_number(name)?;
    let names = [InOrderRules::Before22, InOrderRules::From22]
        .map(|rules| [directory, rules.names().name(number).as_bytes()].concat());
    names.into_iter().find(|twin| twin != path)
}

/// The in-order keys of `ours` that `theirs` has by their other name only: store paths, ours first.
fn renamed(ours: &Store, theirs: &Store) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    let mut walk = ours.walk(NodeId::ROOT);
    while let Some(id) = walk.next_node() {
        let node = ours.node(id);
        if in_order_number(node.name()) == Some(node.created)
            && let Some(twin) = other_name(walk.path())
            && theirs.get(&twin).is_some()
            && theirs.get(walk.path()).is_none()
        {
            found.push((walk.path().to_vec(), twin));
        }
    }
    found
}
