//! Which archives are kept when clocks, disks and members fail.

mod properties;
mod two_years;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use jiff::{SignedDuration, Timestamp};

use super::{
    CLOCK_TOLERANCE, Decision, EmptyPolicy, Policy, Proof, Reason, RetentionRules, decide,
};
use crate::etcd::ids::{MemberId, Term};
use crate::interrupt::{Interrupt, Interrupted};
use crate::repository::ArchiveSummary;

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// An archive of the first member, of version 2.1.0.
fn archive(name: &str, created: &str, index: u64) -> ArchiveSummary {
    at(name, created.parse().unwrap(), index)
}

fn at(name: &str, created: Timestamp, index: u64) -> ArchiveSummary {
    version(ArchiveSummary::sample(name, created, 0xa, index), "2.1.0")
}

fn version(mut summary: ArchiveSummary, text: &str) -> ArchiveSummary {
    summary.cluster_version = Some(text.parse().unwrap());
    summary
}

fn pending(mut summary: ArchiveSummary, text: &str) -> ArchiveSummary {
    summary.pending_version = Some(text.parse().unwrap());
    summary
}

/// One archive a day from 1 January 2015 at noon, named `d1` and so on.
fn days(count: i64) -> Vec<ArchiveSummary> {
    let start: Timestamp = "2015-01-01T12:00:00Z".parse().unwrap();
    let day = |n: i64| start + DAY * i32::try_from(n - 1).unwrap();
    (1..=count)
        .map(|n| at(&format!("d{n}"), day(n), n.unsigned_abs() * 100))
        .collect()
}

/// Rules as text, such as `last 2, within 25h, label x`.
fn policy(text: &str) -> Policy {
    let mut rules = RetentionRules::default();
    for rule in text.split(", ") {
        let (name, value) = rule.split_once(' ').unwrap();
        let count = || Some(value.parse::<NonZeroU32>().unwrap());
        match name {
            "last" => rules.last = count(),
            "hourly" => rules.hourly = count(),
            "daily" => rules.daily = count(),
            "weekly" => rules.weekly = count(),
            "monthly" => rules.monthly = count(),
            "yearly" => rules.yearly = count(),
            "within" => {
                let (number, unit) = value.split_at(value.len() - 1);
                let unit = if unit == "d" { DAY } else { HOUR };
                rules.within = Some(unit * number.parse::<i32>().unwrap());
            }
            "label" => rules.labels.push(value.to_owned()),
            _ => panic!("{text}"),
        }
    }
    Policy::try_from(rules).unwrap()
}

/// A day after the newest archive.
fn later(summaries: &[ArchiveSummary]) -> Timestamp {
    summaries.iter().map(|s| s.created).max().unwrap() + DAY
}

fn decided<'s>(
    summaries: &'s [ArchiveSummary],
    policy: &Policy,
    now: Timestamp,
    bad: &[&str],
) -> Vec<Decision<'s>> {
    let mut asked = BTreeSet::new();
    decide(summaries, policy, now, &mut |summary| {
        assert!(asked.insert(summary.name().to_owned()), "proven twice");
        Ok(if bad.contains(&summary.name()) {
            Proof::Bad("frame 3".to_owned())
        } else {
            Proof::Good
        })
    })
    .unwrap()
}

/// Every archive that is kept, with its reasons as text.
fn kept(decisions: &[Decision<'_>]) -> BTreeMap<String, String> {
    let kept = decisions.iter().filter(|decision| decision.is_kept());
    kept.map(|decision| {
        let reasons: Vec<_> = decision.reasons.iter().map(ToString::to_string).collect();
        (decision.summary.name().to_owned(), reasons.join(", "))
    })
    .collect()
}

fn names(decisions: &[Decision<'_>]) -> Vec<String> {
    kept(decisions).into_keys().collect()
}

/// Fails unless just these are kept, a day later: lines of names and reasons.
#[track_caller]
fn keeps(all: &[ArchiveSummary], rules: &str, bad: &[&str], expected: &str) {
    let found = decided(all, &policy(rules), later(all), bad);
    let found: Vec<_> = kept(&found).into_iter().collect();
    let expected = expected
        .lines()
        .map(|line| line.trim().split_once(": ").unwrap());
    let mut expected: Vec<_> = expected.collect();
    expected.sort_unstable();
    let found: Vec<_> = found.iter().map(|(name, why)| (&**name, &**why)).collect();
    assert_eq!(found, expected);
}

/// The names of those that are kept, a day later.
fn kept_names(all: &[ArchiveSummary], rules: &str, bad: &[&str]) -> Vec<String> {
    names(&decided(all, &policy(rules), later(all), bad))
}

#[test]
fn each_rule_gives_its_reason() {
    // Day 100 is Friday, 10 April 2015; day 95 a Sunday, day 90 the end of March, day 59 of February.
    keeps(
        &days(100),
        "last 2, hourly 1, daily 3, weekly 2, monthly 3, yearly 9, within 1d",
        &[],
        "d100: keep-last 1/2, hourly 2015-04-10 12:00, daily 2015-04-10, weekly 2015-W15, monthly 2015-04, \
            yearly 2015, within 1d of 2015-04-10 12:00, newest valid archive
         d99: keep-last 2/2, daily 2015-04-09, within 1d of 2015-04-10 12:00
         d98: daily 2015-04-08
         d95: weekly 2015-W14
         d90: monthly 2015-03
         d59: monthly 2015-02",
    );
}

#[test]
fn weeks_are_those_of_iso_8601_and_days_begin_at_midnight_utc() {
    // 2016 begins in the last week of 2015; 23:59:59 and 00:00:00 are two days.
    let all = [
        archive("friday", "2016-01-01T00:00:00Z", 10),
        archive("sunday", "2016-01-03T23:59:59Z", 20),
        archive("monday", "2016-01-04T00:00:00Z", 30),
    ];
    let expected = "sunday: weekly 2015-W53
                    monday: weekly 2016-W01, newest valid archive";
    keeps(&all, "weekly 5", &[], expected);
}

#[test]
fn rules_that_ask_for_nothing_are_refused_and_labels_alone_ask_for_nothing() {
    assert_eq!(
        Policy::try_from(RetentionRules::default()),
        Err(EmptyPolicy)
    );
    let labels = RetentionRules {
        labels: vec!["pre-upgrade".to_owned()],
        ..RetentionRules::default()
    };
    assert_eq!(Policy::try_from(labels), Err(EmptyPolicy));
}

#[test]
fn a_bad_archive_fills_no_slot_and_is_not_removed() {
    let expected = "d1: is corrupt: frame 3
                    d3: keep-last 2/2
                    d4: is corrupt: frame 3
                    d5: keep-last 1/2, newest valid archive
                    d6: is corrupt: frame 3";
    keeps(&days(6), "last 2", &["d6", "d4", "d1"], expected);
}

#[test]
fn the_newest_that_proves_fills_its_day() {
    let all = [
        archive("morning", "2015-01-01T06:00:00Z", 10),
        archive("noon", "2015-01-01T12:00:00Z", 20),
        archive("night", "2015-01-01T23:00:00Z", 30),
        archive("next", "2015-01-02T06:00:00Z", 40),
    ];
    let expected = "noon: daily 2015-01-01
                    night: is corrupt: frame 3
                    next: daily 2015-01-02, newest valid archive";
    keeps(&all, "daily 2", &["night"], expected);
}

#[test]
fn what_cannot_be_read_is_kept_and_what_is_gone_is_not_spoken_of() {
    let all = days(4);
    let policy = policy("last 1");
    let decisions = decide(&all, &policy, later(&all), &mut |summary| {
        Ok(match summary.name() {
            "d4" => Proof::Gone,
            "d2" => Proof::Undecided("permission denied".to_owned()),
            _ => Proof::Good,
        })
    });
    let decisions = decisions.unwrap();
    assert_eq!(decisions.len(), 3);
    assert_eq!(names(&decisions), ["d2", "d3"]);
    let kept = kept(&decisions);
    assert_eq!(kept["d2"], "cannot be checked: permission denied");
    assert_eq!(kept["d3"], "keep-last 1/1, newest valid archive");
}

#[test]
fn an_interrupt_decides_nothing() {
    let all = days(4);
    let interrupt = Interrupt::default();
    let policy = policy("last 1");
    let decisions = decide(&all, &policy, later(&all), &mut |_| {
        interrupt
            .flag()
            .store(15, std::sync::atomic::Ordering::Relaxed);
        interrupt.check()?;
        Ok(Proof::Good)
    });
    assert!(matches!(decisions, Err(Interrupted)));
}

#[test]
fn members_are_weighed_by_themselves_and_a_removed_one_keeps_its_last_good_archive() {
    let mut all = days(10);
    for summary in all.iter_mut().take(4) {
        summary.identity.member_id = MemberId(0xb);
        // The same name and host as the other: names change, ids do not.
        summary.identity.name = Some("infra0".to_owned());
    }
    let kept = kept_names(&all, "last 2", &["d4", "d3"]);
    assert_eq!(kept, ["d1", "d10", "d2", "d3", "d4", "d9"]);
    // Years later it is still there.
    let much_later = later(&all) + DAY * 4000;
    let decisions = decided(&all, &policy("last 1"), much_later, &[]);
    assert_eq!(names(&decisions), ["d10", "d4"]);
}

#[test]
fn an_archive_that_a_rewind_made_stays_and_takes_no_slot() {
    let mut all = days(5);
    all[4].rewound = true;
    all[0].rewound = true;
    let expected = "d1: made by rewind
                    d4: keep-last 1/1, newest valid archive
                    d5: made by rewind";
    keeps(&all, "last 1", &[], expected);
}

#[test]
fn labels_that_are_asked_for_are_kept() {
    let mut all = days(5);
    all[0].labels = vec!["pre-upgrade".to_owned(), "x".to_owned()];
    all[1].labels = vec!["pre".to_owned()];
    let expected = "d1: label pre-upgrade
                    d5: keep-last 1/1, newest valid archive";
    keeps(&all, "last 1, label pre-upgrade", &[], expected);
}

#[test]
fn the_newest_from_before_each_move_of_the_version_stays() {
    let mut all = days(9);
    for (archive, text) in all[3..]
        .iter_mut()
        .zip(["2.2.0", "2.2.0", "2.2.0", "2.3.0", "2.3.0", "2.3.0"])
    {
        archive.cluster_version = Some(text.parse().unwrap());
    }
    all[0].cluster_version = None;
    let expected = "d1: newest before 2.1.0
                    d3: newest before 2.2.0
                    d5: newest before 2.3.0
                    d6: is corrupt: frame 3
                    d9: keep-last 1/1, newest valid archive";
    keeps(&all, "last 1", &["d6"], expected);
}

#[test]
fn one_that_has_the_move_in_its_log_already_does_not_stand_for_the_time_before_it() {
    let mut all = days(6);
    all[2] = pending(all[2].clone(), "2.2.0");
    all[3] = pending(all[3].clone(), "2.2.0");
    for at in [4, 5] {
        all[at] = version(all[at].clone(), "2.2.0");
    }
    let expected = "d2: newest without 2.2.0 in its log
                    d4: newest before 2.2.0
                    d6: keep-last 1/1, newest valid archive";
    keeps(&all, "last 1", &[], expected);
    // Before the change is committed, the uncommitted one in the log counts.
    let expected = "d2: newest without 2.2.0 in its log
                    d4: keep-last 1/1, newest valid archive, newest before 2.2.0";
    keeps(&all[..4], "last 1", &[], expected);
}

#[test]
fn an_archive_from_the_future_is_kept_and_counts_for_nothing() {
    let all = days(5);
    let policy = policy("last 1, within 1h");
    let decisions = decided(&all, &policy, all[3].created, &[]);
    let reasons = "keep-last 1/1, within 1h of 2015-01-04 12:00, newest valid archive";
    assert_eq!(names(&decisions), ["d4", "d5"]);
    assert_eq!(kept(&decisions)["d4"], reasons);
    assert_eq!(kept(&decisions)["d5"], "from the future");
    // Clocks of several machines differ slightly.
    let decisions = decided(&all, &policy, all[4].created - CLOCK_TOLERANCE, &[]);
    assert!(kept(&decisions)["d5"].starts_with("keep-last 1/1"));
}

#[test]
fn a_clock_before_all_archives_removes_nothing() {
    let all = days(50);
    let policy = policy("last 1");
    let decisions = decided(&all, &policy, Timestamp::UNIX_EPOCH, &[]);
    assert!(decisions.iter().all(|d| d.reasons == [Reason::Future]));
}

#[test]
fn a_time_that_contradicts_the_log_is_kept_and_counts_for_nothing() {
    // One night the clock was at 1970: by its time it is the oldest, by its log nearly the newest.
    let mut all = days(6);
    all[4].created = Timestamp::UNIX_EPOCH;
    let expected = "d4: daily 2015-01-04
                    d5: its date does not fit its place in the log
                    d6: daily 2015-01-06, newest valid archive";
    keeps(&all, "daily 2", &[], expected);
}

#[test]
fn a_bad_archive_has_no_say_in_which_times_are_right() {
    // With the two bad ones, more archives would agree with the wrong clock than with the right one.
    let mut all = days(6);
    for at in [0, 1, 2] {
        all[at].created += DAY * 90;
    }
    let policy = policy("last 2");
    let now = later(&all);
    let decisions = decided(&all, &policy, now, &["d1", "d2"]);
    assert_eq!(names(&decisions), ["d1", "d2", "d3", "d5", "d6"]);
    assert_eq!(
        decisions
            .iter()
            .filter(|d| d.reasons == [Reason::Contradiction])
            .count(),
        1
    );
}

#[test]
fn archives_of_the_same_second_and_of_the_same_entry_are_told_apart() {
    let same_time = [
        archive("x", "2015-01-01T00:00:00Z", 10),
        archive("y", "2015-01-01T00:00:00Z", 30),
        archive("z", "2015-01-01T00:00:00Z", 20),
    ];
    assert_eq!(kept_names(&same_time, "last 1", &[]), ["y"]);
    let mut same_entry = [
        archive("x", "2015-01-01T00:00:00Z", 10),
        archive("z", "2015-01-02T00:00:00Z", 10),
        archive("y", "2015-01-02T00:00:00Z", 10),
    ];
    same_entry[2].labels.push("another".to_owned());
    assert_eq!(kept_names(&same_entry, "last 1", &[]), ["z"]);
}

#[test]
fn within_is_measured_from_the_newest_archive_and_not_from_now() {
    let all = days(20);
    let policy = policy("within 3d");
    let decisions = decided(&all, &policy, later(&all) + DAY * 1000, &[]);
    assert_eq!(names(&decisions), ["d17", "d18", "d19", "d20"]);
    // The newest valid one.
    let decisions = decided(&all, &policy, later(&all), &["d20"]);
    assert_eq!(names(&decisions), ["d16", "d17", "d18", "d19", "d20"]);
}

#[test]
fn a_window_keeps_nothing_outside_of_it_unless_a_clock_is_doubtful_and_then_says_so() {
    // Archives of other days must not be kept as "within 1d" of the newest: every night is a little later, or
    // earlier, than a day after the one before.
    let mut all = days(40);
    for (archive, late) in all.iter_mut().zip([0, 40, 80].into_iter().cycle()) {
        archive.created += SignedDuration::from_secs(late);
    }
    for (span, kept) in [("1h", 1), ("1d", 2), ("25h", 2), ("73h", 4)] {
        let names = kept_names(&all, &format!("within {span}"), &[]);
        assert_eq!(names.len(), kept, "{span}: {names:?}");
    }
    // One night the clock is a month ahead.
    all.push(at("ahead", all[39].created + DAY * 31, 10_000));
    let expected = "ahead: within 25h of 2015-03-12 12:00, newest valid archive
         d39: the clock of newer ones may be wrong: within 25h of 2015-02-09 12:00, before a pause
         d40: the clock of newer ones may be wrong: within 25h of 2015-02-09 12:00, before a pause";
    keeps(&all, "within 25h", &[], expected);
}

#[test]
fn a_pause_does_not_empty_the_dir() {
    // Two months without a backup, then one every quarter of an hour.
    let mut all = days(40);
    let resumed = all[39].created + DAY * 61;
    for n in 0..20_u64 {
        let created = resumed + SignedDuration::from_mins(15) * i32::try_from(n).unwrap();
        all.push(at(&format!("r{n}"), created, 10_000 + n));
    }
    assert_eq!(kept_names(&all, "within 30d", &[]).len(), 31 + 20);
    // Once a third of the time is covered again, the time before the pause no longer counts.
    all.push(at("r20", resumed + DAY * 10, 20_000));
    assert_eq!(kept_names(&all, "within 30d", &[]).len(), 21);
}

#[test]
fn a_night_in_2038_pushes_nothing_out() {
    let all = days(400);
    let rules = "last 3, daily 7, monthly 6, yearly 2, within 10d";
    let before = kept_names(&all, rules, &[]);
    let mut with_it = all.clone();
    let night: Timestamp = "2038-01-19T03:00:00Z".parse().unwrap();
    for n in 0..30_u64 {
        let created = night + SignedDuration::from_mins(15) * i32::try_from(n).unwrap();
        with_it.push(at(&format!("night{n}"), created, 100_000 + n));
    }
    let after = kept_names(&with_it, rules, &[]);
    assert!(before.iter().all(|name| after.contains(name)));
    // The night itself gets no more slots than it should.
    let of_it = after.iter().filter(|name| name.starts_with("night"));
    assert_eq!(of_it.count(), 30, "all within ten days of its last");
}

#[test]
fn clocks_that_are_ahead_for_a_night_or_two_do_not_empty_what_is_kept_within_a_time() {
    let all = days(30);
    let last = all[29].created;
    for nights in [&[29][..], &[20], &[800, 1500], &[29, 29 + 31]] {
        let mut with_them = all.clone();
        for (n, night) in nights.iter().enumerate() {
            let created = last + DAY * *night;
            with_them.push(at(&format!("night{n}"), created, 100_000 + n as u64));
        }
        let kept = kept_names(&with_them, "within 30d", &[]);
        assert_eq!(kept.len(), with_them.len(), "{nights:?}: {kept:?}");
    }
}

#[test]
fn copies_of_one_archive_take_one_place_and_share_its_fate() {
    let mut all = days(5);
    for n in 0..3 {
        let mut copy = all[4].clone();
        copy.listed.name = format!("newest-copy{n}");
        all.push(copy);
        let mut copy = all[0].clone();
        copy.listed.name = format!("oldest-copy{n}");
        all.push(copy);
    }
    let expected = "d3: keep-last 3/3
                    d4: keep-last 2/3
                    d5: keep-last 1/3, newest valid archive
                    newest-copy0: a copy of d5
                    newest-copy1: a copy of d5
                    newest-copy2: a copy of d5";
    keeps(&all, "last 3", &[], expected);
    // If the first of them is bad, the next one takes its place.
    let expected = "d3: keep-last 3/3
                    d4: keep-last 2/3
                    d5: is corrupt: frame 3
                    newest-copy0: keep-last 1/3, newest valid archive
                    newest-copy1: a copy of newest-copy0
                    newest-copy2: a copy of newest-copy0";
    keeps(&all, "last 3", &["d5"], expected);
}

#[test]
fn a_symbolic_link_stands_for_nothing() {
    let before = version(archive("a", "2015-01-01T00:00:00Z", 10), "2.1.0");
    let after = version(archive("b", "2015-01-02T00:00:00Z", 20), "2.2.0");
    for name in ["0-link", "z-link"] {
        for of in [&before, &after] {
            let mut link = of.clone();
            link.listed.name = name.to_owned();
            link.listed.is_link = true;
            let all = [before.clone(), after.clone(), link];
            let expected = format!(
                "a: newest before 2.2.0
                 b: keep-last 1/1, newest valid archive
                 {name}: a symbolic link"
            );
            keeps(&all, "last 1", &[], &expected);
        }
    }
}

#[test]
fn the_order_of_the_input_and_the_names_decide_nothing() {
    let mut all = days(100);
    let policy = policy("daily 3, monthly 3");
    let forwards = kept(&decided(&all, &policy, later(&all), &[]));
    all.reverse();
    assert_eq!(forwards, kept(&decided(&all, &policy, later(&all), &[])));
}

#[test]
fn what_no_server_starts_from_takes_no_place_of_what_one_starts_from() {
    // A member that is dead from its fourth day on is backed up every night: its last good archive must stay.
    let mut summaries = days(6);
    for dead in &mut summaries[3..] {
        dead.does_not_start = Some("etcd 2.1 does not start from this archive".to_owned());
    }
    assert_eq!(kept_names(&summaries, "last 1", &[]), ["d3", "d6"]);
}
