//! The one history that the inputs have together, and which input has which part of it.
//!
//! In: logs that agree. Out: for any range of indexes, the inputs that have its entries, and the missing ones.

use crate::etcd::ids::{Index, Term};
use crate::etcd::trace::TracedEntry;
use crate::rewind::fork::{Agreement, Log};

/// One history made of several logs.
#[derive(Debug)]
pub struct History<'t> {
    /// The logs, in the order of the inputs.
    pub logs: Vec<Log<'t>>,
    pub agreement: Agreement,
    /// Runs of entries without a gap that belong to the history, by their first index.
    runs: Vec<Part>,
}

/// Entries of the history, first and last, and the input to take them from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    pub from: Index,
    pub to: Index,
    pub input: usize,
}

/// A range of entries that no input has, first and last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    pub from: Index,
    pub to: Index,
}

/// Two inputs of which the one may not continue the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unjoined {
    /// The last entry of the first of the two.
    pub at: Index,
    pub inputs: [usize; 2],
}

/// The inputs that have a range of the history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cover {
    /// Ranges of entries, each with the input to take it from, in order.
    pub parts: Vec<Part>,
    /// Entries that no input has.
    pub missing: Vec<Missing>,
    /// The first index at which two inputs adjoin by number only.
    pub unjoined: Option<Unjoined>,
}

impl Cover {
    /// Whether all entries are there and belong to one history.
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.unjoined.is_none()
    }
}

impl<'t> History<'t> {
    /// The history of `logs`, which agree.
    pub fn new(logs: Vec<Log<'t>>, agreement: Agreement) -> Self {
        let mut runs = Vec::new();
        for (input, (log, sure)) in logs.iter().zip(&agreement.sure).enumerate() {
            let mut open: Option<Part> = None;
            let entries = log.trace.entries.iter();
            for entry in entries.take_while(|entry| entry.index <= *sure) {
                match &mut open {
                    Some(run) if run.to.next() == entry.index => run.to = entry.index,
                    _ => {
                        runs.extend(open.replace(Part {
                            from: entry.index,
                            to: entry.index,
                            input,
                        }));
                    }
                }
            }
            runs.extend(open);
        }
        runs.sort();
        Self {
            logs,
            agreement,
            runs,
        }
    }

    /// Which inputs have the entries `from` to `to`, in as few parts as possible, and which entries are missing.
    /// The raft snapshot before the first of them is of the input `after`; where several inputs have the
    /// same entries, that one is preferred.
    pub fn cover(&self, from: Index, to: Index, after: Option<usize>) -> Cover {
        let mut cover = Cover::default();
        let (mut next, mut before) = (from, after);
        while next <= to && next != Index(u64::MAX) {
            let begun = self.runs.iter().take_while(|run| run.from <= next);
            let best = |run: &&Part| {
                let is_joined = self.is_joined(run, next, before);
                (is_joined, run.to.min(to), Some(run.input) == after)
            };
            let here = begun.filter(|run| run.to >= next).max_by_key(best);
            if let Some(run) = here {
                if let (false, Some(other)) = (self.is_joined(run, next, before), before) {
                    cover.unjoined.get_or_insert(Unjoined {
                        at: next.previous(),
                        inputs: [other, run.input],
                    });
                }
                let end = run.to.min(to);
                cover.parts.push(Part {
                    from: next,
                    to: end,
                    input: run.input,
                });
                (next, before) = (end.next(), Some(run.input));
            } else {
                let later = self.runs.iter().find(|run| run.from > next);
                let end = later.map_or(to, |run| run.from.previous().min(to));
                cover.missing.push(Missing {
                    from: next,
                    to: end,
                });
                (next, before) = (end.next(), None);
            }
        }
        cover
    }

    /// Whether `run` at `next` is proven to continue what the input `before` has up to there: that input has
    /// this entry too, or the run begins the log. Consecutive indexes alone prove nothing.
    fn is_joined(&self, run: &Part, next: Index, before: Option<usize>) -> bool {
        let has_it = |log: &Log<'_>| log.term_at(next.previous()).is_some();
        before.is_none_or(|before| before == run.input)
            || run.from < next
            || next <= Index(1)
            || self.logs.get(run.input).is_some_and(has_it)
    }

    /// Which of the entries `from` to `to` no input has.
    pub fn missing(&self, from: Index, to: Index) -> Vec<Missing> {
        self.cover(from, to, None).missing
    }

    /// The entries `from` to `to` that any input has.
    pub fn entries(&self, from: Index, to: Index) -> impl Iterator<Item = &'t TracedEntry> {
        let Cover { parts, .. } = self.cover(from, to, None);
        let within = |part: &Part| {
            let log = self.logs.get(part.input);
            let above = log.map_or(&[][..], |log| log.trace.above(part.from.previous()));
            let to = part.to;
            above.iter().take_while(move |entry| entry.index <= to)
        };
        let entries: Vec<_> = parts.iter().flat_map(within).collect();
        entries.into_iter()
    }

    /// The term at `index`, if any log has it.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        let sure = self.logs.iter().zip(&self.agreement.sure);
        let mut known = sure.filter(|(_, sure)| index <= **sure);
        known.find_map(|(log, _)| log.term_at(index))
    }
}
