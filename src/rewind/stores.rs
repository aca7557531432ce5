//! The store at the last kept entry, as each input has it, and whether they are the same.
//!
//! In: the history and that entry. Out: the store that every member will have, and each in-order key
//! that a member has or served under another name.
//!
//! Logs that agree lead to the same store, except for the names of in-order keys (formats page §5). An
//! input's raft snapshot holds the names that its member gave; keys replayed above it are named by the
//! rules of the cluster version at that entry. So two inputs may differ in names, and the user must
//! choose. Any other difference means damaged data.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::etcd::digest::Digest;
use crate::etcd::ids::{Index, SnapshotId};
use crate::etcd::proto::Request;
use crate::etcd::raft_snapshot::{SnapshotFacts, SnapshotScan};
use crate::etcd::replay::{InOrderRules, ReplayFault};
use crate::etcd::store::Store;
use crate::etcd::store::diff::{Difference, compare};
use crate::etcd::store::from_json::{LoadOptions, StartTree};
use crate::etcd::wal::log::EntryView;
use crate::rewind::history::{History, Part};
use crate::rewind::input::ReadInput;
use crate::rewind::leftovers::Leftovers;
use crate::rewind::reread::{Reading, snapshot_path};
use crate::rewind::served::{
    NamePair, Renamed, Served, ServedStore, in_order_pair, is_in_order, renamed,
};
use crate::rewind::{Input, RewindError};
use crate::target as store;
use crate::thread_pool::at_once;

/// The raft snapshot of an input that a replay may begin from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    pub input: usize,
    /// Its raft snapshot; `None` is the empty store, before the first entry.
    pub snapshot: Option<SnapshotId>,
}

impl View {
    /// The index of its raft snapshot.
    pub fn index(self) -> Index {
        self.snapshot.map_or(Index(0), |id| id.index)
    }

    /// The newest one that the input at `place` has for `moment`; the empty store only if it has no
    /// raft snapshot at or below that entry and its own log begins at 1.
    pub(crate) fn newest(
        place: usize,
        read_input: &ReadInput,
        history: &History<'_>,
        moment: Index,
    ) -> Option<Self> {
        let snapshots = read_input.trace.snapshots.iter().rev();
        let mut below = snapshots
            .map(|snapshot| snapshot.id)
            .filter(|id| id.index <= moment);
        let reaches = |from: Index| {
            let cover = history.cover(from.next(), moment, Some(place));
            cover.is_whole()
        };
        let snapshot = below.find(|id| reaches(id.index));
        let from_empty = || read_input.trace.entry(Index(1)).is_some() && reaches(Index(0));
        (snapshot.is_some() || from_empty()).then_some(Self {
            input: place,
            snapshot,
        })
    }
}

/// What a view leads to at the last kept entry, besides its store.
#[derive(Clone, Default)]
struct Reached {
    /// The fingerprint of the store that it began from, if it is compared.
    begun: Option<Digest>,
    /// What removed members left in the store, which is without it.
    leftovers: Leftovers,
    /// Whether the rules may have named a key.
    has_named: bool,
    /// What members serve, by the commit indexes that were met.
    served: BTreeMap<Index, ServedStore>,
}

impl Reached {
    fn note(&mut self, commit: Index, store: &Store) {
        self.served.insert(commit, ServedStore::of(store));
    }
}

/// What is compared of the store of a view.
struct Reduced {
    fingerprint: Digest,
    served: Option<ServedStore>,
}

/// What is wanted of a raft snapshot that a replay begins from.
const TREE: LoadOptions = LoadOptions {
    tree: true,
    fingerprint: false,
    for_start: StartTree::None,
};
/// What is wanted of one that is only compared.
const FINGERPRINT: LoadOptions = LoadOptions {
    tree: false,
    fingerprint: true,
    for_start: StartTree::None,
};

/// Builds stores from views.
pub(crate) struct Stores<'s, 'r> {
    pub(crate) inputs: &'s [Input],
    pub(crate) read_inputs: &'s [ReadInput],
    pub(crate) history: &'s History<'s>,
    pub(crate) moment: Index,
    pub(crate) rules: InOrderRules,
    pub(crate) reading: Reading<'r>,
}

/// The store that all will have, and its keys that some have or serve under another name.
pub(crate) struct Agreed {
    pub(crate) store: Store,
    pub(crate) leftovers: Leftovers,
    /// In-order keys that another input has under another name at that entry.
    pub(crate) disagreed: Renamed,
    pub(crate) served: Served,
}

impl Stores<'_, '_> {
    /// The store that `base` leads to, compared with those of all `views`. If they differ in names, the
    /// user must have chosen the base.
    pub(crate) fn agreed(
        &mut self,
        base: View,
        views: &[View],
        names: &[String],
        is_named: bool,
    ) -> Result<Agreed, RewindError> {
        // One store at a time: of those that begin elsewhere only what is compared is kept.
        let (twins, others): (Vec<&View>, Vec<&View>) = views
            .iter()
            .filter(|view| view.input != base.input)
            .partition(|view| view.snapshot == base.snapshot);
        let mut reduced = BTreeMap::new();
        for view in others {
            reduced.insert(view.input, self.reduced(*view)?);
        }
        let (store, reached) = self.at_moment_beside(base, &twins, &mut reduced)?;
        let leftovers = reached.leftovers.clone();
        let fingerprint = (!reduced.is_empty()).then(|| store.fingerprint());
        let mut disagreed = Renamed::default();
        let mut served = Served::default();
        for (place, input) in self.inputs.iter().enumerate() {
            let theirs = match views.iter().find(|view| view.input == place) {
                None => None,
                Some(view) => match reduced.remove(&place) {
                    None => self.served(*view, Cow::Borrowed(&store), &reached),
                    Some(theirs) => {
                        if Some(theirs.fingerprint) != fingerprint {
                            let (other, _) = self.at_moment(*view, &[])?;
                            let pairs = compare_views([base, *view], [&store, &other], names)?;
                            disagreed.add(pairs, place);
                        }
                        theirs.served
                    }
                },
            };
            let theirs = theirs.map_or_else(|| self.served_by(input), Ok)?;
            served.renamed.add(renamed(&store, &theirs), place);
            served.highest_index = served.highest_index.max(theirs.index);
            served.auth.is_on |= theirs.auth.is_on;
            served.auth.users.extend(theirs.auth.users);
        }
        served.auth = served.auth.without(&store);
        if !disagreed.is_empty() && !is_named {
            return Err(RewindError::InOrder {
                keys: disagreed,
                names: names.to_vec(),
            });
        }
        Ok(Agreed {
            store,
            leftovers,
            disagreed,
            served,
        })
    }

    /// What is compared of the store that `view` leads to.
    fn reduced(&mut self, view: View) -> Result<Reduced, RewindError> {
        let (store, reached) = self.at_moment(view, &[view.input])?;
        Ok(Reduced {
            fingerprint: store.fingerprint(),
            served: self.served(view, Cow::Owned(store), &reached),
        })
    }

    /// The store that `base` leads to. `twins` begin from a raft snapshot of the same entry: if its store is the same, so
    /// is what the history leads to from there; what is compared of any other is added to `reduced`.
    fn at_moment_beside(
        &mut self,
        base: View,
        twins: &[&View],
        reduced: &mut BTreeMap<usize, Reduced>,
    ) -> Result<(Store, Reached), RewindError> {
        let places = twins.iter().map(|twin| twin.input);
        let places: Vec<_> = places.chain([base.input]).collect();
        let Some(id) = base.snapshot.filter(|_| !twins.is_empty()) else {
            return self.at_moment(base, &places);
        };
        let (inputs, threads, interrupt) =
            (self.inputs, self.reading.threads, self.reading.interrupt);
        let begun = || {
            let mut reading = Reading {
                threads,
                interrupt,
                observe: &mut |_| {},
            };
            let inputs = twins.iter().filter_map(|twin| inputs.get(twin.input));
            let begun = inputs.map(|input| reading.snapshot(input, id, FINGERPRINT));
            begun.collect::<Result<Vec<_>, _>>()
        };
        let (found, begun) = at_once(threads, || self.at_moment(base, &places), begun);
        let (store, reached) = found?;
        for (twin, (facts, _)) in twins.iter().zip(begun?) {
            if facts.fingerprint != reached.begun {
                reduced.insert(twin.input, self.reduced(**twin)?);
            }
        }
        Ok((store, reached))
    }

    /// The store that `view` leads to without leftovers of removed members; `places` are the inputs that have come to the
    /// same stores, so that what they serve is noted on the way.
    fn at_moment(&mut self, view: View, places: &[usize]) -> Result<(Store, Reached), RewindError> {
        let (mut store, mut reached) = match view.snapshot {
            Some(id) => self.load(view.input, id, places.len() > 1)?,
            None => (Store::new(), Reached::default()),
        };
        let own = places
            .iter()
            .filter_map(|place| self.read_inputs.get(*place));
        let commits: BTreeSet<_> = own.map(|own| own.facts.position.commit).collect();
        let history = self.history;
        let parts = history.cover(view.index().next(), self.moment, Some(view.input));
        for part in parts.parts {
            self.apply(part, &commits, &mut store, &mut reached)?;
        }
        if commits.contains(&self.moment) {
            reached.note(self.moment, &store);
        }
        Ok((store, reached))
    }

    /// Applies the entries of `part`; what is there after an entry in `commits` is what a member serves.
    fn apply(
        &mut self,
        part: Part,
        commits: &BTreeSet<Index>,
        store: &mut Store,
        reached: &mut Reached,
    ) -> Result<(), RewindError> {
        let (Some(input), Some(read_input)) = (
            self.inputs.get(part.input),
            self.read_inputs.get(part.input),
        ) else {
            return Ok(());
        };
        let rules = self.rules;
        let mut apply = |index: Index, entry: &EntryView<'_>, _: &[u8]| {
            if commits.contains(&index.previous()) {
                reached.note(index.previous(), store);
            }
            reached.has_named |= Request::may_have_method(entry.data, *b"POST");
            let instead = reached.leftovers.replace(store, entry);
            let data = instead.as_deref().unwrap_or(entry.data);
            let applied = store.apply(entry.kind, data, rules);
            applied.map(|_| ()).map_err(|_| RewindError::Entry {
                path: read_input.path.clone(),
                fault: ReplayFault::Unreadable(index),
            })
        };
        self.reading
            .entries(&input.target, read_input, part, &mut apply)
    }

    /// What the member of `view` serves: its newest raft snapshot, replayed by the rules of its own cluster version.
    /// `store` and `reached` are what the view leads to at the last kept entry; `None` if that does not tell.
    fn served(
        &mut self,
        view: View,
        store: Cow<'_, Store>,
        reached: &Reached,
    ) -> Option<ServedStore> {
        let own = self.read_inputs.get(view.input)?;
        let (facts, commit) = (&own.facts, own.facts.position.commit);
        let is_changed = own.lost.is_some() || !reached.leftovers.members.is_empty();
        if is_changed || facts.raft_snapshot != view.snapshot {
            return None;
        }
        let mut reached = Cow::Borrowed(reached);
        let mut refreshes = store.refreshes();
        if commit > self.moment {
            let above = own.trace.above(self.moment).iter();
            let rest = above.take_while(|entry| entry.index <= commit).count() as u64;
            if rest < commit.0 - self.moment.0 {
                return None;
            }
            let rest = Part {
                from: self.moment.next(),
                to: commit,
                input: view.input,
            };
            let mut store = store.into_owned();
            let commits = BTreeSet::new();
            self.apply(rest, &commits, &mut store, reached.to_mut())
                .ok()?;
            reached.to_mut().note(commit, &store);
            refreshes = store.refreshes();
        }
        let own_rules = InOrderRules::of(facts.cluster_version.as_ref());
        let renames = reached.has_named && own_rules.names() != self.rules.names();
        let empties = refreshes > 0 && own_rules.knows_refresh() != self.rules.knows_refresh();
        let served = reached.served.get(&commit);
        served.filter(|_| !renames && !empties).cloned()
    }

    /// The store in a raft snapshot without leftovers; with its fingerprint before that, if it `is_compared`.
    fn load(
        &mut self,
        place: usize,
        id: SnapshotId,
        is_compared: bool,
    ) -> Result<(Store, Reached), RewindError> {
        let Some(input) = self.inputs.get(place) else {
            return Ok(Default::default());
        };
        let wanted = LoadOptions {
            fingerprint: is_compared,
            ..TREE
        };
        let (facts, store) = self.reading.snapshot(input, id, wanted)?;
        let changed = || RewindError::Changed(input.target.path().to_path_buf());
        let store = store.ok_or_else(changed)?;
        let mut reached = Reached {
            begun: facts.fingerprint,
            ..Reached::default()
        };
        let leftovers = Leftovers::in_snapshot(&store);
        // What 3.x starts from is not known here.
        let is_3x = self.read_inputs.iter().any(|read_input| read_input.has_db);
        if is_3x || !leftovers.is_in_snapshot() {
            return Ok((store, reached));
        }
        let mut file = Vec::new();
        self.reading
            .file(&input.target, &snapshot_path(id), &mut |piece| {
                file.extend_from_slice(piece);
                Ok(())
            })?;
        let without = leftovers.out_of_snapshot(&file, &facts);
        let without = without.ok_or(RewindError::Leftover(id))?;
        let store = read_snapshot(id, &without).and_then(|(_, store)| store);
        reached.leftovers = leftovers;
        Ok((store.ok_or(RewindError::Leftover(id))?, reached))
    }

    /// The same, by a replay of its own: of a log that is damaged, or holds an entry that no server applies, or by other rules.
    fn served_by(&mut self, input: &Input) -> Result<ServedStore, RewindError> {
        let wanted = store::StoreQuery {
            rescue: true,
            threads: self.reading.threads,
            ..store::StoreQuery::default()
        };
        let (interrupt, observe) = (self.reading.interrupt, &mut *self.reading.observe);
        let read = input.target.read_store(wanted, interrupt, observe)?;
        Ok(ServedStore::of(&read.replayed.store))
    }
}

/// Compares the stores that two views lead to: the pairs of names that in-order keys have in them.
fn compare_views(
    views: [View; 2],
    [a, b]: [&Store; 2],
    names: &[String],
) -> Result<Vec<NamePair>, RewindError> {
    let mut differences = compare(a, b);
    // One view begins after a late publish and the other applies its replacement: both have the
    // marker, and the marker's indexes have no meaning.
    let is_marker = |found: &Difference| {
        found.path.starts_with(b"/0/removed_members/") && found.a.is_some() && found.b.is_some()
    };
    differences.retain(|found| !is_marker(found));
    let unexplained = differences.iter();
    let unexplained = unexplained.filter(|difference| !is_in_order(difference, a, b));
    let unexplained: Vec<_> = unexplained.map(|found| found.path.clone()).collect();
    if !unexplained.is_empty() || a.index() != b.index() {
        let name = |view: View| names.get(view.input).cloned().unwrap_or_default();
        return Err(RewindError::StoresDiffer {
            sides: views.map(name),
            indexes: [a, b].map(Store::index),
            keys: unexplained,
        });
    }
    let pairs = differences.iter();
    Ok(pairs
        .filter_map(|found| in_order_pair(found, a, b))
        .collect())
}

/// What the raft snapshot at `id` holds, if its file is valid.
pub(crate) fn read_snapshot(id: SnapshotId, file: &[u8]) -> Option<(SnapshotFacts, Option<Store>)> {
    let mut scan = SnapshotScan::new(id, file.len() as u64, TREE);
    scan.update(file);
    scan.finish().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::store::apply::Names;

    /// Two stores after the same requests, with the names of 2.1 and of 2.2.
    fn both(requests: &[(&str, &str, &str)]) -> (Store, Store) {
        let (mut plain, mut padded) = (Store::new(), Store::new());
        for (method, path, value) in requests {
            let request = Request {
                method: Some(method.as_bytes().to_vec()),
                path: Some(path.as_bytes().to_vec()),
                val: Some(value.as_bytes().to_vec()),
                ..Request::default()
            };
            plain.apply_request(&request, Names::Plain);
            padded.apply_request(&request, Names::Padded);
        }
        (plain, padded)
    }

    fn pairs(a: &Store, b: &Store) -> Option<Vec<(String, String)>> {
        let differences = compare(a, b);
        let all = differences.iter().all(|found| is_in_order(found, a, b));
        let text = |path: Vec<u8>| String::from_utf8(path).unwrap();
        let found: BTreeSet<_> = differences
            .iter()
            .filter_map(|found| in_order_pair(found, a, b))
            .map(|(one, other)| (text(one), text(other)))
            .collect();
        all.then(|| found.into_iter().collect())
    }

    const ONE: (&str, &str) = ("/1/queue/1", "/1/queue/00000000000000000001");

    #[test]
    fn a_key_that_each_names_in_its_own_way_is_explained_and_told_once() {
        let (plain, padded) = both(&[("POST", "/1/queue", "a"), ("PUT", "/1/other", "b")]);
        let expected = vec![(ONE.0.to_owned(), ONE.1.to_owned())];
        assert_eq!(pairs(&plain, &padded), Some(expected));
        assert_eq!(renamed(&plain, &ServedStore::of(&padded)).len(), 1);
        assert_eq!(pairs(&plain, &plain), Some(Vec::new()));
    }

    #[test]
    fn a_key_that_was_later_set_by_one_of_its_names_is_explained() {
        // With the same name the key was set; with the other, a second key was made.
        let (plain, padded) = both(&[("POST", "/1/queue", "a"), ("PUT", ONE.0, "b")]);
        assert_eq!(plain.index(), padded.index());
        let expected = vec![(ONE.0.to_owned(), ONE.1.to_owned())];
        assert_eq!(pairs(&plain, &padded), Some(expected));
    }

    #[test]
    fn an_in_order_key_that_is_gone_or_holds_another_value_is_not_explained() {
        let (plain, _) = both(&[("POST", "/1/queue", "a"), ("POST", "/1/queue", "b")]);
        let (_, shorter) = both(&[("POST", "/1/queue", "a")]);
        assert_eq!(pairs(&plain, &shorter), None);
        let (_, other) = both(&[("POST", "/1/queue", "a"), ("POST", "/1/queue", "x")]);
        assert_eq!(pairs(&plain, &other), None);
        // A number that a client chose is not an in-order name.
        let (given, _) = both(&[("PUT", "/1/a", ""), ("PUT", "/1/queue/7", "a")]);
        let (padded, _) = both(&[
            ("PUT", "/1/a", ""),
            ("PUT", "/1/queue/00000000000000000007", "a"),
        ]);
        assert_eq!(pairs(&given, &padded), None);
    }
}
