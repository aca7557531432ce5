//! What the data dir holds.

use crate::etcd::start::reason::Reason;
use crate::etcd::start::{LINES, V2_0, V2_3, Verdict, Verdicts, Way};
use crate::upgrade::preflight::tests::*;

#[test]
fn faults_and_what_cannot_start_fail() {
    let facts = with(|facts| found(facts).faults.push("0.wal: bad".to_owned()));
    fails(&facts, "data-dir", &["0.wal: bad"]);
    let facts = with(|facts| {
        let data = found(facts);
        data.member = Err("there is no WAL".to_owned());
        data.replay = None;
        data.auth_enabled = None;
    });
    fails(&facts, "data-dir", &["no WAL"]);
    fails(&facts, "in-order", &["cannot be replayed"]);
    fails(&facts, "way-back", &["not checked"]);
    fails(&facts, "own-backup", &["not checked"]);
}

#[test]
fn the_data_dir_of_another_cluster_or_of_no_member_fails() {
    let other = with(|facts| facts.look.cluster_id = Some(ClusterId(0xbad)));
    fails(&other, "data-dir", &["another cluster"]);
    let none = with(|facts| {
        found(facts).member.as_mut().unwrap().identity.member_id = MemberId(77);
    });
    fails(&none, "data-dir", &["no such member"]);
    let removed = with(|facts| {
        let member = found(facts).member.as_mut().unwrap();
        member.removed_members.push(MemberId(1));
    });
    fails(&removed, "data-dir", &["removed"]);
}

#[test]
fn fifty_megabytes_advise_to_wait_and_a_hundred_fail_until_accepted() {
    let sized = |bytes| with(move |facts| found(facts).data_bytes = bytes);
    expect(&sized(50_000_000), "data-size", Status::Ok, &["50.0 MB"]);
    warns(&sized(50_000_001), "data-size", &["2 minutes"]);
    warns(&sized(100_000_000), "data-size", &["2 minutes"]);
    let over = sized(100_700_000);
    let words = ["100.7 MB", "--accept-data-size"];
    fails(&over, "data-size", &words);
    let mut accepted = over;
    accepted.rules.accept_data_size = true;
    warns(&accepted, "data-size", &["accepted", "2 minutes"]);
    let dir = with(|facts| found(facts).directory_bytes = 400_000_000);
    expect(&dir, "data-size", Status::Ok, &["only the directory"]);
}

#[test]
fn room_is_wanted_for_snapshots_segments_and_an_archive() {
    // 2 × 3 MB and 2 × 64 MB.
    let exactly = with(|facts| {
        found(facts).space.free = 134_000_000;
        found(facts).wal_space.free = 134_000_000;
    });
    expect(&exactly, "free-space", Status::Ok, &["134.0 MB wanted"]);
    let short = with(|facts| found(facts).space.free = 133_999_999);
    fails(&short, "free-space", &["free some space"]);
    let elsewhere = with(|facts| {
        found(facts).wal_space = Space { free: 1, device: 3 };
    });
    let words = ["1 B free for the WAL dir, 128.0 MB wanted"];
    fails(&elsewhere, "free-space", &words);
    let backups = with(|facts| archives(facts).space.as_mut().unwrap().free = 1000);
    fails(&backups, "free-space", &["backup dir"]);
    // On one filesystem the needs add up.
    let together = with(|facts| archives(facts).space.as_mut().unwrap().device = 1);
    expect(&together, "free-space", Status::Ok, &["201.0 MB wanted"]);
}

#[test]
fn posts_above_the_raft_snapshot_would_be_renamed() {
    let post = |applied, last| {
        with(move |facts| {
            let posts = &mut found(facts).replay.as_mut().unwrap().in_order;
            posts.posts = 5;
            posts.applied = applied;
            let directory = InOrderDirectory {
                posts: 5,
                first_index: Index(100),
                last_index: Index(last),
            };
            posts.directories.insert(b"/1/app/jobs".to_vec(), directory);
        })
    };
    let words = ["5 POSTs in the log, all below"];
    expect(&post(0, 20_000), "in-order", Status::Ok, &words);
    let facts = post(3, 25_000);
    let words = [
        "3 acknowledged keys",
        "/app/jobs/: the last POST is entry 25000, the raft snapshot is at 20002",
        "--snapshot-count",
    ];
    warns(&facts, "in-order", &words);
    // A member that runs 2.2 has renamed them already, and other releases use the same names.
    let mut done = post(3, 25_000);
    said(&mut done, 0).server_version = "2.2.5".parse().unwrap();
    // While others run 2.1, both name keys, each by its own rules.
    let words = ["5 POSTs in the log", "members run 2.1 and 2.2"];
    warns(&done, "in-order", &words);
    for member in 1..done.look.members.len() {
        said(&mut done, member).server_version = "2.2.5".parse().unwrap();
    }
    expect(&done, "in-order", Status::Ok, &["already"]);
    let mut later = post(3, 25_000);
    (later.rules.from, later.rules.to) = (V2_2, V2_2.next());
    expect(&later, "in-order", Status::Ok, &["alike"]);
}

#[test]
fn a_dedicated_wal_dir_is_no_trap_where_both_releases_have_the_flag() {
    let mut facts = with(|facts| found(facts).dedicated_wal = Some("/wal".into()));
    (facts.rules.from, facts.rules.to) = (V2_2, V2_2.next());
    expect(&facts, "wal-dir", Status::Ok, &[]);
}

/// Every release line starts from it, except those in `no`.
fn starts(no: &[(Release, Reason)]) -> Verdicts {
    LINES.map(|line| {
        let reason = no.iter().find(|(other, _)| *other == line);
        let verdict = reason.map(|(_, reason)| Verdict::DoesNotStart(reason.clone()));
        (line, verdict.unwrap_or(Verdict::Starts(Way::default())))
    })
}

#[test]
fn a_data_dir_from_which_either_release_of_the_upgrade_does_not_start_fails() {
    let dead = || Reason::HalfMember(MemberId(7));
    for line in [V2_1, V2_2] {
        let facts = with(|facts| found(facts).starts = Some(starts(&[(line, dead())])));
        let says = format!("etcd {line} does not start from it: member 7 has no readable");
        fails(&facts, "data-dir", &[&says, "do not restart"]);
    }
    // Other releases do not matter here, and another check reports that the cluster has moved.
    let facts = with(|facts| found(facts).starts = Some(starts(&[(V2_0, dead()), (V2_3, dead())])));
    assert_eq!(complaints(&facts), []);
    let moved = Reason::Downgrade { major: 2, minor: 3 };
    let facts = with(|facts| found(facts).starts = Some(starts(&[(V2_2, moved)])));
    assert_eq!(complaints(&facts), []);
}
