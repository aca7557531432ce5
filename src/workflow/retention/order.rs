//! The order of a group's archives: by the log, which no clock can put wrong.
//!
//! In: archives, or their times in the order of the log. Out: that order, and which of the times go
//! forward in it.

use std::cmp::Ordering;

use jiff::Timestamp;

use crate::place::repository::Summary;

/// By the term and index of the last entry; archives of the same entry by their times, then names.
pub(super) fn by_log(a: &Summary, b: &Summary) -> Ordering {
    let place = |s: &Summary| (s.position.term, s.position.index, s.created);
    place(a).cmp(&place(b)).then_with(|| a.name().cmp(b.name()))
}

/// Marks the longest choice of `times` in which none is earlier than the one before it.
///
/// Patience sorting, O(n log n): `ends[k]` is the earliest time that a choice of k + 1 can end with.
pub(super) fn longest_forward(times: &[Timestamp]) -> Vec<bool> {
    let mut ends: Vec<(Timestamp, usize)> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(times.len());
    for (at, &time) in times.iter().enumerate() {
        let length = ends.partition_point(|&(end, _)| end <= time);
        before.push(length.checked_sub(1).and_then(|k| ends.get(k)).map(|e| e.1));
        match ends.get_mut(length) {
            Some(end) => *end = (time, at),
            None => ends.push((time, at)),
        }
    }
    let mut chosen = vec![false; times.len()];
    let mut next = ends.last().map(|&(_, at)| at);
    while let Some(at) = next {
        if let Some(mark) = chosen.get_mut(at) {
            *mark = true;
        }
        next = before.get(at).copied().flatten();
    }
    chosen
}
