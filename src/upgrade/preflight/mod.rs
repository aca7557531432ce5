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

/// The result of a check.
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

/// One question and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    pub id: &'static str,
    pub title: &'static str,
    pub status: Status,
    pub evidence: Vec<String>,
    #[serde(rename = "hint")]
    pub advice: Option<String>,
}

impl Check {
    fn ok(id: &'static str, title: &'static str, evidence: Vec<String>) -> Self {
        Self {
            id,
            title,
            status: Status::Ok,
            evidence,
            advice: None,
        }
    }

    /// The same check with another status and advice.
    fn but(mut self, status: Status, advice: impl Into<String>) -> Self {
        self.status = status;
        self.advice = Some(advice.into());
        self
    }

    /// The same check as a failure, with its advice given elsewhere.
    fn failed(mut self) -> Self {
        self.status = Status::Fail;
        self
    }

    fn unreadable(id: &'static str, title: &'static str, why: &str, hint: Option<&str>) -> Self {
        let mut check = Self::ok(id, title, vec![why.to_owned()]).failed();
        check.advice = hint.map(str::to_owned);
        check
    }

    fn not_checked(id: &'static str, title: &'static str, flag: &str) -> Self {
        Self {
            status: Status::Warn,
            ..Self::ok(id, title, vec![format!("not checked: give {flag}")])
        }
    }

    /// A check that needs an answer of a member, where no member answers: the reason is given once.
    fn unanswered(id: &'static str, title: &'static str) -> Self {
        Self {
            status: Status::Warn,
            ..Self::ok(
                id,
                title,
                vec!["not checked: no member answered".to_owned()],
            )
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

    /// Whether the upgrade has passed the point after which a single member cannot go back.
    pub fn has_moved(&self) -> bool {
        crate::upgrade::preflight::members::has_moved(self)
    }

    /// The members that are still to be upgraded, in order, the leader last.
    pub fn still_to_do(&self) -> Vec<String> {
        crate::upgrade::preflight::members::still_to_do(self)
    }

    /// How long the local log reaches back before the move; `None` without a readable data dir.
    pub fn way_back(&self) -> Option<WayBack> {
        let data = self.data.found()?;
        let member = data.member.as_ref().ok()?;
        crate::upgrade::preflight::log_reach::way_back(
            member,
            &data.raft_snapshots,
            data.rate(),
            self.now,
        )
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

pub fn checks(facts: &Facts) -> Vec<Check> {
    vec![
        crate::upgrade::preflight::members::versions(facts),
        crate::upgrade::preflight::members::health(facts),
        crate::upgrade::preflight::members::leader(facts),
        crate::upgrade::preflight::members::membership(facts),
        crate::upgrade::preflight::members::cluster_version(facts),
        crate::upgrade::preflight::data_dir::soundness(facts),
        crate::upgrade::preflight::data_dir::size_check(facts),
        crate::upgrade::preflight::data_dir::space(facts),
        backups::own(facts),
        backups::others(facts),
        crate::upgrade::preflight::data_dir::in_order(facts),
        crate::upgrade::preflight::data_dir::wal_dir(facts),
        crate::upgrade::preflight::log_reach::check(facts),
        crate::upgrade::preflight::members::auth(facts),
        staging(),
    ]
}

fn staging() -> Check {
    let evidence = "manual check: were the applications tested against the new release in staging?";
    Check {
        status: Status::Note,
        ..Check::ok("staging", "staging", vec![evidence.to_owned()])
    }
}

#[cfg(test)]
mod tests;
