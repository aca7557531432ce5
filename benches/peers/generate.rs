//! A data dir like that of a busy member, written with the crate's own encoders.

use std::fmt::Write as _;
use std::path::Path;

use etcd_ark::etcd::ids::{Index, MemberId, SegmentName, SnapshotId, Term};
use etcd_ark::etcd::proto::{Entry, HardState, Metadata, Request, SnapshotMarker};
use etcd_ark::etcd::raft_snapshot;
use etcd_ark::etcd::wal::record::{Kind, Record};
use prost::Message;

pub(crate) const MEMBER: u64 = MEMBERS[0];
/// In the order of their numbers, each of as many bytes in a record: so that all logs have the same entries.
pub(crate) const MEMBERS: [u64; 3] = [
    0x8998_a2fa_ce6f_b7ba,
    0x9f07_2a8b_11c3_90d4,
    0xa998_a2fa_ce6f_b7ba,
];
const CLUSTER: u64 = 0xaa16_62ac_a318_a75f;
/// etcd's own: a segment is cut after the write that takes it past this.
const SEGMENT: usize = 64_000_000;
/// Keys in a store of full size.
pub(crate) const KEYS: u64 = 80_000;
const SEGMENTS: u64 = 5;

/// What was made.
pub(crate) struct Made {
    pub(crate) bytes: u64,
    pub(crate) live_bytes: u64,
    /// Paths below the data dir.
    pub(crate) live: Vec<String>,
}

/// Makes the data dir of `member` of a cluster of three: five raft snapshots and five segments, at `scale` percent of full
/// size. All members hold the same.
pub(crate) fn data_dir(dir: &Path, scale: u64, member: u64) -> Made {
    write_member(
        dir,
        member,
        KEYS * scale / 100,
        SEGMENT * scale as usize / 100,
        SEGMENTS,
    )
}

/// Makes a data dir of a few KB.
pub(crate) fn small_data_dir(dir: &Path) -> Made {
    write_member(dir, MEMBER, 5, 4_000, 2)
}

fn write_member(dir: &Path, own: u64, keys: u64, segment_bytes: usize, segments: u64) -> Made {
    let (wal, snap) = (dir.join("member/wal"), dir.join("member/snap"));
    std::fs::create_dir_all(&wal).unwrap();
    std::fs::create_dir_all(&snap).unwrap();
    let mut made = Made {
        bytes: 0,
        live_bytes: 0,
        live: Vec::new(),
    };
    let mut log = Log {
        own,
        members: &MEMBERS,
        random: 1,
        crc: 0,
        index: 0,
        segment: Vec::new(),
    };
    let live_from = segments.saturating_sub(2);
    for sequence in 0..segments {
        let name = SegmentName {
            sequence,
            first_index: Index(if sequence == 0 { 0 } else { log.index + 1 }),
        };
        log.begin(sequence == 0);
        // The newest raft snapshot lies in the last segment but one, so that a start reads two.
        let snapshots = match sequence.cmp(&live_from) {
            std::cmp::Ordering::Less => 1,
            std::cmp::Ordering::Equal => 2,
            std::cmp::Ordering::Greater => 0,
        };
        for number in 1..=snapshots {
            log.fill(segment_bytes * number / (snapshots + 1));
            // etcd writes the marker to the log first.
            let id = SnapshotId {
                term: Term(2),
                index: Index(log.index),
            };
            log.marker(id);
            let json = store(&mut log.random, keys);
            let file = raft_snapshot::write(id, &MEMBERS.map(MemberId), json.as_bytes());
            std::fs::write(snap.join(id.file_name()), &file).unwrap();
            made.bytes += file.len() as u64;
            if sequence == live_from && number == snapshots {
                made.live.push(format!("member/snap/{}", id.file_name()));
                made.live_bytes += file.len() as u64;
            }
        }
        log.fill(segment_bytes);
        std::fs::write(wal.join(name.to_string()), &log.segment).unwrap();
        made.bytes += log.segment.len() as u64;
        if sequence >= live_from {
            made.live.push(format!("member/wal/{name}"));
            made.live_bytes += log.segment.len() as u64;
        }
    }
    made
}

/// A WAL segment being written, true to the chain of crcs.
pub(crate) struct Log {
    pub(crate) own: u64,
    pub(crate) members: &'static [u64],
    pub(crate) random: u64,
    pub(crate) crc: u32,
    /// Of the last entry.
    pub(crate) index: u64,
    pub(crate) segment: Vec<u8>,
}

impl Log {
    pub(crate) fn begin(&mut self, first: bool) {
        self.segment.clear();
        Record {
            kind: Kind::Crc,
            crc: self.crc,
            data: None,
        }
        .write_frame(&mut self.segment);
        let metadata = Metadata {
            node_id: Some(self.own),
            cluster_id: Some(CLUSTER),
        };
        self.put(Kind::Metadata, &metadata.encode_to_vec());
        if first {
            self.add_members();
        }
        self.hard_state();
    }

    fn add_members(&mut self) {
        for &member in self.members {
            let urls = peer_urls(member);
            let context = format!(r#"{{"id":{member},"peerURLs":{urls},"name":"bench"}}"#);
            let change = etcd_ark::etcd::proto::ConfChange {
                id: Some(member),
                kind: Some(0),
                node_id: Some(member),
                context: Some(context.into_bytes()),
            };
            self.entry(1, change.encode_to_vec());
        }
    }

    fn fill(&mut self, until: usize) {
        while self.segment.len() < until {
            let key = below(&mut self.random, KEYS);
            let request = Request {
                id: Some(next(&mut self.random)),
                method: Some(b"PUT".to_vec()),
                path: Some(format!("/1/app/{}/{key}", key % 400).into_bytes()),
                val: Some(value(&mut self.random).into_bytes()),
                ..Request::default()
            };
            self.entry(0, request.encode_to_vec());
            self.hard_state();
        }
    }

    pub(crate) fn entry(&mut self, kind: u64, data: Vec<u8>) {
        self.index += 1;
        let entry = Entry {
            kind: Some(kind),
            term: Some(2),
            index: Some(self.index),
            data: Some(data),
        };
        self.put(Kind::Entry, &entry.encode_to_vec());
    }

    pub(crate) fn hard_state(&mut self) {
        let state = HardState {
            term: Some(2),
            vote: Some(self.own),
            commit: Some(self.index),
        };
        self.put(Kind::HardState, &state.encode_to_vec());
    }

    pub(crate) fn marker(&mut self, id: SnapshotId) {
        let marker = SnapshotMarker {
            index: Some(id.index.0),
            term: Some(id.term.0),
        };
        self.put(Kind::SnapshotMarker, &marker.encode_to_vec());
    }

    fn put(&mut self, kind: Kind, data: &[u8]) {
        self.crc = crc32c::crc32c_append(self.crc, data);
        Record {
            kind,
            crc: self.crc,
            data: Some(data),
        }
        .write_frame(&mut self.segment);
    }
}

/// JSON; another host for each member.
fn peer_urls(member: u64) -> String {
    format!(r#"["http://10.0.0.{}:2380"]"#, member >> 60)
}

/// The v2 store's JSON with `keys` keys of some 800 bytes, 200 to a directory.
fn store(random: &mut u64, keys: u64) -> String {
    let node = |path: &str, index: u64| {
        format!(
            r#"{{"Path":"{path}","CreatedIndex":{index},"ModifiedIndex":{index},"ExpireTime":"0001-01-01T00:00:00Z","Value":""#
        )
    };
    let mut json = format!(r#"{{"Root":{}","Children":{{"0":"#, node("/", 0));
    let members = MEMBERS.map(|member| {
        let own = format!("/0/members/{member:x}");
        let (dir, attributes) = (node(&own, 1), node(&format!("{own}/raftAttributes"), 1));
        let urls = peer_urls(member).replace('"', "\\\"");
        format!(
            r#""{member:x}":{dir}","Children":{{"raftAttributes":{attributes}{{\"peerURLs\":{urls}}}","Children":null}}}}}}"#
        )
    });
    let _ = write!(
        json,
        r#"{}","Children":{{"members":{}","Children":{{{}}}}},"version":{}2.1.0","Children":null}}}}}}"#,
        node("/0", 0),
        node("/0/members", 1),
        members.join(","),
        node("/0/version", 3),
    );
    let _ = write!(
        json,
        r#","1":{}","Children":{{"app":{}","Children":{{"#,
        node("/1", 0),
        node("/1/app", 4)
    );
    let directories = keys.div_ceil(200);
    for directory in 0..directories {
        let comma = if directory == 0 { "" } else { "," };
        let path = format!("/1/app/{directory:04}");
        let _ = write!(
            json,
            r#"{comma}"{directory:04}":{}","Children":{{"#,
            node(&path, 5)
        );
        for key in 0..(keys - directory * 200).min(200) {
            let comma = if key == 0 { "" } else { "," };
            let escaped = value(random).replace('"', "\\\"");
            let path = format!("{path}/{key:03}");
            let _ = write!(
                json,
                r#"{comma}"{key:03}":{}{escaped}","Children":null}}"#,
                node(&path, 6 + key)
            );
        }
        json.push_str("}}");
    }
    let events = ["null"; 1000].join(",");
    let _ = write!(
        json,
        concat!(
            r#"}}}}}}}}}}}},"WatcherHub":{{"EventHistory":{{"Queue":{{"Events":[{}],"#,
            r#""Size":0,"Front":0,"Back":0,"Capacity":1000}},"StartIndex":0,"LastIndex":0}}}},"#,
            r#""CurrentIndex":9,"Stats":{{}},"CurrentVersion":2}}"#,
        ),
        events
    );
    json
}

/// Some 800 bytes as a scheduler might store them: names that recur, ids that do not.
pub(crate) fn value(random: &mut u64) -> String {
    const WORDS: [&str; 16] = [
        "frontend", "backend", "cache", "worker", "ingress", "billing", "search", "session",
        "metrics", "journal", "gateway", "indexer", "mailer", "queue", "replica", "primary",
    ];
    let mut text = String::with_capacity(900);
    let word = |random: &mut u64| WORDS[below(random, 16) as usize];
    let _ = write!(
        text,
        r#"{{"id":"{:016x}{:016x}","host":"{}-{}","state":"running","ip":"10.{}.{}.{}","ts":{},"labels":{{"#,
        next(random),
        next(random),
        word(random),
        below(random, 1000),
        below(random, 256),
        below(random, 256),
        below(random, 256),
        1_440_000_000 + below(random, 10_000_000)
    );
    for number in 0..8 {
        let _ = write!(
            text,
            r#""{}{number}":"{}-{}","#,
            word(random),
            word(random),
            below(random, 100)
        );
    }
    text.push_str(r#""tier":"1"},"args":["#);
    while text.len() < 760 {
        let _ = write!(text, r#""--{}={}","#, word(random), below(random, 10_000));
    }
    text.push_str(r#""--end"]}"#);
    text
}

/// xorshift: the same data every time.
pub(crate) fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}

pub(crate) fn below(random: &mut u64, limit: u64) -> u64 {
    next(random) % limit
}
