//! Which members' archives are watched, and which archive is each member's newest.
//!
//! In: the archives of a repository and the time. Out: a [`Watched`] for each member that can
//! raise an alarm. Archives made by a rewind or of damaged data dirs do not count. Of the others,
//! the newest one gives the cluster, so that an older cluster, from before a rewind, does not raise an
//! alarm forever. Of that cluster's members those are watched that have archives here and are not
//! removed; the others keep theirs elsewhere.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::archive::{ENCRYPTED, EXTENSION};
use crate::etcd::ids::{Identity, MemberId};
use crate::etcd::text::printable;
use crate::repository::ArchiveSummary;

/// How far ahead of this clock an archive's time may be before it counts as dated in the future.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

#[derive(Clone, Debug)]
pub struct Watched {
    /// Its name, or its id if it has no name.
    pub name: String,
    /// Its newest archive that is not dated in the future; if all are, the one that is furthest in the log.
    pub newest: ArchiveSummary,
    /// When the member was last found to hold nothing that is not in it, if that was recorded.
    pub current: Option<Timestamp>,
    /// The archives before it, newest first.
    pub older: Vec<ArchiveSummary>,
    /// Other archives of it that are dated in the future.
    pub ahead: Vec<ArchiveSummary>,
}

impl Watched {
    /// The archive that goes furthest in the log, if that is not the newest by its date.
    pub fn furthest(&self) -> Option<&ArchiveSummary> {
        let others = self.older.iter().chain(&self.ahead);
        let furthest = others.max_by_key(|summary| log_order(summary))?;
        (log_order(furthest) > log_order(&self.newest)).then_some(furthest)
    }
}

/// Whether an archive is dated in the future.
pub fn is_ahead(summary: &ArchiveSummary, now: Timestamp) -> bool {
    is_future(summary.created, now)
}

/// Whether an archive of this name, which cannot be opened, is dated in the future.
pub fn is_named_ahead(name: &str, now: Timestamp) -> bool {
    parts(name).is_some_and(|(_, at)| is_future(at, now))
}

fn is_future(time: Timestamp, now: Timestamp) -> bool {
    time.duration_since(now) > CLOCK_SKEW
}

/// The position of an archive in the log.
pub fn log_order(summary: &ArchiveSummary) -> impl Ord + use<> {
    let position = &summary.position;
    (position.term, position.index, position.commit)
}

/// The watched members, by name, with those of their archives that are `wanted`. Who was removed is told by all
/// archives; a removed member counts only without another one that has a wanted archive.
pub fn watched(
    summaries: &[ArchiveSummary],
    now: Timestamp,
    wanted: &dyn Fn(&ArchiveSummary) -> bool,
) -> Vec<Watched> {
    let captured = summaries.iter().filter(|summary| summary.is_backup());
    let mut captured: Vec<_> = captured.collect();
    // Newest first, those from the future after all others.
    captured.sort_by_key(|summary| {
        let created = std::cmp::Reverse(summary.created);
        (is_ahead(summary, now), created)
    });
    let Some(anchor) = captured.iter().find(|summary| wanted(summary)) else {
        return Vec::new();
    };
    let cluster = anchor.identity.cluster_id;
    captured.retain(|summary| summary.identity.cluster_id == cluster);
    let members = members(&captured);
    captured.retain(|summary| wanted(summary));
    let with_archives = |ids: BTreeSet<MemberId>| -> Vec<_> {
        let ids = ids.into_iter();
        ids.filter_map(|id| of_member(id, &captured, now)).collect()
    };
    let mut watched = with_archives(members);
    if watched.is_empty() {
        watched = with_archives(captured.iter().map(|s| s.identity.member_id).collect());
    }
    name_by_id_where_names_are_shared(&mut watched);
    watched.sort_by(|a, b| a.name.cmp(&b.name));
    watched
}

/// The members of all clusters, each with its newest archive, as [`watched`] finds those of the newest cluster. A member
/// that a rewind took into a new cluster has kept its id, and is one member, also if it was removed there.
pub fn in_every_cluster(
    summaries: &[ArchiveSummary],
    now: Timestamp,
    wanted: &dyn Fn(&ArchiveSummary) -> bool,
) -> Vec<Watched> {
    let (mut found, mut left) = (Vec::new(), summaries.to_vec());
    let mut known = BTreeSet::new();
    loop {
        let mut of_one = watched(&left, now, wanted);
        let Some(first) = of_one.first() else { break };
        let cluster = first.newest.identity.cluster_id;
        of_one.retain(|one| !known.contains(&one.newest.identity.member_id));
        found.extend(of_one);
        left.retain(|summary| {
            let is_other = summary.identity.cluster_id != cluster;
            if !is_other && summary.is_backup() {
                known.insert(summary.identity.member_id);
            }
            is_other
        });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// Members that have archives and are not watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Others {
    pub clusters: u64,
    /// Other members of the same cluster.
    pub members: u64,
    pub damaged: u64,
    /// Archives made by a rewind.
    pub rewound: u64,
}

/// The members with captured archives in `summaries` that are not among `watched`.
pub fn others(summaries: &[ArchiveSummary], watched: &[Watched]) -> Others {
    let damaged = summaries.iter().filter(|one| one.is_damaged()).count() as u64;
    let rewound = summaries.iter().filter(|one| one.rewound).count() as u64;
    let Some(first) = watched.first() else {
        return Others {
            damaged,
            rewound,
            ..Others::default()
        };
    };
    let cluster = first.newest.identity.cluster_id;
    let captured = summaries.iter().filter(|summary| summary.is_backup());
    let (own, other): (Vec<_>, Vec<_>) = captured
        .map(|summary| &summary.identity)
        .partition(|identity| identity.cluster_id == cluster);
    let is_watched = |id: &MemberId| {
        let mut watched = watched.iter();
        watched.any(|one| one.newest.identity.member_id == *id)
    };
    let own: BTreeSet<_> = own.into_iter().map(|identity| identity.member_id).collect();
    let other: BTreeSet<_> = other.into_iter().map(|i| i.cluster_id).collect();
    Others {
        clusters: other.len() as u64,
        members: own.iter().filter(|id| !is_watched(id)).count() as u64,
        damaged,
        rewound,
    }
}

/// Whether it is the member with the name or id `wanted`; always true for `None`.
pub fn is_called(identity: &Identity, wanted: Option<&str>) -> bool {
    wanted.is_none_or(|wanted| {
        identity.name.as_deref() == Some(wanted) || identity.member_id.to_string() == wanted
    })
}

/// The members of the cluster, by the newest archive of one that still is a member.
fn members(captured: &[&ArchiveSummary]) -> BTreeSet<MemberId> {
    let belongs =
        |summary: &&&ArchiveSummary| summary.members.contains(&summary.identity.member_id);
    let teller = captured.iter().find(belongs).or(captured.first());
    let mut members = BTreeSet::new();
    if let Some(teller) = teller {
        members.extend(&teller.members);
        members.insert(teller.identity.member_id);
    }
    members
}

/// The watched member `id`; `captured` is in the order that [`watched`] makes.
fn of_member(id: MemberId, captured: &[&ArchiveSummary], now: Timestamp) -> Option<Watched> {
    let own = captured.iter().filter(|s| s.identity.member_id == id);
    let (mut ahead, mut dated): (Vec<ArchiveSummary>, Vec<ArchiveSummary>) =
        own.map(|s| (*s).clone()).partition(|s| is_ahead(s, now));
    let newest = if dated.is_empty() {
        ahead.sort_by_key(log_order);
        ahead.pop()?
    } else {
        dated.remove(0)
    };
    let identity = &newest.identity;
    let name = identity.name.as_deref().map(printable);
    Some(Watched {
        name: name.unwrap_or_else(|| identity.member_id.to_string()),
        newest,
        current: None,
        older: dated,
        ahead,
    })
}

fn name_by_id_where_names_are_shared(watched: &mut [Watched]) {
    let names: Vec<_> = watched.iter().map(|one| one.name.clone()).collect();
    for one in watched {
        if names.iter().filter(|name| **name == one.name).count() > 1 {
            one.name = one.newest.identity.member_id.to_string();
        }
    }
}

impl Watched {
    /// Whether an archive of this name, which cannot be opened, was made after this member's
    /// newest; only its name can tell.
    pub fn is_newer_by_name(&self, name: &str) -> bool {
        match (parts(name), parts(self.newest.name())) {
            (Some((member, at)), Some((own, _))) => member == own && at > self.newest.created,
            _ => false,
        }
    }
}

/// The member and the time in an archive's name (see [`capture`](crate::snapshot)).
fn parts(name: &str) -> Option<(&str, Timestamp)> {
    let plain = name.strip_suffix(ENCRYPTED).unwrap_or(name);
    let stem = plain.strip_prefix("etcd-")?.strip_suffix(EXTENSION)?;
    let (rest, _index) = stem.rsplit_once('-')?;
    let (member, time) = rest.rsplit_once('-')?;
    let time = time.strip_suffix('Z')?;
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S%.f", time).ok()?;
    let time = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some((member, time.timestamp()))
}
