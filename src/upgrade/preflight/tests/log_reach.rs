//! How long the local log reaches back.

use crate::upgrade::preflight::log_reach::{Goes, Interval, WayBack, way_back};
use crate::upgrade::preflight::tests::*;

/// A member with a log from the first entry to `last`.
fn short(last: u64) -> MemberFacts {
    let mut member = member_facts();
    member.position.index = Index(last);
    member.position.commit = Index(last);
    member.segments = vec![segment(0, 1, last, 6_000_000)];
    member
}

fn reach(member: &MemberFacts, snapshots: &[u64]) -> WayBack {
    let snapshots: Vec<_> = snapshots.iter().copied().map(snapshot).collect();
    way_back(member, &snapshots, pace().rate(), now()).unwrap()
}

#[test]
fn the_fifth_raft_snapshot_after_the_newest_takes_it_away() {
    let found = reach(&member_facts(), &[10_001, 20_002]);
    assert_eq!(found.gone_from, Index(20_002 + 5 * 10_001));
    assert_eq!(found.goes_first, Goes::RaftSnapshot);
    assert_eq!(found.interval, Interval::Measured);
    // 40,007 entries at two a second.
    let in_seconds = found.expected.unwrap().duration_since(now()).as_secs();
    assert_eq!(in_seconds, 20_003);
}

#[test]
fn a_raft_snapshot_that_the_leader_sent_does_not_pass_for_the_usual_distance() {
    let found = reach(&short(5250), &[46, 5000, 5101, 5202]);
    assert_eq!(found.entries_per_raft_snapshot, 101);
    assert_eq!(found.interval, Interval::Measured);
}

#[test]
fn one_raft_snapshot_tells_no_distance_so_the_default_is_taken_and_said() {
    let found = reach(&member_facts(), &[20_002]);
    assert_eq!(found.interval, Interval::Default);
    assert_eq!(found.gone_from, Index(20_002 + 5 * 10_001));
}

#[test]
fn one_raft_snapshot_far_below_the_default_shows_after_how_many_entries_it_was_made() {
    let found = reach(&short(150), &[101]);
    assert_eq!(found.interval, Interval::Measured);
    assert_eq!(found.entries_per_raft_snapshot, 101);
}

#[test]
fn a_low_count_of_an_earlier_start_is_not_the_distance_of_now() {
    // The guide's restart with --snapshot-count 10, then one with the default: no raft snapshot since 315.
    let found = reach(&short(693), &[282, 293, 304, 315]);
    assert_eq!(found.interval, Interval::AtLeast);
    assert_eq!(found.entries_per_raft_snapshot, 378);
    assert_eq!(found.gone_from, Index(315 + 5 * 378));
    let facts = with(|facts| {
        let data = crate::upgrade::preflight::tests::found(facts);
        data.raft_snapshots = [282, 293, 304, 315].map(snapshot).to_vec();
        data.member = Ok(short(693));
    });
    let words = [
        "rewound until at least index 2205",
        "in at least 13 minutes",
        "has made none in the last 378 entries",
    ];
    expect(&facts, "way-back", Status::Ok, &words);
}

#[test]
fn the_index_of_the_raft_snapshot_that_a_rewind_or_a_leader_made_is_no_distance() {
    let mut member = short(500);
    member.segments = vec![segment(0, 327, 500, 30_000)];
    let found = reach(&member, &[326]);
    assert_eq!(found.interval, Interval::Default);
    assert_eq!(found.gone_from, Index(326 + 5 * 10_001));
}

#[test]
fn more_entries_than_the_default_without_a_raft_snapshot_are_a_bound_too() {
    let found = reach(&member_facts(), &[5000]);
    assert_eq!(found.interval, Interval::AtLeast);
    assert_eq!(found.gone_from, Index(5000 + 5 * 25_000));
}

#[test]
fn large_entries_fill_segments_before_snapshots_come() {
    let mut member = member_facts();
    // 20 kB an entry: 64 MB are 3,200 entries.
    member.segments = vec![
        segment(7, 23_601, 26_800, 64_000_000),
        segment(8, 26_801, 30_000, 64_000_000),
    ];
    let found = reach(&member, &[15_001, 25_002]);
    // Segment 7 goes when segment 12 is begun: 9, 10 and 11 are full then.
    assert_eq!(found.goes_first, Goes::Segment);
    assert_eq!(found.gone_from, Index(30_000 + 3 * 3200));
}

#[test]
fn without_a_raft_snapshot_the_first_segment_is_the_way_back() {
    let found = reach(&member_facts(), &[]);
    assert_eq!(found.newest_raft_snapshot, None);
    assert_eq!(found.goes_first, Goes::Segment);
    // 200 bytes an entry; segments 0 to 4 hold 320 MB.
    assert_eq!(found.gone_from, Index(320_000_000 / 200));
}

#[test]
fn a_log_without_times_is_said_to_tell_none() {
    let snapshots = [snapshot(10_001), snapshot(20_002)];
    let found = way_back(&member_facts(), &snapshots, None, now()).unwrap();
    assert_eq!(found.expected, None);
    let facts = with(|facts| found_replay(facts).pace = Pace::default());
    expect(&facts, "way-back", Status::Ok, &["cannot be told", "70007"]);
}

fn found_replay(facts: &mut Facts) -> &mut ReplayFacts {
    crate::upgrade::preflight::tests::found(facts)
        .replay
        .as_mut()
        .unwrap()
}

#[test]
fn the_check_names_index_time_and_the_archive_that_stays() {
    let words = [
        "changed now, at index 30000",
        "index 70007",
        "in 5.6 hours",
        "2015-10-01 17:33:23 UTC",
        "2.0 entries a second",
        "the archive (up to index 30000) remains",
    ];
    expect(&good(), "way-back", Status::Ok, &words);
}

#[test]
fn once_the_cluster_has_moved_no_new_archive_is_said_to_lead_back() {
    let facts = with(|facts| {
        said(facts, 0).cluster_version = ReportedVersion::Is(version("2.2.0"));
        facts.backups = Seen::Found(Backups {
            dir: PathBuf::from("/backup"),
            newest: Vec::new(),
            unreadable: Vec::new(),
            space: Some(Space::default()),
        });
    });
    for id in ["own-backup", "all-backups"] {
        let words = ["an archive taken now cannot take it back to 2.1"];
        fails(&facts, id, &words);
    }
    let words = ["the cluster has moved", "`etcd-ark downgrade check`"];
    fails(&facts, "way-back", &words);
}

#[test]
fn a_cluster_of_one_is_told_that_it_has_no_mixed_phase() {
    let facts = with(|facts| facts.look.members.truncate(1));
    let words = ["a cluster of one moves within seconds of its first start with 2.2"];
    expect(&facts, "way-back", Status::Ok, &words);
}
