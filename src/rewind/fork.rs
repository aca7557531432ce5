//! Decides whether several logs belong to one history, and which log gives its end.
//!
//! In: the [`Log`]s of one cluster's members, each copied at any time. Out: an [`Agreement`], or the
//! first [`Fork`]. Pure: nothing here reads a file.
//!
//! The rules are raft's: two entries with the same index and term are equal, and so are all entries
//! before them; a committed entry is in the log of every later leader. So logs may differ only above
//! their own commit index, and there the log that raft would elect decides: the one with the highest
//! last term, then the highest last index. A crashed leader keeps entries that it never committed;
//! a later leader commits others at the same indexes.

use crate::etcd::ids::{Index, SnapshotId, Term};
use crate::etcd::trace::{Trace, TracedEntry};

/// One input's log.
#[derive(Clone, Copy, Debug)]
pub struct Log<'t> {
    pub trace: &'t Trace,
    /// The last entry, or the end of the raft snapshot that replaces it.
    pub last: SnapshotId,
    /// The highest index that this log knows to be committed.
    pub commit: Index,
}

/// What the logs of one history have in common. Inputs are numbered in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// The highest index that any log knows to be committed.
    pub committed: Index,
    /// The input that knows it.
    pub knower: usize,
    /// The input with the most up-to-date log, by raft's order.
    pub winner: usize,
    pub end: SnapshotId,
    /// For each input the highest index up to which its entries are certain to be those of the history:
    /// its commit index, or the highest index at which another log shows the same entry of the history.
    pub sure: Vec<Index>,
}

/// Two inputs that cannot belong to one history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The first index that shows it.
    pub index: Index,
    pub sides: [Side; 2],
    pub why: Why,
}

/// What an input has at an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    pub input: usize,
    pub said: LogState,
    /// Whether this input knows that entry to be committed.
    pub committed: bool,
}

/// What a log has at an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogState {
    Entry(TracedEntry),
    /// A raft snapshot that ends there, in this term.
    Snapshot(Term),
    /// The log ends before, with this entry.
    Nothing(SnapshotId),
}

/// Why two inputs do not belong to one history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// One leader proposed two entries at one index.
    SameTerm,
    /// They differ at an index that `knower` knows to be committed.
    Committed {
        /// The commit index of `knower`.
        commit: Index,
        knower: usize,
    },
    /// They differ here and are the same again later, which is impossible in one cluster.
    MeetAgain { at: Index },
    /// A later leader's log lacks a committed entry.
    Lacks {
        /// The commit index that shows it.
        commit: Index,
    },
}

/// Compares `logs`; there is at least one.
pub fn agree(logs: &[Log<'_>]) -> Result<Agreement, Box<Fork>> {
    let places = || logs.iter().enumerate();
    let first_of_highest = |(place, log): &(usize, &Log<'_>)| (log.commit, usize::MAX - place);
    let (knower, known) = places()
        .max_by_key(first_of_highest)
        .unwrap_or((0, &NOTHING));
    let committed = known.commit;
    let by_order = |(place, log): &(usize, &Log<'_>)| (log.last, usize::MAX - place);
    let (winner, winning) = places().max_by_key(by_order).unwrap_or((0, &NOTHING));
    let mut first: Option<Fork> = None;
    for (one, a) in places() {
        for (other, b) in places().skip(one) {
            let commit = Committed {
                index: committed,
                knower,
                last_term: winning.last.term,
            };
            let found = fork([(one, a), (other, b)], commit);
            let earlier = |fork: &Fork| first.as_ref().is_none_or(|first| fork.index < first.index);
            if let Some(fork) = found.filter(earlier) {
                first = Some(fork);
            }
        }
    }
    if winning.last.index < committed {
        let index = winning.last.index.next();
        let lacks = Fork {
            index,
            sides: [side(winner, winning, index), side(knower, known, index)],
            why: Why::Lacks { commit: committed },
        };
        if first.as_ref().is_none_or(|first| index < first.index) {
            first = Some(lacks);
        }
    }
    match first {
        Some(fork) => Err(Box::new(fork)),
        None => Ok(Agreement {
            committed,
            knower,
            winner,
            end: winning.last,
            sure: places()
                .map(|(place, _)| sure(logs, place, winner))
                .collect(),
        }),
    }
}

const NOTHING: Log<'static> = Log {
    trace: &Trace {
        entries: Vec::new(),
        snapshots: Vec::new(),
    },
    last: SnapshotId {
        term: Term(0),
        index: Index(0),
    },
    commit: Index(0),
};

impl Log<'_> {
    /// The term at `index`, from its entry or the raft snapshot that ends there.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        let entry = self.trace.entry(index).map(|entry| entry.term);
        entry.or_else(|| {
            let mut ids = self.trace.snapshots.iter().map(|snapshot| snapshot.id);
            ids.find(|id| id.index == index).map(|id| id.term)
        })
    }
}

#[derive(Clone, Copy)]
struct Committed {
    index: Index,
    knower: usize,
    /// The term of the last leader that any log knows.
    last_term: Term,
}

impl Committed {
    /// Whether `log` may hold an entry at `index` that was never committed: `index` is above its commit
    /// index, and a later leader may have put another entry there.
    fn may_have_replaced(self, log: &Log<'_>, index: Index) -> bool {
        log.commit < index && log.last.term < self.last_term
    }
}

/// The first index at which two logs (or a log and its own raft snapshots) cannot be one history.
fn fork(logs: [(usize, &Log<'_>); 2], committed: Committed) -> Option<Fork> {
    let [(one, a), (other, b)] = logs;
    let entries = entries_part(a, b, committed);
    let both = [
        snapshots_part(a, b, committed),
        snapshots_part(b, a, committed),
    ];
    let snapshots = both.into_iter().flatten().min_by_key(|(index, _)| *index);
    let (index, why) = match (entries, snapshots) {
        (Some(entries), Some(snapshots)) if snapshots.0 < entries.0 => snapshots,
        (Some(entries), _) => entries,
        (None, snapshots) => snapshots?,
    };
    let mut sides = [side(one, a, index), side(other, b, index)];
    if one == other
        && let Some(term) = snapshot_term(a, index)
        && let Some(own) = sides.last_mut()
    {
        own.said = LogState::Snapshot(term);
    }
    Some(Fork { index, sides, why })
}

fn snapshot_term(log: &Log<'_>, index: Index) -> Option<Term> {
    let own = log.trace.entry(index).map(|entry| entry.term);
    let mut ids = log.trace.snapshots.iter().map(|snapshot| snapshot.id);
    ids.find(|id| id.index == index && Some(id.term) != own)
        .map(|id| id.term)
}

fn side(input: usize, log: &Log<'_>, index: Index) -> Side {
    let said = match (log.trace.entry(index), log.term_at(index)) {
        (Some(entry), _) => LogState::Entry(*entry),
        (None, Some(term)) => LogState::Snapshot(term),
        (None, None) => LogState::Nothing(log.last),
    };
    Side {
        input,
        said,
        committed: index <= log.commit,
    }
}

fn entries_part(a: &Log<'_>, b: &Log<'_>, committed: Committed) -> Option<(Index, Why)> {
    let mut in_b = b.trace.entries.iter().peekable();
    let mut parted = None;
    for entry in &a.trace.entries {
        while in_b.next_if(|other| other.index < entry.index).is_some() {}
        let Some(other) = in_b.peek().filter(|other| other.index == entry.index) else {
            continue;
        };
        let index = entry.index;
        if entry.term == other.term {
            if let Some(parted) = parted {
                return Some((parted, Why::MeetAgain { at: index }));
            }
            if entry.digest != other.digest {
                return Some((index, Why::SameTerm));
            }
        } else if index <= committed.index
            && ![a, b]
                .iter()
                .any(|log| committed.may_have_replaced(log, index))
        {
            return Some((index, differ(committed)));
        } else {
            parted.get_or_insert(index);
        }
    }
    None
}

fn differ(committed: Committed) -> Why {
    Why::Committed {
        commit: committed.index,
        knower: committed.knower,
    }
}

/// Where a raft snapshot of `a` ends in another term than the one `b` has there. A raft snapshot holds
/// only committed entries, so only the entry of `b` can have been replaced.
fn snapshots_part(a: &Log<'_>, b: &Log<'_>, committed: Committed) -> Option<(Index, Why)> {
    let ids = a.trace.snapshots.iter().map(|snapshot| snapshot.id);
    ids.filter(|id| b.term_at(id.index).is_some_and(|term| term != id.term))
        .filter(|id| !committed.may_have_replaced(b, id.index))
        .map(|id| (id.index, differ(committed)))
        .min_by_key(|(index, _)| *index)
}

/// The highest index up to which the entries of the input at `place` are certain to be those of the history.
fn sure(logs: &[Log<'_>], place: usize, winner: usize) -> Index {
    let Some(log) = logs.get(place) else {
        return Index(0);
    };
    if place == winner {
        return log.last.index;
    }
    let on_history = |entry: &TracedEntry| {
        logs.iter().enumerate().any(|(other, found)| {
            let known = other == winner || entry.index <= found.commit;
            other != place && known && found.term_at(entry.index) == Some(entry.term)
        })
    };
    let tail = log.trace.above(log.commit).iter();
    let meets = tail.rev().find(|entry| on_history(entry));
    meets.map_or(log.commit, |entry| entry.index)
}

#[cfg(test)]
mod tests;
