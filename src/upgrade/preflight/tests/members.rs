//! What the members answer.

use crate::upgrade::preflight::tests::*;

/// Makes a change to the facts, as `infra1 runs 2.2.5`; `none` and `unread` are what a server did not say.
fn change(facts: &mut Facts, text: &str) {
    let words: Vec<_> = text.split(' ').collect();
    let number = words[0].trim_start_matches("infra").parse().unwrap_or(0);
    let id = |text: &str| text.parse().ok().map(MemberId);
    let role = |leads, leader| Some(Role { leads, leader });
    let at = url(9);
    match words[1..] {
        ["runs", release] => said(facts, number).server_version = release.parse().unwrap(),
        ["is", "silent"] => silence(facts, number),
        ["is", "unknown"] => facts.look = ClusterState::default(),
        ["is", "alone"] => {
            facts.look.members.truncate(1);
            said(facts, 0).members = Some(vec![MemberId(1)]);
        }
        ["healthy", word] => said(facts, number).healthy = (word == "no").then_some(false),
        ["reads", "slowly"] => {
            said(facts, number).quorum_read = Err(ProbeError::TooSlow {
                url: at,
                after: std::time::Duration::from_secs(5),
            });
        }
        ["reads", "denied"] => {
            said(facts, number).quorum_read = Err(ProbeError::NotAllowed { url: at });
        }
        ["leads"] => said(facts, number).role = role(true, Some(MemberId(number as u64 + 1))),
        ["role", "unread"] => said(facts, number).role = None,
        ["follows", leader] => said(facts, number).role = role(false, id(leader)),
        ["lists", listed] => said(facts, number).members = id(listed).map(|id| vec![id]),
        ["cluster", "none"] => {
            said(facts, number).cluster_version = ReportedVersion::NotDecided;
        }
        ["cluster", "unread"] => said(facts, number).cluster_version = ReportedVersion::Unknown20,
        ["cluster", text] => {
            said(facts, number).cluster_version = ReportedVersion::Is(version(text));
        }
        ["logged", text] => found(facts)
            .member
            .as_mut()
            .unwrap()
            .versions
            .push(VersionChange {
                version: version(text),
                set_at: Some(Index(29_000)),
                committed: false,
            }),
        ["auth", word] => found(facts).auth_enabled = Some(word == "on"),
        ["is", "missing"] if words[0] == "backups" => facts.backups = Seen::NotGiven,
        ["is", "missing"] => facts.data = Seen::NotGiven,
        ["listed", "nowhere"] => facts.look.members.push(MemberState {
            named_by_cluster: false,
            said: Err(ProbeError::NoClientUrl),
            member: member(number as u64),
        }),
        ["leads_to", place] => facts.look.unknown_endpoints.push(UnknownEndpoint {
            endpoint: at.clone(),
            silence: match place.strip_prefix("cluster:") {
                Some(id) => ProbeError::OtherCluster {
                    url: at,
                    found: id.parse().unwrap(),
                },
                None if place == "plain_http" => ProbeError::Tls {
                    url: at,
                    why: "it hung up during the handshake".to_owned(),
                    wants_certificate: false,
                },
                None => ProbeError::Unreachable {
                    url: at,
                    why: "no such host".to_owned(),
                },
            },
        }),
        _ => panic!("{text}"),
    }
}

/// Checks line by line: changes to the facts, and after `->` what comes of each check named: its status and parts of its
/// evidence or advice, behind `|`. `only` names all checks that do not pass.
#[track_caller]
fn tell(lines: &str) {
    let lines = lines.lines().map(str::trim);
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (changes, results) = line.split_once(" -> ").unwrap();
        let facts = with(|facts| changes.split(", ").for_each(|text| change(facts, text)));
        for result in results.split("; ") {
            let mut parts = result.split(" | ");
            let head: Vec<_> = parts.next().unwrap().split(' ').collect();
            if head[0] == "only" {
                let complaints = complaints(&facts).into_iter();
                let ids: Vec<_> = complaints.map(|(id, _)| id).collect();
                assert_eq!(ids, head[1..], "{line}");
                continue;
            }
            let status = match head[0] {
                "FAIL" => Status::Fail,
                "WARN" => Status::Warn,
                "OK" => Status::Ok,
                _ => panic!("{line}"),
            };
            let words: Vec<_> = parts.collect();
            for id in &head[1..] {
                expect(&facts, id, status, &words);
            }
        }
    }
}

#[test]
fn every_member_must_run_2_1_and_within_a_roll_it_is_said_who_is_left_with_the_leader_last() {
    tell(
        "infra2 runs 2.0.13 -> FAIL versions | infra2 runs 2.0.13 | upgrade to 2.1 first
         infra1 runs 2.3.8 -> FAIL versions | infra1 runs 2.3.8
         infra2 runs 2.2.5 -> WARN versions | infra2 runs 2.2.5 | 1 of 3 members are upgraded | infra1, then infra0 (the leader)
         # It is too late even before the cluster version moves.
         infra0 runs 2.2.5, infra1 runs 2.2.5, infra2 runs 2.2.5 -> FAIL versions | downgrade check",
    );
}

#[test]
fn a_member_that_does_not_answer_fails_what_it_was_asked_and_if_none_does_nothing_passes() {
    tell(
        "infra1 is silent -> only versions health leader cluster-version; \
            FAIL versions | infra1 does not answer | connection refused; FAIL health leader cluster-version
         infra0 is silent, infra1 is silent, infra2 is silent -> FAIL versions | infra0 does not answer; \
            WARN health leader membership cluster-version | not checked: no member answered; \
            WARN data-dir | no member answers
         cluster is unknown, endpoint leads_to plain_http -> FAIL versions | pass its URL as `http://…` | if they have no TLS
         cluster is unknown, endpoint leads_to nowhere -> FAIL versions | --timeout if they are far away
         cluster is unknown -> FAIL versions | no endpoint is known; \
            WARN health leader membership cluster-version all-backups | not checked: no member answered",
    );
}

#[test]
fn health_and_a_quorum_read_are_asked_of_every_member_not_of_one() {
    tell(
        "infra2 healthy no -> FAIL health | infra2 says
         infra2 healthy unread -> FAIL health | infra2 | /health
         infra1 reads slowly -> FAIL health | infra1 answered no quorum
         infra1 reads denied -> FAIL health | --username; WARN auth | requires authentication",
    );
}

#[test]
fn a_leader_is_one_that_says_so_and_that_all_others_follow() {
    tell(
        "infra2 leads -> FAIL leader | infra0 and infra1 | infra2 says that it leads
         infra1 follows none -> FAIL leader | infra1 knows no leader
         infra1 role unread -> FAIL leader | /v2/stats/self
         infra0 follows 1 -> FAIL leader
         infra0 follows 9, infra1 follows 9, infra2 follows 9 -> FAIL leader | 9, which is not a member",
    );
}

#[test]
fn members_and_endpoints_that_do_not_fit_together_are_told() {
    tell(
        "infra1 lists 2 -> FAIL membership | infra1 lists
         infra1 lists unread -> FAIL membership | /v2/members
         endpoint leads_to cluster:dead -> FAIL membership data-dir | dead
         endpoint leads_to nothing -> WARN membership | no such host
         # One that only the files know is not asked for more.
         infra7 listed nowhere -> only membership; WARN membership | infra7
         infra0 is alone -> OK membership | single member; OK leader | the only member",
    );
}

#[test]
fn one_cluster_version_of_2_1_passes_and_nothing_else() {
    tell(
        "infra1 cluster none -> FAIL cluster-version | not decided yet, says infra1
         infra1 cluster unread -> FAIL cluster-version | 2.0
         infra1 cluster 2.0.0 -> FAIL cluster-version | 2.0.0, says infra1
         infra1 cluster 2.2.0 -> FAIL cluster-version | 2.2.0, says infra1 | cannot go back to 2.1 one by one
         # A move that only the disk knows of.
         infra0 logged 2.2.0 -> FAIL cluster-version | entry 29000 | not known to be committed",
    );
}

#[test]
fn the_store_says_whether_auth_is_on_and_nothing_else_can() {
    tell(
        "data auth on -> WARN auth | staging
         data is missing -> WARN auth | --data-dir",
    );
}

#[test]
fn what_was_not_given_is_never_ok() {
    tell(
        "data is missing -> \
            only data-dir data-size free-space own-backup in-order wal-dir way-back auth; \
            WARN data-size free-space own-backup in-order wal-dir way-back auth; WARN data-dir | give --data-dir
         backups is missing -> only own-backup all-backups way-back; \
            WARN all-backups way-back; WARN own-backup | give --backup-dir",
    );
}
