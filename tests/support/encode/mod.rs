//! Writes etcd's bytes by the formats page only: WAL frames, raft snapshots and requests.
//!
//! In: plain numbers and strings. Out: the bytes that etcd would have written (compared with the recordings, record by
//! record). The v2 store's JSON is in [`store`], a complete small data directory in [`small`].

/// The v2 store as a raft snapshot holds it.
mod store;
pub use store::{StoreImage, key_path, key_value, store_json};

/// A complete, valid data directory of a few kilobytes.
mod small;
pub use small::{
    CLUSTER_ID, MEMBER_ID, Member, SegmentFacts, SmallMember, bootstrap, make_dir, members,
    small_member, small_member_of, small_member_of_version, write_file,
};

/// Record types of the WAL (`wal.metadataType` … `wal.snapshotType` in etcd).
pub const METADATA: u64 = 1;
pub const ENTRY: u64 = 2;
pub const HARD_STATE: u64 = 3;
pub const CRC: u64 = 4;
pub const MARKER: u64 = 5;

/// Entry types (`raftpb.EntryType`).
pub const NORMAL: u64 = 0;
pub const CONF_CHANGE: u64 = 1;

/// Kinds of conf change (`raftpb.ConfChangeType`).
pub const ADD_NODE: u64 = 0;
pub const REMOVE_NODE: u64 = 1;
pub const UPDATE_NODE: u64 = 2;

/// Bytes in the length word that opens each frame.
pub const LENGTH_WORD: usize = 8;

/// Protobuf wire types used by etcd's messages.
const VARINT: u64 = 0;
const LENGTH_DELIMITED: u64 = 2;

/// A protobuf message under construction: fields come out in the order they are put in, zeros and empties included.
#[derive(Clone, Debug, Default)]
pub struct Message(Vec<u8>);

impl Message {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn uint(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3 | VARINT);
        self.varint(value);
        self
    }

    /// A signed field: two's complement, so that a negative number takes ten bytes.
    #[must_use]
    pub fn int(self, field: u64, value: i64) -> Self {
        self.uint(field, value.cast_unsigned())
    }

    /// A bytes, string or nested message field.
    #[must_use]
    pub fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | LENGTH_DELIMITED);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// Where one frame lies in its segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Frame {
    /// Byte offset of the length word from the start of the segment.
    pub offset: usize,
    /// Bytes in the whole frame: length word, record and padding.
    pub len: usize,
    pub kind: u64,
}

impl Frame {
    pub fn end(&self) -> usize {
        self.offset + self.len
    }
}

/// Builds a WAL segment, or a piece of one, record by record.
#[derive(Clone, Debug)]
pub struct SegmentBuilder {
    chain: u32,
    padded: bool,
    bytes: Vec<u8>,
    pub frames: Vec<Frame>,
}

impl SegmentBuilder {
    /// Goes on from `prev_crc`, the running CRC-32C of the records before (0 at the start of a log); `padded` as 3.x writes.
    pub fn new(prev_crc: u32, padded: bool) -> Self {
        Self {
            chain: prev_crc,
            padded,
            bytes: Vec::new(),
            frames: Vec::new(),
        }
    }

    /// The record that opens a segment: it states the running crc, has no data and is not hashed.
    pub fn crc(&mut self) -> &mut Self {
        let record = record_header(CRC, self.chain).finish();
        self.frame(CRC, &record)
    }

    pub fn metadata(&mut self, member_id: u64, cluster_id: u64) -> &mut Self {
        self.record(METADATA, &metadata(member_id, cluster_id))
    }

    /// `data` is absent in a new leader's first entry (present and empty in 2.0).
    pub fn entry(&mut self, kind: u64, term: u64, index: u64, data: Option<&[u8]>) -> &mut Self {
        let entry = Message::new().uint(1, kind).uint(2, term).uint(3, index);
        let entry = match data {
            Some(data) => entry.bytes(4, data),
            None => entry,
        };
        self.record(ENTRY, &entry.finish())
    }

    pub fn hard_state(&mut self, term: u64, vote: u64, commit: u64) -> &mut Self {
        let state = Message::new().uint(1, term).uint(2, vote).uint(3, commit);
        self.record(HARD_STATE, &state.finish())
    }

    /// The marker of the raft snapshot at (`term`, `index`); on disk the index comes first.
    pub fn marker(&mut self, term: u64, index: u64) -> &mut Self {
        let marker = Message::new().uint(1, index).uint(2, term);
        self.record(MARKER, &marker.finish())
    }

    /// Any record with data, true to the chain: also one that etcd would not write.
    pub fn record(&mut self, kind: u64, data: &[u8]) -> &mut Self {
        self.chain = crc32c::crc32c_append(self.chain, data);
        let record = record_header(kind, self.chain).bytes(3, data).finish();
        self.frame(kind, &record)
    }

    /// The zeros that 3.x leaves behind the last frame of a preallocated segment; they are no frame.
    pub fn zero_tail(&mut self, len: usize) -> &mut Self {
        self.bytes.resize(self.bytes.len() + len, 0);
        self
    }

    /// The running crc, with which the next segment begins.
    pub fn chain_crc(&self) -> u32 {
        self.chain
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn frame(&mut self, kind: u64, record: &[u8]) -> &mut Self {
        let offset = self.bytes.len();
        let pad = if self.padded {
            record.len().next_multiple_of(8) - record.len()
        } else {
            0
        };
        let flag = if pad == 0 {
            0
        } else {
            (0x80 | pad as u64) << 56
        };
        let length_word = record.len() as u64 | flag;
        self.bytes.extend_from_slice(&length_word.to_le_bytes());
        self.bytes.extend_from_slice(record);
        self.zero_tail(pad);
        let len = self.bytes.len() - offset;
        self.frames.push(Frame { offset, len, kind });
        self
    }
}

/// The two fields every `walpb.Record` has.
fn record_header(kind: u64, crc: u32) -> Message {
    Message::new().uint(1, kind).uint(2, u64::from(crc))
}

/// `etcdserverpb.Metadata`.
pub fn metadata(member_id: u64, cluster_id: u64) -> Vec<u8> {
    Message::new()
        .uint(1, member_id)
        .uint(2, cluster_id)
        .finish()
}

/// A whole `.snap` file: the crc around a `raftpb.Snapshot` of the store `json` and the members `nodes`.
pub fn raft_snapshot(term: u64, index: u64, nodes: &[u64], json: &[u8]) -> Vec<u8> {
    let conf_state = nodes
        .iter()
        .fold(Message::new(), |state, &node| state.uint(1, node));
    let metadata = Message::new()
        .bytes(1, &conf_state.finish())
        .uint(2, index)
        .uint(3, term);
    let snapshot = Message::new()
        .bytes(1, json)
        .bytes(2, &metadata.finish())
        .finish();
    let crc = crc32c::crc32c(&snapshot);
    Message::new()
        .uint(1, u64::from(crc))
        .bytes(2, &snapshot)
        .finish()
}

pub fn snap_name(term: u64, index: u64) -> String {
    format!("{term:016x}-{index:016x}.snap")
}

pub fn segment_name(seq: u64, index: u64) -> String {
    format!("{seq:016x}-{index:016x}.wal")
}

/// `etcdserverpb.Request`, the v2 request of an entry: set what matters, the rest is as a plain client request has it.
#[derive(Clone, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "etcd's message has these fields"
)]
pub struct Request<'a> {
    pub id: u64,
    pub method: &'a str,
    /// A store path: the user's `/foo` is `/1/foo`.
    pub path: &'a str,
    pub val: &'a str,
    pub dir: bool,
    pub prev_value: &'a str,
    pub prev_index: u64,
    /// Absent is not false: it decides which operation a PUT is.
    pub prev_exist: Option<bool>,
    /// Nanoseconds since 1970; 0 is never.
    pub expiration: i64,
    pub wait: bool,
    pub since: u64,
    pub recursive: bool,
    pub sorted: bool,
    pub quorum: bool,
    /// Nanoseconds since 1970; what a SYNC counts as now.
    pub time: i64,
    pub stream: bool,
}

impl Request<'_> {
    /// As etcd marshals it: every scalar, in the order of the field numbers, and `PrevExist` only if set.
    pub fn encode(&self) -> Vec<u8> {
        let head = Message::new()
            .uint(1, self.id)
            .bytes(2, self.method.as_bytes())
            .bytes(3, self.path.as_bytes())
            .bytes(4, self.val.as_bytes())
            .uint(5, u64::from(self.dir))
            .bytes(6, self.prev_value.as_bytes())
            .uint(7, self.prev_index);
        let head = match self.prev_exist {
            Some(exists) => head.uint(8, u64::from(exists)),
            None => head,
        };
        head.int(9, self.expiration)
            .uint(10, u64::from(self.wait))
            .uint(11, self.since)
            .uint(12, u64::from(self.recursive))
            .uint(13, u64::from(self.sorted))
            .uint(14, u64::from(self.quorum))
            .int(15, self.time)
            .uint(16, u64::from(self.stream))
            .finish()
    }
}

/// Request ids carry the member in their high bits; this one is a recorded server's first, of ten varint bytes.
pub const REQUEST_ID: u64 = 0xba_a2_01_7b_b0_40_00_01;

/// A plain client request without conditions.
pub fn request(method: &str, path: &str, val: &str) -> Vec<u8> {
    Request {
        id: REQUEST_ID,
        method,
        path,
        val,
        ..Request::default()
    }
    .encode()
}

/// A SYNC, with which the leader tells all members which moment (nanoseconds since 1970) keys now expire by.
pub fn sync_request(time: i64) -> Vec<u8> {
    Request {
        id: REQUEST_ID,
        method: "SYNC",
        time,
        ..Request::default()
    }
    .encode()
}

/// `raftpb.ConfChange` with id 0, as a cluster's first entries have it.
pub fn conf_change(kind: u64, node_id: u64, context_json: &str) -> Vec<u8> {
    conf_change_with_id(0, kind, node_id, context_json)
}

/// `raftpb.ConfChange`; an empty context, which a removal has, is left out as 2.1 and later do.
pub fn conf_change_with_id(id: u64, kind: u64, node_id: u64, context_json: &str) -> Vec<u8> {
    let change = Message::new().uint(1, id).uint(2, kind).uint(3, node_id);
    let change = if context_json.is_empty() {
        change
    } else {
        change.bytes(4, context_json.as_bytes())
    };
    change.finish()
}
