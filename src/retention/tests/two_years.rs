//! Two years of a backup every half hour, pruned after each.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use crate::retention::tests::*;

const PER_DAY: i64 = 48;
const BACKUPS: i64 = 730 * PER_DAY;
/// Seconds from one backup to the next.
const STEP: i64 = 86_400 / PER_DAY;
/// Thursday, 1 January 2015.
const START: i64 = 1_420_070_400;
/// The archive from which on the cluster is at 2.2: noon of 10 July 2015, in the seventh month.
const MOVED: i64 = 190 * PER_DAY + PER_DAY / 2;

fn time(n: i64) -> Timestamp {
    Timestamp::from_second(START + n * STEP).unwrap()
}

fn backup(n: i64) -> ArchiveSummary {
    let summary = at(&format!("b{n}"), time(n), 1000 + n.unsigned_abs() * 1800);
    version(summary, if n < MOVED { "2.1.0" } else { "2.2.0" })
}

fn usual() -> Policy {
    policy("last 8, hourly 24, daily 14, weekly 8, monthly 24, yearly 5")
}

/// A backup dir in memory.
#[derive(Default)]
struct Dir {
    summaries: Vec<ArchiveSummary>,
    bad: BTreeSet<String>,
}

impl Dir {
    fn prune(&mut self, policy: &Policy, now: Timestamp) {
        let decisions = decide(&self.summaries, policy, now, &mut |summary| {
            Ok(if self.bad.contains(summary.name()) {
                Proof::Bad("a flip".to_owned())
            } else {
                Proof::Good
            })
        });
        let kept: BTreeSet<String> = names(&decisions.unwrap()).into_iter().collect();
        self.summaries
            .retain(|summary| kept.contains(summary.name()));
    }

    fn numbers(&self) -> BTreeSet<i64> {
        let numbers = self
            .summaries
            .iter()
            .filter_map(|s| s.name().strip_prefix('b')?.parse().ok());
        numbers.collect()
    }
}

/// What should be left of the backups 0 to `newest`, by plain counting for each valid one.
fn expected(newest: i64, is_good: impl Fn(i64) -> bool) -> BTreeSet<i64> {
    let good: Vec<i64> = (0..=newest).filter(|&n| is_good(n)).collect();
    let mut kept: BTreeSet<i64> = good.iter().rev().take(8).copied().collect();
    let date = |n: i64| time(n).to_zoned(TimeZone::UTC).date();
    let week = |n: i64| {
        let week = date(n).iso_week_date();
        i64::from(week.year()) * 100 + i64::from(week.week())
    };
    let day = |n: i64| n / PER_DAY;
    let hour = |n: i64| n / (PER_DAY / 24);
    let month = |n: i64| i64::from(date(n).year()) * 100 + i64::from(date(n).month());
    let year = |n: i64| i64::from(date(n).year());
    let calendar: [(usize, &dyn Fn(i64) -> i64); 5] = [
        (24, &hour),
        (14, &day),
        (8, &week),
        (24, &month),
        (5, &year),
    ];
    for (count, number) in calendar {
        // The last insert wins: the newest of each.
        let newest_of: BTreeMap<i64, i64> = good.iter().map(|&n| (number(n), n)).collect();
        kept.extend(newest_of.into_values().rev().take(count));
    }
    // The way back to 2.1.
    kept.extend(good.iter().filter(|&&n| n < MOVED && newest >= MOVED).max());
    kept
}

#[test]
fn after_two_years_what_is_left_is_what_was_asked_for() {
    let policy = usual();
    let mut dir = Dir::default();
    let moments = [
        0,
        5,
        97,
        5000,
        MOVED - 1,
        MOVED,
        MOVED + 1,
        15_000,
        365 * PER_DAY - 1,
        365 * PER_DAY,
        30_001,
        BACKUPS - 1,
    ];
    let mut most = 0;
    for n in 0..BACKUPS {
        dir.summaries.push(backup(n));
        dir.prune(&policy, time(n));
        most = most.max(dir.summaries.len());
        if moments.contains(&n) {
            assert_eq!(dir.numbers(), expected(n, |_| true), "after backup {n}");
        }
    }
    assert!(
        most <= 8 + 24 + 14 + 8 + 24 + 5 + 2,
        "{most} archives at once"
    );
    assert_eq!(table(&dir, &policy), AFTER_TWO_YEARS);
}

/// The final state, for reading. The last backup is of Friday, 30 December 2016, 23:30.
const AFTER_TWO_YEARS: &str = "\
last 2016-12-30 20:00 … 2016-12-30 23:30: 8
hourly 2016-12-30 00:30 … 2016-12-30 23:30: 24
daily 2016-12-17 23:30 … 2016-12-30 23:30: 14
weekly 2016-11-13 23:30 … 2016-12-30 23:30: 8
monthly 2015-01-31 23:30 … 2016-12-30 23:30: 24
yearly 2015-12-31 23:30 … 2016-12-30 23:30: 2
last-good 2016-12-30 23:30 … 2016-12-30 23:30: 1
before-version 2015-07-10 11:30 … 2015-07-10 11:30: 1
";

/// A line for each rule: its oldest, its newest, its number.
fn table(dir: &Dir, policy: &Policy) -> String {
    use std::fmt::Write as _;
    let decisions = decided(&dir.summaries, policy, time(BACKUPS - 1), &[]);
    let mut table = String::new();
    let rules = [
        "last",
        "hourly",
        "daily",
        "weekly",
        "monthly",
        "yearly",
        "last-good",
        "before-version",
    ];
    for rule in rules {
        let of_it = |d: &&Decision<'_>| d.reasons.iter().any(|reason| reason.rule() == rule);
        let times: Vec<_> = decisions
            .iter()
            .filter(of_it)
            .map(|d| d.summary.created)
            .collect();
        let text = |time: Option<&Timestamp>| time.unwrap().strftime("%Y-%m-%d %H:%M").to_string();
        let (oldest, newest) = (text(times.last()), text(times.first()));
        writeln!(table, "{rule} {oldest} … {newest}: {}", times.len()).unwrap();
    }
    table
}

#[test]
fn with_half_of_the_archives_corrupt_the_other_half_is_kept_as_if_it_were_alone() {
    // Every corrupt archive stays as well, so fewer are made: one every six hours.
    let is_good = |n: i64| n * 7 % 13 < 6;
    let policy = usual();
    let mut dir = Dir::default();
    let mut newest = 0;
    for n in (0..BACKUPS).step_by(24) {
        newest = n;
        if !is_good(n) {
            dir.bad.insert(format!("b{n}"));
        }
        dir.summaries.push(backup(n));
        dir.prune(&policy, time(n));
    }
    let made = |n: i64| n % 24 == 0;
    let good: BTreeSet<i64> = dir.numbers().into_iter().filter(|&n| is_good(n)).collect();
    assert_eq!(good, expected(newest, |n| made(n) && is_good(n)));
    let bad = dir.numbers().into_iter().filter(|&n| !is_good(n)).count();
    assert_eq!(bad, dir.bad.len(), "a corrupt one was removed");
}

#[test]
fn a_broken_clock_twice_in_a_year_costs_nothing() {
    // Hourly. On day 100 the clock stands in 2038 for a night, and on day 200 in 1970; the pruning believes it.
    let night = |n: i64| (n / PER_DAY == 100 || n / PER_DAY == 200) && n % PER_DAY < PER_DAY / 3;
    let clock = |n: i64| match n / PER_DAY {
        100 if night(n) => Timestamp::from_second(2_147_400_000 + n % PER_DAY * STEP).unwrap(),
        200 if night(n) => Timestamp::from_second(3600 + n % PER_DAY * STEP).unwrap(),
        _ => time(n),
    };
    let policy = usual();
    let mut dir = Dir::default();
    let year = 365 * PER_DAY;
    for n in (0..year).step_by(4) {
        let mut summary = backup(n);
        summary.created = clock(n);
        dir.summaries.push(summary);
        dir.prune(&policy, clock(n));
        if n % PER_DAY == PER_DAY * 23 / 24 && n > PER_DAY {
            // In the evening of each day all archives with right times that the policy keeps are there.
            let wanted = expected(n, |n| n % 4 == 0 && !night(n));
            let missing: Vec<_> = wanted.difference(&dir.numbers()).copied().collect();
            assert!(missing.is_empty(), "after {n}: {missing:?} are gone");
        }
    }
    // The wrongly dated ones are still there, too, and one more run changes nothing.
    let wrong = dir.numbers().into_iter().filter(|&n| night(n)).count();
    assert!(wrong >= 8, "{wrong}");
    let before = dir.numbers();
    dir.prune(&policy, clock(year - 4));
    assert_eq!(dir.numbers(), before);
}

#[test]
fn archives_of_removed_members_and_of_the_same_second_stay_after_two_years() {
    // Three members into one dir, each at the same second; one is removed after a month.
    let policy = usual();
    let mut dir = Dir::default();
    let removed_after = 30 * PER_DAY;
    for n in (0..BACKUPS).step_by(16) {
        for member in 0..3_u64 {
            if member == 2 && n > removed_after {
                continue;
            }
            let mut summary = backup(n);
            summary.listed.name = format!("m{member}-{n}");
            summary.identity.member_id = MemberId(member);
            dir.summaries.push(summary);
        }
        dir.prune(&policy, time(n));
    }
    let of = |member: u64| -> Vec<&str> {
        let of = dir
            .summaries
            .iter()
            .filter(|s| s.identity.member_id == MemberId(member));
        of.map(|s| s.name().split_once('-').unwrap().1).collect()
    };
    let wanted = |newest: i64| expected(newest, |n| n % 16 == 0);
    let numbers =
        |member| -> BTreeSet<i64> { of(member).iter().map(|n| n.parse().unwrap()).collect() };
    assert_eq!(numbers(0), wanted(BACKUPS - 16));
    assert_eq!(numbers(0), numbers(1));
    // Only archives of its own age its group.
    assert_eq!(numbers(2), wanted(removed_after));
}
