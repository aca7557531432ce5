//! How a member's data size grows, and when it will reach the limit.
//!
//! In: the archives of a repository, the limit and the time. Out: a [`History`] for each member, with a
//! [`Forecast`].
//!
//! The data size is a sawtooth: etcd writes a raft snapshot every 10,000 entries, and the log above it
//! falls back to nothing. An import or a purge is a step. Least squares would follow both; so the
//! slope is the median of the slopes between all pairs of points (Theil–Sen), which does not
//! change while less than 29 % of the points are off, and the line is placed so that half of the points
//! are below it.

use jiff::{SignedDuration, Timestamp};

use crate::etcd::ids::Identity;
use crate::monitoring::scope::{is_ahead, log_order};
use crate::repository::ArchiveSummary;

/// How much of the history is used, back from the newest archive: older growth may have other
/// causes.
const WINDOW: SignedDuration = SignedDuration::from_hours(30 * 24);
/// But at least this number of archives, if there are as many.
const ENOUGH: usize = 10;
/// With fewer archives, or less time between them, there is no forecast.
const FEWEST: usize = 3;
const SHORTEST: SignedDuration = SignedDuration::from_hours(24);
/// The most points that are used, evenly chosen: all pairs of them are compared.
const MOST: usize = 512;
/// There is no forecast beyond this.
const HORIZON_DAYS: f64 = 3652.5;
const DAY_SECONDS: f64 = 86_400.0;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    pub at: Timestamp,
    /// The data size, in bytes.
    pub bytes: u64,
    pub archive: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct History {
    pub identity: Identity,
    /// Its archives, in the order of the log and of time.
    pub points: Vec<Point>,
    /// The number of archives that are left out because they are dated in the future, or their times
    /// are not in the order of their logs.
    pub left_out: usize,
    /// The limit, in bytes.
    pub limit: u64,
    pub forecast: Forecast,
}

/// When the data size will reach the limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Forecast {
    Over {
        /// The first archive since which all were.
        since: Timestamp,
    },
    /// Too few archives, or too close together.
    TooFew,
    NotGrowing {
        bytes_per_day: f64,
    },
    /// In more than ten years.
    Far {
        bytes_per_day: f64,
    },
    /// At this time, with the same growth.
    At {
        /// The time; now, if the line has reached the limit already.
        at: Timestamp,
        bytes_per_day: f64,
    },
}

/// The history of every member with archives here, the one with the newest first, without archives that a
/// rewind made.
pub fn histories(summaries: &[ArchiveSummary], limit: u64, now: Timestamp) -> Vec<History> {
    let captured = summaries.iter().filter(|summary| summary.is_backup());
    let mut groups: Vec<Vec<&ArchiveSummary>> = Vec::new();
    for summary in captured {
        let id =
            |summary: &ArchiveSummary| (summary.identity.cluster_id, summary.identity.member_id);
        let mut found = groups.iter_mut();
        let own = found.find(|group| group.first().is_some_and(|one| id(one) == id(summary)));
        match own {
            Some(group) => group.push(summary),
            None => groups.push(vec![summary]),
        }
    }
    let history = |group: Vec<&ArchiveSummary>| history(group, limit, now);
    groups.into_iter().filter_map(history).collect()
}

fn history(group: Vec<&ArchiveSummary>, limit: u64, now: Timestamp) -> Option<History> {
    let identity = group.first()?.identity.clone();
    let all = group.len();
    let dated = group.into_iter().filter(|summary| !is_ahead(summary, now));
    let mut dated: Vec<_> = dated.collect();
    dated.sort_by_key(|summary| (log_order(summary), summary.created));
    let kept = longest_rise(&dated.iter().map(|s| s.created).collect::<Vec<_>>());
    let kept = kept.into_iter().filter_map(|place| dated.get(place));
    let points: Vec<_> = kept
        .map(|summary| Point {
            at: summary.created,
            bytes: summary.sizes.data,
            archive: summary.name().to_owned(),
        })
        .collect();
    Some(History {
        identity,
        left_out: all - points.len(),
        limit,
        forecast: forecast(&points, limit, now),
        points,
    })
}

/// The positions of the longest series in which no time is before the previous one: what is left
/// when as few times as possible are taken as wrong.
fn longest_rise(times: &[Timestamp]) -> Vec<usize> {
    // For each length the position at which a series of it ends earliest, and for each position the
    // one before it in its series.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::new();
    for (place, time) in times.iter().enumerate() {
        let length = ends.partition_point(|end| times.get(*end).is_some_and(|end| end <= time));
        before.push(
            length
                .checked_sub(1)
                .and_then(|last| ends.get(last).copied()),
        );
        match ends.get_mut(length) {
            Some(end) => *end = place,
            None => ends.push(place),
        }
    }
    let mut rise = Vec::new();
    let mut at = ends.last().copied();
    while let Some(place) = at {
        rise.push(place);
        at = before.get(place).copied().flatten();
    }
    rise.reverse();
    rise
}

/// When `points`, in the order of time, will reach `limit`.
fn forecast(points: &[Point], limit: u64, now: Timestamp) -> Forecast {
    let over = points.iter().rev().take_while(|point| point.bytes > limit);
    if let Some(since) = over.last() {
        return Forecast::Over { since: since.at };
    }
    let recent = recent(points);
    let (Some(first), Some(last)) = (recent.first(), recent.last()) else {
        return Forecast::TooFew;
    };
    if recent.len() < FEWEST || last.at.duration_since(first.at) < SHORTEST {
        return Forecast::TooFew;
    }
    let days = |at: Timestamp| at.duration_since(last.at).as_secs_f64() / DAY_SECONDS;
    let thin = recent.iter().step_by(recent.len().div_ceil(MOST));
    let thin: Vec<_> = thin.map(|one| (days(one.at), one.bytes as f64)).collect();
    let Some(bytes_per_day) = slope(&thin) else {
        return Forecast::TooFew;
    };
    // Less than a byte a day is not growth.
    if bytes_per_day < 1.0 {
        return Forecast::NotGrowing { bytes_per_day };
    }
    let at_last = median(
        thin.iter()
            .map(|(day, y)| y - bytes_per_day * day)
            .collect(),
    );
    let reached = at_last.unwrap_or(0.0).max(last.bytes as f64);
    let left = (limit as f64 - reached).max(0.0) / bytes_per_day;
    // From the newest archive on, which may be old.
    let left = left.max(days(now).max(0.0));
    let length = SignedDuration::try_from_secs_f64(left * DAY_SECONDS);
    let at = length
        .ok()
        .and_then(|length| last.at.checked_add(length).ok());
    match at {
        Some(at) if left - days(now) <= HORIZON_DAYS => Forecast::At { at, bytes_per_day },
        _ => Forecast::Far { bytes_per_day },
    }
}

fn recent(points: &[Point]) -> &[Point] {
    let Some(last) = points.last() else {
        return points;
    };
    let old = points.partition_point(|point| last.at.duration_since(point.at) > WINDOW);
    let from = old.min(points.len().saturating_sub(ENOUGH));
    points.get(from..).unwrap_or_default()
}

/// The median of the slopes between all pairs of points that differ in time.
fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let mut slopes = Vec::new();
    for (x, y) in points {
        let later = points.iter().filter(|(later, _)| later > x);
        slopes.extend(later.map(|(later_x, later_y)| (later_y - y) / (later_x - x)));
    }
    median(slopes)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    let middle = values.len() / 2;
    if values.is_empty() {
        return None;
    }
    let (_, median, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    Some(*median)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_440_000_000;
    const LIMIT: u64 = 100_000_000;

    fn day(days: f64) -> Timestamp {
        Timestamp::from_second(START + (days * DAY_SECONDS) as i64).unwrap()
    }

    fn points(sizes: impl IntoIterator<Item = (f64, u64)>) -> Vec<Point> {
        let point = |(days, bytes)| Point {
            at: day(days),
            bytes,
            archive: String::new(),
        };
        sizes.into_iter().map(point).collect()
    }

    /// Half a megabyte a day from 40 MB on, with a sawtooth of 5 MB on top.
    fn saw(days: u32) -> Vec<Point> {
        points((0..days).map(|day| {
            let saw = u64::from(day % 3) * 2_500_000;
            (f64::from(day), 40_000_000 + 500_000 * u64::from(day) + saw)
        }))
    }

    fn date(forecast: Forecast) -> f64 {
        match forecast {
            Forecast::At { at, .. } => at.duration_since(day(0.0)).as_secs_f64() / DAY_SECONDS,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_saw_that_rises_is_followed_through_its_teeth() {
        // The middle of the sawtooth is 2.5 MB above its lower edge: it reaches 100 MB on day 115.
        let told = date(forecast(&saw(60), LIMIT, day(60.0)));
        assert!((told - 115.0).abs() < 6.0, "{told}");
    }

    #[test]
    fn an_import_that_was_taken_back_moves_nothing() {
        let mut points = saw(60);
        for point in &mut points[40..46] {
            point.bytes = 95_000_000;
        }
        let told = date(forecast(&points, LIMIT, day(60.0)));
        assert!((told - 115.0).abs() < 8.0, "{told}");
    }

    #[test]
    fn the_line_counts_where_the_newest_archive_is_below_it() {
        let mut points =
            points((0..20_u32).map(|day| (f64::from(day), 1_000_000 * u64::from(40 + day))));
        points[19].bytes = 30_000_000;
        let told = date(forecast(&points, LIMIT, day(19.0)));
        assert!((told - 60.0).abs() < 0.01, "{told}");
        points[19].bytes = 80_000_000;
        let told = date(forecast(&points, LIMIT, day(19.0)));
        assert!((told - 39.0).abs() < 0.01, "{told}");
    }

    #[test]
    fn a_month_counts_and_ten_archives_at_least() {
        let every = |days: u32, count: u32| points((0..count).map(|n| (f64::from(n * days), 1)));
        assert_eq!(recent(&every(1, 41)).len(), 31);
        assert_eq!(recent(&every(10, 41)).len(), ENOUGH);
        assert_eq!(recent(&every(10, 5)).len(), 5);
    }

    #[test]
    fn ten_years_are_counted_from_now() {
        // 10 kB a day are 9900 days from the newest archive on, which is old.
        let slow =
            points((0..=10_u32).map(|day| (f64::from(day), 900_000 + 10_000 * u64::from(day))));
        for (now, is_told) in [
            (10.0, false),
            (6000.0, false),
            (6300.0, true),
            (9000.0, true),
        ] {
            let told = forecast(&slow, LIMIT, day(now));
            assert_eq!(
                matches!(told, Forecast::At { .. }),
                is_told,
                "{now}: {told:?}"
            );
        }
    }

    #[test]
    fn growth_of_long_ago_does_not_count() {
        let steady = (0..60_u32).map(|day| (f64::from(day), 50_000_000));
        let grown = (0..60_u32).map(|day| (f64::from(day) - 60.0, 800_000 * u64::from(day)));
        let told = forecast(&points(grown.chain(steady)), LIMIT, day(60.0));
        assert_eq!(told, Forecast::NotGrowing { bytes_per_day: 0.0 });
    }

    #[test]
    fn what_cannot_be_told_is_not_told() {
        assert_eq!(forecast(&[], LIMIT, day(0.0)), Forecast::TooFew);
        let two = points([(0.0, 10), (9.0, 20)]);
        assert_eq!(forecast(&two, LIMIT, day(9.0)), Forecast::TooFew);
        let hours = points((0..20).map(|hour| (f64::from(hour) / 24.0, 1000)));
        assert_eq!(forecast(&hours, LIMIT, day(1.0)), Forecast::TooFew);
        // All that are looked at have one time.
        let at_once = (0..513).map(|_| (0.0, 10)).chain([(2.0, 20)]);
        assert_eq!(
            forecast(&points(at_once), LIMIT, day(2.0)),
            Forecast::TooFew
        );
        let fewest = points([(0.0, 10), (0.5, 11), (1.0, 11)]);
        let told = forecast(&fewest, LIMIT, day(1.0));
        assert_eq!(told, Forecast::Far { bytes_per_day: 1.0 });
        let slow = points((0..20_u32).map(|day| (f64::from(day), 1000 + 100 * u64::from(day))));
        let told = forecast(&slow, LIMIT, day(20.0));
        assert!(matches!(told, Forecast::Far { .. }), "{told:?}");
        let shrinking =
            points((0..20_u32).map(|day| (f64::from(day), 90_000_000 - 1000 * u64::from(day))));
        let told = forecast(&shrinking, LIMIT, day(20.0));
        assert!(matches!(told, Forecast::NotGrowing { .. }), "{told:?}");
    }

    #[test]
    fn what_is_over_the_limit_says_since_when() {
        let sizes = [90, 101, 99, 100, 102, 103].map(|mb| mb * 1_000_000);
        let sizes = (0..).zip(sizes).map(|(day, size)| (f64::from(day), size));
        let told = forecast(&points(sizes), LIMIT, day(6.0));
        assert_eq!(told, Forecast::Over { since: day(4.0) });
    }

    #[test]
    fn a_date_that_has_passed_is_today() {
        // The newest archive is 100 days old.
        let told = date(forecast(&saw(60), LIMIT, day(159.0)));
        assert!((told - 159.0).abs() < 0.01, "{told}");
    }

    #[test]
    fn times_that_a_broken_clock_made_are_left_out() {
        let at = |days: &[f64]| days.iter().map(|d| day(*d)).collect::<Vec<_>>();
        assert_eq!(longest_rise(&at(&[])), Vec::<usize>::new());
        assert_eq!(longest_rise(&at(&[0.0, 1.0, 1.0, 2.0])), [0, 1, 2, 3]);
        // In the order of the log: one clock that was set back to the beginning, and one far ahead.
        let times = at(&[10.0, 11.0, 0.0, 12.0, 99.0, 13.0, 14.0]);
        assert_eq!(longest_rise(&times), [0, 1, 3, 5, 6]);
    }
}
