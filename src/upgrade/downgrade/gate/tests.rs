//! The table, row by row, and every combination of members around a quorum, compared with a second
//! implementation of it that shares no code with the first.

use jiff::Timestamp;

use super::*;
use crate::cluster::{ProbeError, ReportedVersion};
use crate::etcd::ids::{ClusterId, Identity, Term};
use crate::etcd::member::{Position, VersionChange};
use crate::etcd::membership::Member;
use crate::etcd::start;
use crate::upgrade::downgrade::evidence::{Answer, Ran, Step};

/// Cluster versions on a disk, oldest first, each committed or not.
type Versions = &'static [(&'static str, bool)];

const OWN: u64 = 1;

fn version(text: &str) -> ClusterVersion {
    text.parse().unwrap()
}

fn release(text: &str) -> Release {
    text.parse().unwrap()
}

fn member(id: u64) -> Member {
    Member {
        id: MemberId(id),
        name: format!("infra{id}"),
        ..Member::default()
    }
}

fn silence() -> ProbeError {
    ProbeError::Unreachable {
        url: "http://127.0.0.1:1".to_owned(),
        why: "connection refused".to_owned(),
    }
}

/// A member that runs `server` and reports `cluster`, with or without a quorum read.
fn says(id: u64, server: &str, cluster: Option<&str>, quorum: bool) -> MemberEvidence {
    let cluster = cluster.map_or(ReportedVersion::NotDecided, |said| {
        ReportedVersion::Is(version(said))
    });
    MemberEvidence {
        member: member(id),
        answer: Ok(Answer {
            url: format!("http://127.0.0.1:{id}"),
            server: server.parse().unwrap(),
            cluster,
            quorum_read: if quorum {
                Ok(Index(343))
            } else {
                Err(silence())
            },
        }),
        stopped: None,
    }
}

fn silent(id: u64) -> MemberEvidence {
    MemberEvidence {
        member: member(id),
        answer: Err(silence().into()),
        stopped: None,
    }
}

/// A server at a member's address answers, but with nothing that can be understood.
fn not_understood(id: u64) -> MemberEvidence {
    let rubbish = ProbeError::Rubbish {
        url: "http://127.0.0.1:1".to_owned(),
        why: "`2.2.5.1` is not a version".to_owned(),
    };
    MemberEvidence {
        answer: Err(rubbish.into()),
        ..silent(id)
    }
}

fn stopped(id: u64, ran: &str) -> MemberEvidence {
    MemberEvidence {
        stopped: Some(Ran {
            release: release(ran),
            assumed: false,
        }),
        ..silent(id)
    }
}

/// The data of member `id`, with versions as `(version, committed)`.
fn disk(kind: DiskKind, id: u64, versions: &[(&str, bool)]) -> DiskEvidence {
    let versions: Vec<_> = versions
        .iter()
        .zip(9..)
        .map(|((text, committed), at)| VersionChange {
            version: version(text),
            set_at: Some(Index(at)),
            committed: *committed,
        })
        .collect();
    let mut committed = versions.iter().filter(|change| change.committed);
    DiskEvidence {
        path: format!("/data/{id}").into(),
        kind,
        identity: Identity {
            cluster_id: ClusterId(7),
            member_id: MemberId(id),
            name: Some(format!("infra{id}")),
        },
        position: Position {
            term: Term(2),
            index: Index(343),
            commit: Index(343),
            hard_state_term: Term(2),
            vote: MemberId(0),
        },
        cluster_version: committed.next_back().map(|change| change.version.clone()),
        versions,
        members: Vec::new(),
        starts: None,
    }
}

const STOPPED: DiskKind = DiskKind::Own { running: false };
const COPY: DiskKind = DiskKind::DataDir { running: false };
const ARCHIVE: DiskKind = DiskKind::Archive {
    created: Timestamp::UNIX_EPOCH,
};

fn evidence(members: Vec<MemberEvidence>, disks: Vec<DiskEvidence>) -> Evidence {
    Evidence {
        step: Step {
            from: release("2.2"),
            to: release("2.1"),
        },
        members,
        disks,
        offline: false,
    }
}

fn offline(members: u64, disks: Vec<DiskEvidence>) -> Evidence {
    let members = (1..=members).map(|id| stopped(id, "2.2")).collect();
    Evidence {
        offline: true,
        ..evidence(members, disks)
    }
}

/// Three members during an upgrade: the own one stopped, one of 2.2, one of 2.1.
const MIXED: &str = "1 stopped 2.2, 2 2.2.5/2.1.0 quorum, 3 2.1.3/2.1.0 quorum, own 1";

/// Evidence from its parts: members by their ids (`1 stopped 2.2`, `2 2.2.5/2.1.0 quorum` with the server's and the
/// cluster's version), [`data`], `offline N`, `mixed` for [`MIXED`]. A part replaces an earlier one of the same member, or
/// of the same own data dir.
fn scene(text: &str) -> Evidence {
    let mut found = evidence(Vec::new(), Vec::new());
    for part in text.replace("mixed", MIXED).split(", ") {
        let (about, rest) = part.split_once(' ').unwrap();
        let Ok(id) = about.parse() else {
            match about {
                "offline" => found = offline(rest.parse().unwrap(), found.disks),
                "from" => found.step.from = release(rest),
                "to" => found.step.to = release(rest),
                _ => {
                    let new = data(part);
                    let is_own = |disk: &DiskEvidence| matches!(disk.kind, DiskKind::Own { .. });
                    found.disks.retain(|old| {
                        !(is_own(old) && is_own(&new) && old.identity == new.identity)
                    });
                    found.disks.push(new);
                }
            }
            continue;
        };
        let new = match rest {
            "silent" => silent(id),
            "rubbish" => not_understood(id),
            "stopped rubbish" => MemberEvidence {
                stopped: stopped(id, "2.2").stopped,
                ..not_understood(id)
            },
            _ if rest.starts_with("stopped ") => stopped(id, &rest["stopped ".len()..]),
            _ => {
                let (versions, quorum) = rest.split_once(' ').unwrap_or((rest, ""));
                let (server, cluster) = versions.split_once('/').unwrap();
                let cluster = Some(cluster).filter(|said| *said != "-");
                says(id, server, cluster, quorum == "quorum")
            }
        };
        match found.members.iter_mut().find(|old| old.member.id.0 == id) {
            Some(old) => *old = new,
            None => found.members.push(new),
        }
    }
    found
}

/// What a data dir or an archive holds: `own`, `copy` or `archive`, with `running` or `dead` before it; the member; `at` its
/// last entry and the commit index, if these are not 343; and after `:` the cluster versions, if these are not 2.1.0:
/// `?` is behind one that is not committed, `*` behind one of a raft snapshot.
fn data(text: &str) -> DiskEvidence {
    let (head, versions) = text.split_once(": ").unwrap_or((text, "2.1.0"));
    let changes: Vec<_> = versions
        .split(' ')
        .map(|text| (text.trim_end_matches(['?', '*']), !text.ends_with('?')))
        .filter(|(text, _)| !text.is_empty())
        .collect();
    let (head, at) = head.split_once(" at ").unwrap_or((head, "343/343"));
    let (kind, id) = head.rsplit_once(' ').unwrap();
    let running = kind.starts_with("running");
    let kind_of = match kind.trim_start_matches("running ") {
        "own" => DiskKind::Own { running },
        "copy" => DiskKind::DataDir { running },
        "dead own" => STOPPED,
        "archive" | "dead archive" => ARCHIVE,
        _ => panic!("{text}"),
    };
    let mut found = disk(kind_of, id.parse().unwrap(), &changes);
    let (index, commit) = at.split_once('/').unwrap_or((at, at));
    found.position.index = Index(index.parse().unwrap());
    found.position.commit = Index(commit.parse().unwrap());
    if versions.ends_with('*') {
        found.versions[0].set_at = None;
    }
    if kind.starts_with("dead") {
        let why = || start::Verdict::DoesNotStart(start::reason::Reason::NoSnapDir);
        found.starts = Some(["2.0", "2.1", "2.2", "2.3"].map(|line| (release(line), why())));
    }
    found
}

/// A verdict in words.
fn words(verdict: &Verdict) -> String {
    let claims = |claims: &[Claim]| {
        let claim = claims.iter().map(|claim| {
            let at = claim.set_at.map(|at| format!(" at {at}"));
            let source = match claim.source {
                Source::Member(id) => format!("member {id}"),
                Source::Disk(number) => format!("disk {number}"),
            };
            format!("{source} {}{}", claim.version.0, at.unwrap_or_default())
        });
        claim.collect::<Vec<_>>().join(", ")
    };
    let doubt = |doubt: &Doubt| match doubt {
        Doubt::Between(version) => format!("Between {}", version.0),
        Doubt::NoMemberOf(release) => format!("NoMemberOf {release}"),
        Doubt::NoMemberBelow(release) => format!("NoMemberBelow {release}"),
        Doubt::NoMajority {
            given,
            needed,
            missing,
            has_archives,
        } => {
            let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
            let archives = if *has_archives { ", but archives" } else { "" };
            format!("{given} of {needed}, not {}{archives}", missing.join(" "))
        }
        Doubt::NotTheLast {
            committed,
            holders,
            needed,
        } => format!("{committed} is in {holders} of {needed}"),
        other => format!("{other:?}"),
    };
    let caution = |caution: &Caution| match caution {
        Caution::Silent(id) => format!("{id} is silent"),
        Caution::NotGiven(id) => format!("{id} is not given"),
        Caution::Behind {
            member,
            end,
            committed,
        } => format!("{member} ends at {end} before {committed}"),
    };
    match verdict {
        Verdict::Moved(found) => format!("moved: {}", claims(found)),
        Verdict::Moving { pending, all_ahead } => {
            let ahead = if *all_ahead { "all are ahead" } else { "" };
            format!("moving: {}{ahead}", claims(pending))
        }
        Verdict::DoesNotStart(found) => format!("{} does not start", found.len()),
        Verdict::Allowed(ground) => format!("allowed: {ground:?}"),
        Verdict::AllowedWithWarning(ground, cautions) => {
            let cautions: Vec<_> = cautions.iter().map(caution).collect();
            format!("allowed: {ground:?}, but {}", cautions.join(", "))
        }
        Verdict::NothingToGoBackFrom => "nothing to go back from".to_owned(),
        Verdict::Unknown(doubts) => {
            let doubts: Vec<_> = doubts.iter().map(doubt).collect();
            format!("unknown: {}", doubts.join(", "))
        }
    }
}

/// What is wrong with a line, if anything: a [`scene`], and after `->` its verdict in [`words`]; or a comment.
fn tell(line: &str) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let (found, expected) = line.split_once(" -> ").expect(line);
    let verdict = words(&decide(&scene(found)));
    (verdict != expected).then(|| format!("{line}\n but {verdict}"))
}

/// Stories of the table, row by row, line by line as [`tell`] takes them.
const STORIES: &str = r#"
row_1_anybody_who_says_2_2_refuses_whatever_the_others_say
    # A partitioned member's report is enough.
    mixed, 2 2.2.5/2.2.0 -> moved: member 2 2.2.0
    # A committed entry on any disk is enough, also in an archive, also under --offline.
    mixed, archive 3: 2.1.0 2.2.0 -> moved: disk 1 2.2.0 at 10
    mixed, 2 2.2.5/2.2.0, archive 3: 2.1.0 2.2.0 -> moved: member 2 2.2.0, disk 1 2.2.0 at 10
    offline 3, 2 2.2.5/2.2.0, archive 3: 2.1.0 2.2.0 -> moved: member 2 2.2.0, disk 0 2.2.0 at 10
    # A raft snapshot with the version does not tell which entry set it.
    1 stopped 2.2, own 1: 2.2.0* -> moved: disk 0 2.2.0
    # 2.3 is above 2.2, too.
    1 stopped 2.2, own 1: 2.3.0* -> moved: disk 0 2.3.0
row_2_an_uncommitted_entry_refuses_also_where_all_else_is_well
    mixed, own 1: 2.1.0 2.2.0? -> moving: disk 0 2.2.0 at 10
    1 stopped 2.2, own 1: 2.1.0 2.2.0? -> moving: disk 0 2.2.0 at 10
    offline 3, own 1: 2.1.0 2.2.0?, copy 2 -> moving: disk 0 2.2.0 at 10
    # An uncommitted entry of 2.1.0 does not count.
    1 stopped 2.1, own 1: 2.1.0? -> nothing to go back from
row_2_all_members_of_2_2_refuse_while_the_version_is_lower_or_undecided
    1 2.2.5/2.1.0 quorum -> moving: all are ahead
    mixed, 2 2.2.5/2.1.0 quorum, 3 2.3.8/2.1.0 -> moving: all are ahead
    mixed, 2 2.2.5/- quorum, 3 2.3.8/- -> moving: all are ahead
    # The own one ran 2.1: it has not been upgraded, and keeps the cluster version low.
    mixed, 1 stopped 2.1, 2 2.2.5/2.1.0 quorum, 3 2.3.8/2.1.0 -> allowed: QuorumRead
    mixed, 1 stopped 2.1, 2 2.2.5/- quorum, 3 2.3.8/- -> allowed: QuorumRead
    # One that does not answer may be of any release.
    mixed, 1 silent, 2 2.2.5/2.1.0 quorum, 3 2.3.8/2.1.0 -> unknown: NoMemberOf 2.1
    mixed, 1 silent, 2 2.2.5/- quorum, 3 2.3.8/- -> unknown: NoMemberOf 2.1
row_3_a_stopped_single_members_own_data_dir_is_the_whole_truth
    1 stopped 2.2, own 1 -> allowed: OwnDataDir
    # Refused if it runs and does not answer, if there is only an archive or a copy, and for another member.
    1 silent, running own 1 -> unknown: NoAnswer
    1 silent, copy 1 -> unknown: NoAnswer
    1 silent, archive 1 -> unknown: NoAnswer
    2 silent, own 1 -> unknown: NoAnswer
    # Refused with two members, although both together are a majority.
    1 stopped 2.2, 2 silent, own 1 -> unknown: NoAnswer
row_4_a_quorum_read_with_all_others_answering_allows
    mixed -> allowed: QuorumRead
    # One quorum read is enough; the third one's answer need not be current.
    mixed, 3 2.1.3/2.1.0 -> allowed: QuorumRead
    # Without its own data dir, all members answer.
    1 2.1.3/2.1.0 quorum, 2 2.2.5/2.1.0 quorum -> allowed: QuorumRead
row_5_a_silent_member_makes_it_a_warning
    mixed, 4 silent -> allowed: QuorumRead, but 4 is silent
    # The own member counts as silent if its disk could not be read.
    mixed, 1 silent, 4 silent -> allowed: QuorumRead, but 1 is silent, 4 is silent
row_6_a_cluster_that_was_never_so_far_has_nothing_to_go_back_from
    1 2.0.13/- quorum, 2 2.2.5/- quorum -> nothing to go back from
    1 2.0.13/2.0.0 quorum, 2 2.2.5/2.0.0 quorum -> nothing to go back from
    # Without a quorum read the answer may be out of date.
    1 2.0.13/-, 2 2.2.5/- -> unknown: NoQuorumRead([MemberId(1), MemberId(2)])
    1 2.0.13/2.0.0, 2 2.2.5/2.0.0 -> unknown: NoQuorumRead([MemberId(1), MemberId(2)])
    1 stopped 2.0, own 1:  -> nothing to go back from
    1 stopped 2.2, own 1:  -> unknown: NoMemberBelow 2.2
    1 2.2.5/2.0.0 quorum, 2 silent -> unknown: NoMemberBelow 2.2
row_7_unknown_is_no
    own 1 -> unknown: NoMembers
    1 stopped 2.2, 2 silent, 3 silent, own 1 -> unknown: NoAnswer
    # A partitioned member that still reports 2.1.
    mixed, 2 silent, 3 2.1.3/2.1.0 -> unknown: NoQuorumRead([MemberId(3)])
    # Those of 2.1 are silent: no member is known to keep the version low.
    mixed, 3 silent -> unknown: NoMemberOf 2.1
    # 2.2 lies between 2.3 and 2.1.
    mixed, from 2.3, 2 2.3.8/2.2.0 quorum -> unknown: Between 2.2.0
offline_the_data_of_a_majority_decide
    offline 3 -> unknown: 0 of 2, not 1 2 3
    offline 3, own 1 -> unknown: 1 of 2, not 2 3
    # The same member twice, and one that was removed.
    offline 3, own 1, copy 1 -> unknown: 1 of 2, not 2 3
    offline 3, own 1, copy 9 -> unknown: 1 of 2, not 2 3
    offline 3, own 1, copy 2 -> allowed: Majority, but 3 is not given
    offline 3, own 1, copy 2, copy 3 -> allowed: Majority
    # Two of four are not a majority.
    offline 4, own 1, copy 2 -> unknown: 2 of 3, not 3 4
    offline 3, own 1, copy 2: 2.1.0 2.2.0 -> moved: disk 1 2.2.0 at 10
offline_archives_never_open_the_gate_however_many_and_however_new
    offline 3, archive 1, archive 2, archive 3 -> unknown: 0 of 2, not 1 2 3, but archives
    offline 3, own 1, archive 2 at 400, archive 3 at 400 -> unknown: 1 of 2, not 2 3, but archives
    offline 1, archive 1 -> unknown: 0 of 1, not 1, but archives
    # With a majority of data dirs an archive only adds: they must have what it knows to be committed.
    offline 3, own 1, copy 2, copy 3, archive 3 at 300 -> allowed: Majority
    offline 3, own 1, copy 2, copy 3, archive 3 at 400 -> unknown: 400 is in 0 of 2
a_member_that_is_alone_is_spoken_for_by_no_other_members_data_dir
    1 stopped 2.2, own 1 -> allowed: OwnDataDir
    1 stopped 2.2, own 2 -> unknown: NoAnswer
    # Another one beside its own takes nothing away; nor does an archive that 2.1 does not start from.
    1 stopped 2.2, own 2, own 1, dead archive 1 -> allowed: OwnDataDir
    1 stopped 2.2, own 2, dead own 1 -> 1 does not start
an_answer_that_cannot_be_understood_is_unknown_and_unknown_is_no
    mixed, 4 rubbish -> unknown: NotUnderstood([MemberId(4)])
    # It does not hide other evidence.
    mixed, 2 2.2.5/2.2.0 quorum, 4 rubbish -> moved: member 2 2.2.0
    # The same at the address of this stopped member: alone, and with --offline.
    1 stopped rubbish, own 1 -> unknown: NotUnderstood([MemberId(1)])
    offline 1, 1 stopped rubbish, own 1 -> unknown: NotUnderstood([MemberId(1)])
offline_directories_that_cannot_be_the_last_ones_are_refused_and_one_that_is_behind_is_said
    # Copied one after the other in a rolling upgrade: entry 435 is committed, so two must have it.
    offline 3, copy 1 at 250, copy 2, copy 3 at 435 -> unknown: 435 is in 1 of 2
    # One that was removed holds nothing for the others.
    offline 3, copy 1 at 250, copy 2, copy 3 at 435, copy 9 at 435 -> unknown: 435 is in 1 of 2
    # The same, if the last one did not know yet that its last entries are committed.
    offline 3, copy 1 at 250, copy 2, copy 3 at 435/343 -> allowed: Majority, but 1 ends at 250 before 343
    # A member without a data dir here may have it.
    offline 3, copy 1 at 342, copy 2 -> allowed: Majority, but 1 ends at 342 before 343, 3 is not given
    # A second directory of the same member, with a longer log, is enough.
    offline 3, copy 1 at 250, copy 1, copy 2, copy 3 -> allowed: Majority
offline_a_member_that_runs_refutes_what_was_vouched_for
    offline 3, 3 2.1.3/2.1.0 quorum, own 1, copy 2 -> unknown: NotStopped([MemberId(3)])
    offline 3, own 1, running copy 2 -> unknown: RunsOn("/data/2")
other_releases_follow_the_same_table
    from 3.4, to 3.3, 1 3.3.1/3.3.0 quorum, 2 3.4.23/3.3.0 quorum -> allowed: QuorumRead
    from 3.4, to 3.3, 1 3.4.23/3.4.0, 2 3.4.23/3.3.0 quorum -> moved: member 1 3.4.0
"#;

#[test]
fn every_story_of_the_table_is_true() {
    let mut wrong = Vec::new();
    let mut story = "";
    for line in STORIES.trim().lines() {
        match line.strip_prefix("    ") {
            None => story = line,
            Some(line) => wrong.extend(tell(line).map(|why| format!("{story}: {why}"))),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_warning_refuses_under_strict() {
    let verdict = decide(&scene("mixed, 4 silent"));
    assert!(verdict.is_refusal(true) && !verdict.is_refusal(false));
}

/// A second implementation of the table for members that answer or not, with the own one's disk or not.
fn second_opinion(found: &Evidence) -> u8 {
    let text = |known: &MemberEvidence| match &known.answer {
        Ok(answer) => Some((
            format!("{}.{}", answer.server.major, answer.server.minor),
            match &answer.cluster {
                ReportedVersion::Is(said) => said.0.to_string(),
                _ => String::new(),
            },
            answer.quorum_read.is_ok(),
        )),
        Err(_) => None,
    };
    let answers: Vec<_> = found.members.iter().map(text).collect();
    let ran: Vec<_> = found
        .members
        .iter()
        .map(|m| m.stopped.map(|r| r.release.to_string()))
        .collect();
    let binary = |n: usize| {
        answers[n]
            .as_ref()
            .map(|a| a.0.clone())
            .or_else(|| ran[n].clone())
    };
    let binaries: Vec<_> = (0..answers.len()).map(binary).collect();
    let on_disk: Vec<_> = found
        .disks
        .iter()
        .flat_map(|d| {
            d.versions
                .iter()
                .map(|v| (v.version.0.to_string(), v.committed))
        })
        .collect();
    let said: Vec<String> = answers.iter().flatten().map(|a| a.1.clone()).collect();
    let committed = on_disk.iter().filter(|v| v.1).map(|v| v.0.clone());
    let best = said
        .iter()
        .cloned()
        .chain(committed)
        .max()
        .unwrap_or_default();
    let quorum = answers.iter().flatten().any(|a| a.2);
    let dir = found.disks.iter().any(|d| d.kind == STOPPED);
    if best == "2.2.0" {
        1
    } else if on_disk.iter().any(|v| v.0 == "2.2.0")
        || (answers.iter().any(Option::is_some)
            && binaries.iter().all(|b| b.as_deref() == Some("2.2")))
    {
        2
    } else if answers == [None] && ran[0].is_some() && dir && best == "2.1.0" {
        3
    } else if quorum && best == "2.1.0" && binaries.iter().any(|b| b.as_deref() == Some("2.1")) {
        if binaries.iter().all(Option::is_some) {
            4
        } else {
            5
        }
    } else if (quorum || (answers == [None] && ran[0].is_some() && dir))
        && best != "2.1.0"
        && binaries.iter().flatten().any(|b| b.as_str() < "2.2")
    {
        6
    } else {
        7
    }
}

fn row_of(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Moved(_) => 1,
        Verdict::Moving { .. } => 2,
        Verdict::DoesNotStart(_) => 8,
        Verdict::Allowed(Ground::OwnDataDir) => 3,
        Verdict::Allowed(_) => 4,
        Verdict::AllowedWithWarning(..) => 5,
        Verdict::NothingToGoBackFrom => 6,
        Verdict::Unknown(doubts) => {
            assert!(!doubts.is_empty(), "a refusal must say why");
            7
        }
    }
}

/// Every state of a member in the evidence.
fn states(id: u64) -> Vec<MemberEvidence> {
    let mut states = vec![silent(id)];
    for server in ["2.0.13", "2.1.3", "2.2.5"] {
        for cluster in [None, Some("2.0.0"), Some("2.1.0"), Some("2.2.0")] {
            states.extend([true, false].map(|quorum| says(id, server, cluster, quorum)));
        }
    }
    states
}

#[test]
fn every_combination_of_up_to_three_members_is_decided_as_a_second_statement_of_the_table_does() {
    let disks: [Versions; 4] = [
        &[],
        &[("2.1.0", true)],
        &[("2.1.0", true), ("2.2.0", false)],
        &[("2.1.0", true), ("2.2.0", true)],
    ];
    let mut own: Vec<(MemberEvidence, Option<Versions>)> =
        states(OWN).into_iter().map(|state| (state, None)).collect();
    for ran in ["2.0", "2.1", "2.2"] {
        own.extend(disks.map(|versions| (stopped(OWN, ran), Some(versions))));
    }
    let mut rows = [0_u32; 8];
    for (own, versions) in &own {
        for others in 0..=2 {
            for second in states(2)
                .iter()
                .take(if others == 0 { 1 } else { usize::MAX })
            {
                for third in states(3)
                    .iter()
                    .take(if others == 2 { usize::MAX } else { 1 })
                {
                    let members = [own, second, third];
                    let members = members[..=others].iter().map(|m| (*m).clone()).collect();
                    let disks = versions.map(|v| disk(STOPPED, OWN, v));
                    let found = evidence(members, disks.into_iter().collect());
                    let row = row_of(&decide(&found));
                    assert_eq!(row, second_opinion(&found), "{found:#?}");
                    rows[usize::from(row)] += 1;
                }
            }
        }
    }
    assert!(rows[1..].iter().all(|&met| met > 0), "{rows:?}");
}

#[test]
fn more_than_half_without_a_quorum_read_is_never_enough_however_many_members() {
    for size in 1..=7_u64 {
        for quorum in 0..=size {
            for silent_ones in 0..=size - quorum {
                let members = (1..=size).map(|id| {
                    if id <= quorum {
                        says(id, "2.1.3", Some("2.1.0"), true)
                    } else if id <= quorum + silent_ones {
                        silent(id)
                    } else {
                        says(id, "2.1.3", Some("2.1.0"), false)
                    }
                });
                let verdict = decide(&evidence(members.collect(), Vec::new()));
                let expected = match (quorum, silent_ones) {
                    (0, _) => 7,
                    (_, 0) => 4,
                    _ => 5,
                };
                assert_eq!(row_of(&verdict), expected, "{size} {quorum} {silent_ones}");
            }
        }
    }
}

#[test]
fn offline_every_choice_of_directories_of_up_to_seven_members_needs_more_than_half() {
    for size in 1..=7_u64 {
        for chosen in 0..1_u64 << size {
            let ids = (1..=size).filter(|id| chosen >> (id - 1) & 1 == 1);
            let disks: Vec<_> = ids.map(|id| disk(COPY, id, &[("2.1.0", true)])).collect();
            let (given, found) = (disks.len() as u64, offline(size, disks));
            let expected = if given == size {
                4
            } else if 2 * given > size {
                5
            } else {
                7
            };
            assert_eq!(row_of(&decide(&found)), expected, "{given} of {size}");
        }
    }
}
