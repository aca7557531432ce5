//! The one history that the inputs tell together, and which of them tells which part.
//!
//! In: logs that agree. Out: for any stretch of indexes who has its entries, and what no one has.

use crate::etcd::ids::{Index, Term};
use crate::etcd::trace::TracedEntry;
use crate::rewind::fork::{Agreement, Log};

/// One history told by several logs.
#[derive(Debug)]
pub struct History<'t> {
    /// The logs, by the place of their input.
    pub logs: Vec<Log<'t>>,
    pub agreement: Agreement,
    /// Runs of entries without a hole that belong to the history, by where they begin.
    runs: Vec<Part>,
}

/// Entries of the history, first and last, and the input to take them from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    pub from: Index,
    pub to: Index,
    pub input: usize,
}

/// Entries that no input has, first and last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    pub from: Index,
    pub to: Index,
}

/// Two inputs of which nothing shows that the one goes on where the other ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unjoined {
    /// The last entry of the one.
    pub at: Index,
    pub inputs: [usize; 2],
}

/// Who has a stretch of the history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cover {
    /// Entries and where to take them from, in order.
    pub parts: Vec<Part>,
    /// Entries that no input has.
    pub missing: Vec<Missing>,
    /// The first place where two inputs follow each other by number only.
    pub unjoined: Option<Unjoined>,
}

impl Cover {
    /// Whether all of it is there and one history.
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

    /// Who has the entries `from` to `to`, in as few parts as can be, and which no one has. `after` is
    /// the input whose raft snapshot stands before the first of them; of inputs that have the same,
    /// that one is taken.
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

    /// Whether it is shown that what `run` has at `next` follows what the input `before` has ahead of
    /// it: it has that too, or begins the log. That the two follow each other by number shows nothing.
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

    /// The entries `from` to `to`, as far as anyone has them.
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

    /// The term at `index`, where anyone knows it.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        let sure = self.logs.iter().zip(&self.agreement.sure);
        let mut known = sure.filter(|(_, sure)| index <= **sure);
        known.find_map(|(log, _)| log.term_at(index))
    }
}
