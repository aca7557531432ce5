//! The one history that the inputs tell together, and which of them tells which part.
//!
//! In: logs that agree. Out: for any stretch of indexes who has its entries, and what nobody has.

use super::agreement::{Agreement, Log};
use crate::ground::ids::{Index, Term};
use crate::language::trace::TracedEntry;

/// One history told by several logs.
#[derive(Debug)]
pub struct History<'t> {
    /// The logs, by the place of their input.
    pub logs: Vec<Log<'t>>,
    /// What they have in common.
    pub agreement: Agreement,
    /// Runs of entries without a hole that belong to the history, by where they begin.
    runs: Vec<Part>,
}

/// Entries of the history, first and last, and the input to take them from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    /// The first.
    pub from: Index,
    /// The last.
    pub to: Index,
    /// Which input.
    pub input: usize,
}

/// Entries that no input has, first and last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The first.
    pub from: Index,
    /// The last.
    pub to: Index,
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

    /// Who has the entries `from` to `to`, in as few parts as can be, and which nobody has.
    pub fn cover(&self, from: Index, to: Index) -> (Vec<Part>, Vec<Missing>) {
        let (mut parts, mut missing) = (Vec::new(), Vec::new());
        let mut next = from;
        while next <= to && next != Index(u64::MAX) {
            let begun = self.runs.iter().take_while(|run| run.from <= next);
            let here = begun.filter(|run| run.to >= next).max_by_key(|run| run.to);
            if let Some(run) = here {
                let end = run.to.min(to);
                parts.push(Part {
                    from: next,
                    to: end,
                    input: run.input,
                });
                next = end.next();
            } else {
                let later = self.runs.iter().find(|run| run.from > next);
                let end = later.map_or(to, |run| run.from.previous().min(to));
                missing.push(Missing {
                    from: next,
                    to: end,
                });
                next = end.next();
            }
        }
        (parts, missing)
    }

    /// Which of the entries `from` to `to` no input has.
    pub fn missing(&self, from: Index, to: Index) -> Vec<Missing> {
        self.cover(from, to).1
    }

    /// The entries `from` to `to`, as far as anybody has them.
    pub fn entries(&self, from: Index, to: Index) -> impl Iterator<Item = &'t TracedEntry> {
        let (parts, _) = self.cover(from, to);
        let within = |part: &Part| {
            let log = self.logs.get(part.input);
            let above = log.map_or(&[][..], |log| log.trace.above(part.from.previous()));
            let to = part.to;
            above.iter().take_while(move |entry| entry.index <= to)
        };
        let entries: Vec<_> = parts.iter().flat_map(within).collect();
        entries.into_iter()
    }

    /// The term at `index`, where anybody knows it.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        let sure = self.logs.iter().zip(&self.agreement.sure);
        let mut known = sure.filter(|(_, sure)| index <= **sure);
        known.find_map(|(log, _)| log.term_at(index))
    }
}
