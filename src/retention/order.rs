//! The order of a group's archives: by the log, which does not depend on a clock.
//!
//! In: archives, or their times in the order of the log. Out: that order, and which of the times
//! ascend in it.

use std::cmp::Ordering;

use jiff::Timestamp;

use crate::repository::{ArchiveRef, ArchiveSummary};

/// By the term and index of the last entry; archives of the same entry by their times, then names.
pub(crate) fn by_log(a: &ArchiveSummary, b: &ArchiveSummary) -> Ordering {
    let place = |s: &ArchiveSummary| (s.position.term, s.position.index, s.created);
    place(a).cmp(&place(b)).then_with(|| a.name().cmp(b.name()))
}

/// Splits archives, given in the order of the log, into different ones and copies of these, each copy with
/// the one that it equals: the first by name.
pub(crate) fn apart_from_copies(
    archives: Vec<&ArchiveSummary>,
) -> (
    Vec<&ArchiveSummary>,
    Vec<(&ArchiveSummary, &ArchiveSummary)>,
) {
    let mut apart: Vec<&ArchiveSummary> = Vec::new();
    let mut copies = Vec::new();
    for archive in archives {
        let same_place = apart.iter().rev().take_while(|other| {
            let place = |s: &ArchiveSummary| (s.position.term, s.position.index, s.created);
            place(other) == place(archive)
        });
        match same_place.copied().find(|other| is_copy(other, archive)) {
            Some(of) => copies.push((of, archive)),
            None => apart.push(archive),
        }
    }
    (apart, copies)
}

/// Whether all but the name and the time of writing is the same. Two encrypted files are never equal,
/// unless one is a copy of the other.
fn is_copy(a: &ArchiveSummary, b: &ArchiveSummary) -> bool {
    let named_as_a = ArchiveRef {
        bytes: b.listed.bytes,
        ..a.listed.clone()
    };
    let b = ArchiveSummary {
        listed: named_as_a,
        ..b.clone()
    };
    b == *a
}

/// Marks the longest selection of `times` in which none is earlier than the one before it.
///
/// Patience sorting, O(n log n): `ends[k]` is the earliest time that a selection of k + 1 can end with.
pub(crate) fn longest_forward(times: &[Timestamp]) -> Vec<bool> {
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
