//! Contradictions between a log's records.
//!
//! In: the positions and values that contradict each other. Out: a message with them.

use crate::etcd::ids::{Identity, Index, Term};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogFault {
    #[error("unreadable {0}")]
    Message(&'static str),
    /// Segments of different members in one chain.
    #[error("metadata of another member or cluster ({found})")]
    OtherMember { found: Identity },
    #[error("entry {found} follows {last}: entries are missing between them")]
    Hole { last: Index, found: Index },
    /// An entry's term is below its predecessor's.
    #[error("entry {index} has term {found}, below {before} of the entry before it")]
    TermFell {
        index: Index,
        found: Term,
        before: Term,
    },
    #[error("entry {index} replaces an entry at or below commit {commit}")]
    ReplacesCommitted {
        index: Index,
        /// The index that was known to be committed.
        commit: Index,
    },
    #[error(
        "hard state goes back from term {old_term}, commit {old_commit} to term {term}, commit {commit}"
    )]
    HardStateFell {
        old_term: Term,
        old_commit: Index,
        term: Term,
        commit: Index,
    },
}
