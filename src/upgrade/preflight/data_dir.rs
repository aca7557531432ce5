//! The checks of this member's data dir.

use std::path::PathBuf;

use crate::cluster::ProbeError;
use crate::etcd::growth_rate::{Pace, Rate};
use crate::etcd::ids::{Index, Release, SnapshotId, V2_2, V2_3};
use crate::etcd::member::MemberFacts;
use crate::etcd::replay::InOrderPosts;
use crate::etcd::start::reason::Reason;
use crate::etcd::start::{Verdict, Verdicts, Way, cure};
use crate::etcd::store::to_json::key_text;
use crate::etcd::text::printable;
use crate::text::{count, size};
use crate::upgrade::preflight::{Facts, Finding, Seen, Status};

/// With this much data or more, in bytes, a restarted member may need minutes to catch up: etcd's own
/// guides advise to wait 2 minutes between members.
const WAIT_FROM: u64 = 50_000_000;
/// The size at which etcd cuts a WAL segment, in bytes; 2.2 preallocates it on disk.
pub(crate) const SEGMENT: u64 = 64_000_000;
/// The number of directories with in-order keys to list.
const DIRECTORIES: usize = 3;

#[derive(Clone, Debug)]
pub struct DataFacts {
    pub path: PathBuf,
    /// The dedicated WAL dir, if there is one.
    pub dedicated_wal: Option<PathBuf>,
    pub running: bool,
    /// The facts of all its files, or why etcd could not start from them.
    pub member: Result<MemberFacts, String>,
    pub faults: Vec<String>,
    /// Whether each release starts from it, once its segments are in `member/wal`; `None` if not checked.
    pub starts: Option<Verdicts>,
    /// Bytes of the newest raft snapshot and of the entries above it.
    pub data_bytes: u64,
    /// Bytes of the whole directory.
    pub directory_bytes: u64,
    /// The valid raft snapshots, oldest first.
    pub raft_snapshots: Vec<SnapshotId>,
    /// The facts from a replay of the log; `None` if it cannot be replayed.
    pub replay: Option<ReplayFacts>,
    pub space: Space,
    pub wal_space: Space,
    /// Whether etcd's auth is on, from the store; `None` if the log cannot be replayed.
    pub auth_enabled: Option<bool>,
}

#[derive(Clone, Debug, Default)]
pub struct ReplayFacts {
    pub in_order: InOrderPosts,
    /// How many applied requests were a refresh.
    pub refreshes: u64,
    pub pace: Pace,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Free bytes for users other than root.
    pub free: u64,
    pub device: u64,
}

impl DataFacts {
    /// How fast the log grows, if that is known.
    pub fn rate(&self) -> Option<Rate> {
        self.replay.as_ref()?.pace.rate()
    }
}

/// The data dir, or why nothing is known of it.
pub(crate) fn found(facts: &Facts) -> Result<&DataFacts, Finding> {
    match &facts.data {
        Seen::Found(data) => Ok(data),
        Seen::NotGiven => Err(Finding::not_checked("--data-dir")),
        Seen::Unreadable { .. } => {
            Err(Finding::ok("not checked: the data dir cannot be read").failed())
        }
    }
}

/// Whether all of it is valid, and it belongs to a member of this cluster.
pub(crate) fn soundness(facts: &Facts) -> Finding {
    if let Seen::Unreadable { why, hint } = &facts.data {
        return Finding::unreadable(why, hint.as_deref());
    }
    let data = match found(facts) {
        Ok(data) => data,
        Err(unknown) => return unknown,
    };
    let mut bad = data.faults.clone();
    let member = match &data.member {
        Ok(member) => member,
        Err(why) => {
            bad.push(format!("etcd could not start from it: {why}"));
            return Finding::all(bad).but(
                Status::Fail,
                "do not restart this member now; `etcd-ark verify` on the data dir shows everything",
            );
        }
    };
    if bad.is_empty() && !member.is_removed() {
        let no_start = no_start(data, [facts.rules.from, facts.rules.to]);
        if !no_start.is_empty() {
            let cure = data.starts.as_ref().and_then(cure);
            return Finding::all(no_start).but(
                Status::Fail,
                match cure {
                    Some(cure) => format!("do not restart this member before that is fixed: once every member is stopped, {cure}"),
                    None => "do not restart this member before that is fixed; `etcd-ark verify` on the data dir says what each release does with it".to_owned(),
                },
            );
        }
    }
    if !bad.is_empty() {
        return Finding::all(bad).but(
            Status::Fail,
            "`etcd-ark verify` on the data dir shows everything; the other members' data are the better copy",
        );
    }
    if let Some(why) = stranger(facts, member) {
        return Finding::ok(why).but(
            Status::Fail,
            "give the data dir of a member of the cluster that the endpoints lead to",
        );
    }
    if let Some(applied) = applied_beyond(facts, data, member) {
        let end = member.position.index;
        return Finding::ok(format!(
            "this member has applied entry {applied}, and the data dir, which no etcd holds locked, ends at {end}: it is not the one that it runs on"
        ))
        .but(
            Status::Fail,
            "compare --data-dir and --wal-dir with the flags and the variables of etcd's unit",
        );
    }
    let runs = if data.running {
        ", etcd runs on it"
    } else {
        ""
    };
    let text = format!(
        "{}, valid up to index {}{runs}",
        member
            .identity
            .name
            .clone()
            .unwrap_or_else(|| member.identity.member_id.to_string()),
        member.position.index
    );
    if facts.look.cluster_id.is_none() || none_answers(facts) {
        return Finding::ok(text).but(
            Status::Warn,
            "no member answers, so whether it is of this cluster is not known",
        );
    }
    Finding::ok(text)
}

/// Which of `releases` do not start from it, or not for good, and why. Other checks report a moved cluster and a removed member.
fn no_start(data: &DataFacts, releases: [Release; 2]) -> Vec<String> {
    let verdicts = data.starts.iter().flatten();
    let asked = verdicts.filter(|(line, _)| releases.contains(line));
    let said_elsewhere = |verdict: &Verdict| {
        matches!(
            verdict,
            Verdict::DoesNotStart(Reason::Downgrade { .. } | Reason::Removed)
        )
    };
    let counts = asked.filter(|(_, verdict)| !said_elsewhere(verdict));
    let no = counts.filter_map(|(line, verdict)| match verdict {
        Verdict::Starts(Way {
            lost_entry: Some(lost),
            ..
        }) => Some(format!(
            "etcd {line} starts from it without entry {lost} and what follows"
        )),
        _ => verdict.warning(*line, "it"),
    });
    no.collect()
}

fn none_answers(facts: &Facts) -> bool {
    facts.look.members.iter().all(|look| look.said.is_err())
}

/// Why the data dir does not belong to a member of the cluster that was asked.
fn stranger(facts: &Facts, member: &MemberFacts) -> Option<String> {
    let own = &member.identity;
    let foreign = facts
        .look
        .unknown_endpoints
        .iter()
        .find(|stray| matches!(stray.silence, ProbeError::OtherCluster { .. }));
    if member.is_removed() {
        Some(format!(
            "{own} has been removed from its cluster, says its own log"
        ))
    } else if let Some(stray) = foreign {
        Some(format!("{own}, but {}", stray.silence))
    } else if facts.look.cluster_id.is_some_and(|id| id != own.cluster_id) {
        Some(format!("{own}: that is another cluster"))
    } else if !facts
        .members()
        .iter()
        .any(|look| look.member.id == own.member_id)
    {
        Some(format!("{own}: no such member, says the cluster"))
    } else {
        None
    }
}

/// Whether there is more data than etcd's guide recommends.
pub(crate) fn size_check(facts: &Facts, data: &DataFacts) -> Finding {
    let rules = &facts.rules;
    let mut evidence = vec![format!(
        "{} of data, {} in the directory",
        size(data.data_bytes),
        size(data.directory_bytes)
    )];
    let over = data.data_bytes > rules.size_limit;
    if over {
        evidence.push(format!("over the limit of {}", size(rules.size_limit)));
    } else if data.directory_bytes > rules.size_limit {
        evidence.push(format!(
            "only the directory as a whole is over {}: older files, and room set aside",
            size(rules.size_limit)
        ));
    }
    let found = Finding::all(evidence);
    let wait = "wait 2 minutes after each member, until it has caught up, before you stop the next";
    if over && !rules.accept_data_size {
        found.but(
            Status::Fail,
            "etcd's guide: get help before an upgrade with this much data. Rehearse it on a copy; then accept it with --accept-data-size",
        )
    } else if over {
        found.but(Status::Warn, format!("accepted; {wait}"))
    } else if data.data_bytes > WAIT_FROM {
        found.but(Status::Warn, wait)
    } else {
        found
    }
}

/// Whether there is room for what 2.2 writes next, and for an archive.
pub(crate) fn space(facts: &Facts, data: &DataFacts) -> Finding {
    let mut needs = vec![Need {
        place: "data dir",
        space: data.space,
        // etcd writes a raft snapshot before it removes an old one, and they grow.
        bytes: data.data_bytes.saturating_mul(2),
    }];
    let wal = Need {
        place: "WAL dir",
        space: data.wal_space,
        bytes: 2 * SEGMENT,
    };
    wal.join(&mut needs);
    if let Some(space) = facts.backups.found().and_then(|backups| backups.space) {
        let archive = Need {
            place: "backup dir",
            space,
            // In the worst case nothing can be compressed.
            bytes: data.data_bytes.saturating_add(SEGMENT),
        };
        archive.join(&mut needs);
    }
    let short = needs.iter().any(|need| need.space.free < need.bytes);
    let evidence = needs.iter().map(Need::text).collect();
    let found = Finding::all(evidence);
    if short {
        found.but(
            Status::Fail,
            "free some space: twice the data for raft snapshots, two segments of 64 MB, and in the backup dir one more archive",
        )
    } else {
        found
    }
}

/// Bytes to be written to a filesystem.
struct Need {
    place: &'static str,
    space: Space,
    bytes: u64,
}

impl Need {
    /// Adds to the need of the same filesystem, or becomes a new one.
    fn join(self, needs: &mut Vec<Self>) {
        let same = needs
            .iter_mut()
            .find(|need| need.space.device == self.space.device);
        match same {
            Some(need) => need.bytes = need.bytes.saturating_add(self.bytes),
            None => needs.push(self),
        }
    }

    fn text(&self) -> String {
        format!(
            "{} free for the {}, {} wanted",
            size(self.space.free),
            self.place,
            size(self.bytes)
        )
    }
}

/// Whether a first start with the new release would rename in-order keys.
pub(crate) fn in_order(facts: &Facts) -> Finding {
    if !(facts.rules.from < V2_2 && facts.rules.to >= V2_2) {
        let same = format!(
            "{} and {} name them alike",
            facts.rules.from, facts.rules.to
        );
        return refreshed(facts).unwrap_or_else(|| Finding::ok(same));
    }
    let data = match found(facts) {
        Ok(data) => data,
        Err(unknown) => return unknown,
    };
    let Some(replay) = &data.replay else {
        let evidence = vec!["not checked: the log cannot be replayed".to_owned()];
        return Finding::all(evidence).but(
            Status::Fail,
            "`etcd-ark verify --deep` on the data dir says why",
        );
    };
    let posts = &replay.in_order;
    if posts.posts > 0 && is_mixed(facts) {
        let evidence = vec![
            count(posts.posts, "POST in the log", "POSTs in the log"),
            format!(
                "members run {} and {}: what is posted now gets another name on each release",
                facts.rules.from, facts.rules.to
            ),
        ];
        let advice = format!(
            "stop all POSTs until all members run the same release. If the last POST was before the first member ran {to}, wait on each member for a raft snapshot above it before the member is stopped. If any POST came later, wait for none: a raft snapshot that is made now keeps both names for good. `diff --at-common-index` of two members' data shows keys with two names",
            to = facts.rules.to
        );
        return Finding::all(evidence).but(Status::Warn, advice);
    }
    if runs_new_release(facts, data) {
        let text = format!("this member runs {} already", facts.rules.to);
        return Finding::ok(text);
    }
    let above = above_snapshot(data, posts);
    if posts.applied == 0 {
        let text = match posts.posts {
            0 => "no POST in the available log".to_owned(),
            posts => format!(
                "{}, all below the raft snapshot",
                count(posts, "POST in the log", "POSTs in the log")
            ),
        };
        return Finding::ok(text);
    }
    let mut evidence = vec![format!(
        "a first start with {} gives {} a new name, on this member only",
        facts.rules.to,
        count(posts.applied, "acknowledged key", "acknowledged keys")
    )];
    evidence.extend(above);
    Finding::all(evidence).but(
        Status::Warn,
        format!(
            "stop all POSTs until all members run {}, and on each member wait for a raft snapshot above the last POST before it is stopped (`inspect` of its data dir shows the newest; etcd makes one every --snapshot-count entries, 10,000 by default); it comes sooner after a restart with the old release and a low --snapshot-count",
            facts.rules.to
        ),
    )
}

/// Refreshes in a log that a release which does not know them applies.
fn refreshed(facts: &Facts) -> Option<Finding> {
    if !(facts.rules.from < V2_3 && facts.rules.to >= V2_3) {
        return None;
    }
    let refreshes = found(facts).ok()?.replay.as_ref()?.refreshes;
    let found = format!(
        "{} above the raft snapshot: {} empties the value, and {} leaves it",
        count(
            refreshes,
            "refresh (`refresh=true`)",
            "refreshes (`refresh=true`)"
        ),
        facts.rules.from,
        facts.rules.to
    );
    let advice = format!(
        "let no client refresh keys until all members run {}; `diff --at-common-index` of two members' data shows the keys with two values: write them again then",
        facts.rules.to
    );
    (refreshes > 0).then(|| Finding::warning(found).advice(advice))
}

/// Whether some members run the new release, and others the old one.
fn is_mixed(facts: &Facts) -> bool {
    let members = facts.members();
    let said = members.iter().filter_map(|look| look.said.as_ref().ok());
    let releases: Vec<_> = said.map(|said| Release::of(&said.server_version)).collect();
    let is_new = |release: &Release| *release >= facts.rules.to;
    releases.iter().any(is_new) && !releases.iter().all(is_new)
}

/// The last entry that this member's server has applied, if the data dir does not reach it and nothing runs on it.
fn applied_beyond(facts: &Facts, data: &DataFacts, member: &MemberFacts) -> Option<Index> {
    let mut looks = facts.look.members.iter();
    let own = looks.find(|look| look.member.id == member.identity.member_id)?;
    let applied = own
        .said
        .as_ref()
        .ok()?
        .quorum_read
        .as_ref()
        .ok()?
        .raft_index;
    (!data.running && applied > member.position.index).then_some(applied)
}

/// Whether this member's server answers with the new release.
fn runs_new_release(facts: &Facts, data: &DataFacts) -> bool {
    let Ok(member) = &data.member else {
        return false;
    };
    let own = member.identity.member_id;
    facts.look.members.iter().any(|look| {
        let said = look.said.as_ref();
        look.member.id == own
            && said.is_ok_and(|said| Release::of(&said.server_version) >= facts.rules.to)
    })
}

/// The directories of the POSTs above the newest raft snapshot.
fn above_snapshot(data: &DataFacts, posts: &InOrderPosts) -> Vec<String> {
    let snapshot = data.raft_snapshots.last().map(|id| id.index);
    let above = posts
        .directories
        .iter()
        .filter(|(_, posts)| snapshot.is_none_or(|at| posts.last_index > at));
    let mut lines: Vec<_> = above
        .clone()
        .take(DIRECTORIES)
        .map(|(path, found)| {
            let directory = key_text(path);
            format!(
                "{}/: the last POST is entry {}, {}",
                printable(directory.trim_end_matches('/')),
                found.last_index,
                match snapshot {
                    Some(at) => format!("the raft snapshot is at {at}"),
                    None => "and there is no raft snapshot yet".to_owned(),
                }
            )
        })
        .collect();
    let more = above.count().saturating_sub(DIRECTORIES);
    if more > 0 {
        lines.push(format!(
            "and in {}",
            count(more as u64, "more directory", "more directories")
        ));
    }
    lines
}

/// Whether the segments are where the old release looks for them.
pub(crate) fn wal_dir(facts: &Facts, data: &DataFacts) -> Finding {
    let Some(dedicated) = &data.dedicated_wal else {
        return Finding::ok("member/wal, as every release has it");
    };
    let text = format!("a dedicated one, {}", dedicated.display());
    let from = facts.rules.from;
    if from >= V2_2 {
        return Finding::ok(text);
    }
    let trap = format!(
        "{from} has no --wal-dir: going back, it would bootstrap an empty member beside the data"
    );
    if runs_new_release(facts, data) {
        return Finding::ok(text).but(
            Status::Warn,
            format!("{trap}; `etcd-ark downgrade run --move-wal` moves the segments first"),
        );
    }
    Finding::ok(text).but(
        Status::Fail,
        format!("{trap}. Keep the segments in member/wal until the cluster has moved"),
    )
}
