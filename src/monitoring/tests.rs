//! Cases of `status` that the tests on disk cannot produce.

use super::growth::histories;
use super::scope::{in_every_cluster, is_called, others, watched};
use super::*;
use crate::archive::manifest::Scope;
use crate::archive::warning::WarningCode;
use crate::repository::ArchiveSummary;

fn now() -> Timestamp {
    Timestamp::from_second(1_440_000_000).unwrap()
}

/// An archive of 1000 bytes, made `hours` ago by a member of a cluster of two.
fn archive(name: &str, member: u64, hours: i64) -> ArchiveSummary {
    let created = now() - SignedDuration::from_hours(hours);
    let time = created.strftime("%Y%m%dT%H%M%S%.3fZ");
    let file = format!("etcd-{name}-{time}-0000000000000007.tar.zst");
    let mut summary = ArchiveSummary::sample(&file, created, member, 7);
    summary.identity.name = Some(name.to_owned());
    summary.members = vec![MemberId(0xa), MemberId(0xb)];
    summary
}

fn any(_: &ArchiveSummary) -> bool {
    true
}

fn facts(watched: Vec<(Watched, Verification)>, unreadable: Vec<Unreadable>) -> Facts {
    Facts {
        location: "/backups".to_owned(),
        now: now(),
        wanted: None,
        watched,
        unreadable,
        skipped: Vec::new(),
        free: Ok(None),
        read_only: false,
        others: Others::default(),
    }
}

/// The members of `archives`, each with the same verification.
fn all(archives: &[ArchiveSummary], proof: &Verification) -> Vec<(Watched, Verification)> {
    let watched = watched(archives, now(), &any).into_iter();
    watched.map(|one| (one, proof.clone())).collect()
}

const RULES: Thresholds = Thresholds {
    max_age: SignedDuration::from_hours(26),
    warn_age: None,
    size_limit: 100_000_000,
    min_free: None,
};

fn judged(archives: &[ArchiveSummary], free: Result<Option<u64>, String>) -> Report {
    let facts = facts(all(archives, &Verification::Whole), Vec::new());
    judge(&Facts { free, ..facts }, &RULES)
}

#[test]
fn how_much_fits_into_a_bucket_is_not_known_and_that_is_no_alarm() {
    let report = judged(&[archive("infra0", 0xa, 3)], Ok(None));
    assert_eq!(report.level, Level::Ok);
    assert!(
        report
            .findings
            .iter()
            .all(|finding| finding.check != "free")
    );
    let report = judged(&[archive("infra0", 0xa, 3)], Err("no answer".to_owned()));
    assert_eq!(report.level, Level::Unknown);
}

#[test]
fn room_is_counted_in_rounds_of_all_members() {
    let archives = [archive("infra0", 0xa, 3), archive("infra1", 0xb, 4)];
    let level = |free| judged(&archives, Ok(Some(free))).level;
    assert_eq!(level(20_000), Level::Ok);
    assert_eq!(level(19_999), Level::Warning);
    assert_eq!(level(4000), Level::Warning);
    assert_eq!(level(3999), Level::Critical);
}

#[test]
fn members_that_share_a_name_are_called_by_their_ids() {
    let archives = [archive("default", 0xa, 3), archive("default", 0xb, 30)];
    let report = judged(&archives, Ok(None));
    assert_eq!(report.level, Level::Critical);
    let names: Vec<_> = report.members.iter().map(|one| &*one.name).collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn the_name_of_an_archive_that_cannot_be_opened_tells_which_members_newest_it_is() {
    let own = watched(&[archive("node-1", 0xa, 3)], now(), &any).remove(0);
    let later = |name: &str, hours| own.is_newer_by_name(archive(name, 0xa, hours).name());
    assert!(later("node-1", 2));
    assert!(!later("node-1", 3));
    assert!(!later("node-1", 4));
    assert!(!later("node-2", 2));
    for odd in ["etcd-.tar.zst", "etcd-node-1-x-y.tar.zst", "node-1"] {
        assert!(!own.is_newer_by_name(odd), "{odd}");
    }
}

#[test]
fn a_newest_archive_that_could_not_be_read_is_unknown() {
    let name = |archive: ArchiveSummary, extension: &str| Unreadable {
        name: archive.listed.name + extension,
        why: "why".to_owned(),
        looked: true,
    };
    let archives = [archive("infra0", 0xa, 3)];
    let judged = |proof: Verification, unreadable: Vec<Unreadable>| {
        judge(&facts(all(&archives, &proof), unreadable), &RULES).level
    };
    let whole = |unreadable| judged(Verification::Whole, vec![unreadable]);
    assert_eq!(
        judged(Verification::Unread("no".to_owned()), Vec::new()),
        Level::Unknown
    );
    let newer = || archive("infra0", 0xa, 1);
    let mut unseen = name(newer(), "");
    unseen.looked = false;
    assert_eq!(whole(unseen), Level::Unknown);
    assert_eq!(whole(name(newer(), "")), Level::Critical);
    // An encrypted one without its sidecar is the newest anyway.
    assert_eq!(whole(name(newer(), ".age")), Level::Critical);
    let older = archive("infra0", 0xa, 9);
    assert_eq!(whole(name(older, "")), Level::Warning);
}

/// The findings about `watched`, at [`now`], with `unreadable` beside it.
fn findings_of(watched: Watched, proof: Verification, unreadable: Vec<Unreadable>) -> Vec<Finding> {
    let rules = Thresholds {
        warn_age: Some(SignedDuration::from_hours(20)),
        size_limit: 100,
        ..RULES
    };
    judge(&facts(vec![(watched, proof)], unreadable), &rules).findings
}

/// The findings about `watched`, which is whole.
fn of_whole(watched: Watched) -> Vec<Finding> {
    findings_of(watched, Verification::Whole, Vec::new())
}

fn level_of(findings: &[Finding], check: &str) -> Option<Level> {
    let found = findings.iter().find(|finding| finding.check == check);
    found.map(|finding| finding.level)
}

fn watched_one(hours: i64) -> Watched {
    watched(&[archive("infra0", 0xa, hours)], now(), &any).remove(0)
}

#[test]
fn an_age_and_a_size_at_the_limit_are_not_over_it() {
    // There must be no alarm each time that a nightly run takes as long as it may.
    let at = |hours, more_seconds| {
        let mut one = watched_one(hours);
        one.newest.created -= SignedDuration::from_secs(more_seconds);
        level_of(&of_whole(one), "age")
    };
    assert_eq!(at(20, 0), Some(Level::Ok));
    assert_eq!(at(20, 1), Some(Level::Warning));
    assert_eq!(at(26, 0), Some(Level::Warning));
    assert_eq!(at(26, 1), Some(Level::Critical));
    let of = |bytes| {
        let mut one = watched_one(1);
        one.newest.sizes.data = bytes;
        level_of(&of_whole(one), "data-size")
    };
    assert_eq!(of(100), Some(Level::Ok));
    assert_eq!(of(101), Some(Level::Warning));
}

#[test]
fn an_archive_that_cannot_be_opened_is_not_hidden_by_a_newest_one_that_is_bad() {
    let newer = Unreadable {
        name: archive("infra0", 0xa, 0).listed.name,
        why: "cut short".to_owned(),
        looked: true,
    };
    let bad = Verification::Bad {
        why: "frame 3".to_owned(),
        good: None,
    };
    let found = findings_of(watched_one(3), bad, vec![newer]);
    assert_eq!(
        level_of(&found, "unreadable"),
        Some(Level::Warning),
        "{found:#?}"
    );
}

#[test]
fn a_note_from_the_future_makes_no_archive_fresh() {
    // A clock that was ahead for one night must not suppress the alarm for as long.
    let aged = |current: SignedDuration| {
        let mut one = watched_one(40);
        one.current = Some(now() + current);
        level_of(&of_whole(one), "age")
    };
    assert_eq!(aged(-SignedDuration::from_hours(1)), Some(Level::Ok));
    assert_eq!(aged(SignedDuration::ZERO), Some(Level::Ok));
    assert_eq!(aged(SignedDuration::from_secs(1)), Some(Level::Critical));
}

fn text_of<'f>(findings: &'f [Finding], check: &str) -> Vec<&'f str> {
    let found = findings.iter().filter(|finding| finding.check == check);
    found.map(|finding| &*finding.text).collect()
}

#[test]
fn the_newest_is_the_last_that_is_not_from_the_future_in_whatever_order_they_come() {
    let [newest, older, oldest] = [1, 5, 9].map(|hours| archive("infra0", 0xa, hours));
    let mut ahead = archive("infra0", 0xa, -1);
    ahead.position.index = Index(9);
    let given = [oldest, ahead.clone(), newest.clone(), older];
    let found = watched(&given, now(), &any);
    assert_eq!(found[0].newest.created, newest.created);
    assert_eq!((found[0].older.len(), found[0].ahead.len()), (2, 1));
    let report = judged(&given, Ok(None));
    assert_eq!(report.members[0].archives, 4);
    assert_eq!(level_of(&report.findings, "dates"), Some(Level::Warning));
    // A clock may be five minutes ahead; where all are from the future the longest log counts.
    let mut skewed = newest;
    skewed.created = now() + SignedDuration::from_mins(5);
    assert!(watched(&[skewed], now(), &any)[0].ahead.is_empty());
    for (hours, longest) in [(-3, 9), (-3, 10), (0, 10)] {
        let mut other = archive("infra0", 0xa, hours - 1);
        other.position.index = Index(if longest == 9 { 8 } else { 10 });
        let given = [ahead.clone(), other];
        let found = watched(&given, now(), &any);
        assert_eq!(found[0].newest.position.index, Index(longest));
        let report = judged(&given, Ok(None));
        assert_eq!(report.level, Level::Critical);
        assert_eq!(level_of(&report.findings, "dates"), None);
    }
}

#[test]
fn members_of_the_newest_ones_cluster_are_watched_by_name_and_the_rest_is_counted() {
    let mut old_cluster = archive("infra0", 0xa, 30);
    old_cluster.identity.cluster_id = ClusterId(7);
    let mut damaged = archive("infra0", 0xa, 1);
    damaged.scope = Scope::Damaged;
    let mut rewound = archive("infra0", 0xa, 0);
    rewound.rewound = true;
    let removed = archive("gone", 0xc, 4);
    let given = [
        old_cluster,
        damaged,
        rewound,
        removed,
        archive("infra1", 0xa, 3),
        archive("infra0", 0xb, 2),
    ];
    let found = watched(&given, now(), &any);
    let names: Vec<_> = found.iter().map(|one| &*one.name).collect();
    assert_eq!(names, ["infra0", "infra1"]);
    assert!(found.iter().all(|one| one.older.is_empty()), "{found:?}");
    let counted = others(&given, &found);
    let expected = Others {
        clusters: 1,
        members: 1,
        damaged: 1,
        rewound: 1,
    };
    assert_eq!(counted, expected);
    // Where every one is removed the newest tells who the members are.
    let mut gone = [archive("gone", 0xc, 4), archive("away", 0xd, 3)];
    gone[1].members = vec![MemberId(0xe)];
    gone[0].members = vec![MemberId(0xf)];
    let names: Vec<_> = watched(&gone, now(), &any)
        .into_iter()
        .map(|one| one.name)
        .collect();
    assert_eq!(names, ["away"]);
}

#[test]
fn a_member_asked_for_by_name_is_the_one_that_was_not_removed() {
    let ids = |given: &[ArchiveSummary], wanted: &str| {
        let wanted = |one: &ArchiveSummary| is_called(&one.identity, Some(wanted));
        let mut found = [
            watched(given, now(), &wanted),
            in_every_cluster(given, now(), &wanted),
        ]
        .map(|found| {
            found
                .iter()
                .map(|one| one.newest.identity.member_id.0)
                .collect()
        });
        let [watched, newest]: &mut [Vec<u64>; 2] = &mut found;
        assert_eq!(watched, newest);
        std::mem::take(watched)
    };
    // infra0 lost its disk, was removed as 0xc and added as 0xa; the disk came back, and is backed up once more.
    let mut given = vec![
        archive("infra0", 0xc, 9),
        archive("infra0", 0xa, 3),
        archive("infra0", 0xc, 2),
        archive("infra1", 0xb, 1),
    ];
    assert_eq!(ids(&given, "infra0"), [0xa]);
    assert_eq!(ids(&given, "c"), [0xc]);
    // Without an archive of the new one, the removed one is what there is, and grows old.
    given.retain(|one| one.identity.member_id != MemberId(0xa));
    assert_eq!(ids(&given, "infra0"), [0xc]);
    // Two members may have one name.
    let two = [archive("infra0", 0xa, 2), archive("infra0", 0xb, 1)];
    assert_eq!(ids(&two, "infra0"), [0xa, 0xb]);
}

#[test]
fn a_member_removed_after_a_rewind_is_none_by_its_archives_from_before() {
    let mut before = archive("infra0", 0xc, 30);
    before.identity.cluster_id = ClusterId(7);
    before.members = vec![MemberId(0xb), MemberId(0xc)];
    let given = [before, archive("infra0", 0xc, 9), archive("infra0", 0xa, 3)];
    let found = in_every_cluster(&given, now(), &any);
    let ids: Vec<_> = found
        .iter()
        .map(|one| one.newest.identity.member_id)
        .collect();
    assert_eq!(ids, [MemberId(0xa)]);
}

#[test]
fn archives_that_are_no_backups_are_told_where_there_is_no_other() {
    let mut damaged = archive("infra0", 0xa, 1);
    damaged.scope = Scope::Damaged;
    let mut rewound = archive("infra0", 0xa, 0);
    rewound.rewound = true;
    let others = others(&[damaged, rewound.clone(), rewound], &[]);
    let facts = facts(Vec::new(), Vec::new());
    let report = judge(&Facts { others, ..facts }, &RULES);
    assert_eq!(report.level, Level::Critical);
    assert_eq!(
        text_of(&report.findings, "archives"),
        [
            "no backup in /backups, only 1 archive of a damaged data dir and 2 archives made by `rewind`"
        ]
    );
}

#[test]
fn what_else_is_wrong_with_the_newest_archive_is_told_once() {
    let warning = |code, text: &str| Warning {
        code,
        text: text.to_owned(),
    };
    let mut one = watched_one(3);
    one.newest.warnings = vec![
        warning(WarningCode::DoesNotStart, "does not start"),
        warning(WarningCode::Removed, "was removed"),
        warning(WarningCode::TornTail, "passes"),
    ];
    let found = of_whole(one.clone());
    assert_eq!(text_of(&found, "start"), [""; 0]);
    let told = [
        "newest archive warns: does not start",
        "newest archive warns: was removed",
    ];
    assert_eq!(text_of(&found, "warnings"), told);
    one.newest.does_not_start = Some("no etcd starts".to_owned());
    let found = of_whole(one);
    assert_eq!(level_of(&found, "start"), Some(Level::Critical));
    assert_eq!(text_of(&found, "warnings"), told[1..]);
    let bad = Verification::Bad {
        why: "why".to_owned(),
        good: None,
    };
    let mut one = watched_one(3);
    let found = findings_of(one.clone(), bad.clone(), Vec::new());
    assert!(
        text_of(&found, "proof")[0].ends_with("there is no older one"),
        "{found:?}"
    );
    one.older.push(archive("infra0", 0xa, 9));
    let found = findings_of(one, bad, Vec::new());
    assert!(
        text_of(&found, "proof")[0].ends_with("no older one is known to be valid"),
        "{found:?}"
    );
}

#[test]
fn an_archive_that_is_still_current_says_when_that_was_found() {
    let mut one = watched_one(40);
    let text = |one: &Watched| text_of(&of_whole(one.clone()), "age")[0].to_owned();
    assert!(!text(&one).contains("still current"), "{}", text(&one));
    one.current = Some(one.newest.created);
    assert!(!text(&one).contains("still current"), "{}", text(&one));
    one.current = Some(now());
    assert!(text(&one).contains("still current"), "{}", text(&one));
}

#[test]
fn the_first_of_several_that_cannot_be_opened_is_named_and_keys_of_other_programs_are() {
    let unreadable = |name: &str, hours| Unreadable {
        name: archive(name, 0xa, hours).listed.name,
        why: format!("{name} of {hours}"),
        looked: true,
    };
    let mut facts = Facts {
        skipped: vec!["a//b".to_owned()],
        free: Ok(Some(2500)),
        ..facts(
            Vec::new(),
            vec![unreadable("infra0", 8), unreadable("infra0", 9)],
        )
    };
    let rules = Thresholds {
        size_limit: 100,
        ..RULES
    };
    let found = judge(&facts, &rules).findings;
    assert!(found[0].text.contains("infra0 of 8"), "{found:?}");
    assert_eq!(level_of(&found, "skipped"), Some(Level::Ok));
    // Each member's own newest is told there, and only there.
    let archives = [archive("infra0", 0xa, 3), archive("infra1", 0xb, 3)];
    facts.watched = all(&archives, &Verification::Whole);
    facts.skipped.clear();
    facts.unreadable.push(unreadable("infra0", 1));
    let found = judge(&facts, &rules).findings;
    let told = text_of(&found, "unreadable");
    assert_eq!(
        told,
        ["2 archives cannot be opened, the first: infra0 of 8"]
    );
    assert_eq!(text_of(&found, "skipped"), [""; 0]);
    assert!(
        text_of(&found, "free")[0].ends_with("room for 1 archive of each member"),
        "{found:?}"
    );
    facts.watched.truncate(1);
    let found = judge(&facts, &rules).findings;
    assert!(
        text_of(&found, "free")[0].ends_with("room for 2 archives like the newest"),
        "{found:?}"
    );
}

#[test]
fn each_member_has_a_history_of_its_backups_in_the_order_of_the_log() {
    let dated = |name: &str, member, hours, index| {
        let mut one = archive(name, member, hours);
        one.position.index = Index(index);
        one
    };
    let mut rewound = dated("infra0", 0xa, 2, 11);
    rewound.rewound = true;
    let given = [
        dated("infra0", 0xa, 3, 9),
        dated("infra1", 0xb, 4, 9),
        dated("infra0", 0xa, -9, 10),
        rewound,
        dated("infra0", 0xa, 50, 8),
        dated("infra0", 0xa, 99, 8),
    ];
    let found = histories(&given, 1000, now());
    let ids: Vec<_> = found.iter().map(|one| one.identity.member_id.0).collect();
    assert_eq!(ids, [0xa, 0xb]);
    let hours = |point: &growth::Point| now().duration_since(point.at).as_hours();
    assert_eq!(
        found[0].points.iter().map(hours).collect::<Vec<_>>(),
        [99, 50, 3]
    );
    assert_eq!((found[0].left_out, found[1].left_out), (1, 0));
}
