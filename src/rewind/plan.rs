//! What a rewind will do, and what is lost by it.
//!
//! Nothing here reads or writes files: a [`Plan`] is shown, or given to [`write()`](crate::rewind::write()).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::archive::manifest::{Origin, Rewind};
use crate::etcd::digest::Digest;
use crate::etcd::entry::EntryCount;
use crate::etcd::ids::{ClusterId, Index, MemberId, Term};
use crate::etcd::membership::Member;
use crate::etcd::replay::InOrderRules;
use crate::etcd::store::stats::Expiring;
use crate::etcd::store::{Store, UnixNanos};
use crate::etcd::trace::TracedEntry;
use crate::rewind::cut::CutPoint;
use crate::rewind::fork::Agreement;
use crate::rewind::history::{History, Missing, Part};
use crate::rewind::input::ReadInput;
use crate::rewind::leftovers::Leftovers;
use crate::rewind::new_cluster::Change;
use crate::rewind::served::{Auth, Renamed};
use crate::rewind::stores::View;

/// What will be done, and what is lost.
#[derive(Debug)]
pub struct Plan {
    /// The inputs and what their logs hold, in the order given.
    pub read_inputs: Vec<ReadInput>,
    pub agreement: Agreement,
    pub moment: CutPoint,
    /// The raft snapshot that all new logs begin from.
    pub base: View,
    /// Which input gives which entries above it.
    pub log: Vec<Part>,
    /// The input that gives `snap/db` to all members, where the inputs are of 3.x.
    pub db: Option<usize>,
    pub old_cluster_id: ClusterId,
    pub cluster_id: ClusterId,
    /// The first term of the new cluster.
    pub term: Term,
    /// Conf changes after the last kept entry.
    pub changes: Vec<Change>,
    /// The members of the new cluster.
    pub members: Vec<Member>,
    /// The in-order naming rules for the replay.
    pub rules: InOrderRules,
    pub store: PlannedStore,
    /// In-order keys that another input has under another name at that entry.
    pub disagreed: Renamed,
    /// In-order keys that a member serves under another name now.
    pub renamed: Renamed,
    /// What removed members left in the store; it is dropped.
    pub leftovers: Leftovers,
    pub lost: Lost,
    /// What members have of authentication and the new cluster will not have.
    pub auth_lost: Auth,
    /// The last time in the kept entries, and the last in the whole history.
    pub clocks: (Option<UnixNanos>, Option<UnixNanos>),
    pub now: Timestamp,
}

/// The store that every member will have.
#[derive(Clone, Debug)]
pub struct PlannedStore {
    /// Its digest after the conf changes.
    pub fingerprint: Digest,
    /// Its `X-Etcd-Index` after them.
    pub index: u64,
    /// The highest `X-Etcd-Index` of any input.
    pub index_before: u64,
    pub keys: u64,
    pub expiring: Expiring,
    /// How many requests that it is made by were a refresh.
    pub refreshes: u64,
}

/// What is not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Available entries after the last kept one.
    pub count: EntryCount,
    /// Those of them that are known to be committed.
    pub committed: EntryCount,
    /// Entries after the last kept one that no input has, so their content is unknown.
    pub unseen: Vec<Missing>,
    /// Entries of an input beyond the end of the history, or beyond the index where it differs from it:
    /// the input, the first and the last of them. None is known to be committed. Where the history has
    /// committed entries at these indexes, a later leader replaced them.
    pub tails: Vec<(usize, Index, Index)>,
}

impl Plan {
    /// Members of the cluster, as the most up-to-date input knows them, that are not among the inputs: their
    /// logs may hold more.
    pub fn without_input(&self) -> Vec<&Member> {
        let is_input = |member: &&Member| {
            let mut ids = self
                .read_inputs
                .iter()
                .map(|one| one.facts.identity.member_id);
            ids.any(|id| id == member.id)
        };
        let latest = self.read_inputs.get(self.agreement.winner);
        let members = latest
            .into_iter()
            .flat_map(|latest| latest.facts.standing_members());
        members.filter(|member| !is_input(member)).collect()
    }

    /// The members that are elsewhere now than at the last kept entry: each as it will be, and its newest peer URLs.
    pub fn moved_since(&self) -> Vec<(&Member, &[String])> {
        let latest = self.read_inputs.get(self.agreement.winner);
        let now = latest.map_or(&[][..], |latest| &latest.facts.members);
        let moved = self.members.iter().filter_map(|member| {
            let now = now.iter().find(|now| now.id == member.id)?;
            let [old, new] = [member, now].map(|one| BTreeSet::from_iter(&one.peer_urls));
            (old != new).then_some((member, &now.peer_urls[..]))
        });
        moved.collect()
    }

    /// Whether the host of `member` is known to have become another member since, under its name or at its peer URL.
    pub fn is_host_of_another(&self, member: &Member) -> bool {
        let latest = self.read_inputs.get(self.agreement.winner);
        let now = latest
            .into_iter()
            .flat_map(|latest| latest.facts.standing_members());
        has_successor(member, &now.collect::<Vec<_>>())
    }

    /// The time up to which these inputs have every write that a client was told of, except what only members without
    /// an input have; and the input that was made then, or `None` if the time is that of the log's last SYNC.
    ///
    /// A majority acknowledges a write. So it is in an input if the members without one of a later time
    /// are not a majority.
    pub fn known_until(&self) -> Option<(Timestamp, Option<usize>)> {
        let mut newest: BTreeMap<MemberId, (Timestamp, usize)> = BTreeMap::new();
        for (place, one) in self.read_inputs.iter().enumerate() {
            let member = newest.entry(one.facts.identity.member_id);
            let taken = (one.taken, place);
            member
                .and_modify(|known| *known = taken.max(*known))
                .or_insert(taken);
        }
        let latest = self.read_inputs.get(self.agreement.winner)?;
        let members: Vec<_> = latest.facts.standing_members().collect();
        let taken = members.iter().filter_map(|member| newest.get(&member.id));
        let mut taken: Vec<_> = taken.copied().collect();
        taken.sort_unstable_by_key(|(taken, place)| (Reverse(*taken), *place));
        let others_at_most = members.len() - (members.len() / 2 + 1).min(members.len());
        let made = taken.get(others_at_most).or(taken.first());
        let made = made.map(|&(taken, place)| (taken, Some(place)));
        let clock = self
            .clocks
            .1
            .and_then(|clock| Timestamp::from_nanosecond(clock.into()).ok());
        made.max(clock.map(|clock| (clock, None)))
    }

    /// The last entry of the new logs: the last kept one, or the last conf change after it.
    pub fn last_index(&self) -> Index {
        let last = self.changes.last();
        last.map_or(self.moment.index, |change| change.index)
    }

    /// The origin that every archive's manifest records.
    pub(crate) fn rewind(&self) -> Rewind {
        let mut old_members = BTreeMap::new();
        let mut by_commit: Vec<_> = self.read_inputs.iter().collect();
        by_commit.sort_by_key(|read_input| read_input.facts.position.commit);
        for member in by_commit
            .iter()
            .flat_map(|one| one.facts.standing_members())
        {
            // Later inputs replace earlier ones, except by an empty name.
            if !member.name.is_empty() || !old_members.contains_key(&member.id) {
                old_members.insert(member.id, member.clone());
            }
        }
        let origins = self
            .read_inputs
            .iter()
            .enumerate()
            .map(|(place, read_input)| {
                let name = read_input
                    .path
                    .file_name()
                    .unwrap_or(read_input.path.as_os_str());
                Origin {
                    name: name.to_string_lossy().into_owned(),
                    identity: read_input.facts.identity.clone(),
                    position: read_input.facts.position.clone(),
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

    /// What the input at `place` is used for.
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
            refreshes: store.refreshes(),
        }
    }
}

impl Lost {
    pub(crate) fn behind(moment: &CutPoint, history: &History<'_>) -> Self {
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

/// Whether one of the members `now`, and not `member`, has its name or one of its peer URLs.
fn has_successor(member: &Member, now: &[&Member]) -> bool {
    let is_alike = |other: &&&Member| {
        let mut urls = other.peer_urls.iter();
        !member.name.is_empty() && other.name == member.name
            || urls.any(|url| member.peer_urls.contains(url))
    };
    now.iter().all(|other| other.id != member.id) && now.iter().any(|other| is_alike(&other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_was_added_again_is_another_one_on_the_same_host() {
        // Seen: the printed restore was refused there, since the data dir is of the new id.
        let member = |id, name: &str, url: &str| Member {
            id: MemberId(id),
            name: name.to_owned(),
            peer_urls: vec![url.to_owned()],
            client_urls: Vec::new(),
        };
        let old = member(1, "infra0", "http://a");
        for (now, expected) in [
            (member(2, "infra0", "http://b"), true),
            (member(2, "", "http://a"), true),
            (member(2, "infra1", "http://b"), false),
            (member(1, "infra0", "http://a"), false),
        ] {
            assert_eq!(has_successor(&old, &[&now]), expected, "{now:?}");
        }
        let unnamed = member(1, "", "http://a");
        assert!(!has_successor(&unnamed, &[&member(2, "", "http://b")]));
    }
}
