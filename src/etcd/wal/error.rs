//! Contradictions between a log's records.
//!
//! In: the positions and values that contradict each other. Out: a message with them.

use crate::etcd::ids::{Identity, Index, Term};

/// A contradiction in a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogFault {
    /// A record's message cannot be parsed.
    #[error("unreadable {0}")]
    Message(&'static str),
    /// Segments of different members in one chain.
    #[error("metadata of another member or cluster ({found})")]
    OtherMember {
        /// The member and cluster.
        found: Identity,
    },
    /// Entries are missing.
    #[error("entry {found} follows {last}: entries are missing between them")]
    Hole {
        /// The last index before.
        last: Index,
        /// The index found.
        found: Index,
    },
    /// An entry's term is below its predecessor's.
    #[error("entry {index} has term {found}, below {before} of the entry before it")]
    TermFell {
        /// The entry.
        index: Index,
        /// Its term.
        found: Term,
        /// The term before.
        before: Term,
    },
    /// An entry replaces one that is known to be committed.
    #[error("entry {index} replaces an entry at or below commit {commit}")]
    ReplacesCommitted {
        /// The entry.
        index: Index,
        /// The index that was known to be committed.
        commit: Index,
    },
    /// A hard state goes back.
    #[error(
        "hard state goes back from term {old_term}, commit {old_commit} to term {term}, commit {commit}"
    )]
    HardStateFell {
        /// The term before.
        old_term: Term,
        /// The commit index before.
        old_commit: Index,
        /// The term found.
        term: Term,
        /// The commit index found.
        commit: Index,
    },
}
