//! How long the local log still reaches back to before the move.
//!
//! In: the positions of this member's log and raft snapshots, and how fast the log grows. Out: the
//! index at which etcd will have purged the last raft snapshot from before the move, or the
//! segment that follows it, if the cluster moved now; and the expected time of that.
//!
//! A rewind begins from a raft snapshot below the entry that moved the cluster and needs the log
//! from there on. etcd keeps the newest 5 raft snapshots and the newest 5 segments (formats page
//! §1), so both are purged as the log grows.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::etcd::growth_rate::Rate;
use crate::etcd::ids::{Index, SnapshotId};
use crate::etcd::member::MemberFacts;
use crate::etcd::wal::log::SegmentFacts;
use crate::text::{about, utc};
use crate::upgrade::preflight::data_dir::{DataFacts, SEGMENT};
use crate::upgrade::preflight::members::has_moved;
use crate::upgrade::preflight::{Facts, Finding, Status, backups};

/// How many raft snapshots, and how many segments, etcd keeps by default.
const KEPT: u64 = 5;
/// After how many entries etcd makes a raft snapshot by default.
const SNAPSHOT_COUNT: u64 = 10_000;
/// The greatest time ahead to show as a date, in seconds.
const FAR: f64 = 100.0 * 365.0 * 86_400.0;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WayBack {
    /// The last entry now: the move comes after it.
    #[serde(rename = "last_raft_index")]
    pub last_index: Index,
    /// The newest raft snapshot; `None` if there is none, and the log itself is enough.
    #[serde(rename = "raft_snapshot_raft_index")]
    pub newest_raft_snapshot: Option<Index>,
    /// The approximate number of entries between two raft snapshots.
    pub entries_per_raft_snapshot: u64,
    pub interval: Interval,
    /// The index at which the log no longer reaches back, if the cluster moved now.
    #[serde(rename = "gone_from_raft_index")]
    pub gone_from: Index,
    /// What is purged first.
    pub goes_first: Goes,
    pub rate: Option<Rate>,
    /// When the log is expected to reach `gone_from` at that rate.
    #[serde(rename = "gone_at")]
    pub expected: Option<Timestamp>,
}

/// Where the number of entries between two raft snapshots comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interval {
    /// The raft snapshots of this data dir.
    Measured,
    /// The entries since the newest one: there was none in them, so there are more between two.
    AtLeast,
    /// etcd's default.
    Default,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goes {
    /// The last raft snapshot from before the move.
    RaftSnapshot,
    /// The segment that follows it.
    Segment,
}

/// How long the log of `member` reaches back, with its valid raft snapshots `snapshots`, oldest
/// first; `None` without a log.
pub fn way_back(
    member: &MemberFacts,
    snapshots: &[SnapshotId],
    rate: Option<Rate>,
    now: Timestamp,
) -> Option<WayBack> {
    let last_index = member.position.index;
    let newest = snapshots.last().map(|id| id.index);
    let (every, interval) = interval(member, snapshots);
    let snapshot_gone =
        newest.map(|newest| Index(newest.0.saturating_add(every.saturating_mul(KEPT))));
    let segment_gone = segment_gone(&member.segments, newest.unwrap_or(Index(0)), last_index);
    let (gone_from, goes_first) = match (snapshot_gone, segment_gone) {
        (Some(snapshot), Some(segment)) if segment < snapshot => (segment, Goes::Segment),
        (Some(snapshot), _) => (snapshot, Goes::RaftSnapshot),
        (None, segment) => (segment?, Goes::Segment),
    };
    let gone_from = gone_from.max(last_index);
    let expected = rate.and_then(|rate| {
        let seconds = (gone_from.0 - last_index.0) as f64 / rate.entries_per_second;
        let seconds = Some(seconds).filter(|seconds| *seconds < FAR)?;
        let later = SignedDuration::try_from_secs_f64(seconds).ok()?;
        now.checked_add(later).ok()
    });
    Some(WayBack {
        last_index,
        newest_raft_snapshot: newest,
        entries_per_raft_snapshot: every,
        interval,
        gone_from,
        goes_first,
        rate,
        expected,
    })
}

/// The number of entries between two raft snapshots. etcd makes the next one by the `--snapshot-count` of its last start;
/// those that are here may be from before that, or from a leader or a `rewind`.
fn interval(member: &MemberFacts, snapshots: &[SnapshotId]) -> (u64, Interval) {
    let (known, source) = match distance(member, snapshots) {
        Some(distance) => (distance, Interval::Measured),
        None => (SNAPSHOT_COUNT + 1, Interval::Default),
    };
    let newest = snapshots.last().map_or(0, |id| id.index.0);
    let since = member.position.commit.0.saturating_sub(newest);
    if since > known {
        (since, Interval::AtLeast)
    } else {
        (known, source)
    }
}

/// The smallest distance between two raft snapshots: one that a leader sent may be far from the
/// one before it. The index of a single one, if it is below etcd's default and the log begins at
/// the first entry, is itself the distance.
fn distance(member: &MemberFacts, snapshots: &[SnapshotId]) -> Option<u64> {
    if let [only] = snapshots {
        let first = member.segments.iter().find_map(|segment| segment.first);
        let is_whole = first.is_some_and(|first| first.0 <= 1);
        return Some(only.index.0).filter(|every| is_whole && *every <= SNAPSHOT_COUNT);
    }
    let pairs = snapshots.windows(2).filter_map(|pair| match pair {
        [before, after] => after.index.0.checked_sub(before.index.0),
        _ => None,
    });
    pairs.filter(|distance| *distance > 0).min()
}

/// The approximate index at which etcd has cut so many segments that the one with `index` is not
/// among the newest 5.
fn segment_gone(segments: &[SegmentFacts], index: Index, last_index: Index) -> Option<Index> {
    let last = segments.last()?;
    let holds = |segment: &&SegmentFacts| segment.first.is_some_and(|first| first <= index.next());
    let needed = segments.iter().rev().find(holds).or(segments.first())?;
    let bytes: u64 = segments.iter().map(|segment| segment.records_end).sum();
    let first = segments.iter().find_map(|segment| segment.first)?;
    let entries = last_index.0.checked_sub(first.0)?.checked_add(1)?;
    let entry = (bytes / entries).max(1);
    let newer = last.sequence.checked_sub(needed.sequence)?;
    let whole = KEPT.checked_sub(newer + 1)?.saturating_mul(SEGMENT);
    let room = SEGMENT.saturating_sub(last.records_end);
    Some(Index(last_index.0.saturating_add((whole + room) / entry)))
}

/// The index and the time after which only an archive is a way back.
pub(crate) fn check(facts: &Facts, data: &DataFacts) -> Finding {
    let Some(way) = data.member.is_ok().then(|| facts.way_back()).flatten() else {
        return Finding::ok("not checked: the data dir is corrupt").failed();
    };
    if has_moved(facts) {
        return Finding::all(vec![
            "the cluster has moved: the way back begins from a raft snapshot from before the move, with the log from there on".to_owned(),
        ])
        .but(
            Status::Fail,
            "keep every archive and data dir from before the move; `etcd-ark downgrade check` shows the options",
        );
    }
    let mut evidence = way.lines(facts.now);
    if facts.members().len() == 1 {
        evidence.push(format!(
            "a cluster of one moves within seconds of its first start with {}: there is no mixed phase, and no way back by the binary alone",
            facts.rules.to
        ));
    }
    if let Some(backup) = backups::own_backup(facts) {
        evidence.push(format!(
            "the archive (up to index {}) remains available",
            backup.position.index
        ));
        return Finding::all(evidence);
    }
    Finding::all(evidence).but(
        Status::Warn,
        "after that only an archive from before the change can be used: take one now and keep it",
    )
}

impl WayBack {
    fn lines(&self, now: Timestamp) -> Vec<String> {
        let is_bound = self.interval == Interval::AtLeast && self.goes_first == Goes::RaftSnapshot;
        let least = if is_bound { "at least " } else { "" };
        let end = if is_bound { "at least" } else { "about" };
        let until = format!(
            "if the cluster version changed now, at index {}, this member's log could be rewound until {end} index {}",
            self.last_index, self.gone_from
        );
        let when = match (self.expected, self.rate) {
            (Some(at), Some(rate)) => format!(
                "that is in {least}{} ({}), at {} entries a second",
                about(at.duration_since(now)),
                utc(at),
                per_second(rate.entries_per_second)
            ),
            (None, Some(_)) => "that is years from now".to_owned(),
            (_, None) => "when that is cannot be told: the log holds no times".to_owned(),
        };
        let why = match self.goes_first {
            Goes::RaftSnapshot => {
                let every = self.entries_per_raft_snapshot;
                let every = match self.interval {
                    Interval::Measured => format!("here one every {every} entries"),
                    Interval::Default => format!("by default one every {every} entries"),
                    Interval::AtLeast => {
                        format!("and has made none in the last {every} entries")
                    }
                };
                format!("etcd keeps 5 raft snapshots, {every}")
            }
            Goes::Segment => "etcd keeps 5 segments of 64 MB".to_owned(),
        };
        vec![until, when, why]
    }
}

fn per_second(rate: f64) -> String {
    if rate < 10.0 {
        format!("{rate:.1}")
    } else {
        format!("{rate:.0}")
    }
}
