//! A rolling upgrade, poll by poll.

use crate::upgrade::preflight::tests::*;
use crate::upgrade::preflight::watch::{Health, Part, Roll, UpgradeProgress};

fn at(second: i64) -> Timestamp {
    now()
        .checked_add(SignedDuration::from_secs(second))
        .unwrap()
}

fn changed(moment: &UpgradeProgress) -> Vec<u64> {
    moment.changed.iter().map(|id| id.0).collect()
}

#[test]
fn a_roll_is_over_when_every_member_and_the_cluster_are_there_and_not_before() {
    let mut roll = Roll::new(V2_2);
    let mut facts = good();
    let moment = roll.take(&facts.look, at(0));
    assert_eq!((changed(&moment), moment.done), (vec![1, 2, 3], false));
    for (number, second) in (0..3).zip(10..) {
        silence(&mut facts, number);
        let moment = roll.take(&facts.look, at(second));
        assert_eq!(changed(&moment), [number as u64 + 1]);
        assert!(!moment.done);
        facts.look.members[number] = well(number as u64);
        said(&mut facts, number).server_version = "2.2.5".parse().unwrap();
        let moment = roll.take(&facts.look, at(second + 10));
        assert_eq!(changed(&moment), [number as u64 + 1]);
        assert!(!moment.done, "the cluster version is still 2.1");
    }
    for number in 0..3 {
        assert!(!roll.take(&facts.look, at(30)).done);
        said(&mut facts, number).cluster_version = ReportedVersion::Is(version("2.2.0"));
    }
    assert!(roll.take(&facts.look, at(31)).done);
    silence(&mut facts, 1);
    assert!(!roll.take(&facts.look, at(32)).done, "one is down");
}

#[test]
fn how_long_a_member_has_been_down_is_counted_from_the_first_silent_look() {
    let mut roll = Roll::new(V2_2);
    let mut facts = good();
    let down = |moment: &UpgradeProgress| moment.members[1].down_since;
    assert_eq!(down(&roll.take(&facts.look, at(0))), None);
    silence(&mut facts, 1);
    assert_eq!(down(&roll.take(&facts.look, at(3))), Some(at(3)));
    let moment = roll.take(&facts.look, at(6));
    assert_eq!(down(&moment), Some(at(3)));
    assert!(!moment.is_news());
    assert_eq!(moment.members[1].health, Health::Down);
    assert!(moment.members[1].silence.is_some());
    facts.look.members[1] = well(1);
    assert_eq!(down(&roll.take(&facts.look, at(9))), None);
    silence(&mut facts, 1);
    assert_eq!(down(&roll.take(&facts.look, at(12))), Some(at(12)));
}

#[test]
fn a_position_that_goes_on_is_no_news_and_a_new_leader_is() {
    let mut roll = Roll::new(V2_2);
    let mut facts = good();
    roll.take(&facts.look, at(0));
    for number in 0..3 {
        said(&mut facts, number).quorum_read = Ok(Applied {
            raft_index: Index(40_000),
            raft_term: Term(3),
            etcd_index: 0,
        });
    }
    let moment = roll.take(&facts.look, at(3));
    assert!(!moment.is_news());
    assert_eq!(moment.members[0].raft_index, Some(Index(40_000)));
    said(&mut facts, 0).role = Some(Role {
        leads: false,
        leader: Some(MemberId(2)),
    });
    said(&mut facts, 1).role = Some(Role {
        leads: true,
        leader: Some(MemberId(2)),
    });
    let moment = roll.take(&facts.look, at(6));
    assert_eq!(changed(&moment), [1, 2]);
    assert_eq!(moment.members[1].role, Part::Leader);
}

#[test]
fn a_member_that_is_removed_meanwhile_is_told() {
    let mut roll = Roll::new(V2_2);
    let mut facts = good();
    roll.take(&facts.look, at(0));
    facts.look.members.pop();
    let moment = roll.take(&facts.look, at(3));
    assert!(moment.is_news());
    assert_eq!(moment.gone[0].name, "infra2");
    assert!(!Roll::new(V2_2).take(&ClusterState::default(), at(0)).done);
}

#[test]
fn health_is_told_apart_from_access_and_quorum() {
    let health = |change: fn(&mut MemberStatus)| {
        let mut facts = good();
        change(said(&mut facts, 0));
        crate::upgrade::preflight::watch::standings(&facts.look)[0].health
    };
    assert_eq!(health(|_| {}), Health::Healthy);
    assert_eq!(health(|said| said.healthy = None), Health::Unhealthy);
    let refused =
        |said: &mut MemberStatus| said.quorum_read = Err(ProbeError::NotAllowed { url: url(0) });
    assert_eq!(health(refused), Health::NoAccess);
    let none = |said: &mut MemberStatus| {
        said.quorum_read = Err(ProbeError::Refused {
            url: url(0),
            status: 503,
            message: String::new(),
        });
    };
    assert_eq!(health(none), Health::NoQuorum);
}
