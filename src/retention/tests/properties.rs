//! Properties that hold for any archives, clocks and policies.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use proptest::prelude::*;

use crate::retention::order::by_log;
use crate::retention::reason::Period;
use crate::retention::tests::*;

/// The state of an archive on disk.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Health {
    Good,
    Bad,
    Undecided,
}

fn summaries() -> impl Strategy<Value = Vec<(ArchiveSummary, Health)>> {
    let one = (
        // A right clock's time follows the index; a wrong one has any value.
        0_u64..400,
        prop_oneof![4 => Just(None), 1 => (-3000_i64..3000).prop_map(Some)],
        0_u64..3,
        prop_oneof![6 => Just(2_u64), 1 => 1_u64..4],
        prop_oneof![4 => Just(Health::Good), 1 => Just(Health::Bad), 1 => Just(Health::Undecided)],
        prop_oneof![8 => Just(None), 1 => (0_usize..3).prop_map(Some)],
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.05),
    );
    prop::collection::vec(one, 0..60).prop_map(|drawn| {
        let start: Timestamp = "2015-01-01T00:00:00Z".parse().unwrap();
        let archives = drawn.into_iter().enumerate();
        archives
            .map(
                |(n, (index, clock, member, term, health, odd_version, labelled, rewound))| {
                    let hours = clock.unwrap_or_else(|| i64::try_from(index).unwrap() * 11);
                    let mut summary = at(
                        &format!("a{n}"),
                        start + SignedDuration::from_hours(hours),
                        index,
                    );
                    summary.identity.member_id = MemberId(member);
                    summary.position.term = Term(term);
                    let usual = usize::from(index > 150) + usize::from(index > 300);
                    let versions = [None, Some("2.1.0"), Some("2.2.0")];
                    summary.cluster_version =
                        versions[odd_version.unwrap_or(usual)].map(|v| v.parse().unwrap());
                    if index % 7 == 0 && index > 140 {
                        summary = pending(summary, "2.2.0");
                    }
                    if labelled {
                        summary.labels.push("keep".to_owned());
                    }
                    summary.rewound = rewound;
                    // They are not copies of each other.
                    summary.listed.bytes = u64::try_from(n).unwrap();
                    (summary, health)
                },
            )
            .collect()
    })
}

fn rules() -> impl Strategy<Value = RetentionRules> {
    let count = || prop::option::of((1_u32..6).prop_map(|n| NonZeroU32::new(n).unwrap()));
    let within = prop::option::of((1_i64..900).prop_map(SignedDuration::from_hours));
    (count(), count(), count(), count(), count(), count(), within).prop_map(
        |(last, hourly, daily, weekly, monthly, yearly, within)| RetentionRules {
            last,
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
            within,
            labels: vec!["keep".to_owned()],
        },
    )
}

/// The names that are kept.
fn run(archives: &[(ArchiveSummary, Health)], policy: &Policy, now: Timestamp) -> BTreeSet<String> {
    let summaries: Vec<_> = archives
        .iter()
        .map(|(summary, _)| summary.clone())
        .collect();
    let health = |name: &str| archives.iter().find(|(s, _)| s.name() == name).unwrap().1;
    let mut asked = BTreeSet::new();
    let decisions = decide(&summaries, policy, now, &mut |summary| {
        assert!(asked.insert(summary.name().to_owned()), "proven twice");
        Ok(match health(summary.name()) {
            Health::Good => Proof::Good,
            Health::Bad => Proof::Bad("bad".to_owned()),
            Health::Undecided => Proof::Undecided("undecided".to_owned()),
        })
    });
    let decisions = decisions.unwrap();
    assert_eq!(decisions.len(), archives.len());
    let kept = decisions.iter().filter(|d| d.is_kept());
    kept.map(|d| d.summary.name().to_owned()).collect()
}

/// Valid, dated before now and not made by a rewind, in the order of the log.
fn countable<'a>(
    group: &[&'a (ArchiveSummary, Health)],
    now: Timestamp,
) -> Vec<&'a ArchiveSummary> {
    let mut good: Vec<_> = group
        .iter()
        .filter(|(s, health)| {
            *health == Health::Good && !s.rewound && s.created <= now + CLOCK_TOLERANCE
        })
        .map(|(summary, _)| summary)
        .collect();
    good.sort_by(|a, b| by_log(a, b));
    good
}

/// The newest of `archives` by the log that is valid, whatever its time.
fn newest_good<'a>(
    archives: impl Iterator<Item = &'a &'a (ArchiveSummary, Health)>,
) -> Option<&'a ArchiveSummary> {
    let good = archives.filter(|(_, health)| *health == Health::Good);
    good.map(|(summary, _)| summary).max_by(|a, b| by_log(a, b))
}

fn check_group(
    group: &[&(ArchiveSummary, Health)],
    kept: &BTreeSet<String>,
    rules: &RetentionRules,
    now: Timestamp,
) -> Result<(), TestCaseError> {
    let stays = |summary: &ArchiveSummary| kept.contains(summary.name());
    // The last good one, by the log and by the clock.
    let countable = countable(group, now);
    if let Some(newest) = countable.last() {
        prop_assert!(stays(newest), "newest valid archive is gone");
    }
    if let Some(latest) = countable.iter().map(|s| s.created).max() {
        let mut of_then = countable.iter().filter(|s| s.created == latest);
        prop_assert!(
            of_then.any(|s| stays(s)),
            "nothing of the latest time is left"
        );
        // Within.
        if let Some(span) = rules.within {
            for summary in &countable {
                let young = latest.duration_since(summary.created) <= span;
                prop_assert!(!young || stays(summary), "{} is within", summary.name());
            }
        }
    }
    // As many of the newest as asked for.
    let last = rules.last.map_or(0, |n| n.get() as usize);
    for summary in countable.iter().rev().take(last) {
        prop_assert!(stays(summary), "{} is one of the last", summary.name());
    }
    // One of each of the newest periods that has a good one.
    let periods = [
        (Period::Hour, rules.hourly),
        (Period::Day, rules.daily),
        (Period::Week, rules.weekly),
        (Period::Month, rules.monthly),
        (Period::Year, rules.yearly),
    ];
    for (period, asked) in periods {
        let asked = asked.map_or(0, |n| n.get() as usize);
        let numbers: BTreeSet<_> = countable.iter().map(|s| period.number(s.created)).collect();
        for number in numbers.into_iter().rev().take(asked) {
            let mut of_it = countable
                .iter()
                .filter(|s| period.number(s.created) == number);
            prop_assert!(of_it.any(|s| stays(s)), "{period:?} {number} is empty");
        }
    }
    check_pins(group, &stays)
}

/// Checks for the newest valid one from before every change of the version in the log, and one without
/// the change in its own log.
fn check_pins(
    group: &[&(ArchiveSummary, Health)],
    stays: &dyn Fn(&ArchiveSummary) -> bool,
) -> Result<(), TestCaseError> {
    let mut by_place = group.to_vec();
    by_place.sort_by(|a, b| by_log(&a.0, &b.0));
    for at in 1..by_place.len() {
        let (before, now) = (&by_place[at - 1].0, &by_place[at].0);
        if before.cluster_version == now.cluster_version {
            continue;
        }
        let older = &by_place[..at];
        if let Some(pinned) = newest_good(older.iter()) {
            prop_assert!(stays(pinned), "{} is from before a move", pinned.name());
        }
        let clean = older.iter().filter(|(s, _)| s.pending_version.is_none());
        if let Some(pinned) = newest_good(clean)
            && now.cluster_version == Some("2.2.0".parse().unwrap())
        {
            prop_assert!(stays(pinned), "{} is the way back", pinned.name());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn nothing_good_is_lost(drawn in summaries(), rules in rules(), hours in 0_i64..5000, seed in 0_usize..1000) {
        let Ok(policy) = Policy::try_from(rules.clone()) else {
            return Ok(());
        };
        let now = "2015-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(hours);
        let kept = run(&drawn, &policy, now);
        for (summary, health) in &drawn {
            let excused = *health == Health::Good
                && !summary.rewound
                && summary.labels.is_empty()
                && summary.created <= now + CLOCK_TOLERANCE;
            prop_assert!(excused || kept.contains(summary.name()), "{} must stay", summary.name());
        }
        for member in 0..3 {
            let group: Vec<_> = drawn.iter().filter(|(s, _)| s.identity.member_id == MemberId(member)).collect();
            check_group(&group, &kept, &rules, now)?;
        }
        // The next run finds nothing to do.
        let left: Vec<_> = drawn.iter().filter(|(s, _)| kept.contains(s.name())).cloned().collect();
        prop_assert_eq!(&run(&left, &policy, now), &kept);
        // In any order of the list.
        let mut turned = drawn.clone();
        turned.rotate_left(seed % drawn.len().max(1));
        turned.reverse();
        prop_assert_eq!(&run(&turned, &policy, now), &kept);
    }

    #[test]
    fn a_bad_archive_never_costs_a_good_one(drawn in summaries(), rules in rules()) {
        let Ok(policy) = Policy::try_from(rules) else {
            return Ok(());
        };
        let start: Timestamp = "2015-01-01T00:00:00Z".parse().unwrap();
        let mut drawn = drawn;
        // With times that contradict the log, one more pin can change which selection is the longest.
        for (summary, _) in &mut drawn {
            summary.position.term = Term(2);
            summary.created = start + SignedDuration::from_hours(i64::try_from(summary.position.index.0).unwrap() * 11);
        }
        let now = start + DAY * 365;
        let with_bad = run(&drawn, &policy, now);
        let good: Vec<_> = drawn.iter().filter(|(_, health)| *health == Health::Good).cloned().collect();
        for name in run(&good, &policy, now) {
            prop_assert!(with_bad.contains(&name), "{name} went because of a bad one");
        }
    }
}

#[test]
fn the_longest_choice_is_found() {
    let times = |seconds: &[i64]| -> Vec<Timestamp> {
        seconds
            .iter()
            .map(|&s| Timestamp::from_second(s).unwrap())
            .collect()
    };
    let length = |seconds: &[i64]| {
        let marks = crate::retention::order::longest_forward(&times(seconds));
        let chosen: Vec<_> = seconds
            .iter()
            .zip(&marks)
            .filter(|(_, m)| **m)
            .map(|(s, _)| *s)
            .collect();
        assert!(chosen.is_sorted(), "{chosen:?}");
        chosen.len()
    };
    assert_eq!(length(&[]), 0);
    assert_eq!(length(&[5, 5, 5]), 3);
    assert_eq!(length(&[3, 2, 1]), 1);
    assert_eq!(length(&[1, 9, 2, 3, 8, 4]), 4);
    // Compared with every possible selection.
    for seed in 0..200_i64 {
        let seconds: Vec<_> = (0..9)
            .map(|n| (seed * 37 + n * n * 11 + n * seed) % 13)
            .collect();
        let choices = 0_u32..1 << seconds.len();
        let best = choices
            .filter_map(|choice| {
                let chosen: Vec<_> = (0..seconds.len())
                    .filter(|n| choice >> n & 1 == 1)
                    .map(|n| seconds[n])
                    .collect();
                chosen.is_sorted().then_some(chosen.len())
            })
            .max();
        assert_eq!(Some(length(&seconds)), best, "{seconds:?}");
    }
}
