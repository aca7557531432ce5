//! What a rewind will do, and what it costs.
//!
//! Nothing here reads or writes: a [`Plan`] is shown, or handed to [`write()`](crate::rewind::write()).

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::archive::manifest::{Origin, Rewind};
use crate::etcd::digest::Digest;
use crate::etcd::entry::EntryCount;
use crate::etcd::ids::{ClusterId, Index, Term};
use crate::etcd::membership::Member;
use crate::etcd::replay::InOrderRules;
use crate::etcd::store::stats::Expiring;
use crate::etcd::store::{Store, UnixNanos};
use crate::etcd::trace::TracedEntry;
use crate::rewind::cut::Moment;
use crate::rewind::fork::Agreement;
use crate::rewind::history::{History, Missing, Part};
use crate::rewind::input::Witness;
use crate::rewind::leftovers::Leftovers;
use crate::rewind::new_cluster::Change;
use crate::rewind::stores::{Renamed, View};

/// What will be done, and what it costs.
#[derive(Debug)]
pub struct Plan {
    /// What the inputs say, in the order they were given.
    pub witnesses: Vec<Witness>,
    pub agreement: Agreement,
    pub moment: Moment,
    /// What everyone begins from.
    pub base: View,
    /// Who gives which entries above it.
    pub log: Vec<Part>,
    /// The input that gives `snap/db` to all members, where the inputs are of 3.x.
    pub db: Option<usize>,
    pub old_cluster_id: ClusterId,
    pub cluster_id: ClusterId,
    /// The term that the new incarnation begins with.
    pub term: Term,
    /// Conf changes behind the last entry that is kept.
    pub changes: Vec<Change>,
    /// The members from then on.
    pub members: Vec<Member>,
    /// How in-order keys are named in what is replayed.
    pub rules: InOrderRules,
    pub store: PlannedStore,
    /// In-order keys that another input has by another name at that moment.
    pub disagreed: Renamed,
    /// In-order keys that a member serves by another name now.
    pub renamed: Renamed,
    /// What removed members left behind, which is dropped.
    pub leftovers: Leftovers,
    pub lost: Lost,
    /// The last moment that the kept entries tell of, and the last that the whole history does.
    pub clocks: (Option<UnixNanos>, Option<UnixNanos>),
    pub now: Timestamp,
}

/// The store that every member will have.
#[derive(Clone, Debug)]
pub struct PlannedStore {
    /// Its digest, once the conf changes are applied.
    pub fingerprint: Digest,
    /// Its `X-Etcd-Index` then.
    pub index: u64,
    /// The highest `X-Etcd-Index` that any input comes to.
    pub index_before: u64,
    pub keys: u64,
    pub expiring: Expiring,
}

/// What is not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Entries behind the moment that are available.
    pub count: EntryCount,
    /// Those of them that anyone knows to be committed.
    pub committed: EntryCount,
    /// Entries behind the moment that no input has: what is in them is not known.
    pub unseen: Vec<Missing>,
    /// Entries that an input has beyond where the history ends, or where it parts from it, none of
    /// them known to be committed: the input and the first and last of them. Where the history goes
    /// on with what was committed there, a later leader replaced them.
    pub tails: Vec<(usize, Index, Index)>,
}

impl Plan {
    /// Members of the cluster, as the most up-to-date input knows them, that no input is of: their logs
    /// may hold more.
    pub fn unheard(&self) -> Vec<&Member> {
        let heard = |member: &&Member| {
            let mut ids = self
                .witnesses
                .iter()
                .map(|one| one.facts.identity.member_id);
            ids.any(|id| id == member.id)
        };
        let latest = self.witnesses.get(self.agreement.winner);
        let members = latest
            .into_iter()
            .flat_map(|latest| latest.facts.standing_members());
        members.filter(|member| !heard(member)).collect()
    }

    /// The input that was taken last, and when: what was written after that, no input knows of.
    pub fn newest(&self) -> Option<(usize, Timestamp)> {
        let taken = self.witnesses.iter().map(|witness| witness.taken);
        taken.enumerate().max_by_key(|(_, taken)| *taken)
    }

    /// The last entry of the new logs: the last that is kept, or the last conf change behind it.
    pub fn last_index(&self) -> Index {
        let last = self.changes.last();
        last.map_or(self.moment.index, |change| change.index)
    }

    /// What every archive says of where it comes from.
    pub(crate) fn rewind(&self) -> Rewind {
        let mut old_members = BTreeMap::new();
        let mut by_commit: Vec<_> = self.witnesses.iter().collect();
        by_commit.sort_by_key(|witness| witness.facts.position.commit);
        for member in by_commit
            .iter()
            .flat_map(|one| one.facts.standing_members())
        {
            // What is known later counts, but for a name that was forgotten.
            if !member.name.is_empty() || !old_members.contains_key(&member.id) {
                old_members.insert(member.id, member.clone());
            }
        }
        let origins = self.witnesses.iter().enumerate().map(|(place, witness)| {
            let name = witness.path.file_name().unwrap_or(witness.path.as_os_str());
            Origin {
                name: name.to_string_lossy().into_owned(),
                identity: witness.facts.identity.clone(),
                position: witness.facts.position.clone(),
                used_for: self
                    .used_for(place)
                    .into_iter()
                    .map(str::to_owned)
                    .collect(),
            }
        });
        Rewind {
            old_cluster_id: self.old_cluster_id,
            old_members: old_members.into_values().collect(),
            rewound_to: self.moment.index,
            derived_from: origins.collect(),
        }
    }

    /// What is taken from the input at `place`.
    pub fn used_for(&self, place: usize) -> Vec<&'static str> {
        let base = self.base;
        let uses = [
            (
                base.snapshot.is_some() && base.input == place,
                "raft snapshot",
            ),
            (self.log.iter().any(|part| part.input == place), "log"),
            (self.db == Some(place), "v3 backend"),
        ];
        let taken = uses.into_iter().filter(|(is_used, _)| *is_used);
        taken.map(|(_, what)| what).collect()
    }
}

impl PlannedStore {
    pub(crate) fn of(store: &Store, index_before: u64, now: Timestamp) -> Self {
        let now = now.as_nanosecond().try_into().unwrap_or(i64::MAX);
        Self {
            fingerprint: store.fingerprint(),
            index: store.index(),
            index_before,
            keys: store.summary(0).keys,
            expiring: store.expiring(now),
        }
    }
}

impl Lost {
    pub(crate) fn behind(moment: &Moment, history: &History<'_>) -> Self {
        let agreement = &history.agreement;
        let (from, to) = (moment.index.next(), agreement.end.index);
        let mut lost = Self {
            unseen: history.missing(from, to),
            ..Self::default()
        };
        for entry in history.entries(from, to) {
            lost.count.add(entry.class);
            if entry.index <= agreement.committed {
                lost.committed.add(entry.class);
            }
        }
        for (place, (log, sure)) in history.logs.iter().zip(&agreement.sure).enumerate() {
            let tail = log.trace.above(*sure);
            let parts = |entry: &&TracedEntry| {
                let history = history.term_at(entry.index);
                entry.index > agreement.committed || history.is_some_and(|term| term != entry.term)
            };
            if let (Some(first), Some(last)) = (tail.iter().find(parts), tail.last()) {
                lost.tails.push((place, first.index, last.index));
            }
        }
        lost
    }
}
