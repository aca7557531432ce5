//! Fills the slots of the policy with archives.
//!
//! In: the valid archives of a group that count, newest first, and the policy. Out: their reasons.
//!
//! A clock that is set ahead for a night dates valid archives years from now, and they must not push
//! the others out. So while the newest archives follow a pause that no schedule has, and do not yet
//! cover enough time to be trusted, slots are also filled from the older ones alone.

use jiff::{SignedDuration, Timestamp};

use crate::retention::Decision;
use crate::retention::policy::Policy;
use crate::retention::reason::{Period, Reason};

/// Longer than the distance between the yearly archives of a group that is pruned.
const PAUSE: SignedDuration = SignedDuration::from_hours(400 * 24);
/// A wrong clock is noticed within this time, since every run warns about it.
const BELIEVED_AFTER: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Longer than the distance between two nightly backups.
const LEAST_PAUSE: SignedDuration = SignedDuration::from_hours(36);

/// How many separate runs of newest archives after a pause are doubted.
const MOST_DOUBTED: usize = 2;

/// Gives each archive of `chain`, newest first, its reasons by the policy.
pub(crate) fn fill(chain: &mut [Decision<'_>], policy: &Policy) {
    for part in weighed_apart(chain, PAUSE, BELIEVED_AFTER) {
        if let Some(count) = policy.last() {
            keep_last(part, count);
        }
        for (period, count) in policy.periods() {
            keep_newest_of_each(part, period, count);
        }
    }
    if let Some(span) = policy.within() {
        keep_within(chain, span);
    }
    if let Some(newest) = chain.first_mut() {
        newest.reasons.push(Reason::LastGood);
    }
}

fn keep_last(part: &mut [Decision<'_>], of: u32) {
    for (place, decision) in (1..=of).zip(part) {
        decision.reasons.push(Reason::Last { place, of });
    }
}

fn keep_newest_of_each(part: &mut [Decision<'_>], period: Period, count: u32) {
    let mut filled = None;
    let mut left = count;
    for decision in part {
        let at = decision.summary.created;
        let number = Some(period.number(at));
        if filled == number {
            continue;
        }
        if left == 0 {
            return;
        }
        left -= 1;
        filled = number;
        decision.reasons.push(Reason::Newest { period, at });
    }
}

/// Measured back from the newest, not from now, so that a group without new backups does not shrink
/// to nothing. After a pause of half of `span`, and longer than between nightly backups, the clock of the
/// newer ones may be wrong: then it is also measured from the newest before the pause, with a reason that
/// says so, until a third of `span` is covered again. What counts as a pause does not depend on the other
/// archives: a bad one among them must not cause the removal of a valid one.
fn keep_within(chain: &mut [Decision<'_>], span: SignedDuration) {
    let pause = (span / 2).max(LEAST_PAUSE);
    let parts = weighed_apart(chain, pause, span / 3);
    let with_archives = parts.into_iter().filter(|part| !part.is_empty());
    for (number, part) in with_archives.enumerate() {
        let Some(than) = part.first().map(|newest| newest.summary.created) else {
            continue;
        };
        for decision in part {
            if than.duration_since(decision.summary.created) <= span {
                decision.reasons.push(if number == 0 {
                    Reason::Within { span, than }
                } else {
                    Reason::WithinBeforePause { span, than }
                });
            }
        }
    }
}

/// Splits off the newest archives that follow a pause of more than `pause` and cover less than
/// `believed_after`, and repeats that with the rest.
fn weighed_apart<'c, 's>(
    chain: &'c mut [Decision<'s>],
    pause: SignedDuration,
    believed_after: SignedDuration,
) -> Vec<&'c mut [Decision<'s>]> {
    let mut parts = Vec::new();
    let mut rest = chain;
    for _ in 0..MOST_DOUBTED {
        let (doubted, older) = rest.split_at_mut(fresh_after(rest, pause, believed_after));
        parts.push(doubted);
        rest = older;
    }
    parts.push(rest);
    parts
}

/// How many of the newest follow a pause of more than `pause` and cover less than `believed_after`.
fn fresh_after(
    chain: &[Decision<'_>],
    pause: SignedDuration,
    believed_after: SignedDuration,
) -> usize {
    let times: Vec<Timestamp> = chain.iter().map(|d| d.summary.created).collect();
    let covered = |to: Timestamp| times.first().map(|from| from.duration_since(to));
    let mut pairs = times.iter().zip(times.iter().skip(1));
    let pause = pairs.position(|(newer, older)| newer.duration_since(*older) > pause);
    match pause.and_then(|at| Some((at, covered(*times.get(at)?)?))) {
        Some((at, covered)) if covered < believed_after => at + 1,
        _ => 0,
    }
}
