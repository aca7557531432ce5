//! What etcd's upgrade guide requires before a rolling upgrade, as a checklist.
//!
//! In: [`Facts`]: what the members answered, what the data dir and the backup dir hold. Out: a
//! [`Check`] for each question, with its evidence and what to do about it. [`checks`] is pure;
//! [`collect`] reads what it needs. A check without facts never passes.

pub mod backups;
pub mod collect;
pub mod data_dir;
pub mod log_reach;
pub mod members;
pub mod watch;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::cluster::{ClusterState, MemberState, ProbeError};
use crate::etcd::ids::Release;
use crate::upgrade::preflight::Question::{Any, Data};
use crate::upgrade::preflight::backups::Backups;
use crate::upgrade::preflight::data_dir::DataFacts;
use crate::upgrade::preflight::log_reach::WayBack;

#[derive(Clone, Debug)]
pub struct PreflightOptions {
    pub from: Release,
    pub to: Release,
    /// Up to this data size, in bytes, the guide has no special advice.
    pub size_limit: u64,
    pub accept_data_size: bool,
    pub max_backup_age: SignedDuration,
}

/// A source of facts that may have been read or not.
#[derive(Clone, Debug)]
pub enum Seen<T> {
    NotGiven,
    Unreadable { why: String, hint: Option<String> },
    Found(T),
}

impl<T> Seen<T> {
    pub fn found(&self) -> Option<&T> {
        match self {
            Self::Found(found) => Some(found),
            Self::NotGiven | Self::Unreadable { .. } => None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Facts {
    pub rules: PreflightOptions,
    pub now: Timestamp,
    pub look: ClusterState,
    pub data: Seen<DataFacts>,
    pub backups: Seen<Backups>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    /// To be read before going on, or not checked.
    #[serde(rename = "warning")]
    Warn,
    #[serde(rename = "failed")]
    Fail,
    /// A reminder of what no program can check.
    Note,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    pub id: &'static str,
    pub title: &'static str,
    pub status: Status,
    pub evidence: Vec<String>,
    #[serde(rename = "hint")]
    pub advice: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Finding {
    pub status: Status,
    pub evidence: Vec<String>,
    pub advice: Option<String>,
}

impl Finding {
    pub fn ok(text: impl Into<String>) -> Self {
        Self::all(vec![text.into()])
    }

    fn all(evidence: Vec<String>) -> Self {
        Self {
            status: Status::Ok,
            evidence,
            advice: None,
        }
    }

    pub fn warning(text: impl Into<String>) -> Self {
        Self {
            status: Status::Warn,
            ..Self::ok(text)
        }
    }

    #[must_use]
    pub fn advice(self, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Self { advice, ..self }
    }

    /// The same with another status and advice.
    fn but(self, status: Status, advice: impl Into<String>) -> Self {
        Self { status, ..self }.advice(advice)
    }

    /// The same as a failure, with its advice given elsewhere.
    fn failed(self) -> Self {
        let status = Status::Fail;
        Self { status, ..self }
    }

    fn unreadable(why: &str, hint: Option<&str>) -> Self {
        let advice = hint.map(str::to_owned);
        Self {
            advice,
            ..Self::ok(why).failed()
        }
    }

    fn not_checked(flag: &str) -> Self {
        Self::warning(format!("not checked: give {flag}"))
    }

    /// Of a check that needs an answer of a member, where no member answers: the reason is given once.
    fn unanswered() -> Self {
        Self::warning("not checked: no member answered")
    }

    /// It as that of the check `id`.
    pub fn of(self, (id, title): (&'static str, &'static str)) -> Check {
        Check {
            id,
            title,
            status: self.status,
            evidence: self.evidence,
            advice: self.advice,
        }
    }
}

impl Facts {
    fn members(&self) -> Vec<&MemberState> {
        cluster_members(&self.look)
    }

    /// Whether a member refused to answer without a user.
    fn wants_user(&self) -> bool {
        let refused =
            |silence: Option<&ProbeError>| matches!(silence, Some(ProbeError::NotAllowed { .. }));
        self.look.members.iter().any(|look| match &look.said {
            Ok(said) => refused(said.quorum_read.as_ref().err()),
            Err(silence) => refused(Some(silence)),
        })
    }

    /// Whether what keeps a member, or an endpoint, from answering is of this kind.
    fn any_silence(&self, is: impl Fn(&ProbeError) -> bool) -> bool {
        let members = self.look.members.iter();
        let members = members.filter_map(|look| look.said.as_ref().err());
        let endpoints = self.look.unknown_endpoints.iter();
        let mut all = members.chain(endpoints.map(|stray| &stray.silence));
        all.any(is)
    }

    /// Whether the upgrade has passed the point after which a single member cannot go back.
    pub fn has_moved(&self) -> bool {
        members::has_moved(self)
    }

    /// The members that are still to be upgraded, in order, the leader last.
    pub fn still_to_do(&self) -> Vec<String> {
        members::still_to_do(self)
    }

    /// How long the local log reaches back before the move; `None` without a readable data dir.
    pub fn way_back(&self) -> Option<WayBack> {
        let data = self.data.found()?;
        let member = data.member.as_ref().ok()?;
        log_reach::way_back(member, &data.raft_snapshots, data.rate(), self.now)
    }
}

/// The members of the cluster, by name: those that the cluster lists, or all that are known if
/// no member answers.
pub fn cluster_members(look: &ClusterState) -> Vec<&MemberState> {
    let members = || look.members.iter();
    let named: Vec<_> = members().filter(|look| look.named_by_cluster).collect();
    let mut found = if named.is_empty() {
        members().collect()
    } else {
        named
    };
    found.sort_by_key(|look| (&look.member.name, look.member.id));
    found
}

enum Question {
    Any(fn(&Facts) -> Finding),
    /// Of the data dir, if it can be read.
    Data(fn(&Facts, &DataFacts) -> Finding),
}

/// The checks with their ids and titles, in the order of the list.
const QUESTIONS: [(&str, &str, Question); 15] = [
    ("versions", "server versions", Any(members::versions)),
    ("health", "health", Any(members::health)),
    ("leader", "leader", Any(members::leader)),
    ("membership", "membership", Any(members::membership)),
    (
        "cluster-version",
        "cluster version",
        Any(members::cluster_version),
    ),
    ("data-dir", "data dir", Any(data_dir::soundness)),
    ("data-size", "data size", Data(data_dir::size_check)),
    ("free-space", "free space", Data(data_dir::space)),
    ("own-backup", "own backup", Any(backups::own)),
    ("all-backups", "all backups", Any(backups::others)),
    ("in-order", "in-order keys", Any(data_dir::in_order)),
    ("wal-dir", "WAL dir", Data(data_dir::wal_dir)),
    ("way-back", "way back", Data(log_reach::check)),
    ("auth", "auth", Any(members::auth)),
    ("staging", "staging", Any(staging)),
];

pub fn checks(facts: &Facts) -> Vec<Check> {
    let all = QUESTIONS.iter();
    all.map(|(id, title, question)| {
        let found = match question {
            Any(check) => check(facts),
            Data(check) => data_dir::found(facts).map_or_else(|why| why, |data| check(facts, data)),
        };
        found.of((id, title))
    })
    .collect()
}

fn staging(_: &Facts) -> Finding {
    Finding {
        status: Status::Note,
        ..Finding::ok(
            "manual check: were the applications tested against the new release in staging?",
        )
    }
}

#[cfg(test)]
mod tests;
