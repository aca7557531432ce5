//! Verifies that a member's raft snapshots are what its log leads to.
//!
//! In: a valid [`Target`]. Out: a [`DeepReport`]: every raft snapshot from the oldest that the log
//! reaches back to, compared with the replay from the one before it; the
//! consistency of the cluster's facts; the store at the end, for keys that would expire.
//!
//! A raft snapshot keeps what the member had in memory, so in-order keys in it have the names of
//! the release that applied them. Where a replay by one release's rules differs, the other's are
//! tried, then the differences are checked one by one (formats page §5, the in-order trap).

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::etcd::ids::{Index, MemberId, SnapshotId};
use crate::etcd::member::MemberFacts;
use crate::etcd::membership::StoreFacts;
use crate::etcd::replay::{Along, InOrderRules, Plan, Replayed, Start, Until};
use crate::etcd::scan::Extent;
use crate::etcd::store::Store;
use crate::etcd::store::diff::{Difference, compare};
use crate::etcd::text::printable;
use crate::interrupt::Interrupt;
use crate::progress::Event;
use crate::target::{StoreError, StoreQuery, Target};

/// How many raft snapshots may differ before the comparison stops: each needs another read.
const MOST_WRONG: usize = 10;

#[derive(Debug)]
pub struct DeepReport {
    /// The raft snapshot that the replay began from; `None` is the empty store.
    pub start: Option<SnapshotId>,
    pub entries: u64,
    /// The raft snapshots above the start, oldest first.
    pub snapshots: Vec<SnapshotCheck>,
    /// Raft snapshots that were not compared and are not the start.
    pub not_compared: Vec<SnapshotId>,
    pub cluster: Vec<ClusterFault>,
    pub store: Arc<Store>,
    pub at: Index,
}

#[derive(Debug)]
pub struct SnapshotCheck {
    pub id: SnapshotId,
    pub verdict: SnapshotVerdict,
}

/// How a raft snapshot compares with the replay from the one before it.
#[derive(Debug)]
pub enum SnapshotVerdict {
    /// The same by these rules.
    Equal(InOrderRules),
    /// The same except for the names of this number of in-order keys: members of both releases applied
    /// parts of the log.
    MixedNames(usize),
    /// Not what the log leads to.
    Different(Vec<DifferentKey>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DifferentKey {
    pub path: Vec<u8>,
    pub what: &'static str,
}

/// What can be wrong with the cluster's own keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterFault {
    #[error("the store's members and versions are not those that the log's entries add up to")]
    Account,
    #[error("member {0} has no peer URL")]
    NoPeerUrl(MemberId),
    #[error("members {0} and {1} share the peer URL {2}")]
    SharedPeerUrl(MemberId, MemberId, String),
    #[error("member {0} is both a member and removed")]
    Undead(MemberId),
    #[error("this member, {0}, was never in its cluster")]
    Stranger(MemberId),
    #[error("the cluster version goes back from {0} to {1}")]
    VersionFell(String, String),
    #[error("raft snapshot {0}: its voters differ from its member list")]
    Voters(SnapshotId),
}

impl DeepReport {
    pub fn is_valid(&self) -> bool {
        let differs =
            |check: &SnapshotCheck| matches!(check.verdict, SnapshotVerdict::Different(_));
        self.cluster.is_empty() && !self.snapshots.iter().any(differs)
    }
}

/// The plan for the first read of a target.
pub fn first_look(target: &Target) -> Result<Plan, StoreError> {
    Ok(Plan {
        start: target.starts()?.first().copied().unwrap_or_default(),
        until: Until::Commit,
        rules: target.likely_rules(),
        along: Along::CheckSnapshots,
    })
}

/// Verifies `target` deeply; `first` is the result of reading it by [`first_look`], with all files
/// valid.
pub fn look_deep(
    target: &Target,
    first: Option<(MemberFacts, Replayed)>,
    threads: usize,
    interrupt: &Interrupt,
    observe: &mut dyn FnMut(Event),
) -> Result<DeepReport, StoreError> {
    let mut looking = Looking {
        target,
        wanted: StoreQuery {
            extent: Extent::All,
            along: Along::CheckSnapshots,
            threads,
            ..StoreQuery::default()
        },
        interrupt,
        observe,
    };
    let (member, mut replayed) = match first {
        Some((member, replayed)) if is_settled(&member, &replayed) => (member, replayed),
        _ => {
            let read = target.read_from_oldest(looking.wanted, interrupt, looking.observe)?;
            (read.member, read.replayed)
        }
    };
    let start = replayed.start;
    let mut entries = replayed.entries;
    let mut snapshots = Vec::new();
    let mut stray_voters = BTreeSet::new();
    let mut wrong = 0;
    loop {
        stray_voters.extend(replayed.stray_voters.iter().copied());
        let equal = replayed.checks.iter().filter(|check| check.equal);
        snapshots.extend(equal.map(|check| SnapshotCheck {
            id: check.id,
            verdict: SnapshotVerdict::Equal(replayed.rules),
        }));
        let Some(differs) = replayed.checks.iter().rfind(|check| !check.equal) else {
            break;
        };
        let id = differs.id;
        let verdict = looking.verdict(id, &replayed)?;
        wrong += usize::from(matches!(verdict, SnapshotVerdict::Different(_)));
        if wrong == MOST_WRONG {
            looking.wanted.along = Along::Nothing;
        }
        snapshots.push(SnapshotCheck { id, verdict });
        // From here on the member continued from its own raft snapshot.
        let rules = replayed.rules;
        replayed = looking.again(Start::From(id), Until::Commit, rules)?;
        entries += replayed.entries;
    }
    let compared = |id| start == Some(id) || snapshots.iter().any(|check| check.id == id);
    let there = target.starts()?.into_iter().filter_map(Start::id);
    let not_compared = there.filter(|id| !compared(*id)).collect();
    let mut cluster = cluster_faults(&member, &replayed.store);
    cluster.extend(stray_voters.into_iter().map(ClusterFault::Voters));
    Ok(DeepReport {
        start,
        entries,
        snapshots,
        not_compared,
        cluster,
        at: replayed.at,
        store: replayed.store,
    })
}

/// A target that is read several times.
struct Looking<'t> {
    target: &'t Target,
    wanted: StoreQuery,
    interrupt: &'t Interrupt,
    observe: &'t mut dyn FnMut(Event),
}

impl Looking<'_> {
    fn again(
        &mut self,
        start: Start,
        until: Until,
        rules: InOrderRules,
    ) -> Result<Replayed, StoreError> {
        let wanted = StoreQuery {
            start,
            until,
            rules: Some(rules),
            ..self.wanted
        };
        let read = self
            .target
            .read_store(wanted, self.interrupt, self.observe)?;
        Ok(read.replayed)
    }

    /// Compares the raft snapshot `id`, where `replayed` led to something else.
    fn verdict(
        &mut self,
        id: SnapshotId,
        replayed: &Replayed,
    ) -> Result<SnapshotVerdict, StoreError> {
        let until = Until::Index(id.index);
        let before = replayed.checks.iter().rfind(|check| check.equal);
        let before = before.map(|check| check.id).or(replayed.start);
        let others = InOrderRules::ALL.into_iter();
        for rules in others.filter(|rules| replayed.depends_on(*rules)) {
            let from = before.map_or(Start::Empty, Start::From);
            let by_other = self.again(from, until, rules)?;
            let last = by_other.checks.last();
            if last.is_some_and(|check| check.equal && check.id == id) {
                return Ok(SnapshotVerdict::Equal(rules));
            }
        }
        let there = self.again(Start::From(id), until, replayed.rules)?;
        Ok(judge(&replayed.store, &there.store))
    }
}

/// Whether a first read used the right rules, or needed none.
fn is_settled(member: &MemberFacts, replayed: &Replayed) -> bool {
    !replayed.depends_on(InOrderRules::of(member.cluster_version.as_ref()))
}

fn judge(replayed: &Store, snapshot: &Store) -> SnapshotVerdict {
    let differences = compare(replayed, snapshot);
    let is_renamed = |d: &&Difference| d.twin.is_some() && d.parts.is_empty();
    let renamed = differences.iter().filter(is_renamed).count();
    if renamed == differences.len() && replayed.index() == snapshot.index() && renamed > 0 {
        return SnapshotVerdict::MixedNames(renamed / 2);
    }
    let mut found: Vec<_> = differences.into_iter().map(different_key).collect();
    if replayed.index() != snapshot.index() {
        found.push(DifferentKey {
            path: b"/".to_vec(),
            what: "X-Etcd-Index",
        });
    }
    if found.is_empty() {
        // The same store at another place in the log.
        found.push(DifferentKey {
            path: b"/".to_vec(),
            what: "the term of its last entry",
        });
    }
    SnapshotVerdict::Different(found)
}

fn different_key(difference: Difference) -> DifferentKey {
    use crate::etcd::store::diff::Part;
    let what = match (difference.a, difference.b, difference.parts.first()) {
        (None, _, _) => "only in the raft snapshot",
        (_, None, _) => "missing in the raft snapshot",
        (_, _, Some(Part::Dir)) => "key or directory",
        (_, _, Some(Part::Value)) => "value",
        (_, _, Some(Part::Expiration)) => "expiry",
        (_, _, Some(Part::ModifiedIndex | Part::CreatedIndex) | None) => "index",
    };
    DifferentKey {
        path: difference.path,
        what,
    }
}

fn cluster_faults(member: &MemberFacts, store: &Store) -> Vec<ClusterFault> {
    let mut faults = Vec::new();
    match store.cluster_facts() {
        Ok(facts) => {
            if !same_account(member, &facts) {
                faults.push(ClusterFault::Account);
            }
            faults.extend(member_faults(member, &facts));
        }
        Err(_) => faults.push(ClusterFault::Account),
    }
    let versions = member.versions.windows(2);
    faults.extend(versions.filter_map(|pair| match pair {
        [before, after] if after.version < before.version => Some(ClusterFault::VersionFell(
            before.version.to_string(),
            after.version.to_string(),
        )),
        _ => None,
    }));
    faults
}

/// Whether the replayed store agrees with the member's facts, which were computed separately.
fn same_account(member: &MemberFacts, facts: &StoreFacts) -> bool {
    member.members.iter().eq(facts.members.values())
        && member.removed_members.iter().eq(&facts.removed)
        && member.cluster_version == facts.cluster_version
}

fn member_faults(member: &MemberFacts, facts: &StoreFacts) -> Vec<ClusterFault> {
    let mut faults = Vec::new();
    let mut places: Vec<(&String, MemberId)> = Vec::new();
    for known in facts.members.values() {
        if known.peer_urls.is_empty() {
            faults.push(ClusterFault::NoPeerUrl(known.id));
        }
        if facts.removed.contains(&known.id) {
            faults.push(ClusterFault::Undead(known.id));
        }
        for url in &known.peer_urls {
            if let Some((_, other)) = places.iter().find(|(place, _)| *place == url) {
                faults.push(ClusterFault::SharedPeerUrl(
                    *other,
                    known.id,
                    printable(url),
                ));
            }
            places.push((url, known.id));
        }
    }
    let own = member.identity.member_id;
    if !facts.members.is_empty() && !facts.members.contains_key(&own) && !member.is_removed() {
        faults.push(ClusterFault::Stranger(own));
    }
    faults
}
