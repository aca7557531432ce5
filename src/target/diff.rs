//! The differences between two members' data: keys, members, versions, logs.
//!
//! In: two [`Target`]s. Out: a [`Comparison`]; each key difference has the raft index of the entry
//! that made it, if the available logs have that entry.

use std::collections::{BTreeMap, BTreeSet};

use crate::etcd::ids::Index;
use crate::etcd::membership::StoreFacts;
use crate::etcd::replay::{EntryMark, Removal};
use crate::etcd::store::diff::{Difference, compare, in_order_number};
use crate::etcd::store::path::components;
use crate::etcd::store::reduced::Reducer;
use crate::etcd::store::{NodeId, Store};
use crate::interrupt::Interrupt;
use crate::progress::Event;
use crate::target::sides::{Sides, is_clusters_own};
use crate::target::{StoreError, StoreQuery, StoreRead, Target};

pub use crate::target::sides::TwoNames;

#[derive(Debug)]
pub struct Comparison {
    /// Its store has, besides directories, only the keys that the other has not, or not the same.
    pub a: StoreRead,
    pub b: StoreRead,
    /// Keys below `/1` and `/2`, in order.
    pub keys: Vec<KeyDifference>,
    /// The cluster facts in both stores.
    pub clusters: (StoreFacts, StoreFacts),
    pub logs: LogAgreement,
    /// In-order keys that have another name on a member of 2.2. While the cluster version is 2.1 members of both
    /// releases may run, and the files do not record which of them named the keys above its raft snapshot.
    pub unsure: Vec<TwoNames>,
}

#[derive(Debug)]
pub struct KeyDifference {
    pub difference: Difference,
    /// The entry that made it; `None` if it is before the available logs.
    pub entry: Option<Index>,
    /// Whether it is an in-order key that members of 2.1 and 2.2 name differently, or a
    /// consequence of that.
    pub in_order: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogAgreement {
    /// The last run of committed entries that both have without a gap, first and last; `None` if
    /// there are none.
    pub common: Option<(Index, Index)>,
    /// The first of them that differs.
    pub first_difference: Option<Index>,
}

impl Comparison {
    /// Whether the stores' indexes differ although both are at one entry.
    pub fn counts_differ(&self) -> bool {
        let (a, b) = (&self.a.replayed, &self.b.replayed);
        a.at == b.at && a.store.index() != b.store.index()
    }

    pub fn is_equal(&self) -> bool {
        self.keys.is_empty()
            && !self.counts_differ()
            && self.clusters.0 == self.clusters.1
            && self.logs.first_difference.is_none()
    }

    /// How many differences are only names of in-order keys (formats page §5).
    pub fn in_order(&self) -> usize {
        self.keys.iter().filter(|key| key.in_order).count()
    }
}

/// Compares `a` with `b`, each as `wanted`, or both at the lower of their commit indexes.
pub fn diff(
    a: &Target,
    b: &Target,
    at_common_index: bool,
    wanted: StoreQuery,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<Comparison, StoreError> {
    let mut sides = Sides {
        wanted,
        interrupt,
        observe,
        reducer: Reducer::default(),
    };
    let [a, b] = sides.read([a, b], at_common_index)?;
    let [trail_a, trail_b] = [a.trail(), b.trail()];
    let logs = agreement(trail_a, trail_b);
    let (at_a, at_b) = (a.read.replayed.at, b.read.replayed.at);
    let (store_a, store_b) = (&a.read.replayed.store, &b.read.replayed.store);
    let causes = Causes {
        stores: [store_a, store_b],
        trails: [trail_a, trail_b],
        removals: [Removals::of(trail_a), Removals::of(trail_b)],
        differ_from: logs.first_difference.unwrap_or(at_a.min(at_b).next()),
        same_log: logs.common.is_some() && logs.first_difference.is_none() && at_a == at_b,
    };
    let keys = compare(store_a, store_b)
        .into_iter()
        .filter(|difference| !is_clusters_own(&difference.path))
        .map(|difference| causes.explain(difference))
        .collect();
    let unsure: BTreeSet<_> = a.unsure.into_iter().chain(b.unsure).collect();
    Ok(Comparison {
        keys,
        logs,
        unsure: unsure.into_iter().collect(),
        clusters: (a.cluster, b.cluster),
        a: a.read,
        b: b.read,
    })
}

fn agreement(a: &[EntryMark], b: &[EntryMark]) -> LogAgreement {
    let mut found = LogAgreement::default();
    let mut in_b = b.iter().peekable();
    for mark in a {
        while in_b.next_if(|other| other.index < mark.index).is_some() {}
        let Some(other) = in_b.peek().filter(|other| other.index == mark.index) else {
            continue;
        };
        let run = found
            .common
            .filter(|(_, last)| last.next() == mark.index)
            .map_or(mark.index, |(first, _)| first);
        found.common = Some((run, mark.index));
        if (other.term, other.crc) != (mark.term, mark.crc) {
            found.first_difference.get_or_insert(mark.index);
        }
    }
    found
}

#[derive(Default)]
struct Removals<'a> {
    /// By the store path of what they removed.
    nodes: BTreeMap<&'a [u8], Index>,
    /// The last one by which anything expired.
    expired: Option<Index>,
}

impl<'a> Removals<'a> {
    fn of(trail: &'a [EntryMark]) -> Self {
        let mut found = Self::default();
        for mark in trail {
            match &mark.removes {
                Some(Removal::Node(path)) => {
                    found.nodes.insert(path, mark.index);
                }
                Some(Removal::Expired) => found.expired = Some(mark.index),
                None => {}
            }
        }
        found
    }

    /// The last one that removed `path` or one of its parent directories.
    fn covering(&self, path: &[u8]) -> Option<Index> {
        if self.nodes.is_empty() {
            return None;
        }
        let cuts = path.iter().enumerate().skip(1);
        let cuts = cuts.filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let above = cuts.chain([path.len()]);
        above
            .filter_map(|end| self.nodes.get(path.get(..end)?).copied())
            .max()
    }
}

struct Causes<'a> {
    stores: [&'a Store; 2],
    trails: [&'a [EntryMark]; 2],
    removals: [Removals<'a>; 2],
    /// The first entry that only one of the stores has applied, or that differs.
    differ_from: Index,
    /// Whether both stores come from the same entries.
    same_log: bool,
}

impl Causes<'_> {
    fn explain(&self, difference: Difference) -> KeyDifference {
        let sides = [difference.a, difference.b];
        let name = components(&difference.path).pop().unwrap_or_default();
        let post = in_order_number(name).and_then(|number| self.post_at(number, &difference.path));
        let one_sided = sides.contains(&None);
        // Without a twin it may be caused by one: a later request that found its key under one
        // name only.
        if one_sided && (difference.twin.is_some() || (post.is_some() && self.same_log)) {
            let made = |side: usize| self.wrote(side, sides, |store, id| store.node(id).created);
            let entry = post.or_else(|| made(0)).or_else(|| made(1));
            return KeyDifference {
                difference,
                entry,
                in_order: true,
            };
        }
        let there = difference
            .a
            .map(|id| (0, id))
            .or(difference.b.map(|id| (1, id)));
        let expires = there.is_some_and(|(side, id): (usize, NodeId)| {
            let store = self.stores.get(side);
            store.is_some_and(|store| store.node(id).expires.is_some())
        });
        let modified = |store: &Store, id| store.node(id).modified;
        let wrote = [0, 1].map(|side| self.wrote(side, sides, modified));
        let mut entries: Vec<Index> = wrote.into_iter().flatten().collect();
        for (side, node) in sides.into_iter().enumerate() {
            if node.is_none() {
                let made = wrote.into_iter().flatten().next();
                entries.extend(self.removed(side, &difference.path, expires, made));
            }
        }
        let from = self.differ_from;
        let behind = entries.iter().copied().filter(|entry| *entry >= from).min();
        KeyDifference {
            entry: behind.or_else(|| entries.into_iter().max()),
            in_order: false,
            difference,
        }
    }

    /// The entry that made the index that `index` reads from the node on a side.
    fn wrote(
        &self,
        side: usize,
        nodes: [Option<NodeId>; 2],
        index: impl Fn(&Store, NodeId) -> u64,
    ) -> Option<Index> {
        let store = self.stores.get(side)?;
        let id = nodes.get(side).copied().flatten()?;
        self.entry_at(side, index(store, id)).map(|mark| mark.index)
    }

    /// The entry that raised the index of a side's store to `store_index`.
    fn entry_at(&self, side: usize, store_index: u64) -> Option<&EntryMark> {
        let trail = self.trails.get(side)?;
        let applied = trail.partition_point(|mark| mark.store_index.is_none());
        let trail = trail.get(applied..)?;
        let reached = trail.partition_point(|mark| mark.store_index < Some(store_index));
        // Nodes from before the first applied entry were made before the available log.
        let first = trail.first()?;
        let known = reached > 0 || first.counts && first.store_index == Some(store_index);
        trail.get(reached).filter(|_| known)
    }

    /// The entry that created an in-order key in the parent of `path` and raised the store's index to
    /// `store_index`.
    fn post_at(&self, store_index: u64, path: &[u8]) -> Option<Index> {
        let cut = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        let directory = path.get(..cut.max(1));
        let of = |side| {
            self.entry_at(side, store_index)
                .filter(|mark| mark.in_order.as_deref() == directory)
        };
        of(0).or_else(|| of(1)).map(|mark| mark.index)
    }

    /// The last entry on a side, after `made`, that removed what was at `path`, or by which it expired.
    fn removed(
        &self,
        side: usize,
        path: &[u8],
        expires: bool,
        made: Option<Index>,
    ) -> Option<Index> {
        let taken = self.removals.get(side)?;
        let last_expiry = taken.expired.filter(|_| expires);
        let last = taken.covering(path).max(last_expiry)?;
        made.is_none_or(|made| last > made).then_some(last)
    }
}
