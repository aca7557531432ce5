//! What the members answer.

use crate::upgrade::preflight::tests::*;

#[test]
fn a_member_below_2_1_must_be_upgraded_to_2_1_first() {
    let facts = with(|facts| said(facts, 2).server_version = "2.0.13".parse().unwrap());
    let words = ["infra2 runs 2.0.13", "upgrade to 2.1 first"];
    fails(&facts, "versions", &words);
}

#[test]
fn a_member_past_2_2_is_out_of_this_checklist() {
    let facts = with(|facts| said(facts, 1).server_version = "2.3.8".parse().unwrap());
    fails(&facts, "versions", &["infra1 runs 2.3.8"]);
}

#[test]
fn within_a_roll_it_is_said_who_is_left_and_the_leader_comes_last() {
    let facts = with(|facts| said(facts, 2).server_version = "2.2.5".parse().unwrap());
    let words = [
        "infra2 runs 2.2.5",
        "1 of 3 members are upgraded",
        "infra1, then infra0 (the leader)",
    ];
    warns(&facts, "versions", &words);
}

#[test]
fn when_all_run_2_2_it_is_too_late_even_before_the_cluster_version_moves() {
    let facts = with(|facts| {
        for number in 0..3 {
            said(facts, number).server_version = "2.2.5".parse().unwrap();
        }
    });
    fails(&facts, "versions", &["downgrade check"]);
}

#[test]
fn a_member_that_does_not_answer_fails_what_it_was_asked() {
    let facts = with(|facts| silence(facts, 1));
    let expected = ["versions", "health", "leader", "cluster-version"];
    assert_eq!(complaints(&facts), expected.map(|id| (id, Status::Fail)));
    let words = ["infra1 does not answer", "connection refused"];
    fails(&facts, "versions", &words);
}

#[test]
fn if_no_member_answers_nothing_about_the_cluster_passes() {
    let facts = with(|facts| (0..3).for_each(|number| silence(facts, number)));
    fails(&facts, "versions", &["infra0 does not answer"]);
    for id in ["health", "leader", "membership", "cluster-version"] {
        warns(&facts, id, &["not checked: no member answered"]);
    }
    warns(&facts, "data-dir", &["no member answers"]);
}

#[test]
fn if_no_member_is_known_nothing_about_the_cluster_passes() {
    let facts = with(|facts| facts.look = ClusterState::default());
    fails(&facts, "versions", &["no endpoint is known"]);
    for id in [
        "health",
        "leader",
        "membership",
        "cluster-version",
        "all-backups",
    ] {
        warns(&facts, id, &["not checked: no member answered"]);
    }
}

#[test]
fn health_is_asked_of_every_member_not_of_one() {
    let facts = with(|facts| said(facts, 2).healthy = Some(false));
    fails(&facts, "health", &["infra2 says"]);
    let facts = with(|facts| said(facts, 2).healthy = None);
    fails(&facts, "health", &["infra2", "/health"]);
}

#[test]
fn a_healthy_member_without_a_quorum_is_not_healthy() {
    let facts = with(|facts| {
        said(facts, 1).quorum_read = Err(ProbeError::TooSlow {
            url: url(1),
            after: std::time::Duration::from_secs(5),
        });
    });
    fails(&facts, "health", &["infra1 answered no quorum"]);
}

#[test]
fn a_quorum_read_that_wants_a_user_is_no_quorum_read() {
    let facts = with(|facts| {
        said(facts, 1).quorum_read = Err(ProbeError::NotAllowed { url: url(1) });
    });
    fails(&facts, "health", &["--username"]);
    warns(&facts, "auth", &["requires authentication"]);
}

#[test]
fn two_who_say_that_they_lead_are_no_leader() {
    let facts = with(|facts| {
        said(facts, 2).role = Some(Role {
            leads: true,
            leader: Some(MemberId(3)),
        });
    });
    let words = ["infra0 and infra1", "infra2 says that it leads"];
    fails(&facts, "leader", &words);
}

#[test]
fn a_leader_that_one_member_does_not_know_fails() {
    let facts = with(|facts| {
        said(facts, 1).role = Some(Role {
            leads: false,
            leader: None,
        });
    });
    fails(&facts, "leader", &["infra1 knows no leader"]);
    let facts = with(|facts| said(facts, 1).role = None);
    fails(&facts, "leader", &["/v2/stats/self"]);
}

#[test]
fn a_leader_that_all_follow_and_that_does_not_lead_fails() {
    let facts = with(|facts| said(facts, 0).role.as_mut().unwrap().leads = false);
    fails(&facts, "leader", &[]);
    let facts = with(|facts| {
        for number in 0..3 {
            said(facts, number).role = Some(Role {
                leads: false,
                leader: Some(MemberId(9)),
            });
        }
    });
    fails(&facts, "leader", &["9, which is not a member"]);
}

#[test]
fn members_that_list_different_members_fail() {
    let facts = with(|facts| said(facts, 1).members = Some(vec![MemberId(2)]));
    fails(&facts, "membership", &["infra1 lists"]);
    let facts = with(|facts| said(facts, 1).members = None);
    fails(&facts, "membership", &["/v2/members"]);
}

#[test]
fn an_endpoint_of_another_cluster_fails_and_one_that_leads_nowhere_warns() {
    let stray = |facts: &mut Facts, silence| {
        let endpoint = url(9);
        facts
            .look
            .unknown_endpoints
            .push(UnknownEndpoint { endpoint, silence });
    };
    let facts = with(|facts| {
        let found = ClusterId(0xdead);
        stray(facts, ProbeError::OtherCluster { url: url(9), found });
    });
    fails(&facts, "membership", &["dead"]);
    fails(&facts, "data-dir", &["dead"]);
    let facts = with(|facts| {
        let why = "no such host".to_owned();
        stray(facts, ProbeError::Unreachable { url: url(9), why });
    });
    warns(&facts, "membership", &["no such host"]);
}

#[test]
fn a_member_that_only_the_files_know_warns_and_is_not_asked_for_more() {
    let facts = with(|facts| {
        facts.look.members.push(MemberState {
            named_by_cluster: false,
            said: Err(ProbeError::NoClientUrl),
            member: member(7),
        });
    });
    assert_eq!(complaints(&facts), [("membership", Status::Warn)]);
    warns(&facts, "membership", &["infra7"]);
}

#[test]
fn small_clusters_are_told_what_a_restart_means() {
    let facts = with(|facts| {
        facts.look.members.truncate(1);
        said(facts, 0).members = Some(vec![MemberId(1)]);
    });
    expect(&facts, "membership", Status::Ok, &["single member"]);
    expect(&facts, "leader", Status::Ok, &["the only member"]);
}

#[test]
fn one_cluster_version_of_2_1_passes_and_nothing_else() {
    let say = |version| with(|facts| said(facts, 1).cluster_version = version);
    let words = ["not decided yet, says infra1"];
    fails(&say(ReportedVersion::NotDecided), "cluster-version", &words);
    fails(
        &say(ReportedVersion::Unknown20),
        "cluster-version",
        &["2.0"],
    );
    let low = say(ReportedVersion::Is(version("2.0.0")));
    fails(&low, "cluster-version", &["2.0.0, says infra1"]);
    let moved = say(ReportedVersion::Is(version("2.2.0")));
    let words = ["2.2.0, says infra1", "cannot go back to 2.1 one by one"];
    fails(&moved, "cluster-version", &words);
}

#[test]
fn a_move_that_only_the_disk_knows_of_fails() {
    let facts = with(|facts| {
        let member = found(facts).member.as_mut().unwrap();
        member.versions.push(VersionChange {
            version: version("2.2.0"),
            set_at: Some(Index(29_000)),
            committed: false,
        });
    });
    let words = ["entry 29000", "not known to be committed"];
    fails(&facts, "cluster-version", &words);
}

#[test]
fn the_store_says_whether_auth_is_on_and_nothing_else_can() {
    let facts = with(|facts| found(facts).auth_enabled = Some(true));
    warns(&facts, "auth", &["staging"]);
    let facts = with(|facts| facts.data = Seen::NotGiven);
    warns(&facts, "auth", &["--data-dir"]);
}
