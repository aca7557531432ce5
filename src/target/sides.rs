//! Reads two members' stores so that only one of them is in memory at a time.
//!
//! In: two [`Target`]s. Out: of each the member's facts, its log's entries, and a store with its directories and only those
//! keys that the other has not, or not the same. The first is let go before the second is read; a store that has what the other
//! lacks comes back with the read of its log, or is read again.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::etcd::ids::{ClusterVersion, V2_1, V2_2};
use crate::etcd::membership::StoreFacts;
use crate::etcd::replay::{Along, EntryMark, InOrderRules, Until};
use crate::etcd::scan::Extent;
use crate::etcd::store::Store;
use crate::etcd::store::diff::{Difference, compare};
use crate::etcd::store::path::components;
use crate::etcd::store::reduced::{Nodes, Reducer};
use crate::interrupt::Interrupt;
use crate::progress::Event;
use crate::target::{StoreError, StoreQuery, StoreRead, Target};

/// A key's two names, by the rules of 2.1 and of 2.2: store paths, of which a later request can have removed one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TwoNames {
    pub before_2_2: Option<Vec<u8>>,
    pub from_2_2: Option<Vec<u8>>,
    /// The later release of the two: before 2.2 a POST makes another name, before 2.3 a refresh another value.
    pub next: InOrderRules,
}

/// One of the two.
pub(super) struct Side<'t> {
    target: &'t Target,
    /// Its store is whole until it is reduced.
    pub(super) read: StoreRead,
    nodes: Nodes,
    trail: Option<Vec<EntryMark>>,
    pub(super) cluster: StoreFacts,
    pub(super) unsure: BTreeSet<TwoNames>,
}

impl Side<'_> {
    /// Every committed entry that its log has.
    pub(super) fn trail(&self) -> &[EntryMark] {
        self.trail.as_deref().unwrap_or_default()
    }
}

/// Reads both sides.
pub(super) struct Sides<'s> {
    pub(super) wanted: StoreQuery,
    pub(super) interrupt: &'s Interrupt,
    pub(super) observe: &'s mut dyn FnMut(Event),
    pub(super) reducer: Reducer,
}

impl Sides<'_> {
    /// Both, each at its own end, or at the lower of their commit indexes.
    pub(super) fn read<'t>(
        &mut self,
        [a, b]: [&'t Target; 2],
        at_common_index: bool,
    ) -> Result<[Side<'t>; 2], StoreError> {
        let mut first = self.side(a, self.wanted.until)?;
        self.name_unsure(&mut first)?;
        self.reduce(&mut first, None);
        let mut second = self.side(b, self.wanted.until)?;
        let (at_a, at_b) = (first.read.replayed.at, second.read.replayed.at);
        let a_is_last = at_common_index && at_a > at_b;
        if a_is_last {
            self.name_unsure(&mut second)?;
            self.reduce(&mut second, None);
            first = second;
            second = self.side(a, Until::Index(at_b))?;
        } else if at_common_index && at_b > at_a {
            drop(second);
            second = self.side(b, Until::Index(at_a))?;
        }
        self.name_unsure(&mut second)?;
        self.reduce(&mut second, Some(&first.nodes));
        if second.trail.is_none() {
            second.trail = Some(self.trail_of(&second)?.replayed.trail);
        }
        self.complete(&mut first, &second.nodes)?;
        Ok(if a_is_last {
            [second, first]
        } else {
            [first, second]
        })
    }

    /// One of them with its whole store; with its log's entries, if one read gives both.
    fn side<'t>(&mut self, target: &'t Target, until: Until) -> Result<Side<'t>, StoreError> {
        let wanted = StoreQuery {
            until,
            ..self.wanted
        };
        let at_once = StoreQuery {
            along: Along::KeepTrail,
            extent: Extent::All,
            ..wanted
        };
        let one_read = target.has_one_start();
        let read = one_read.then(|| target.read_store(at_once, self.interrupt, self.observe));
        let read = read.and_then(Result::ok);
        let has_trail = read.is_some();
        let otherwise = || target.read_store(wanted, self.interrupt, self.observe);
        let mut read = read.map_or_else(otherwise, Ok)?;
        let trail = std::mem::take(&mut read.replayed.trail);
        let trail = has_trail.then_some(trail);
        Ok(Side {
            target,
            // Reading the log's cluster facts succeeded, so this does too.
            cluster: read.replayed.store.cluster_facts().unwrap_or_default(),
            read,
            nodes: Nodes::default(),
            trail,
            unsure: BTreeSet::new(),
        })
    }

    fn reduce(&self, side: &mut Side<'_>, known: Option<&Nodes>) {
        let store = std::mem::take(&mut side.read.replayed.store);
        let (nodes, store) = self.reducer.reduce(Arc::unwrap_or_clone(store), known);
        side.nodes = nodes;
        side.read.replayed.store = Arc::new(store);
    }

    /// Reads what the first of them lacks once the other is known: its log's entries, and the keys that the other has not.
    fn complete(&mut self, side: &mut Side<'_>, other: &Nodes) -> Result<(), StoreError> {
        let mut again = None;
        if side.trail.is_none() {
            let mut read = self.trail_of(side)?;
            side.trail = Some(std::mem::take(&mut read.replayed.trail));
            again = Some(read.replayed.store);
        }
        if !side.nodes.has_more_than(other) {
            return Ok(());
        }
        let again = again.map(Arc::unwrap_or_clone);
        let again = again.map(|store| self.reducer.reduce(store, Some(other)));
        // From an older raft snapshot the log may lead to another store.
        let again = again.filter(|(nodes, _)| *nodes == side.nodes);
        let (_, store) = again.map_or_else(|| self.again(side, other), Ok)?;
        side.read.replayed.store = Arc::new(store);
        Ok(())
    }

    /// Reads a store once more, for the keys that `other` has not.
    fn again(&mut self, side: &Side<'_>, other: &Nodes) -> Result<(Nodes, Store), StoreError> {
        let wanted = StoreQuery {
            until: Until::Index(side.read.replayed.at),
            starts: false,
            ..self.wanted
        };
        let target = side.target;
        let read = target.read_store(wanted, self.interrupt, self.observe)?;
        let store = Arc::unwrap_or_clone(read.replayed.store);
        let again = self.reducer.reduce(store, Some(other));
        if again.0 == side.nodes {
            Ok(again)
        } else {
            Err(StoreError::Changed(target.path().to_path_buf()))
        }
    }

    /// Reads the entries of the log as far back as it reaches.
    fn trail_of(&mut self, side: &Side<'_>) -> Result<StoreRead, StoreError> {
        let wanted = StoreQuery {
            until: Until::Index(side.read.replayed.at),
            along: Along::KeepTrail,
            extent: Extent::All,
            starts: false,
            ..self.wanted
        };
        let target = side.target;
        target.read_from_oldest(wanted, self.interrupt, self.observe)
    }

    /// Finds the keys that the other release names differently, where members of both may run.
    fn name_unsure(&mut self, side: &mut Side<'_>) -> Result<(), StoreError> {
        let replayed = &side.read.replayed;
        let version = side.read.member.cluster_version.as_ref();
        // A cluster may be on its way from the release of its version to the next one.
        let next = match version.map(ClusterVersion::release) {
            Some(V2_1) => InOrderRules::From22,
            Some(V2_2) => InOrderRules::From23,
            _ => return Ok(()),
        };
        if self.wanted.rules.is_some() || !replayed.depends_on(next) {
            return Ok(());
        }
        let wanted = StoreQuery {
            until: Until::Index(replayed.at),
            rules: Some(next),
            ..self.wanted
        };
        let otherwise = side
            .target
            .read_store(wanted, self.interrupt, self.observe)?;
        let found = compare(&replayed.store, &otherwise.replayed.store);
        let found = found
            .into_iter()
            .filter(|found| !is_clusters_own(&found.path));
        let names = found.map(
            |Difference {
                 path, a, b, twin, ..
             }| match (a, b) {
                (Some(_), None) => (Some(path), twin),
                (None, Some(_)) => (twin, Some(path)),
                _ => (Some(path.clone()), Some(path)),
            },
        );
        let names = names.map(|(before_2_2, from_2_2)| TwoNames {
            before_2_2,
            from_2_2,
            next,
        });
        side.unsure = names.collect();
        Ok(())
    }
}

pub(super) fn is_clusters_own(path: &[u8]) -> bool {
    matches!(components(path).as_slice(), [] | [b"0", ..])
}
