//! What differs between two members' data: keys, members, versions, logs.
//!
//! In: two [`Target`]s. Out: a [`Comparison`]; each key difference with the raft index of the entry
//! that made it, where the logs at hand tell.

use super::Event;
use super::store::{StoreError, StoreRead, Target, Wanted};
use crate::ground::ids::Index;
use crate::ground::interrupt::Interrupt;
use crate::language::replay::{EntryMark, Removal, Until};
use crate::language::store::compare::{Difference, compare, in_order_number};
use crate::language::store::path::components;
use crate::language::store::{NodeId, Store};
use crate::language::store_facts::StoreFacts;

/// Two stores and what differs.
#[derive(Debug)]
pub struct Comparison {
    /// The first.
    pub a: StoreRead,
    /// The second.
    pub b: StoreRead,
    /// Keys below `/1` and `/2`, in order.
    pub keys: Vec<KeyDifference>,
    /// What the stores say of their clusters; equal if the same.
    pub clusters: (StoreFacts, StoreFacts),
    /// What the logs have in common.
    pub logs: LogAgreement,
}

/// A difference and its cause.
#[derive(Debug)]
pub struct KeyDifference {
    /// The difference.
    pub difference: Difference,
    /// The entry that made it; `None` if it lies before the logs at hand.
    pub entry: Option<Index>,
    /// Whether it is an in-order key that members of 2.1 and 2.2 name differently, or a
    /// consequence of that.
    pub in_order: bool,
}

/// How far two logs are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogAgreement {
    /// The committed entries that both hold, first and last; `None` if there are none.
    pub common: Option<(Index, Index)>,
    /// The first of them that is not the same.
    pub first_difference: Option<Index>,
}

impl Comparison {
    /// Whether nothing differs.
    pub fn is_equal(&self) -> bool {
        self.keys.is_empty()
            && self.clusters.0 == self.clusters.1
            && self.logs.first_difference.is_none()
    }

    /// How many differences are of the in-order trap.
    pub fn in_order(&self) -> usize {
        self.keys.iter().filter(|key| key.in_order).count()
    }
}

/// Compares `a` with `b`, each as `wanted`, or both at the lower of their commit indexes.
pub fn diff(
    a: &Target,
    b: &Target,
    at_common_index: bool,
    wanted: Wanted,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<Comparison, StoreError> {
    let mut read_a = a.read_store(wanted, interrupt, observe)?;
    let mut read_b = b.read_store(wanted, interrupt, observe)?;
    if at_common_index && read_a.replayed.at != read_b.replayed.at {
        let common = read_a.replayed.at.min(read_b.replayed.at);
        let wanted = Wanted {
            until: Until::Index(common),
            ..wanted
        };
        if read_a.replayed.at > common {
            read_a = a.read_store(wanted, interrupt, observe)?;
        } else {
            read_b = b.read_store(wanted, interrupt, observe)?;
        }
    }
    let trail = |target: &Target, read: &StoreRead, observe: &mut dyn FnMut(Event)| {
        let wanted = Wanted {
            until: Until::Index(read.replayed.at),
            keep_trail: true,
            whole: true,
            ..wanted
        };
        let read = target.read_from_oldest(wanted, interrupt, observe)?;
        Ok::<_, StoreError>(read.replayed.trail)
    };
    let trail_a = trail(a, &read_a, observe)?;
    let trail_b = trail(b, &read_b, observe)?;
    let logs = agreement(&trail_a, &trail_b);
    let (at_a, at_b) = (read_a.replayed.at, read_b.replayed.at);
    let (store_a, store_b) = (&read_a.replayed.store, &read_b.replayed.store);
    let causes = Causes {
        stores: [store_a, store_b],
        trails: [&trail_a, &trail_b],
        differ_from: logs.first_difference.unwrap_or(at_a.min(at_b).next()),
        same_log: logs.first_difference.is_none() && at_a == at_b,
    };
    let keys = compare(store_a, store_b)
        .into_iter()
        .filter(|difference| !is_clusters_own(&difference.path))
        .map(|difference| causes.explain(difference))
        .collect();
    // Each log's own reading of the cluster's keys went well, so this one does.
    let facts = |store: &Store| store.cluster_facts().unwrap_or_default();
    let clusters = (facts(store_a), facts(store_b));
    Ok(Comparison {
        keys,
        clusters,
        logs,
        a: read_a,
        b: read_b,
    })
}

fn is_clusters_own(path: &[u8]) -> bool {
    matches!(components(path).as_slice(), [] | [b"0", ..])
}

fn agreement(a: &[EntryMark], b: &[EntryMark]) -> LogAgreement {
    let bounds = |trail: &[EntryMark]| Some((trail.first()?.index, trail.last()?.index));
    let (Some(bounds_a), Some(bounds_b)) = (bounds(a), bounds(b)) else {
        return LogAgreement::default();
    };
    let (first, last) = (bounds_a.0.max(bounds_b.0), bounds_a.1.min(bounds_b.1));
    let mut first_difference = None;
    let mut in_b = b.iter().peekable();
    for mark in a {
        while in_b.next_if(|other| other.index < mark.index).is_some() {}
        if let Some(other) = in_b.peek()
            && other.index == mark.index
            && (other.term, other.crc) != (mark.term, mark.crc)
        {
            first_difference = Some(mark.index);
            break;
        }
    }
    LogAgreement {
        common: (first <= last).then_some((first, last)),
        first_difference,
    }
}

struct Causes<'a> {
    stores: [&'a Store; 2],
    trails: [&'a [EntryMark]; 2],
    /// The first entry that only one of the stores has seen, or that is not the same in both.
    differ_from: Index,
    /// Whether both stores come from the same entries.
    same_log: bool,
}

impl Causes<'_> {
    fn explain(&self, difference: Difference) -> KeyDifference {
        let sides = [difference.a, difference.b];
        let name = components(&difference.path).pop().unwrap_or_default();
        let post = in_order_number(name).and_then(|number| self.post_at(number));
        let one_sided = sides.contains(&None);
        // Without a twin it may be what came of one: a later request that found its key under one
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

    /// The entry that brought the store to the index that `index` reads of the node on a side.
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

    /// The entry that brought the store of a side to `store_index`.
    fn entry_at(&self, side: usize, store_index: u64) -> Option<&EntryMark> {
        let trail = self.trails.get(side)?;
        let applied = trail.partition_point(|mark| mark.store_index.is_none());
        let trail = trail.get(applied..)?;
        let reached = trail.partition_point(|mark| mark.store_index < Some(store_index));
        // What the first entry applied found was there before the log at hand.
        let known = reached > 0 || trail.first()?.store_index == Some(store_index);
        trail.get(reached).filter(|_| known)
    }

    /// The in-order creation that brought a store to `store_index`.
    fn post_at(&self, store_index: u64) -> Option<Index> {
        let of = |side| {
            self.entry_at(side, store_index)
                .filter(|mark| mark.in_order)
        };
        of(0).or_else(|| of(1)).map(|mark| mark.index)
    }

    /// The last entry on a side, after `made`, that took away what was at `path`, or what expired.
    fn removed(
        &self,
        side: usize,
        path: &[u8],
        expires: bool,
        made: Option<Index>,
    ) -> Option<Index> {
        let covers = |above: &[u8]| {
            let rest = path.strip_prefix(above);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        let later = |mark: &&EntryMark| made.is_none_or(|made| mark.index > made);
        let trail = self.trails.get(side)?.iter().rev();
        let taken = trail.filter(later).find(|mark| match &mark.removes {
            Some(Removal::Node(above)) => covers(above),
            Some(Removal::Expired) => expires,
            None => false,
        });
        taken.map(|mark| mark.index)
    }
}
