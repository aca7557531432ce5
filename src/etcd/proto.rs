//! The protobuf messages inside WAL records and raft snapshots.
//!
//! Sources: `raft/raftpb/raft.proto`, `etcdserver/etcdserverpb/etcdserver.proto`,
//! `wal/walpb/record.proto` and `snap/snappb/snap.proto` at etcd 2.1.3 (formats page §2, §3, §5);
//! `InternalRaftRequest` from `etcdserverpb/raft_internal.proto` at 3.4.23.
//! Scalars are declared `optional`: etcd writes them even when they are zero, and so does prost
//! for a value that is present.

use prost::Message;
use prost::encoding::decode_varint;

/// `etcdserverpb.Metadata`: the member of a WAL. The same in every segment.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Metadata {
    #[prost(uint64, optional, tag = "1")]
    pub node_id: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    pub cluster_id: Option<u64>,
}

/// `raftpb.Entry`: one entry of the log.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Entry {
    /// 0 normal, 1 configuration change.
    #[prost(uint64, optional, tag = "1")]
    pub kind: Option<u64>,
    /// The term of the leader that proposed it.
    #[prost(uint64, optional, tag = "2")]
    pub term: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    pub index: Option<u64>,
    /// A [`Request`], a [`ConfChange`], or nothing for a new leader's first entry.
    #[prost(bytes = "vec", optional, tag = "4")]
    pub data: Option<Vec<u8>>,
}

/// `raftpb.HardState`: what a member must remember across a restart.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HardState {
    /// The highest term seen.
    #[prost(uint64, optional, tag = "1")]
    pub term: Option<u64>,
    /// The member that it voted for in that term; 0 for none.
    #[prost(uint64, optional, tag = "2")]
    pub vote: Option<u64>,
    /// The highest index known to be committed.
    #[prost(uint64, optional, tag = "3")]
    pub commit: Option<u64>,
}

impl HardState {
    /// Reads one; `None` if it is not valid. There are as many of them as entries, mostly with these fields only.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (mut state, mut rest) = (Self::default(), bytes);
        while let Some((key, behind)) = rest.split_first() {
            let field = match key {
                0x08 => &mut state.term,
                0x10 => &mut state.vote,
                0x18 => &mut state.commit,
                _ => return Self::decode(bytes).ok(),
            };
            rest = behind;
            *field = Some(decode_varint(&mut rest).ok()?);
        }
        Some(state)
    }
}

/// `walpb.Snapshot`: the marker of a raft snapshot that exists, or will shortly.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SnapshotMarker {
    /// The last index inside the snapshot.
    #[prost(uint64, optional, tag = "1")]
    pub index: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    pub term: Option<u64>,
}

/// `raftpb.ConfChange`: a member is added, removed or gets other peer URLs.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ConfChange {
    #[prost(uint64, optional, tag = "1")]
    pub id: Option<u64>,
    /// 0 add, 1 remove, 2 update.
    #[prost(uint64, optional, tag = "2")]
    pub kind: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    pub node_id: Option<u64>,
    /// The member as JSON; absent or empty for a removal.
    #[prost(bytes = "vec", optional, tag = "4")]
    pub context: Option<Vec<u8>>,
}

/// `etcdserverpb.Request`: an operation on the v2 store.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Request {
    #[prost(uint64, optional, tag = "1")]
    pub id: Option<u64>,
    /// `PUT`, `POST`, `DELETE`, `QGET` or `SYNC`.
    #[prost(bytes = "vec", optional, tag = "2")]
    pub method: Option<Vec<u8>>,
    /// The store path, such as `/1/foo`; a client's key need not be UTF-8.
    #[prost(bytes = "vec", optional, tag = "3")]
    pub path: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub val: Option<Vec<u8>>,
    #[prost(bool, optional, tag = "5")]
    pub dir: Option<bool>,
    /// The value that the key must have.
    #[prost(bytes = "vec", optional, tag = "6")]
    pub prev_value: Option<Vec<u8>>,
    /// The modified index that the key must have.
    #[prost(uint64, optional, tag = "7")]
    pub prev_index: Option<u64>,
    /// Whether the key must exist; absent is not false.
    #[prost(bool, optional, tag = "8")]
    pub prev_exist: Option<bool>,
    /// When the key expires, in nanoseconds since 1970; 0 means never.
    #[prost(int64, optional, tag = "9")]
    pub expiration: Option<i64>,
    /// Of no effect on the store, as are `since`, `sorted`, `quorum` and `stream`.
    #[prost(bool, optional, tag = "10")]
    pub wait: Option<bool>,
    #[prost(uint64, optional, tag = "11")]
    pub since: Option<u64>,
    /// Whether to delete a directory with all below it.
    #[prost(bool, optional, tag = "12")]
    pub recursive: Option<bool>,
    #[prost(bool, optional, tag = "13")]
    pub sorted: Option<bool>,
    #[prost(bool, optional, tag = "14")]
    pub quorum: Option<bool>,
    /// SYNC: the time up to which keys expire, in nanoseconds since 1970.
    #[prost(int64, optional, tag = "15")]
    pub time: Option<i64>,
    #[prost(bool, optional, tag = "16")]
    pub stream: Option<bool>,
    /// Whether to keep the value (2.3 and later).
    #[prost(bool, optional, tag = "17")]
    pub refresh: Option<bool>,
}

/// `raftpb.SnapshotMetadata`: the metadata of a raft snapshot.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SnapshotMetadata {
    /// The voting members at this snapshot.
    #[prost(message, optional, tag = "1")]
    pub conf_state: Option<ConfState>,
    /// The last index inside the snapshot.
    #[prost(uint64, optional, tag = "2")]
    pub index: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    pub term: Option<u64>,
}

/// `raftpb.ConfState`: ids of the members; in 3.4 those without a vote are separate.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ConfState {
    /// The ids of the members.
    #[prost(uint64, repeated, packed = "false", tag = "1")]
    pub nodes: Vec<u64>,
    /// Members without a vote, from 3.4 on.
    #[prost(uint64, repeated, packed = "false", tag = "2")]
    pub learners: Vec<u64>,
}

/// The part of 3.x's `InternalRaftRequest` that can hold a v2 request.
#[derive(Clone, PartialEq, Eq, Message)]
struct InternalRaftRequest {
    #[prost(uint64, optional, tag = "1")]
    id: Option<u64>,
    #[prost(message, optional, tag = "2")]
    v2: Option<Request>,
}

/// The latest position of the method in an entry's data, in bytes: after an id and at most one outer
/// message.
const METHOD_WITHIN: usize = 48;

impl Request {
    /// Whether the request in a normal entry's data can have this method: a cheap check before it
    /// is decoded.
    pub(crate) fn may_have_method(data: &[u8], method: [u8; 4]) -> bool {
        let beginning = data.get(..METHOD_WITHIN).unwrap_or(data);
        beginning.windows(4).any(|four| *four == method)
    }

    /// The v2 request in a normal entry's data; `None` for a v3 request, which does not touch
    /// the v2 store.
    ///
    /// As etcd 3.x tells them apart (formats page §5): an `InternalRaftRequest` if it parses
    /// as one, else a plain `Request`.
    pub fn in_entry(data: &[u8]) -> Result<Option<Self>, prost::DecodeError> {
        match InternalRaftRequest::decode(data) {
            Ok(internal) => Ok(internal.v2),
            Err(_) => Self::decode(data).map(Some),
        }
    }
}
