//! The table, row by row, and every combination of members around a quorum, compared with a second
//! implementation of it that shares no code with the first.

use std::borrow::Borrow;

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

/// The data of member `id` of `members`, with versions as `(version, committed)`.
fn disk(kind: DiskKind, id: u64, members: u64, versions: &[(&str, bool)]) -> DiskEvidence {
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
        members: (1..=members).map(member).collect(),
        starts: None,
    }
}

const STOPPED: DiskKind = DiskKind::Own { running: false };
const COPY: DiskKind = DiskKind::DataDir { running: false };
const ARCHIVE: DiskKind = DiskKind::Archive {
    created: Timestamp::UNIX_EPOCH,
};

/// The data of member `id` of three, all of them committed up to their last entry `index`.
fn up_to(id: u64, index: u64) -> DiskEvidence {
    let mut found = disk(COPY, id, 3, &[("2.1.0", true)]);
    (found.position.index, found.position.commit) = (Index(index), Index(index));
    found
}

fn no_majority(given: usize, missing: &[u64], has_archives: bool) -> Verdict {
    Verdict::Unknown(vec![Doubt::NoMajority {
        given,
        needed: 2,
        missing: missing.iter().copied().map(MemberId).collect(),
        has_archives,
    }])
}

/// Some of the data are older copies: entry `committed` is in the logs of `holders` only.
fn not_the_last(committed: u64, holders: usize) -> Verdict {
    Verdict::Unknown(vec![Doubt::NotTheLast {
        committed: Index(committed),
        holders,
        needed: 2,
    }])
}

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
fn mixed() -> Evidence {
    let members = vec![
        stopped(OWN, "2.2"),
        says(2, "2.2.5", Some("2.1.0"), true),
        says(3, "2.1.3", Some("2.1.0"), true),
    ];
    evidence(members, vec![disk(STOPPED, OWN, 3, &[("2.1.0", true)])])
}

#[track_caller]
fn decides(found: &Evidence, verdict: impl Borrow<Verdict>) {
    assert_eq!(decide(found), *verdict.borrow(), "{found:#?}");
}

/// The verdict is that of this row of the table.
#[track_caller]
fn is_row(row: u8, found: &Evidence) {
    let verdict = decide(found);
    assert_eq!(row_of(&verdict), row, "{verdict:?} of {found:#?}");
}

#[test]
fn row_1_anybody_who_says_2_2_refuses_whatever_the_others_say() {
    // A partitioned member's report is enough.
    let mut found = mixed();
    found.members[1] = says(2, "2.2.5", Some("2.2.0"), false);
    let claim = |source, set_at| Claim {
        source,
        version: version("2.2.0"),
        set_at,
    };
    let by_member = claim(Source::Member(MemberId(2)), None);
    decides(&found, Verdict::Moved(vec![by_member.clone()]));
    // A committed entry on any disk is enough, also in an archive, also under --offline.
    let moved = [("2.1.0", true), ("2.2.0", true)];
    found.disks.push(disk(ARCHIVE, 3, 3, &moved));
    let by_disk = claim(Source::Disk(1), Some(Index(10)));
    decides(&found, Verdict::Moved(vec![by_member, by_disk.clone()]));
    found.offline = true;
    assert!(matches!(decide(&found), Verdict::Moved(claims) if claims.len() == 2));
    // A raft snapshot with the version does not tell which entry set it.
    let mut alone = evidence(
        vec![stopped(OWN, "2.2")],
        vec![disk(STOPPED, OWN, 1, &[("2.2.0", true)])],
    );
    alone.disks[0].versions[0].set_at = None;
    decides(&alone, Verdict::Moved(vec![claim(Source::Disk(0), None)]));
    // 2.3 is above 2.2, too.
    alone.disks[0].versions[0].version = version("2.3.0");
    is_row(1, &alone);
}

#[test]
fn row_2_an_uncommitted_entry_refuses_also_where_all_else_is_well() {
    let pending = [("2.1.0", true), ("2.2.0", false)];
    let claim = Claim {
        source: Source::Disk(0),
        version: version("2.2.0"),
        set_at: Some(Index(10)),
    };
    let moving = Verdict::Moving {
        pending: vec![claim],
        all_ahead: false,
    };
    let mut found = mixed();
    found.disks[0] = disk(STOPPED, OWN, 3, &pending);
    decides(&found, &moving);
    let alone = evidence(
        vec![stopped(OWN, "2.2")],
        vec![disk(STOPPED, OWN, 1, &pending)],
    );
    decides(&alone, &moving);
    let together = offline(
        3,
        vec![
            disk(STOPPED, OWN, 3, &pending),
            disk(COPY, 2, 3, &[("2.1.0", true)]),
        ],
    );
    decides(&together, &moving);
    // An uncommitted entry of 2.1.0 does not count.
    let early = evidence(
        vec![stopped(OWN, "2.1")],
        vec![disk(STOPPED, OWN, 1, &[("2.1.0", false)])],
    );
    decides(&early, Verdict::NothingToGoBackFrom);
}

#[test]
fn row_2_all_members_of_2_2_refuse_while_the_version_is_lower_or_undecided() {
    for said in [Some("2.1.0"), None] {
        let mut found = mixed();
        found.members[1] = says(2, "2.2.5", said, true);
        found.members[2] = says(3, "2.3.8", said, false);
        let moving = Verdict::Moving {
            pending: Vec::new(),
            all_ahead: true,
        };
        decides(&found, &moving);
        // The own one ran 2.1: it has not been upgraded, and keeps the cluster version low.
        found.members[0] = stopped(OWN, "2.1");
        assert_ne!(decide(&found), moving);
        // One that does not answer may be of any release.
        found.members[0] = silent(OWN);
        assert_ne!(decide(&found), moving);
    }
    let running = evidence(vec![says(OWN, "2.2.5", Some("2.1.0"), true)], Vec::new());
    assert!(matches!(
        decide(&running),
        Verdict::Moving {
            all_ahead: true,
            ..
        }
    ));
}

#[test]
fn row_3_a_stopped_single_members_own_data_dir_is_the_whole_truth() {
    let own = || disk(STOPPED, OWN, 1, &[("2.1.0", true)]);
    let alone = evidence(vec![stopped(OWN, "2.2")], vec![own()]);
    decides(&alone, Verdict::Allowed(Ground::OwnDataDir));
    // Refused if it runs and does not answer, if there is only an archive or a copy, and for another member.
    let unknown = |found: &Evidence| is_row(7, found);
    let mut running = evidence(vec![silent(OWN)], vec![own()]);
    running.disks[0].kind = DiskKind::Own { running: true };
    unknown(&running);
    for kind in [COPY, ARCHIVE] {
        let mut found = evidence(vec![silent(OWN)], vec![own()]);
        found.disks[0].kind = kind;
        unknown(&found);
    }
    unknown(&evidence(vec![silent(2)], vec![own()]));
    // Refused with two members, although both together are a majority.
    unknown(&evidence(vec![stopped(OWN, "2.2"), silent(2)], vec![own()]));
}

#[test]
fn row_4_a_quorum_read_with_all_others_answering_allows() {
    decides(&mixed(), Verdict::Allowed(Ground::QuorumRead));
    // One quorum read is enough; the third one's answer need not be current.
    let mut found = mixed();
    found.members[2] = says(3, "2.1.3", Some("2.1.0"), false);
    decides(&found, Verdict::Allowed(Ground::QuorumRead));
    // Without its own data dir, all members answer.
    let members = vec![
        says(1, "2.1.3", Some("2.1.0"), true),
        says(2, "2.2.5", Some("2.1.0"), true),
    ];
    decides(
        &evidence(members, Vec::new()),
        Verdict::Allowed(Ground::QuorumRead),
    );
}

#[test]
fn row_5_a_silent_member_makes_it_a_warning_which_refuses_under_strict() {
    let mut found = mixed();
    found.members.push(silent(4));
    let verdict = decide(&found);
    let caution = Caution::Silent(MemberId(4));
    assert_eq!(
        verdict,
        Verdict::AllowedWithWarning(Ground::QuorumRead, vec![caution])
    );
    assert!(verdict.is_refusal(true) && !verdict.is_refusal(false));
    // The own member counts as silent if its disk could not be read.
    found.members[0] = silent(OWN);
    assert!(
        matches!(decide(&found), Verdict::AllowedWithWarning(_, cautions) if cautions.len() == 2)
    );
}

#[test]
fn row_6_a_cluster_that_was_never_so_far_has_nothing_to_go_back_from() {
    for said in [None, Some("2.0.0")] {
        let members = vec![says(1, "2.0.13", said, true), says(2, "2.2.5", said, true)];
        decides(&evidence(members, Vec::new()), Verdict::NothingToGoBackFrom);
        // Without a quorum read the answer may be out of date.
        let members = vec![
            says(1, "2.0.13", said, false),
            says(2, "2.2.5", said, false),
        ];
        is_row(7, &evidence(members, Vec::new()));
    }
    let alone = |ran| evidence(vec![stopped(OWN, ran)], vec![disk(STOPPED, OWN, 1, &[])]);
    decides(&alone("2.0"), Verdict::NothingToGoBackFrom);
    let doubt = Doubt::NoMemberBelow(release("2.2"));
    let unknown = Verdict::Unknown(vec![doubt]);
    decides(&alone("2.2"), &unknown);
    let members = vec![says(1, "2.2.5", Some("2.0.0"), true), silent(2)];
    decides(&evidence(members, Vec::new()), unknown);
}

#[test]
fn row_7_unknown_is_no() {
    let unknown = |found: &Evidence, doubt: Doubt| decides(found, Verdict::Unknown(vec![doubt]));
    unknown(&evidence(Vec::new(), Vec::new()), Doubt::NoMembers);
    let own = vec![disk(STOPPED, OWN, 3, &[("2.1.0", true)])];
    let none_answers = vec![stopped(OWN, "2.2"), silent(2), silent(3)];
    unknown(&evidence(none_answers, own.clone()), Doubt::NoAnswer);
    // A partitioned member that still reports 2.1.
    let mut partitioned = mixed();
    partitioned.members[1] = silent(2);
    partitioned.members[2] = says(3, "2.1.3", Some("2.1.0"), false);
    unknown(&partitioned, Doubt::NoQuorumRead(vec![MemberId(3)]));
    // Those of 2.1 are silent: no member is known to keep the version low.
    let mut ahead = mixed();
    ahead.members[2] = silent(3);
    unknown(&ahead, Doubt::NoMemberOf(release("2.1")));
    // 2.2 lies between 2.3 and 2.1.
    let mut between = mixed();
    between.step.from = release("2.3");
    between.members[1] = says(2, "2.3.8", Some("2.2.0"), true);
    unknown(&between, Doubt::Between(version("2.2.0")));
}

#[test]
fn offline_the_data_of_a_majority_decide() {
    let at = |id| disk(COPY, id, 3, &[("2.1.0", true)]);
    let own = || disk(STOPPED, OWN, 3, &[("2.1.0", true)]);
    let too_few = |given, missing: &[u64]| no_majority(given, missing, false);
    decides(&offline(3, vec![]), too_few(0, &[1, 2, 3]));
    decides(&offline(3, vec![own()]), too_few(1, &[2, 3]));
    // Twice is once, and a removed member is none.
    decides(&offline(3, vec![own(), at(OWN)]), too_few(1, &[2, 3]));
    decides(&offline(3, vec![own(), at(9)]), too_few(1, &[2, 3]));
    let two = decide(&offline(3, vec![own(), at(2)]));
    let missing = vec![Caution::NotGiven(MemberId(3))];
    assert_eq!(two, Verdict::AllowedWithWarning(Ground::Majority, missing));
    let all = decide(&offline(3, vec![own(), at(2), at(3)]));
    assert_eq!(all, Verdict::Allowed(Ground::Majority));
    // Two of four are not a majority.
    let four = decide(&offline(4, vec![own(), at(2)]));
    assert!(
        matches!(four, Verdict::Unknown(doubts) if matches!(doubts[0], Doubt::NoMajority { needed: 3, .. }))
    );
    let moved = disk(COPY, 2, 3, &[("2.1.0", true), ("2.2.0", true)]);
    is_row(1, &offline(3, vec![own(), moved]));
}

#[test]
fn offline_archives_never_open_the_gate_however_many_and_however_new() {
    let archive = |id, last| DiskEvidence {
        kind: ARCHIVE,
        ..up_to(id, last)
    };
    let own = || disk(STOPPED, OWN, 3, &[("2.1.0", true)]);
    let too_few = |given, missing: &[u64]| no_majority(given, missing, true);
    let all = vec![archive(1, 343), archive(2, 343), archive(3, 343)];
    decides(&offline(3, all), too_few(0, &[1, 2, 3]));
    let one_dir = vec![own(), archive(2, 400), archive(3, 400)];
    decides(&offline(3, one_dir), too_few(1, &[2, 3]));
    assert!(decide(&offline(1, vec![archive(1, 343)])).is_refusal(false));
    // With a majority of data dirs an archive only adds: they must have what it knows to be committed.
    let dir = |id| disk(COPY, id, 3, &[("2.1.0", true)]);
    let older = offline(3, vec![own(), dir(2), dir(3), archive(3, 300)]);
    decides(&older, Verdict::Allowed(Ground::Majority));
    let newer = offline(3, vec![own(), dir(2), dir(3), archive(3, 400)]);
    decides(&newer, not_the_last(400, 0));
}

#[test]
fn offline_the_data_of_a_removed_member_hold_nothing_for_the_others() {
    // Entry 435 is in the log of one member and of one that was removed: that is not a majority.
    let ends = [(1, 250), (2, 343), (3, 435), (9, 435)];
    let disks = ends.map(|(id, index)| up_to(id, index)).into();
    decides(&offline(3, disks), not_the_last(435, 1));
}

#[test]
fn a_member_that_is_alone_is_spoken_for_by_no_other_members_data_dir() {
    let data_of = |id| vec![disk(STOPPED, id, 1, &[("2.1.0", true)])];
    let own = evidence(vec![stopped(OWN, "2.2")], data_of(OWN));
    decides(&own, Verdict::Allowed(Ground::OwnDataDir));
    let others = evidence(vec![stopped(OWN, "2.2")], data_of(2));
    decides(&others, Verdict::Unknown(vec![Doubt::NoAnswer]));
    // Another one beside its own takes nothing away; nor does an archive that 2.1 does not start from.
    let mut archive = disk(STOPPED, OWN, 1, &[("2.1.0", true)]);
    let lines = ["2.0", "2.1", "2.2", "2.3"].map(release);
    let why = || start::Verdict::DoesNotStart(start::reason::Reason::NoSnapDir);
    archive.starts = Some(lines.map(|line| (line, why())));
    let unfit = archive.clone();
    archive.kind = ARCHIVE;
    let disks = [data_of(2), data_of(OWN), vec![archive]].concat();
    let mut both = evidence(vec![stopped(OWN, "2.2")], disks);
    decides(&both, Verdict::Allowed(Ground::OwnDataDir));
    both.disks.push(unfit);
    assert!(matches!(decide(&both), Verdict::DoesNotStart(found) if found.len() == 1));
}

#[test]
fn an_answer_that_cannot_be_understood_is_unknown_and_unknown_is_no() {
    let mut found = mixed();
    found.members.push(silent(4));
    assert!(!decide(&found).is_refusal(false));
    found.members[3] = not_understood(4);
    let doubt = || Verdict::Unknown(vec![Doubt::NotUnderstood(vec![MemberId(4)])]);
    decides(&found, doubt());
    // It does not hide other evidence.
    found.members[1] = says(2, "2.2.5", Some("2.2.0"), true);
    is_row(1, &found);
    // The same at the address of this stopped member: alone, and with --offline.
    let in_place_of_own = MemberEvidence {
        stopped: stopped(OWN, "2.2").stopped,
        ..not_understood(OWN)
    };
    let own = disk(STOPPED, OWN, 1, &[("2.1.0", true)]);
    let alone = evidence(vec![in_place_of_own.clone()], vec![own.clone()]);
    let doubt = Verdict::Unknown(vec![Doubt::NotUnderstood(vec![MemberId(OWN)])]);
    decides(&alone, &doubt);
    let mut offline = offline(1, vec![own]);
    offline.members = vec![in_place_of_own];
    decides(&offline, doubt);
}

#[test]
fn offline_directories_that_cannot_be_the_last_ones_are_refused_and_one_that_is_behind_is_said() {
    let at = up_to;
    // Copied one after the other in a rolling upgrade: entry 435 is committed, so two must have it.
    decides(
        &offline(3, vec![at(1, 250), at(2, 343), at(3, 435)]),
        not_the_last(435, 1),
    );
    // The same, if the last one did not know yet that its last entries are committed.
    let mut last = at(3, 435);
    last.position.commit = Index(343);
    let behind = |end| Caution::Behind {
        member: MemberId(1),
        end: Index(end),
        committed: Index(343),
    };
    decides(
        &offline(3, vec![at(1, 250), at(2, 343), last]),
        Verdict::AllowedWithWarning(Ground::Majority, vec![behind(250)]),
    );
    // A member without a data dir here may have it.
    decides(
        &offline(3, vec![at(1, 342), at(2, 343)]),
        Verdict::AllowedWithWarning(
            Ground::Majority,
            vec![behind(342), Caution::NotGiven(MemberId(3))],
        ),
    );
    // A second directory of the same member, with a longer log, is enough.
    let all = vec![at(1, 250), at(1, 343), at(2, 343), at(3, 343)];
    decides(&offline(3, all), Verdict::Allowed(Ground::Majority));
}

#[test]
fn offline_a_member_that_runs_refutes_what_was_vouched_for() {
    let disks = || {
        vec![
            disk(STOPPED, OWN, 3, &[("2.1.0", true)]),
            disk(COPY, 2, 3, &[("2.1.0", true)]),
        ]
    };
    let mut answers = offline(3, disks());
    answers.members[2] = says(3, "2.1.3", Some("2.1.0"), true);
    decides(
        &answers,
        Verdict::Unknown(vec![Doubt::NotStopped(vec![MemberId(3)])]),
    );
    let mut locked = offline(3, disks());
    locked.disks[1].kind = DiskKind::DataDir { running: true };
    decides(
        &locked,
        Verdict::Unknown(vec![Doubt::RunsOn("/data/2".into())]),
    );
}

#[test]
fn other_releases_follow_the_same_table() {
    let members = vec![
        says(1, "3.3.1", Some("3.3.0"), true),
        says(2, "3.4.23", Some("3.3.0"), true),
    ];
    let mut found = evidence(members, Vec::new());
    found.step = Step {
        from: release("3.4"),
        to: release("3.3"),
    };
    decides(&found, Verdict::Allowed(Ground::QuorumRead));
    found.members[0] = says(1, "3.4.23", Some("3.4.0"), false);
    is_row(1, &found);
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
                    let disks = versions.map(|v| disk(STOPPED, OWN, others as u64 + 1, v));
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
            let disks: Vec<_> = ids
                .map(|id| disk(COPY, id, size, &[("2.1.0", true)]))
                .collect();
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
