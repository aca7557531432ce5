//! The checks of the archives in a backup dir.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};

use crate::etcd::ids::{ClusterId, ClusterVersion, Identity, MemberId, Release};
use crate::etcd::member::Position;
use crate::etcd::text::printable;
use crate::text::{about, name, utc};
use crate::upgrade::preflight::data_dir::Space;
use crate::upgrade::preflight::members::has_moved;
use crate::upgrade::preflight::{Facts, Finding, PreflightOptions, Seen, Status};

/// How far an archive's time may be ahead of this clock before it counts as made in the future.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

#[derive(Clone, Debug)]
pub struct Backups {
    pub dir: PathBuf,
    /// The newest archive of each member of the cluster, except those that a rewind made.
    pub newest: Vec<Backup>,
    /// Files with an archive's name that cannot be opened, and why.
    pub unreadable: Vec<(PathBuf, String)>,
    /// Free space on its filesystem; `None` for a bucket.
    pub space: Option<Space>,
}

#[derive(Clone, Debug)]
pub struct Backup {
    pub path: PathBuf,
    pub created: Timestamp,
    pub labels: Vec<String>,
    pub identity: Identity,
    pub position: Position,
    /// The highest cluster version in it, committed or not.
    pub cluster_version: Option<ClusterVersion>,
    /// What is corrupt in it, if anything.
    pub fault: Option<String>,
    /// Why a server of its own release does not start from it, if it does not.
    pub does_not_start: Option<String>,
}

impl Backup {
    /// Why it is not suited for going back from the upgrade, if it is not.
    fn objection(&self, rules: &PreflightOptions, now: Timestamp) -> Option<String> {
        let age = now.duration_since(self.created);
        let version = self.cluster_version.as_ref();
        if let Some(fault) = &self.fault {
            Some(format!("is corrupt: {fault}"))
        } else if let Some(why) = &self.does_not_start {
            Some(format!("leads nowhere: {why}"))
        } else if let Some(version) = version.filter(|version| Release::of(&version.0) >= rules.to)
        {
            Some(format!("was taken after the cluster moved to {version}"))
        } else if age < -CLOCK_SKEW {
            Some(format!(
                "is dated {}, in the future: its age is not known",
                utc(self.created)
            ))
        } else if age > rules.max_backup_age {
            Some(format!(
                "is {} old, more than {}",
                about(age),
                about(rules.max_backup_age)
            ))
        } else {
            None
        }
    }

    fn file_name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        printable(&name.to_string_lossy())
    }

    fn text(&self, now: Timestamp) -> String {
        let labels = match self.labels.as_slice() {
            [] => String::new(),
            labels => format!(", {}", printable(&labels.join(", "))),
        };
        format!(
            "{} old, to index {}, verified{labels}",
            about(now.duration_since(self.created)),
            self.position.index
        )
    }
}

impl Backups {
    fn of(&self, member: MemberId, cluster: Option<ClusterId>) -> Option<&Backup> {
        self.newest.iter().find(|backup| {
            let identity = &backup.identity;
            identity.member_id == member && cluster.is_none_or(|id| id == identity.cluster_id)
        })
    }
}

/// The cluster that the backups should be of.
fn cluster(facts: &Facts) -> Option<ClusterId> {
    own_identity(facts)
        .map(|own| own.cluster_id)
        .or(facts.look.cluster_id)
}

fn own_identity(facts: &Facts) -> Option<&Identity> {
    let member = facts.data.found()?.member.as_ref().ok()?;
    Some(&member.identity)
}

/// The newest valid backup of this member.
pub(crate) fn own_backup(facts: &Facts) -> Option<&Backup> {
    let own = own_identity(facts)?;
    let backup = facts
        .backups
        .found()?
        .of(own.member_id, Some(own.cluster_id))?;
    let objection = backup.objection(&facts.rules, facts.now);
    objection.is_none().then_some(backup)
}

/// What to do about a missing or unsuitable archive.
fn advice(facts: &Facts, otherwise: &str) -> String {
    if has_moved(facts) {
        let from = facts.rules.from;
        format!(
            "the cluster has moved, and an archive taken now cannot take it back to {from}; `etcd-ark downgrade check` shows the options"
        )
    } else {
        otherwise.to_owned()
    }
}

const TAKE_ONE: &str = "`etcd-ark snapshot --label pre-upgrade` takes one, also while etcd runs";

/// Whether there is a recent, verified archive of this member.
pub(crate) fn own(facts: &Facts) -> Finding {
    let backups = match &facts.backups {
        Seen::Found(backups) => backups,
        Seen::NotGiven => return Finding::not_checked("--backup-dir"),
        Seen::Unreadable { why, hint } => {
            return Finding::unreadable(why, hint.as_deref());
        }
    };
    let Some(own) = own_identity(facts) else {
        if matches!(facts.data, Seen::NotGiven) {
            let flag = "--data-dir, which says which member this one is";
            return Finding::not_checked(flag);
        }
        let text = "not checked: the data dir does not say which member this one is";
        return Finding::ok(text).failed();
    };
    let Some(backup) = backups.of(own.member_id, Some(own.cluster_id)) else {
        let text = format!("no archive of {own} in {}", backups.dir.display());
        return Finding::ok(text).but(Status::Fail, advice(facts, TAKE_ONE));
    };
    match backup.objection(&facts.rules, facts.now) {
        Some(objection) => Finding::ok(format!("{} {objection}", backup.file_name()))
            .but(Status::Fail, advice(facts, TAKE_ONE)),
        None => Finding::ok(backup.text(facts.now)),
    }
}

/// Whether there is one of every other member, and whether all archives can be opened.
pub(crate) fn others(facts: &Facts) -> Finding {
    let backups = match &facts.backups {
        Seen::Found(backups) => backups,
        Seen::NotGiven => return Finding::not_checked("--backup-dir"),
        Seen::Unreadable { .. } => {
            let text = "not checked: the backup dir cannot be read";
            return Finding::ok(text).failed();
        }
    };
    let own = own_identity(facts).map(|own| own.member_id);
    let members = facts.members();
    let others: Vec<_> = members
        .iter()
        .filter(|look| Some(look.member.id) != own)
        .collect();
    let mut good = Vec::new();
    let mut bad = Vec::new();
    for look in &others {
        let name = name(&look.member);
        match backups.of(look.member.id, cluster(facts)) {
            None => bad.push(format!("{name}: no archive here")),
            Some(backup) => match backup.objection(&facts.rules, facts.now) {
                Some(objection) => {
                    bad.push(format!("{name}: {} {objection}", backup.file_name()));
                }
                None => good.push(format!("{name}: {}", backup.text(facts.now))),
            },
        }
    }
    let unreadable = backups.unreadable.iter();
    bad.extend(unreadable.map(|(_, why)| why.clone()));
    if members.is_empty() && bad.is_empty() {
        return Finding::unanswered();
    }
    if bad.is_empty() && others.is_empty() {
        Finding::ok("there is no other member")
    } else if bad.is_empty() {
        Finding::all(good)
    } else {
        bad.extend(good);
        Finding::all(bad).but(
            Status::Fail,
            advice(
                facts,
                "etcd's upgrade guide asks for a backup of every member: take one on each, and gather them in one directory; move away what cannot be read",
            ),
        )
    }
}
