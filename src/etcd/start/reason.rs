//! Why a server does not start from a data dir, and its own message.

use crate::etcd::ids::SnapshotId;
use crate::etcd::ids::{Index, MemberId, Release};
use crate::etcd::start::V2_0;

/// Why a server does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The `snap` directory is missing.
    #[error("`member/snap` is missing")]
    NoSnapDir,
    /// The data dir is that of a proxy, too.
    #[error("`proxy` is beside `member`: no server starts from the two together")]
    Proxy,
    /// A 3.x server has used it.
    #[error("`snap/db` is there: a 3.x server has run on it")]
    Backend,
    /// The store in the raft snapshot is not valid.
    #[error("the store in the raft snapshot cannot be read")]
    SnapshotStore,
    /// No segment begins at or below the raft snapshot, or one is missing.
    #[error("no unbroken row of segments begins at or below index {0}")]
    NoSegment(Index),
    /// A record is corrupt.
    #[error("a WAL record has a wrong CRC")]
    CrcMismatch,
    /// A length word for which Go makes no slice.
    #[error("a WAL record has an impossible length")]
    ImpossibleLength,
    /// A length word for which the server lacks the memory.
    #[error("a WAL record claims to be longer than 32 GiB")]
    OutOfMemory,
    /// The frames are padded, as 3.x writes them.
    #[error("the WAL is one of etcd 3.x")]
    Padded,
    /// The log breaks where the server does not cut it.
    #[error("the WAL ends in the middle of a record")]
    CutShort,
    /// A record that is not protobuf.
    #[error("a WAL record cannot be read")]
    Malformed,
    /// A record with what 2.2 and later refuse.
    #[error("a WAL record has a field that does not exist, such as one of zeros")]
    IllegalField(Illegal),
    /// A record of a type that does not exist.
    #[error("a WAL record has the unknown type {0}")]
    RecordType(u64),
    /// Segments of different members.
    #[error("the segments are of different members")]
    MetadataConflict,
    /// No record has the member's id.
    #[error("no WAL record says which member this is")]
    NoMetadata,
    /// Entries are missing, and the server stops at the gap.
    #[error("entry {0} is missing")]
    Hole(Index),
    /// An entry next to the commit index is missing, so that the server counts wrong.
    #[error("an entry is missing beside the commit index, {0}")]
    HoleAtCommit(Index),
    /// The log has no marker for the raft snapshot.
    #[error("the WAL has no marker of {}", marker(*.0))]
    NoMarker(SnapshotId),
    /// The marker has another term.
    #[error("the WAL has a marker of another term than that of {}", marker(*.0))]
    MarkerTerm(SnapshotId),
    /// The hard state's commit index is not in the log.
    #[error("the commit index {commit} is not between {first} and {last}")]
    Commit {
        /// The member.
        id: MemberId,
        /// The commit index.
        commit: Index,
        /// The raft snapshot's index.
        first: Index,
        /// The last index.
        last: Index,
    },
    /// A member's id is not hexadecimal.
    #[error("the id of a member cannot be read")]
    BadMember,
    /// A member without peer URLs, or with an unexpected key.
    #[error(
        "member {0} has no readable raftAttributes: its attributes were published after its removal"
    )]
    HalfMember(MemberId),
    /// Attributes of a member that does not exist.
    #[error("entry {index} publishes the attributes of {id}, which is not a member")]
    UnknownMember {
        /// The member.
        id: MemberId,
        /// The entry.
        index: Index,
    },
    /// The member has a vote, and the store does not list it.
    #[error(
        "the members in the store do not include this one, {0}: it stops when it publishes its own attributes"
    )]
    Unlisted(MemberId),
    /// The cluster version is not valid.
    #[error("the cluster version `{0}` cannot be read")]
    BadVersion(String),
    /// The cluster version has no value.
    #[error("`/0/version` is a directory")]
    VersionDirectory,
    /// The cluster version is higher than the server's.
    #[error("the cluster version {major}.{minor} is higher than the server's")]
    Downgrade {
        /// Such as 2.
        major: i128,
        /// Such as 3.
        minor: i128,
    },
    /// An entry of a type that does not exist.
    #[error("entry {0} has an unknown type")]
    EntryType(Index),
    /// An entry that cannot be read.
    #[error("entry {0} cannot be read")]
    UnreadableEntry(Index),
    /// The output of `etcdctl backup` with an update of a member, at which 2.0 and 2.1 panic.
    #[error(
        "this is the output of `etcdctl backup`, and it does not start with `--force-new-cluster` either: entry {0} changes the peer URLs of a member"
    )]
    ForcedUpdate(Index),
    /// The member was removed.
    #[error("the member has been removed from its cluster")]
    Removed,
    /// The member is not in its own cluster, by what is known to be committed.
    #[error(
        "the member is not in its own cluster, as far as the log is known to be committed: it runs, and never gets a leader"
    )]
    NoLeader,
    /// The member was added and has received no entry.
    #[error(
        "no entry has reached this member since it was added: etcd 2.3 goes on if the other members run, alone or with an earlier release it never gets a leader; nothing is lost with it"
    )]
    JustAdded,
    /// Too many voters are not among the members, and no message reaches them.
    #[error(
        "{voters} members have a vote, and the store lists only {listed} of them: it runs, and never gets a leader"
    )]
    NoMajority {
        /// Members with a vote.
        voters: usize,
        /// Those of them that the store lists.
        listed: usize,
    },
}

/// What the generated code of 2.2 and later refuses in a record, and that of 2.0 and 2.1 does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Illegal {
    /// The number of a field that is not positive, and the key that it is from.
    Tag(i32, u64),
    /// The end of a group that did not begin.
    EndGroup,
    /// A number of more than 64 bits.
    Overflow,
}

fn marker(id: SnapshotId) -> String {
    if id.index == Index(0) {
        "the beginning of the log (index 0)".to_owned()
    } else {
        format!("the raft snapshot at {id}")
    }
}

impl Reason {
    /// The message of a server of `line`, if it is known.
    pub fn etcd_says(&self, line: Release) -> Option<String> {
        let old = line == V2_0;
        let read = |what: &str| {
            Some(if old {
                format!("read wal error: {what}")
            } else {
                format!("read wal error ({what}) and cannot be repaired")
            })
        };
        let says = |what: &str| Some(what.to_owned());
        match self {
            Self::NoSnapDir => says("member/snap: no such file or directory"),
            Self::Proxy => says("invalid datadir. Both member and proxy directories exist."),
            Self::Backend => says("experimental-v3demo cannot be disabled once it is enabled"),
            Self::SnapshotStore => says("recovered store from snapshot error"),
            Self::NoSegment(_) => says("open wal error: wal: file not found"),
            Self::CrcMismatch => read("walpb: crc mismatch"),
            Self::CutShort => read("unexpected EOF"),
            Self::IllegalField(Illegal::Tag(field, key)) => read(&format!(
                "proto: Record: illegal tag {field} (wire type {key})"
            )),
            Self::IllegalField(Illegal::EndGroup) => {
                read("proto: Record: wiretype end group for non-group")
            }
            Self::IllegalField(Illegal::Overflow) => read("proto: integer overflow"),
            Self::RecordType(kind) => read(&format!("unexpected block type {kind}")),
            Self::MetadataConflict => read("wal: conflicting metadata found"),
            Self::NoMarker(_) => read("wal: snapshot not found"),
            Self::MarkerTerm(_) => read("wal: snapshot mismatch"),
            Self::OutOfMemory => says("fatal error: runtime: out of memory"),
            Self::ImpossibleLength | Self::Padded => {
                says("panic: runtime error: makeslice: len out of range")
            }
            Self::NoMetadata if old => says("panic: cannot use none id"),
            Self::NoMetadata => says("panic: cannot use none as id"),
            Self::Hole(_) => says("panic: runtime error: slice bounds out of range"),
            Self::HoleAtCommit(_) => says("first index of committed entry["),
            Self::Commit {
                id,
                commit,
                first,
                last,
            } => Some(format!(
                "panic: {}{id} state.commit {commit} is out of range [{first}, {last}]",
                if old { "raft: " } else { "" }
            )),
            Self::HalfMember(_) => {
                says("panic: nodeToMember should never fail: raftAttributes key doesn't exist")
            }
            Self::UnknownMember { .. } | Self::Unlisted(_) if old => {
                says("panic: runtime error: invalid memory address or nil pointer dereference")
            }
            Self::UnknownMember { id, .. } | Self::Unlisted(id) => Some(format!(
                "panic: error updating attributes of unknown member {id}"
            )),
            Self::VersionDirectory => {
                says("panic: runtime error: invalid memory address or nil pointer dereference")
            }
            Self::BadVersion(text) => Some(format!("panic: {text} is not in dotted-tri format")),
            Self::Downgrade { .. } => says("cluster cannot be downgraded"),
            Self::ForcedUpdate(_) => says(
                "panic: ConfChange Type should be either ConfChangeAddNode or ConfChangeRemoveNode!",
            ),
            Self::EntryType(_) => {
                says("panic: entry type should be either EntryNormal or EntryConfChange")
            }
            Self::UnreadableEntry(_) if old => {
                says("panic: unmarshal protobuf type should never fail")
            }
            Self::UnreadableEntry(_) => says("panic: unmarshal should never fail"),
            Self::Removed => says("the member has been permanently removed from the cluster"),
            Self::Malformed
            | Self::BadMember
            | Self::NoLeader
            | Self::JustAdded
            | Self::NoMajority { .. } => None,
        }
    }
}
