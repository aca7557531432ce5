//! The downgrade gate: whether a member may go back to the release before.
//!
//! In: [`Evidence`], each item with its source. Out: a [`Verdict`]. Nothing is asked or read here.
//!
//! Why there is a gate: the cluster version only rises, the last member's upgrade raises it within
//! seconds, and 2.1 starts on data of cluster version 2.2 without an error (formats page §6).
//! The rows of the table, of which the first that matches decides:
//!
//! ```text
//! anyone reports `from` or more, or a committed entry or raft snapshot has it  refused: it has moved
//! an uncommitted entry has it, or all members are of `from` or more             refused: it is moving
//! `to` does not start from a data dir given                                     refused: it cannot start
//! one member in all, stopped, its own data dir readable, version = `to`         allowed
//! a quorum read, version = `to`, some member of `to`, all others answer         allowed
//! the same, but some other member does not answer                               allowed, with a warning
//! version below `to` or undecided, some member below `from`                     nothing to go back from
//! anything else                                                                 refused: not known
//! ```
//!
//! Only running servers raise the cluster version. If none runs, a stopped member's release raises
//! nothing, and only the logs count; so the second half of row 2 needs a member that answers.
//! If the operator states that all are stopped ([`Evidence::offline`]), the data dirs of a majority
//! replace the quorum read, because a committed version is in one log of any majority; a member
//! without a data dir among them counts as one that does not answer. That is true of the members' last
//! data and not of earlier copies, which look the same; but all that is known to be committed must then
//! be in the logs of a majority, and if it is not, some are copies. An archive is always an earlier
//! copy: it can prove that the cluster version was raised, and never that it was not.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::etcd::ids::{ClusterVersion, Index, MemberId, Release};
use crate::upgrade::downgrade::evidence::{DiskEvidence, DiskKind, Evidence, MemberEvidence};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Member(MemberId),
    /// One of [`Evidence::disks`].
    Disk(usize),
}

/// One report of a cluster version at or above `from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub source: Source,
    pub version: ClusterVersion,
    /// The entry that set it, if it is available.
    pub set_at: Option<Index>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Refused: the cluster has moved, as these reports show. No option overrides it.
    Moved(Vec<Claim>),
    /// Refused: it is moving now.
    Moving {
        /// Entries that are not known to be committed, and may become so.
        pending: Vec<Claim>,
        /// Whether every member is of the higher release.
        all_ahead: bool,
    },
    /// Refused: the release to go back to does not start from these data dirs.
    DoesNotStart(Vec<NoStart>),
    Allowed(Ground),
    AllowedWithWarning(Ground, Vec<Caution>),
    /// The cluster version was never that high.
    NothingToGoBackFrom,
    /// Refused: too little is known.
    Unknown(Vec<Doubt>),
}

/// A data dir from which the release to go back to does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoStart {
    /// Which of [`Evidence::disks`].
    pub disk: usize,
    /// Why, in etcd's own words.
    pub why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// The only member's own data dir.
    OwnDataDir,
    QuorumRead,
    /// The data of a majority of the members, all of which are stopped.
    Majority,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caution {
    Silent(MemberId),
    NotGiven(MemberId),
    /// The data of this member end before an entry that is known to be committed. It may have
    /// stopped first, or the data may be a copy that lacks later entries.
    Behind {
        member: MemberId,
        /// Their last index.
        end: Index,
        committed: Index,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    NoAnswer,
    /// Servers answer at these members' addresses, but with nothing that can be understood.
    NotUnderstood(Vec<MemberId>),
    /// No member that answers could do a quorum read: their answers may be out of date.
    NoQuorumRead(Vec<MemberId>),
    /// The cluster version is neither `to` nor below it.
    Between(ClusterVersion),
    /// No member is known to be of the release to go back to.
    NoMemberOf(Release),
    /// The cluster version is lower or undecided, and no member is known to be below `from`.
    NoMemberBelow(Release),
    /// Not all are stopped: these answer.
    NotStopped(Vec<MemberId>),
    RunsOn(PathBuf),
    NoMajority {
        /// The number of members with a data dir.
        given: usize,
        /// The number that would be enough.
        needed: usize,
        /// The members without a data dir.
        missing: Vec<MemberId>,
        /// Whether archives were given, which do not count.
        has_archives: bool,
    },
    /// What is committed is in the logs of a majority, but not in those given: they are older copies.
    NotTheLast {
        committed: Index,
        /// The number of members with data that have it.
        holders: usize,
        /// The number that must have it.
        needed: usize,
    },
    /// The cluster's members are not known.
    NoMembers,
    /// The member of this data dir has applied more than the data dir holds, up to `end`, and nothing runs on it.
    NotInUse {
        path: PathBuf,
        member: MemberId,
        end: Index,
        applied: Index,
    },
}

/// Decides by the table.
pub fn decide(evidence: &Evidence) -> Verdict {
    let rows = [
        moved,
        moving,
        does_not_start,
        allowed_alone,
        allowed,
        allowed_with_warning,
        nothing_to_go_back_from,
    ];
    rows.iter()
        .find_map(|row| row(evidence))
        .unwrap_or_else(|| Verdict::Unknown(doubts(evidence)))
}

fn moved(evidence: &Evidence) -> Option<Verdict> {
    let from = evidence.step.from;
    let members = evidence.members.iter().filter_map(|known| {
        let version = known.answer.as_ref().ok()?.cluster_version()?;
        (version.release() >= from).then(|| Claim {
            source: Source::Member(known.member.id),
            version: version.clone(),
            set_at: None,
        })
    });
    let claims: Vec<_> = members.chain(claims_on_disk(evidence, true)).collect();
    (!claims.is_empty()).then_some(Verdict::Moved(claims))
}

fn moving(evidence: &Evidence) -> Option<Verdict> {
    let pending: Vec<_> = claims_on_disk(evidence, false).collect();
    let mut members = evidence.members.iter();
    let ahead = |known: &MemberEvidence| {
        known.release() >= Some(evidence.step.from) && !known.release_is_assumed()
    };
    let all_ahead = any_answers(evidence) && members.all(ahead);
    (!pending.is_empty() || all_ahead).then_some(Verdict::Moving { pending, all_ahead })
}

fn does_not_start(evidence: &Evidence) -> Option<Verdict> {
    let disks = evidence.disks.iter().enumerate();
    let dirs = disks.filter(|(_, disk)| disk.created().is_none());
    let no_start = |(number, disk): (usize, &DiskEvidence)| {
        Some(NoStart {
            disk: number,
            why: disk.why_not(evidence.step.to)?,
        })
    };
    let found: Vec<_> = dirs.filter_map(no_start).collect();
    (!found.is_empty()).then_some(Verdict::DoesNotStart(found))
}

fn allowed_alone(evidence: &Evidence) -> Option<Verdict> {
    let alone = is_alone_and_stopped(evidence);
    (alone && is_at_target(evidence)).then_some(Verdict::Allowed(Ground::OwnDataDir))
}

fn allowed(evidence: &Evidence) -> Option<Verdict> {
    let (ground, cautions) = grounds(evidence)?;
    cautions.is_empty().then_some(Verdict::Allowed(ground))
}

fn allowed_with_warning(evidence: &Evidence) -> Option<Verdict> {
    let (ground, cautions) = grounds(evidence)?;
    Some(Verdict::AllowedWithWarning(ground, cautions))
}

fn nothing_to_go_back_from(evidence: &Evidence) -> Option<Verdict> {
    let known = is_alone_and_stopped(evidence) || is_known_now(evidence);
    let below = |known: &MemberEvidence| known.release().is_some_and(|r| r < evidence.step.from);
    let any_below = evidence.members.iter().any(below);
    (known && is_below_target(evidence) && any_below).then_some(Verdict::NothingToGoBackFrom)
}

/// Why a data dir is not the one that its member runs on, for each.
fn not_in_use(evidence: &Evidence) -> Vec<Doubt> {
    let doubt = |disk: &DiskEvidence| {
        let (member, end) = (disk.identity.member_id, disk.position.index);
        let mut members = evidence.members.iter();
        let known = members.find(|known| known.member.id == member)?;
        let applied = *known.answer.as_ref().ok()?.quorum_read.as_ref().ok()?;
        let path = disk.path.clone();
        let is_idle = disk.kind == DiskKind::Own { running: false };
        (is_idle && applied > end).then_some(Doubt::NotInUse {
            path,
            member,
            end,
            applied,
        })
    };
    evidence.disks.iter().filter_map(doubt).collect()
}

/// What an allowance would be based on, and its risks.
fn grounds(evidence: &Evidence) -> Option<(Ground, Vec<Caution>)> {
    if !is_known_now(evidence) || !is_at_target(evidence) || !not_in_use(evidence).is_empty() {
        return None;
    }
    if evidence.offline {
        return Some((Ground::Majority, not_covered_offline(evidence)));
    }
    let of_target = |known: &MemberEvidence| known.release() == Some(evidence.step.to);
    if !evidence.members.iter().any(of_target) || !not_understood(evidence).is_empty() {
        return None;
    }
    let silent = |known: &&MemberEvidence| known.answer.is_err() && known.stopped.is_none();
    let silent = evidence.members.iter().filter(silent);
    let cautions = silent.map(|known| Caution::Silent(known.member.id));
    Some((Ground::QuorumRead, cautions.collect()))
}

fn not_covered_offline(evidence: &Evidence) -> Vec<Caution> {
    let committed = committed(evidence);
    let caution = |known: &MemberEvidence| {
        let member = known.member.id;
        let of_it = data_dirs(evidence).filter(|disk| disk.identity.member_id == member);
        let Some(end) = of_it.map(|disk| disk.position.index).max() else {
            return Some(Caution::NotGiven(member));
        };
        (end < committed).then_some(Caution::Behind {
            member,
            end,
            committed,
        })
    };
    evidence.members.iter().filter_map(caution).collect()
}

/// Whether the known cluster version is certain to be the present one.
fn is_known_now(evidence: &Evidence) -> bool {
    if evidence.offline {
        !evidence.members.is_empty()
            && all_stopped(evidence)
            && given(evidence).len() >= majority(evidence)
            && can_be_the_last(evidence)
    } else {
        let current = |known: &MemberEvidence| {
            let answer = known.answer.as_ref();
            answer.is_ok_and(|answer| answer.quorum_read.is_ok())
        };
        evidence.members.iter().any(current)
    }
}

fn is_alone_and_stopped(evidence: &Evidence) -> bool {
    let [only] = evidence.members.as_slice() else {
        return false;
    };
    let own = |disk: &DiskEvidence| {
        disk.kind == DiskKind::Own { running: false } && disk.identity.member_id == only.member.id
    };
    let is_stopped = only.stopped.is_some() && !only.is_not_understood();
    only.answer.is_err() && is_stopped && evidence.disks.iter().any(own)
}

fn any_answers(evidence: &Evidence) -> bool {
    evidence.members.iter().any(|known| known.answer.is_ok())
}

fn all_stopped(evidence: &Evidence) -> bool {
    running(evidence).is_empty() && !evidence.disks.iter().any(DiskEvidence::is_running)
}

/// The highest cluster version that is known to be committed: it never falls.
fn cluster_version(evidence: &Evidence) -> Option<&ClusterVersion> {
    let answers = evidence.members.iter();
    let said = answers.filter_map(|known| known.answer.as_ref().ok()?.cluster_version());
    let disks = evidence.disks.iter();
    let on_disk = disks.filter_map(|disk| disk.cluster_version.as_ref());
    said.chain(on_disk).max()
}

fn is_at_target(evidence: &Evidence) -> bool {
    cluster_version(evidence).map(ClusterVersion::release) == Some(evidence.step.to)
}

fn is_below_target(evidence: &Evidence) -> bool {
    cluster_version(evidence).is_none_or(|version| version.release() < evidence.step.to)
}

fn claims_on_disk(evidence: &Evidence, committed: bool) -> impl Iterator<Item = Claim> {
    let from = evidence.step.from;
    let disks = evidence.disks.iter().enumerate();
    disks.flat_map(move |(number, disk)| {
        let changes = disk.versions.iter();
        let wanted = changes.filter(move |change| {
            change.committed == committed && change.version.release() >= from
        });
        wanted.map(move |change| Claim {
            source: Source::Disk(number),
            version: change.version.clone(),
            set_at: change.set_at,
        })
    })
}

/// The data dirs; an archive is an earlier copy and lacks what came after it.
fn data_dirs(evidence: &Evidence) -> impl Iterator<Item = &DiskEvidence> {
    let disks = evidence.disks.iter();
    disks.filter(|disk| disk.created().is_none())
}

/// The highest index that any disk knows to be committed.
fn committed(evidence: &Evidence) -> Index {
    let known = evidence.disks.iter().map(|disk| disk.position.commit);
    known.max().unwrap_or(Index(0))
}

/// Whether the data can be the members' last. What is committed is in the logs of a majority: if too
/// few have it, even counting all members without a data dir, some are earlier copies.
fn can_be_the_last(evidence: &Evidence) -> bool {
    let not_given = evidence.members.len() - given(evidence).len();
    holders(evidence) + not_given >= majority(evidence)
}

/// The number of members with a data dir that has all that is known to be committed.
fn holders(evidence: &Evidence) -> usize {
    let committed = committed(evidence);
    let holding = data_dirs(evidence).filter(|disk| disk.position.index >= committed);
    members_of(evidence, holding).len()
}

fn given(evidence: &Evidence) -> BTreeSet<MemberId> {
    members_of(evidence, data_dirs(evidence))
}

/// The members of the cluster that `disks` belong to, each once.
fn members_of<'e>(
    evidence: &Evidence,
    disks: impl Iterator<Item = &'e DiskEvidence>,
) -> BTreeSet<MemberId> {
    let members: BTreeSet<_> = evidence.members.iter().map(|m| m.member.id).collect();
    let ids = disks.map(|disk| disk.identity.member_id);
    ids.filter(|id| members.contains(id)).collect()
}

fn majority(evidence: &Evidence) -> usize {
    evidence.members.len() / 2 + 1
}

fn doubts(evidence: &Evidence) -> Vec<Doubt> {
    let step = evidence.step;
    if evidence.members.is_empty() {
        return vec![Doubt::NoMembers];
    }
    let not_understood = not_understood(evidence);
    if !not_understood.is_empty() {
        return vec![Doubt::NotUnderstood(not_understood)];
    }
    let not_in_use = not_in_use(evidence);
    if !not_in_use.is_empty() {
        return not_in_use;
    }
    if !is_known_now(evidence) && !is_alone_and_stopped(evidence) {
        return if evidence.offline {
            doubts_offline(evidence)
        } else {
            doubts_online(evidence)
        };
    }
    match cluster_version(evidence) {
        Some(version) if version.release() > step.to => vec![Doubt::Between(version.clone())],
        Some(version) if version.release() == step.to => vec![Doubt::NoMemberOf(step.to)],
        _ => vec![Doubt::NoMemberBelow(step.from)],
    }
}

fn doubts_online(evidence: &Evidence) -> Vec<Doubt> {
    let answering = answering(evidence);
    vec![if answering.is_empty() {
        Doubt::NoAnswer
    } else {
        Doubt::NoQuorumRead(answering)
    }]
}

fn doubts_offline(evidence: &Evidence) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    let answering = running(evidence);
    if !answering.is_empty() {
        doubts.push(Doubt::NotStopped(answering));
    }
    let running = evidence.disks.iter().filter(|disk| disk.is_running());
    doubts.extend(running.map(|disk| Doubt::RunsOn(disk.path.clone())));
    let (given, needed) = (given(evidence), majority(evidence));
    if given.len() < needed {
        let ids = evidence.members.iter().map(|known| known.member.id);
        doubts.push(Doubt::NoMajority {
            given: given.len(),
            needed,
            missing: ids.filter(|id| !given.contains(id)).collect(),
            has_archives: evidence.disks.iter().any(|disk| disk.created().is_some()),
        });
    } else if !can_be_the_last(evidence) {
        doubts.push(Doubt::NotTheLast {
            committed: committed(evidence),
            holders: holders(evidence),
            needed,
        });
    }
    doubts
}

fn answering(evidence: &Evidence) -> Vec<MemberId> {
    let answers = evidence.members.iter().filter(|known| known.answer.is_ok());
    answers.map(|known| known.member.id).collect()
}

fn not_understood(evidence: &Evidence) -> Vec<MemberId> {
    let members = evidence.members.iter();
    let odd = members.filter(|known| known.is_not_understood());
    odd.map(|known| known.member.id).collect()
}

/// The members without which no other may be stopped: the cluster of more than two would have no quorum.
pub fn to_bring_back_first(evidence: &Evidence) -> Vec<&MemberEvidence> {
    let goes_back = |known: &MemberEvidence| {
        let stopped = known.stopped.filter(|_| known.answer.is_err());
        stopped.is_some_and(|ran| ran.release > evidence.step.to)
    };
    let mut members = evidence.members.iter();
    let spares_one = answering(evidence).len() > majority(evidence) || members.any(goes_back);
    if evidence.offline || evidence.members.len() < 3 || spares_one {
        return Vec::new();
    }
    let members = evidence.members.iter();
    members.filter(|known| known.answer.is_err()).collect()
}

/// The members that answer at their address, understood or not.
fn running(evidence: &Evidence) -> Vec<MemberId> {
    [answering(evidence), not_understood(evidence)].concat()
}

impl Verdict {
    /// Whether the verdict is a refusal; with `strict` a warning is one too.
    pub fn is_refusal(&self, strict: bool) -> bool {
        match self {
            Self::Moved(_) | Self::Moving { .. } | Self::DoesNotStart(_) | Self::Unknown(_) => true,
            Self::AllowedWithWarning(..) => strict,
            Self::Allowed(_) | Self::NothingToGoBackFrom => false,
        }
    }
}

#[cfg(test)]
mod tests;
