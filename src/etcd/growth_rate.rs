//! How fast a log grows, from the times in it.
//!
//! In: entries, in the order of the log. Out: a [`Rate`]. The leader of a 2.x cluster writes the
//! time into each SYNC, so the log itself has the times, even if those of the files are wrong.
//! Source: formats page §5.

use jiff::Timestamp;
use serde::Serialize;

use crate::etcd::ids::Index;
use crate::etcd::proto::Request;

/// The most marks that are kept.
const MARKS: usize = 4096;
/// The number of entries between two marks at first; doubled each time that there are too many marks.
const FIRST_STRIDE: u64 = 32;
/// The period for the present rate, in seconds: a day, so that quiet nights count.
const PRESENT: i64 = 24 * 60 * 60;

/// Times at positions of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pace {
    marks: Vec<(Index, Timestamp)>,
    stride: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rate {
    pub entries_per_second: f64,
    #[serde(rename = "from_at")]
    pub from: Timestamp,
    #[serde(rename = "to_at")]
    pub to: Timestamp,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            marks: Vec::new(),
            stride: FIRST_STRIDE,
        }
    }
}

impl Pace {
    /// A pace with these marks, in the order of the log.
    pub fn of(marks: Vec<(Index, Timestamp)>) -> Self {
        Self {
            marks,
            ..Self::default()
        }
    }

    /// Takes the next entry of the log; reads only a few of them.
    pub(crate) fn note(&mut self, index: Index, data: &[u8]) {
        // A later leader's entries replace earlier ones.
        while self.marks.last().is_some_and(|(last, _)| *last >= index) {
            self.marks.pop();
        }
        let due = match self.marks.last() {
            Some((last, _)) => last.0.saturating_add(self.stride),
            None => 0,
        };
        if index.0 < due {
            return;
        }
        let Some(time) = sync_time(data) else { return };
        if self.marks.len() == MARKS {
            let mut keep = false;
            self.marks.retain(|_| {
                keep = !keep;
                keep
            });
            self.stride = self.stride.saturating_mul(2);
        }
        self.marks.push((index, time));
    }

    /// The rate over the log's last day, or over all of it if it is shorter; `None` if the log
    /// has no times, or none that ascend.
    pub fn rate(&self) -> Option<Rate> {
        let (last, to) = *self.marks.last()?;
        let recent = |(_, time): &&(Index, Timestamp)| to.as_second() - time.as_second() <= PRESENT;
        let (first, from) = *self.marks.iter().find(recent)?;
        let seconds = to.duration_since(from).as_secs_f64();
        (seconds > 0.0).then(|| Rate {
            entries_per_second: (last.0 - first.0) as f64 / seconds,
            from,
            to,
        })
    }
}

fn sync_time(data: &[u8]) -> Option<Timestamp> {
    if !Request::may_have_method(data, *b"SYNC") {
        return None;
    }
    let request = Request::in_entry(data).ok()??;
    let time = request.time.filter(|&time| time > 0)?;
    let is_sync = request.method.as_deref() == Some(b"SYNC");
    is_sync
        .then(|| Timestamp::from_nanosecond(time.into()).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn sync_at(seconds: i64) -> Vec<u8> {
        Request {
            method: Some(b"SYNC".to_vec()),
            time: Some(seconds * 1_000_000_000),
            ..Request::default()
        }
        .encode_to_vec()
    }

    /// A log with a SYNC for each second, and `busy` other entries between two of them.
    fn log(seconds: std::ops::Range<i64>, busy: u64) -> Pace {
        let mut pace = Pace::default();
        let mut index = Index(0);
        for second in seconds {
            for _ in 0..busy {
                index = index.next();
                pace.note(index, b"PUT");
            }
            index = index.next();
            pace.note(index, &sync_at(second));
        }
        pace
    }

    #[test]
    fn the_rate_counts_every_entry_not_only_those_that_tell_the_time() {
        let rate = log(1000..2000, 4).rate().unwrap();
        assert!((rate.entries_per_second - 5.0).abs() < 0.01, "{rate:?}");
    }

    #[test]
    fn what_was_more_than_a_day_before_the_end_does_not_count() {
        let day = 24 * 60 * 60;
        let mut pace = log(0..1000, 99);
        let last = pace.marks.last().unwrap().0.0;
        for second in 0..1000_i64 {
            let index = Index(last + 1 + second.cast_unsigned());
            pace.note(index, &sync_at(10 * day + second));
        }
        let rate = pace.rate().unwrap();
        assert!((rate.entries_per_second - 1.0).abs() < 0.01, "{rate:?}");
        assert!(rate.from.as_second() >= 10 * day);
    }

    #[test]
    fn a_long_log_keeps_a_bounded_number_of_marks_and_the_same_rate() {
        let pace = log(0..409_600, 1);
        assert!(pace.marks.len() <= MARKS);
        let rate = pace.rate().unwrap();
        assert!((rate.entries_per_second - 2.0).abs() < 0.01, "{rate:?}");
    }

    #[test]
    fn replaced_entries_are_forgotten() {
        let mut pace = Pace::default();
        pace.note(Index(100), &sync_at(10));
        pace.note(Index(200), &sync_at(20));
        pace.note(Index(150), &sync_at(60));
        let marks: Vec<_> = pace.marks.iter().map(|(index, _)| index.0).collect();
        assert_eq!(marks, [100, 150]);
    }

    #[test]
    fn a_log_that_tells_no_time_has_no_rate() {
        assert_eq!(Pace::default().rate(), None);
        let mut pace = Pace::default();
        pace.note(Index(1), b"PUT");
        pace.note(Index(100), &sync_at(5));
        assert_eq!(pace.rate(), None);
        // A clock that stands still or goes back gives no rate either.
        pace.note(Index(200), &sync_at(5));
        pace.note(Index(300), &sync_at(4));
        assert_eq!(pace.rate(), None);
    }
}
