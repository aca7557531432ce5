//! The state of a rolling upgrade, with one line for each member, from one poll to the next.
//!
//! In: one [`ClusterState`] after another, with the time of each. Out: a [`UpgradeProgress`]: the state of every
//! member, how long it has been down, what has changed, and whether the upgrade is complete.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::cluster::{ClusterState, MemberState, MemberStatus, ProbeError, ReportedVersion};
use crate::etcd::ids::{Index, MemberId, Release, Term};
use crate::etcd::text::printable;
use crate::upgrade::preflight::cluster_members;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// It reports that it is healthy, and answered a quorum read.
    Healthy,
    Unhealthy,
    /// It reports that it is healthy, but could not do a quorum read.
    NoQuorum,
    /// It reports that it is healthy, but requires a user for reads.
    NoAccess,
    Down,
}

/// A member's role in raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    Leader,
    Follower,
    Leaderless,
    /// It was not asked, or did not answer.
    Unknown,
}

/// The state of a member at one poll.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Standing {
    pub id: MemberId,
    /// Its name; empty until it has published itself.
    pub name: String,
    pub server_version: Option<semver::Version>,
    pub cluster_version: Option<Word>,
    pub health: Health,
    pub role: Part,
    /// The last entry that it has applied; `None` if it did not answer.
    pub raft_index: Option<Index>,
    pub raft_term: Option<Term>,
    #[serde(rename = "no_answer")]
    pub silence: Option<String>,
    /// The first poll of those in a row that it did not answer.
    #[serde(rename = "down_since_at")]
    pub down_since: Option<Timestamp>,
}

#[derive(Clone, Debug, Serialize)]
pub struct UpgradeProgress {
    #[serde(rename = "looked_at")]
    pub at: Timestamp,
    /// The members, by name.
    pub members: Vec<Standing>,
    /// Those that have changed since the last poll, apart from their position; at the first poll all.
    pub changed: Vec<MemberId>,
    /// Members that were listed at the last poll and are no longer.
    pub gone: Vec<Standing>,
    /// How many members run the new release.
    pub there: usize,
    pub done: bool,
}

/// A rolling upgrade that is being watched.
#[derive(Debug)]
pub struct Roll {
    to: Release,
    down_since: BTreeMap<MemberId, Timestamp>,
    before: BTreeMap<MemberId, Standing>,
}

/// The cluster version that a member reports, as etcd writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word(pub ReportedVersion);

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            ReportedVersion::Unknown20 => f.write_str("none"),
            ReportedVersion::NotDecided => f.write_str("not_decided"),
            ReportedVersion::Is(version) => version.fmt(f),
        }
    }
}

impl Serialize for Word {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The state of each member of the cluster, by name.
pub fn standings(look: &ClusterState) -> Vec<Standing> {
    let members = cluster_members(look).into_iter();
    members.map(Standing::of).collect()
}

impl Standing {
    fn of(look: &MemberState) -> Self {
        let said = look.said.as_ref();
        let applied = said.ok().and_then(|said| said.quorum_read.as_ref().ok());
        Self {
            id: look.member.id,
            name: printable(&look.member.name),
            server_version: said.ok().map(|said| said.server_version.clone()),
            cluster_version: said.ok().map(|said| Word(said.cluster_version.clone())),
            health: said.map_or(Health::Down, health),
            role: said.map_or(Part::Unknown, part),
            raft_index: applied.map(|applied| applied.raft_index),
            raft_term: applied.map(|applied| applied.raft_term),
            silence: said.err().map(|silence| printable(&silence.to_string())),
            down_since: None,
        }
    }

    fn runs(&self, release: Release) -> bool {
        let version = self.server_version.as_ref();
        version.is_some_and(|version| Release::of(version) >= release)
    }

    /// Whether it answers, runs `release` or a later one, and reports that cluster version.
    fn is_at(&self, release: Release) -> bool {
        let cluster = match &self.cluster_version {
            Some(Word(ReportedVersion::Is(version))) => Release::of(&version.0) >= release,
            _ => false,
        };
        self.runs(release) && cluster
    }

    /// Whether two states are equal except in the position, which always changes.
    fn stands_as(&self, other: &Self) -> bool {
        let without = |standing: &Self| Self {
            raft_index: None,
            raft_term: None,
            silence: None,
            down_since: None,
            ..standing.clone()
        };
        without(self) == without(other)
    }
}

fn health(said: &MemberStatus) -> Health {
    match (said.healthy, &said.quorum_read) {
        (Some(true), Ok(_)) => Health::Healthy,
        (Some(true), Err(ProbeError::NotAllowed { .. })) => Health::NoAccess,
        (Some(true), Err(_)) => Health::NoQuorum,
        _ => Health::Unhealthy,
    }
}

fn part(said: &MemberStatus) -> Part {
    match &said.role {
        Some(role) if role.leads => Part::Leader,
        Some(role) if role.leader.is_some() => Part::Follower,
        Some(_) => Part::Leaderless,
        None => Part::Unknown,
    }
}

impl Roll {
    pub fn new(to: Release) -> Self {
        Self {
            to,
            down_since: BTreeMap::new(),
            before: BTreeMap::new(),
        }
    }

    /// Takes the next poll, of the time `at`.
    pub fn take(&mut self, look: &ClusterState, at: Timestamp) -> UpgradeProgress {
        let mut members = standings(look);
        for member in &mut members {
            if member.health == Health::Down {
                member.down_since = Some(*self.down_since.entry(member.id).or_insert(at));
            } else {
                self.down_since.remove(&member.id);
            }
        }
        let now: BTreeMap<_, _> = members.iter().map(|m| (m.id, m.clone())).collect();
        let changed = members.iter().filter(|member| {
            let before = self.before.get(&member.id);
            before.is_none_or(|before| !before.stands_as(member))
        });
        let changed = changed.map(|member| member.id).collect();
        let before = std::mem::replace(&mut self.before, now);
        let gone = before.into_values();
        let gone = gone.filter(|member| !self.before.contains_key(&member.id));
        UpgradeProgress {
            at,
            changed,
            gone: gone.collect(),
            there: members.iter().filter(|member| member.runs(self.to)).count(),
            done: !members.is_empty() && members.iter().all(|member| member.is_at(self.to)),
            members,
        }
    }
}

impl UpgradeProgress {
    pub fn is_news(&self) -> bool {
        !self.changed.is_empty() || !self.gone.is_empty()
    }
}
