//! Whether the backups are in order, as a monitoring system asks every few minutes.
//!
//! In: the watched members (see [`scope`]), the results of reading the newest archives, the free
//! space, and the [`Thresholds`]. Out: a [`Report`] of [`Finding`]s, the worst of which decides. Pure:
//! the caller has read everything.

pub mod findings;
pub mod growth;
pub mod scope;

#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::path::Path;

use crate::archive::warning::Warning;
use crate::etcd::ids::{ClusterId, Index, MemberId};
use crate::monitoring::scope::{Others, Watched, is_ahead};

/// How many more rounds of archives must fit, or it is critical: the next ones may not be written,
/// since archives grow.
const ROUNDS_CRITICAL: u64 = 2;
/// How many must fit, or there is a warning.
const ROUNDS_WARNING: u64 = 10;

/// The severity; the worst counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    Warning,
    Unknown,
    /// There may be no usable backup when one is needed.
    Critical,
}

#[derive(Clone, Debug)]
pub struct Thresholds {
    /// A newest archive older than this is critical.
    pub max_age: SignedDuration,
    /// A newest archive older than this is a warning.
    pub warn_age: Option<SignedDuration>,
    /// A data size above this, in bytes, is a warning.
    pub size_limit: u64,
    /// Less free space than this, in bytes, is a warning; the default is room for ten rounds of
    /// archives.
    pub min_free: Option<u64>,
}

#[derive(Debug)]
pub struct Facts {
    pub location: String,
    pub now: Timestamp,
    /// The one member that was asked for, if not all are.
    pub wanted: Option<String>,
    pub watched: Vec<(Watched, Verification)>,
    /// Files with an archive's name that cannot be opened.
    pub unreadable: Vec<Unreadable>,
    /// Keys that the list skipped, because no archive can have them.
    pub skipped: Vec<String>,
    /// Free space in bytes; `None` if unknown, or why it could not be read.
    pub free: Result<Option<u64>, String>,
    /// Whether nothing can be written there, because it is mounted read-only.
    pub read_only: bool,
    /// Members that have archives and raise no alarm.
    pub others: Others,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verification {
    /// Its end is valid; the rest was not read.
    EndOnly,
    Whole,
    /// It could not be read, so it may or may not be valid.
    Unread(String),
    Bad {
        why: String,
        /// When the newest valid one before it was made, if there is one.
        good: Option<Timestamp>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub name: String,
    pub why: String,
    /// Whether its bytes were read, and are wrong; if not, it may be valid.
    pub looked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub level: Level,
    pub check: &'static str,
    pub member: Option<String>,
    /// The text, without the member's name.
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberReport {
    pub name: String,
    pub cluster_id: ClusterId,
    pub member_id: MemberId,
    /// The path or URL of its newest archive.
    pub newest: String,
    pub created: Timestamp,
    /// Its age in seconds; `None` if it is dated in the future.
    pub age_seconds: Option<i64>,
    /// Whether every byte of it was read and is valid.
    pub proven: bool,
    pub index: Index,
    /// The data size, in bytes.
    pub data_size: u64,
    /// The archive's size, in bytes.
    pub archive_bytes: u64,
    pub archives: usize,
    pub warnings: Vec<Warning>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Free bytes, if known.
    pub free: Option<u64>,
    /// Bytes that one more archive of each member takes, by the size of the newest ones.
    pub round: u64,
    pub warning_below: u64,
    pub critical_below: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub level: Level,
    /// The members, by name.
    pub members: Vec<MemberReport>,
    pub room: Room,
    /// All findings, the worst first.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The report if nothing could be read; `level` is how bad that is.
    pub fn nothing_seen(level: Level, text: String) -> Self {
        Self {
            level,
            members: Vec::new(),
            room: Room::default(),
            findings: vec![Finding {
                level,
                check: "archives",
                member: None,
                text,
            }],
        }
    }
}

pub fn judge(facts: &Facts, rules: &Thresholds) -> Report {
    let room = room(facts, rules);
    let mut findings = Vec::new();
    if facts.watched.is_empty() {
        findings.push(findings::nothing(facts));
    } else {
        for (watched, proof) in &facts.watched {
            findings.extend(findings::member(watched, proof, facts, rules));
        }
        findings.extend(findings::unreadable(facts));
    }
    findings.extend(findings::skipped(facts));
    findings.extend(findings::free(facts, &room));
    findings.extend(findings::read_only(facts));
    findings.extend(findings::others(facts));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    Report {
        level: findings.first().map_or(Level::Unknown, |worst| worst.level),
        members: facts.watched.iter().map(|one| report(one, facts)).collect(),
        room,
        findings,
    }
}

/// The time since the newest archive held all that its member held: since it was made, or last found
/// to be current; `None` if it is dated in the future.
fn age(watched: &Watched, now: Timestamp) -> Option<SignedDuration> {
    let newest = &watched.newest;
    let current = watched.current.filter(|current| *current <= now);
    let since = current.map_or(newest.created, |current| current.max(newest.created));
    let age = now.duration_since(since);
    (!is_ahead(newest, now)).then_some(age.max(SignedDuration::ZERO))
}

fn report((watched, proof): &(Watched, Verification), facts: &Facts) -> MemberReport {
    let Watched { newest, .. } = watched;
    MemberReport {
        name: watched.name.clone(),
        cluster_id: newest.identity.cluster_id,
        member_id: newest.identity.member_id,
        newest: Path::new(&facts.location)
            .join(newest.name())
            .display()
            .to_string(),
        created: newest.created,
        age_seconds: age(watched, facts.now).map(|age| age.as_secs()),
        proven: *proof == Verification::Whole,
        index: newest.position.index,
        data_size: newest.sizes.data,
        archive_bytes: newest.listed.bytes,
        archives: 1 + watched.older.len() + watched.ahead.len(),
        warnings: newest.warnings.clone(),
    }
}

fn room(facts: &Facts, rules: &Thresholds) -> Room {
    let newest = facts.watched.iter().map(|(watched, _)| &watched.newest);
    let round: u64 = newest.map(|newest| newest.listed.bytes).sum();
    Room {
        free: facts.free.as_ref().ok().copied().flatten(),
        round,
        warning_below: rules
            .min_free
            .unwrap_or(round.saturating_mul(ROUNDS_WARNING)),
        critical_below: round.saturating_mul(ROUNDS_CRITICAL),
    }
}
